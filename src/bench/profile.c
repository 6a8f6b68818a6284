#include "profile.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bench_sample_take(bench_sample *sample, duo_precision precision, bench_work *work,
                       void *context)
{
    *sample = (bench_sample){.peak = duo_kernels_peak(precision)};
    duo_stopwatch_use(&sample->watch);
    const double begun = bench_seconds();
    work(context);
    sample->seconds = bench_seconds() - begun;
    duo_stopwatch_use(NULL);
}

/* ---------------------------------------------------------------- one kernel */

/* What times of a sample are wanted. */
typedef enum wanted { WHOLE, KERNEL, REST } wanted;

static bool same_kernel(const duo_kernel_time *a, const duo_kernel_time *b)
{
    return a->O == b->O && a->I == b->I && strcmp(a->kernel, b->kernel) == 0;
}

/* Of a kernel that a sample has not called: nothing. */
static duo_kernel_time time_of(const bench_sample *s, wanted what, const duo_kernel_time *kernel)
{
    if (what == WHOLE) return (duo_kernel_time){.seconds = s->seconds, .flops = s->flops};
    duo_kernel_time found = {0}, rest = {.seconds = s->seconds};
    for (size_t i = 0; i < s->watch.n; i++) {
        const duo_kernel_time *row = &s->watch.rows[i];
        rest.seconds -= row->seconds;
        if (what == KERNEL && same_kernel(row, kernel)) found = *row;
    }
    return what == KERNEL ? found : rest;
}

static bench_times times_of(const bench_sample *samples, size_t n, wanted what,
                            const duo_kernel_time *kernel, double *flops)
{
    double seconds[BENCH_MOST_REPEATS], at_peak[BENCH_MOST_REPEATS];
    assert(n <= BENCH_MOST_REPEATS);
    *flops = 0;
    for (size_t k = 0; k < n; k++) *flops += time_of(&samples[k], what, kernel).flops / (double)n;
    for (size_t k = 0; k < n; k++) {
        const duo_kernel_time time = time_of(&samples[k], what, kernel);
        seconds[k] = time.seconds * (time.flops > 0 ? *flops / time.flops : 1);
        at_peak[k] = seconds[k] * samples[k].peak;
    }
    return bench_summarize(seconds, at_peak, n);
}

bench_times bench_sample_times(const bench_sample *samples, size_t n, double *flops)
{
    return times_of(samples, n, WHOLE, NULL, flops);
}

/* ---------------------------------------------------------------- all of them */

static int by_time(const void *a, const void *b)
{
    const double x = ((const duo_bench_row *)a)->seconds, y = ((const duo_bench_row *)b)->seconds;
    return (x < y) - (x > y);
}

/* The kernels of any sample: not every step has tokens for each. */
static size_t kernels_of(duo_kernel_time kernels[DUO_STOPWATCH_ROWS], const bench_sample *samples,
                         size_t n)
{
    size_t found = 0;
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < samples[k].watch.n; i++) {
            const duo_kernel_time *row = &samples[k].watch.rows[i];
            size_t at = 0;
            while (at < found && !same_kernel(&kernels[at], row)) at++;
            if (at == found && found < DUO_STOPWATCH_ROWS) kernels[found++] = *row;
        }
    return found;
}

void bench_emit_profile(const duo_bench *bench, const duo_bench_row *whole,
                        const bench_sample *samples, size_t n, double units)
{
    duo_kernel_time kernels[DUO_STOPWATCH_ROWS];
    duo_bench_row rows[DUO_STOPWATCH_ROWS + 1];
    double flops;
    const size_t count = kernels_of(kernels, samples, n);
    const double all = bench_sample_times(samples, n, &flops).median;
    for (size_t i = 0; i <= count; i++) {
        const duo_kernel_time *kernel = &kernels[i];
        const wanted what = i < count ? KERNEL : REST;
        const bench_times times = times_of(samples, n, what, kernel, &flops);
        duo_bench_row *row = &rows[i];
        *row = bench_row(whole->part, "  the rest", whole->precision);
        snprintf(row->of, sizeof row->of, "%s", whole->name);
        row->threads = whole->threads;
        if (flops > 0) bench_row_flops(row, times, flops);
        row->seconds = times.median / units;
        row->part_of_step = times.median / all;
        if (what == REST) continue;
        if (kernel->O > 0)
            snprintf(row->name, sizeof row->name, "  %s, %zux%zu", kernel->kernel, kernel->O,
                     kernel->I);
        else
            snprintf(row->name, sizeof row->name, "  %s", kernel->kernel);
    }
    qsort(rows, count, sizeof *rows, by_time);
    for (size_t i = 0; i <= count; i++) bench_emit(bench, &rows[i]);
}
