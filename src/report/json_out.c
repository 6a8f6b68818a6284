#include "json_out.h"

#include <math.h>
#include <string.h>

#include "duo/json.h"

static void begin_value(json_out *out)
{
    if (out->comma) putc(',', out->file);
    out->comma = true;
}

void json_begin(json_out *out, char bracket)
{
    begin_value(out);
    putc(bracket, out->file);
    out->comma = false;
}

void json_end(json_out *out, char bracket)
{
    putc(bracket, out->file);
    out->comma = true;
}

void json_key(json_out *out, const char *key)
{
    json_text(out, key, strlen(key));
    putc(':', out->file);
    out->comma = false;
}

void json_text(json_out *out, const char *text, size_t bytes)
{
    begin_value(out);
    duo_json_text(out->file, text, bytes);
}

/* ---------------------------------------------------------------- other values */

void json_number(json_out *out, double value, int digits)
{
    begin_value(out);
    if (isfinite(value))
        fprintf(out->file, "%.*g", digits, value);
    else
        fputs("null", out->file);
}

static void write_object(json_out *out, const json_t *object)
{
    const char *key;
    json_t *value;
    json_begin(out, '{');
    /* The macro's cursor is not const, the object is not changed. */
    json_object_foreach((json_t *)object, key, value)
    {
        json_key(out, key);
        json_value(out, value);
    }
    json_end(out, '}');
}

static void write_array(json_out *out, const json_t *array)
{
    json_begin(out, '[');
    for (size_t i = 0; i < json_array_size(array); i++) json_value(out, json_array_get(array, i));
    json_end(out, ']');
}

void json_value(json_out *out, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        write_object(out, value);
        return;
    case JSON_ARRAY:
        write_array(out, value);
        return;
    case JSON_STRING:
        json_text(out, json_string_value(value), json_string_length(value));
        return;
    case JSON_INTEGER:
        begin_value(out);
        fprintf(out->file, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return;
    case JSON_REAL:
        json_number(out, json_real_value(value), 9);
        return;
    case JSON_TRUE:
    case JSON_FALSE:
    case JSON_NULL:
        begin_value(out);
        fputs(json_is_true(value) ? "true" : json_is_false(value) ? "false" : "null", out->file);
        return;
    }
}

void json_key_text(json_out *out, const char *key, const char *text)
{
    json_key(out, key);
    json_text(out, text, strlen(text));
}

void json_key_number(json_out *out, const char *key, double value)
{
    json_key(out, key);
    json_number(out, value, 9);
}
