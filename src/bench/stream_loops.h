/* The walks of stream.h for one instruction set: define STREAM_TABLE and include this. */
#include "stream.h"

enum { LANES = 64 }; /* sums side by side: enough to keep every load port busy */

static float read_all(const float *a, size_t n)
{
    float sum[LANES] = {0}, total = 0;
    for (size_t i = 0; i < n; i += LANES)
#pragma omp simd
        for (size_t lane = 0; lane < LANES; lane++) sum[lane] += a[i + lane];
    for (size_t lane = 0; lane < LANES; lane++) total += sum[lane];
    return total;
}

static void write_all(float *a, float value, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) a[i] = value;
}

static void triad(float *restrict a, const float *restrict b, const float *restrict c, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) a[i] = b[i] + 3.0f * c[i];
}

const bench_stream STREAM_TABLE = {read_all, write_all, triad};
