#include "gradcheck.h"
#include "kernel_fixture.h"

static int32_t target(size_t n, size_t V)
{
    return (int32_t)(n * 7919 % V);
}

static double log_sum_exp(const float *z, size_t V)
{
    double sum = 0.0;
    for (size_t v = 0; v < V; v++) sum += exp((double)z[v]);
    return log(sum);
}

typedef struct rows {
    size_t N, V;
    float *x, *y, *w;
    float *noise;
    float tau;
} rows;

static rows setup(size_t N, size_t V, float spread)
{
    rows f = {.N = N, .V = V, .tau = 0.7f};
    f.x = gradcheck_numbers(N * V, 21);
    f.y = gradcheck_numbers(N * V, 22);
    f.w = gradcheck_numbers(N * V, 23);
    f.noise = gradcheck_numbers(N * V, 24);
    for (size_t i = 0; i < N * V; i++) f.x[i] *= spread;
    return f;
}

static void teardown(rows *f)
{
    free(f->x), free(f->y), free(f->w), free(f->noise);
}

/* Rows 0, 3 and 4, whose logits are ordinary, under two distributions. */
static void check_expected(const rows *f, const float *lse)
{
    const size_t V = f->V, n[] = {0, 3, 4};
    const uint32_t q_rows[] = {1, 0, 1};
    float *q = malloc(2 * V * sizeof *q), loss;
    ck_assert_ptr_nonnull(q);
    for (size_t v = 0; v < 2 * V; v++) q[v] = (float)(v % 7 + v / V);
    for (size_t row = 0; row < 2; row++) {
        float sum = 0;
        for (size_t v = 0; v < V; v++) sum += q[row * V + v];
        for (size_t v = 0; v < V; v++) q[row * V + v] /= sum;
    }
    for (size_t i = 0; i < 3; i++) {
        double want = (double)lse[n[i]];
        for (size_t v = 0; v < V; v++)
            want -= (double)q[q_rows[i] * V + v] * (double)f->x[n[i] * V + v];
        duo_cross_entropy_expected(&loss, lse + n[i], f->x + n[i] * V, q, q_rows + i, 1, V);
        ck_assert_double_eq_tol((double)loss, want, 8e-6);
    }
    free(q);
}

START_TEST(cross_entropy_matches_the_definition)
{
    enum { N = 5, V = 1003 };
    const float dloss = 0.25f;
    if (!start_isa(_i, 1)) return;
    rows f = setup(N, V, 8.0f);
    f.x[V] = 30000.0f; /* row 1: one logit above all, row 2: one far below */
    f.x[2 * V + 5] = -INFINITY;
    int32_t targets[N];
    float loss[N], lse[N];
    double want_loss[N], want_lse[N], *gradient = malloc(N * V * sizeof *gradient);
    ck_assert_ptr_nonnull(gradient);
    for (size_t n = 0; n < N; n++) {
        targets[n] = target(n, V);
        want_lse[n] = n == 1 ? 30000.0 : log_sum_exp(f.x + n * V, V);
        want_loss[n] = want_lse[n] - (double)f.x[n * V + (size_t)targets[n]];
        for (size_t v = 0; v < V; v++)
            gradient[n * V + v] = (double)dloss * (exp((double)f.x[n * V + v] - want_lse[n]) -
                                                   (v == (size_t)targets[n] ? 1.0 : 0.0));
    }
    duo_cross_entropy_forward(loss, lse, f.x, targets, N, V);
    /* Rounding of a sum of 1000 exponentials, and of the result, about 10. */
    assert_near("lse", lse, want_lse, N, 4e-6);
    for (size_t n = 0; n < N; n++)
        ck_assert_double_eq_tol((double)loss[n], want_loss[n], n == 1 ? 4e-3 : 8e-6);
    check_expected(&f, lse);
    duo_cross_entropy_backward(f.x, lse, targets, dloss, N, V);
    assert_near("dz", f.x, gradient, N * V, 2e-6);
    free(gradient);
    teardown(&f);
    duo_kernels_stop();
}
END_TEST

static double cross_entropy_loss(void *context)
{
    rows *f = context;
    int32_t targets[8];
    float loss[8], lse[8];
    double sum = 0.0;
    for (size_t n = 0; n < f->N; n++) targets[n] = target(n, f->V);
    duo_cross_entropy_forward(loss, lse, f->x, targets, f->N, f->V);
    for (size_t n = 0; n < f->N; n++) sum += 0.4 * (double)loss[n];
    return sum;
}

