#ifndef DUO_ARENA_H
#define DUO_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "duo/status.h"

/**
 * One block of memory from which all tensors of a run are taken.
 *
 * A layout function takes everything it needs from an arena. Run it first on a measuring
 * arena, which counts and hands out NULL, then on a real one of the size that was counted:
 * the size and the layout can never disagree.
 *
 *     duo_arena measure = DUO_ARENA_MEASURE;
 *     lay_out(&measure, ...);
 *     duo_arena_create(&arena, measure.used, "activations");
 *     lay_out(&arena, ...);
 */
typedef struct duo_arena {
    char *base;    /**< NULL while measuring */
    size_t size;   /**< bytes available */
    size_t used;   /**< bytes taken */
    size_t mapped; /**< bytes of the mapping behind base */
} duo_arena;

#define DUO_ARENA_MEASURE ((duo_arena){0})

/** Blocks are aligned to this many bytes (a cache line, and a vector of any instruction set). */
enum { DUO_ALIGN = 64 };

/**
 * Map size bytes, zeroed and touched once, with huge pages where the system grants them.
 * DUO_ENOMEM names `what` and the size. The caller owns *arena and frees it.
 */
duo_status duo_arena_create(duo_arena *arena, size_t size, const char *what);

/** Unmap; harmless on a zeroed arena. */
void duo_arena_free(duo_arena *arena);

/**
 * Take count * size bytes. NULL while measuring, or for count 0. Sizes that overflow while
 * measuring leave used at SIZE_MAX, which duo_arena_create refuses; running out of a real arena is
 * a bug in the caller's measuring and is asserted.
 */
void *duo_arena_take(duo_arena *arena, size_t count, size_t size);

/** Give back everything taken since `used` was mark. */
void duo_arena_rewind(duo_arena *arena, size_t mark);

/** Take count elements of type T. */
#define DUO_TAKE(arena, T, count) ((T *)duo_arena_take((arena), (count), sizeof(T)))

/** a * b into *product; false when it does not fit. For sizes read from files and recipes. */
bool duo_multiply(size_t *product, size_t a, size_t b);

/**
 * DUO_ENOMEM, with `where` in front, unless so many bytes could be had now: asked before calls of
 * libraries that end the process, or worse, where memory runs out within them.
 */
duo_status duo_memory_check(size_t bytes, const char *where);

#endif
