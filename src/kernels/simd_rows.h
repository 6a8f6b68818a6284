/* The rows of simd.h as plain loops. Each simd_<instruction set>.c includes this once. */
#include <math.h>

#include "simd.h"
#include "vmath.h"

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
    float lane[SIMD_WIDTH], max = -INFINITY;
    size_t i = 0;
    for (size_t l = 0; l < SIMD_WIDTH; l++) lane[l] = -INFINITY;
    for (; i + SIMD_WIDTH <= n; i += SIMD_WIDTH) {
#pragma omp simd
        for (size_t l = 0; l < SIMD_WIDTH; l++) lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
    }
    for (size_t l = 0; l < SIMD_WIDTH; l++) max = lane[l] > max ? lane[l] : max;
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

static float exp_sum(float *y, const float *x, float shift, size_t n)
{
    float sum = 0.0f;
    if (!y) {
#pragma omp simd reduction(+ : sum)
        for (size_t i = 0; i < n; i++) sum += duo_expf(x[i] - shift);
        return sum;
    }
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        y[i] = duo_expf(x[i] - shift);
        sum += y[i];
    }
    return sum;
}

static void exp_scale(float *y, const float *x, float shift, float a, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] = a * duo_expf(x[i] - shift);
}

static inline float sigmoid(float x)
{
    return 1.0f / (1.0f + duo_expf(-x));
}

static void swiglu(float *a, const float *gate, const float *up, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) a[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

/* With s = sigmoid(g): silu = g s, its derivative s + silu (1 - s). */
static void swiglu_gradient(float *dgate, float *dup, float *a, const float *da, const float *gate,
                            const float *up, size_t n)
{
    if (!a) {
#pragma omp simd
        for (size_t i = 0; i < n; i++) {
            const float d = da[i], s = sigmoid(gate[i]), silu = gate[i] * s;
            dup[i] = d * silu;
            dgate[i] = d * up[i] * DUO_FMA(silu, 1.0f - s, s);
        }
        return;
    }
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        const float d = da[i], u = up[i], s = sigmoid(gate[i]), silu = gate[i] * s;
        dup[i] = d * silu;
        dgate[i] = d * u * DUO_FMA(silu, 1.0f - s, s);
        a[i] = silu * u;
    }
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

/* The sums of R rows and W columns stay in registers: R and W are constants where this is
 * expanded. */
__attribute__((always_inline)) static inline void
multiply_tile(float *c, size_t c_row, const float *a, size_t a_row, size_t a_col, const float *b,
              size_t b_row, size_t K, bool add, const size_t R, const size_t W)
{
    float sum[SIMD_ROWS][2 * SIMD_WIDTH];
    for (size_t r = 0; r < R; r++) {
#pragma omp simd
        for (size_t j = 0; j < W; j++) sum[r][j] = add ? c[r * c_row + j] : 0.0f;
    }
    for (size_t k = 0; k < K; k++) {
        const float *a_k = a + k * a_col, *b_k = b + k * b_row;
        for (size_t r = 0; r < R; r++) {
#pragma omp simd
            for (size_t j = 0; j < W; j++) sum[r][j] = DUO_FMA(a_k[r * a_row], b_k[j], sum[r][j]);
        }
    }
    for (size_t r = 0; r < R; r++) {
#pragma omp simd
        for (size_t j = 0; j < W; j++) c[r * c_row + j] = sum[r][j];
    }
}

__attribute__((always_inline)) static inline void
multiply_columns(float *c, size_t c_row, const float *a, size_t a_row, size_t a_col, const float *b,
                 size_t b_row, size_t M, size_t K, bool add, const size_t W)
{
    size_t i = 0;
    for (; i + SIMD_ROWS <= M; i += SIMD_ROWS)
        multiply_tile(c + i * c_row, c_row, a + i * a_row, a_row, a_col, b, b_row, K, add,
                      SIMD_ROWS, W);
    for (; i + 2 <= M; i += 2)
        multiply_tile(c + i * c_row, c_row, a + i * a_row, a_row, a_col, b, b_row, K, add, 2, W);
    if (i < M)
        multiply_tile(c + i * c_row, c_row, a + i * a_row, a_row, a_col, b, b_row, K, add, 1, W);
}

static void multiply(float *c, size_t c_row, const float *a, size_t a_row, size_t a_col,
                     const float *b, size_t b_row, size_t M, size_t N, size_t K, bool add)
{
    size_t j = 0;
    for (; j + 2 * SIMD_WIDTH <= N; j += 2 * SIMD_WIDTH)
        multiply_columns(c + j, c_row, a, a_row, a_col, b + j, b_row, M, K, add, 2 * SIMD_WIDTH);
    for (; j + SIMD_WIDTH <= N; j += SIMD_WIDTH)
        multiply_columns(c + j, c_row, a, a_row, a_col, b + j, b_row, M, K, add, SIMD_WIDTH);
    for (; j + 4 <= N; j += 4)
        multiply_columns(c + j, c_row, a, a_row, a_col, b + j, b_row, M, K, add, 4);
    for (; j < N; j++) multiply_columns(c + j, c_row, a, a_row, a_col, b + j, b_row, M, K, add, 1);
}

static void score_softmax(float *scores, float *inverse, float *lse, float factor, size_t lanes,
                          size_t keys)
{
    for (size_t first = 0; first < lanes; first += SIMD_WIDTH) {
        float shift[SIMD_WIDTH], sum[SIMD_WIDTH];
        for (size_t l = 0; l < SIMD_WIDTH; l++) {
            shift[l] = -INFINITY;
            sum[l] = 0.0f;
        }
        for (size_t j = 0; j < keys; j++) {
            const float *s_j = scores + j * DUO_LANES + first;
#pragma omp simd
            for (size_t l = 0; l < SIMD_WIDTH; l++)
                shift[l] = s_j[l] > shift[l] ? s_j[l] : shift[l];
        }
#pragma omp simd
        for (size_t l = 0; l < SIMD_WIDTH; l++) shift[l] *= factor;
        for (size_t j = 0; j < keys; j++) {
            float *s_j = scores + j * DUO_LANES + first;
#pragma omp simd
            for (size_t l = 0; l < SIMD_WIDTH; l++) {
                s_j[l] = duo_expf(DUO_FMA(factor, s_j[l], -shift[l]));
                sum[l] += s_j[l];
            }
        }
#pragma omp simd
        for (size_t l = 0; l < SIMD_WIDTH; l++) {
            inverse[first + l] = 1.0f / sum[l];
            lse[first + l] = shift[l] + duo_logf(sum[l]);
        }
    }
}

static void score_gradient(float *p, float *dp, const float *lse, const float *delta, float factor,
                           size_t keys)
{
    for (size_t j = 0; j < keys; j++) {
        float *p_j = p + j * DUO_LANES, *dp_j = dp + j * DUO_LANES;
#pragma omp simd
        for (size_t l = 0; l < DUO_LANES; l++) {
            p_j[l] = duo_expf(DUO_FMA(factor, p_j[l], -lse[l]));
            dp_j[l] = factor * p_j[l] * (dp_j[l] - delta[l]);
        }
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
                             .multiply = multiply,
                             .score_softmax = score_softmax,
                             .score_gradient = score_gradient};
