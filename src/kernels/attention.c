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
    FETCH_MOST = 32 * 1024, /* floats of a head's array, of which the next head's fit beside it */
    STEP_NODES = 48,        /* nodes of one place that a thread takes at once */
    STEP_HEADS = 32,        /* heads of a lone node whose caches are walked together */
    SERIAL_WORK = 64 * 1024 /* multiply-adds that are not worth waking threads */
};

static float score_scale(size_t D)
{
    return 1.0f / sqrtf((float)D);
}

/* Rows of a strided array as the lanes of a block. */
static void fill_lanes(float *lanes, const float *x, size_t row, size_t n, size_t D)
{
    const float *rows[DUO_LANES] = {0};
    for (size_t l = 0; l < n; l++) rows[l] = x + l * row;
    duo_rows->set_lanes(lanes, rows, n, D);
}

/* Keys and values of a head and their gradients, rows of queries, lanes of queries, scores. */
static size_t thread_scratch(duo_attention_shape s)
{
    const size_t scores = s.T > 2 * KEYS ? s.T : 2 * KEYS;
    return 4 * s.T * s.D + (5 * s.D + scores) * DUO_LANES;
}

size_t duo_attention_scratch(duo_attention_shape shape)
{
    return (size_t)duo_kernels_threads() * thread_scratch(shape);
}

/* to_n = from_n. A head's rows are neighbours in scratch: a row's distance in an array of all heads
 * is often a power of two, whose multiples share few places of a cache. */
static void copy_rows(float *to, size_t to_row, const float *from, size_t from_row, size_t n,
                      size_t D)
{
    for (size_t i = 0; i < n; i++) memcpy(to + i * to_row, from + i * from_row, D * sizeof *to);
}

/* Rows that are needed soon. They are short and far apart: no processor foresees them. */
static void fetch_rows(const float *x, size_t row, size_t n, size_t D)
{
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < D; d += 16) __builtin_prefetch(x + i * row + d, 0, 2);
}

/* Where in arrays (B, T, heads, D) the head of that number begins. */
static size_t head_at(size_t number, size_t heads, size_t T, size_t D)
{
    return (number / heads * T * heads + number % heads) * D;
}

/* y_t = sum_j p_tj v_j,  p_tj = exp(scale q_t k_j - lse_t), for the queries t0 .. t0 + n. k and v
 * are those of one head alone. */
static void forward_block(float *y, float *lse, const float *q, const float *k, const float *v,
                          duo_attention_shape s, size_t t0, float *scratch)
{
    const size_t n = s.T - t0 < DUO_LANES ? s.T - t0 : DUO_LANES, keys = t0 + n;
    const size_t q_row = s.H * s.D;
    const ptrdiff_t first = (ptrdiff_t)t0;
    float *queries = scratch, *scores = queries + s.D * DUO_LANES;
    float inverse[DUO_LANES], lane_lse[DUO_LANES];

    fill_lanes(queries, q + t0 * q_row, q_row, n, s.D);
    duo_rows->scores(scores, k, s.D, queries, keys, n, s.D, first);
    duo_rows->score_softmax(scores, inverse, lane_lse, score_scale(s.D), keys, n, first);
    duo_rows->sum_over_keys(y + t0 * q_row, q_row, scores, v, s.D, inverse, n, s.D, keys, first,
                            false);
    for (size_t l = 0; l < n; l++) lse[(t0 + l) * s.H] = lane_lse[l];
}

