#include "train_fixture.h"

/* ---------------------------------------------------------------- router stages */

static duo_stage_recipe router_stage(duo_penalty penalty)
{
    duo_stage_recipe stage = stage_of(DUO_STAGE_ROUTER);
    stage.modules = TWO;
    stage.penalty = penalty;
    stage.alpha = 20;
    return stage;
}

static double share_of_big(const run *r)
{
    return (r->report.soft_usage[DUO_BIG] + r->report.soft_usage[DUO_MODULES + DUO_BIG]) / 2;
}

START_TEST(every_penalty_leads_to_the_target)
{
    for (duo_penalty penalty = 0; penalty <= DUO_PENALTY_LAGRANGIAN; penalty++) {
        duo_stage_recipe stage = router_stage(penalty);
        if (penalty == DUO_PENALTY_LAGRANGIAN) stage.alpha = 1;
        run r = start(&stage, 1);
        step(&r, 1);
        const double before = share_of_big(&r);
        step(&r, 99);
        ck_assert_double_gt(before, 0.45);
        ck_assert_double_lt(share_of_big(&r), penalty == DUO_PENALTY_LAGRANGIAN ? 0.4 : 0.35);
        ck_assert_double_gt(share_of_big(&r), 0.15);
        ck_assert(penalty == DUO_PENALTY_LAGRANGIAN || r.progress.multiplier[DUO_BIG] == 0);
        stop(&r);
    }
}
END_TEST

/* Without a penalty on the whole, each layer is held to the target on its own. */
START_TEST(balance_holds_every_layer_to_the_target)
{
    for (int balanced = 0; balanced < 2; balanced++) {
        duo_stage_recipe stage = router_stage(DUO_PENALTY_SQUARED);
        stage.alpha = 0;
        stage.balance = balanced ? 20 : 0;
        run r = start(&stage, 1);
        step(&r, 100);
        double off = 0;
        for (size_t l = 0; l < 2; l++)
            off = fmax(off, fabs(r.report.soft_usage[l * DUO_MODULES + DUO_BIG] - 0.3));
        ck_assert_msg(balanced ? off < 0.07 : off > 0.12, "balance %d: %g off", balanced, off);
        stop(&r);
    }
}
END_TEST

START_TEST(a_z_loss_keeps_logits_small)
{
    double z[2];
    for (int kept = 0; kept < 2; kept++) {
        duo_stage_recipe stage = router_stage(DUO_PENALTY_SQUARED);
        stage.z_loss = kept;
        run r = start(&stage, 1);
        random_model(r.model, 3);
        duo_model_repack(r.model, DUO_ALL_GROUPS);
        step(&r, 60);
        z[kept] = r.report.router.z;
        stop(&r);
    }
    ck_assert_msg(z[1] < 0.5 * z[0], "z %g with it, %g without", z[1], z[0]);
}
END_TEST

/* lambda += dual_lr (P - t), with the share that the step had. */
START_TEST(multipliers_ascend)
{
    duo_stage_recipe stage = router_stage(DUO_PENALTY_LAGRANGIAN);
    stage.dual_lr = 0.5;
    run r = start(&stage, 1);
    double multiplier = 0;
    for (size_t i = 0; i < 3; i++) {
        step(&r, 1);
        ck_assert_double_eq(r.report.multiplier[DUO_BIG], multiplier);
        multiplier += 0.5 * (share_of_big(&r) - 0.3);
        ck_assert_double_eq_tol(r.progress.multiplier[DUO_BIG], multiplier, 1e-12);
        multiplier = r.progress.multiplier[DUO_BIG];
    }
    ck_assert_double_gt(multiplier, 0.1);
    ck_assert_double_eq(r.progress.multiplier[DUO_SMALL], 0); /* no target */
    stop(&r);
}
END_TEST

