#include "json_out.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

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

/* ---------------------------------------------------------------- text */

/* Length of the UTF-8 sequence at text and its character; 0 when there is none. RFC 3629. */
static size_t utf8_at(const unsigned char *text, size_t bytes, uint32_t *character)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char c = text[0];
    const size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    if (n == 0 || n > bytes) return 0;
    uint32_t value = n == 1 ? c : c & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80) return 0;
        value = value << 6 | (text[i] & 0x3fu);
    }
    if (value < least[n] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return 0;
    *character = value;
    return n;
}

/* Quotes and control characters as JSON demands; angle brackets and the ampersand because the page
 * around it is HTML; the two separators because they end a line of a script. */
static bool must_be_escaped(uint32_t c)
{
    return c < 0x20 || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' ||
           (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029;
}

void json_text(json_out *out, const char *text, size_t bytes)
{
    begin_value(out);
    putc('"', out->file);
    for (size_t i = 0; i < bytes;) {
        uint32_t c = 0xfffd;
        const size_t n = utf8_at((const unsigned char *)text + i, bytes - i, &c);
        if (n == 0)
            fputs("\\ufffd", out->file);
        else if (must_be_escaped(c))
            fprintf(out->file, "\\u%04" PRIx32, c);
        else
            fwrite(text + i, 1, n, out->file);
        i += n > 0 ? n : 1;
    }
    putc('"', out->file);
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
