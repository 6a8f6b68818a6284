#include "attention_fixture.h"

/* T crosses a block of 32 queries and one of 64 keys and is a multiple of neither; 3 queries a
 * head of keys and values; D no multiple of any vector. */
static const duo_attention_shape odd = {.B = 2, .T = 71, .H = 6, .Hkv = 2, .D = 10};
/* A query a head of keys. 1 / sqrt(D) is no power of two. */
static const duo_attention_shape own_heads = {.B = 2, .T = 71, .H = 3, .Hkv = 3, .D = 32};
/* More heads, and more queries of one head, than walk over a lone node's cache together. */
static const duo_attention_shape many_heads = {.B = 2, .T = 71, .H = 40, .Hkv = 40, .D = 12};
static const duo_attention_shape one_head = {.B = 2, .T = 71, .H = 40, .Hkv = 1, .D = 6};

static double loss(void *context)
{
    fixture *f = context;
    forward(f);
    return gradcheck_dot(f->w, f->y, f->n_q);
}

/* The definition, in double. */
static void naive(double *y, double *lse, const fixture *f)
{
    const duo_attention_shape s = f->s;
    double *p = malloc(s.T * sizeof *p);
    ck_assert_ptr_nonnull(p);
    for (size_t b = 0; b < s.B; b++)
        for (size_t t = 0; t < s.T; t++)
            for (size_t h = 0; h < s.H; h++) {
                const size_t at = (b * s.T + t) * s.H + h, kv = h * s.Hkv / s.H;
                double sum = 0.0;
                for (size_t j = 0; j <= t; j++) {
                    const size_t key = ((b * s.T + j) * s.Hkv + kv) * s.D;
                    p[j] = exp(gradcheck_dot(f->q + at * s.D, f->k + key, s.D) / sqrt((double)s.D));
                    sum += p[j];
                }
                lse[at] = log(sum);
                for (size_t d = 0; d < s.D; d++) {
                    y[at * s.D + d] = 0.0;
                    for (size_t j = 0; j <= t; j++)
                        y[at * s.D + d] +=
                            p[j] / sum * (double)f->v[((b * s.T + j) * s.Hkv + kv) * s.D + d];
                }
            }
    free(p);
}

START_TEST(forward_matches_the_definition)
{
    const duo_attention_shape shapes[] = {odd,
                                          {1, 1, 1, 1, 2, DUO_FP32},
                                          {1, 32, 4, 4, 32, DUO_FP32},
                                          {3, 65, 2, 1, 48, DUO_FP32},
                                          {1, 129, 1, 1, 67, DUO_FP32}};
    if (!start_isa(_i, 2)) return;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        fixture f = setup(shapes[i]);
        double *y = malloc(f.n_q * sizeof *y), *lse = malloc(f.n_lse * sizeof *lse);
        ck_assert(y && lse);
        naive(y, lse, &f);
        forward(&f);
        /* Scores up to about 10 with rounding 1e-6, which is the relative error of a weight. */
        assert_near("y", f.y, y, f.n_q, 5e-6);
        assert_near("lse", f.lse, lse, f.n_lse, 5e-6);
        free(y);
        free(lse);
        teardown(&f);
    }
    duo_kernels_stop();
}
END_TEST

START_TEST(backward_matches_central_differences)
{
    if (!start_isa(_i, 1)) return;
    fixture f = setup(odd);
    /* Backward overwrites: what the gradients held before must not matter. */
    float *dq = gradcheck_numbers(f.n_q, 8), *dk = gradcheck_numbers(f.n_kv, 9);
    float *dv = gradcheck_numbers(f.n_kv, 10);
    forward(&f);
    duo_attention_backward(dq, dk, dv, f.w, f.q, f.k, f.v, f.y, f.lse, f.s, f.scratch);
    /* Truncation h^2 |f'''| / 6 is below 1e-4; rounding of 10^4 terms of 1e-7 over 2h, 1e-3. */
    gradcheck("dq", loss, &f, f.q, dq, 0.0f, f.n_q, 61, 1e-2f, 2e-3);
    gradcheck("dk", loss, &f, f.k, dk, 0.0f, f.n_kv, 23, 1e-2f, 2e-3);
    gradcheck("dv", loss, &f, f.v, dv, 0.0f, f.n_kv, 23, 1e-2f, 2e-3);
    free(dq);
    free(dk);
    free(dv);
    teardown(&f);
    duo_kernels_stop();
}
END_TEST