/* The FLOPs of three tokens in ten that take big are the same target in other words. */
START_TEST(wanted_flops_are_trained_to)
{
    duo_stage_recipe stage = router_stage(DUO_PENALTY_FLOPS);
    run by_share = start(&stage, 1);
    step(&by_share, 100);
    const duo_config *c = &by_share.model->params.config;
    const double ffn = 0.3 * duo_flops_ffn(c, DUO_BIG) + 0.7 * duo_flops_ffn(c, DUO_SMALL);
    stage.target_flops =
        duo_flops_base(c, (T + 1) / 2.0) + duo_flops_routers(c) + (double)c->n_layers * ffn;
    stage.target[DUO_BIG] = -1;
    run by_flops = start(&stage, 1);
    step(&by_flops, 1);
    ck_assert_double_gt(share_of_big(&by_flops), 0.45);
    step(&by_flops, 99);
    ck_assert_double_eq_tol(share_of_big(&by_flops), share_of_big(&by_share), 1e-3);
    ck_assert_double_lt(share_of_big(&by_flops), 0.35);
    stop(&by_share);
    stop(&by_flops);
}
END_TEST

START_TEST(wanted_flops_out_of_reach_are_refused)
{
    duo_stage_recipe stage = router_stage(DUO_PENALTY_FLOPS);
    run r = start(&stage, 1);
    duo_trainer *other = NULL;
    stage.target_flops = 1;
    refused(duo_trainer_create(&other, r.model, &stage, 5, r.sampler), DUO_EINVAL,
            "stage test: target_flops 1 is out of reach");
    stop(&r);
}
END_TEST

