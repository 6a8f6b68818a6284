#ifndef DUO_SIMD_VECTOR_H
#define DUO_SIMD_VECTOR_H

/*
 * What is computed from the vectors of one instruction set. Each vec_<instruction set>.h, which
 * is included before, defines:
 *   WIDTH, vec, vec_mask      floats in a register, the register, a choice of its lanes
 *   TILE_ROWS                 rows of a register tile of up to three vectors, divides WIDTH
 *   vec_set, _load, _store    one value in every lane; unaligned memory
 *   vec_load_part(x, n, rest), vec_store_part(y, x, n)   the first n lanes, the others are rest
 *   vec_fma(a, b, c)          a b + c, fused wherever the instruction set can do it
 *   vec_min(a, b), vec_max    b where one of them is a NaN
 *   vec_not_below(x, limit)   a mask, false only where x < limit
 *   vec_power(x, shifted, round_to_int, keep)   x 2^k, k = shifted - round_to_int, |k| < 256, in
 * the lanes of keep, 0 in the others whatever x and k are
 */
#include "unroll.h"
#include "vmath.h"

/* Vectors whose chains of operations run side by side: one alone would wait for its latencies. */
enum { BATCH = 4 };

/*
 * Each x becomes exp(x), within 1.2 units in the last place; infinities and NaN as in <math.h>, 0
 * where the result is below 2^-126: subnormals would be slow here and in what follows.
 * exp(x) = 2^k exp(r), k = round(x / log 2), |r| <= log(2)/2; exp(r) by a minimax polynomial.
 */
__attribute__((always_inline)) static inline void vec_exp(vec *x, const size_t n)
{
    const float round_to_int = 0x1.8p23f; /* adding it leaves the integer in the low bits */
    const float lowest = -0x1.5d589ep+6f, infinite = 89.0f;
    const float q[] = {0.00138144672f, 0.00836878084f, 0.0416683927f, 0.166665196f,
                       0.49999994f,    1.0f,           1.0f};
    vec_mask keep[BATCH];
    vec shifted[BATCH], p[BATCH];
    UNROLL(4)
    for (size_t i = 0; i < n; i++) {
        keep[i] = vec_not_below(x[i], lowest);
        x[i] = vec_min(vec_set(infinite), x[i]);
    }
    UNROLL(4)
    for (size_t i = 0; i < n; i++)
        shifted[i] = vec_fma(x[i], vec_set(0x1.715476p+0f), vec_set(round_to_int));
    UNROLL(4)
    for (size_t i = 0; i < n; i++) p[i] = shifted[i] - vec_set(round_to_int);
    UNROLL(4)
    for (size_t i = 0; i < n; i++) /* log 2 in two parts, k times the first is exact */
        x[i] = vec_fma(p[i], vec_set(-0x1.63p-1f), x[i]);
    UNROLL(4)
    for (size_t i = 0; i < n; i++) x[i] = vec_fma(p[i], vec_set(0x1.bd0106p-13f), x[i]);
    UNROLL(4)
    for (size_t i = 0; i < n; i++) p[i] = vec_set(q[0]);
    UNROLL(6)
    for (size_t c = 1; c < sizeof q / sizeof *q; c++) {
        UNROLL(4)
        for (size_t i = 0; i < n; i++) p[i] = vec_fma(p[i], x[i], vec_set(q[c]));
    }
    UNROLL(4)
    for (size_t i = 0; i < n; i++) x[i] = vec_power(p[i], shifted[i], round_to_int, keep[i]);
}

__attribute__((always_inline)) static inline void vec_sigmoid(vec *x, const size_t n)
{
    UNROLL(4)
    for (size_t i = 0; i < n; i++) x[i] = -x[i];
    vec_exp(x, n);
    UNROLL(4)
    for (size_t i = 0; i < n; i++) x[i] = vec_set(1.0f) / (vec_set(1.0f) + x[i]);
}

/* The sum of the lanes, halves first. */
static inline float vec_sum(vec x)
{
    float lane[WIDTH];
    vec_store(lane, x);
    for (size_t half = WIDTH / 2; half > 0; half /= 2)
        for (size_t l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

#endif
