#include "train_fixture.h"

#include <omp.h>

#include "duo/stopwatch.h"

/* ---------------------------------------------------------------- schedules */

static duo_stage_recipe schedule(duo_curve curve)
{
    return (duo_stage_recipe){
        .steps = 101, .lr = 2.0, .min_lr = 0.1, .warmup = 20, .schedule = curve};
}

START_TEST(learning_rate_by_value)
{
    const duo_stage_recipe cosine = schedule(DUO_CURVE_COSINE), linear = schedule(DUO_CURVE_LINEAR);
    duo_stage_recipe constant = schedule(DUO_CURVE_CONSTANT);
    ck_assert_double_eq_tol(duo_stage_lr(&cosine, 0), 0.1, 1e-12);
    ck_assert_double_eq_tol(duo_stage_lr(&cosine, 9), 1.0, 1e-12);
    ck_assert_double_eq_tol(duo_stage_lr(&cosine, 19), 2.0, 1e-12);
    ck_assert_double_eq_tol(duo_stage_lr(&cosine, 20), 2.0, 1e-12);
    ck_assert_double_eq_tol(duo_stage_lr(&cosine, 40), 0.2 + 1.8 * (1 + sqrt(0.5)) / 2, 1e-12);
    ck_assert_double_eq_tol(duo_stage_lr(&cosine, 60), 1.1, 1e-12);
    ck_assert_double_eq_tol(duo_stage_lr(&cosine, 100), 0.2, 1e-12);
    ck_assert_double_eq_tol(duo_stage_lr(&linear, 40), 2.0 - 1.8 / 4, 1e-12);
    ck_assert_double_eq_tol(duo_stage_lr(&linear, 100), 0.2, 1e-12);

    ck_assert_double_eq_tol(duo_stage_lr(&constant, 100), 2.0, 1e-12);
    constant.decay_steps = 11;
    ck_assert_double_eq_tol(duo_stage_lr(&constant, 9), 1.0, 1e-12);
    ck_assert_double_eq_tol(duo_stage_lr(&constant, 90), 2.0, 1e-12);
    ck_assert_double_eq_tol(duo_stage_lr(&constant, 95), 1.1, 1e-12);
    ck_assert_double_eq_tol(duo_stage_lr(&constant, 100), 0.2, 1e-12);
    constant.warmup = 0;
    ck_assert_double_eq_tol(duo_stage_lr(&constant, 0), 2.0, 1e-12);

    duo_stage_recipe single = cosine; /* schedules with no room to decay stay at the peak */
    single.warmup = 0;
    single.steps = 1;
    ck_assert_double_eq(duo_stage_lr(&single, 0), 2.0);
    single.warmup = 1;
    ck_assert_double_eq(duo_stage_lr(&single, 0), 2.0);
    single.warmup = single.steps = 4;
    ck_assert_double_eq(duo_stage_lr(&single, 0), 0.5);
    ck_assert_double_eq(duo_stage_lr(&single, 3), 2.0);
}
END_TEST

START_TEST(temperature_by_value)
{
    duo_stage_recipe stage = {.steps = 101, .tau_start = 4.0, .tau_end = 0.25};
    const struct {
        duo_curve curve;
        double first, middle, last;
    } cases[] = {{DUO_CURVE_CONSTANT, 4, 4, 4},
                 {DUO_CURVE_LINEAR, 4, 2.125, 0.25},
                 {DUO_CURVE_COSINE, 4, 2.125, 0.25},
                 {DUO_CURVE_EXPONENTIAL, 4, 1, 0.25}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        stage.tau_schedule = cases[i].curve;
        ck_assert_double_eq_tol(duo_stage_tau(&stage, 0), cases[i].first, 1e-12);
        ck_assert_double_eq_tol(duo_stage_tau(&stage, 50), cases[i].middle, 1e-12);
        ck_assert_double_eq_tol(duo_stage_tau(&stage, 100), cases[i].last, 1e-12);
    }
    stage.steps = 1;
    ck_assert_double_eq(duo_stage_tau(&stage, 0), 4.0);
}
END_TEST

/* ---------------------------------------------------------------- steps */