START_TEST(cross_entropy_gradient_matches_central_differences)
{
    enum { N = 3, V = 37 };
    if (!start_isa(_i, 1)) return;
    rows f = setup(N, V, 3.0f);
    int32_t targets[N];
    float loss[N], lse[N];
    for (size_t n = 0; n < N; n++) targets[n] = target(n, V);
    duo_cross_entropy_forward(loss, lse, f.x, targets, N, V);
    memcpy(f.y, f.x, N * V * sizeof *f.y);
    duo_cross_entropy_backward(f.y, lse, targets, 0.4f, N, V);
    /* h^2 / 6 of a third derivative below 0.1; 1e-6 of rounding over 2h. */
    gradcheck("dz", cross_entropy_loss, &f, f.x, f.y, 0.0f, N * V, 1, 1e-2f, 2e-4);
    teardown(&f);
    duo_kernels_stop();
}
END_TEST

static double gumbel_loss(void *context)
{
    rows *f = context;
    float *soft = malloc(f->N * f->V * sizeof *soft);
    ck_assert_ptr_nonnull(soft);
    duo_gumbel_softmax_forward(f->y, soft, f->x, f->noise, f->tau, false, f->N, f->V);
    free(soft);
    return gradcheck_dot(f->w, f->y, f->N * f->V);
}

START_TEST(gumbel_gradients_match_central_differences)
{
    const size_t widths[] = {1, 2, 3, 19, 37};
    const float before = 0.5f;
    if (!start_isa(_i, 1)) return;
    for (size_t m = 0; m < sizeof widths / sizeof *widths; m++) {
        rows f = setup(7, widths[m], 2.0f);
        const size_t n = f.N * f.V;
        float *dx = malloc(n * sizeof *dx);
        ck_assert_ptr_nonnull(dx);
        for (size_t i = 0; i < n; i++) dx[i] = before;
        gumbel_loss(&f);
        duo_gumbel_softmax_backward(dx, f.w, f.y, f.tau, f.N, f.V);
        gradcheck("gumbel dh", gumbel_loss, &f, f.x, dx, before, n, 1, 1e-2f, 2e-4);
        free(dx);
        teardown(&f);
    }
    duo_kernels_stop();
}
END_TEST

START_TEST(gumbel_softmax_matches_the_definition)
{
    enum { N = 50, M = 3 };
    if (!start_isa(_i, 1)) return;
    rows f = setup(N, M, 2.0f);
    float *soft = malloc(N * M * sizeof *soft);
    double *want = malloc(N * M * sizeof *want);
    ck_assert(soft && want);
    f.x[0] = f.x[1] = f.x[2] = 1.0f; /* a tie, with its noise */
    f.noise[0] = -1.0f;
    f.noise[1] = f.noise[2] = 0.25f;
    for (size_t n = 0; n < N; n++) {
        double sum = 0.0;
        for (size_t i = n * M; i < (n + 1) * M; i++)
            sum += want[i] = exp(((double)f.x[i] + (double)f.noise[i]) / (double)f.tau);
        for (size_t i = n * M; i < (n + 1) * M; i++) want[i] /= sum;
    }
    duo_gumbel_softmax_forward(f.y, soft, f.x, f.noise, f.tau, false, N, M);
    assert_near("soft", soft, want, N * M, 2e-6);
    ck_assert_mem_eq(soft, f.y, N * M * sizeof *soft);
    duo_gumbel_softmax_forward(f.y, soft, f.x, f.noise, f.tau, true, N, M);
    assert_near("soft", soft, want, N * M, 2e-6);
    for (size_t n = 0; n < N; n++) {
        size_t best = 0;
        for (size_t m = 1; m < M; m++)
            if (soft[n * M + m] > soft[n * M + best]) best = m;
        if (n == 0) ck_assert_uint_eq(best, 1);
        for (size_t m = 0; m < M; m++) ck_assert(f.y[n * M + m] == (m == best ? 1.0f : 0.0f));
    }
    /* Without noise and temperature it is the softmax. */
    duo_gumbel_softmax_forward(f.y, soft, f.x, NULL, 1.0f, false, N, M);
    duo_softmax_forward(f.noise, f.x, N, M);
    ck_assert_mem_eq(soft, f.noise, N * M * sizeof *soft);
    free(soft);
    free(want);
    teardown(&f);
    duo_kernels_stop();
}
END_TEST

enum { MIX_N = 9, MIX_C = 43, MIX_STRIDE = 3 };

typedef struct mix {
    float *x, *y, *weights, *w;
} mix;

