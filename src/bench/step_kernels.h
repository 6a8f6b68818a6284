#ifndef DUO_BENCH_STEP_KERNELS_H
#define DUO_BENCH_STEP_KERNELS_H

#include "bench_internal.h"

/**
 * The kernels of a dense training step, each with all of the step's calls in a row, and their sum
 * against the step's time. Outside of the step a kernel may find its operands in a cache that it
 * would not find them in there: the rest is that, and what no kernel does.
 */
duo_status bench_step_kernels(duo_bench *bench, duo_precision precision, double step_seconds);

#endif
