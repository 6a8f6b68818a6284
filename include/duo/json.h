#ifndef DUO_JSON_H
#define DUO_JSON_H

#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

#include "duo/status.h"

/**
 * Read one JSON value from `bytes` bytes of text; `flags` are json_loadb's. The value is released
 * by the caller with json_decref. Errors: DUO_ENOMEM, DUO_EINVAL; the message does not name the
 * file. With JSON_DISABLE_EOF_CHECK error->position is where the value ends.
 *
 * libjansson 2.14 forgets that memory ran out inside a number or a string and then stops at an
 * assertion, so that allocations that fail must not return to it. One thread at a time: the
 * library's allocator is one for the program.
 */
duo_status duo_json_parse(json_t **value, const char *text, size_t bytes, size_t flags,
                          json_error_t *error);

/**
 * Write `bytes` bytes of text as a JSON string, quotes and all. What a path or a piece of text
 * holds need not be UTF-8, which JSON must be: every byte that is none becomes U+FFFD. It may stand
 * in a script element of a page: nothing in it ends the element, begins a comment or breaks a line.
 */
void duo_json_text(FILE *out, const char *text, size_t bytes);

/** A JSON string of a text, mended likewise; NULL: no memory. The caller owns it. */
json_t *duo_json_string(const char *text);

#endif
