#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check_fixture.h"
#include "duo/kernels.h"
#include "trial.h"

/*
 * A training step allocates nothing. Every allocation of the process comes by here: those of the
 * libraries, too, and the mappings behind arenas.
 */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static size_t allocations;

static void *counted(void *block)
{
    __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
    return block;
}

void *malloc(size_t size)
{
    return counted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return counted(__libc_calloc(count, size));
}

void *realloc(void *block, size_t size)
{
    return counted(__libc_realloc(block, size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return counted(__libc_memalign(alignment, size));
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
    *block = counted(__libc_memalign(alignment, size));
    return *block ? 0 : 12;
}

void *mmap(void *at, size_t size, int protection, int flags, int file, off_t offset)
{
    return counted((void *)syscall(SYS_mmap, at, size, protection, flags, file, offset));
}

START_TEST(the_counter_counts)
{
    void *volatile block = malloc(1);
    ck_assert_ptr_nonnull(block);
    free(block);
    ck_assert_uint_gt(allocations, 0);
    duo_arena arena;
    allocations = 0; /* ck_assert allocates, too */
    const duo_status status = duo_arena_create(&arena, 1, "test");
    const size_t mapped = allocations;
    ok(status);
    duo_arena_free(&arena);
    ck_assert_uint_eq(mapped, 1);
}
END_TEST

static duo_stage_recipe stage_of(duo_stage_kind kind, duo_precision precision)
{
    return (duo_stage_recipe){.name = "test",
                              .kind = kind,
                              .steps = 100,
                              .batch_size = 4,
                              .micro_batch = 2,
                              .seq_len = 24,
                              .precision = precision,
                              .lr = 1e-3,
                              .beta1 = 0.9,
                              .beta2 = 0.95,
                              .eps = 1e-8,
                              .clip = 1,
                              .p = {0.2, 0.4, 0.4},
                              .modules = 1u << DUO_SMALL | 1u << DUO_BIG,
                              .target = {-1, -1, 0.5},
                              .alpha = 1,
                              .tau_start = 1,
                              .tau_end = 1,
                              .noise = true};
}

static const duo_config config = {.n_layers = 2,
                                  .d_model = 96,
                                  .n_heads = 3,
                                  .n_kv_heads = 3,
                                  .d_big = 200,
                                  .d_small = 24,
                                  .vocab_size = 500,
                                  .max_seq = 24,
                                  .norm_eps = 1e-5,
                                  .rope_theta = 1e4,
                                  .tied_embeddings = true,
                                  .router_modules = 1u << DUO_SMALL | 1u << DUO_BIG};

/* The first step wakes the threads, whose stacks and teams are allocated once. */
START_TEST(a_step_allocates_nothing)
{
    for (int threads = 1; threads <= 2; threads++)
        for (duo_precision precision = DUO_FP32; precision <= DUO_BF16; precision++) {
            const duo_stage_recipe stage = stage_of((duo_stage_kind)_i, precision);
            bench_trial trial;
            ok(duo_kernels_start(threads));
            ok(bench_trial_open(&trial, &config, &stage));
            bench_trial_step(&trial);
            allocations = 0;
            for (int step = 0; step < 3; step++) bench_trial_step(&trial);
            const size_t in_steps = allocations;
            ok(trial.status);
            ck_assert_uint_eq(trial.progress.step, 4);
            ck_assert_uint_eq(in_steps, 0);
            bench_trial_close(&trial);
            duo_kernels_stop();
        }
}
END_TEST

int main(void)
{
    const TTest *const once[] = {the_counter_counts};
    Suite *suite = suite_create("allocations");
    TCase *all = add_case(suite, 50, once, 1, 1);
    tcase_add_loop_test(all, a_step_allocates_nothing, DUO_STAGE_DENSE, DUO_STAGE_ROUTER + 1);
    return run_cases(suite);
}