START_TEST(loss_falls_and_progress_advances)
{
    const duo_stage_kind kinds[] = {DUO_STAGE_DENSE, DUO_STAGE_DUO};
    for (size_t i = 0; i < 2; i++) {
        const duo_stage_recipe stage = stage_of(kinds[i]);
        run r = start(&stage, 1);
        uint64_t usage[2 * DUO_MODULES];
        double held = 0;
        step(&r, 1);
        ck_assert_double_eq_tol(r.report.loss, log(VOCAB), 0.1);
        step(&r, 99);
        ck_assert_double_lt(r.report.loss, 0.6 * log(VOCAB));
        ok(duo_trainer_validate(r.trainer, r.tokens, &held, usage));
        ck_assert_double_lt(held, 0.6 * log(VOCAB));
        ck_assert_uint_eq(r.progress.step, 100);
        ck_assert_uint_eq(r.progress.stage_step, 100);
        ck_assert_uint_eq(r.progress.sequences, 600);
        ck_assert_uint_eq(r.progress.tokens, 600 * T);
        ck_assert_uint_eq(r.report.tokens, 6 * T);
        for (size_t l = 0; l < 2; l++) {
            const uint64_t *u = r.report.usage + l * DUO_MODULES;
            ck_assert_uint_eq(u[0] + u[1] + u[2], 6 * T);
        }
        stop(&r);
    }
}
END_TEST

/* What kernels book on a stopwatch is all the work of a step: its model FLOPs, and attention's
 * scores, a fifth of its backward, a second time. */
START_TEST(kernels_book_the_flops_of_a_step)
{
    const duo_stage_kind kinds[] = {DUO_STAGE_DENSE, DUO_STAGE_DUO};
    for (size_t i = 0; i < 2; i++) {
        const duo_stage_recipe stage = stage_of(kinds[i]);
        run r = start(&stage, 2);
        duo_stopwatch watch = {0};
        duo_stopwatch_use(&watch);
        const double begun = omp_get_wtime();
        step(&r, 1);
        const double wall = omp_get_wtime() - begun;
        duo_stopwatch_use(NULL);
        const size_t n = watch.n, booked = watch.rows[0].calls;
        double flops = 0, seconds = 0;
        size_t head_calls = 0;
        for (size_t k = 0; k < n; k++) {
            const duo_kernel_time *row = &watch.rows[k];
            const bool recomputes = strcmp(row->kernel, "attention backward") == 0;
            const bool product = strcmp(row->kernel, "y = x W^T") == 0;
            flops += row->flops * (recomputes ? 0.8 : 1);
            seconds += row->seconds;
            if (product && row->O == VOCAB) head_calls += row->calls;
        }
        ck_assert_double_eq_tol(flops, r.report.flops, 1e-9 * flops);
        ck_assert_uint_eq(head_calls, 3); /* of as many micro-batches */
        ck_assert_double_gt(seconds, 0);
        ck_assert_double_le(seconds, wall);
        step(&r, 1);
        ck_assert_uint_eq(watch.rows[0].calls, booked);
        stop(&r);
    }
}
END_TEST

START_TEST(routes_are_drawn_anew_at_every_step)
{
    const duo_stage_recipe stage = stage_of(DUO_STAGE_DUO);
    run r = start(&stage, 1);
    uint64_t first[2 * DUO_MODULES];
    step(&r, 1);
    memcpy(first, r.report.usage, sizeof first);
    step(&r, 1);
    ck_assert_mem_ne(first, r.report.usage, sizeof first);
    stop(&r);
}
END_TEST

START_TEST(router_stage_reaches_its_budget)
{
    duo_stage_recipe stage = stage_of(DUO_STAGE_ROUTER);
    stage.alpha = 20;
    run r = start(&stage, 1);
    step(&r, 1);
    const double before = r.report.router.penalty;
    ck_assert_double_eq_tol(r.report.tau, 2.0, 1e-12);
    step(&r, 99);
    ck_assert_double_lt(r.report.router.penalty, 0.3 * before);
    ck_assert_double_eq_tol(r.report.tau, 0.5, 1e-12);
    stop(&r);
}
END_TEST

