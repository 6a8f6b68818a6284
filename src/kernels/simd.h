#ifndef DUO_SIMD_H
#define DUO_SIMD_H

#include <stdbool.h>
#include <stddef.h>

#include "duo/kernels.h"

/* Loops over fewer elements than this run on one thread: waking the others costs more. */
enum { DUO_PARALLEL_MIN = 1 << 14 };

/* Queries side by side in a block of attention scores. */
enum { DUO_LANES = 32 };

/*
 * What the kernels do inside a row, one implementation per instruction set: simd_rows.h compiled
 * with different flags. Where an output has the name of an input it may be the same array;
 * elementwise functions give an element the same bits wherever it stands.
 */
typedef struct duo_simd {
    float (*dot)(const float *x, const float *y, size_t n);
    float (*dot3)(const float *x, const float *y, const float *z, size_t n);
    float (*max)(const float *x, size_t n);
    double (*sum_squares)(const float *x, size_t n);
    void (*scale)(float *y, const float *x, float a, size_t n);      /* y = a x */
    void (*add_scaled)(float *y, const float *x, float a, size_t n); /* y += a x */
    /* y = a x z */
    void (*product)(float *y, const float *x, const float *z, float a, size_t n);
    /* y += a x z */
    void (*add_product)(float *y, const float *x, const float *z, float a, size_t n);
    /* dx += r (g dy - mean x) */
    void (*norm_gradient)(float *dx, const float *dy, const float *x, const float *g, float r,
                          float mean, size_t n);
    /* dh += a p (dp - mean) */
    void (*softmax_gradient)(float *dh, const float *dp, const float *p, float a, float mean,
                             size_t n);
    /* y = exp(x - shift), returns the sum; y NULL: the sum alone */
    float (*exp_sum)(float *y, const float *x, float shift, size_t n);
    /* y = a exp(x - shift) */
    void (*exp_scale)(float *y, const float *x, float shift, float a, size_t n);
    void (*swiglu)(float *a, const float *gate, const float *up, size_t n);
    void (*swiglu_gradient)(float *dgate, float *dup, float *a, const float *da, const float *gate,
                            const float *up, size_t n);
    /* Rotate the pairs of H heads by the D/2 angles (cos, sin), backwards for direction -1. */
    void (*rotate)(float *x, const float *angles, float direction, size_t H, size_t D);
    void (*adamw)(float *w, float *m, float *v, const float *gradient, size_t n,
                  const duo_adamw *setting);
    /*
     * c[i][j] = (add ? c[i][j] : 0) + sum_k a[i a_row + k a_col] b[k][j], rows c_row and b_row
     * apart. k is summed in order, one product after the other, whatever M and N are.
     */
    void (*multiply)(float *c, size_t c_row, const float *a, size_t a_row, size_t a_col,
                     const float *b, size_t b_row, size_t M, size_t N, size_t K, bool add);
    /* For each of the first lanes l (a multiple of 16) over scores (keys, DUO_LANES):
     * scores = exp(scale * score - max), inverse = 1 / their sum, lse = max + log of their sum. */
    void (*score_softmax)(float *scores, float *inverse, float *lse, float scale, size_t lanes,
                          size_t keys);
    /* p = exp(scale * p - lse_l), dp = scale * p * (dp - delta_l). */
    void (*score_gradient)(float *p, float *dp, const float *lse, const float *delta, float scale,
                           size_t keys);
} duo_simd;

/* Of the instruction set in use: portable until duo_simd_select. */
extern const duo_simd *duo_rows;

extern const duo_simd duo_simd_portable;
#ifdef __x86_64__
extern const duo_simd duo_simd_avx2, duo_simd_avx512;
#endif

void duo_simd_select(duo_isa isa);

/* The part of 0..n-1 that a thread of a team works on, in whole cache lines of floats. */
typedef struct duo_range {
    size_t begin, end;
} duo_range;

static inline duo_range duo_share(size_t n, int thread, int team)
{
    const size_t line = 16, lines = (n + line - 1) / line;
    const size_t begin = lines * (size_t)thread / (size_t)team * line;
    const size_t end = lines * ((size_t)thread + 1) / (size_t)team * line;
    return (duo_range){begin < n ? begin : n, end < n ? end : n};
}

/* p = softmax(h); p may be h. */
static inline void duo_softmax_row(float *p, const float *h, size_t M)
{
    const float sum = duo_rows->exp_sum(p, h, duo_rows->max(h, M), M);
    duo_rows->scale(p, p, 1.0f / sum, M);
}

#endif
