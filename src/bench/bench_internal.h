#ifndef DUO_BENCH_INTERNAL_H
#define DUO_BENCH_INTERNAL_H

#include "duo/bench.h"
#include "duo/kernels.h"

/* ---------------------------------------------------------------- timing */

/**
 * Seconds of one call: median and range over the samples; and the FLOPs that the multiply-add peak,
 * measured anew before each sample, would have done in a call's time, their median. A share of the
 * peak is thus one of the clock that the sample met.
 */
typedef struct bench_times {
    double median, least, most;
    double at_peak;
} bench_times;

enum { BENCH_MOST_REPEATS = 1000 };
static inline size_t bench_repeats(const duo_bench_setting *setting)
{
    return setting->repeats < BENCH_MOST_REPEATS ? setting->repeats : BENCH_MOST_REPEATS;
}

typedef void bench_work(void *context);

/** Seconds of a clock that never goes back. */
double bench_seconds(void);

/** Call `work` once to warm up, then in samples as the setting says. `precision` is the peak's. */
bench_times bench_measure(const duo_bench_setting *setting, duo_precision precision,
                          bench_work *work, void *context);

/** Measure n pieces of work in turns, so that a drifting clock meets all of them alike. times (n)
 */
void bench_measure_in_turns(const duo_bench_setting *setting, duo_precision precision, size_t n,
                            bench_work *const *work, void *const *contexts, bench_times *times);

/** Of n samples: seconds of a call, and FLOPs that the peak would have done meanwhile. Sorts both.
 */
bench_times bench_summarize(double *samples, double *at_peak, size_t n);

/* ---------------------------------------------------------------- limits */

struct duo_bench {
    duo_bench_setting setting;
    duo_machine machine;
    double *peaks; /* FLOP/s in fp32, for each of setting.threads: when they were last started */
};

/** Start the kernels on setting.threads[i], and warn where the peak is another one than before. */
duo_status bench_start(duo_bench *bench, size_t i);

/** Bytes per second that the threads read of, or move in a triad over, a working set of so many
 * bytes. */
duo_status bench_bandwidth(const duo_bench *bench, bool reads_only, double bytes, double *rate);

/* ---------------------------------------------------------------- rows */

/** A row whose other numbers are NaN. */
duo_bench_row bench_row(duo_bench_part part, const char *name, duo_precision precision);
/** Value and range of `work` units done in `times`. */
void bench_row_rate(duo_bench_row *row, bench_times times, double work, const char *unit);
/** FLOPs done in `times`; the limit is the peak that was measured beside them. */
void bench_row_flops(duo_bench_row *row, bench_times times, double flops);
/** FLOPs on `bytes` of operands, which the threads read at `rate`: the limit is that or the peak,
 * whichever is lower. */
void bench_row_roofline(duo_bench_row *row, bench_times times, double flops, double bytes,
                        double rate);
/** Bytes moved in `times`; the limit is `rate`, of reading or of a triad over as large a working
 * set. */
void bench_row_bytes(duo_bench_row *row, bench_times times, double bytes, bool reads_only,
                     double rate);
/** Whether a kernel, step or search of this name is to be measured. */
bool bench_wanted(const duo_bench *bench, const char *name);
void bench_emit(const duo_bench *bench, const duo_bench_row *row);

/* ---------------------------------------------------------------- parts */

duo_status bench_machine(duo_bench *bench);
duo_status bench_products(duo_bench *bench);
duo_status bench_rows_kernels(duo_bench *bench);
duo_status bench_attention(duo_bench *bench);
duo_status bench_step(duo_bench *bench);
duo_status bench_routing(duo_bench *bench);
duo_status bench_oracle(duo_bench *bench);
duo_status bench_decode(duo_bench *bench);
duo_status bench_memory(duo_bench *bench);

/** Numbers from [-1, 1) that depend on the stream alone. */
void bench_fill(float *x, size_t n, unsigned stream);
/** Ids of random tokens. */
void bench_random_ids(int32_t *ids, size_t n, size_t vocab_size);

#endif
