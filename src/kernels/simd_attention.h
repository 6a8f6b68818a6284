/*
 * Products and softmax of attention on blocks of scores (keys, DUO_LANES), a query per lane. Lane l
 * sees the keys 0 .. first + l: what lies whole vectors or whole tiles beyond is neither computed
 * nor read, the rest of a vector is -infinity as a score and 0 as a weight.
 *
 * Every product sums in the order of channels, keys or queries, one multiply-add after the other,
 * whatever is computed beside it: a query's bits do not depend on its block.
 */

/* Keys among the first `keys` of a block that some lane up to last sees. */
static inline size_t visible_keys(size_t keys, ptrdiff_t first, size_t last)
{
    const ptrdiff_t seen = first + (ptrdiff_t)last + 1;
    if (seen <= 0) return 0;
    return (size_t)seen < keys ? (size_t)seen : keys;
}

/* Lanes that do not see key j yet. */
static inline size_t hidden_lanes(size_t j, ptrdiff_t first)
{
    const ptrdiff_t hidden = (ptrdiff_t)j - first;
    return hidden < 0 ? 0 : (size_t)hidden;
}

/* score, or -infinity in its first n lanes. */
static inline vec hide_lanes(vec score, size_t n)
{
    _Alignas(64) static const float hidden[2 * 16] = {
        -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY,
        -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY};
    return score + vec_load(hidden + 16 - n);
}

/*
 * c[i][j] = factor[i] ((add ? c[i][j] : 0) + sum_k a[i a_row + k a_col] b[k][j]); factor NULL: 1.
 * The sums stay in registers: R rows and W vectors, the last of `width` floats, are constants
 * where this is expanded.
 */
__attribute__((always_inline)) static inline void tile(float *c, size_t c_row, const float *a,
                                                       size_t a_row, size_t a_col, const float *b,
                                                       size_t b_row, size_t K, const float *factor,
                                                       bool add, const size_t R, const size_t W,
                                                       const size_t width)
{
    vec sum[TILE_ROWS][3];
    UNROLL(8)
    for (size_t r = 0; r < R; r++) {
        UNROLL(3)
        for (size_t w = 0; w < W; w++) {
            const float *from = c + r * c_row + w * WIDTH;
            if (!add)
                sum[r][w] = vec_set(0.0f);
            else
                sum[r][w] = width < WIDTH ? vec_load_part(from, width, 0.0f) : vec_load(from);
        }
    }
    for (size_t k = 0; k < K; k++, a += a_col, b += b_row) {
        vec right[3];
        UNROLL(3)
        for (size_t w = 0; w < W; w++)
            right[w] = width < WIDTH ? vec_load_part(b, width, 0.0f) : vec_load(b + w * WIDTH);
        UNROLL(8)
        for (size_t r = 0; r < R; r++) {
            const vec left = vec_set(a[r * a_row]);
            UNROLL(3)
            for (size_t w = 0; w < W; w++) sum[r][w] = vec_fma(left, right[w], sum[r][w]);
        }
    }
    UNROLL(8)
    for (size_t r = 0; r < R; r++) {
        UNROLL(3)
        for (size_t w = 0; w < W; w++) {
            float *to = c + r * c_row + w * WIDTH;
            if (factor) sum[r][w] = sum[r][w] * vec_set(factor[r]);
            if (width < WIDTH)
                vec_store_part(to, sum[r][w], width);
            else
                vec_store(to, sum[r][w]);
        }
    }
}

/* By squares of 4 x 4, in registers; whole vectors. */
static void set_lanes(float *lanes, const float *const *x, size_t n, size_t D)
{
    typedef float quad __attribute__((vector_size(16)));
    size_t l = 0;
    for (; l + 4 <= n; l += 4) {
        size_t d = 0;
        for (; d + 4 <= D; d += 4) {
            quad q[4], t[4];
            for (size_t i = 0; i < 4; i++) memcpy(&q[i], x[l + i] + d, sizeof q[i]);
            t[0] = __builtin_shufflevector(q[0], q[1], 0, 4, 1, 5);
            t[1] = __builtin_shufflevector(q[2], q[3], 0, 4, 1, 5);
            t[2] = __builtin_shufflevector(q[0], q[1], 2, 6, 3, 7);
            t[3] = __builtin_shufflevector(q[2], q[3], 2, 6, 3, 7);
            q[0] = __builtin_shufflevector(t[0], t[1], 0, 1, 4, 5);
            q[1] = __builtin_shufflevector(t[0], t[1], 2, 3, 6, 7);
            q[2] = __builtin_shufflevector(t[2], t[3], 0, 1, 4, 5);
            q[3] = __builtin_shufflevector(t[2], t[3], 2, 3, 6, 7);
            for (size_t i = 0; i < 4; i++)
                memcpy(lanes + (d + i) * DUO_LANES + l, &q[i], sizeof q[i]);
        }
        for (; d < D; d++)
            for (size_t i = 0; i < 4; i++) lanes[d * DUO_LANES + l + i] = x[l + i][d];
    }
    const size_t end = (n + WIDTH - 1) / WIDTH * WIDTH;
    for (size_t d = 0; d < D; d++)
        for (size_t i = l; i < end; i++) lanes[d * DUO_LANES + i] = i < n ? x[i][d] : 0.0f;
}

