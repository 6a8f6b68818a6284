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

/* ---------------------------------------------------------------- limits */

typedef enum bench_level { BENCH_L2, BENCH_L3, BENCH_DRAM, BENCH_LEVELS } bench_level;
const char *bench_level_name(bench_level level);

/** Per second: median and range. */
typedef struct bench_rate {
    double median, least, most;
} bench_rate;

/** What one number of threads can do. */
typedef struct bench_limits {
    double peak; /* FLOP/s in fp32, when the threads were last started */
    bench_rate read[BENCH_LEVELS], write[BENCH_LEVELS], triad[BENCH_LEVELS]; /* bytes */
    size_t size[BENCH_LEVELS]; /* bytes that the threads' share of a level holds */
} bench_limits;

struct duo_bench {
    duo_bench_setting setting;
    duo_machine machine;
    bench_limits *limits;  /* one for each of setting.threads, once measured */
    bool *bandwidth_known; /* the same */
};

/** Start the kernels on setting.threads[i] and measure what is not known yet of their limits; the
 *  peak is measured anew, since clocks drift. */
duo_status bench_start(duo_bench *bench, size_t i, const bench_limits **limits);

/** The level that a working set lives in. */
bench_level bench_level_of(const bench_limits *limits, double bytes);

/* ---------------------------------------------------------------- rows */

/** A row whose other numbers are NaN. */
duo_bench_row bench_row(duo_bench_part part, const char *name, duo_precision precision);
/** Value and range of `work` units done in `times`. */
void bench_row_rate(duo_bench_row *row, bench_times times, double work, const char *unit);
/** FLOPs done in `times`; the limit is the peak that was measured beside them. */
void bench_row_flops(duo_bench_row *row, bench_times times, double flops);
/** FLOPs on `bytes` of operands: the limit is the peak or the bandwidth, whichever is lower. */
void bench_row_roofline(duo_bench_row *row, bench_times times, double flops, double bytes,
                        const bench_limits *limits);
/** Bytes moved in `times` by a kernel whose operands hold `holds` bytes, and which only reads them
 * or also writes. */
void bench_row_bytes(duo_bench_row *row, bench_times times, double bytes, double holds,
                     bool reads_only, const bench_limits *limits);
/** Whether a kernel, step or search of this name is to be measured. */
bool bench_wanted(const duo_bench *bench, const char *name);
void bench_emit(const duo_bench *bench, const duo_bench_row *row);

/* ---------------------------------------------------------------- parts */

duo_status bench_machine(duo_bench *bench);
duo_status bench_products(duo_bench *bench, const bench_limits *limits);
duo_status bench_rows_kernels(duo_bench *bench, const bench_limits *limits);
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
