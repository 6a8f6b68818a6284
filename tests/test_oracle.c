#include "naive_oracle.h"
#include "study_fixture.h"

/* Whole sequences and single positions sum attention in different orders; losses are near 4. */
static const double tolerance = 1e-4;

enum { SKIP_BIG = 1 << DUO_SKIP | 1 << DUO_BIG, SKIP_SMALL = 1 << DUO_SKIP | 1 << DUO_SMALL };

/* The naive search left to right; the all-big distribution comes from a sequence of its own. */
static void search_naively(const fixture *f, const duo_search_setting *setting, duo_trace *trace)
{
    const duo_config *config = &f->model->params.config;
    const size_t positions = f->sequences.T;
    const bool label_free = setting->goal == DUO_GOAL_LABEL_FREE;
    const uint8_t all_big[L] = {DUO_BIG, DUO_BIG, DUO_BIG};
    naive n, big;
    ok(naive_create(&n, f->model, positions));
    ok(naive_create(&big, f->model, positions));
    for (size_t i = 0; i < f->sequences.R * positions; i++) {
        const size_t r = i / positions, t = i % positions;
        const int32_t *tokens = f->sequences.tokens + r * (positions + 1);
        const int32_t target = setting->targets ? setting->targets[i] : tokens[t + 1];
        const duo_budget *budget = setting->schedule ? &setting->schedule[t] : &setting->budget;
        naive_best best = {.score = INFINITY};
        uint8_t route[L];
        duo_softmax_forward(n.q, naive_step(&big, tokens, t, all_big, false), 1, n.V);
        naive_first(route, L, setting->modules);
        do {
            if (!naive_within(budget, route, config)) continue;
            naive_step(&n, tokens, t, route, false);
            const float loss = naive_loss(&n, target);
            naive_offer(&best, route, label_free ? naive_expected(&n) : loss, loss, L);
        } while (naive_next(route, L, setting->modules));
        naive_step(&n, tokens, t, best.route, false);
        trace->loss[i] = best.loss;
        memcpy(trace->routes + i * L, best.route, L);
    }
    naive_free(&n);
    naive_free(&big);
}

static void compare_with_naive(fixture *f, duo_search_setting setting)
{
    const size_t n = f->sequences.R * f->sequences.T;
    duo_trace naive_trace;
    ok(duo_trace_create(&naive_trace, &f->sequences, L));
    for (int goal = DUO_GOAL_TARGET; goal <= DUO_GOAL_LABEL_FREE; goal++) {
        setting.goal = (duo_search_goal)goal;
        search_naively(f, &setting, &naive_trace);
        ok(duo_search_committed(f->model, &f->sequences, &setting, &f->trace, NULL, NULL));
        ck_assert_mem_eq(f->trace.routes, naive_trace.routes, n * L);
        ck_assert_mem_eq(f->trace.loss, naive_trace.loss, n * sizeof(float));
    }
    duo_trace_free(&naive_trace);
}

START_TEST(oracle_finds_what_trying_every_route_finds)
{
    const duo_module_set sets[] = {TWO, SKIP_BIG, SKIP_SMALL, ALL_MODULES};
    const char *const budgets[] = {"none",
                                   "0",
                                   "1",
                                   "2",
                                   "3",
                                   "0..1",
                                   "1..2",
                                   "skip:0",
                                   "skip:1",
                                   "skip:3",
                                   "skip:1..2",
                                   "flops:0..2000",
                                   "flops:3240..3240",
                                   "flops:3000..5000"};
    fixture f = make_fixture(1, R, T);
    size_t searched = 0;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        for (size_t j = 0; j < sizeof budgets / sizeof *budgets; j++) {
            duo_search_setting setting = {.modules = sets[i]};
            ok(duo_budget_parse(&setting.budget, budgets[j]));
            if (duo_budget_check(&setting.budget, sets[i], &f.model->params.config) != DUO_OK)
                continue;
            compare_with_naive(&f, setting);
            searched++;
        }
    ck_assert_uint_eq(searched, 44);
    free_fixture(&f);
}
END_TEST

