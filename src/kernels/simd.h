#ifndef DUO_SIMD_H
#define DUO_SIMD_H

#include <stdbool.h>
#include <stddef.h>

#include "duo/kernels.h"

/* Queries side by side in a block of attention scores: three vectors of the widest registers. */
enum { DUO_LANES = 48 };

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
    /* y = a exp(factor x - shift) */
    void (*exp_scale)(float *y, const float *x, float factor, float shift, float a, size_t n);
    void (*swiglu)(float *a, const float *gate, const float *up, size_t n);
    void (*swiglu_gradient)(float *dgate, float *dup, float *a, const float *da, const float *gate,
                            const float *up, size_t n);
    /* Rotate the pairs of H heads by the D/2 angles (cos, sin), backwards for direction -1. */
    void (*rotate)(float *x, const float *angles, float direction, size_t H, size_t D);
    void (*adamw)(float *w, float *m, float *v, const float *gradient, size_t n,
                  const duo_adamw *setting);
    /*
     * Attention on blocks of scores (keys, DUO_LANES), simd_attention.h. Lane l sees the keys
     * 0 .. first + l of a block and nothing hidden is added to any sum.
     */
    /* lanes[d][l] = x[l][d]; 0 for l >= n, up to a whole vector */
    void (*set_lanes)(float *lanes, const float *const *x, size_t n, size_t D);
    /* s[j][l] = sum_d keys[j][d] lanes[d][l] */
    void (*scores)(float *s, const float *keys, size_t row, const float *lanes, size_t n_keys,
                   size_t n_lanes, size_t D, ptrdiff_t first);
    /* s[l] = sum_d x[d][l] y[d][l] */
    void (*lane_dots)(float *s, const float *x, const float *y, size_t n_lanes, size_t D);
    /* s = exp(factor s - max), inverse = 1 / their sum, lse = max + log of their sum, max of the
     * scaled scores of a lane; inverse and lse have DUO_LANES elements */
    void (*score_softmax)(float *s, float *inverse, float *lse, float factor, size_t n_keys,
                          size_t n_lanes, ptrdiff_t first);
    /* p = exp(factor p - lse_l), dp = factor p (dp - delta_l) */
    void (*score_gradient)(float *p, float *dp, const float *lse, const float *delta, float factor,
                           size_t n_keys, size_t n_lanes, ptrdiff_t first);
    /* y_l = factor_l ((add ? y_l : 0) + sum_j p[j][l] v_j); factor NULL: 1 */
    void (*sum_over_keys)(float *y, size_t y_row, const float *p, const float *v, size_t v_row,
                          const float *factor, size_t n_lanes, size_t D, size_t n_keys,
                          ptrdiff_t first, bool add);
    /* dk_j += sum_l ds[j][l] q_l */
    void (*add_over_lanes)(float *dk, size_t dk_row, const float *ds, const float *q, size_t q_row,
                           size_t n_lanes, size_t D, size_t n_keys, ptrdiff_t first);
    /* One query: y = (add ? y : 0) + sum_j p_j v_j, returns sum plus every p_j, in order. */
    float (*add_weighted_rows)(float *y, const float *p, float sum, const float *v, size_t v_row,
                               size_t n_keys, size_t D, bool add);
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
