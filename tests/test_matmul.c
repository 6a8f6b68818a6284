#include "duo/arena.h"
#include "duo/rng.h"
#include "kernel_fixture.h"

/*
 * Every product is held against the plain loops below, which sum in double. A case has more rows
 * in its arrays than the call uses: rows that are not listed must keep their bits.
 */

enum { THREADS = 2, MOST_THREADS = 4 };

static float *numbers(size_t n, uint32_t stream)
{
    float *x = malloc((n ? n : 1) * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < n; i++) {
        const duo_place place = {.step = i, .row = stream};
        x[i] = (float)(2.0 * duo_uniform(duo_random(1, DUO_RNG_TEST, place).word[0]) - 1.0);
    }
    return x;
}

static float *copy_of(const float *x, size_t n)
{
    float *copy = malloc((n ? n : 1) * sizeof *copy);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, x, n * sizeof *x);
    return copy;
}

/* n distinct rows of 0..total-1 in no order. */
static uint32_t *row_list(size_t n, size_t total, uint64_t key)
{
    uint32_t *rows = malloc((n ? n : 1) * sizeof *rows);
    ck_assert_ptr_nonnull(rows);
    for (size_t i = 0; i < n; i++) rows[i] = (uint32_t)duo_permute(7, DUO_RNG_TEST, key, total, i);
    return rows;
}

static void linear_forward(float *y, const float *x, const float *w, const float *bias,
                           size_t n_rows, size_t O, size_t I, const uint32_t *y_rows,
                           const uint32_t *x_rows, bool add)
{
    const duo_weight weight = {.w = w, .O = O, .I = I};
    duo_linear_forward(y, x, &weight, bias, n_rows, y_rows, x_rows, add);
}

static void linear_backward_input(float *dx, const float *dy, const float *w, size_t n_rows,
                                  size_t O, size_t I, const uint32_t *dx_rows,
                                  const uint32_t *dy_rows, bool add)
{
    const duo_weight weight = {.w = w, .O = O, .I = I};
    duo_linear_backward_input(dx, dy, &weight, n_rows, dx_rows, dy_rows, add);
}

static void linear_backward_weight(float *dw, float *dbias, const float *dy, const float *x,
                                   size_t n_rows, size_t O, size_t I, const uint32_t *dy_rows,
                                   const uint32_t *x_rows)
{
    duo_linear_backward_weight(dw, dbias, dy, x, n_rows, O, I, dy_rows, x_rows, DUO_FP32);
}

static size_t row_of(const uint32_t *rows, size_t n)
{
    return rows ? rows[n] : n;
}

/* Rounding of a sum of K products of numbers below 1, in any order: at most K * 2^-24 for each of
 * K terms, in practice near its square root. */
static double tolerance(size_t K)
{
    return 1e-6 * (4.0 + (double)K / 8.0);
}

static void assert_close(const float *got, const double *want, size_t n, double tol)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= tol))
            ck_abort_msg("element %zu is %.9g instead of %.9g, tolerance %.2g", i, (double)got[i],
                         want[i], tol);
}

static void assert_same_bits(const float *a, const float *b, size_t n)
{
    ck_assert_int_eq(memcmp(a, b, n * sizeof *a), 0);
}

static double *widened(const float *x, size_t n)
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
    uint32_t *x_rows, *y_rows;
} problem;

static problem problem_create(shape s, bool lists)
{
    const size_t total = lists ? 2 * s.n_rows + 3 : s.n_rows;
    return (problem){.s = s,
                     .total = total,
                     .x = numbers(total * s.I, 1),
                     .y = numbers(total * s.O, 2),
                     .w = numbers(s.O * s.I, 3),
                     .bias = numbers(s.O, 4),
                     .x_rows = lists ? row_list(s.n_rows, total, 1) : NULL,
                     .y_rows = lists ? row_list(s.n_rows, total, 2) : NULL};
}

static void problem_free(problem *p)
{
    free(p->x);
    free(p->y);
    free(p->w);
    free(p->bias);
    free(p->x_rows);
    free(p->y_rows);
}

