#include "duo/json.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "duo/utf8.h"

/* ---------------------------------------------------------------- reading */

/* What the parser holds, so that it can be left at any allocation. */
static struct {
    void **blocks;  /* all, but for those that were free again soon */
    void **dropped; /* of these, what the parser has given back: as much room as there are blocks */
    size_t n, n_dropped, room;
    jmp_buf exhausted;
} held;

static void make_room(void ***list, size_t room)
{
    void **grown = realloc(*list, room * sizeof *grown);
    if (!grown) longjmp(held.exhausted, 1);
    *list = grown;
}

static void *hold(size_t bytes)
{
    if (held.n == held.room) {
        const size_t room = held.room == 0 ? 64 : 2 * held.room;
        make_room(&held.blocks, room);
        make_room(&held.dropped, room);
        held.room = room;
    }
    void *block = malloc(bytes);
    if (!block) longjmp(held.exhausted, 1);
    held.blocks[held.n++] = block;
    return block;
}

/* Most blocks go soon after they came. The others wait for the end: a search for each of them would
 * take a time that grows with the square of the text. */
static void let_go(void *block)
{
    enum { SOON = 64 };
    const size_t from = held.n > SOON ? held.n - SOON : 0;
    if (!block) return;
    for (size_t i = held.n; i-- > from;)
        if (held.blocks[i] == block) {
            held.blocks[i] = held.blocks[--held.n];
            free(block);
            return;
        }
    held.dropped[held.n_dropped++] = block;
}

static void free_all(void **blocks, size_t n)
{
    for (size_t i = 0; i < n; i++) free(blocks[i]);
}

duo_status duo_json_parse(json_t **value, const char *text, size_t bytes, size_t flags,
                          json_error_t *error)
{
    *value = NULL;
    json_set_alloc_funcs(hold, let_go);
    duo_status status = DUO_OK;
    if (setjmp(held.exhausted) == 0) {
        *value = json_loadb(text, bytes, flags, error);
        if (!*value)
            status = duo_fail(DUO_EINVAL, "not JSON: %s at byte %d", error->text, error->position);
    } else {
        status = duo_fail(DUO_ENOMEM, "no memory to read JSON");
    }
    json_set_alloc_funcs(malloc, free);
    if (status == DUO_OK)
        free_all(held.dropped, held.n_dropped);
    else
        free_all(held.blocks, held.n);
    free(held.blocks);
    free(held.dropped);
    held.blocks = held.dropped = NULL;
    held.n = held.n_dropped = held.room = 0;
    return status;
}

/* ---------------------------------------------------------------- writing */

/* Beside quotes: control characters as JSON demands; angle brackets and the ampersand because the
 * page around it may be HTML; the two separators because they end a line of a script. */
static bool must_be_escaped(uint32_t c)
{
    return c < 0x20 || c == '<' || c == '>' || c == '&' || (c >= 0x7f && c < 0xa0) || c == 0x2028 ||
           c == 0x2029;
}

void duo_json_text(FILE *out, const char *text, size_t bytes)
{
    putc('"', out);
    for (size_t i = 0; i < bytes;) {
        uint32_t c = 0;
        const size_t n = duo_utf8_at(text + i, bytes - i, &c);
        if (n == 0)
            fputs("\\ufffd", out);
        else if (c == '"' || c == '\\')
            fprintf(out, "\\%c", (int)c);
        else if (must_be_escaped(c))
            fprintf(out, "\\u%04" PRIx32, c);
        else
            fwrite(text + i, 1, n, out);
        i += n > 0 ? n : 1;
    }
    putc('"', out);
}

json_t *duo_json_string(const char *text)
{
    const size_t room = 3 * strlen(text) + 1;
    char *mended = malloc(room);
    if (!mended) return NULL;
    duo_utf8_mend(mended, room, text);
    json_t *string = json_string(mended);
    free(mended);
    return string;
}
