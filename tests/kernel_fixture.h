#ifndef DUO_KERNEL_FIXTURE_H
#define DUO_KERNEL_FIXTURE_H

#include <math.h>

#include "check_fixture.h"
#include "duo/kernels.h"

/* Kernel tests run as loop tests: once for every instruction set, those of this machine. */
enum { ALL_ISAS = DUO_ISA_AMX + 1 };

/** False where the processor lacks the instruction set: nothing to test there. */
static inline bool start_isa(int isa, int threads)
{
    setenv("DUO_ISA", duo_isa_name((duo_isa)isa), 1);
    const duo_status status = duo_kernels_start(threads);
    if (status != DUO_OK) {
        ck_assert_int_ne(isa, DUO_ISA_PORTABLE);
        ck_assert_msg(strstr(duo_message(), "does not support") != NULL, "%s", duo_message());
        return false;
    }
    ck_assert_int_eq(duo_kernels_isa(), isa);
    ck_assert_int_eq(duo_kernels_threads(), threads);
    return true;
}

static inline void assert_near(const char *name, const float *got, const double *want, size_t n,
                               double tolerance)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= tolerance))
            ck_abort_msg("%s[%zu] is %.9g instead of %.9g, tolerance %.2g", name, i, (double)got[i],
                         want[i], tolerance);
}

/** `run` fills n floats; they must have the same bits on 1 to 4 threads. */
static inline void assert_same_bits_on_any_threads(int isa, void (*run)(float *out), size_t n)
{
    float *one = malloc(n * sizeof *one), *many = malloc(n * sizeof *many);
    ck_assert(one && many);
    for (int threads = 1; threads <= 4 && start_isa(isa, threads); threads++) {
        run(threads == 1 ? one : many);
        if (threads > 1) ck_assert_mem_eq(one, many, n * sizeof *one);
    }
    duo_kernels_stop();
    free(one);
    free(many);
}

/** Run every test once for each of so many variants: _i. Returns what main returns. */
static inline int run_in_variants(const char *name, const TTest *const *tests, size_t count,
                                  int variants)
{
    Suite *suite = suite_create(name);
    add_case(suite, 60, tests, count, variants);
    return run_cases(suite);
}

/** Once for each instruction set. */
static inline int run_on_every_isa(const char *name, const TTest *const *tests, size_t count)
{
    return run_in_variants(name, tests, count, ALL_ISAS);
}

#endif
