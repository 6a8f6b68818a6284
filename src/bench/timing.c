#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "bench_internal.h"

double bench_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double seconds_of(bench_work *work, void *context, size_t calls)
{
    const double start = bench_seconds();
    for (size_t i = 0; i < calls; i++) work(context);
    return (bench_seconds() - start) / (double)calls;
}

/* The second call tells how many make a sample: the first one meets cold caches. */
static size_t calls_of_a_sample(bench_work *work, void *context, double sample_seconds)
{
    work(context);
    const double seconds = seconds_of(work, context, 1);
    const double calls = ceil(sample_seconds / (seconds > 1e-9 ? seconds : 1e-9));
    return calls < 1 ? 1 : (size_t)calls;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

bench_times bench_summarize(double *samples, double *at_peak, size_t n)
{
    qsort(samples, n, sizeof *samples, by_size);
    qsort(at_peak, n, sizeof *at_peak, by_size);
    return (bench_times){samples[n / 2], samples[0], samples[n - 1], at_peak[n / 2]};
}

void bench_measure_in_turns(const duo_bench_setting *setting, duo_precision precision, size_t n,
                            bench_work *const *work, void *const *contexts, bench_times *times)
{
    enum { MOST_WORKS = 16 };
    double samples[MOST_WORKS][BENCH_MOST_REPEATS], at_peak[MOST_WORKS][BENCH_MOST_REPEATS];
    size_t calls[MOST_WORKS];
    const size_t repeats = bench_repeats(setting);
    assert(n <= MOST_WORKS);
    for (size_t w = 0; w < n; w++)
        calls[w] = calls_of_a_sample(work[w], contexts[w], setting->sample_seconds);
    for (size_t i = 0; i < repeats; i++)
        for (size_t w = 0; w < n; w++) {
            const double peak = duo_kernels_peak(precision);
            samples[w][i] = seconds_of(work[w], contexts[w], calls[w]);
            at_peak[w][i] = samples[w][i] * peak;
        }
    for (size_t w = 0; w < n; w++) times[w] = bench_summarize(samples[w], at_peak[w], repeats);
}

bench_times bench_measure(const duo_bench_setting *setting, duo_precision precision,
                          bench_work *work, void *context)
{
    bench_times times;
    bench_measure_in_turns(setting, precision, 1, &work, &context, &times);
    return times;
}
