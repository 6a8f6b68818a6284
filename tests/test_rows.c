#include "gradcheck.h"
#include "kernel_fixture.h"
#include "simd.h"
#include "vmath.h"

/* A table that is never selected would pass all other tests, slowly. */
START_TEST(each_instruction_set_has_its_own_rows)
{
    if (!start_isa(_i, 1)) return;
    const duo_simd *tables[ALL_ISAS] = {[DUO_ISA_PORTABLE] = &duo_simd_portable};
#ifdef __x86_64__
    tables[DUO_ISA_AVX2] = &duo_simd_avx2;
    for (int isa = DUO_ISA_AVX512; isa < ALL_ISAS; isa++) tables[isa] = &duo_simd_avx512;
#endif
    ck_assert_ptr_eq(duo_rows, tables[_i]);
    duo_kernels_stop();
}
END_TEST

/* ---------------------------------------------------------------- exp and log */

/* Error in units of the last place of a float as large as want. */
static double ulps(float got, double want)
{
    int exponent;
    frexp(want, &exponent);
    const double unit = ldexp(1.0, (exponent < -125 ? -125 : exponent) - 24);
    return fabs((double)got - want) / unit;
}

START_TEST(exp_is_accurate_over_the_whole_range)
{
    enum { CHUNK = 4096 };
    static float x[CHUNK], y[CHUNK];
    const float highest = 88.7228317f; /* the last whose exponential is finite */
    const float lowest = -87.3365402f; /* the last whose exponential is not subnormal */
    double worst = 0.0;
    if (!start_isa(_i, 1)) return;
    for (float from = -106.0f; from < 89.0f; from += 0.5f) {
        for (size_t i = 0; i < CHUNK; i++) x[i] = from + 0.5f * (float)i / CHUNK;
        duo_rows->exp_scale(y, x, 1.0f, 0.0f, 1.0f, CHUNK);
        for (size_t i = 0; i < CHUNK; i++) {
            if (x[i] > highest) {
                ck_assert(isinf(y[i]));
            } else if (x[i] < lowest) {
                ck_assert(y[i] == 0.0f);
            } else {
                worst = fmax(worst, ulps(y[i], exp((double)x[i])));
            }
        }
    }
    ck_assert_double_le(worst, 1.2);

    const float special[] = {0.0f,     -0.0f,  1e-40f,  -1e-40f,   highest, 1e30f,
                             INFINITY, -1e30f, -104.0f, -INFINITY, NAN};
    enum { SPECIALS = sizeof special / sizeof *special };
    duo_rows->exp_scale(y, special, 1.0f, 0.0f, 1.0f, SPECIALS);
    for (size_t i = 0; i < 4; i++) ck_assert(y[i] == 1.0f);
    ck_assert(isfinite(y[4]) && isinf(y[5]) && isinf(y[6]));
    for (size_t i = 7; i < 10; i++) ck_assert(y[i] == 0.0f);
    ck_assert(isnan(y[10]));
    duo_kernels_stop();
}
END_TEST

START_TEST(log_is_accurate_over_the_whole_range)
{
    double worst = 0.0;
    for (uint32_t bits = 1; bits < 0x7f800000u; bits += 997) {
        const float x = duo_bits_float(bits);
        worst = fmax(worst, ulps(duo_logf(x), log((double)x)));
    }
    for (uint32_t bits = 0x3f7f0000u; bits < 0x3f810000u; bits++) /* around 1, where it is 0 */
        worst =
            fmax(worst, ulps(duo_logf(duo_bits_float(bits)), log((double)duo_bits_float(bits))));
    ck_assert_double_le(worst, 2.0);
    ck_assert(duo_logf(1.0f) == 0.0f && duo_logf(0.0f) == -INFINITY);
    ck_assert(duo_logf(INFINITY) == INFINITY);
    ck_assert(isnan(duo_logf(-1.0f)) && isnan(duo_logf(NAN)) && isnan(duo_logf(-INFINITY)));
}
END_TEST

