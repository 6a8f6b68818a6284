#define _GNU_SOURCE
#include "duo/arena.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POISON 1
#endif
#endif

#ifdef POISON
#include <sanitizer/asan_interface.h>
enum { GAP = DUO_ALIGN }; /* poisoned, between blocks: a run over a tensor's end is caught */
#define poison(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define unpoison(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
enum { GAP = 0 };
#define poison(p, n) ((void)(p), (void)(n))
#define unpoison(p, n) ((void)(p), (void)(n))
#endif

static const size_t huge_page = (size_t)2 << 20;

bool duo_multiply(size_t *product, size_t a, size_t b)
{
    return !__builtin_mul_overflow(a, b, product);
}

duo_status duo_arena_create(duo_arena *arena, size_t size, const char *what)
{
    *arena = (duo_arena){0};
    if (size > SIZE_MAX - huge_page) return duo_fail(DUO_ENOMEM, "%s: size overflows", what);
    const size_t mapped = (size / huge_page + 1) * huge_page;
    void *base = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return duo_fail(DUO_ENOMEM, "%s: no memory for %.1f MiB", what,
                        (double)size / (double)(1 << 20));
    madvise(base, mapped, MADV_HUGEPAGE); /* a hint: refusal costs speed only */
    memset(base, 0, size);
    *arena = (duo_arena){.base = base, .size = size, .mapped = mapped};
    poison(arena->base, size);
    return DUO_OK;
}

void duo_arena_free(duo_arena *arena)
{
    if (arena->base) {
        unpoison(arena->base, arena->size);
        munmap(arena->base, arena->mapped);
    }
    *arena = (duo_arena){0};
}

void *duo_arena_take(duo_arena *arena, size_t count, size_t size)
{
    const size_t most = SIZE_MAX / 2;
    size_t bytes = 0;
    const bool fits =
        arena->used <= most && duo_multiply(&bytes, count, size) && bytes <= most - arena->used;
    if (!fits) { /* seen when the arena is created */
        assert(!arena->base && "arena smaller than its layout");
        arena->used = SIZE_MAX;
        return NULL;
    }
    if (bytes == 0) return NULL;
    const size_t at = arena->used;
    const size_t step = (bytes + DUO_ALIGN - 1) / DUO_ALIGN * DUO_ALIGN + GAP;
    arena->used += step;
    if (!arena->base) return NULL;
    assert(arena->used <= arena->size && "arena smaller than its layout");
    unpoison(arena->base + at, bytes);
    return arena->base + at;
}

void duo_arena_rewind(duo_arena *arena, size_t mark)
{
    assert(mark <= arena->used);
    if (arena->base) poison(arena->base + mark, arena->used - mark);
    arena->used = mark;
}

duo_status duo_memory_check(size_t bytes, const char *where)
{
    void *volatile room = malloc(bytes); /* volatile: not to be left out */
    if (!room) return duo_fail(DUO_ENOMEM, "%s: no memory for it", where);
    free(room);
    return DUO_OK;
}
