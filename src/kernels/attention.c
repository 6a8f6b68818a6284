#include <assert.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include "simd.h"

/*
 * Scores of a block of queries lie as (keys, DUO_LANES): one query per lane, so that keys and
 * values are read where they are and the softmax of a query never leaves its lane. A product sums
 * in the order of positions or of channels whatever is computed beside it, hence a query's bits
 * do not depend on its block.
 */

enum {
    KEYS = 64,              /* keys of a block of backward: its scores stay in the L1 cache */
    STEP_NODES = 64,        /* nodes of one place that a thread takes at once */
    SERIAL_WORK = 64 * 1024 /* multiply-adds that are not worth waking threads */
};

static float score_scale(size_t D)
{
    return 1.0f / sqrtf((float)D);
}

/* Lanes to compute for n queries; bits of a query do not depend on it. */
static size_t lanes_for(size_t n)
{
    return n <= DUO_LANES / 2 ? DUO_LANES / 2 : DUO_LANES;
}

static void set_lane(float *lanes, size_t l, const float *x, size_t D)
{
    for (size_t d = 0; d < D; d++) lanes[d * DUO_LANES + l] = x[d];
}

/* lanes[d][l] = x[l * row + d], 0 for l >= n. */
static void fill_lanes(float *lanes, const float *x, size_t row, size_t n, size_t D)
{
    if (n < DUO_LANES) memset(lanes, 0, D * DUO_LANES * sizeof *lanes);
    for (size_t l = 0; l < n; l++) set_lane(lanes, l, x + l * row, D);
}

/* Keys j0 .. j0 + keys are hidden from the queries t0 + l before them. */
static void hide_future(float *scores, size_t j0, size_t keys, size_t t0)
{
    for (size_t j = j0 > t0 ? j0 : t0 + 1; j < j0 + keys; j++)
        for (size_t l = 0; l < j - t0; l++) scores[(j - j0) * DUO_LANES + l] = -INFINITY;
}

static size_t thread_scratch(duo_attention_shape s)
{
    const size_t scores = s.T > 2 * KEYS ? s.T : 2 * KEYS;
    return (2 * s.D + scores) * DUO_LANES;
}

size_t duo_attention_scratch(duo_attention_shape shape)
{
    return (size_t)duo_kernels_threads() * thread_scratch(shape);
}

/* y_t = sum_j p_tj v_j,  p_tj = exp(scale q_t k_j - lse_t), for the queries t0 .. t0 + n. */
static void forward_block(float *y, float *lse, const float *q, const float *k, const float *v,
                          duo_attention_shape s, size_t t0, float *scratch)
{
    const size_t n = s.T - t0 < DUO_LANES ? s.T - t0 : DUO_LANES, keys = t0 + n;
    const size_t q_row = s.H * s.D, k_row = s.Hkv * s.D;
    float *queries = scratch, *scores = queries + s.D * DUO_LANES;
    float inverse[DUO_LANES], lane_lse[DUO_LANES];

    fill_lanes(queries, q + t0 * q_row, q_row, n, s.D);
    duo_rows->multiply(scores, DUO_LANES, k, k_row, 1, queries, DUO_LANES, keys, lanes_for(n), s.D,
                       false);
    hide_future(scores, 0, keys, t0);
    duo_rows->score_softmax(scores, inverse, lane_lse, score_scale(s.D), lanes_for(n), keys);
    duo_rows->multiply(y + t0 * q_row, q_row, scores, 1, DUO_LANES, v, k_row, n, s.D, keys, false);
    for (size_t l = 0; l < n; l++) {
        float *y_t = y + (t0 + l) * q_row;
        duo_rows->scale(y_t, y_t, inverse[l], s.D);
        lse[(t0 + l) * s.H] = lane_lse[l];
    }
}

void duo_attention_forward(float *y, float *lse, const float *q, const float *k, const float *v,
                           duo_attention_shape shape, float *scratch)
{
    const duo_attention_shape s = shape;
    assert(s.H % s.Hkv == 0);
    const size_t blocks = (s.T + DUO_LANES - 1) / DUO_LANES;
    const bool serial = s.B * s.H * s.T * s.T * s.D < SERIAL_WORK;
#pragma omp parallel for collapse(3) schedule(dynamic)                                             \
    num_threads(duo_kernels_threads()) if (!serial)
    for (size_t b = 0; b < s.B; b++)
        for (size_t h = 0; h < s.H; h++)
            for (size_t block = 0; block < blocks; block++) {
                const size_t at = (b * s.T * s.H + h) * s.D;
                const size_t kv_at = (b * s.T * s.Hkv + h * s.Hkv / s.H) * s.D;
                forward_block(y + at, lse + b * s.T * s.H + h, q + at, k + kv_at, v + kv_at, s,
                              block * DUO_LANES,
                              scratch + (size_t)omp_get_thread_num() * thread_scratch(s));
            }
}

