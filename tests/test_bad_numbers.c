#include "train_fixture.h"

/* A value that makes the numbers of a step bad and can be taken back. */
typedef struct poison {
    float *at, before;
} poison;

static poison put(run *r, size_t layer, duo_slot slot, float value)
{
    float *at = duo_tree_at(&r->model->weights, layer, slot) + 3;
    const poison p = {at, *at};
    *at = value;
    duo_model_repack(r->model, DUO_ALL_GROUPS);
    return p;
}

static void take_back(run *r, poison p)
{
    *p.at = p.before;
    duo_model_repack(r->model, DUO_ALL_GROUPS);
}

static void bad_step(run *r, const char *bad)
{
    refused(duo_trainer_step(r->trainer, &r->progress, &r->report), DUO_ENUMBER, bad);
    ck_assert_str_eq(r->report.bad, bad);
}

/* ---------------------------------------------------------------- naming */

START_TEST(the_first_bad_tensor_is_named)
{
    const duo_stage_recipe stage = stage_of(DUO_STAGE_DENSE);
    run r = start(&stage, 1);
    step(&r, 1);
    ck_assert_str_eq(r.report.bad, "");
    poison p = put(&r, 1, DUO_P_BIG_UP, NAN);
    bad_step(&r, "weights layers/01/big/up/weight");
    take_back(&r, p);
    p = put(&r, 0, DUO_P_O, -INFINITY);
    bad_step(&r, "weights layers/00/attn/o/weight");
    take_back(&r, p);
    p = put(&r, 0, DUO_P_FINAL_NORM, 3e38f); /* finite, but its logits are not */
    bad_step(&r, "loss");
    take_back(&r, p);
    step(&r, 1);
    ck_assert_str_eq(r.report.bad, "");
    stop(&r);
}
END_TEST

static void scale(run *r, duo_slot slot, size_t n, float factor)
{
    float *w = duo_tree_at(&r->model->weights, 1, slot);
    for (size_t i = 0; i < n; i++) w[i] *= factor;
}

/* Factors that cancel forward: the gradient of the smallest is as large as it is small. */
START_TEST(gradients_are_named)
{
    const duo_stage_recipe stage = stage_of(DUO_STAGE_DENSE);
    run r = start(&stage, 1);
    const duo_config *c = &r.model->params.config;
    const size_t n = c->d_model * c->d_big;
    scale(&r, DUO_P_FFN_NORM, c->d_model, 1e37f);
    scale(&r, DUO_P_BIG_GATE, n, 1e-36f);
    scale(&r, DUO_P_BIG_UP, n, 1e-41f);
    scale(&r, DUO_P_BIG_DOWN, n, 1e9f);
    duo_model_repack(r.model, DUO_ALL_GROUPS);
    ck_assert_int_eq(duo_trainer_step(r.trainer, &r.progress, &r.report), DUO_ENUMBER);
    ck_assert(isfinite(r.report.loss));
    ck_assert_msg(strncmp(r.report.bad, "gradient layers/01/big/", 23) == 0, "%s", r.report.bad);
    stop(&r);
}
END_TEST

/* Weights that are finite, which is more than can be said of what comes of them. */
START_TEST(every_kernel_is_looked_at_on_demand)
{
    static const struct {
        duo_slot slot;
        const char *place;
    } cases[] = {
        {DUO_P_ATTN_NORM, "layer 1, norm before attention"},
        {DUO_P_Q, "layer 1, queries"},
        {DUO_P_K, "layer 1, keys"},
        {DUO_P_V, "layer 1, values"},
        {DUO_P_FFN_NORM, "layer 1, norm before the FFNs"},
        {DUO_P_BIG_UP, "layer 1, up of the big FFN"},
    };
    const duo_stage_recipe stage = stage_of(DUO_STAGE_DENSE);
    run r = start(&stage, 1);
    duo_trainer_detect(r.trainer);
    step(&r, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const duo_param *p = NULL;
        float *before = copy_of(&r.model->weights);
        float *w = duo_tree_at(&r.model->weights, 1, cases[i].slot);
        for (size_t k = 0; k < r.model->params.n; k++)
            if (r.model->weights.tensors[k] == w) p = &r.model->params.table[k];
        for (size_t k = 0; k < p->count; k++) w[k] = 3e38f;
        duo_model_repack(r.model, DUO_ALL_GROUPS);
        bad_step(&r, cases[i].place);
        memcpy(r.model->weights.block, before, r.model->weights.count * sizeof *before);
        free(before);
        duo_model_repack(r.model, DUO_ALL_GROUPS);
        step(&r, 1);
    }
    stop(&r);
}
END_TEST