START_TEST(a_stage_trains_its_groups_and_no_other)
{
    const duo_group_set language_model =
        DUO_ALL_GROUPS & ~DUO_GROUP_BIT(DUO_GROUP_ROUTER) & ~DUO_GROUP_BIT(DUO_GROUP_HEAD);
    const struct {
        duo_stage_kind kind;
        duo_group_set trains;
        double p[DUO_MODULES];
    } cases[] = {
        {DUO_STAGE_DENSE, language_model & ~DUO_GROUP_BIT(DUO_GROUP_SMALL), {0, 0, 1}},
        {DUO_STAGE_DUO, language_model, {0.2, 0.4, 0.4}},
        {DUO_STAGE_DUO, language_model & ~DUO_GROUP_BIT(DUO_GROUP_SMALL), {0, 0, 1}},
        {DUO_STAGE_DUO, language_model & ~DUO_GROUP_BIT(DUO_GROUP_BIG), {0.3, 0.7, 0}},
        {DUO_STAGE_SMALL, DUO_GROUP_BIT(DUO_GROUP_SMALL), {0.2, 0.4, 0.4}},
        {DUO_STAGE_ROUTER, DUO_GROUP_BIT(DUO_GROUP_ROUTER), {0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        duo_stage_recipe stage = stage_of(cases[i].kind);
        memcpy(stage.p, cases[i].p, sizeof stage.p);
        run r = start(&stage, 1);
        const duo_tree *weights = &r.model->weights;
        float *before = copy_of(weights);
        step(&r, 2);
        for (size_t p = 0; p < r.model->params.n; p++) {
            const duo_param *param = &r.model->params.table[p];
            const bool trains = (cases[i].trains & DUO_GROUP_BIT(param->group)) != 0;
            const float *old = before + (weights->tensors[p] - weights->block);
            const bool same = memcmp(old, weights->tensors[p], param->count * sizeof(float)) == 0;
            ck_assert_msg(same != trains, "stage %s, %s", duo_stage_kind_name(cases[i].kind),
                          param->name);
        }
        free(before);
        stop(&r);
    }
}
END_TEST

START_TEST(bits_do_not_depend_on_threads)
{
    const duo_stage_kind kinds[] = {DUO_STAGE_DUO, DUO_STAGE_ROUTER};
    for (size_t i = 0; i < 2; i++) {
        const duo_stage_recipe stage = stage_of(kinds[i]);
        run one = start(&stage, 1);
        step(&one, 5);
        for (int threads = 2; threads <= 4; threads++) {
            run many = start(&stage, threads);
            step(&many, 5);
            ck_assert(same_bits(&one.model->weights, &many.model->weights));
            ck_assert(same_bits(duo_trainer_v(one.trainer), duo_trainer_v(many.trainer)));
            ck_assert(one.report.loss == many.report.loss);
            stop(&many);
        }
        stop(&one);
    }
}
END_TEST

/* Routes, noise and windows belong to the row of the whole batch, so that the size of the
 * micro-batch changes the order of sums and nothing else. 20 micro-batches are more than the
 * blocks that are added in a tree. */
START_TEST(micro_batches_change_rounding_only)
{
    const duo_stage_kind kinds[] = {DUO_STAGE_DUO, DUO_STAGE_ROUTER};
    const size_t batches[] = {6, 20}, micro[2][4] = {{1, 2, 3, 6}, {1, 2, 4, 20}};
    for (size_t i = 0; i < 2; i++)
        for (size_t b = 0; b < 2; b++) {
            duo_stage_recipe stage = stage_of(kinds[i]);
            stage.clip = 0;
            stage.batch_size = stage.micro_batch = batches[b];
            run whole = start(&stage, 1);
            step(&whole, 1);
            for (size_t k = 0; k < 4; k++) {
                stage.micro_batch = micro[b][k];
                run parts = start(&stage, 1);
                step(&parts, 1);
                /* m is a tenth of the gradient after the first step. */
                ck_assert_double_le(
                    distance(duo_trainer_m(parts.trainer), duo_trainer_m(whole.trainer)), 2e-6);
                ck_assert_double_eq_tol(parts.report.loss, whole.report.loss, 1e-6);
                ck_assert_double_eq_tol(parts.report.grad_norm, whole.report.grad_norm,
                                        1e-5 * whole.report.grad_norm);
                ck_assert_mem_eq(parts.report.usage, whole.report.usage,
                                 2 * DUO_MODULES * sizeof(uint64_t));
                stop(&parts);
            }
            stop(&whole);
        }
}
END_TEST

/* Masters, moments and sums are fp32: a bf16 run learns the same, not with the same bits. */
START_TEST(bf16_follows_fp32)
{
    duo_stage_recipe stage = stage_of(DUO_STAGE_DUO);
    run single = start(&stage, 1);
    step(&single, 40);
    stage.precision = DUO_BF16;
    run half = start(&stage, 1), threads = start(&stage, 3);
    step(&half, 40);
    step(&threads, 40);
    ck_assert(half.report.loss != single.report.loss);
    ck_assert_double_eq_tol(half.report.loss, single.report.loss, 0.01 * single.report.loss);
    ck_assert(same_bits(&half.model->weights, &threads.model->weights));
    stop(&threads);
    stop(&half);
    stop(&single);
}
END_TEST

START_TEST(gradients_are_clipped_to_the_norm)
{
    duo_stage_recipe stage = stage_of(DUO_STAGE_DUO);
    stage.clip = 0;
    run free_run = start(&stage, 1);
    step(&free_run, 1);
    const double norm = free_run.report.grad_norm;
    stage.clip = norm / 8;
    run clipped = start(&stage, 1);
    step(&clipped, 1);
    ck_assert_double_eq(clipped.report.grad_norm, norm); /* reported as it was */
    const duo_tree *m = duo_trainer_m(clipped.trainer), *full = duo_trainer_m(free_run.trainer);
    double squares = 0;
    for (size_t i = 0; i < m->count; i++) {
        squares += pow((double)m->block[i] / 0.1, 2);
        ck_assert_double_le(fabs(8 * (double)m->block[i] - (double)full->block[i]),
                            1e-5 * fabs((double)full->block[i]));
    }
    ck_assert_double_eq_tol(sqrt(squares), norm / 8, 1e-5 * norm);
    stop(&clipped);
    stage.clip = 2 * norm; /* below the limit nothing changes */
    run loose = start(&stage, 1);
    step(&loose, 1);
    ck_assert(same_bits(&loose.model->weights, &free_run.model->weights));
    stop(&loose);
    stop(&free_run);
}
END_TEST

START_TEST(weight_decay_spares_gains)
{
    duo_stage_recipe stage = stage_of(DUO_STAGE_DUO);
    stage.weight_decay = 0;
    run without = start(&stage, 1);
    float *before = copy_of(&without.model->weights);
    step(&without, 1);
    stage.weight_decay = 0.5;
    run with = start(&stage, 1);
    step(&with, 1);
    const duo_tree *a = &with.model->weights, *b = &without.model->weights;
    for (size_t p = 0; p < a->params->n; p++) {
        const duo_param *param = &a->params->table[p];
        const float *old = before + (b->tensors[p] - b->block);
        const bool decays = param->rank == 2 && param->group != DUO_GROUP_ROUTER;
        for (size_t k = 0; k < param->count; k++) {
            const double want = decays ? -with.report.lr * 0.5 * (double)old[k] : 0;
            ck_assert_double_eq_tol((double)a->tensors[p][k] - (double)b->tensors[p][k], want,
                                    1e-8 + 1e-6 * fabs((double)old[k]));
        }
    }
    free(before);
    stop(&with);
    stop(&without);
}
END_TEST

START_TEST(a_step_that_is_not_finite_touches_nothing)
{
    const duo_stage_recipe stage = stage_of(DUO_STAGE_DUO);
    run r = start(&stage, 1);
    step(&r, 2);
    duo_tree_at(&r.model->weights, 1, DUO_P_BIG_UP)[3] = NAN;
    duo_model_repack(r.model, DUO_ALL_GROUPS);
    float *before = copy_of(&r.model->weights), *m = copy_of(duo_trainer_m(r.trainer));
    const duo_progress progress = r.progress;
    refused(duo_trainer_step(r.trainer, &r.progress, &r.report), DUO_ENUMBER,
            "stage test, step 3: loss nan, gradient norm nan: "
            "weights layers/01/big/up/weight: not finite");
    ck_assert_mem_eq(before, r.model->weights.block, r.model->weights.count * sizeof *before);
    ck_assert_mem_eq(m, duo_trainer_m(r.trainer)->block,
                     duo_trainer_m(r.trainer)->count * sizeof *m);
    ck_assert_mem_eq(&progress, &r.progress, sizeof progress);
    free(before);
    free(m);
    stop(&r);
}
END_TEST

/* Weights, moments and progress are all that a run consists of. */
START_TEST(a_new_trainer_goes_on_with_the_same_bits)
{
    const duo_stage_kind kinds[] = {DUO_STAGE_DUO, DUO_STAGE_ROUTER, DUO_STAGE_ROUTER};
    for (size_t i = 0; i < 3; i++) {
        duo_stage_recipe stage = stage_of(kinds[i]);
        stage.dual_lr = 0.5;
        if (i == 1) stage.penalty = DUO_PENALTY_LAGRANGIAN;
        if (i == 2) stage.router_inputs = (1 << DUO_ROUTER_INPUTS) - 1, stage.budget_max = 2;
        run whole = start(&stage, 1), first = start(&stage, 1), second = start(&stage, 1);
        step(&whole, 7);
        step(&first, 3);
        const duo_tree *const from[] = {&first.model->weights, duo_trainer_m(first.trainer),
                                        duo_trainer_v(first.trainer)};
        const duo_tree *const to[] = {&second.model->weights, duo_trainer_m(second.trainer),
                                      duo_trainer_v(second.trainer)};
        for (size_t k = 0; k < 3; k++)
            memcpy(to[k]->block, from[k]->block, from[k]->count * sizeof(float));
        duo_model_repack(second.model, DUO_ALL_GROUPS);
        second.progress = first.progress;
        step(&second, 4);
        ck_assert(same_bits(&second.model->weights, &whole.model->weights));
        ck_assert(same_bits(duo_trainer_v(second.trainer), duo_trainer_v(whole.trainer)));
        stop(&second);
        stop(&first);
        stop(&whole);
    }
}
END_TEST

/* ---------------------------------------------------------------- held out */

START_TEST(validation_routes_as_the_stage_does)
{
    const struct {
        duo_stage_kind kind;
        duo_routing_kind routing;
    } cases[] = {{DUO_STAGE_DENSE, DUO_ROUTING_GIVEN}, {DUO_STAGE_ROUTER, DUO_ROUTING_ROUTER}};
    for (size_t i = 0; i < 2; i++)
        for (size_t micro = 1; micro <= 3; micro++) {
            duo_stage_recipe stage = stage_of(cases[i].kind);
            stage.micro_batch = micro;
            run r = start(&stage, 1);
            random_model(r.model, 3);
            uint64_t usage[2 * DUO_MODULES], want_usage[2 * DUO_MODULES];
            double loss = 0;
            ok(duo_trainer_validate(r.trainer, r.tokens, &loss, usage));
            const double want = loss_by_hand(&r, 7, cases[i].routing, want_usage);
            ck_assert_double_eq_tol(loss, want, 1e-6);
            ck_assert_mem_eq(usage, want_usage, sizeof usage);
            stop(&r);
        }
}
END_TEST

START_TEST(validation_of_random_routes_is_always_the_same)
{
    duo_stage_recipe stage = stage_of(DUO_STAGE_DUO);
    stage.val_windows = 1000; /* all 33 that there are */
    double loss[3];
    uint64_t usage[3][2 * DUO_MODULES];
    for (size_t micro = 1; micro <= 3; micro++) {
        stage.micro_batch = micro;
        run r = start(&stage, 1);
        random_model(r.model, 3);
        float *before = copy_of(&r.model->weights);
        double again = 0;
        ok(duo_trainer_validate(r.trainer, r.tokens, &loss[micro - 1], usage[micro - 1]));
        ok(duo_trainer_validate(r.trainer, r.tokens, &again, usage[micro - 1]));
        ck_assert(again == loss[micro - 1]);
        ck_assert_mem_eq(before, r.model->weights.block, r.model->weights.count * sizeof *before);
        free(before);
        stop(&r);
    }
    const double tokens = 33 * T;
    for (size_t k = 0; k < 3; k++) {
        ck_assert_double_eq_tol(loss[k], loss[0], 1e-6);
        ck_assert_mem_eq(usage[k], usage[0], sizeof usage[0]);
    }
    for (size_t l = 0; l < 2; l++)
        for (size_t m = 0; m < DUO_MODULES; m++) /* 4 standard errors of 396 draws */
            ck_assert_double_eq_tol((double)usage[0][l * DUO_MODULES + m] / tokens, stage.p[m],
                                    0.1);
}
END_TEST

START_TEST(too_little_held_out_text_is_an_error)
{
    const duo_stage_recipe stage = stage_of(DUO_STAGE_DENSE);
    run r = start_with(&stage, 1, T);
    uint64_t usage[2 * DUO_MODULES];
    double loss = 0;
    refused(duo_trainer_validate(r.trainer, r.tokens, &loss, usage), DUO_EINVAL,
            "holds no window of 13 tokens");
    stop(&r);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        learning_rate_by_value,
        temperature_by_value,
        loss_falls_and_progress_advances,
        kernels_book_the_flops_of_a_step,
        routes_are_drawn_anew_at_every_step,
        router_stage_reaches_its_budget,
        a_stage_trains_its_groups_and_no_other,
        bits_do_not_depend_on_threads,
        micro_batches_change_rounding_only,
        bf16_follows_fp32,
        gradients_are_clipped_to_the_norm,
        weight_decay_spares_gains,
        a_step_that_is_not_finite_touches_nothing,
        a_new_trainer_goes_on_with_the_same_bits,
        validation_routes_as_the_stage_does,
        validation_of_random_routes_is_always_the_same,
        too_little_held_out_text_is_an_error,
    };
    return run_suite("train", tests, sizeof tests / sizeof *tests);
}