/*
 * With dp_tj = dy_t v_j and delta_t = sum_j p_tj dp_tj = dy_t y_t:
 * ds_tj = scale p_tj (dp_tj - delta_t),  dq_t = sum_j ds_tj k_j,  dk_j += ds_tj q_t,
 * dv_j += p_tj dy_t, for the queries t0 .. t0 + n.
 */
static void backward_block(float *dq, float *dk, float *dv, const float *dy, const float *q,
                           const float *k, const float *v, const float *y, const float *lse,
                           duo_attention_shape s, size_t t0, float *scratch)
{
    const duo_simd *rows = duo_rows;
    const size_t n = s.T - t0 < DUO_LANES ? s.T - t0 : DUO_LANES;
    const size_t q_row = s.H * s.D, k_row = s.Hkv * s.D;
    const float *q_0 = q + t0 * q_row, *dy_0 = dy + t0 * q_row;
    float *q_lanes = scratch, *dy_lanes = q_lanes + s.D * DUO_LANES;
    float *p = dy_lanes + s.D * DUO_LANES, *ds = p + KEYS * DUO_LANES;
    float lane_lse[DUO_LANES] = {0}, delta[DUO_LANES] = {0};

    fill_lanes(q_lanes, q_0, q_row, n, s.D);
    fill_lanes(dy_lanes, dy_0, q_row, n, s.D);
    for (size_t l = 0; l < n; l++) {
        lane_lse[l] = lse[(t0 + l) * s.H];
        delta[l] = rows->dot(dy_0 + l * q_row, y + (t0 + l) * q_row, s.D);
    }
    for (size_t j = 0; j < t0 + n; j += KEYS) {
        const size_t keys = t0 + n - j < KEYS ? t0 + n - j : KEYS, at = j * k_row;
        rows->multiply(p, DUO_LANES, k + at, k_row, 1, q_lanes, DUO_LANES, keys, DUO_LANES, s.D,
                       false);
        hide_future(p, j, keys, t0);
        rows->multiply(ds, DUO_LANES, v + at, k_row, 1, dy_lanes, DUO_LANES, keys, DUO_LANES, s.D,
                       false);
        rows->score_gradient(p, ds, lane_lse, delta, score_scale(s.D), keys);
        rows->multiply(dv + at, k_row, p, DUO_LANES, 1, dy_0, q_row, keys, s.D, n, true);
        rows->multiply(dk + at, k_row, ds, DUO_LANES, 1, q_0, q_row, keys, s.D, n, true);
        rows->multiply(dq + t0 * q_row, q_row, ds, 1, DUO_LANES, k + at, k_row, n, s.D, keys,
                       j > 0);
    }
}

/* A thread owns a head of keys and values, hence all that is added to its dk and dv, in order. */
void duo_attention_backward(float *dq, float *dk, float *dv, const float *dy, const float *q,
                            const float *k, const float *v, const float *y, const float *lse,
                            duo_attention_shape shape, float *scratch)
{
    const duo_attention_shape s = shape;
    assert(s.H % s.Hkv == 0);
    const size_t group = s.H / s.Hkv;
    const bool serial = s.B * s.H * s.T * s.T * s.D < SERIAL_WORK;
#pragma omp parallel for collapse(2) schedule(dynamic)                                             \
    num_threads(duo_kernels_threads()) if (!serial)
    for (size_t b = 0; b < s.B; b++)
        for (size_t kv = 0; kv < s.Hkv; kv++) {
            float *own = scratch + (size_t)omp_get_thread_num() * thread_scratch(s);
            const size_t kv_at = (b * s.T * s.Hkv + kv) * s.D;
            for (size_t t = 0; t < s.T; t++) {
                memset(dk + kv_at + t * s.Hkv * s.D, 0, s.D * sizeof *dk);
                memset(dv + kv_at + t * s.Hkv * s.D, 0, s.D * sizeof *dv);
            }
            for (size_t h = kv * group; h < (kv + 1) * group; h++) {
                const size_t lse_at = b * s.T * s.H + h, at = lse_at * s.D;
                for (size_t t = 0; t < s.T; t += DUO_LANES)
                    backward_block(dq + at, dk + kv_at, dv + kv_at, dy + at, q + at, k + kv_at,
                                   v + kv_at, y + at, lse + lse_at, s, t, own);
            }
        }
}

