#include "attention_blocks.h"
#include "attention_fixture.h"
#include "bf16.h"

/*
 * Attention of precision bf16, on every instruction set and with the instructions for bf16
 * emulated. Inputs are bf16 numbers already, so that what fp32 makes of them is off by the rounding
 * of the softmax's weights and their gradients alone: 2^-9 of each at most, by chance in its sign.
 */

enum { EMULATED_PAIRS = ALL_ISAS, EMULATED_AMX, ALL };

#ifdef __x86_64__
extern const duo_attention_blocks duo_attention_bf16_emulated, duo_attention_amx_emulated;
#endif

static bool start(int variant, int threads)
{
    if (variant < ALL_ISAS) return start_isa(variant, threads);
#ifdef __x86_64__
    if (!start_isa(DUO_ISA_AVX512, threads)) return false;
    duo_attention_replace(variant == EMULATED_AMX ? &duo_attention_amx_emulated
                                                  : &duo_attention_bf16_emulated);
    return true;
#else
    return false;
#endif
}

/* T crosses blocks of 64 queries and 32 keys and is a multiple of neither; D of no register. */
static const duo_attention_shape shapes[] = {
    {2, 71, 6, 2, 10, DUO_BF16}, {1, 1, 1, 1, 2, DUO_BF16},    {1, 33, 2, 2, 32, DUO_BF16},
    {3, 65, 2, 1, 48, DUO_BF16}, {1, 129, 1, 1, 67, DUO_BF16}, {1, 256, 1, 1, 64, DUO_BF16}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void round_all(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = duo_bf16_bits(x[i]);
        memcpy(&x[i], &bits, sizeof bits);
    }
}

static fixture rounded(duo_attention_shape s)
{
    fixture f = setup(s);
    round_all(f.q, f.n_q);
    round_all(f.k, f.n_kv);
    round_all(f.v, f.n_kv);
    round_all(f.w, f.n_q);
    memset(f.scratch, 0xff, duo_attention_scratch(s) * sizeof *f.scratch); /* NaN */
    return f;
}

/* y, lse, dq, dk, dv in one array. */
static size_t results(duo_attention_shape s)
{
    return s.B * s.T * (2 * s.H * s.D + s.H + 2 * s.Hkv * s.D);
}

static void run(float *out, duo_attention_shape s)
{
    fixture f = rounded(s);
    memset(out, 0xff, results(s) * sizeof *out); /* NaN: all is overwritten */
    float *lse = out + f.n_q, *dq = lse + f.n_lse, *dk = dq + f.n_q, *dv = dk + f.n_kv;
    duo_attention_forward(out, lse, f.q, f.k, f.v, s, f.scratch);
    duo_attention_backward(dq, dk, dv, f.w, f.q, f.k, f.v, out, lse, s, f.scratch);
    teardown(&f);
}

/* The error as a share of the whole. */
static double distance(const float *got, const float *want, size_t n)
{
    double error = 0.0, size = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double e = (double)got[i] - (double)want[i];
        error += e * e;
        size += (double)want[i] * (double)want[i];
    }
    return sqrt(error / size);
}

START_TEST(results_are_those_of_fp32_but_for_rounded_weights)
{
    if (!start(_i, 2)) return;
    for (size_t i = 0; i < SHAPES; i++) {
        duo_attention_shape s = shapes[i], exact = s;
        exact.precision = DUO_FP32;
        const size_t n = results(s), n_q = s.B * s.T * s.H * s.D, n_lse = s.B * s.T * s.H;
        const size_t n_kv = s.B * s.T * s.Hkv * s.D;
        float *got = malloc(n * sizeof *got), *want = malloc(n * sizeof *want);
        ck_assert(got && want);
        run(got, s);
        run(want, exact);
        const size_t parts[] = {n_q, n_lse, n_q, n_kv, n_kv};
        const double most[] = {2e-3, 1e-5, 4e-3, 4e-3, 2e-3};
        for (size_t part = 0, at = 0; part < 5; at += parts[part++]) {
            if (s.T == 1 && (part == 2 || part == 3)) continue; /* 0 but for rounding */
            const double d = distance(got + at, want + at, parts[part]);
            ck_assert_msg(d <= most[part], "part %zu of shape %zu is off by %.2g", part, i, d);
        }
        free(got);
        free(want);
    }
    duo_kernels_stop();
}
END_TEST

START_TEST(a_query_does_not_see_the_future)
{
    if (!start(_i, 1)) return;
    fixture f = rounded(shapes[0]);
    check_future_is_unseen(&f);
    duo_kernels_stop();
}
END_TEST

START_TEST(large_scores_stay_finite)
{
    if (!start(_i, 1)) return;
    fixture f = rounded(shapes[0]);
    check_large_scores(&f, 0x1p-8f);
    duo_kernels_stop();
}
END_TEST

START_TEST(bits_do_not_depend_on_threads_nor_on_what_follows)
{
    const duo_attention_shape s = {2, 129, 6, 2, 10, DUO_BF16};
    duo_attention_shape shorter = s;
    shorter.B = 1;
    shorter.T = 71;
    const size_t n = results(s), row = s.H * s.D;
    float *one = malloc(n * sizeof *one), *many = malloc(n * sizeof *many);
    ck_assert(one && many);
    for (int threads = 1; threads <= 4; threads++) {
        if (!start(_i, threads)) break;
        run(threads == 1 ? one : many, s);
        if (threads > 1) ck_assert_mem_eq(one, many, n * sizeof *one);
        fixture f = rounded(s); /* the first sequence, cut */
        duo_attention_forward(many, f.lse, f.q, f.k, f.v, shorter, f.scratch);
        ck_assert_mem_eq(one, many, shorter.T * row * sizeof *one);
        ck_assert_mem_eq(one + s.B * s.T * row, f.lse, shorter.T * s.H * sizeof *one);
        teardown(&f);
        duo_kernels_stop();
    }
    free(one);
    free(many);
}
END_TEST

/* What is tested on any machine is what runs on one with the instructions. */
START_TEST(emulation_is_exact)
{
    const bool amx = _i == DUO_ISA_AMX;
    if (!amx && _i != DUO_ISA_AVX512BF16) return;
    for (size_t i = 0; i < SHAPES; i++) {
        if (!start(_i, 1)) return;
        const size_t n = results(shapes[i]);
        float *native = malloc(n * sizeof *native), *emulated = malloc(n * sizeof *emulated);
        ck_assert(native && emulated);
        run(native, shapes[i]);
        duo_kernels_stop();
        ck_assert(start(amx ? EMULATED_AMX : EMULATED_PAIRS, 1));
        run(emulated, shapes[i]);
        ck_assert_mem_eq(native, emulated, n * sizeof *native);
        free(native);
        free(emulated);
        duo_kernels_stop();
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        results_are_those_of_fp32_but_for_rounded_weights,
        a_query_does_not_see_the_future,
        large_scores_stay_finite,
        bits_do_not_depend_on_threads_nor_on_what_follows,
        emulation_is_exact,
    };
    return run_in_variants("attention_bf16", tests, sizeof tests / sizeof *tests, ALL);
}
