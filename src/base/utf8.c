#include "duo/utf8.h"

#include <string.h>

/* Bytes of a character that begins so; 0: none does. */
static size_t length_of(unsigned char lead)
{
    if (lead < 0x80) return 1;
    if (lead < 0xC2 || lead > 0xF4) return 0;
    return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

/* Whether c may stand as byte n of the character. Overlong forms, surrogates and what lies beyond
 * U+10FFFF show in its second byte. */
static bool continues(unsigned char lead, size_t n, unsigned char c)
{
    unsigned char least = 0x80, most = 0xBF;
    if (n == 1 && lead == 0xE0) least = 0xA0;
    if (n == 1 && lead == 0xED) most = 0x9F;
    if (n == 1 && lead == 0xF0) least = 0x90;
    if (n == 1 && lead == 0xF4) most = 0x8F;
    return c >= least && c <= most;
}

bool duo_utf8_begins(const char *text, size_t bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    if (bytes > length_of(s[0])) return false;
    for (size_t i = 1; i < bytes; i++)
        if (!continues(s[0], i, s[i])) return false;
    return true;
}

size_t duo_utf8_at(const char *text, size_t bytes, uint32_t *character)
{
    const unsigned char *s = (const unsigned char *)text;
    const size_t length = length_of(s[0]);
    if (length == 0 || length > bytes || !duo_utf8_begins(text, length)) return 0;
    if (!character) return length;
    *character = length == 1 ? s[0] : s[0] & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) *character = *character << 6 | (s[i] & 0x3Fu);
    return length;
}

size_t duo_utf8_prefix(const char *text, size_t bytes)
{
    size_t i = 0;
    while (i < bytes) {
        uint64_t eight = 0; /* plain ASCII, eight characters at a time */
        while (i + sizeof eight <= bytes) {
            memcpy(&eight, text + i, sizeof eight);
            if (eight & UINT64_C(0x8080808080808080)) break;
            i += sizeof eight;
        }
        if (i == bytes) break;
        const size_t length = duo_utf8_at(text + i, bytes - i, NULL);
        if (length == 0) break;
        i += length;
    }
    return i;
}

bool duo_utf8_ok(const char *text)
{
    const size_t bytes = strlen(text);
    return duo_utf8_prefix(text, bytes) == bytes;
}

void duo_utf8_mend(char *to, size_t room, const char *text)
{
    static const char replacement[] = "\xEF\xBF\xBD";
    size_t used = 0;
    for (size_t left = strlen(text); left > 0;) {
        const size_t good = duo_utf8_at(text, left, NULL), step = good > 0 ? good : 1;
        const size_t bytes = good > 0 ? good : sizeof replacement - 1;
        if (used + bytes >= room) break;
        memcpy(to + used, good > 0 ? text : replacement, bytes);
        used += bytes;
        text += step;
        left -= step;
    }
    to[used] = '\0';
}