START_TEST(oracle_follows_schedules_and_other_targets)
{
    fixture f = make_fixture(1, R, T);
    duo_budget schedule[T];
    int32_t targets[R * T];
    for (size_t t = 0; t < T; t++) schedule[t] = exactly(t < 2 ? 3 : (int)(T - t - 1));
    schedule[3] = exactly(NO_BUDGET);
    for (size_t i = 0; i < R * T; i++) targets[i] = (int32_t)(i * 11 % 29);
    compare_with_naive(&f, (duo_search_setting){.modules = ALL_MODULES, .schedule = schedule});
    compare_with_naive(&f, (duo_search_setting){.modules = TWO, .targets = targets});
    compare_with_naive(
        &f, (duo_search_setting){.modules = TWO, .schedule = schedule, .targets = targets});
    free_fixture(&f);
}
END_TEST

START_TEST(oracle_is_reproduced_by_one_forward_pass)
{
    fixture f = make_fixture(1, 4, 33);
    const size_t n = 4 * 33;
    float *found = malloc(n * sizeof *found);
    const duo_policy given = {.kind = DUO_POLICY_FILE};
    ck_assert_ptr_nonnull(found);
    for (int budget = NO_BUDGET; budget <= L; budget++) {
        search(&f, ALL_MODULES, budget, 0, &f.trace);
        memcpy(found, f.trace.loss, n * sizeof *found);
        ok(duo_evaluate(f.model, &f.sequences, &given, 0, 3, &f.trace, NULL, NULL));
        for (size_t i = 0; i < n; i++)
            ck_assert_double_eq_tol((double)f.trace.loss[i], (double)found[i], tolerance);
    }
    free(found);
    free_fixture(&f);
}
END_TEST

/* Whatever is held at a time, every node is computed from the same numbers in the same order. */
START_TEST(oracle_in_slices_is_the_same_to_the_bit)
{
    const size_t sizes[] = {1, 3, 4, 5, 8, 13, 27, 54, 1000};
    fixture f = make_fixture(1, 5, 7);
    duo_trace sliced;
    ok(duo_trace_create(&sliced, &f.sequences, L));
    for (int budget = NO_BUDGET; budget <= 2; budget++)
        for (int goal = DUO_GOAL_TARGET; goal <= DUO_GOAL_LABEL_FREE; goal++) {
            duo_search_setting setting = {
                .modules = ALL_MODULES, .budget = exactly(budget), .goal = (duo_search_goal)goal};
            ok(duo_search_committed(f.model, &f.sequences, &setting, &f.trace, NULL, NULL));
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                setting.max_nodes = sizes[i];
                ok(duo_search_committed(f.model, &f.sequences, &setting, &sliced, NULL, NULL));
                ck_assert_mem_eq(sliced.routes, f.trace.routes, 5 * 7 * L);
                ck_assert_mem_eq(sliced.loss, f.trace.loss, 5 * 7 * sizeof(float));
            }
        }
    duo_trace_free(&sliced);
    free_fixture(&f);
}
END_TEST

START_TEST(oracle_is_the_same_on_any_threads)
{
    fixture one = make_fixture(1, 5, 9);
    search(&one, ALL_MODULES, NO_BUDGET, 40, &one.trace);
    for (int threads = 2; threads <= 3; threads++) {
        fixture more = make_fixture(threads, 5, 9);
        search(&more, ALL_MODULES, NO_BUDGET, 40, &more.trace);
        ck_assert_mem_eq(more.trace.routes, one.trace.routes, 5 * 9 * L);
        ck_assert_mem_eq(more.trace.loss, one.trace.loss, 5 * 9 * sizeof(float));
        free_fixture(&more);
    }
    free_fixture(&one);
}
END_TEST

/* What is counted while nodes are computed is what the formula says: all sequences stand at the
 * same positions, 0 .. T-1. */
START_TEST(oracle_spends_what_the_formula_says)
{
    const duo_module_set sets[] = {TWO, ALL_MODULES};
    fixture f = make_fixture(1, R, T);
    for (size_t i = 0; i < 2; i++)
        for (int budget = NO_BUDGET; budget <= L; budget++) {
            double spent = 1, expected = 1;
            const duo_search_setting setting = {
                .modules = sets[i], .budget = exactly(budget), .max_nodes = 7, .spent = &spent};
            ok(duo_search_committed(f.model, &f.sequences, &setting, &f.trace, NULL, NULL));
            for (size_t t = 0; t < T; t++)
                expected += R * duo_search_flops(&f.model->params.config, &setting, (double)t + 1);
            ck_assert_double_eq_tol(spent, expected, 1e-9 * expected);
        }
    free_fixture(&f);
}
END_TEST

