#include "duo/json.h"

#include <setjmp.h>
#include <stdlib.h>

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