START_TEST(what_a_router_stage_trains)
{
    const struct {
        duo_router_trains train;
        duo_module_set modules;
        duo_group_set groups;
    } cases[] = {
        {DUO_TRAIN_ROUTER, TWO, DUO_GROUP_BIT(DUO_GROUP_ROUTER)},
        {DUO_TRAIN_ROUTER_SMALL, TWO,
         DUO_GROUP_BIT(DUO_GROUP_ROUTER) | DUO_GROUP_BIT(DUO_GROUP_SMALL)},
        {DUO_TRAIN_ALL, TWO, DUO_ALL_GROUPS},
        {DUO_TRAIN_ALL, 1 << DUO_SKIP | 1 << DUO_BIG,
         DUO_ALL_GROUPS & ~DUO_GROUP_BIT(DUO_GROUP_SMALL)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        duo_stage_recipe stage = router_stage(DUO_PENALTY_SQUARED);
        stage.train = cases[i].train;
        stage.modules = cases[i].modules;
        stage.weight_decay = 0;
        stage.router_lr = 0.005;
        run r = start(&stage, 1);
        float *before = copy_of(&r.model->weights);
        step(&r, 1);
        for (size_t p = 0; p < r.model->params.n; p++) {
            const duo_param *param = &r.model->params.table[p];
            const float *w = r.model->weights.tensors[p];
            const float *old = before + (w - r.model->weights.block);
            const bool trains = (cases[i].groups & DUO_GROUP_BIT(param->group)) != 0;
            float most = 0; /* a first step of AdamW is of the learning rate's size */
            for (size_t k = 0; k < param->count; k++) most = fmaxf(most, fabsf(w[k] - old[k]));
            const double lr = param->group == DUO_GROUP_ROUTER ? 0.005 : 0.01;
            ck_assert_msg(fabs((double)most - (trains ? lr : 0)) < 1e-3 * lr, "%s moved by %g",
                          param->name, (double)most);
        }
        free(before);
        stop(&r);
    }
}
END_TEST

START_TEST(schedules_have_tails)
{
    duo_stage_recipe stage = {.steps = 101,
                              .tau_start = 4,
                              .tau_end = 0.25,
                              .tau_tail = 20,
                              .hard_tail = 10,
                              .tau_schedule = DUO_CURVE_LINEAR};
    ck_assert_double_eq_tol(duo_stage_tau(&stage, 40), 2.125, 1e-12);
    ck_assert_double_eq_tol(duo_stage_tau(&stage, 80), 0.25, 1e-12);
    ck_assert_double_eq_tol(duo_stage_tau(&stage, 100), 0.25, 1e-12);
    stage.tau_schedule = DUO_CURVE_CONSTANT; /* then the tail is a fall */
    ck_assert_double_eq(duo_stage_tau(&stage, 80), 4);
    ck_assert_double_eq(duo_stage_tau(&stage, 81), 0.25);
    ck_assert(!duo_stage_hard(&stage, 90) && duo_stage_hard(&stage, 91));
}
END_TEST

/* A tail as long as the stage makes every step straight-through. */
START_TEST(a_hard_tail_is_straight_through)
{
    float *weights[3];
    size_t n = 0;
    for (int i = 0; i < 3; i++) {
        duo_stage_recipe stage = router_stage(DUO_PENALTY_SQUARED);
        stage.straight_through = i == 1;
        stage.hard_tail = i == 2 ? stage.steps : 0;
        run r = start(&stage, 1);
        step(&r, 5);
        weights[i] = copy_of(&r.model->weights);
        n = r.model->weights.count;
        stop(&r);
    }
    ck_assert_mem_eq(weights[1], weights[2], n * sizeof(float));
    ck_assert_mem_ne(weights[0], weights[2], n * sizeof(float));
    for (int i = 0; i < 3; i++) free(weights[i]);
}
END_TEST

/* ---------------------------------------------------------------- budgets as an input */

START_TEST(each_sequence_has_a_budget_of_its_own)
{
    duo_stage_recipe stage = router_stage(DUO_PENALTY_SQUARED);
    stage.router_inputs = 1 << DUO_INPUT_BUDGET;
    stage.budget_max = 2;
    stage.lr = 0.05;
    run r = start(&stage, 1);
    step(&r, 100);
    double share[3];
    for (size_t k = 0; k <= 2; k++) {
        uint64_t usage[2 * DUO_MODULES];
        double loss = 0;
        r.model->rule = duo_model_rule(r.model, (double)k);
        ok(duo_trainer_validate(r.trainer, r.tokens, &loss, usage));
        share[k] = (double)(usage[DUO_BIG] + usage[DUO_MODULES + DUO_BIG]) / (2 * 7 * T);
    }
    ck_assert_double_lt(share[0], 0.25);
    ck_assert(share[0] < share[1] && share[1] < share[2]);
    ck_assert_double_gt(share[2], 0.75);
    stop(&r);
}
END_TEST

/* ---------------------------------------------------------------- calibration */

static void routed_shares(run *r, size_t windows, double shares[DUO_MODULES])
{
    uint64_t usage[2 * DUO_MODULES];
    loss_by_hand(r, windows, DUO_ROUTING_ROUTER, usage);
    for (size_t m = 0; m < DUO_MODULES; m++)
        shares[m] = (double)(usage[m] + usage[DUO_MODULES + m]) / (double)(2 * windows * T);
}

START_TEST(thresholds_meet_their_targets)
{
    const struct {
        duo_module_set modules;
        double target[DUO_MODULES];
    } cases[] = {{TWO, {-1, -1, 0.25}},
                 {TWO, {-1, 0.4, 0.6}},
                 {ALL_MODULES, {-1, -1, 0.7}},
                 {ALL_MODULES, {0.2, 0.3, 0.5}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        duo_stage_recipe stage = router_stage(DUO_PENALTY_SQUARED);
        stage.modules = cases[i].modules;
        run r = start(&stage, 1);
        random_model(r.model, 3);
        duo_calibration calibration = {.tokens = r.tokens, .windows = 200, .T = T, .rows = 7};
        memcpy(calibration.target, cases[i].target, sizeof calibration.target);
        duo_calibrated calibrated;
        double held[DUO_MODULES];
        ok(duo_calibrate(r.model, &calibration, &calibrated));
        ck_assert_uint_eq(calibrated.windows, 200);
        ck_assert_double_le(calibrated.miss, 1e-3);
        routed_shares(&r, 33, held);
        for (size_t m = 0; m < DUO_MODULES; m++) {
            if (cases[i].target[m] < 0) continue;
            ck_assert_double_eq_tol(calibrated.after[m], cases[i].target[m], 1e-3);
            ck_assert_double_eq_tol(held[m], cases[i].target[m], 0.06); /* 800 choices */
        }
        duo_calibration_clear(r.model);
        routed_shares(&r, 33, held);
        ck_assert_double_eq_tol(held[DUO_BIG], calibrated.before[DUO_BIG], 0.06);
        ck_assert_double_gt(fabs(calibrated.before[DUO_BIG] - cases[i].target[DUO_BIG]), 0.02);
        stop(&r);
    }
}
END_TEST

START_TEST(every_budget_has_a_threshold)
{
    duo_stage_recipe stage = router_stage(DUO_PENALTY_SQUARED);
    stage.router_inputs = 1 << DUO_INPUT_BUDGET;
    run r = start(&stage, 1);
    random_model(r.model, 3);
    const duo_calibration calibration = {
        .tokens = r.tokens, .windows = 200, .T = T, .rows = 8, .budget_min = 1, .budget_max = 2};
    duo_calibrated calibrated;
    double shares[DUO_MODULES];
    ok(duo_calibrate(r.model, &calibration, &calibrated));
    ck_assert_double_eq_tol(calibrated.after[DUO_BIG], calibrated.n_big / 2, 1e-3);
    ck_assert_double_le(calibrated.miss, 1e-3);
    r.model->rule = duo_model_rule(r.model, 1);
    routed_shares(&r, 33, shares);
    ck_assert_double_eq_tol(shares[DUO_BIG], 0.5, 0.06);
    /* Budgets that were not asked for take the nearest one's. */
    ck_assert_float_eq(r.model->thresholds[DUO_BIG], r.model->thresholds[DUO_MODULES + DUO_BIG]);
    stop(&r);
}
END_TEST

/* By the trainer's pass or not: the attention is that of those who use the model. */
START_TEST(calibration_does_not_depend_on_the_pass)
{
    for (duo_precision precision = DUO_FP32; precision <= DUO_BF16; precision++) {
        float thresholds[2];
        duo_stage_recipe stage = router_stage(DUO_PENALTY_SQUARED);
        stage.precision = precision;
        run r = start(&stage, 1);
        random_model(r.model, 3);
        duo_model_repack(r.model, DUO_ALL_GROUPS);
        duo_calibration calibration = {.tokens = r.tokens,
                                       .windows = 50,
                                       .T = T,
                                       .rows = stage.micro_batch,
                                       .target = {-1, -1, 0.4}};
        for (size_t i = 0; i < 2; i++) {
            duo_calibrated calibrated;
            calibration.pass = i ? duo_trainer_pass(r.trainer) : NULL;
            ok(duo_calibrate(r.model, &calibration, &calibrated));
            thresholds[i] = r.model->thresholds[DUO_BIG];
        }
        ck_assert_mem_eq(thresholds, thresholds + 1, sizeof *thresholds);
        stop(&r);
    }
}
END_TEST

START_TEST(scores_that_are_not_finite_set_no_threshold)
{
    duo_stage_recipe stage = router_stage(DUO_PENALTY_SQUARED);
    run r = start(&stage, 1);
    const duo_calibration calibration = {
        .tokens = r.tokens, .windows = 50, .T = T, .rows = 8, .target = {-1, -1, 0.4}};
    duo_calibrated calibrated;
    duo_tree_at(&r.model->weights, 1, DUO_P_ROUTER_BIAS)[0] = NAN;
    refused(duo_calibrate(r.model, &calibration, &calibrated), DUO_ENUMBER,
            "calibration: layer 1, a router's score is not finite");
    ck_assert_float_eq(r.model->thresholds[DUO_BIG], 0);
    stop(&r);
}
END_TEST

START_TEST(calibration_does_not_depend_on_threads)
{
    float thresholds[2];
    for (int threads = 1; threads <= 2; threads++) {
        duo_stage_recipe stage = router_stage(DUO_PENALTY_SQUARED);
        run r = start(&stage, threads);
        random_model(r.model, 3);
        const duo_calibration calibration = {
            .tokens = r.tokens, .windows = 50, .T = T, .rows = 8, .target = {-1, -1, 0.4}};
        duo_calibrated calibrated;
        ok(duo_calibrate(r.model, &calibration, &calibrated));
        thresholds[threads - 1] = r.model->thresholds[DUO_BIG];
        stop(&r);
    }
    ck_assert_mem_eq(thresholds, thresholds + 1, sizeof *thresholds);
}
END_TEST

/* ---------------------------------------------------------------- teachers */

enum { TAUGHT = 9 };

/* Big wherever the token is even: a rule that a router of layer 0 can read off. */
static duo_teacher make_teacher(const run *r, int32_t *tokens, uint8_t *routes)
{
    for (size_t i = 0; i < TAUGHT; i++) {
        duo_tokens_window(r->tokens, DUO_TRAIN, -1, T, i, tokens + i * (T + 1));
        for (size_t t = 0; t < T; t++) {
            routes[(i * T + t) * 2] = tokens[i * (T + 1) + t] % 2 ? DUO_SMALL : DUO_BIG;
            routes[(i * T + t) * 2 + 1] = DUO_SMALL;
        }
    }
    return (duo_teacher){.R = TAUGHT, .T = T, .tokens = tokens, .routes = routes};
}

START_TEST(routers_learn_from_a_teacher)
{
    for (int mixed = 0; mixed < 2; mixed++) {
        int32_t tokens[TAUGHT * (T + 1)];
        uint8_t routes[TAUGHT * T * 2];
        duo_stage_recipe stage = router_stage(DUO_PENALTY_SQUARED);
        strcpy(stage.teacher, "routes.h5");
        stage.alpha = 0;
        stage.teach = mixed ? 10 : 1;
        stage.language = mixed ? 0.1 : 0;
        stage.focal = mixed;
        stage.lr = 0.1;
        run r = start(&stage, 1);
        random_model(r.model, 3);
        duo_model_repack(r.model, DUO_ALL_GROUPS);
        const duo_teacher teacher = make_teacher(&r, tokens, routes);
        ok(duo_trainer_teach(r.trainer, &teacher));
        step(&r, 1);
        const double before = r.report.router.teacher, agreed = r.report.router.agree;
        step(&r, 99);
        ck_assert_double_lt(r.report.router.teacher, 0.4 * before);
        ck_assert_double_gt(r.report.router.agree, 0.9);
        ck_assert_double_lt(agreed, 0.8);
        if (!mixed) { /* the pass took the teacher's routes */
            ck_assert_uint_eq(r.report.usage[DUO_MODULES + DUO_SMALL], 6 * T);
            ck_assert_uint_eq(r.report.usage[DUO_MODULES + DUO_BIG], 0);
        }
        stop(&r);
    }
}
END_TEST

/* A step over as many rows as the teacher has takes each of them once, whatever was trained before.
 */
START_TEST(a_teacher_is_read_from_its_first_row_in_every_stage)
{
    int32_t tokens[TAUGHT * (T + 1)];
    uint8_t routes[TAUGHT * T * 2];
    duo_stage_recipe stage = router_stage(DUO_PENALTY_SQUARED);
    strcpy(stage.teacher, "routes.h5");
    for (uint64_t before = 0; before < 5; before++) {
        run r = start(&stage, 1);
        duo_teacher teacher = make_teacher(&r, tokens, routes);
        teacher.R = stage.batch_size;
        r.progress.sequences = before;
        ok(duo_trainer_teach(r.trainer, &teacher));
        step(&r, 1);
        uint64_t big = 0;
        for (size_t n = 0; n < teacher.R * T; n++) big += routes[2 * n] == DUO_BIG;
        ck_assert_uint_eq(r.report.usage[DUO_BIG], big);
        stop(&r);
    }
}
END_TEST

enum { CHOICES = TAUGHT * T * 2 };

/* Along routes that are all big: in layer 0 big is worth what the rule says, in layer 1 nothing
 * but small can follow. */
static void make_values(const int32_t *tokens, uint8_t *routes, float *values)
{
    for (size_t i = 0; i < TAUGHT * T; i++) {
        const bool even = tokens[i / T * (T + 1) + i % T] % 2 == 0;
        const float of[2][DUO_MODULES] = {{INFINITY, 3, even ? 2.5f : 3.25f},
                                          {INFINITY, 3, INFINITY}};
        routes[2 * i] = routes[2 * i + 1] = DUO_BIG;
        memcpy(values + 2 * i * DUO_MODULES, of, sizeof of);
    }
}

/* A stage that learns from a teacher who knows what choices are worth. */
typedef struct lesson {
    int32_t tokens[TAUGHT * (T + 1)];
    uint8_t routes[CHOICES];
    float values[CHOICES * DUO_MODULES];
    duo_teacher teacher; /* not yet the trainer's */
} lesson;

static duo_stage_recipe taught_stage(duo_lesson learn)
{
    duo_stage_recipe stage = router_stage(DUO_PENALTY_SQUARED);
    strcpy(stage.teacher, "routes.h5");
    stage.learn = learn;
    stage.alpha = 0;
    stage.teach = 1;
    return stage;
}

static run start_taught(const duo_stage_recipe *stage, lesson *l)
{
    run r = start(stage, 1);
    random_model(r.model, 3);
    duo_model_repack(r.model, DUO_ALL_GROUPS);
    l->teacher = make_teacher(&r, l->tokens, l->routes);
    make_values(l->tokens, l->routes, l->values);
    l->teacher.values = l->values;
    l->teacher.unit = duo_teacher_unit(l->values, CHOICES, TWO);
    return r;
}

START_TEST(routers_learn_what_choices_are_worth)
{
    for (duo_lesson learn = DUO_LEARN_LABELS; learn <= DUO_LEARN_GAPS; learn++) {
        lesson l;
        duo_stage_recipe stage = taught_stage(learn);
        stage.lr = 0.1;
        run r = start_taught(&stage, &l);
        float lacking[CHOICES * DUO_MODULES];
        memcpy(lacking, l.values, sizeof lacking);
        for (size_t i = 0; i < CHOICES; i++) lacking[i * DUO_MODULES + DUO_BIG] = INFINITY;
        l.teacher.values = NULL;
        refused(duo_trainer_teach(r.trainer, &l.teacher), DUO_EINVAL, "routes.h5: holds no values");
        l.teacher.values = lacking;
        refused(duo_trainer_teach(r.trainer, &l.teacher), DUO_EINVAL,
                "routes.h5: has no values of big");
        l.teacher.values = l.values;
        ok(duo_trainer_teach(r.trainer, &l.teacher));
        step(&r, 1);
        const double before = r.report.router.teacher;
        step(&r, 99);
        ck_assert_double_lt(r.report.router.teacher, 0.4 * before);
        ck_assert_double_gt(r.report.router.agree, 0.8);
        ck_assert_uint_eq(r.report.usage[DUO_MODULES + DUO_BIG], 6 * T); /* along the routes */
        stop(&r);
    }
}
END_TEST

/* What gaps of more than huber times the unit weigh grows no longer with their square. */
START_TEST(huber_bounds_what_a_token_pulls)
{
    double loss[2];
    for (int bounded = 0; bounded < 2; bounded++) {
        lesson l;
        duo_stage_recipe stage = taught_stage(DUO_LEARN_GAPS);
        stage.huber = bounded ? 0.1 : 0;
        run r = start_taught(&stage, &l);
        l.teacher.unit = 0.01;
        ok(duo_trainer_teach(r.trainer, &l.teacher));
        step(&r, 1);
        loss[bounded] = r.report.router.teacher;
        stop(&r);
    }
    ck_assert_msg(loss[1] < 0.1 * loss[0] && loss[1] > 0, "%g, bounded %g", loss[0], loss[1]);
}
END_TEST

/* Agreement in a first step whose teacher knows only the values of some rows, a bit each. */
static double agreement(unsigned known)
{
    lesson l;
    const duo_stage_recipe stage = taught_stage(DUO_LEARN_LABELS);
    run r = start_taught(&stage, &l);
    for (size_t i = 0; i < CHOICES * DUO_MODULES; i++)
        if (!(known >> i / (2 * T * DUO_MODULES) & 1)) l.values[i] = INFINITY;
    l.teacher.R = stage.batch_size;
    ok(duo_trainer_teach(r.trainer, &l.teacher));
    step(&r, 1);
    const double agree = r.report.router.agree;
    stop(&r);
    return agree;
}

START_TEST(agreement_is_over_what_is_taught)
{
    const double first = agreement(1), third = agreement(4), both = agreement(5);
    ck_assert_double_ne(first, third);
    ck_assert_double_eq_tol(both, (first + third) / 2, 1e-12);
}
END_TEST

START_TEST(labels_and_units_by_hand)
{
    const float values[] = {INFINITY, 1, 1.5f, 2, 1, 1, 0, NAN, 3, 5, INFINITY, INFINITY};
    uint8_t labels[4];
    duo_teacher_labels(labels, values, 4, ALL_MODULES);
    ck_assert(labels[0] == DUO_SMALL && labels[1] == DUO_SMALL && labels[2] == DUO_SKIP);
    ck_assert_uint_eq(labels[3], DUO_NO_LABEL);
    duo_teacher_labels(labels, values, 4, TWO);
    ck_assert(labels[1] == DUO_SMALL && labels[2] == DUO_NO_LABEL);
    ck_assert_double_eq_tol(duo_teacher_unit(values, 4, TWO), sqrt(0.25 / 2), 1e-12);
    ck_assert_double_eq_tol(duo_teacher_unit(values, 4, ALL_MODULES), sqrt((0.25 + 2 + 9) / 5),
                            1e-12);
    ck_assert_double_eq(duo_teacher_unit(values + 9, 1, ALL_MODULES), 1);
}
END_TEST

START_TEST(a_teacher_of_other_lengths_is_refused)
{
    duo_stage_recipe stage = router_stage(DUO_PENALTY_SQUARED);
    strcpy(stage.teacher, "routes.h5");
    run r = start(&stage, 1);
    const duo_teacher teacher = {.R = 3, .T = T + 1};
    refused_as(duo_trainer_teach(r.trainer, &teacher), DUO_EINVAL,
               "routes.h5: 3 sequences of 13 tokens; stage test has seq_len 12");
    stop(&r);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        every_penalty_leads_to_the_target,
        balance_holds_every_layer_to_the_target,
        a_z_loss_keeps_logits_small,
        multipliers_ascend,
        wanted_flops_are_trained_to,
        wanted_flops_out_of_reach_are_refused,
        what_a_router_stage_trains,
        schedules_have_tails,
        a_hard_tail_is_straight_through,
        each_sequence_has_a_budget_of_its_own,
        thresholds_meet_their_targets,
        every_budget_has_a_threshold,
        calibration_does_not_depend_on_the_pass,
        scores_that_are_not_finite_set_no_threshold,
        calibration_does_not_depend_on_threads,
        routers_learn_from_a_teacher,
        a_teacher_is_read_from_its_first_row_in_every_stage,
        routers_learn_what_choices_are_worth,
        huber_bounds_what_a_token_pulls,
        agreement_is_over_what_is_taught,
        labels_and_units_by_hand,
        a_teacher_of_other_lengths_is_refused,
    };
    return run_suite("router_stage", tests, sizeof tests / sizeof *tests);
}