/* The softmax of one key is 1 whatever its score: rounding must not make a gradient of that. */
START_TEST(a_single_position_gives_its_scores_no_gradient)
{
    if (!start_isa(_i, 1)) return;
    fixture f = setup((duo_attention_shape){.B = 3, .T = 1, .H = 4, .Hkv = 2, .D = 24});
    float *dq = gradcheck_numbers(f.n_q, 8), *dk = gradcheck_numbers(f.n_kv, 9);
    float *dv = gradcheck_numbers(f.n_kv, 10);
    forward(&f);
    duo_attention_backward(dq, dk, dv, f.w, f.q, f.k, f.v, f.y, f.lse, f.s, f.scratch);
    for (size_t i = 0; i < f.n_q; i++) ck_assert(dq[i] == 0.0f);
    for (size_t i = 0; i < f.n_kv; i++) ck_assert(dk[i] == 0.0f);
    free(dq);
    free(dk);
    free(dv);
    teardown(&f);
    duo_kernels_stop();
}
END_TEST

START_TEST(large_scores_stay_finite)
{
    if (!start_isa(_i, 1)) return;
    fixture f = setup(odd);
    check_large_scores(&f, 0.0f);
    duo_kernels_stop();
}
END_TEST

START_TEST(a_query_does_not_see_the_future)
{
    if (!start_isa(_i, 1)) return;
    fixture f = setup(odd);
    check_future_is_unseen(&f);
    duo_kernels_stop();
}
END_TEST

static void run_all(float *out)
{
    fixture f = setup(odd);
    forward(&f);
    memcpy(out, f.y, f.n_q * sizeof *out);
    memcpy(out + f.n_q, f.lse, f.n_lse * sizeof *out);
    out += f.n_q + f.n_lse;
    duo_attention_backward(out, out + f.n_q, out + f.n_q + f.n_kv, f.w, f.q, f.k, f.v, f.y, f.lse,
                           f.s, f.scratch);
    teardown(&f);
}

START_TEST(bits_do_not_depend_on_threads)
{
    const size_t tokens = odd.B * odd.T;
    assert_same_bits_on_any_threads(_i, run_all,
                                    tokens * (2 * odd.H * odd.D + odd.H + 2 * odd.Hkv * odd.D));
}
END_TEST

/* Step over the last positions of each sequence; caches are the keys and values themselves. */
static void step(const fixture *f, float *y, const float *q, const float *k, const float *v,
                 const uint32_t *sequences, const uint32_t *positions, size_t N)
{
    const duo_attention_shape s = f->s;
    float *scratch = gradcheck_numbers(duo_attention_step_scratch(s.T, s.D), 11);
    duo_attention_step(y, q, k, v, f->k, f->v, sequences, positions, N, s.T, s.H, s.Hkv, s.D,
                       scratch);
    free(scratch);
}

static void check_steps(duo_attention_shape shape)
{
    fixture f = setup(shape);
    forward(&f);
    const size_t q_row = shape.H * shape.D, kv_row = shape.Hkv * shape.D;
    float *q = malloc(shape.B * q_row * sizeof *q), *y = malloc(shape.B * q_row * sizeof *y);
    float *k = malloc(shape.B * kv_row * sizeof *k), *v = malloc(shape.B * kv_row * sizeof *v);
    double *want = malloc(shape.B * q_row * sizeof *want);
    ck_assert(q && y && k && v && want);
    for (uint32_t t = 0; t < shape.T; t++) {
        const uint32_t sequences[] = {0, 1}, positions[] = {t, t};
        for (size_t b = 0; b < shape.B; b++) {
            const size_t n = b * shape.T + t;
            memcpy(q + b * q_row, f.q + n * q_row, q_row * sizeof *q);
            memcpy(k + b * kv_row, f.k + n * kv_row, kv_row * sizeof *k);
            memcpy(v + b * kv_row, f.v + n * kv_row, kv_row * sizeof *v);
            for (size_t i = 0; i < q_row; i++) want[b * q_row + i] = (double)f.y[n * q_row + i];
        }
        step(&f, y, q, k, v, sequences, positions, shape.B);
        assert_near("y", y, want, shape.B * q_row, 1e-6);
    }
    free(q), free(y), free(k), free(v), free(want);
    teardown(&f);
}