/* Vector, remainder and alignment: the place of an element or of a row changes no bit. */
START_TEST(bits_do_not_depend_on_the_place)
{
    enum { N = 301 };
    if (!start_isa(_i, 1)) return;
    float *x = gradcheck_numbers(N, 1), *y = gradcheck_numbers(N, 2);
    float *moved = malloc((N + 16) * sizeof *moved);
    float *whole = malloc(N * sizeof *whole), *part = malloc(N * sizeof *part);
    ck_assert(moved && whole && part);
    const float dot = duo_rows->dot(x, y, N), sum = duo_rows->exp_sum(NULL, x, 0.5f, N);
    const double squares = duo_rows->sum_squares(x, N);
    duo_rows->swiglu(whole, x, y, N);
    for (size_t shift = 0; shift < 16; shift++) {
        duo_rows->swiglu(part, x + shift, y + shift, N - shift);
        ck_assert_mem_eq(part, whole + shift, (N - shift) * sizeof *part);
        memcpy(moved + shift, x, N * sizeof *x);
        ck_assert(duo_rows->dot(moved + shift, y, N) == dot);
        ck_assert(duo_rows->exp_sum(NULL, moved + shift, 0.5f, N) == sum);
        ck_assert(duo_rows->sum_squares(moved + shift, N) == squares);
    }
    free(x), free(y), free(moved), free(whole), free(part);
    duo_kernels_stop();
}
END_TEST

/* ---------------------------------------------------------------- norm */

enum { NORM_N = 5, NORM_C = 51 };
static const float eps = 1e-3f;

typedef struct norm {
    float *x, *g, *w, y[NORM_N * NORM_C], r[NORM_N];
} norm;

static double norm_loss(void *context)
{
    norm *f = context;
    duo_rmsnorm_forward(f->y, f->r, f->x, f->g, NORM_N, NORM_C, eps);
    return gradcheck_dot(f->w, f->y, NORM_N * NORM_C);
}

START_TEST(rmsnorm_matches_definition_and_central_differences)
{
    const size_t n = NORM_N * NORM_C;
    const float before = 0.5f;
    if (!start_isa(_i, 1)) return;
    norm f = {
        gradcheck_numbers(n, 1), gradcheck_numbers(NORM_C, 2), gradcheck_numbers(n, 3), {0}, {0}};
    double want[NORM_N * NORM_C];
    float dx[NORM_N * NORM_C], dg[NORM_C];
    norm_loss(&f);
    for (size_t i = 0; i < NORM_N; i++) {
        const float *x = f.x + i * NORM_C;
        const double r = 1.0 / sqrt(gradcheck_dot(x, x, NORM_C) / NORM_C + (double)eps);
        for (size_t c = 0; c < NORM_C; c++)
            want[i * NORM_C + c] = (double)f.g[c] * (double)x[c] * r;
    }
    assert_near("y", f.y, want, n, 1e-6);
    for (size_t i = 0; i < n; i++) dx[i] = before;
    for (size_t i = 0; i < NORM_C; i++) dg[i] = before;
    duo_rmsnorm_backward(dx, dg, f.w, f.x, f.g, f.r, NORM_N, NORM_C);
    /* Truncation h^2 = 1e-4 times a third derivative of about 1; rounding 1e-6 / h. */
    gradcheck("dx", norm_loss, &f, f.x, dx, before, n, 1, 1e-2f, 5e-4);
    gradcheck("dg", norm_loss, &f, f.g, dg, before, NORM_C, 1, 1e-2f, 5e-4);

    float again[NORM_N * NORM_C];
    for (size_t i = 0; i < n; i++) again[i] = before;
    duo_rmsnorm_backward(again, NULL, f.w, f.x, f.g, f.r, NORM_N, NORM_C);
    ck_assert_mem_eq(again, dx, sizeof again);
    free(f.x), free(f.g), free(f.w);
    duo_kernels_stop();
}
END_TEST

/* ---------------------------------------------------------------- rope */