void duo_attention_forward(float *y, float *lse, const float *q, const float *k, const float *v,
                           duo_attention_shape shape, float *scratch)
{
    const duo_attention_shape s = shape;
    assert(s.H % s.Hkv == 0);
    const size_t group = s.H / s.Hkv, kv_row = s.Hkv * s.D;
    const size_t blocks = (s.T + DUO_LANES - 1) / DUO_LANES;
    const bool serial = s.B * s.H * s.T * s.T * s.D < SERIAL_WORK;
    /* A part is every parts-th block of a head: as many as keep all threads busy to the end. */
    const size_t wanted = (size_t)duo_kernels_threads() * 4 / (s.B * s.H) + 1;
    const size_t parts = wanted < blocks ? wanted : blocks;
#pragma omp parallel for collapse(3) schedule(static)                                              \
    num_threads(duo_kernels_threads()) if (!serial)
    for (size_t b = 0; b < s.B; b++)
        for (size_t h = 0; h < s.H; h++)
            for (size_t part = 0; part < parts; part++) {
                const size_t lse_at = b * s.T * s.H + h, at = lse_at * s.D;
                const size_t next = b * s.H + h + 1, next_at = head_at(next, s.H, s.T, s.D);
                const size_t kv_at = head_at((next - 1) / group, s.Hkv, s.T, s.D);
                const size_t next_kv_at = head_at(next / group, s.Hkv, s.T, s.D);
                const bool fetch = next < s.B * s.H && parts == 1 && s.T * s.D <= FETCH_MOST;
                float *keys = scratch + (size_t)omp_get_thread_num() * thread_scratch(s);
                float *values = keys + s.T * s.D, *own = values + s.T * s.D;
                copy_rows(keys, s.D, k + kv_at, kv_row, s.T, s.D);
                copy_rows(values, s.D, v + kv_at, kv_row, s.T, s.D);
                for (size_t t = part * DUO_LANES; t < s.T; t += parts * DUO_LANES) {
                    const size_t n = s.T - t < DUO_LANES ? s.T - t : DUO_LANES;
                    if (fetch) fetch_rows(q + next_at + t * s.H * s.D, s.H * s.D, n, s.D);
                    if (fetch && next % group == 0) {
                        fetch_rows(k + next_kv_at + t * kv_row, kv_row, n, s.D);
                        fetch_rows(v + next_kv_at + t * kv_row, kv_row, n, s.D);
                    }
                    forward_block(y + at, lse + lse_at, q + at, keys, values, s, t, own);
                }
            }
}

/* A head of keys and values by itself, and the sums of its gradients. */
typedef struct head {
    float *k, *v, *dk, *dv;
} head;

/*
 * With dp_tj = dy_t v_j and delta_t = sum_j p_tj dp_tj = dy_t y_t:
 * ds_tj = scale p_tj (dp_tj - delta_t),  dq_t = sum_j ds_tj k_j,  dk_j += ds_tj q_t,
 * dv_j += p_tj dy_t, for the queries t0 .. t0 + n.
 */
static void backward_block(float *dq, head kv, const float *dy, const float *q, const float *y,
                           const float *lse, duo_attention_shape s, size_t t0, float *scratch)
{
    const duo_simd *rows = duo_rows;
    const size_t n = s.T - t0 < DUO_LANES ? s.T - t0 : DUO_LANES;
    const size_t D = s.D, q_row = s.H * D, block = D * DUO_LANES;
    float *q_rows = scratch, *dy_rows = q_rows + block, *dq_rows = dy_rows + block;
    float *q_lanes = dq_rows + block, *dy_lanes = q_lanes + block;
    float *p = dy_lanes + block, *ds = p + KEYS * DUO_LANES;
    float lane_lse[DUO_LANES] = {0}, delta[DUO_LANES] = {0};

    copy_rows(q_rows, D, q + t0 * q_row, q_row, n, D);
    copy_rows(dy_rows, D, dy + t0 * q_row, q_row, n, D);
    fill_lanes(q_lanes, q_rows, D, n, D);
    fill_lanes(dy_lanes, dy_rows, D, n, D);
    fill_lanes(dq_rows, y + t0 * q_row, q_row, n, D);
    rows->lane_dots(delta, dq_rows, dy_lanes, n, D); /* in the order in which dp is summed */
    for (size_t l = 0; l < n; l++) lane_lse[l] = lse[(t0 + l) * s.H];
    for (size_t j = 0; j < t0 + n; j += KEYS) {
        const size_t keys = t0 + n - j < KEYS ? t0 + n - j : KEYS, at = j * D;
        const ptrdiff_t first = (ptrdiff_t)t0 - (ptrdiff_t)j;
        rows->scores(p, kv.k + at, D, q_lanes, keys, n, D, first);
        rows->scores(ds, kv.v + at, D, dy_lanes, keys, n, D, first);
        rows->score_gradient(p, ds, lane_lse, delta, score_scale(D), keys, n, first);
        rows->add_over_lanes(kv.dv + at, D, p, dy_rows, D, n, D, keys, first);
        rows->add_over_lanes(kv.dk + at, D, ds, q_rows, D, n, D, keys, first);
        rows->sum_over_keys(dq_rows, D, ds, kv.k + at, D, NULL, n, D, keys, first, j > 0);
    }
    copy_rows(dq + t0 * q_row, q_row, dq_rows, D, n, D);
}

