#ifndef DUO_MATMUL_FIXTURE_H
#define DUO_MATMUL_FIXTURE_H

#include "duo/arena.h"
#include "duo/rng.h"
#include "kernel_fixture.h"

/*
 * Every product is held against the plain loops below, which sum in double. A case has more rows
 * in its arrays than the call uses: rows that are not listed must keep their bits.
 */

enum { THREADS = 2, MOST_THREADS = 4 };

static duo_precision precision = DUO_FP32; /* of all products of a test */

static inline float *numbers(size_t n, uint32_t stream)
{
    float *x = malloc((n ? n : 1) * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < n; i++) {
        const duo_place place = {.step = i, .row = stream};
        x[i] = (float)(2.0 * duo_uniform(duo_random(1, DUO_RNG_TEST, place).word[0]) - 1.0);
    }
    return x;
}

static inline float *copy_of(const float *x, size_t n)
{
    float *copy = malloc((n ? n : 1) * sizeof *copy);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, x, n * sizeof *x);
    return copy;
}

/* n distinct rows of 0..total-1 in no order. */
static inline uint32_t *row_list(size_t n, size_t total, uint64_t key)
{
    uint32_t *rows = malloc((n ? n : 1) * sizeof *rows);
    ck_assert_ptr_nonnull(rows);
    for (size_t i = 0; i < n; i++) rows[i] = (uint32_t)duo_permute(7, DUO_RNG_TEST, key, total, i);
    return rows;
}

static inline void linear_forward(float *y, const float *x, const float *w, const float *bias,
                                  size_t n_rows, size_t O, size_t I, const uint32_t *y_rows,
                                  const uint32_t *x_rows, bool add)
{
    const duo_weight weight = {.w = w, .O = O, .I = I, .precision = precision};
    duo_linear_forward(y, x, &weight, bias, n_rows, y_rows, x_rows, add);
}

static inline void linear_backward_input(float *dx, const float *dy, const float *w, size_t n_rows,
                                         size_t O, size_t I, const uint32_t *dx_rows,
                                         const uint32_t *dy_rows, bool add)
{
    const duo_weight weight = {.w = w, .O = O, .I = I, .precision = precision};
    duo_linear_backward_input(dx, dy, &weight, n_rows, dx_rows, dy_rows, add);
}

static inline void linear_backward_weight(float *dw, float *dbias, const float *dy, const float *x,
                                          size_t n_rows, size_t O, size_t I,
                                          const uint32_t *dy_rows, const uint32_t *x_rows)
{
    duo_linear_backward_weight(dw, dbias, dy, x, n_rows, O, I, dy_rows, x_rows, precision);
}

static inline size_t row_of(const uint32_t *rows, size_t n)
{
    return rows ? rows[n] : n;
}

/* An operand as a product reads it: of the bf16 below and above, the nearer one, or the even one.
 */
static inline double read_as(float x)
{
    if (precision == DUO_FP32) return (double)x;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t near_zero = bits >> 16 << 16, away = near_zero + (1u << 16);
    float low, high;
    memcpy(&low, &near_zero, sizeof low);
    memcpy(&high, &away, sizeof high);
    const double below = fabs((double)x - (double)low), above = fabs((double)high - (double)x);
    return (double)(below < above || (below == above && !(near_zero >> 16 & 1u)) ? low : high);
}

static inline double *read_all(const float *x, size_t n)
{
    double *read = malloc((n ? n : 1) * sizeof *read);
    ck_assert_ptr_nonnull(read);
    for (size_t i = 0; i < n; i++) read[i] = read_as(x[i]);
    return read;
}

/* Rounding of a sum of K products of numbers below 1, in any order: at most K * 2^-24 for each of
 * K terms, in practice near its square root. */
static inline double tolerance(size_t K)
{
    return 1e-6 * (4.0 + (double)K / 8.0);
}

