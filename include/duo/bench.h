#ifndef DUO_BENCH_H
#define DUO_BENCH_H

#include <stdbool.h>
#include <stddef.h>

#include "duo/recipe.h"
#include "duo/status.h"

/**
 * What this machine can do and how near Duo comes to it.
 *
 * Every part measures in turns of one process, on threads of its own, and hands over one row per
 * figure as soon as it is known. Rates stand beside the limit that applies to them: the measured
 * multiply-add peak, or the measured bandwidth of the cache or memory that the operands live in.
 * The figures mean nothing while other processes use the processor.
 */
typedef enum duo_bench_part {
    DUO_BENCH_MACHINE,  /**< multiply-add peak, bandwidth of the caches and of memory */
    DUO_BENCH_KERNELS,  /**< each kernel, and its error against a plain loop in double */
    DUO_BENCH_STEP,     /**< the training step, on all numbers of threads in turns, and its
                              kernels as they are timed inside of it */
    DUO_BENCH_ROUTING,  /**< time by share of big beside the FLOP model */
    DUO_BENCH_ORACLE,   /**< cost of the exact search by depth, modules and context */
    DUO_BENCH_GENERATE, /**< tokens per second of decoding beside the walk over the weights, and
                              where a token's time goes */
    DUO_BENCH_MEMORY,   /**< peak memory of a short run beside what is predicted */
    DUO_BENCH_PARTS
} duo_bench_part;

/** "machine", "kernels", ... */
const char *duo_bench_part_name(duo_bench_part part);

/** One figure. A number that does not apply is NaN. */
typedef struct duo_bench_row {
    duo_bench_part part;
    char name[64];
    char of[64]; /**< the row that this one is a part of, as a kernel of a step; "": none */
    int threads;
    duo_precision precision;
    const char *unit;          /**< of value: "GFLOP/s", "GB/s", "tokens/s", "MiB" */
    double value, least, most; /**< median and range over the repeats */
    double limit;              /**< what it could be, in the same unit */
    const char *limit_name; /**< what sets the limit: "peak", or "read" or "triad", the bandwidth of
                               a working set of the same size; NULL: none */
    double seconds;         /**< of one call, median; of a kernel of a step, of all its calls */
    double error;           /**< largest deviation from a plain loop in double, over the root
                                 mean square of the right results */
    double tokens_per_s;    /**< of a training step, of a search */
    double part_of_step;    /**< of a kernel: its calls' share of the step's time */
    double off_chord;       /**< of a point of the routing curve: time over the straight line
                                 between its ends, less 1 */
} duo_bench_row;

typedef void duo_bench_sink(void *context, const duo_bench_row *row);

typedef struct duo_bench_setting {
    size_t repeats;        /**< samples of a figure, at least 1; the median counts */
    double sample_seconds; /**< calls are repeated within a sample until it is this long; a step
                                is a sample by itself */
    bool quick;            /**< small shapes: to see that everything works, not how fast */
    const char *match;     /**< of kernels, steps and searches, only those whose name holds this,
                              a step with its kernels; NULL: all */
    const int *threads;    /**< numbers of threads to measure with */
    size_t n_threads;
    const duo_precision *precisions; /**< of matrix products */
    size_t n_precisions;
    duo_config model;       /**< of the parts that run a model; with its vocabulary */
    duo_stage_recipe stage; /**< batch and optimizer; its kind and probabilities are replaced */
    const char *program;    /**< the program `duo`, for the memory of a child; NULL: no such part */
    duo_bench_sink *sink;
    void *context;
} duo_bench_setting;

/**
 * Measure one part on every number of threads. Starts the kernels, and stops them at the end;
 * several parts in a row share what was measured of the machine. DUO_EINVAL for a setting that
 * makes no sense, DUO_ENOMEM, and what the parts themselves return.
 */
typedef struct duo_bench duo_bench;
duo_status duo_bench_create(duo_bench **bench, const duo_bench_setting *setting);
duo_status duo_bench_run(duo_bench *bench, duo_bench_part part);
void duo_bench_free(duo_bench *bench);

/** The machine by name; sizes in bytes, 0 where the system does not say. */
typedef struct duo_machine {
    char processor[96];
    int processors; /**< that this process may use */
    size_t l1, l2, l3, memory;
    double load; /**< processes that wanted to run, mean of the last minute; NaN: unknown */
} duo_machine;
void duo_machine_describe(duo_machine *machine);

#endif