static void zero_ffns(duo_model *model)
{
    for (size_t l = 0; l < L; l++) {
        memset(duo_tree_at(&model->weights, l, DUO_P_BIG_DOWN), 0, 18 * 23 * sizeof(float));
        memset(duo_tree_at(&model->weights, l, DUO_P_SMALL_DOWN), 0, 18 * 7 * sizeof(float));
    }
}

/* With modules that add nothing all routes tie. */
START_TEST(oracle_gives_ties_to_fewer_big_then_to_the_lower_code)
{
    const struct {
        duo_module_set modules;
        int budget;
        uint8_t route[L];
    } cases[] = {
        {TWO, NO_BUDGET, {1, 1, 1}}, {ALL_MODULES, NO_BUDGET, {0, 0, 0}},
        {TWO, 1, {1, 1, 2}},         {ALL_MODULES, 1, {0, 0, 2}},
        {TWO, 2, {1, 2, 2}},         {1 << DUO_SKIP | 1 << DUO_BIG, 2, {0, 2, 2}},
        {ALL_MODULES, 3, {2, 2, 2}},
    };
    fixture f = make_fixture(1, R, T);
    zero_ffns(f.model);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        search(&f, cases[i].modules, cases[i].budget, 4, &f.trace);
        for (size_t n = 0; n < R * T; n++)
            ck_assert_mem_eq(f.trace.routes + n * L, cases[i].route, L);
    }
    free_fixture(&f);
}
END_TEST

START_TEST(oracle_refuses_what_makes_no_sense)
{
    const struct {
        duo_search_setting setting;
        const char *part;
    } cases[] = {
        {{.modules = TWO, .budget = exactly(L + 1)},
         "budget 4: no route of small,big through 3 layers meets it"},
        {{.modules = 1 << DUO_BIG, .budget = exactly(1)}, "two or three modules"},
        {{.modules = TWO | 1 << 5, .budget = exactly(1)}, "two or three modules"},
        {{.modules = SKIP_SMALL, .budget = exactly(1)}, "budget 1: no route of skip,small"},
        {{.modules = TWO, .method = DUO_SEARCH_BEAM}, "width of 0"},
        {{.modules = TWO, .method = DUO_SEARCH_GREEDY}, "width of 0"},
    };
    fixture f = make_fixture(1, R, T);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(
            duo_search_committed(f.model, &f.sequences, &cases[i].setting, &f.trace, NULL, NULL),
            DUO_EINVAL, cases[i].part);
    const duo_budget schedule[T] = {exactly(1), exactly(1), exactly(4), exactly(1), exactly(1)};
    int32_t targets[R * T] = {0};
    targets[2 * T + 3] = -1;
    duo_search_setting setting = {.modules = TWO, .schedule = schedule};
    refused(duo_search_committed(f.model, &f.sequences, &setting, &f.trace, NULL, NULL), DUO_EINVAL,
            "budget 4: no route");
    setting = (duo_search_setting){.modules = TWO, .targets = targets};
    refused(duo_search_committed(f.model, &f.sequences, &setting, &f.trace, NULL, NULL), DUO_EINVAL,
            "target 3 of sequence 2 is -1, outside the vocabulary of 29");
    setting.targets = NULL;
    f.sequences.tokens[T + 1 + 2] = 29;
    refused(duo_search_committed(f.model, &f.sequences, &setting, &f.trace, NULL, NULL), DUO_EINVAL,
            "token 2 of sequence 1 is 29, outside the vocabulary of 29");
    f.sequences.tokens[T + 1 + 2] = 0;
    duo_tree_at(&f.model->weights, 0, DUO_P_FINAL_NORM)[0] = NAN;
    refused(duo_search_committed(f.model, &f.sequences, &setting, &f.trace, NULL, NULL),
            DUO_ENUMBER, "position 0 of sequence 0");
    free_fixture(&f);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        oracle_finds_what_trying_every_route_finds,
        oracle_follows_schedules_and_other_targets,
        oracle_is_reproduced_by_one_forward_pass,
        oracle_in_slices_is_the_same_to_the_bit,
        oracle_is_the_same_on_any_threads,
        oracle_spends_what_the_formula_says,
        oracle_gives_ties_to_fewer_big_then_to_the_lower_code,
        oracle_refuses_what_makes_no_sense,
    };
    return run_suite("oracle", tests, sizeof tests / sizeof *tests);
}