static void check_forward(const problem *p, bool add, bool with_bias)
{
    const size_t size = p->total * p->s.O;
    float *y = copy_of(p->y, size);
    double *want = widened(p->y, size);
    for (size_t n = 0; n < p->s.n_rows; n++) {
        const float *x_n = p->x + row_of(p->x_rows, n) * p->s.I;
        double *y_n = want + row_of(p->y_rows, n) * p->s.O;
        for (size_t o = 0; o < p->s.O; o++) {
            double sum = with_bias ? (double)p->bias[o] : 0.0;
            for (size_t i = 0; i < p->s.I; i++)
                sum += (double)x_n[i] * (double)p->w[o * p->s.I + i];
            y_n[o] = add ? y_n[o] + sum : sum;
        }
    }
    linear_forward(y, p->x, p->w, with_bias ? p->bias : NULL, p->s.n_rows, p->s.O, p->s.I,
                   p->y_rows, p->x_rows, add);
    assert_close(y, want, size, tolerance(p->s.I));
    free(y);
    free(want);
}

static void check_backward_input(const problem *p, bool add)
{
    const size_t size = p->total * p->s.I;
    float *dx = copy_of(p->x, size);
    double *want = widened(p->x, size);
    for (size_t n = 0; n < p->s.n_rows; n++) {
        const float *dy_n = p->y + row_of(p->y_rows, n) * p->s.O;
        double *dx_n = want + row_of(p->x_rows, n) * p->s.I;
        for (size_t i = 0; i < p->s.I; i++) {
            double sum = 0.0;
            for (size_t o = 0; o < p->s.O; o++)
                sum += (double)dy_n[o] * (double)p->w[o * p->s.I + i];
            dx_n[i] = add ? dx_n[i] + sum : sum;
        }
    }
    linear_backward_input(dx, p->y, p->w, p->s.n_rows, p->s.O, p->s.I, p->x_rows, p->y_rows, add);
    assert_close(dx, want, size, tolerance(p->s.O));
    free(dx);
    free(want);
}

