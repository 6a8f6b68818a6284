/*
 * Attention with products of bf16 pairs, by squares of SQUARE keys, queries or channels: those who
 * include this define how a square is multiplied. Operands are rounded; scores, softmax and all
 * sums are fp32. Scores of a block lie as (keys, LANES), a query per lane, as in attention_fp32.c,
 * and become operands without being turned around: pairs of neighbouring keys are a right operand,
 * pairs of neighbouring lanes rows of a left one. Keys that a lane does not see have weight 0 and T
 * is filled up with keys and queries of 0, so that the bits of a query depend on what it sees
 * alone, as long as all is finite.
 */
#include "attention_blocks.h"
#include "duo/sizes.h"
#include "pairs_avx512.h"
#include "vec_avx512.h"

#include "simd_vector.h"

enum { SIDE = 16, SQUARE = 2 * SIDE, LANES = 64, SKEW = 16 };

/* What a thread keeps, in units of 32 bits: of a head, then of a block of queries. */
typedef struct parts {
    size_t keys, width;         /* T and D, filled up */
    size_t k_row, across_row;   /* from one row to the next */
    float *k, *v;               /* (keys, k_row): pairs of channels */
    float *k_across, *v_across; /* (width, across_row): pairs of keys */
    float *dk, *dv;             /* (keys, width) */
    float *q_lanes, *dy_lanes;  /* (width / 2, LANES): pairs of channels */
    float *q_pairs, *dy_pairs;  /* (LANES / 2, width): pairs of queries */
    float *scores, *dp;         /* (keys or SQUARE, LANES) */
    float *p_rows, *ds_rows;    /* (SQUARE, LANES / 2): pairs of queries */
    float *pairs;               /* (keys / 2, LANES): weights or their gradients, pairs of keys */
    float *out;                 /* (width, LANES): y or dq */
    size_t used;
} parts;

static float *take(size_t *used, float *scratch, size_t n)
{
    float *at = scratch ? scratch + *used : NULL;
    *used += n;
    return at;
}

/* In lines; scratch NULL: only counts. */
static parts lay_out(float *scratch, duo_attention_shape s)
{
    if (scratch) scratch += -(uintptr_t)scratch % 64 / sizeof *scratch;
    parts a = {.keys = duo_round_up(s.T, LANES), .width = duo_round_up(s.D, SQUARE)};
    size_t *used = &a.used;
    a.k_row = a.width / 2;
    a.across_row = a.keys / 2 + SKEW;
    a.k = take(used, scratch, a.keys * a.k_row);
    a.v_across = take(used, scratch, a.width * a.across_row);
    a.v = take(used, scratch, a.keys * a.k_row);
    a.k_across = take(used, scratch, a.width * a.across_row);
    a.dk = take(used, scratch, a.keys * a.width);
    a.dv = take(used, scratch, a.keys * a.width);
    a.q_lanes = take(used, scratch, a.width / 2 * LANES);
    a.dy_lanes = take(used, scratch, a.width / 2 * LANES);
    a.q_pairs = take(used, scratch, LANES / 2 * a.width);
    a.dy_pairs = take(used, scratch, LANES / 2 * a.width);
    a.scores = take(used, scratch, a.keys * LANES);
    a.dp = take(used, scratch, SQUARE * LANES);
    a.p_rows = take(used, scratch, SQUARE * LANES / 2);
    a.ds_rows = take(used, scratch, SQUARE * LANES / 2);
    a.pairs = take(used, scratch, a.keys / 2 * LANES);
    a.out = take(used, scratch, a.width * LANES);
    return a;
}

static size_t thread_scratch(duo_attention_shape s)
{
    return lay_out(NULL, s).used + SIDE; /* to begin at a line */
}

/* A square of c = (add ? c : 0) + a b: `lines` lines of SIDE pairs in each row of a, as many rows
 * of SQUARE pairs of b for each. Rows are c_row, a_row and b_row apart. */
static inline void multiply(float *c, size_t c_row, const float *a, size_t a_row, const float *b,
                            size_t b_row, size_t lines, bool add);

/* ---------------------------------------------------------------- operands */

