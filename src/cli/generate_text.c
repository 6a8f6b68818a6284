#include "generate_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duo/utf8.h"

static const char replacement[] = "\xEF\xBF\xBD";

static void print_byte(duo_text_stream *s, char c)
{
    s->pending[s->n_pending++] = c;
    if (s->n_pending > 1 && !duo_utf8_begins(s->pending, s->n_pending)) {
        fputs(replacement, stdout);
        s->pending[0] = c;
        s->n_pending = 1;
    }
    if (duo_utf8_at(s->pending, s->n_pending, NULL) > 0) {
        fwrite(s->pending, 1, s->n_pending, stdout);
        s->n_pending = 0;
    } else if (!duo_utf8_begins(s->pending, s->n_pending)) {
        fputs(replacement, stdout);
        s->n_pending = 0;
    }
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
        for (size_t i = old_bytes; status == DUO_OK && i < bytes; i++) print_byte(s, now[i]);
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
