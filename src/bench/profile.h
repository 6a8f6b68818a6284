#ifndef DUO_BENCH_PROFILE_H
#define DUO_BENCH_PROFILE_H

#include "bench_internal.h"
#include "duo/stopwatch.h"

/** One piece of work with the times of its kernels, and the peak just before it. */
typedef struct bench_sample {
    double seconds, flops, peak;
    duo_stopwatch watch;
} bench_sample;

/** Take one; the caller sets its FLOPs, or leaves them 0. */
void bench_sample_take(bench_sample *sample, duo_precision precision, bench_work *work,
                       void *context);

/** Times of n samples as wholes. Their FLOPs differ from one to the next: the times are those of as
 * many as their mean, which goes to *flops. */
bench_times bench_sample_times(const bench_sample *samples, size_t n, double *flops);

/** A row for each kernel of n samples of `whole`, the longest first, and one for what none of them
 * did. A sample is `units` steps, by which times are divided. */
void bench_emit_profile(const duo_bench *bench, const duo_bench_row *whole,
                        const bench_sample *samples, size_t n, double units);

#endif