START_TEST(looking_changes_no_bits)
{
    const duo_stage_kind kinds[] = {DUO_STAGE_DENSE, DUO_STAGE_DUO, DUO_STAGE_ROUTER};
    for (size_t i = 0; i < 3; i++) {
        const duo_stage_recipe stage = stage_of(kinds[i]);
        run plain = start(&stage, 1), watched = start(&stage, 1);
        duo_trainer_detect(watched.trainer);
        step(&plain, 5);
        step(&watched, 5);
        ck_assert(same_bits(&plain.model->weights, &watched.model->weights));
        stop(&watched);
        duo_trainer_free(plain.trainer);
        duo_model_free(plain.model);
        duo_sampler_free(plain.sampler);
        duo_tokens_close(plain.tokens);
    }
}
END_TEST

/* ---------------------------------------------------------------- skipping */

START_TEST(a_skipped_step_costs_its_sequences_and_nothing_else)
{
    const duo_stage_recipe stage = stage_of(DUO_STAGE_DENSE);
    run r = start(&stage, 1);
    step(&r, 2);
    float *weights = copy_of(&r.model->weights), *v = copy_of(duo_trainer_v(r.trainer));
    for (uint64_t n = 1; n <= 3; n++) {
        const poison p = put(&r, 1, DUO_P_Q, NAN);
        bad_step(&r, "weights layers/01/attn/q/weight");
        take_back(&r, p);
        duo_trainer_skip(r.trainer, &r.progress);
        ck_assert_uint_eq(r.progress.bad, n);
        ck_assert_uint_eq(r.progress.skipped, n);
        ck_assert_uint_eq(r.progress.step, 2 + n);
        ck_assert_uint_eq(r.progress.stage_step, 2 + n);
        ck_assert_uint_eq(r.progress.sequences, (2 + n) * stage.batch_size);
        ck_assert_uint_eq(r.progress.tokens, 2 * stage.batch_size * T);
    }
    ck_assert_mem_eq(weights, r.model->weights.block, r.model->weights.count * sizeof(float));
    ck_assert_mem_eq(v, duo_trainer_v(r.trainer)->block,
                     duo_trainer_v(r.trainer)->count * sizeof(float));
    step(&r, 1);
    ck_assert_uint_eq(r.progress.bad, 0);
    ck_assert_uint_eq(r.progress.skipped, 3);
    free(weights);
    free(v);
    stop(&r);
}
END_TEST

START_TEST(rollbacks_lower_the_learning_rate)
{
    duo_stage_recipe stage = stage_of(DUO_STAGE_DENSE);
    stage.rollback_lr = 0.5;
    run r = start(&stage, 1);
    step(&r, 1);
    const double lr = r.report.lr;
    r.progress.stage_step = 0;
    r.progress.rollbacks = 3;
    step(&r, 1);
    ck_assert_double_eq(r.report.lr, lr / 8);
    ck_assert_double_eq(duo_stage_rollback_scale(&stage, 0), 1);
    stop(&r);
}
END_TEST

/* ---------------------------------------------------------------- spikes */

START_TEST(a_spike_by_value)
{
    const double first[] = {9, 9, 1, 3, 1, 3}; /* the last four count: mean 2, deviation 1 */
    duo_losses losses;
    ok(duo_losses_create(&losses, 4, first, 6));
    ck_assert_double_eq_tol(duo_losses_add(&losses, 7), 5, 1e-12);
    ck_assert_double_eq_tol(duo_losses_add(&losses, 3.5), 0, 1e-12); /* of 3 1 3 7: mean 3.5 */
    duo_losses_free(&losses);
}
END_TEST

START_TEST(nothing_is_a_spike_before_the_window_is_full)
{
    duo_losses losses;
    ok(duo_losses_create(&losses, 3, NULL, 0));
    for (size_t i = 0; i < 3; i++) ck_assert_double_eq(duo_losses_add(&losses, 1), 0);
    ck_assert_double_eq(duo_losses_add(&losses, 100), 0); /* three of a kind: no deviation */
    ck_assert_double_gt(duo_losses_add(&losses, 1000), 5);
    duo_losses_free(&losses);
    ok(duo_losses_create(&losses, 0, NULL, 0));
    ck_assert_double_eq(duo_losses_add(&losses, 1e30), 0);
    duo_losses_free(&losses);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        the_first_bad_tensor_is_named,
        gradients_are_named,
        every_kernel_is_looked_at_on_demand,
        looking_changes_no_bits,
        a_skipped_step_costs_its_sequences_and_nothing_else,
        rollbacks_lower_the_learning_rate,
        a_spike_by_value,
        nothing_is_a_spike_before_the_window_is_full,
    };
    return run_suite("bad_numbers", tests, sizeof tests / sizeof *tests);
}
