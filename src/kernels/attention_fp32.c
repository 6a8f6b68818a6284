#include "attention_blocks.h"

/*
 * Scores of a block of queries lie as (keys, DUO_LANES): one query per lane, so that keys and
 * values are read where they are and the softmax of a query never leaves its lane. A product sums
 * in the order of positions or of channels whatever is computed beside it, hence a query's bits
 * do not depend on its block.
 */

enum { KEYS = 64 }; /* keys of a block of backward: its scores stay in the L1 cache */

/* A head of keys and values by itself, the sums of its gradients, and what a block needs. */
typedef struct head {
    float *k, *v, *dk, *dv, *own;
} head;

static head head_of(float *scratch, duo_attention_shape s)
{
    const size_t size = s.T * s.D;
    return (head){scratch, scratch + size, scratch + 2 * size, scratch + 3 * size,
                  scratch + 4 * size};
}

/* Keys, values and their gradients, rows of queries, lanes of queries, scores. */
static size_t thread_scratch(duo_attention_shape s)
{
    const size_t scores = s.T > 2 * KEYS ? s.T : 2 * KEYS;
    return 4 * s.T * s.D + (5 * s.D + scores) * DUO_LANES;
}

static void take_head(float *scratch, const float *k, const float *v, duo_attention_shape s,
                      bool backward)
{
    const head kv = head_of(scratch, s);
    const size_t row = s.Hkv * s.D;
    duo_copy_rows(kv.k, s.D, k, row, s.T, s.D);
    duo_copy_rows(kv.v, s.D, v, row, s.T, s.D);
    if (backward) memset(kv.dk, 0, 2 * s.T * s.D * sizeof *kv.dk);
}

static void forward(float *y, float *lse, const float *q, duo_attention_shape s, size_t t0,
                    float *scratch)
{
    const head kv = head_of(scratch, s);
    const size_t n = s.T - t0 < DUO_LANES ? s.T - t0 : DUO_LANES, keys = t0 + n;
    const size_t q_row = s.H * s.D;
    const ptrdiff_t first = (ptrdiff_t)t0;
    float *queries = kv.own, *scores = queries + s.D * DUO_LANES;
    float inverse[DUO_LANES], lane_lse[DUO_LANES];

    duo_fill_lanes(queries, q + t0 * q_row, q_row, n, s.D);
    duo_rows->scores(scores, kv.k, s.D, queries, keys, n, s.D, first);
    duo_rows->score_softmax(scores, inverse, lane_lse, duo_attention_scale(s.D), keys, n, first);
    duo_rows->sum_over_keys(y + t0 * q_row, q_row, scores, kv.v, s.D, inverse, n, s.D, keys, first,
                            false);
    for (size_t l = 0; l < n; l++) lse[(t0 + l) * s.H] = lane_lse[l];
}

static void backward(float *dq, const float *dy, const float *q, const float *y, const float *lse,
                     duo_attention_shape s, size_t t0, float *scratch)
{
    const duo_simd *rows = duo_rows;
    const head kv = head_of(scratch, s);
    const size_t n = s.T - t0 < DUO_LANES ? s.T - t0 : DUO_LANES;
    const size_t D = s.D, q_row = s.H * D, block = D * DUO_LANES;
    float *q_rows = kv.own, *dy_rows = q_rows + block, *dq_rows = dy_rows + block;
    float *q_lanes = dq_rows + block, *dy_lanes = q_lanes + block;
    float *p = dy_lanes + block, *ds = p + KEYS * DUO_LANES;
    float lane_lse[DUO_LANES] = {0}, delta[DUO_LANES] = {0};
    const float scale = duo_attention_scale(D);

    duo_copy_rows(q_rows, D, q + t0 * q_row, q_row, n, D);
    duo_copy_rows(dy_rows, D, dy + t0 * q_row, q_row, n, D);
    duo_fill_lanes(q_lanes, q_rows, D, n, D);
    duo_fill_lanes(dy_lanes, dy_rows, D, n, D);
    duo_fill_lanes(dq_rows, y + t0 * q_row, q_row, n, D);
    rows->lane_dots(delta, dq_rows, dy_lanes, n, D); /* in the order in which dp is summed */
    for (size_t l = 0; l < n; l++) lane_lse[l] = lse[(t0 + l) * s.H];
    for (size_t j = 0; j < t0 + n; j += KEYS) {
        const size_t keys = t0 + n - j < KEYS ? t0 + n - j : KEYS, at = j * D;
        const ptrdiff_t first = (ptrdiff_t)t0 - (ptrdiff_t)j;
        rows->scores(p, kv.k + at, D, q_lanes, keys, n, D, first);
        rows->scores(ds, kv.v + at, D, dy_lanes, keys, n, D, first);
        rows->score_gradient(p, ds, lane_lse, delta, scale, keys, n, first);
        rows->add_over_lanes(kv.dv + at, D, p, dy_rows, D, n, D, keys, first);
        rows->add_over_lanes(kv.dk + at, D, ds, q_rows, D, n, D, keys, first);
        rows->sum_over_keys(dq_rows, D, ds, kv.k + at, D, NULL, n, D, keys, first, j > 0);
    }
    duo_copy_rows(dq + t0 * q_row, q_row, dq_rows, D, n, D);
}

static void give_gradients(float *dk, float *dv, duo_attention_shape s, const float *scratch)
{
    const float *own_dk = scratch + 2 * s.T * s.D, *own_dv = own_dk + s.T * s.D;
    duo_copy_rows(dk, s.Hkv * s.D, own_dk, s.D, s.T, s.D);
    duo_copy_rows(dv, s.Hkv * s.D, own_dv, s.D, s.T, s.D);
}

const duo_attention_blocks duo_attention_fp32 = {.queries = DUO_LANES,
                                                 .scratch = thread_scratch,
                                                 .take_head = take_head,
                                                 .forward = forward,
                                                 .backward = backward,
                                                 .give_gradients = give_gradients};
