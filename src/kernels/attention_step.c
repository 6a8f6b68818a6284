#include <assert.h>
#include <omp.h>

#include "attention_blocks.h"
#include "duo/sizes.h"
#include "span.h"

/* One position of many nodes, on the blocks of scores that attention_fp32.c tells of. */

enum {
    STEP_NODES = 48, /* nodes of one place that a thread takes at once */
    STEP_HEADS = 32, /* heads of a lone node whose caches are walked together */
    LINE = 16        /* floats of a cache line */
};

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
    rows->score_softmax(scores, inverse, lse, duo_attention_scale(D), length + 1, count, all);
    rows->sum_over_keys(out, D, scores, s.v_cache + cache, row, NULL, count, D, length, all, false);
    for (size_t l = 0; l < count; l++) {
        const float *own_value = s.v + (k[l] - s.k);
        rows->add_scaled(out + l * D, own_value, own_scores[l], D);
        rows->scale(s.y + (q[l] - s.q), out + l * D, inverse[l], D);
    }
}

/* The rows after j .. j + DUO_LANES: a head's lie apart, and no processor foresees them. Into the
 * second-level cache: fetched into the first they come a third slower. */
static void fetch_next(const float *x, size_t row, size_t j, size_t length, size_t D)
{
    const size_t end = duo_min(j + 2 * DUO_LANES, length);
    for (size_t r = j + DUO_LANES; r < end; r++)
        for (size_t d = 0; d < D; d += LINE) __builtin_prefetch(x + r * row + d, 0, 2);
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
            fetch_next(s.k_cache + cache + i * D, row, j, length, D);
            duo_fill_lanes(lanes, s.k_cache + cache + j * row + i * D, row, keys, D);
            rows->scores(scores + i * width + j, s.q + own + i * D, D, lanes, 1, keys, D, 1);
        }
    }
    for (size_t i = 0; i < heads; i++) {
        float *p = scores + i * width;
        duo_fill_lanes(lanes, s.k + own + i * D, D, 1, D);
        rows->scores(p + length, s.q + own + i * D, D, lanes, 1, 1, D, 1);
        const float max = rows->max(p, length + 1);
        for (size_t j = 0; j <= length; j++) p[j] -= max;
        rows->exp_scale(p, p, duo_attention_scale(D), 0.0f, 1.0f, length + 1);
    }
    for (size_t j = 0; j < length; j += DUO_LANES) {
        const size_t keys = length - j < DUO_LANES ? length - j : DUO_LANES;
        for (size_t i = 0; i < heads; i++) {
            fetch_next(s.v_cache + cache + i * D, row, j, length, D);
            sum[i] =
                rows->add_weighted_rows(s.y + own + i * D, scores + i * width + j, sum[i],
                                        s.v_cache + cache + j * row + i * D, row, keys, D, j > 0);
        }
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
    const duo_span span = duo_span_begin();
    for (size_t n = 0; n < N; n++) seen += positions[n];
    const bool serial = 2 * seen * H * D < DUO_SERIAL_WORK;
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
    duo_span_end(span, "attention step", 0, 0, 4 * (double)(H * D) * (double)(seen + N));
}
