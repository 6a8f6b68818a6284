/* The rows of simd.h as plain loops. Each simd_<instruction set>.c includes this once. */
#include <math.h>
#include <string.h>

#include "simd.h"
#include "simd_vector.h"

#include "simd_attention.h"

static float dot(const float *x, const float *y, size_t n)
{
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

static float dot3(const float *x, const float *y, const float *z, size_t n)
{
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) sum += x[i] * y[i] * z[i];
    return sum;
}

static float row_max(const float *x, size_t n)
{
    float lane[WIDTH], max = -INFINITY;
    size_t i = 0;
    for (size_t l = 0; l < WIDTH; l++) lane[l] = -INFINITY;
    for (; i + WIDTH <= n; i += WIDTH) {
#pragma omp simd
        for (size_t l = 0; l < WIDTH; l++) lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
    }
    for (size_t l = 0; l < WIDTH; l++) max = lane[l] > max ? lane[l] : max;
    for (; i < n; i++) max = x[i] > max ? x[i] : max;
    return max;
}

static double sum_squares(const float *x, size_t n)
{
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

static void scale(float *y, const float *x, float a, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] = a * x[i];
}

static void add_scaled(float *y, const float *x, float a, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] = DUO_FMA(a, x[i], y[i]);
}

static void product(float *y, const float *x, const float *z, float a, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] = a * x[i] * z[i];
}

static void add_product(float *y, const float *x, const float *z, float a, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] = DUO_FMA(a * x[i], z[i], y[i]);
}

static void norm_gradient(float *dx, const float *dy, const float *x, const float *g, float r,
                          float mean, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) dx[i] = DUO_FMA(r, DUO_FMA(g[i], dy[i], -mean * x[i]), dx[i]);
}

static void softmax_gradient(float *dh, const float *dp, const float *p, float a, float mean,
                             size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) dh[i] = DUO_FMA(a * p[i], dp[i] - mean, dh[i]);
}

/*
 * Rows go by batches of BATCH vectors, the last with fewer elements: `count` is a constant where
 * the functions below are expanded for all others. An element's bits do not depend on its place.
 */
enum { FULL = BATCH * WIDTH };

__attribute__((always_inline)) static inline void load_batch(vec *v, const float *x, size_t count,
                                                             float rest)
{
    UNROLL(4)
    for (size_t b = 0; b < BATCH; b++) {
        const size_t at = b * WIDTH;
        if (count >= at + WIDTH)
            v[b] = vec_load(x + at);
        else
            v[b] = count > at ? vec_load_part(x + at, count - at, rest) : vec_set(rest);
    }
}

__attribute__((always_inline)) static inline void store_batch(float *y, const vec *v, size_t count)
{
    UNROLL(4)
    for (size_t b = 0; b < BATCH; b++) {
        const size_t at = b * WIDTH;
        if (count >= at + WIDTH)
            vec_store(y + at, v[b]);
        else if (count > at)
            vec_store_part(y + at, v[b], count - at);
    }
}

/* What is behind the end of a row is exp(-infinity) = 0. */
__attribute__((always_inline)) static inline vec exp_sum_batch(float *y, const float *x,
                                                               float shift, vec sum, size_t count)
{
    vec v[BATCH];
    load_batch(v, x, count, -INFINITY);
    UNROLL(4)
    for (size_t b = 0; b < BATCH; b++) v[b] = v[b] - vec_set(shift);
    vec_exp(v, BATCH);
    if (y) store_batch(y, v, count);
    return sum + ((v[0] + v[1]) + (v[2] + v[3]));
}

static float exp_sum(float *y, const float *x, float shift, size_t n)
{
    vec sum = vec_set(0.0f);
    size_t i = 0;
    for (; i + FULL <= n; i += FULL) sum = exp_sum_batch(y ? y + i : NULL, x + i, shift, sum, FULL);
    if (i < n) sum = exp_sum_batch(y ? y + i : NULL, x + i, shift, sum, n - i);
    return vec_sum(sum);
}

__attribute__((always_inline)) static inline void
exp_scale_batch(float *y, const float *x, float factor, float shift, float a, size_t count)
{
    vec v[BATCH];
    load_batch(v, x, count, 0.0f);
    UNROLL(4)
    for (size_t b = 0; b < BATCH; b++) v[b] = vec_fma(vec_set(factor), v[b], vec_set(-shift));
    vec_exp(v, BATCH);
    UNROLL(4)
    for (size_t b = 0; b < BATCH; b++) v[b] = vec_set(a) * v[b];
    store_batch(y, v, count);
}

static void exp_scale(float *y, const float *x, float factor, float shift, float a, size_t n)
{
    size_t i = 0;
    for (; i + FULL <= n; i += FULL) exp_scale_batch(y + i, x + i, factor, shift, a, FULL);
    if (i < n) exp_scale_batch(y + i, x + i, factor, shift, a, n - i);
}