/* An array of n rows of D channels, read as if 0 stood behind them. */
typedef struct source {
    const float *x;
    size_t row, n, D;
} source;

/* `whole`: nothing is read behind them. */
__attribute__((always_inline)) static inline vec part(source from, size_t r, size_t d,
                                                      const bool whole)
{
    const float *x = from.x + r * from.row + d;
    if (whole) return vec_load(x);
    if (r >= from.n || d >= from.D) return vec_set(0.0f);
    return vec_load_part(x, duo_min(WIDTH, from.D - d), 0.0f);
}

static bool is_whole(source from, size_t rows)
{
    return from.n >= rows && from.D % SQUARE == 0;
}

/* Rows as `rows` rows of pairs of channels. */
__attribute__((always_inline)) static inline void fill_rows(float *to, size_t to_row, size_t rows,
                                                            source from, const bool whole)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t d = 0; d < 2 * to_row; d += SQUARE)
            vec_store(
                to + r * to_row + d / 2,
                duo_neighbour_pairs(part(from, r, d, whole), part(from, r, d + WIDTH, whole)));
}

/* Rows as columns: pairs of rows of each of `width` channels. */
__attribute__((always_inline)) static inline void
fill_across(float *to, size_t to_row, size_t width, size_t rows, source from, const bool whole)
{
    for (size_t r = 0; r < rows; r += SQUARE)
        for (size_t d = 0; d < width; d += SIDE) {
            vec unit[SIDE];
            UNROLL(16)
            for (size_t u = 0; u < SIDE; u++)
                unit[u] = duo_row_pairs(part(from, r + 2 * u, d, whole),
                                        part(from, r + 2 * u + 1, d, whole));
            duo_store_transposed(to + d * to_row + r / 2, to_row, unit);
        }
}

/* Rows as lanes: pairs of channels of each. */
__attribute__((always_inline)) static inline void fill_lanes(float *to, size_t width, source from,
                                                             const bool whole)
{
    for (size_t l = 0; l < LANES; l += SIDE)
        for (size_t d = 0; d < width; d += SQUARE) {
            vec unit[SIDE];
            UNROLL(16)
            for (size_t i = 0; i < SIDE; i++)
                unit[i] = duo_neighbour_pairs(part(from, l + i, d, whole),
                                              part(from, l + i, d + WIDTH, whole));
            duo_store_transposed(to + d / 2 * LANES + l, LANES, unit);
        }
}

/* Rows as rows of pairs of rows. */
__attribute__((always_inline)) static inline void fill_pairs(float *to, size_t width, source from,
                                                             const bool whole)
{
    for (size_t l = 0; l < LANES; l += 2)
        for (size_t d = 0; d < width; d += WIDTH)
            vec_store(to + l / 2 * width + d,
                      duo_row_pairs(part(from, l, d, whole), part(from, l + 1, d, whole)));
}

static void set_rows(float *to, size_t to_row, size_t rows, source from)
{
    if (is_whole(from, rows))
        fill_rows(to, to_row, rows, from, true);
    else
        fill_rows(to, to_row, rows, from, false);
}

static void set_across(float *to, size_t to_row, size_t width, size_t rows, source from)
{
    if (is_whole(from, rows))
        fill_across(to, to_row, width, rows, from, true);
    else
        fill_across(to, to_row, width, rows, from, false);
}

static void set_lanes(float *to, size_t width, source from)
{
    if (is_whole(from, LANES))
        fill_lanes(to, width, from, true);
    else
        fill_lanes(to, width, from, false);
}

static void set_pairs(float *to, size_t width, source from)
{
    if (is_whole(from, LANES))
        fill_pairs(to, width, from, true);
    else
        fill_pairs(to, width, from, false);
}

