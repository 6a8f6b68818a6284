#include <assert.h>
#include <omp.h>

#include "attention_blocks.h"
#include "duo/sizes.h"
#include "span.h"

/* One position of many nodes, on the blocks of scores that attention_fp32.c tells of. */

enum {
    STEP_NODES = 48,       /* nodes of one place that a thread takes at once */
    ALONE_QUERIES = 32,    /* of a lone node that walk over a cache together, at most, */
    ALONE_CHANNELS = 1024, /* and the channels of their keys, where a head has no more */
    LINE = 16              /* floats of a cache line */
};

/* Heads of keys, of which each serves `group` queries; 0: too many. */
static size_t alone_heads(size_t D, size_t group)
{
    return duo_min(ALONE_QUERIES / group, duo_max(1, ALONE_CHANNELS / D));
}

static size_t step_thread_scratch(size_t max_T, size_t D)
{
    const size_t lanes = (3 * D + max_T + DUO_LANES) * DUO_LANES;
    const size_t alone = 2 * D * DUO_LANES + ALONE_QUERIES * (max_T + DUO_LANES);
    return duo_max(lanes, alone);
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

/* Bring rows of a cache near, from end to end: a processor foresees that walk through memory, but
 * not one by heads, which are short and lie apart. Adding up keeps it from asking for so many lines
 * at once that its foresight has no room. */
static void touch_rows(const float *x, size_t row, size_t n, size_t channels)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < channels; d += LINE) sum += x[i * row + d];
    const volatile float wanted = sum;
    (void)wanted;
}

/*
 * A lone node: the keys become the lanes, and the caches are walked once, the heads kv .. kv +
 * heads of a position together. The sums are those of step_lanes, in its order.
 */
static void step_alone(step s, size_t sequence, size_t length, size_t node, size_t kv, size_t heads,
                       float *scratch)
{
    const duo_simd *rows = duo_rows;
    const size_t D = s.D, row = s.Hkv * D, group = s.H / s.Hkv, queries = heads * group;
    const size_t cache = (sequence * s.max_T * s.Hkv + kv) * D, width = length + DUO_LANES;
    const float *q = s.q + (node * s.H + kv * group) * D;
    const float *own_k = s.k + (node * s.Hkv + kv) * D, *own_v = s.v + (node * s.Hkv + kv) * D;
    const float *own_keys[DUO_LANES];
    float *y = s.y + (q - s.q), *lanes = scratch, *own_lanes = lanes + D * DUO_LANES;
    float *scores = own_lanes + D * DUO_LANES, own_scores[DUO_LANES], sum[ALONE_QUERIES] = {0};

    for (size_t j = 0; j < length; j += DUO_LANES) {
        const size_t n = duo_min(DUO_LANES, length - j);
        const float *keys = s.k_cache + cache + j * row;
        touch_rows(keys, row, n, heads * D);
        for (size_t i = 0; i < queries; i++) {
            if (i % group == 0) duo_fill_lanes(lanes, keys + i / group * D, row, n, D);
            rows->scores(scores + i * width + j, q + i * D, D, lanes, 1, n, D, 1);
        }
    }
    for (size_t l = 0; l < DUO_LANES; l++) own_keys[l] = own_k + (l < queries ? l / group : 0) * D;
    rows->set_lanes(own_lanes, own_keys, queries, D);
    duo_fill_lanes(lanes, q, D, queries, D);
    rows->lane_dots(own_scores, own_lanes, lanes, queries, D);
    for (size_t i = 0; i < queries; i++) {
        float *p = scores + i * width;
        p[length] = own_scores[i];
        const float max = rows->max(p, length + 1);
        for (size_t j = 0; j <= length; j++) p[j] -= max;
        rows->exp_scale(p, p, duo_attention_scale(D), 0.0f, 1.0f, length + 1);
    }
    for (size_t j = 0; j < length; j += DUO_LANES) {
        const size_t n = duo_min(DUO_LANES, length - j);
        const float *values = s.v_cache + cache + j * row;
        touch_rows(values, row, n, heads * D);
        for (size_t i = 0; i < queries; i++)
            sum[i] = rows->add_weighted_rows(y + i * D, scores + i * width + j, sum[i],
                                             values + i / group * D, row, n, D, j > 0);
    }
    for (size_t i = 0; i < queries; i++) {
        sum[i] = rows->add_weighted_rows(y + i * D, scores + i * width + length, sum[i],
                                         own_v + i / group * D, D, 1, D, length > 0);
        rows->scale(y + i * D, y + i * D, 1.0f / sum[i], D);
    }
}

/* Behind the last of the nodes from `first` on that stand at its place: no more than a thread takes
 * at once. */
static size_t end_of_place(const uint32_t *sequences, const uint32_t *positions, size_t first,
                           size_t N)
{
    size_t end = first + 1;
    while (end < N && end - first < STEP_NODES && sequences[end] == sequences[first] &&
           positions[end] == positions[first])
        end++;
    return end;
}

void duo_attention_step(float *y, const float *q, const float *k, const float *v,
                        const float *k_cache, const float *v_cache, const uint32_t *sequences,
                        const uint32_t *positions, size_t N, size_t max_T, size_t H, size_t Hkv,
                        size_t D, float *scratch)
{
    assert(H % Hkv == 0);
    const step s = {y, q, k, v, k_cache, v_cache, max_T, H, Hkv, D};
    const size_t group = H / Hkv, threads = (size_t)duo_kernels_threads();
    size_t seen = 0, places = 0, most = 0;
    const duo_span span = duo_span_begin();
    for (size_t n = 0, end; n < N; n = end, places++) {
        end = end_of_place(sequences, positions, n, N);
        seen += (end - n) * positions[n];
        most = duo_max(most, (end - n) * positions[n]);
    }
    const bool serial = 2 * seen * H * D < DUO_SERIAL_WORK;
    /* Threads share the heads of each place, unless there are enough places, and alike, to share
     * those: a cache is then walked from end to end. */
    const bool even = places % threads == 0 || places >= 4 * threads;
    const bool whole = even && most * places <= seen + seen / 4;
    const size_t alone = alone_heads(D, group), shared = whole ? Hkv : duo_divide_up(Hkv, threads);
    const size_t heads = duo_min(duo_max(1, alone), shared);
#pragma omp parallel num_threads(threads) if (!serial)
    {
        const size_t mine = (size_t)omp_get_thread_num(), team = (size_t)omp_get_num_threads();
        float *own = scratch + mine * step_thread_scratch(max_T, D);
        size_t unit = 0;
        for (size_t first = 0, end; first < N; first = end) {
            const size_t sequence = sequences[first], length = positions[first];
            end = end_of_place(sequences, positions, first, N);
            assert(length <= max_T);
            const size_t nodes = end - first, queries = nodes * group;
            for (size_t kv = 0; kv < Hkv; kv += heads) {
                if (unit++ % team != mine) continue;
                const size_t last = duo_min(kv + heads, Hkv);
                if (nodes == 1 && alone > 0) {
                    step_alone(s, sequence, length, first, kv, last - kv, own);
                    continue;
                }
                for (size_t h = kv; h < last; h++)
                    for (size_t i = 0; i < queries; i += DUO_LANES)
                        step_lanes(s, sequence, length, first, h, i,
                                   duo_min(DUO_LANES, queries - i), own);
            }
        }
    }
    duo_span_end(span, "attention step", 0, 0, 4 * (double)(H * D) * (double)(seen + N));
}