static double mix_loss(void *context)
{
    mix *f = context;
    float x[MIX_N * MIX_C];
    memcpy(x, f->x, sizeof x);
    duo_mix_forward(x, f->y, f->weights, MIX_STRIDE, MIX_N, MIX_C);
    return gradcheck_dot(f->w, x, MIX_N * MIX_C);
}

START_TEST(mix_gradients_match_central_differences)
{
    const size_t n = MIX_N * MIX_C;
    if (!start_isa(_i, 1)) return;
    mix f = {gradcheck_numbers(n, 31), gradcheck_numbers(n, 32),
             gradcheck_numbers(MIX_N * MIX_STRIDE, 33), gradcheck_numbers(n, 34)};
    float *dy = gradcheck_numbers(n, 35), dweights[MIX_N * MIX_STRIDE], own[MIX_N], weights[MIX_N];
    for (size_t i = 0; i < MIX_N * MIX_STRIDE; i++) dweights[i] = 0.5f;
    duo_mix_backward(dy, dweights, f.w, f.y, f.weights, MIX_STRIDE, MIX_N, MIX_C);
    /* Linear, so only the rounding of 400 terms over 2h is left. */
    gradcheck("dy", mix_loss, &f, f.y, dy, 0.0f, n, 1, 0.25f, 2e-5);
    for (size_t i = 0; i < MIX_N; i++) {
        own[i] = dweights[i * MIX_STRIDE];
        ck_assert(dweights[i * MIX_STRIDE + 1] == 0.5f);
        weights[i] = f.weights[i * MIX_STRIDE];
    }
    for (size_t i = 0; i < MIX_N; i++) {
        f.weights[i * MIX_STRIDE] = weights[i] + 0.25f;
        const double up = mix_loss(&f);
        f.weights[i * MIX_STRIDE] = weights[i] - 0.25f;
        const double down = mix_loss(&f);
        f.weights[i * MIX_STRIDE] = weights[i];
        ck_assert_double_eq_tol((double)own[i], 0.5 + (up - down) / 0.5, 4e-5);
    }
    /* dy may be y, and the weights may be frozen. */
    duo_mix_backward(f.y, NULL, f.w, f.y, f.weights, MIX_STRIDE, MIX_N, MIX_C);
    ck_assert_mem_eq(f.y, dy, n * sizeof *dy);
    free(f.x), free(f.y), free(f.weights), free(f.w), free(dy);
    duo_kernels_stop();
}
END_TEST

/* Wide enough that every kernel wakes the other threads. */
enum { BIG_N = 131, BIG_V = 257 };

static void run_softmax(float *out)
{
    const size_t n = BIG_N * BIG_V;
    rows f = setup(BIG_N, BIG_V, 4.0f);
    int32_t targets[BIG_N];
    for (size_t i = 0; i < BIG_N; i++) targets[i] = target(i, BIG_V);
    memset(out, 0, (6 * n + 3 * BIG_N) * sizeof *out);
    float *loss = out + 6 * n, *lse = loss + BIG_N, *dweights = lse + BIG_N;
    duo_softmax_forward(out, f.x, BIG_N, BIG_V);
    duo_gumbel_softmax_forward(out + 2 * n, out + 3 * n, f.x, f.noise, f.tau, true, BIG_N, BIG_V);
    duo_gumbel_softmax_backward(out + n, f.w, out + 3 * n, f.tau, BIG_N, BIG_V);
    duo_mix_forward(out + 4 * n, f.y, f.w, 2, BIG_N, BIG_V);
    duo_mix_backward(out + 5 * n, dweights, f.w, f.y, f.noise, 1, BIG_N, BIG_V);
    duo_cross_entropy_forward(loss, lse, f.x, targets, BIG_N, BIG_V);
    duo_cross_entropy_backward(f.x, lse, targets, 0.1f, BIG_N, BIG_V);
    memcpy(out, f.x, n * sizeof *out);
    teardown(&f);
}

START_TEST(bits_do_not_depend_on_threads)
{
    assert_same_bits_on_any_threads(_i, run_softmax, 6 * BIG_N * BIG_V + 3 * BIG_N);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        cross_entropy_matches_the_definition,
        cross_entropy_gradient_matches_central_differences,
        gumbel_gradients_match_central_differences,
        gumbel_softmax_matches_the_definition,
        mix_gradients_match_central_differences,
        bits_do_not_depend_on_threads,
    };
    return run_on_every_isa("softmax", tests, sizeof tests / sizeof *tests);
}
