#include "duo/json.h"

#include <setjmp.h>
#include <stdlib.h>

/* What the parser holds, so that it can be left at any allocation. */
static struct {
    void **blocks;
    size_t n, room;
    jmp_buf exhausted;
} held;

static void *hold(size_t bytes)
{
    if (held.n == held.room) {
        const size_t room = held.room == 0 ? 64 : 2 * held.room;
        void **blocks = realloc(held.blocks, room * sizeof *blocks);
        if (!blocks) longjmp(held.exhausted, 1);
        held.blocks = blocks;
        held.room = room;
    }
    void *block = malloc(bytes);
    if (!block) longjmp(held.exhausted, 1);
    held.blocks[held.n++] = block;
    return block;
}

/* Blocks go in about the reverse of the order in which they came. */
static void let_go(void *block)
{
    for (size_t i = held.n; i-- > 0;)
        if (held.blocks[i] == block) {
            held.blocks[i] = held.blocks[--held.n];
            break;
        }
    free(block);
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
        while (held.n > 0) free(held.blocks[--held.n]);
        status = duo_fail(DUO_ENOMEM, "no memory to read JSON");
    }
    json_set_alloc_funcs(malloc, free);
    free(held.blocks);
    held.blocks = NULL;
    held.n = held.room = 0;
    return status;
}
