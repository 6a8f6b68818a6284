#ifndef DUO_REPORT_JSON_OUT_H
#define DUO_REPORT_JSON_OUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/**
 * JSON that may stand in a script element of a page (duo_json_text). Values follow each other;
 * commas come by themselves.
 */
typedef struct json_out {
    FILE *file;
    bool comma; /* a value stands in front of the next one */
} json_out;

void json_begin(json_out *out, char bracket);
void json_end(json_out *out, char bracket);
/** In front of a value in an object. */
void json_key(json_out *out, const char *key);

/** As duo_json_text. */
void json_text(json_out *out, const char *text, size_t bytes);
/** With so many significant digits; null when it is not finite. */
void json_number(json_out *out, double value, int digits);
/** A value that was read. */
void json_value(json_out *out, const json_t *value);

void json_key_text(json_out *out, const char *key, const char *text);
void json_key_number(json_out *out, const char *key, double value);

#endif
