#ifndef DUO_UTF8_H
#define DUO_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * UTF-8, well formed: no overlong forms, no surrogates, nothing beyond U+10FFFF (Unicode, table
 * 3-7).
 */

/** Bytes of the character at text, which goes to *character where that is not NULL; 0 when it is
 *  malformed or cut off. bytes > 0. */
size_t duo_utf8_at(const char *text, size_t bytes, uint32_t *character);

/** Whether all these bytes begin a character, or are one: what follows can make it whole.
 *  bytes > 0. */
bool duo_utf8_begins(const char *text, size_t bytes);

/** Bytes of the longest prefix that is well formed: `bytes` when all of it is. */
size_t duo_utf8_prefix(const char *text, size_t bytes);

/** Whether a whole text is well formed. */
bool duo_utf8_ok(const char *text);

/** text with U+FFFD for every byte that is malformed, cut between characters where `room` bytes do
 *  not hold it; 3 * strlen(text) + 1 always do. room > 0. */
void duo_utf8_mend(char *to, size_t room, const char *text);

#endif
