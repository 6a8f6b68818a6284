/*
 * Memory that runs out, for a program that is started with this library in LD_PRELOAD. Calls that
 * allocate are counted from the start of main on, the C library's own for the program included.
 *
 *     DUO_MEMORY        "FIRST TIMES": from the FIRST-th of them on, TIMES (0: all) return NULL
 *     DUO_MEMORY_SPARE  names of libraries with spaces between: what they call is neither counted
 *                       nor fails
 *     DUO_MEMORY_COUNT  a file that gets "calls N", and, when main has returned, "leaked N": blocks
 *                       that the program's own code has allocated and nobody has freed, with the
 *                       place of the first, for addr2line
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What stands behind the functions below in the C library. */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *block, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *block);

enum { RANGES = 16, BLOCKS = 1 << 18 };

typedef struct range {
    uintptr_t begin, end;
} range;

static struct {
    long first, times; /* first 0: nothing fails */
    range program, spared[RANGES];
    size_t n_spared;
} plan;

static atomic_bool running; /* main does */
static atomic_long calls;

/* Blocks of the program's own code: a table with open addressing. */
static struct {
    void *block;
    uintptr_t place;
} blocks[BLOCKS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---------------------------------------------------------------- who calls */

static bool within(const range *r, uintptr_t place)
{
    return place >= r->begin && place < r->end;
}

static bool spared(uintptr_t place)
{
    for (size_t i = 0; i < plan.n_spared; i++)
        if (within(&plan.spared[i], place)) return true;
    return false;
}

/* The first object that is listed is the program. */
static int note_object(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    bool *is_first = data;
    const char *slash = strrchr(info->dlpi_name, '/'), *name = slash ? slash + 1 : info->dlpi_name;
    const char *wanted = getenv("DUO_MEMORY_SPARE");
    char stem[64];
    snprintf(stem, sizeof stem, "%.*s", (int)strcspn(name, "-._"), name);
    const bool spare = wanted && *stem && strstr(wanted, stem);
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X)) continue;
        const uintptr_t begin = (uintptr_t)(info->dlpi_addr + part->p_vaddr);
        const range r = {begin, begin + part->p_memsz};
        if (*is_first) plan.program = r;
        if (spare && plan.n_spared < RANGES) plan.spared[plan.n_spared++] = r;
    }
    *is_first = false;
    return 0;
}

/* ---------------------------------------------------------------- blocks */

static size_t slot_of(const void *block)
{
    return (size_t)(((uintptr_t)block >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 46);
}

static void remember(void *block, uintptr_t place)
{
    if (!block || !within(&plan.program, place)) return;
    pthread_mutex_lock(&lock);
    size_t i = slot_of(block);
    while (blocks[i].block) i = (i + 1) % BLOCKS;
    blocks[i].block = block;
    blocks[i].place = place;
    pthread_mutex_unlock(&lock);
}

/* Those behind it move up, so that they are still found. */
static void forget(void *block)
{
    if (!block) return;
    pthread_mutex_lock(&lock);
    size_t i = slot_of(block);
    while (blocks[i].block && blocks[i].block != block) i = (i + 1) % BLOCKS;
    for (size_t j = i; blocks[i].block;) {
        j = (j + 1) % BLOCKS;
        if (!blocks[j].block) {
            blocks[i].block = NULL;
            break;
        }
        const size_t home = slot_of(blocks[j].block);
        if ((j > i && (home <= i || home > j)) || (j < i && home <= i && home > j)) {
            blocks[i] = blocks[j];
            i = j;
        }
    }
    pthread_mutex_unlock(&lock);
}

/* ---------------------------------------------------------------- the plan */

static bool fails(uintptr_t place)
{
    if (!running || spared(place)) return false;
    const long n = ++calls;
    if (!plan.first || n < plan.first || (plan.times && n >= plan.first + plan.times)) return false;
    errno = ENOMEM;
    return true;
}

#define CALLER ((uintptr_t)__builtin_return_address(0))

void *malloc(size_t bytes)
{
    if (fails(CALLER)) return NULL;
    void *block = __libc_malloc(bytes);
    if (running) remember(block, CALLER);
    return block;
}

void *calloc(size_t n, size_t size)
{
    if (fails(CALLER)) return NULL;
    void *block = __libc_calloc(n, size);
    if (running) remember(block, CALLER);
    return block;
}

void *realloc(void *block, size_t bytes)
{
    if (fails(CALLER)) return NULL;
    forget(block);
    void *moved = __libc_realloc(block, bytes);
    if (running) remember(moved ? moved : block, CALLER);
    return moved;
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    if (fails(CALLER)) return NULL;
    void *block = __libc_memalign(alignment, bytes);
    if (running) remember(block, CALLER);
    return block;
}

int posix_memalign(void **block, size_t alignment, size_t bytes)
{
    if (fails(CALLER)) return ENOMEM;
    *block = __libc_memalign(alignment, bytes);
    if (running) remember(*block, CALLER);
    return *block ? 0 : ENOMEM;
}

char *strdup(const char *text)
{
    if (fails(CALLER)) return NULL;
    const size_t bytes = strlen(text) + 1;
    char *copy = __libc_malloc(bytes);
    if (copy) memcpy(copy, text, bytes);
    if (running) remember(copy, CALLER);
    return copy;
}

char *strndup(const char *text, size_t most)
{
    if (fails(CALLER)) return NULL;
    const size_t length = strnlen(text, most);
    char *copy = __libc_malloc(length + 1);
    if (copy) {
        memcpy(copy, text, length);
        copy[length] = '\0';
    }
    if (running) remember(copy, CALLER);
    return copy;
}

void free(void *block)
{
    forget(block);
    __libc_free(block);
}

/* ---------------------------------------------------------------- main */

static int (*program_main)(int, char **, char **);

static void report(bool ended)
{
    const char *path = getenv("DUO_MEMORY_COUNT");
    running = false;
    FILE *out = path ? fopen(path, "w") : NULL;
    if (!out) return;
    size_t leaked = 0;
    uintptr_t first = 0;
    for (size_t i = 0; i < BLOCKS; i++)
        if (blocks[i].block) {
            leaked++;
            first = blocks[i].place;
        }
    fprintf(out, "calls %ld\n", calls);
    Dl_info info = {0};
    if (first) dladdr((void *)first, &info);
    if (ended)
        fprintf(out, "leaked %zu 0x%lx\n", leaked,
                first ? (unsigned long)(first - (uintptr_t)info.dli_fbase) : 0UL);
    fclose(out);
}

static int watched_main(int argc, char **argv, char **environment)
{
    bool is_first = true;
    const char *text = getenv("DUO_MEMORY");
    if (!text || sscanf(text, "%ld %ld", &plan.first, &plan.times) != 2) plan.first = 0;
    dl_iterate_phdr(note_object, &is_first);
    running = true;
    const int status = program_main(argc, argv, environment);
    report(true);
    return status;
}

/* Where it ends otherwise. */
__attribute__((destructor)) static void end(void)
{
    if (running) report(false);
}

int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end);
int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end)
{
    int (*next)(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void),
                void (*)(void), void *);
    *(void **)&next = dlsym(RTLD_NEXT, "__libc_start_main");
    program_main = main;
    return next(watched_main, argc, argv, init, fini, rtld_fini, stack_end);
}
