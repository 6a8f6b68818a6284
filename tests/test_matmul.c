#include "matmul_fixture.h"

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

START_TEST(rows_between_are_not_read)
{
    if (!start_isa(_i, 1)) return;
    check_all_rows_between();
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

START_TEST(packed_weights_do_not_change_bits)
{
    static const shape shapes[] = {{1, 49, 100},    {64, 100, 49},  {130, 70, 1030}, {70, 1030, 70},
                                   {300, 257, 300}, {9, 2100, 129}, {5, 1, 3}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        problem p = problem_create(shapes[i], true);
        float *first[2] = {NULL, NULL};
        for (int threads = 1; threads <= MOST_THREADS && start_isa(_i, threads); threads++)
            check_packed(&p, first, threads == 1);
        free(first[0]), free(first[1]);
        problem_free(&p);
    }
    duo_kernels_stop();
}
END_TEST

/* Products of one call and products on their own, the last weight packed. */
static void check_each(size_t n_rows, size_t I)
{
    enum { OUTPUTS = 3 };
    static const size_t O[OUTPUTS] = {49, 7, 130};
    const size_t total = 2 * n_rows + 3;
    float *x = numbers(total * I, 1), *w[OUTPUTS], *y[OUTPUTS][2], *dw[OUTPUTS][2];
    uint32_t *rows = row_list(n_rows, total, 1);
    duo_weight weights[OUTPUTS];
    duo_linear_output outputs[OUTPUTS];
    duo_linear_gradient gradients[OUTPUTS];
    for (size_t i = 0; i < OUTPUTS; i++) {
        w[i] = numbers(O[i] * I, 2);
        for (int k = 0; k < 2; k++) {
            y[i][k] = numbers(n_rows * O[i], 3);
            dw[i][k] = numbers(O[i] * I, 4);
        }
        weights[i] = (duo_weight){.w = w[i], .O = O[i], .I = I, .precision = precision};
        outputs[i] = (duo_linear_output){y[i][0], &weights[i]};
        gradients[i] = (duo_linear_gradient){dw[i][0], y[i][1], O[i]};
    }
    duo_weight *last = &weights[OUTPUTS - 1];
    const size_t bytes = duo_pack_forward_bytes(last);
    float *packed = fenced(bytes);
    last->forward = packed;
    duo_weight_pack(last);

    duo_linear_forward_each(outputs, OUTPUTS, x, n_rows, rows);
    for (size_t i = 0; i < OUTPUTS; i++)
        duo_linear_forward(y[i][1], x, &weights[i], NULL, n_rows, NULL, rows, false);
    gradients[1].dw = NULL; /* frozen */
    duo_linear_backward_weight_each(gradients, OUTPUTS, x, n_rows, I, rows, precision);
    for (size_t i = 0; i < OUTPUTS; i++) {
        if (gradients[i].dw)
            linear_backward_weight(dw[i][1], NULL, y[i][1], x, n_rows, O[i], I, NULL, rows);
        assert_same_bits(y[i][0], y[i][1], n_rows * O[i]);
        assert_same_bits(dw[i][0], dw[i][1], O[i] * I);
        free(w[i]), free(y[i][0]), free(y[i][1]), free(dw[i][0]), free(dw[i][1]);
    }
    assert_fence(packed, bytes);
    free(packed), free(x), free(rows);
}

START_TEST(products_of_one_call_have_the_bits_of_their_own)
{
    static const size_t sizes[][2] = {{0, 8}, {1, 100}, {64, 49}, {300, 1030}, {1100, 70}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int threads = 1; threads <= MOST_THREADS && start_isa(_i, threads); threads++)
            check_each(sizes[i][0], sizes[i][1]);
    duo_kernels_stop();
}
END_TEST

START_TEST(start_chooses_the_instruction_set)
{
    setenv("DUO_ISA", "portable", 1);
    ok(duo_kernels_start(1));
    ck_assert_int_eq(duo_kernels_isa(), DUO_ISA_PORTABLE);
    setenv("DUO_ISA", "abacus", 1);
    refused(duo_kernels_start(1), DUO_EINVAL, "abacus");
    unsetenv("DUO_ISA");
    ck_assert_int_eq(duo_kernels_start(-1), DUO_EINVAL);
    ck_assert_int_eq(duo_kernels_start(DUO_MAX_THREADS + 1), DUO_EINVAL);
    ok(duo_kernels_start(0));
    ck_assert_int_ge(duo_kernels_threads(), 1);
    duo_kernels_stop();
    duo_kernels_stop();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        products_match_plain_loops,
        products_match_plain_loops_over_several_blocks,
        no_rows_change_nothing,
        rows_between_are_not_read,
        threads_do_not_change_bits,
        other_rows_do_not_change_bits,
        other_columns_do_not_change_bits,
        large_products_match_a_projection,
        gradients_match_differences,
        packed_weights_do_not_change_bits,
        products_of_one_call_have_the_bits_of_their_own,
    };
    const TTest *const once[] = {start_chooses_the_instruction_set};
    Suite *suite = suite_create("matmul");
    add_case(suite, 50, tests, sizeof tests / sizeof *tests, ALL_ISAS);
    add_case(suite, 4, once, 1, 1);
    return run_cases(suite);
}
