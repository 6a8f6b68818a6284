#include <math.h>

#include "model_fixture.h"
#include "router.h"

enum { TWO = 1 << DUO_SMALL | 1 << DUO_BIG, ALL_INPUTS = (1 << DUO_ROUTER_INPUTS) - 1 };

/* Tables of inputs are drawn like matrices, so that each says something. */
static fixture make_router(duo_module_set modules, size_t hidden, duo_router_inputs inputs,
                           bool given)
{
    duo_config config = tiny_config();
    config.router_modules = modules;
    config.router_hidden = hidden;
    config.router_inputs = inputs;
    fixture f = {.B = 3, .T = 7, .routers = given};
    ok(duo_kernels_start(1));
    ok(duo_model_create(&f.model, &config));
    random_model(f.model, 11);
    setup_fixture(&f, DUO_ALL_GROUPS);
    return f;
}

static const float budgets[] = {0.3f, 0.81f, 1.0f};

/* ---------------------------------------------------------------- gradients */

static bool has_kinks(const fixture *f)
{
    return f->model->params.config.router_hidden > 0 || f->routing.loss.huber > 0;
}

/* As in the tests of whole models: four points, h = 0.02; less where the loss has kinks. */
static double slope(fixture *f, float *x)
{
    const float keep = *x, h = has_kinks(f) ? 4e-3f : 2e-2f;
    double value[4];
    const float at[4] = {keep - 2 * h, keep - h, keep + h, keep + 2 * h};
    for (size_t i = 0; i < 4; i++) {
        *x = at[i];
        value[i] = forward(f);
    }
    *x = keep;
    return (8 * (value[2] - value[1]) - (value[3] - value[0])) / (12 * (double)h);
}

static void check_entry(fixture *f, size_t p, size_t i)
{
    const double want = 0.25 + slope(f, f->model->weights.tensors[p] + i);
    const double got = (double)f->gradient.tensors[p][i];
    const bool kinks = has_kinks(f);
    if (!(fabs(got - want) <= (kinks ? 2e-2 : 3e-3) + (kinks ? 2e-2 : 2e-3) * fabs(want)))
        ck_abort_msg("%s[%zu]: %.7g, by differences %.7g", f->model->params.table[p].name, i, got,
                     want);
}

/* Of every tensor of the routers the entry with the largest gradient and two more, of every other
 * tensor one. */
static void check_gradients(fixture *f)
{
    for (size_t i = 0; i < f->gradient.count; i++) f->gradient.block[i] = 0.25f;
    backward(f);
    for (size_t p = 0; p < f->model->params.n; p++) {
        const duo_param *param = &f->model->params.table[p];
        const float *g = f->gradient.tensors[p];
        size_t largest = 0;
        for (size_t i = 0; i < param->count; i++)
            if (fabsf(g[i] - 0.25f) > fabsf(g[largest] - 0.25f)) largest = i;
        check_entry(f, p, largest);
        if (param->group != DUO_GROUP_ROUTER) continue;
        /* Nothing lies below the first layer. */
        if (param->slot != DUO_P_ROUTER_PREVIOUS || param->layer > 0)
            ck_assert_msg(fabsf(g[largest] - 0.25f) > 1e-3f, "%s: no gradient", param->name);
        check_entry(f, p, param->count / 2);
        check_entry(f, p, param->count - 1);
    }
}

START_TEST(gradients_of_every_penalty_match_differences)
{
    const duo_module_set sets[] = {TWO, ALL_MODULES};
    for (size_t s = 0; s < 2; s++)
        for (int i = 0; i <= 2 * DUO_PENALTY_LAGRANGIAN + 1; i++) {
            const duo_penalty penalty = (duo_penalty)(i / 2);
            const bool told = i % 2 == 1; /* a budget of its own for each sequence */
            if (told && penalty == DUO_PENALTY_LAGRANGIAN) continue;
            fixture f = make_router(sets[s], 0, told ? 1u << DUO_INPUT_BUDGET : 0, false);
            use_gumbel(&f, false);
            if (told) f.routing.budgets = budgets;
            f.routing.loss = (duo_router_loss){.penalty = penalty,
                                               .alpha = 5,
                                               .target = {s ? 0.05 : -1.0, -1.0, 0.1},
                                               .multiplier = {0.4, 0, -0.7},
                                               .cost = 0.15};
            check_gradients(&f);
            free_fixture(&f);
        }
}
END_TEST