/* The first n lanes of (D, LANES), times a factor of each, as rows. */
static void give_lanes(float *y, size_t row, const float *lanes, const float *factor, size_t n,
                       size_t D)
{
    _Alignas(64) float turned[SIDE * SIDE];
    for (size_t l = 0; l < n; l += SIDE)
        for (size_t d = 0; d < D; d += SIDE) {
            vec channel[SIDE];
            for (size_t i = 0; i < SIDE; i++)
                channel[i] = vec_load(lanes + (d + i) * LANES + l) * vec_load(factor + l);
            duo_store_transposed(turned, SIDE, channel);
            for (size_t i = 0; i < duo_min(SIDE, n - l); i++)
                vec_store_part(y + (l + i) * row + d, vec_load(turned + i * SIDE),
                               duo_min(SIDE, D - d));
        }
}

/* ---------------------------------------------------------------- softmax */

static const float log2_e = 1.442695041f;

/* 2^x, within 3e-6 of it: weights become bf16. 0 for -infinity. With floor(x) split off, a minimax
 * polynomial. */
__attribute__((always_inline)) static inline void power_of_two(vec *x)
{
    static const float c[] = {1.00000262f, 0.693003833f, 0.24144271f, 0.052011475f, 0.0135341799f};
    vec r[BATCH], p[BATCH];
    UNROLL(4)
    for (size_t i = 0; i < BATCH; i++) r[i] = _mm512_reduce_ps(x[i], _MM_FROUND_TO_NEG_INF);
    UNROLL(4)
    for (size_t i = 0; i < BATCH; i++) p[i] = vec_fma(r[i], vec_set(c[4]), vec_set(c[3]));
    UNROLL(3)
    for (size_t k = 3; k-- > 0;) {
        UNROLL(4)
        for (size_t i = 0; i < BATCH; i++) p[i] = vec_fma(p[i], r[i], vec_set(c[k]));
    }
    UNROLL(4)
    for (size_t i = 0; i < BATCH; i++) x[i] = _mm512_scalef_ps(p[i], x[i]);
}

/* score, or -infinity in its first n lanes. */
static inline vec hide_lanes(vec score, size_t n)
{
    return _mm512_mask_mov_ps(score, lanes_below(n), vec_set(-INFINITY));
}

/* Keys 0 to keys of one vector of lanes, whose first lane is query t: the scores become weights
 * 2^(factor s - shift), of which the largest is 1, in pairs of keys. Returns their sum, unrounded.
 */
static vec weigh(float *pairs, float *s, size_t t, size_t keys, float factor, vec *top_shift)
{
    vec max[BATCH];
    for (size_t i = 0; i < BATCH; i++) max[i] = vec_set(-INFINITY);
    size_t j = 0; /* key j is hidden from lanes below j - t */
    for (; j + BATCH <= t + 1; j += BATCH)
        for (size_t i = 0; i < BATCH; i++) max[i] = vec_max(vec_load(s + (j + i) * LANES), max[i]);
    for (; j < duo_min(keys, t + WIDTH); j++) {
        const vec score = hide_lanes(vec_load(s + j * LANES), j < t ? 0 : j - t);
        max[0] = vec_max(score, max[0]);
        vec_store(s + j * LANES, score);
    }
    const vec shift = vec_set(factor) * vec_max(vec_max(max[0], max[1]), vec_max(max[2], max[3]));
    *top_shift = shift;
    vec sum = vec_set(0.0f);
    for (j = 0; j < keys; j += BATCH) {
        vec p[BATCH];
        if (j >= t + WIDTH) {
            vec_store(pairs + j / 2 * LANES, vec_set(0.0f));
            vec_store(pairs + (j / 2 + 1) * LANES, vec_set(0.0f));
            continue;
        }
        UNROLL(4)
        for (size_t i = 0; i < BATCH; i++)
            p[i] = vec_fma(vec_set(factor), vec_load(s + (j + i) * LANES), -shift);
        power_of_two(p);
        UNROLL(4)
        for (size_t i = 0; i < BATCH; i++) sum = sum + p[i];
        vec_store(pairs + j / 2 * LANES, duo_row_pairs(p[0], p[1]));
        vec_store(pairs + (j / 2 + 1) * LANES, duo_row_pairs(p[2], p[3]));
    }
    return sum;
}

/* ---------------------------------------------------------------- a head */

