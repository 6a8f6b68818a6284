#include "generate_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char replacement[] = "\xEF\xBF\xBD";

/* Bytes of a character that begins like this; 0: none does. */
static size_t character_bytes(unsigned char lead)
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

static void print_byte(duo_text_stream *s, unsigned char c)
{
    if (s->n_pending > 0) {
        if (continues(s->pending[0], s->n_pending, c)) {
            s->pending[s->n_pending++] = c;
            if (s->n_pending < character_bytes(s->pending[0])) return;
            fwrite(s->pending, 1, s->n_pending, stdout);
            s->n_pending = 0;
            return;
        }
        fputs(replacement, stdout);
        s->n_pending = 0;
    }
    const size_t n = character_bytes(c);
    if (n == 1)
        putchar(c);
    else if (n == 0)
        fputs(replacement, stdout);
    else
        s->pending[s->n_pending++] = c;
}

duo_status duo_text_stream_print(duo_text_stream *s, size_t n, bool last)
{
    /* How an id reads can depend on where it stands: the id before the new ones is decoded along
     * with them, and what it reads alone is taken off. */
    char *old = NULL, *now = NULL;
    size_t old_bytes = 0, bytes = 0;
    duo_status status = DUO_OK;
    if (n > s->printed) {
        status = duo_tokenizer_decode(s->tokenizer, s->ids + s->begin, s->printed - s->begin, &old,
                                      &old_bytes);
        if (status == DUO_OK)
            status =
                duo_tokenizer_decode(s->tokenizer, s->ids + s->begin, n - s->begin, &now, &bytes);
        for (size_t i = old_bytes; status == DUO_OK && i < bytes; i++)
            print_byte(s, (unsigned char)now[i]);
        s->begin = n - 1;
        s->printed = n;
    }
    if (last && s->n_pending > 0) fputs(replacement, stdout);
    if (last) s->n_pending = 0;
    fflush(stdout);
    free(old);
    free(now);
    return status;
}

void duo_piece_print(const char *piece)
{
    putchar('"');
    for (; *piece; piece++) {
        const unsigned char c = (unsigned char)*piece;
        if (c == '\n')
            fputs("\\n", stdout);
        else if (c < 0x20 || c == 0x7f)
            printf("\\x%02x", (unsigned)c);
        else
            putchar(c);
    }
    putchar('"');
}