START_TEST(gradients_of_balance_z_and_teacher_match_differences)
{
    const struct {
        duo_router_loss loss;
        bool teacher;
    } cases[] = {{{.balance = 4, .target = {0.2, -1, 0.3}}, false},
                 {{.z = 0.5, .target = {-1, -1, -1}}, false},
                 {{.teach = 2, .target = {-1, -1, -1}}, true},
                 {{.teach = 2, .focal = 2, .target = {-1, -1, -1}}, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f = make_router(ALL_MODULES, 0, 0, false);
        uint8_t labels[3 * 7 * 2];
        memcpy(labels, f.routes, sizeof labels);
        use_gumbel(&f, false);
        f.routing.loss = cases[i].loss;
        if (cases[i].teacher) f.routing.loss.teacher = labels;
        check_gradients(&f);
        free_fixture(&f);
    }
}
END_TEST

/* Random values, one choice in seven without that module. */
static float *random_values(size_t choices)
{
    float *values = malloc(choices * DUO_MODULES * sizeof *values);
    ck_assert_ptr_nonnull(values);
    for (size_t i = 0; i < choices * DUO_MODULES; i++) {
        const duo_place place = {.step = 41, .position = (uint32_t)i};
        const double u = duo_uniform(duo_random(3, DUO_RNG_TEST, place).word[0]);
        values[i] = i % 7 == 3 ? INFINITY : (float)(4 * u);
    }
    return values;
}

START_TEST(gradients_of_the_regression_of_gaps_match_differences)
{
    const duo_module_set sets[] = {TWO, ALL_MODULES};
    for (int set = 0; set < 2; set++)
        for (int given = 0; given < 2; given++)
            for (int bounded = 0; bounded < 2; bounded++) {
                fixture f = make_router(sets[set], 0, 0, given != 0);
                float *values = random_values(3 * 7 * 2);
                if (!given) use_gumbel(&f, false);
                f.routing.loss = (duo_router_loss){.teach = 2,
                                                   .target = {-1, -1, -1},
                                                   .values = values,
                                                   .unit = 0.7,
                                                   .huber = bounded ? 0.8 : 0};
                check_gradients(&f);
                free(values);
                free_fixture(&f);
            }
}
END_TEST

START_TEST(the_regression_of_gaps_by_hand)
{
    fixture f = make_router(ALL_MODULES, 0, 0, true);
    float *values = random_values(3 * 7 * 2), logits[3 * 7 * 2 * 3];
    double sum = 0;
    size_t linear = 0, none = 0;
    f.routing.loss = (duo_router_loss){
        .teach = 2, .target = {-1, -1, -1}, .values = values, .unit = 0.7, .huber = 1.5};
    forward(&f);
    duo_pass_router_logits(f.pass, logits);
    for (size_t i = 0; i < 7 * 2; i++) /* of the first sequence */
        for (size_t m = 0; m < 3; m++)
            for (size_t k = m + 1; k < 3; k++) {
                const float *h = logits + i * 3, *v = values + i * 3;
                const double e = (double)(h[m] - h[k]) - (double)(v[k] - v[m]) / 0.7;
                linear += fabs(e) > 1.5 && isfinite(e) ? 1 : 0;
                none += isfinite(e) ? 0 : 1;
                if (!isfinite(e)) continue;
                sum += fabs(e) > 1.5 ? 1.5 * (fabs(e) - 0.75) : e * e / 2;
            }
    ck_assert(linear > 0 && none > 0);
    ck_assert_double_eq_tol(f.terms[0].teacher, sum / 14, 1e-5);
    ck_assert_double_eq_tol(f.terms[0].total, 2 * sum / 14, 1e-5);
    free(values);
    free_fixture(&f);
}
END_TEST

START_TEST(gradients_of_every_kind_of_router_match_differences)
{
    const struct {
        size_t hidden;
        duo_router_inputs inputs;
    } cases[] = {{0, ALL_INPUTS}, {13, 0}, {13, ALL_INPUTS}, {0, 1 << DUO_INPUT_PREVIOUS}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int given = 0; given < 2; given++) {
            /* What was chosen below steps where a mixture does not. */
            const duo_router_inputs known = given ? ALL_INPUTS : ~(1u << DUO_INPUT_PREVIOUS);
            fixture f = make_router(TWO, cases[i].hidden, cases[i].inputs & known, given != 0);
            uint8_t *routes = f.routes;
            if (!given) use_gumbel(&f, false);
            f.routing.loss = (duo_router_loss){
                .alpha = 3, .teach = given, .target = {-1, -1, 0.4}, .teacher = routes};
            if (!given) f.routing.loss.teacher = NULL;
            f.routing.budgets = budgets;
            check_gradients(&f);
            free_fixture(&f);
        }
}
END_TEST

/* Along given routes routers learn without a backward pass through the language model. */
START_TEST(routers_alone_learn_from_given_routes_without_the_language_model)
{
    fixture f = make_router(ALL_MODULES, 5, ALL_INPUTS, true), part = {.B = 3, .T = 7};
    f.routing.loss = (duo_router_loss){.teach = 1, .target = {-1, -1, -1}, .teacher = f.routes};
    f.routing.budgets = budgets;
    backward(&f);
    part.model = f.model;
    part.routers = true;
    setup_fixture(&part, DUO_GROUP_BIT(DUO_GROUP_ROUTER));
    part.routing = f.routing;
    duo_pass_forward(part.pass, part.model, f.tokens, &part.routing);
    duo_pass_backward(part.pass, part.model, &part.routing, &part.gradient, DROUTER);
    for (size_t p = 0; p < f.model->params.n; p++)
        if (part.gradient.tensors[p])
            ck_assert_mem_eq(part.gradient.tensors[p], f.gradient.tensors[p],
                             f.model->params.table[p].count * sizeof(float));
    duo_arena_free(&part.arena);
    free_fixture(&f);
}
END_TEST

/* ---------------------------------------------------------------- values */

START_TEST(terms_of_the_loss_by_hand)
{
    enum { B = 3, T = 7, L = 2, M = 3, N = B * T };
    fixture f = make_router(ALL_MODULES, 0, 0, true);
    float logits[N * L * M];
    double z = 0, teacher = 0, agree = 0, share[L][M] = {{0}};
    f.routing.loss = (duo_router_loss){.alpha = 2,
                                       .balance = 3,
                                       .z = 5,
                                       .teach = 7,
                                       .focal = 1,
                                       .target = {0.2, -1, 0.5},
                                       .teacher = f.routes};
    forward(&f);
    duo_pass_router_logits(f.pass, logits);
    for (size_t n = 0; n < T; n++) /* the first sequence */
        for (size_t l = 0; l < L; l++) {
            const float *h = logits + (n * L + l) * M;
            const uint8_t y = f.routes[n * L + l];
            double sum = 0;
            for (size_t m = 0; m < M; m++) sum += exp((double)h[m]);
            for (size_t m = 0; m < M; m++) share[l][m] += exp((double)h[m]) / sum / T;
            const double p = exp((double)h[y]) / sum;
            z += log(sum) * log(sum) / (L * T);
            teacher -= (1 - p) * log(p) / (L * T);
            agree += (h[y] >= h[0] && h[y] >= h[1] && h[y] >= h[2]) / (double)(L * T);
        }
    const double skip = (share[0][0] + share[1][0]) / 2, big = (share[0][2] + share[1][2]) / 2;
    const double penalty = pow(skip - 0.2, 2) + pow(big - 0.5, 2);
    double balance = 0;
    for (size_t l = 0; l < L; l++)
        balance += (pow(share[l][0] - 0.2, 2) + pow(share[l][2] - 0.5, 2)) / L;
    ck_assert_double_eq_tol(f.terms[0].penalty, penalty, 1e-6);
    ck_assert_double_eq_tol(f.terms[0].balance, balance, 1e-6);
    ck_assert_double_eq_tol(f.terms[0].z, z, 1e-5 * z);
    ck_assert_double_eq_tol(f.terms[0].teacher, teacher, 1e-6);
    ck_assert_double_eq_tol(f.terms[0].agree, agree, 1e-9);
    ck_assert_double_eq_tol(f.terms[0].total, 2 * penalty + 3 * balance + 5 * z + 7 * teacher,
                            1e-5 * f.terms[0].total);
    free_fixture(&f);
}
END_TEST

START_TEST(penalties_by_hand)
{
    fixture f = make_router(ALL_MODULES, 0, 0, true);
    duo_router_loss *loss = &f.routing.loss;
    double shares[2 * DUO_MODULES] = {0}, value[4];
    for (duo_penalty kind = 0; kind <= DUO_PENALTY_LAGRANGIAN; kind++) {
        *loss = (duo_router_loss){
            .penalty = kind, .target = {0.1, -1, 0.9}, .multiplier = {2, 100, -3}, .cost = 0.6};
        forward(&f);
        value[kind] = f.terms[0].penalty;
    }
    f.B = 1;
    duo_pass_router_shares(f.pass, shares); /* of all three sequences */
    f.B = 3;
    /* The first sequence alone: its shares from its logits. */
    float logits[3 * 7 * 2 * 3];
    double p[3] = {0};
    duo_pass_router_logits(f.pass, logits);
    for (size_t i = 0; i < 7 * 2; i++) {
        const float *h = logits + i * 3;
        const double sum = exp((double)h[0]) + exp((double)h[1]) + exp((double)h[2]);
        for (size_t m = 0; m < 3; m++) p[m] += exp((double)h[m]) / sum / 14;
    }
    const double skip = p[0] - 0.1, big = p[2] - 0.9, cost = p[1] * 7 / 23 + p[2] - 0.6;
    ck_assert_double_eq_tol(value[DUO_PENALTY_SQUARED], skip * skip + big * big, 1e-6);
    ck_assert_double_eq_tol(value[DUO_PENALTY_HINGE], fmax(0, skip) + fmax(0, big), 1e-6);
    ck_assert_double_eq_tol(value[DUO_PENALTY_FLOPS], cost * cost, 1e-6);
    ck_assert_double_eq_tol(value[DUO_PENALTY_LAGRANGIAN],
                            skip * skip + big * big + 2 * skip - 3 * big, 1e-6);
    double all = 0;
    for (size_t i = 0; i < 2 * DUO_MODULES; i++) all += shares[i];
    ck_assert_double_eq_tol(all, 3 * 2, 1e-5);
    free_fixture(&f);
}
END_TEST

START_TEST(costs_follow_flops)
{
    duo_config config = tiny_config();
    const double big[DUO_MODULES] = {-1, -1, 0.25}, both[DUO_MODULES] = {-1, 0.5, 0.25};
    ck_assert_double_eq_tol(duo_router_cost(&config, big), 0.25, 1e-12);
    ck_assert_double_eq_tol(duo_router_cost(&config, both), 0.25 + 0.5 * 7 / 23, 1e-12);
    config.router_modules = TWO;
    ck_assert_double_eq_tol(duo_router_cost(&config, big), 0.25, 1e-12);
    const double flops =
        2 * (0.25 * duo_flops_ffn(&config, DUO_BIG) + 0.75 * duo_flops_ffn(&config, DUO_SMALL));
    ck_assert_double_eq_tol(duo_router_cost_of_flops(&config, flops), 0.25, 1e-12);
    config.router_hidden = 5;
    ck_assert_double_eq(duo_flops_routers(&config), 2 * 2 * (18 * 5 + 5 * 2));
}
END_TEST

/* ---------------------------------------------------------------- precision */

enum { ROWS = 21 };

/* A router's logits, and all that goes back through it, one behind the other. */
static float *through_router(fixture *f, size_t *n)
{
    const duo_config *c = &f->model->params.config;
    const size_t C = c->d_model, H = c->router_hidden;
    float h[ROWS * 64], dlogits[ROWS * 2], dhidden[ROWS * 8], hidden[ROWS * 8];
    ck_assert(C <= 64 && H <= 8);
    for (size_t i = 0; i < ROWS * C; i++) h[i] = sinf((float)i);
    for (size_t i = 0; i < ROWS * 2; i++) dlogits[i] = cosf((float)i);
    const duo_router_rows rows = {.n = ROWS, .h = h};
    *n = ROWS * 2 + ROWS * C + f->gradient.count;
    float *all = calloc(*n, sizeof *all);
    ck_assert_ptr_nonnull(all);
    memset(f->gradient.block, 0, f->gradient.count * sizeof(float));
    duo_router_forward(all, H > 0 ? hidden : NULL, &rows, f->model, 1);
    duo_router_backward(&f->gradient, all + ROWS * 2, dhidden, dlogits, hidden, &rows, f->model, 1);
    memcpy(all + ROWS * 2 + ROWS * C, f->gradient.block, f->gradient.count * sizeof(float));
    return all;
}

START_TEST(routers_stay_fp32_among_bf16_weights)
{
    for (size_t hidden = 0; hidden <= 5; hidden += 5) {
        fixture f = make_router(TWO, hidden, 0, false);
        size_t n = 0;
        float *before = through_router(&f, &n);
        ok(duo_model_pack(f.model, DUO_BF16));
        ck_assert_int_eq(duo_model_weight(f.model, 1, DUO_P_BIG_GATE)->precision, DUO_BF16);
        float *after = through_router(&f, &n);
        ck_assert_mem_eq(before, after, n * sizeof *before);
        duo_model_drop_packs(f.model);
        free(before), free(after);
        free_fixture(&f);
    }
}
END_TEST

/* ---------------------------------------------------------------- rules */

/* Routes of the whole batch under a rule. */
static void route_by(fixture *f, const duo_router_rule *rule)
{
    f->routing = (duo_routing){.kind = DUO_ROUTING_ROUTER, .routes = f->routes, .rule = rule};
    duo_pass_forward(f->pass, f->model, f->tokens, &f->routing);
}

static size_t count(const fixture *f, duo_module module)
{
    size_t n = 0;
    for (size_t i = 0; i < f->B * f->T * f->L; i++) n += f->routes[i] == module;
    return n;
}

START_TEST(thresholds_shift_the_choice)
{
    fixture f = make_router(ALL_MODULES, 0, 0, true);
    duo_router_rule rule = {.budget = 0.5f};
    route_by(&f, &rule);
    ck_assert(count(&f, DUO_BIG) > 0 && count(&f, DUO_SMALL) > 0 && count(&f, DUO_SKIP) > 0);
    rule.threshold[DUO_BIG] = 100;
    route_by(&f, &rule);
    ck_assert_uint_eq(count(&f, DUO_BIG), 0);
    rule.threshold[DUO_SMALL] = -200;
    route_by(&f, &rule);
    ck_assert_uint_eq(count(&f, DUO_SMALL), 3 * 7 * 2);
    /* The model's own rule serves where none is given. */
    f.model->thresholds[DUO_BIG] = -100;
    f.model->rule = duo_model_rule(f.model, 1);
    route_by(&f, NULL);
    ck_assert_uint_eq(count(&f, DUO_BIG), 3 * 7 * 2);
    free_fixture(&f);
}
END_TEST

START_TEST(routers_begin_with_the_pattern_that_they_lean_to)
{
    fixture f = make_router(ALL_MODULES, 5, 0, true);
    const uint8_t pattern[2] = {DUO_BIG, DUO_SKIP};
    duo_model_lean(f.model, pattern, 1000);
    route_by(&f, NULL);
    for (size_t i = 0; i < 3 * 7; i++) ck_assert_mem_eq(f.routes + i * 2, pattern, 2);
    free_fixture(&f);
}
END_TEST

START_TEST(an_exact_count_is_met_by_every_token)
{
    for (size_t n_big = 0; n_big <= 2; n_big++)
        for (int lean = -1; lean <= 1; lean++) {
            fixture f = make_router(ALL_MODULES, 0, 0, true);
            const duo_router_rule rule = {
                .exact = true, .n_big = n_big, .threshold = {0, 0, 3.0f * (float)lean}};
            route_by(&f, &rule);
            for (size_t i = 0; i < f.B * f.T; i++) {
                size_t spent = 0;
                for (size_t l = 0; l < f.L; l++) spent += f.routes[i * f.L + l] == DUO_BIG;
                ck_assert_uint_eq(spent, n_big);
            }
            free_fixture(&f);
        }
}
END_TEST

START_TEST(thresholds_lie_between_those_of_whole_budgets)
{
    fixture f = make_router(TWO, 0, 1 << DUO_INPUT_BUDGET, true);
    ck_assert_uint_eq(duo_threshold_rows(&f.model->params.config), 3);
    for (size_t k = 0; k < 3; k++) f.model->thresholds[k * DUO_MODULES + DUO_BIG] = (float)(k * k);
    ck_assert_float_eq(duo_model_rule(f.model, 1).threshold[DUO_BIG], 1);
    ck_assert_float_eq(duo_model_rule(f.model, 1).budget, 0.5f);
    ck_assert_float_eq(duo_model_rule(f.model, 1.5).threshold[DUO_BIG], 2.5f);
    ck_assert_float_eq(duo_model_rule(f.model, 2).threshold[DUO_BIG], 4);
    ck_assert_float_eq(duo_model_rule(f.model, 9).threshold[DUO_BIG], 4);
    ck_assert_float_eq(duo_model_rule(f.model, -1).threshold[DUO_BIG], 0);
    free_fixture(&f);
}
END_TEST

START_TEST(routers_that_read_the_budget_follow_it)
{
    fixture f = make_router(TWO, 0, 1 << DUO_INPUT_BUDGET, true);
    for (size_t l = 0; l < f.L; l++) {
        float *table = duo_tree_at(&f.model->weights, l, DUO_P_ROUTER_BUDGET);
        for (size_t k = 0; k < 9; k++) table[9 + k] = 10.0f * (float)k - 40.0f - table[k];
    }
    size_t before = 0;
    for (double k = 0; k <= 2; k++) {
        const duo_router_rule rule = duo_model_rule(f.model, k);
        route_by(&f, &rule);
        ck_assert(k == 0 || count(&f, DUO_BIG) > before);
        before = count(&f, DUO_BIG);
    }
    ck_assert_uint_eq(before, 3 * 7 * 2);
    free_fixture(&f);
}
END_TEST

/* Position by position every input is what it is in a whole sequence. */
START_TEST(decoding_routes_as_whole_sequences_do)
{
    fixture f = make_router(ALL_MODULES, 9, ALL_INPUTS, true);
    duo_router_rule rule = {.budget = 0.4f, .threshold = {0.1f, 0, -0.2f}};
    for (int exact = 0; exact < 2; exact++) {
        rule.exact = exact;
        rule.n_big = 1;
        route_by(&f, &rule);
        uint8_t routes[3 * 2];
        int32_t tokens[3];
        duo_cache cache;
        duo_nodes *nodes = NULL;
        duo_arena arena = {0}, measure = DUO_ARENA_MEASURE;
        duo_cache_take(&cache, &f.model->params, 3, 7, &measure);
        duo_nodes_take(&f.model->params, 3, 7, &measure);
        ok(duo_arena_create(&arena, measure.used, "decoder"));
        duo_cache_take(&cache, &f.model->params, 3, 7, &arena);
        nodes = duo_nodes_take(&f.model->params, 3, 7, &arena);
        const duo_routing routing = {.kind = DUO_ROUTING_ROUTER, .routes = routes, .rule = &rule};
        for (size_t t = 0; t < 7; t++) {
            for (size_t s = 0; s < 3; s++) tokens[s] = f.tokens[s * 8 + t];
            duo_decode(nodes, f.model, &cache, tokens, &routing, NULL);
            for (size_t s = 0; s < 3; s++)
                ck_assert_mem_eq(routes + s * 2, f.routes + (s * 7 + t) * 2, 2);
        }
        duo_arena_free(&arena);
    }
    free_fixture(&f);
}
END_TEST

/* ---------------------------------------------------------------- bits */

START_TEST(bits_do_not_depend_on_threads)
{
    duo_config config = wide_config();
    config.router_hidden = 33;
    config.router_inputs = ALL_INPUTS;
    const float three[] = {0.1f, 0.5f, 0.77f, 0.2f, 0.9f};
    float *bits[4];
    size_t floats = 0;
    for (int threads = 1; threads <= 4; threads++) {
        fixture f = make_fixture_on(threads, &config, 5, 33);
        uint8_t *labels = malloc(5 * 33 * 2);
        ck_assert_ptr_nonnull(labels);
        memcpy(labels, f.routes, 5 * 33 * 2);
        use_gumbel(&f, false);
        f.routing.budgets = three;
        f.routing.loss.balance = f.routing.loss.z = f.routing.loss.teach = 1;
        f.routing.loss.teacher = labels;
        backward(&f);
        floats = f.gradient.count;
        bits[threads - 1] = malloc(floats * sizeof(float));
        ck_assert_ptr_nonnull(bits[threads - 1]);
        memcpy(bits[threads - 1], f.gradient.block, floats * sizeof(float));
        free(labels);
        free_fixture(&f);
    }
    for (size_t i = 1; i < 4; i++) ck_assert_mem_eq(bits[0], bits[i], floats * sizeof(float));
    for (size_t i = 0; i < 4; i++) free(bits[i]);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        gradients_of_every_penalty_match_differences,
        gradients_of_balance_z_and_teacher_match_differences,
        gradients_of_the_regression_of_gaps_match_differences,
        the_regression_of_gaps_by_hand,
        gradients_of_every_kind_of_router_match_differences,
        routers_alone_learn_from_given_routes_without_the_language_model,
        terms_of_the_loss_by_hand,
        penalties_by_hand,
        costs_follow_flops,
        routers_stay_fp32_among_bf16_weights,
        thresholds_shift_the_choice,
        routers_begin_with_the_pattern_that_they_lean_to,
        an_exact_count_is_met_by_every_token,
        thresholds_lie_between_those_of_whole_budgets,
        routers_that_read_the_budget_follow_it,
        decoding_routes_as_whole_sequences_do,
        bits_do_not_depend_on_threads,
    };
    return run_suite("router", tests, sizeof tests / sizeof *tests);
}