static void take_head(float *scratch, const float *k, const float *v, duo_attention_shape s,
                      bool backward)
{
    const parts a = lay_out(scratch, s);
    const source keys = {k, s.Hkv * s.D, s.T, s.D}, values = {v, s.Hkv * s.D, s.T, s.D};
    set_rows(a.k, a.k_row, a.keys, keys);
    if (!backward) {
        set_across(a.v_across, a.across_row, a.width, a.keys, values);
        return;
    }
    set_rows(a.v, a.k_row, a.keys, values);
    set_across(a.k_across, a.across_row, a.width, a.keys, keys);
    memset(a.dk, 0, a.keys * a.width * sizeof *a.dk);
    memset(a.dv, 0, a.keys * a.width * sizeof *a.dv);
}

static void forward(float *y, float *lse, const float *q, duo_attention_shape s, size_t t0,
                    float *scratch)
{
    const parts a = lay_out(scratch, s);
    const size_t n = duo_min(LANES, s.T - t0), q_row = s.H * s.D;
    const float factor = log2_e * duo_attention_scale(s.D);
    _Alignas(64) float sum[LANES], shift[LANES];
    set_lanes(a.q_lanes, a.width, (source){q + t0 * q_row, q_row, n, s.D});
    for (size_t half = 0; half < n; half += SQUARE) {
        const size_t keys = t0 + half + SQUARE; /* that the last of these lanes sees */
        for (size_t j = 0; j < keys; j += SQUARE)
            multiply(a.scores + j * LANES + half, LANES, a.k + j * a.k_row, a.k_row,
                     a.q_lanes + half, LANES, a.width / SQUARE, false);
        for (size_t l = half; l < half + SQUARE; l += WIDTH) {
            vec top;
            vec_store(sum + l, weigh(a.pairs + l, a.scores + l, t0 + l, keys, factor, &top));
            vec_store(shift + l, top);
        }
        for (size_t d = 0; d < a.width; d += SQUARE)
            multiply(a.out + d * LANES + half, LANES, a.v_across + d * a.across_row, a.across_row,
                     a.pairs + half, LANES, keys / SQUARE, false);
    }
    for (size_t l = 0; l < n; l++) {
        lse[(t0 + l) * s.H] = DUO_FMA(shift[l], 1.0f / log2_e, duo_logf(sum[l]));
        sum[l] = 1.0f / sum[l];
    }
    give_lanes(y + t0 * q_row, q_row, a.out, sum, n, s.D);
}

/* Two vectors of lanes, of which the first lane is query t, and SQUARE keys from j on: p =
 * 2^(log2(e) factor s - lse), ds = factor p (dp - delta), both in pairs of lanes, ds in pairs of
 * keys too.
 */
static void differentiate(const parts *a, float *ds_pairs, size_t l, float factor, const vec *lse,
                          const vec *delta, size_t j, size_t t)
{
    for (size_t i = 0; i < SQUARE; i += 2) {
        vec p[BATCH], ds[BATCH]; /* two keys by two vectors */
        UNROLL(4)
        for (size_t at = 0; at < BATCH; at++) {
            const size_t key = i + at / 2, part = at % 2, first = t + part * WIDTH;
            vec score = vec_load(a->scores + key * LANES + l + part * WIDTH);
            if (j + key > first) score = hide_lanes(score, j + key - first);
            p[at] = vec_fma(vec_set(log2_e * factor), score, -lse[part]);
        }
        power_of_two(p);
        UNROLL(4)
        for (size_t at = 0; at < BATCH; at++) {
            const size_t key = i + at / 2, part = at % 2;
            ds[at] = vec_set(factor) * p[at] *
                     (vec_load(a->dp + key * LANES + l + part * WIDTH) - delta[part]);
        }
        const size_t to = i * (LANES / 2) + l / 2;
        vec_store(a->p_rows + to, duo_neighbour_pairs(p[0], p[1]));
        vec_store(a->p_rows + to + LANES / 2, duo_neighbour_pairs(p[2], p[3]));
        vec_store(a->ds_rows + to, duo_neighbour_pairs(ds[0], ds[1]));
        vec_store(a->ds_rows + to + LANES / 2, duo_neighbour_pairs(ds[2], ds[3]));
        vec_store(ds_pairs + i / 2 * LANES + l, duo_row_pairs(ds[0], ds[2]));
        vec_store(ds_pairs + i / 2 * LANES + l + WIDTH, duo_row_pairs(ds[1], ds[3]));
    }
}