/* s[j][l] = k_j q_l for the vectors of lanes that hold one of the first n_lanes. */
__attribute__((always_inline)) static inline void score_rows(float *s, const float *keys,
                                                             size_t row, const float *lanes,
                                                             size_t D, size_t begin, size_t end,
                                                             const size_t R)
{
    size_t l = begin;
    for (; l + 3 * WIDTH <= end; l += 3 * WIDTH)
        tile(s + l, DUO_LANES, keys, row, 1, lanes + l, DUO_LANES, D, NULL, false, R, 3, WIDTH);
    if (l + 2 * WIDTH <= end)
        tile(s + l, DUO_LANES, keys, row, 1, lanes + l, DUO_LANES, D, NULL, false, R, 2, WIDTH);
    else if (l < end)
        tile(s + l, DUO_LANES, keys, row, 1, lanes + l, DUO_LANES, D, NULL, false, R, 1, WIDTH);
}

static void scores(float *s, const float *keys, size_t row, const float *lanes, size_t n_keys,
                   size_t n_lanes, size_t D, ptrdiff_t first)
{
    const size_t end = (n_lanes + WIDTH - 1) / WIDTH * WIDTH;
    size_t j = 0;
    for (; j + TILE_ROWS <= n_keys; j += TILE_ROWS)
        score_rows(s + j * DUO_LANES, keys + j * row, row, lanes, D,
                   hidden_lanes(j, first) / WIDTH * WIDTH, end, TILE_ROWS);
    for (; j < n_keys; j++)
        score_rows(s + j * DUO_LANES, keys + j * row, row, lanes, D,
                   hidden_lanes(j, first) / WIDTH * WIDTH, end, 1);
}

/* The scores of n keys become weights exp(factor (s - top)), exactly 1 at the top, which are added
 * to sum in their order. */
__attribute__((always_inline)) static inline vec weigh(float *s, float factor, vec top, vec sum,
                                                       const size_t n)
{
    vec p[BATCH];
    UNROLL(4)
    for (size_t i = 0; i < n; i++) p[i] = vec_set(factor) * (vec_load(s + i * DUO_LANES) - top);
    vec_exp(p, n);
    UNROLL(4)
    for (size_t i = 0; i < n; i++) {
        vec_store(s + i * DUO_LANES, p[i]);
        sum = sum + p[i];
    }
    return sum;
}

static void score_softmax(float *s, float *inverse, float *lse, float factor, size_t n_keys,
                          size_t n_lanes, ptrdiff_t first)
{
    float shift[DUO_LANES], sum[DUO_LANES];
    for (size_t l = 0; l < n_lanes; l += WIDTH) {
        float *s_l = s + l;
        const size_t keys = visible_keys(n_keys, first, l + WIDTH - 1);
        const size_t open = visible_keys(n_keys, first, l);
        vec max[4];
        for (size_t i = 0; i < 4; i++) max[i] = vec_set(-INFINITY);
        for (size_t j = open; j < keys; j++) {
            const vec score = hide_lanes(vec_load(s_l + j * DUO_LANES), hidden_lanes(j, first) - l);
            max[0] = vec_max(score, max[0]);
            vec_store(s_l + j * DUO_LANES, score);
        }
        size_t j = 0;
        for (; j + 4 <= open; j += 4)
            for (size_t i = 0; i < 4; i++)
                max[i] = vec_max(vec_load(s_l + (j + i) * DUO_LANES), max[i]);
        for (; j < open; j++) max[0] = vec_max(vec_load(s_l + j * DUO_LANES), max[0]);
        const vec top = vec_max(vec_max(max[0], max[1]), vec_max(max[2], max[3]));
        vec total = vec_set(0.0f);
        j = 0;
        for (; j + BATCH <= keys; j += BATCH)
            total = weigh(s_l + j * DUO_LANES, factor, top, total, BATCH);
        for (; j < keys; j++) total = weigh(s_l + j * DUO_LANES, factor, top, total, 1);
        vec_store(shift + l, top * vec_set(factor));
        vec_store(sum + l, total);
    }
    const size_t end = (n_lanes + WIDTH - 1) / WIDTH * WIDTH;
#pragma omp simd
    for (size_t l = 0; l < end; l++) {
        inverse[l] = 1.0f / sum[l];
        lse[l] = shift[l] + duo_logf(sum[l]);
    }
}