START_TEST(rope_matches_definition_and_its_inverse)
{
    enum { N = 5, H = 3, D = 14, T = 50 };
    const uint32_t positions[N] = {0, 49, 7, 7, 1};
    if (!start_isa(_i, 1)) return;
    float table[T * D], *x = gradcheck_numbers(N * H * D, 1);
    double want[N * H * D], back[N * H * D];
    duo_rope_table(table, T, D, 10000.0);
    for (size_t n = 0; n < N; n++)
        for (size_t i = n * H * D; i < (n + 1) * H * D; i += 2) {
            const double angle = positions[n] * pow(10000.0, -(double)(i % D) / D);
            const double even = (double)x[i], odd = (double)x[i + 1];
            want[i] = even * cos(angle) - odd * sin(angle);
            want[i + 1] = even * sin(angle) + odd * cos(angle);
            back[i] = even;
            back[i + 1] = odd;
        }
    duo_rope_forward(x, table, positions, N, H, D);
    assert_near("x", x, want, N * H * D, 3e-7);
    /* A rotation's gradient is the inverse rotation: linear, so this is the whole test. */
    duo_rope_backward(x, table, positions, N, H, D);
    assert_near("back", x, back, N * H * D, 5e-7);
    free(x);
    duo_kernels_stop();
}
END_TEST

/* ---------------------------------------------------------------- swiglu */

enum { GLU_N = 203 };

typedef struct glu {
    float *gate, *up, *w, a[GLU_N];
} glu;

static double glu_loss(void *context)
{
    glu *f = context;
    duo_swiglu_forward(f->a, f->gate, f->up, GLU_N);
    return gradcheck_dot(f->w, f->a, GLU_N);
}

START_TEST(swiglu_matches_definition_and_central_differences)
{
    if (!start_isa(_i, 1)) return;
    glu f = {
        gradcheck_numbers(GLU_N, 1), gradcheck_numbers(GLU_N, 2), gradcheck_numbers(GLU_N, 3), {0}};
    double want[GLU_N];
    float dgate[GLU_N], dup[GLU_N], a[GLU_N], in_place[GLU_N];
    for (size_t i = 0; i < GLU_N; i++) f.gate[i] *= 6.0f;
    for (size_t i = 0; i < GLU_N; i++) {
        const double z = (double)f.gate[i];
        want[i] = z / (1.0 + exp(-z)) * (double)f.up[i];
    }
    glu_loss(&f);
    assert_near("a", f.a, want, GLU_N, 2e-6);
    duo_swiglu_backward(dgate, dup, a, f.w, f.gate, f.up, GLU_N);
    ck_assert_mem_eq(a, f.a, sizeof a);
    gradcheck("dgate", glu_loss, &f, f.gate, dgate, 0.0f, GLU_N, 1, 1e-2f, 5e-4);
    gradcheck("dup", glu_loss, &f, f.up, dup, 0.0f, GLU_N, 1, 1e-2f, 5e-4);

    memcpy(in_place, f.w, sizeof in_place);
    duo_swiglu_backward(a, in_place, NULL, in_place, f.gate, f.up, GLU_N);
    ck_assert_mem_eq(in_place, dup, sizeof dup);
    ck_assert_mem_eq(a, dgate, sizeof dgate);
    memcpy(in_place, f.w, sizeof in_place);
    duo_swiglu_backward(in_place, a, NULL, in_place, f.gate, f.up, GLU_N);
    ck_assert_mem_eq(in_place, dgate, sizeof dgate);
    memcpy(in_place, f.gate, sizeof in_place);
    duo_swiglu_forward(in_place, in_place, f.up, GLU_N);
    glu_loss(&f);
    ck_assert_mem_eq(in_place, f.a, sizeof f.a);

    const float ends[] = {-1000.0f, 1000.0f}, ones[] = {1.0f, 1.0f};
    duo_swiglu_forward(a, ends, ones, 2);
    ck_assert(a[0] == 0.0f && a[1] == 1000.0f);
    duo_swiglu_backward(dgate, dup, NULL, ones, ends, ones, 2);
    ck_assert(dgate[0] == 0.0f && dgate[1] == 1.0f);
    free(f.gate), free(f.up), free(f.w);
    duo_kernels_stop();
}
END_TEST