static void backward(float *dq, const float *dy, const float *q, const float *y, const float *lse,
                     duo_attention_shape s, size_t t0, float *scratch)
{
    const parts a = lay_out(scratch, s);
    const size_t n = duo_min(LANES, s.T - t0), q_row = s.H * s.D,
                 keys = t0 + duo_round_up(n, SQUARE);
    const float factor = duo_attention_scale(s.D);
    _Alignas(64) float lane_lse[LANES] = {0}, delta[LANES] = {0}, one[LANES];
    q += t0 * q_row;
    dy += t0 * q_row;
    y += t0 * q_row;
    const source queries = {q, q_row, n, s.D}, gradients = {dy, q_row, n, s.D};
    set_lanes(a.q_lanes, a.width, queries);
    set_lanes(a.dy_lanes, a.width, gradients);
    set_pairs(a.q_pairs, a.width, queries);
    set_pairs(a.dy_pairs, a.width, gradients);
    for (size_t l = 0; l < LANES; l++) one[l] = 1.0f;
    for (size_t l = 0; l < n; l++) {
        lane_lse[l] = log2_e * lse[(t0 + l) * s.H];
        delta[l] = duo_rows->dot(dy + l * q_row, y + l * q_row, s.D);
    }
    for (size_t j = 0; j < keys; j += SQUARE) {
        /* The first lanes that see one of these keys. */
        const size_t begin = j < t0 + SQUARE ? 0 : SQUARE, end = duo_round_up(n, SQUARE);
        const size_t lines = (end - begin) / SQUARE;
        for (size_t l = begin; l < end; l += SQUARE) {
            multiply(a.scores + l, LANES, a.k + j * a.k_row, a.k_row, a.q_lanes + l, LANES,
                     a.width / SQUARE, false);
            multiply(a.dp + l, LANES, a.v + j * a.k_row, a.k_row, a.dy_lanes + l, LANES,
                     a.width / SQUARE, false);
        }
        for (size_t l = begin; l < end; l += SQUARE) {
            const vec of_lse[] = {vec_load(lane_lse + l), vec_load(lane_lse + l + WIDTH)};
            const vec of_delta[] = {vec_load(delta + l), vec_load(delta + l + WIDTH)};
            differentiate(&a, a.pairs + j / 2 * LANES, l, factor, of_lse, of_delta, j, t0 + l);
        }
        for (size_t d = 0; d < a.width; d += SQUARE) {
            const size_t at = j * a.width + d, skipped = begin / 2;
            multiply(a.dv + at, a.width, a.p_rows + skipped, LANES / 2,
                     a.dy_pairs + skipped * a.width + d, a.width, lines, true);
            multiply(a.dk + at, a.width, a.ds_rows + skipped, LANES / 2,
                     a.q_pairs + skipped * a.width + d, a.width, lines, true);
        }
    }
    for (size_t half = 0; half < n; half += SQUARE)
        for (size_t d = 0; d < a.width; d += SQUARE)
            multiply(a.out + d * LANES + half, LANES, a.k_across + d * a.across_row, a.across_row,
                     a.pairs + half, LANES, (t0 + half + SQUARE) / SQUARE, false);
    give_lanes(dq + t0 * q_row, q_row, a.out, one, n, s.D);
}

static void give_gradients(float *dk, float *dv, duo_attention_shape s, const float *scratch)
{
    const parts a = lay_out((float *)scratch, s);
    duo_copy_rows(dk, s.Hkv * s.D, a.dk, a.width, s.T, s.D);
    duo_copy_rows(dv, s.Hkv * s.D, a.dv, a.width, s.T, s.D);
}

#define ATTENTION_BY_PAIRS                                                                         \
    .queries = LANES, .scratch = thread_scratch, .take_head = take_head, .forward = forward,       \
    .backward = backward, .give_gradients = give_gradients