/* A thread owns a head of keys and values, hence all that is added to its dk and dv, in order. */
void duo_attention_backward(float *dq, float *dk, float *dv, const float *dy, const float *q,
                            const float *k, const float *v, const float *y, const float *lse,
                            duo_attention_shape shape, float *scratch)
{
    const duo_attention_shape s = shape;
    assert(s.H % s.Hkv == 0);
    const size_t group = s.H / s.Hkv, q_row = s.H * s.D, kv_row = s.Hkv * s.D;
    const size_t size = s.T * s.D;
    const bool serial = s.B * s.H * s.T * s.T * s.D < SERIAL_WORK;
#pragma omp parallel for collapse(2) schedule(static)                                              \
    num_threads(duo_kernels_threads()) if (!serial)
    for (size_t b = 0; b < s.B; b++)
        for (size_t kv = 0; kv < s.Hkv; kv++) {
            float *own = scratch + (size_t)omp_get_thread_num() * thread_scratch(s);
            const size_t kv_at = (b * s.T * s.Hkv + kv) * s.D;
            const head sums = {own, own + size, own + 2 * size, own + 3 * size};
            copy_rows(sums.k, s.D, k + kv_at, kv_row, s.T, s.D);
            copy_rows(sums.v, s.D, v + kv_at, kv_row, s.T, s.D);
            memset(sums.dk, 0, 2 * size * sizeof *own);
            for (size_t h = kv * group; h < (kv + 1) * group; h++) {
                const size_t lse_at = b * s.T * s.H + h, at = lse_at * s.D;
                const size_t next = b * s.H + h + 1, next_at = head_at(next, s.H, s.T, s.D);
                const size_t next_kv_at = head_at(next / group, s.Hkv, s.T, s.D);
                const bool fetch = next < s.B * s.H && size <= FETCH_MOST;
                for (size_t t = 0; t < s.T; t += DUO_LANES) {
                    const size_t n = s.T - t < DUO_LANES ? s.T - t : DUO_LANES;
                    const size_t rows_at = next_at + t * q_row;
                    if (fetch) {
                        fetch_rows(q + rows_at, q_row, n, s.D);
                        fetch_rows(dy + rows_at, q_row, n, s.D);
                        fetch_rows(y + rows_at, q_row, n, s.D);
                    }
                    if (fetch && next % group == 0) {
                        fetch_rows(k + next_kv_at + t * kv_row, kv_row, n, s.D);
                        fetch_rows(v + next_kv_at + t * kv_row, kv_row, n, s.D);
                    }
                    backward_block(dq + at, sums, dy + at, q + at, y + at, lse + lse_at, s, t,
                                   own + 4 * size);
                }
            }
            copy_rows(dk + kv_at, kv_row, sums.dk, s.D, s.T, s.D);
            copy_rows(dv + kv_at, kv_row, sums.dv, s.D, s.T, s.D);
        }
}

static size_t step_thread_scratch(size_t max_T, size_t D)
{
    return (3 * D + max_T + DUO_LANES) * DUO_LANES;
}

size_t duo_attention_step_scratch(size_t max_T, size_t D)
{
    return (size_t)duo_kernels_threads() * step_thread_scratch(max_T, D);
}

/* The arguments of a step. */
typedef struct step {
    float *y;
    const float *q, *k, *v, *k_cache, *v_cache;
    size_t max_T, H, Hkv, D;
} step;

/*
 * The nodes first .. first + n of one place at one head of keys and values, as lanes: queries
 * i .. i + count of the n * H/Hkv that share it. The node's own key comes behind the cached ones.
 */
static void step_lanes(step s, size_t sequence, size_t length, size_t first, size_t kv, size_t i,
                       size_t count, float *scratch)
{
    const duo_simd *rows = duo_rows;
    const size_t D = s.D, row = s.Hkv * D, group = s.H / s.Hkv;
    const size_t cache = (sequence * s.max_T * s.Hkv + kv) * D;
    const ptrdiff_t all = (ptrdiff_t)s.max_T + 1; /* every lane sees every key */
    float *queries = scratch, *own_keys = queries + D * DUO_LANES;
    float *out = own_keys + D * DUO_LANES, *scores = out + D * DUO_LANES;
    float *own_scores = scores + length * DUO_LANES, inverse[DUO_LANES], lse[DUO_LANES];
    const float *q[DUO_LANES] = {0}, *k[DUO_LANES] = {0};

    for (size_t l = 0; l < count; l++) {
        const size_t node = first + (i + l) / group, h = kv * group + (i + l) % group;
        q[l] = s.q + (node * s.H + h) * D;
        k[l] = s.k + (node * s.Hkv + kv) * D;
    }
    rows->set_lanes(queries, q, count, D);
    rows->set_lanes(own_keys, k, count, D);
    rows->scores(scores, s.k_cache + cache, row, queries, length, count, D, all);
    rows->lane_dots(own_scores, own_keys, queries, count, D);
    rows->score_softmax(scores, inverse, lse, score_scale(D), length + 1, count, all);
    rows->sum_over_keys(out, D, scores, s.v_cache + cache, row, NULL, count, D, length, all, false);
    for (size_t l = 0; l < count; l++) {
        const float *own_value = s.v + (k[l] - s.k);
        rows->add_scaled(out + l * D, own_value, own_scores[l], D);
        rows->scale(s.y + (q[l] - s.q), out + l * D, inverse[l], D);
    }
}