/* ---------------------------------------------------------------- embedding, sums, AdamW */

START_TEST(embedding_gathers_and_adds_in_order)
{
    enum { V = 11, C = 37, N = 23 };
    if (!start_isa(_i, 2)) return;
    float *table = gradcheck_numbers(V * C, 1), *dx = gradcheck_numbers(N * C, 2);
    float x[N * C], dtable[V * C], want[V * C];
    int32_t tokens[N];
    for (size_t n = 0; n < N; n++) tokens[n] = (int32_t)(n * n % V);
    for (size_t i = 0; i < V * C; i++) dtable[i] = want[i] = 0.5f;
    duo_embedding_forward(x, table, tokens, N, C);
    duo_embedding_backward(dtable, dx, tokens, N, C);
    for (size_t n = 0; n < N; n++) {
        const size_t row = (size_t)tokens[n] * C;
        ck_assert_mem_eq(x + n * C, table + row, C * sizeof *x);
        for (size_t c = 0; c < C; c++) want[row + c] += dx[n * C + c];
    }
    ck_assert_mem_eq(dtable, want, sizeof want);
    free(table), free(dx);
    duo_kernels_stop();
}
END_TEST

START_TEST(sum_of_squares_is_exact_and_sees_nan)
{
    const size_t sizes[] = {0, 1, 15, 16, 17, 4097, 100003};
    if (!start_isa(_i, 2)) return;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const size_t n = sizes[s];
        float *x = gradcheck_numbers(n, 1), *y = gradcheck_numbers(n, 2);
        const double want = gradcheck_dot(x, x, n);
        ck_assert(fabs(duo_sum_squares(x, n) - want) <= 1e-13 * want);
        duo_add(y, x, n);
        float *sum = gradcheck_numbers(n, 2);
        for (size_t i = 0; i < n; i++) ck_assert(y[i] == sum[i] + x[i]);
        for (size_t at = 0; at < n; at += n / 5 + 1) {
            const float keep = x[at];
            x[at] = NAN;
            ck_assert(isnan(duo_sum_squares(x, n)));
            x[at] = keep;
        }
        free(x), free(y), free(sum);
    }
    duo_kernels_stop();
}
END_TEST

START_TEST(adamw_matches_double)
{
    enum { N = 517 };
    duo_adamw setting = {
        .lr = 1e-2f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-6f, .decay = 0.1f, .scale = 0.3f};
    if (!start_isa(_i, 1)) return;
    float *w = gradcheck_numbers(N, 1), m[N] = {0}, v[N] = {0};
    double W[N], M[N] = {0}, S[N] = {0};
    for (size_t i = 0; i < N; i++) W[i] = (double)w[i];
    const double b1 = (double)setting.beta1, b2 = (double)setting.beta2;
    for (uint32_t t = 1; t <= 20; t++) {
        float *gradient = gradcheck_numbers(N, 100 + t);
        const double c1 = 1.0 - pow(b1, t), c2 = 1.0 - pow(b2, t);
        setting.correction1 = (float)c1;
        setting.correction2 = (float)c2;
        duo_adamw_step(w, m, v, gradient, N, &setting);
        for (size_t i = 0; i < N; i++) {
            const double g = (double)setting.scale * (double)gradient[i];
            M[i] = b1 * M[i] + (1.0 - b1) * g;
            S[i] = b2 * S[i] + (1.0 - b2) * g * g;
            W[i] -= (double)setting.lr * (M[i] / c1 / (sqrt(S[i] / c2) + (double)setting.eps) +
                                          (double)setting.decay * W[i]);
        }
        free(gradient);
    }
    /* Steps of at most lr, each with a relative error of some 1e-6; rounding of w. */
    assert_near("w", w, W, N, 1e-6);
    assert_near("m", m, M, N, 1e-6);
    assert_near("v", v, S, N, 1e-6);
    free(w);
    duo_kernels_stop();
}
END_TEST

/* ---------------------------------------------------------------- threads */

/* Large enough that every kernel wakes the other threads. */
enum { BIG_N = 144, BIG_H = 13, BIG_D = 10, BIG_C = BIG_H * BIG_D, BIG = BIG_N * BIG_C };