__attribute__((always_inline)) static inline void swiglu_batch(float *a, const float *gate,
                                                               const float *up, size_t count)
{
    vec g[BATCH], s[BATCH], u[BATCH];
    load_batch(g, gate, count, 0.0f);
    load_batch(u, up, count, 0.0f);
    UNROLL(4)
    for (size_t b = 0; b < BATCH; b++) s[b] = g[b];
    vec_sigmoid(s, BATCH);
    UNROLL(4)
    for (size_t b = 0; b < BATCH; b++) s[b] = g[b] * s[b] * u[b];
    store_batch(a, s, count);
}

static void swiglu(float *a, const float *gate, const float *up, size_t n)
{
    size_t i = 0;
    for (; i + FULL <= n; i += FULL) swiglu_batch(a + i, gate + i, up + i, FULL);
    if (i < n) swiglu_batch(a + i, gate + i, up + i, n - i);
}

/* With s = sigmoid(g): silu = g s, its derivative s + silu (1 - s). */
__attribute__((always_inline)) static inline void
swiglu_gradient_batch(float *dgate, float *dup, float *a, const float *da, const float *gate,
                      const float *up, size_t count)
{
    vec s[BATCH], d[BATCH], g[BATCH], u[BATCH];
    load_batch(g, gate, count, 0.0f);
    UNROLL(4)
    for (size_t b = 0; b < BATCH; b++) s[b] = g[b];
    vec_sigmoid(s, BATCH);
    load_batch(d, da, count, 0.0f);
    load_batch(u, up, count, 0.0f);
    UNROLL(4)
    for (size_t b = 0; b < BATCH; b++) {
        const vec silu = g[b] * s[b], slope = vec_fma(silu, vec_set(1.0f) - s[b], s[b]);
        g[b] = d[b] * silu;
        d[b] = d[b] * u[b] * slope;
        u[b] = silu * u[b];
    }
    store_batch(dup, g, count);
    store_batch(dgate, d, count);
    if (a) store_batch(a, u, count);
}

static void swiglu_gradient(float *dgate, float *dup, float *a, const float *da, const float *gate,
                            const float *up, size_t n)
{
    size_t i = 0;
    for (; i + FULL <= n; i += FULL)
        swiglu_gradient_batch(dgate + i, dup + i, a ? a + i : NULL, da + i, gate + i, up + i, FULL);
    if (i < n)
        swiglu_gradient_batch(dgate + i, dup + i, a ? a + i : NULL, da + i, gate + i, up + i,
                              n - i);
}

static void rotate(float *x, const float *angles, float direction, size_t H, size_t D)
{
    for (size_t h = 0; h < H; h++) {
        float *x_h = x + h * D;
#pragma omp simd
        for (size_t i = 0; i < D / 2; i++) {
            const float cosine = angles[2 * i], sine = direction * angles[2 * i + 1];
            const float even = x_h[2 * i], odd = x_h[2 * i + 1];
            x_h[2 * i] = DUO_FMA(even, cosine, -(odd * sine));
            x_h[2 * i + 1] = DUO_FMA(even, sine, odd * cosine);
        }
    }
}

static void adamw(float *w, float *m, float *v, const float *gradient, size_t n,
                  const duo_adamw *setting)
{
    const float b1 = setting->beta1, b2 = setting->beta2, eps = setting->eps;
    const float a1 = 1.0f - b1, a2 = 1.0f - b2, scale_g = setting->scale;
    const float rate = setting->lr / setting->correction1, keep = setting->lr * setting->decay;
    const float inverse2 = 1.0f / setting->correction2;
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        const float g = scale_g * gradient[i];
        const float m_i = DUO_FMA(b1, m[i], a1 * g), v_i = DUO_FMA(b2, v[i], a2 * g * g);
        const float step = rate * m_i / (sqrtf(v_i * inverse2) + eps);
        m[i] = m_i;
        v[i] = v_i;
        w[i] -= DUO_FMA(keep, w[i], step);
    }
}

const duo_simd SIMD_TABLE = {.dot = dot,
                             .dot3 = dot3,
                             .max = row_max,
                             .sum_squares = sum_squares,
                             .scale = scale,
                             .add_scaled = add_scaled,
                             .product = product,
                             .add_product = add_product,
                             .norm_gradient = norm_gradient,
                             .softmax_gradient = softmax_gradient,
                             .exp_sum = exp_sum,
                             .exp_scale = exp_scale,
                             .swiglu = swiglu,
                             .swiglu_gradient = swiglu_gradient,
                             .rotate = rotate,
                             .adamw = adamw,
                             .set_lanes = set_lanes,
                             .scores = scores,
                             .lane_dots = lane_dots,
                             .score_softmax = score_softmax,
                             .score_gradient = score_gradient,
                             .sum_over_keys = sum_over_keys,
                             .add_over_lanes = add_over_lanes,
                             .add_weighted_rows = add_weighted_rows};