static size_t step_thread_scratch(size_t max_T, size_t D)
{
    return (2 * D + max_T + 1) * DUO_LANES;
}

size_t duo_attention_step_scratch(size_t max_T, size_t D)
{
    return (size_t)duo_kernels_threads() * step_thread_scratch(max_T, D);
}

/* What the nodes of one place share, at one head of keys and values. */
typedef struct step_head {
    const float *keys, *values; /* cached positions, row apart */
    size_t length, row, D;
} step_head;

/* n queries with their own key and value each, all of them given by the place of their node. */
static void step_lanes(float *const *y, const float *const *q, const float *const *own_key,
                       const float *const *own_value, size_t n, step_head head, float *scratch)
{
    const duo_simd *rows = duo_rows;
    const size_t D = head.D;
    float *queries = scratch, *out = queries + D * DUO_LANES, *scores = out + D * DUO_LANES;
    float *own_scores = scores + head.length * DUO_LANES;
    float inverse[DUO_LANES], lse[DUO_LANES];

    memset(queries, 0, D * DUO_LANES * sizeof *queries);
    memset(own_scores, 0, DUO_LANES * sizeof *own_scores);
    for (size_t l = 0; l < n; l++) {
        set_lane(queries, l, q[l], D);
        rows->multiply(own_scores + l, 1, own_key[l], D, 1, q[l], 1, 1, 1, D, false);
    }
    rows->multiply(scores, DUO_LANES, head.keys, head.row, 1, queries, DUO_LANES, head.length,
                   lanes_for(n), D, false);
    rows->score_softmax(scores, inverse, lse, score_scale(D), lanes_for(n), head.length + 1);
    rows->multiply(out, D, scores, 1, DUO_LANES, head.values, head.row, n, D, head.length, false);
    for (size_t l = 0; l < n; l++) {
        rows->add_scaled(out + l * D, own_value[l], own_scores[l], D);
        rows->scale(y[l], out + l * D, inverse[l], D);
    }
}

void duo_attention_step(float *y, const float *q, const float *k, const float *v,
                        const float *k_cache, const float *v_cache, const uint32_t *sequences,
                        const uint32_t *positions, size_t N, size_t max_T, size_t H, size_t Hkv,
                        size_t D, float *scratch)
{
    assert(H % Hkv == 0);
    const size_t group = H / Hkv;
    size_t seen = 0;
    for (size_t n = 0; n < N; n++) seen += positions[n];
    const bool serial = 2 * seen * H * D < SERIAL_WORK;
#pragma omp parallel num_threads(duo_kernels_threads()) if (!serial)
    {
        const size_t mine = (size_t)omp_get_thread_num(), team = (size_t)omp_get_num_threads();
        float *own = scratch + mine * step_thread_scratch(max_T, D);
        size_t unit = 0;
        for (size_t first = 0, end; first < N; first = end) {
            const size_t sequence = sequences[first], length = positions[first];
            end = first + 1;
            while (end < N && end - first < STEP_NODES && sequences[end] == sequence &&
                   positions[end] == length)
                end++;
            assert(length <= max_T);
            for (size_t kv = 0; kv < Hkv; kv++) {
                if (unit++ % team != mine) continue;
                const size_t at = (sequence * max_T * Hkv + kv) * D;
                const step_head head = {k_cache + at, v_cache + at, length, Hkv * D, D};
                const size_t queries = (end - first) * group;
                for (size_t i = 0; i < queries; i += DUO_LANES) {
                    const float *q_l[DUO_LANES], *k_l[DUO_LANES], *v_l[DUO_LANES];
                    float *y_l[DUO_LANES];
                    const size_t n = queries - i < DUO_LANES ? queries - i : DUO_LANES;
                    for (size_t l = 0; l < n; l++) {
                        const size_t node = first + (i + l) / group;
                        const size_t h = kv * group + (i + l) % group;
                        q_l[l] = q + (node * H + h) * D;
                        y_l[l] = y + (node * H + h) * D;
                        k_l[l] = k + (node * Hkv + kv) * D;
                        v_l[l] = v + (node * Hkv + kv) * D;
                    }
                    step_lanes(y_l, q_l, k_l, v_l, n, head, own);
                }
            }
        }
    }
}