static void check_backward_weight(const problem *p, bool with_bias)
{
    const size_t size = p->s.O * p->s.I;
    float *dw = copy_of(p->w, size), *dbias = copy_of(p->bias, p->s.O);
    double *want = widened(p->w, size), *want_bias = widened(p->bias, p->s.O);
    for (size_t n = 0; n < p->s.n_rows; n++) {
        const float *dy_n = p->y + row_of(p->y_rows, n) * p->s.O;
        const float *x_n = p->x + row_of(p->x_rows, n) * p->s.I;
        for (size_t o = 0; o < p->s.O; o++) {
            if (with_bias) want_bias[o] += (double)dy_n[o];
            for (size_t i = 0; i < p->s.I; i++)
                want[o * p->s.I + i] += (double)dy_n[o] * (double)x_n[i];
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

static void check_products(shape s)
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

START_TEST(products_match_plain_loops)
{
    if (!start_isa(_i, THREADS)) return;
    static const size_t sizes[] = {1, 2, 3, 7, 17, 31, 33, 48, 49, 100, 129};
    enum { SIZES = sizeof sizes / sizeof sizes[0] };
    /* Every size meets every other in some place; the third runs along. */
    for (size_t a = 0; a < SIZES; a++)
        for (size_t b = 0; b < SIZES; b++) {
            const size_t c = sizes[(3 * a + 5 * b) % SIZES];
            check_products((shape){sizes[a], sizes[b], c});
            check_products((shape){c, sizes[a], sizes[b]});
        }
    duo_kernels_stop();
}
END_TEST

/* Sums and rows longer than one block, of each product. */
START_TEST(products_match_plain_loops_over_several_blocks)
{
    if (!start_isa(_i, THREADS)) return;
    static const shape shapes[] = {{5, 3, 2100}, {5, 2100, 3}, {1100, 3, 5}, {700, 17, 130}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) check_products(shapes[i]);
    duo_kernels_stop();
}
END_TEST

START_TEST(no_rows_change_nothing)
{
    if (!start_isa(_i, THREADS)) return;
    check_products((shape){0, 5, 7});
    linear_forward(NULL, NULL, NULL, NULL, 0, 5, 7, NULL, NULL, false);
    linear_backward_input(NULL, NULL, NULL, 0, 5, 7, NULL, NULL, false);
    linear_backward_weight(NULL, NULL, NULL, NULL, 0, 5, 7, NULL, NULL);
    duo_kernels_stop();
}
END_TEST

typedef struct results {
    float *y, *dx, *dw, *dbias;
} results;

static results run(const problem *p)
{
    const shape s = p->s;
    const results r = {copy_of(p->y, p->total * s.O), copy_of(p->x, p->total * s.I),
                       copy_of(p->w, s.O * s.I), copy_of(p->bias, s.O)};
    linear_forward(r.y, p->x, p->w, p->bias, s.n_rows, s.O, s.I, p->y_rows, p->x_rows, true);
    linear_backward_input(r.dx, p->y, p->w, s.n_rows, s.O, s.I, p->x_rows, p->y_rows, true);
    linear_backward_weight(r.dw, r.dbias, p->y, p->x, s.n_rows, s.O, s.I, p->y_rows, p->x_rows);
    return r;
}

static void results_free(results *r)
{
    free(r->y);
    free(r->dx);
    free(r->dw);
    free(r->dbias);
}

static const shape shapes_of_bits[] = {{3, 49, 100},    {129, 100, 49}, {130, 70, 1030},
                                       {130, 1030, 70}, {1100, 33, 65}, {600, 130, 129}};
enum { SHAPES_OF_BITS = sizeof shapes_of_bits / sizeof shapes_of_bits[0] };

START_TEST(threads_do_not_change_bits)
{
    for (size_t i = 0; i < SHAPES_OF_BITS; i++) {
        problem p = problem_create(shapes_of_bits[i], true);
        if (!start_isa(_i, 1)) {
            problem_free(&p);
            return;
        }
        results one = run(&p);
        for (int threads = 2; threads <= MOST_THREADS; threads++) {
            ck_assert(start_isa(_i, threads));
            results many = run(&p);
            assert_same_bits(one.y, many.y, p.total * p.s.O);
            assert_same_bits(one.dx, many.dx, p.total * p.s.I);
            assert_same_bits(one.dw, many.dw, p.s.O * p.s.I);
            assert_same_bits(one.dbias, many.dbias, p.s.O);
            results_free(&many);
        }
        results_free(&one);
        problem_free(&p);
        duo_kernels_stop();
    }
}
END_TEST

/* The rows first..first+count of the call, alone, give what they gave among all the others. */
static void check_part(const problem *p, const results *all, size_t first, size_t count)
{
    problem part = *p;
    part.s.n_rows = count;
    part.x_rows = p->x_rows + first;
    part.y_rows = p->y_rows + first;
    results alone = run(&part);
    for (size_t n = 0; n < count; n++) {
        const size_t y = part.y_rows[n] * p->s.O, x = part.x_rows[n] * p->s.I;
        assert_same_bits(alone.y + y, all->y + y, p->s.O);
        assert_same_bits(alone.dx + x, all->dx + x, p->s.I);
    }
    results_free(&alone);
}

START_TEST(other_rows_do_not_change_bits)
{
    if (!start_isa(_i, THREADS)) return;
    for (size_t i = 0; i < SHAPES_OF_BITS; i++) {
        problem p = problem_create(shapes_of_bits[i], true);
        results all = run(&p);
        const size_t n = p.s.n_rows;
        check_part(&p, &all, 0, 1);
        check_part(&p, &all, n / 2, 1);
        check_part(&p, &all, n - 1, 1);
        check_part(&p, &all, 1, 2);
        check_part(&p, &all, n / 3, n / 2);
        results_free(&all);
        problem_free(&p);
    }
    duo_kernels_stop();
}
END_TEST

/* The columns of a wide layer do not depend on where they stand in it. */
START_TEST(other_columns_do_not_change_bits)
{
    if (!start_isa(_i, THREADS)) return;
    problem p = problem_create((shape){40, 131, 77}, false);
    results all = run(&p);
    const size_t first = 59, O = 13;
    float *y = numbers(p.s.n_rows * O, 5);
    linear_forward(y, p.x, p.w + first * p.s.I, p.bias + first, p.s.n_rows, O, p.s.I, NULL, NULL,
                   false);
    float *whole = numbers(p.s.n_rows * p.s.O, 6);
    linear_forward(whole, p.x, p.w, p.bias, p.s.n_rows, p.s.O, p.s.I, NULL, NULL, false);
    for (size_t n = 0; n < p.s.n_rows; n++)
        assert_same_bits(y + n * O, whole + n * p.s.O + first, O);
    free(y);
    free(whole);
    results_free(&all);
    problem_free(&p);
    duo_kernels_stop();
}
END_TEST

/* out (R) = A (R, C) t  or, transposed,  out (C) = A^T t. */
static double *project(const float *a, size_t R, size_t C, const double *t, bool transposed)
{
    double *out = calloc(transposed ? C : R, sizeof *out);
    ck_assert_ptr_nonnull(out);
    for (size_t r = 0; r < R; r++)
        for (size_t c = 0; c < C; c++) {
            if (transposed)
                out[c] += (double)a[r * C + c] * t[r];
            else
                out[r] += (double)a[r * C + c] * t[c];
        }
    return out;
}

static void assert_doubles_near(const double *got, const double *want, size_t n, double tol)
{
    for (size_t i = 0; i < n; i++) ck_assert_double_eq_tol(got[i], want[i], tol);
}

/*
 * (x W^T) t = x (W^T t), (dy W) t = dy (W t), (dy^T x) t = dy^T (x t): products too large for
 * plain loops, among them weights wider than one packed block. An output is off by about
 * sqrt(K) * 6e-8 * sqrt(K) / 3, and a projection adds sqrt(N) of them.
 */
START_TEST(large_products_match_a_projection)
{
    if (!start_isa(_i, THREADS)) return;
    static const shape shapes[] = {{300, 4200, 70}, {1500, 130, 1100}, {300, 70, 4200}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const shape s = shapes[i];
        problem p = problem_create(s, false);
        double *t_O = widened(p.bias, s.O);
        float *random = numbers(s.I, 7);
        double *t_I = widened(random, s.I);
        float *y = numbers(s.n_rows * s.O, 8), *dx = numbers(s.n_rows * s.I, 9);
        float *dw = calloc(s.O * s.I, sizeof *dw);
        ck_assert_ptr_nonnull(dw);
        linear_forward(y, p.x, p.w, NULL, s.n_rows, s.O, s.I, NULL, NULL, false);
        linear_backward_input(dx, p.y, p.w, s.n_rows, s.O, s.I, NULL, NULL, false);
        linear_backward_weight(dw, NULL, p.y, p.x, s.n_rows, s.O, s.I, NULL, NULL);

        double *w_t = project(p.w, s.O, s.I, t_O, true); /* W^T t */
        double *want = project(p.x, s.n_rows, s.I, w_t, false);
        double *got = project(y, s.n_rows, s.O, t_O, false);
        assert_doubles_near(got, want, s.n_rows, 4e-3);
        free(w_t), free(want), free(got);

        w_t = project(p.w, s.O, s.I, t_I, false);
        want = project(p.y, s.n_rows, s.O, w_t, false);
        got = project(dx, s.n_rows, s.I, t_I, false);
        assert_doubles_near(got, want, s.n_rows, 4e-3);
        free(w_t), free(want), free(got);

        double *x_t = project(p.x, s.n_rows, s.I, t_I, false);
        want = project(p.y, s.n_rows, s.O, x_t, true);
        got = project(dw, s.O, s.I, t_I, false);
        assert_doubles_near(got, want, s.O, 4e-3);
        free(x_t), free(want), free(got);

        free(t_O), free(t_I), free(random), free(y), free(dx), free(dw);
        problem_free(&p);
    }
    duo_kernels_stop();
}
END_TEST

/* L = sum(g * y), y = x W^T + bias, is linear in x, in W and in bias: a difference of any width is
 * its derivative up to rounding, and the gradients must give it. */
START_TEST(gradients_match_differences)
{
    if (!start_isa(_i, THREADS)) return;
    problem p = problem_create((shape){19, 35, 51}, true); /* p.y is the upstream gradient */
    const size_t O = p.s.O, I = p.s.I, n_rows = p.s.n_rows;
    float *direction_x = numbers(p.total * I, 5), *direction_w = numbers(O * I, 6);
    float *direction_b = numbers(O, 7);
    float *dx = numbers(p.total * I, 8), *dw = calloc(O * I, sizeof *dw),
          *db = calloc(O, sizeof *db);
    ck_assert(dw && db);
    linear_backward_input(dx, p.y, p.w, n_rows, O, I, p.x_rows, p.y_rows, false);
    linear_backward_weight(dw, db, p.y, p.x, n_rows, O, I, p.y_rows, p.x_rows);

    double expected[3] = {0.0}, measured[3] = {0.0};
    for (size_t n = 0; n < n_rows; n++)
        for (size_t i = 0; i < I; i++) {
            const size_t at = p.x_rows[n] * I + i;
            expected[0] += (double)dx[at] * (double)direction_x[at];
        }
    for (size_t i = 0; i < O * I; i++) expected[1] += (double)dw[i] * (double)direction_w[i];
    for (size_t o = 0; o < O; o++) expected[2] += (double)db[o] * (double)direction_b[o];

    for (int which = 0; which < 3; which++)
        for (int sign = -1; sign <= 1; sign += 2) {
            float *x = copy_of(p.x, p.total * I), *w = copy_of(p.w, O * I);
            float *bias = copy_of(p.bias, O), *y = copy_of(p.y, p.total * O);
            const float h = (float)sign;
            for (size_t i = 0; which == 0 && i < p.total * I; i++) x[i] += h * direction_x[i];
            for (size_t i = 0; which == 1 && i < O * I; i++) w[i] += h * direction_w[i];
            for (size_t o = 0; which == 2 && o < O; o++) bias[o] += h * direction_b[o];
            linear_forward(y, x, w, bias, n_rows, O, I, p.y_rows, p.x_rows, false);
            for (size_t n = 0; n < n_rows; n++)
                for (size_t o = 0; o < O; o++) {
                    const size_t at = p.y_rows[n] * O + o;
                    measured[which] += 0.5 * sign * (double)p.y[at] * (double)y[at];
                }
            free(x), free(w), free(bias), free(y);
        }
    /* About 34,000 terms below 2 with a relative error of 1e-6 each, signs at random. */
    assert_doubles_near(measured, expected, 3, 1e-3);
    free(direction_x), free(direction_w), free(direction_b), free(dx), free(dw), free(db);
    problem_free(&p);
    duo_kernels_stop();
}
END_TEST

/* n floats of memory aligned for a packed form, and more behind them that must keep their bits. */
enum { FENCE = 64 };

static float *fenced(size_t bytes)
{
    const size_t size = (bytes + FENCE + DUO_ALIGN - 1) / DUO_ALIGN * DUO_ALIGN;
    float *block = aligned_alloc(DUO_ALIGN, size);
    ck_assert_ptr_nonnull(block);
    memset(block, 0x5a, size);
    return block;
}

static void assert_fence(const float *block, size_t bytes)
{
    for (size_t i = 0; i < FENCE; i++) ck_assert_int_eq(((const char *)block)[bytes + i], 0x5a);
}

/* A packed form has the same bytes whatever the threads, and a product the same bits with it. */
START_TEST(packed_weights_do_not_change_bits)
{
    static const shape shapes[] = {{1, 49, 100},    {64, 100, 49},  {130, 70, 1030}, {70, 1030, 70},
                                   {300, 257, 300}, {9, 2100, 129}, {5, 1, 3}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const shape s = shapes[i];
        problem p = problem_create(s, true);
        float *first[2] = {NULL, NULL};
        for (int threads = 1; threads <= MOST_THREADS && start_isa(_i, threads); threads++) {
            duo_weight weight = {.w = p.w, .O = s.O, .I = s.I};
            results plain = run(&p);
            const size_t bytes[2] = {duo_pack_forward_bytes(&weight),
                                     duo_pack_backward_bytes(&weight)};
            float *form[2] = {fenced(bytes[0]), fenced(bytes[1])};
            weight.forward = form[0];
            weight.backward = form[1];
            duo_weight_pack(&weight);
            weight.w = NULL; /* the packed forms are enough */
            float *y = copy_of(p.y, p.total * s.O), *dx = copy_of(p.x, p.total * s.I);
            duo_linear_forward(y, p.x, &weight, p.bias, s.n_rows, p.y_rows, p.x_rows, true);
            duo_linear_backward_input(dx, p.y, &weight, s.n_rows, p.x_rows, p.y_rows, true);
            assert_same_bits(y, plain.y, p.total * s.O);
            assert_same_bits(dx, plain.dx, p.total * s.I);
            for (int side = 0; side < 2; side++) {
                assert_fence(form[side], bytes[side]);
                if (threads == 1) first[side] = fenced(bytes[side]);
                if (threads == 1) memcpy(first[side], form[side], bytes[side]);
                ck_assert_mem_eq(form[side], first[side], bytes[side]);
                free(form[side]);
            }
            free(y), free(dx);
            results_free(&plain);
        }
        free(first[0]), free(first[1]);
        problem_free(&p);
    }
    duo_kernels_stop();
}
END_TEST

START_TEST(start_chooses_the_instruction_set)
{
    setenv("DUO_ISA", "portable", 1);
    ck_assert_int_eq(duo_kernels_start(1), DUO_OK);
    ck_assert_int_eq(duo_kernels_isa(), DUO_ISA_PORTABLE);
    setenv("DUO_ISA", "abacus", 1);
    ck_assert_int_eq(duo_kernels_start(1), DUO_EINVAL);
    ck_assert_ptr_nonnull(strstr(duo_message(), "abacus"));
    unsetenv("DUO_ISA");
    ck_assert_int_eq(duo_kernels_start(-1), DUO_EINVAL);
    ck_assert_int_eq(duo_kernels_start(DUO_MAX_THREADS + 1), DUO_EINVAL);
    ck_assert_int_eq(duo_kernels_start(0), DUO_OK);
    ck_assert_int_ge(duo_kernels_threads(), 1);
    duo_kernels_stop();
    duo_kernels_stop();
}
END_TEST

int main(void)
{
    const struct {
        const char *name;
        const TTest *test;
    } on_every_isa[] = {
        {"plain loops", products_match_plain_loops},
        {"several blocks", products_match_plain_loops_over_several_blocks},
        {"no rows", no_rows_change_nothing},
        {"threads", threads_do_not_change_bits},
        {"other rows", other_rows_do_not_change_bits},
        {"other columns", other_columns_do_not_change_bits},
        {"large", large_products_match_a_projection},
        {"gradients", gradients_match_differences},
        {"packed weights", packed_weights_do_not_change_bits},
    };
    Suite *suite = suite_create("matmul");
    for (size_t i = 0; i < sizeof on_every_isa / sizeof on_every_isa[0]; i++) {
        TCase *tests = tcase_create(on_every_isa[i].name);
        tcase_set_timeout(tests, 50.0);
        tcase_add_loop_test(tests, on_every_isa[i].test, 0, ALL_ISAS);
        suite_add_tcase(suite, tests);
    }
    TCase *tests = tcase_create("start");
    tcase_add_test(tests, start_chooses_the_instruction_set);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