static inline void assert_close(const float *got, const double *want, size_t n, double tol)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= tol))
            ck_abort_msg("element %zu is %.9g instead of %.9g, tolerance %.2g", i, (double)got[i],
                         want[i], tol);
}

static inline void assert_same_bits(const float *a, const float *b, size_t n)
{
    ck_assert_int_eq(memcmp(a, b, n * sizeof *a), 0);
}

static inline double *widened(const float *x, size_t n)
{
    double *wide = malloc((n ? n : 1) * sizeof *wide);
    ck_assert_ptr_nonnull(wide);
    for (size_t i = 0; i < n; i++) wide[i] = (double)x[i];
    return wide;
}

typedef struct shape {
    size_t n_rows, O, I;
} shape;

typedef struct problem {
    shape s;
    size_t total; /* rows of the arrays */
    float *x, *y, *w, *bias;
    double *x_read, *y_read, *w_read; /* as products read them */
    uint32_t *x_rows, *y_rows;
} problem;

static inline problem problem_create(shape s, bool lists)
{
    const size_t total = lists ? 2 * s.n_rows + 3 : s.n_rows;
    problem p = {.s = s,
                 .total = total,
                 .x = numbers(total * s.I, 1),
                 .y = numbers(total * s.O, 2),
                 .w = numbers(s.O * s.I, 3),
                 .bias = numbers(s.O, 4),
                 .x_rows = lists ? row_list(s.n_rows, total, 1) : NULL,
                 .y_rows = lists ? row_list(s.n_rows, total, 2) : NULL};
    p.x_read = read_all(p.x, total * s.I);
    p.y_read = read_all(p.y, total * s.O);
    p.w_read = read_all(p.w, s.O * s.I);
    return p;
}

static inline void problem_free(problem *p)
{
    free(p->x);
    free(p->y);
    free(p->w);
    free(p->bias);
    free(p->x_read);
    free(p->y_read);
    free(p->w_read);
    free(p->x_rows);
    free(p->y_rows);
}

static inline void check_forward(const problem *p, bool add, bool with_bias)
{
    const size_t size = p->total * p->s.O;
    float *y = copy_of(p->y, size);
    double *want = widened(p->y, size);
    for (size_t n = 0; n < p->s.n_rows; n++) {
        const double *x_n = p->x_read + row_of(p->x_rows, n) * p->s.I;
        double *y_n = want + row_of(p->y_rows, n) * p->s.O;
        for (size_t o = 0; o < p->s.O; o++) {
            double sum = with_bias ? (double)p->bias[o] : 0.0;
            for (size_t i = 0; i < p->s.I; i++) sum += x_n[i] * p->w_read[o * p->s.I + i];
            y_n[o] = add ? y_n[o] + sum : sum;
        }
    }
    linear_forward(y, p->x, p->w, with_bias ? p->bias : NULL, p->s.n_rows, p->s.O, p->s.I,
                   p->y_rows, p->x_rows, add);
    assert_close(y, want, size, tolerance(p->s.I));
    free(y);
    free(want);
}

static inline void check_backward_input(const problem *p, bool add)
{
    const size_t size = p->total * p->s.I;
    float *dx = copy_of(p->x, size);
    double *want = widened(p->x, size);
    for (size_t n = 0; n < p->s.n_rows; n++) {
        const double *dy_n = p->y_read + row_of(p->y_rows, n) * p->s.O;
        double *dx_n = want + row_of(p->x_rows, n) * p->s.I;
        for (size_t i = 0; i < p->s.I; i++) {
            double sum = 0.0;
            for (size_t o = 0; o < p->s.O; o++) sum += dy_n[o] * p->w_read[o * p->s.I + i];
            dx_n[i] = add ? dx_n[i] + sum : sum;
        }
    }
    linear_backward_input(dx, p->y, p->w, p->s.n_rows, p->s.O, p->s.I, p->x_rows, p->y_rows, add);
    assert_close(dx, want, size, tolerance(p->s.O));
    free(dx);
    free(want);
}