__attribute__((always_inline)) static inline void differentiate(float *p, float *dp, float factor,
                                                                vec lse, vec delta, const size_t n)
{
    vec weight[BATCH];
    UNROLL(4)
    for (size_t i = 0; i < n; i++)
        weight[i] = vec_fma(vec_set(factor), vec_load(p + i * DUO_LANES), -lse);
    vec_exp(weight, n);
    UNROLL(4)
    for (size_t i = 0; i < n; i++) {
        float *dp_i = dp + i * DUO_LANES;
        vec_store(p + i * DUO_LANES, weight[i]);
        vec_store(dp_i, vec_set(factor) * weight[i] * (vec_load(dp_i) - delta));
    }
}

static void score_gradient(float *p, float *dp, const float *lse, const float *delta, float factor,
                           size_t n_keys, size_t n_lanes, ptrdiff_t first)
{
    for (size_t l = 0; l < n_lanes; l += WIDTH) {
        const vec lse_l = vec_load(lse + l), delta_l = vec_load(delta + l);
        const size_t keys = visible_keys(n_keys, first, l + WIDTH - 1);
        for (size_t j = visible_keys(n_keys, first, l); j < keys; j++) {
            float *p_j = p + j * DUO_LANES + l;
            vec_store(p_j, hide_lanes(vec_load(p_j), hidden_lanes(j, first) - l));
        }
        size_t j = 0;
        for (; j + BATCH <= keys; j += BATCH)
            differentiate(p + j * DUO_LANES + l, dp + j * DUO_LANES + l, factor, lse_l, delta_l,
                          BATCH);
        for (; j < keys; j++)
            differentiate(p + j * DUO_LANES + l, dp + j * DUO_LANES + l, factor, lse_l, delta_l, 1);
    }
}

/* The columns of a tile: pairs of vectors, one vector, part of one. */
__attribute__((always_inline)) static inline void
tile_row(float *c, size_t c_row, const float *a, size_t a_row, size_t a_col, const float *b,
         size_t b_row, size_t D, size_t K, const float *factor, bool add, const size_t R)
{
    size_t d = 0;
    for (; d + 2 * WIDTH <= D; d += 2 * WIDTH)
        tile(c + d, c_row, a, a_row, a_col, b + d, b_row, K, factor, add, R, 2, WIDTH);
    if (d + WIDTH <= D) {
        tile(c + d, c_row, a, a_row, a_col, b + d, b_row, K, factor, add, R, 1, WIDTH);
        d += WIDTH;
    }
    if (d < D) tile(c + d, c_row, a, a_row, a_col, b + d, b_row, K, factor, add, R, 1, D - d);
}

static void sum_over_keys(float *y, size_t y_row, const float *p, const float *v, size_t v_row,
                          const float *factor, size_t n, size_t D, size_t n_keys, ptrdiff_t first,
                          bool add)
{
    size_t l = 0;
    for (; l + TILE_ROWS <= n; l += TILE_ROWS)
        tile_row(y + l * y_row, y_row, p + l, 1, DUO_LANES, v, v_row, D,
                 visible_keys(n_keys, first, l + TILE_ROWS - 1), factor ? factor + l : NULL, add,
                 TILE_ROWS);
    for (; l < n; l++)
        tile_row(y + l * y_row, y_row, p + l, 1, DUO_LANES, v, v_row, D,
                 visible_keys(n_keys, first, l), factor ? factor + l : NULL, add, 1);
}

static void add_over_lanes(float *dk, size_t dk_row, const float *ds, const float *q, size_t q_row,
                           size_t n, size_t D, size_t n_keys, ptrdiff_t first)
{
    size_t j = 0;
    for (; j + TILE_ROWS <= n_keys; j += TILE_ROWS) {
        const size_t l = hidden_lanes(j, first);
        if (l >= n) return;
        tile_row(dk + j * dk_row, dk_row, ds + j * DUO_LANES + l, DUO_LANES, 1, q + l * q_row,
                 q_row, D, n - l, NULL, true, TILE_ROWS);
    }
    for (; j < n_keys && hidden_lanes(j, first) < n; j++) {
        const size_t l = hidden_lanes(j, first);
        tile_row(dk + j * dk_row, dk_row, ds + j * DUO_LANES + l, DUO_LANES, 1, q + l * q_row,
                 q_row, D, n - l, NULL, true, 1);
    }
}

static void lane_dots(float *s, const float *x, const float *y, size_t n_lanes, size_t D)
{
    for (size_t l = 0; l < n_lanes; l += WIDTH) {
        vec sum = vec_set(0.0f);
        for (size_t at = l; at < D * DUO_LANES; at += DUO_LANES)
            sum = vec_fma(vec_load(x + at), vec_load(y + at), sum);
        vec_store(s + l, sum);
    }
}

static float add_weighted_rows(float *y, const float *p, float sum, const float *v, size_t v_row,
                               size_t n_keys, size_t D, bool add)
{
    for (size_t j = 0; j < n_keys; j++) sum += p[j];
    tile_row(y, D, p, 0, 1, v, v_row, D, n_keys, NULL, add, 1);
    return sum;
}