/*
 * A lone node, a query a head: the keys become the lanes, and the caches are walked once, all
 * heads h .. h + heads of a position together. The sums are those of step_lanes, in its order.
 */
static void step_alone(step s, size_t sequence, size_t length, size_t node, size_t h, size_t heads,
                       float *scratch)
{
    const duo_simd *rows = duo_rows;
    const size_t D = s.D, row = s.Hkv * D, width = length + DUO_LANES;
    const size_t cache = (sequence * s.max_T * s.Hkv + h) * D, own = (node * s.H + h) * D;
    float *lanes = scratch, *scores = lanes + D * DUO_LANES, sum[STEP_HEADS] = {0};

    for (size_t j = 0; j < length; j += DUO_LANES) {
        const size_t keys = length - j < DUO_LANES ? length - j : DUO_LANES;
        for (size_t i = 0; i < heads; i++) {
            fill_lanes(lanes, s.k_cache + cache + j * row + i * D, row, keys, D);
            rows->scores(scores + i * width + j, s.q + own + i * D, D, lanes, 1, keys, D, 1);
        }
    }
    for (size_t i = 0; i < heads; i++) {
        float *p = scores + i * width;
        fill_lanes(lanes, s.k + own + i * D, D, 1, D);
        rows->scores(p + length, s.q + own + i * D, D, lanes, 1, 1, D, 1);
        const float scale = score_scale(D), max = scale * rows->max(p, length + 1);
        rows->exp_scale(p, p, scale, max, 1.0f, length + 1);
    }
    for (size_t j = 0; j < length; j += DUO_LANES) {
        const size_t keys = length - j < DUO_LANES ? length - j : DUO_LANES;
        for (size_t i = 0; i < heads; i++)
            sum[i] =
                rows->add_weighted_rows(s.y + own + i * D, scores + i * width + j, sum[i],
                                        s.v_cache + cache + j * row + i * D, row, keys, D, j > 0);
    }
    for (size_t i = 0; i < heads; i++) {
        float *y = s.y + own + i * D, *p = scores + i * width + length;
        sum[i] = rows->add_weighted_rows(y, p, sum[i], s.v + own + i * D, D, 1, D, length > 0);
        rows->scale(y, y, 1.0f / sum[i], D);
    }
}

void duo_attention_step(float *y, const float *q, const float *k, const float *v,
                        const float *k_cache, const float *v_cache, const uint32_t *sequences,
                        const uint32_t *positions, size_t N, size_t max_T, size_t H, size_t Hkv,
                        size_t D, float *scratch)
{
    assert(H % Hkv == 0);
    const step s = {y, q, k, v, k_cache, v_cache, max_T, H, Hkv, D};
    const size_t group = H / Hkv;
    size_t seen = 0;
    for (size_t n = 0; n < N; n++) seen += positions[n];
    const bool serial = 2 * seen * H * D < SERIAL_WORK;
#pragma omp parallel num_threads(duo_kernels_threads()) if (!serial)
    {
        const size_t mine = (size_t)omp_get_thread_num(), team = (size_t)omp_get_num_threads();
        const size_t share = (Hkv + team - 1) / team;
        const size_t heads = share < STEP_HEADS ? share : STEP_HEADS;
        float *own = scratch + mine * step_thread_scratch(max_T, D);
        size_t unit = 0;
        for (size_t first = 0, end; first < N; first = end) {
            const size_t sequence = sequences[first], length = positions[first];
            end = first + 1;
            while (end < N && end - first < STEP_NODES && sequences[end] == sequence &&
                   positions[end] == length)
                end++;
            assert(length <= max_T);
            const size_t queries = (end - first) * group;
            for (size_t kv = 0; kv < Hkv; kv += heads) {
                if (unit++ % team != mine) continue;
                const size_t last = kv + heads < Hkv ? kv + heads : Hkv;
                if (queries == 1) {
                    step_alone(s, sequence, length, first, kv, last - kv, own);
                    continue;
                }
                for (size_t h = kv; h < last; h++)
                    for (size_t i = 0; i < queries; i += DUO_LANES)
                        step_lanes(s, sequence, length, first, h, i,
                                   queries - i < DUO_LANES ? queries - i : DUO_LANES, own);
            }
        }
    }
}