static inline void check_backward_weight(const problem *p, bool with_bias)
{
    const size_t size = p->s.O * p->s.I;
    float *dw = copy_of(p->w, size), *dbias = copy_of(p->bias, p->s.O);
    double *want = widened(p->w, size), *want_bias = widened(p->bias, p->s.O);
    for (size_t n = 0; n < p->s.n_rows; n++) {
        const size_t y_row = row_of(p->y_rows, n) * p->s.O;
        const double *dy_n = p->y_read + y_row;
        const double *x_n = p->x_read + row_of(p->x_rows, n) * p->s.I;
        for (size_t o = 0; o < p->s.O; o++) {
            if (with_bias) want_bias[o] += (double)p->y[y_row + o];
            for (size_t i = 0; i < p->s.I; i++) want[o * p->s.I + i] += dy_n[o] * x_n[i];
        }
    }
    linear_backward_weight(dw, with_bias ? dbias : NULL, p->y, p->x, p->s.n_rows, p->s.O, p->s.I,
                           p->y_rows, p->x_rows);
    assert_close(dw, want, size, tolerance(p->s.n_rows));
    assert_close(dbias, want_bias, p->s.O, tolerance(p->s.n_rows));
    free(dw);
    free(dbias);
    free(want);
    free(want_bias);
}

static inline void check_products(shape s)
{
    for (int lists = 0; lists < 2; lists++) {
        problem p = problem_create(s, lists);
        for (int variant = 0; variant < 4; variant++) check_forward(&p, variant & 1, variant & 2);
        check_backward_input(&p, false);
        check_backward_input(&p, true);
        check_backward_weight(&p, false);
        check_backward_weight(&p, true);
        problem_free(&p);
    }
}

typedef struct results {
    float *y, *dx, *dw, *dbias;
} results;

static inline results run(const problem *p)
{
    const shape s = p->s;
    const results r = {copy_of(p->y, p->total * s.O), copy_of(p->x, p->total * s.I),
                       copy_of(p->w, s.O * s.I), copy_of(p->bias, s.O)};
    linear_forward(r.y, p->x, p->w, p->bias, s.n_rows, s.O, s.I, p->y_rows, p->x_rows, true);
    linear_backward_input(r.dx, p->y, p->w, s.n_rows, s.O, s.I, p->x_rows, p->y_rows, true);
    linear_backward_weight(r.dw, r.dbias, p->y, p->x, s.n_rows, s.O, s.I, p->y_rows, p->x_rows);
    return r;
}

static inline void results_free(results *r)
{
    free(r->y);
    free(r->dx);
    free(r->dw);
    free(r->dbias);
}

/* n floats of memory aligned for a packed form, and more behind them that must keep their bits. */
enum { FENCE = 64 };

static inline float *fenced(size_t bytes)
{
    const size_t size = (bytes + FENCE + DUO_ALIGN - 1) / DUO_ALIGN * DUO_ALIGN;
    float *block = aligned_alloc(DUO_ALIGN, size);
    ck_assert_ptr_nonnull(block);
    memset(block, 0x5a, size);
    return block;
}

static inline void assert_fence(const float *block, size_t bytes)
{
    for (size_t i = 0; i < FENCE; i++) ck_assert_int_eq(((const char *)block)[bytes + i], 0x5a);
}

/* A product has the same bits with packed forms of its weight, which have the same bytes as
 * `first`, those of another number of threads, or fill it. */