static void run_rows(float *out)
{
    float *x = gradcheck_numbers(BIG, 1), *y = gradcheck_numbers(BIG, 2);
    float *g = gradcheck_numbers(BIG_C, 3), table[BIG_N * BIG_D], r[BIG_N];
    int32_t tokens[BIG_N];
    uint32_t positions[BIG_N];
    const duo_adamw setting = {1e-2f, 0.9f, 0.95f, 1e-6f, 0.1f, 0.5f, 0.5f, 1.0f};
    for (uint32_t n = 0; n < BIG_N; n++) {
        tokens[n] = (int32_t)(n * n % BIG_N);
        positions[n] = n;
    }
    memset(out, 0, 12 * BIG * sizeof *out);
    duo_rope_table(table, BIG_N, BIG_D, 100.0);
    duo_rmsnorm_forward(out, r, x, g, BIG_N, BIG_C, eps);
    duo_rmsnorm_backward(out + BIG, out + 2 * BIG, y, x, g, r, BIG_N, BIG_C);
    duo_embedding_forward(out + 3 * BIG, x, tokens, BIG_N, BIG_C);
    duo_embedding_backward(out + 4 * BIG, y, tokens, BIG_N, BIG_C);
    duo_swiglu_forward(out + 5 * BIG, x, y, BIG);
    duo_swiglu_backward(out + 6 * BIG, out + 7 * BIG, out + 8 * BIG, x, y, x, BIG);
    duo_adamw_step(out + 9 * BIG, out + 10 * BIG, out + 11 * BIG, x, BIG, &setting);
    duo_rope_forward(x, table, positions, BIG_N, BIG_H, BIG_D);
    duo_rope_backward(y, table, positions, BIG_N, BIG_H, BIG_D);
    duo_add(out, x, BIG);
    duo_add(out + BIG, y, BIG);
    const double squares = duo_sum_squares(out, 12 * BIG);
    memcpy(out + 12 * BIG, &squares, sizeof squares);
    free(x), free(y), free(g);
}

START_TEST(bits_do_not_depend_on_threads)
{
    assert_same_bits_on_any_threads(_i, run_rows, 12 * BIG + sizeof(double) / sizeof(float));
}
END_TEST

/* On every thread of the team: slow numbers in one share of the rows would hold up all others. */
START_TEST(subnormal_numbers_are_zero)
{
    enum { N = 512, C = 256 };
#ifndef __x86_64__
    return; /* nothing is promised there */
#endif
    if (!start_isa(_i, 3)) return;
    float *dx = malloc(N * C * sizeof *dx), *dy = malloc(N * C * sizeof *dy);
    float weights[N];
    ck_assert(dx && dy);
    for (size_t n = 0; n < N; n++) weights[n] = n % 2 ? 1e-20f : 1e-40f;
    for (size_t i = 0; i < N * C; i++) dx[i] = i / C % 2 ? 1e-20f : 1e30f; /* 1e-40, 1e-10 */
    duo_mix_backward(dy, NULL, dx, dx, weights, 1, N, C);
    uint32_t bits = 0;
    for (size_t i = 0; i < N * C; i++) {
        memcpy(&bits, dy + i, sizeof bits);
        ck_assert_uint_eq(bits, 0);
    }
    free(dx);
    free(dy);
    duo_kernels_stop();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        each_instruction_set_has_its_own_rows,
        exp_is_accurate_over_the_whole_range,
        log_is_accurate_over_the_whole_range,
        bits_do_not_depend_on_the_place,
        rmsnorm_matches_definition_and_central_differences,
        rope_matches_definition_and_its_inverse,
        swiglu_matches_definition_and_central_differences,
        embedding_gathers_and_adds_in_order,
        sum_of_squares_is_exact_and_sees_nan,
        adamw_matches_double,
        bits_do_not_depend_on_threads,
        subnormal_numbers_are_zero,
    };
    return run_on_every_isa("rows", tests, sizeof tests / sizeof *tests);
}