START_TEST(steps_agree_with_forward)
{
    if (!start_isa(_i, 2)) return;
    check_steps(odd);
    check_steps(own_heads);
    check_steps(many_heads);
    check_steps(one_head);
    duo_kernels_stop();
}
END_TEST

enum { NODES = 150 };

/* Sequence 1 has 140 nodes at two positions, at one of them more than a thread takes at once, and
 * sequence 0 the other 10. */
static void many_nodes(const fixture *f, float *y, size_t first, size_t N)
{
    const size_t q_row = f->s.H * f->s.D, kv_row = f->s.Hkv * f->s.D;
    uint32_t sequences[NODES], positions[NODES];
    float *q = gradcheck_numbers(NODES * q_row, 12), *k = gradcheck_numbers(NODES * kv_row, 13);
    float *v = gradcheck_numbers(NODES * kv_row, 14);
    for (size_t n = 0; n < NODES; n++) {
        sequences[n] = n < 140;
        positions[n] = n < 50 || n >= 140 ? 33 : 70;
    }
    step(f, y, q + first * q_row, k + first * kv_row, v + first * kv_row, sequences + first,
         positions + first, N);
    free(q), free(k), free(v);
}

static void check_lone_nodes(duo_attention_shape shape)
{
    fixture f = setup(shape);
    const size_t q_row = shape.H * shape.D;
    float *all = malloc(NODES * q_row * sizeof *all), *alone = malloc(q_row * sizeof *alone);
    ck_assert(all && alone);
    many_nodes(&f, all, 0, NODES);
    for (size_t n = 0; n < NODES; n++) {
        many_nodes(&f, alone, n, 1);
        ck_assert_mem_eq(all + n * q_row, alone, q_row * sizeof *alone);
    }
    free(all);
    free(alone);
    teardown(&f);
}

START_TEST(a_node_has_the_same_bits_alone_and_among_others)
{
    if (!start_isa(_i, 2)) return;
    check_lone_nodes(odd);
    check_lone_nodes(own_heads);
    check_lone_nodes(many_heads);
    check_lone_nodes(one_head);
    duo_kernels_stop();
}
END_TEST

static void run_steps(float *out)
{
    fixture f = setup(odd);
    many_nodes(&f, out, 0, NODES);
    teardown(&f);
}

START_TEST(bits_of_steps_do_not_depend_on_threads)
{
    assert_same_bits_on_any_threads(_i, run_steps, NODES * odd.H * odd.D);
}
END_TEST

/* One node for each place: fewer of them than threads, as many, and more; and one far longer. */
static const size_t lone[] = {1, 2, 3, 4, 8, 17};
enum { LONE = 1 + 2 + 3 + 4 + 8 + 17 };

static void run_lone_steps(float *out)
{
    const duo_attention_shape s = many_heads;
    fixture f = setup(s);
    float *q = gradcheck_numbers(LONE * s.H * s.D, 12),
          *k = gradcheck_numbers(LONE * s.H * s.D, 13);
    float *v = gradcheck_numbers(LONE * s.H * s.D, 14);
    uint32_t sequences[LONE], positions[LONE];
    for (size_t i = 0; i < sizeof lone / sizeof *lone; i++, out += lone[i - 1] * s.H * s.D) {
        for (size_t n = 0; n < lone[i]; n++) {
            sequences[n] = n % 2;
            positions[n] = (uint32_t)(lone[i] == 4 && n > 0 ? n : 70 - n);
        }
        step(&f, out, q, k, v, sequences, positions, lone[i]);
    }
    free(q), free(k), free(v);
    teardown(&f);
}

START_TEST(bits_of_lone_steps_do_not_depend_on_threads)
{
    assert_same_bits_on_any_threads(_i, run_lone_steps, LONE * many_heads.H * many_heads.D);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        forward_matches_the_definition,
        backward_matches_central_differences,
        a_single_position_gives_its_scores_no_gradient,
        large_scores_stay_finite,
        a_query_does_not_see_the_future,
        bits_do_not_depend_on_threads,
        steps_agree_with_forward,
        a_node_has_the_same_bits_alone_and_among_others,
        bits_of_steps_do_not_depend_on_threads,
        bits_of_lone_steps_do_not_depend_on_threads,
    };
    return run_on_every_isa("attention", tests, sizeof tests / sizeof *tests);
}