static inline void check_packed(const problem *p, float *first[2], bool fill)
{
    const shape s = p->s;
    duo_weight weight = {.w = p->w, .O = s.O, .I = s.I, .precision = precision};
    results plain = run(p);
    const size_t bytes[2] = {duo_pack_forward_bytes(&weight), duo_pack_backward_bytes(&weight)};
    float *form[2] = {fenced(bytes[0]), fenced(bytes[1])};
    weight.forward = form[0];
    weight.backward = form[1];
    duo_weight_pack(&weight);
    weight.w = NULL; /* the packed forms are enough */
    float *y = copy_of(p->y, p->total * s.O), *dx = copy_of(p->x, p->total * s.I);
    duo_linear_forward(y, p->x, &weight, p->bias, s.n_rows, p->y_rows, p->x_rows, true);
    duo_linear_backward_input(dx, p->y, &weight, s.n_rows, p->x_rows, p->y_rows, true);
    assert_same_bits(y, plain.y, p->total * s.O);
    assert_same_bits(dx, plain.dx, p->total * s.I);
    for (int side = 0; side < 2; side++) {
        assert_fence(form[side], bytes[side]);
        if (fill) first[side] = fenced(bytes[side]);
        if (fill) memcpy(first[side], form[side], bytes[side]);
        ck_assert_mem_eq(form[side], first[side], bytes[side]);
        free(form[side]);
    }
    free(y), free(dx);
    results_free(&plain);
}

/* Rows that are not listed lie between those that are, and a NaN in them stays there: what a tile
 * reads behind the end of a row takes no part. */
static inline void check_rows_between(shape s)
{
    const size_t x_size = s.n_rows * s.I, y_size = s.n_rows * s.O;
    float *x = numbers(x_size, 1), *dy = numbers(y_size, 2), *w = numbers(s.O * s.I, 3);
    float *x_apart = malloc(2 * x_size * sizeof *x), *dy_apart = malloc(2 * y_size * sizeof *dy);
    float *y[2] = {numbers(y_size, 4), numbers(y_size, 4)};
    float *dx[2] = {numbers(x_size, 5), numbers(x_size, 5)};
    float *dw[2] = {numbers(s.O * s.I, 6), numbers(s.O * s.I, 6)};
    uint32_t *even = malloc(s.n_rows * sizeof *even);
    ck_assert(x_apart && dy_apart && even);
    for (size_t i = 0; i < 2 * x_size; i++) x_apart[i] = NAN;
    for (size_t i = 0; i < 2 * y_size; i++) dy_apart[i] = NAN;
    for (size_t n = 0; n < s.n_rows; n++) {
        even[n] = (uint32_t)(2 * n);
        memcpy(x_apart + 2 * n * s.I, x + n * s.I, s.I * sizeof *x);
        memcpy(dy_apart + 2 * n * s.O, dy + n * s.O, s.O * sizeof *dy);
    }
    linear_forward(y[0], x, w, NULL, s.n_rows, s.O, s.I, NULL, NULL, false);
    linear_forward(y[1], x_apart, w, NULL, s.n_rows, s.O, s.I, NULL, even, false);
    assert_same_bits(y[0], y[1], y_size);
    linear_backward_input(dx[0], dy, w, s.n_rows, s.O, s.I, NULL, NULL, false);
    linear_backward_input(dx[1], dy_apart, w, s.n_rows, s.O, s.I, NULL, even, false);
    assert_same_bits(dx[0], dx[1], x_size);
    linear_backward_weight(dw[0], NULL, dy, x, s.n_rows, s.O, s.I, NULL, NULL);
    linear_backward_weight(dw[1], NULL, dy_apart, x_apart, s.n_rows, s.O, s.I, even, even);
    assert_same_bits(dw[0], dw[1], s.O * s.I);
    for (int i = 0; i < 2; i++) free(y[i]), free(dx[i]), free(dw[i]);
    free(x), free(dy), free(w), free(x_apart), free(dy_apart), free(even);
}

static inline void check_all_rows_between(void)
{
    static const size_t widths[] = {1, 3, 15, 17, 31, 33, 49, 63};
    enum { WIDTHS = sizeof widths / sizeof widths[0] };
    for (size_t i = 0; i < WIDTHS; i++)
        for (size_t rows = 1; rows <= 19; rows += 9)
            check_rows_between((shape){rows, widths[i], widths[(5 * i + rows) % WIDTHS]});
}

#endif
