#include "naive_oracle.h"
#include "study_fixture.h"

/* Beams and greedy searches against the exhaustive one, on six layers, so that there is something
 * to miss. */

enum { DEEP = 6, ROUTES = 729 };

static const uint8_t all_big[DEEP] = {2, 2, 2, 2, 2, 2};
static const char *const budgets[] = {"none", "3", "2..4", "skip:2", "flops:3000..6000"};
enum { BUDGETS = sizeof budgets / sizeof *budgets };

static duo_search_setting make_setting(duo_search_method method, size_t width, const char *budget)
{
    duo_search_setting setting = {.modules = ALL_MODULES, .method = method, .width = width};
    ok(duo_budget_parse(&setting.budget, budget));
    return setting;
}

static duo_trace run(const fixture *f, const duo_search_setting *setting)
{
    duo_trace trace;
    ok(duo_trace_create(&trace, &f->sequences, DEEP));
    ok(duo_search_committed(f->model, &f->sequences, setting, &trace, NULL, NULL));
    return trace;
}

static void assert_same(const fixture *f, const duo_search_setting *a, const duo_search_setting *b)
{
    const size_t n = f->sequences.R * f->sequences.T;
    duo_trace a_trace = run(f, a), b_trace = run(f, b);
    ck_assert_mem_eq(a_trace.routes, b_trace.routes, n * DEEP);
    ck_assert_mem_eq(a_trace.loss, b_trace.loss, n * sizeof(float));
    duo_trace_free(&a_trace);
    duo_trace_free(&b_trace);
}

/* No token's loss is lower in a than in b; returns the mean of how much higher it is. Each sequence
 * must be of one token: later ones would not see the same. */
static double regret(const fixture *f, const duo_search_setting *a, const duo_search_setting *b)
{
    duo_trace a_trace = run(f, a), b_trace = run(f, b);
    double sum = 0;
    ck_assert_uint_eq(f->sequences.T, 1);
    for (size_t i = 0; i < f->sequences.R; i++) {
        ck_assert(naive_within(&a->budget, a_trace.routes + i * DEEP, &f->model->params.config));
        ck_assert(a_trace.loss[i] >= b_trace.loss[i]);
        sum += (double)a_trace.loss[i] - (double)b_trace.loss[i];
    }
    duo_trace_free(&a_trace);
    duo_trace_free(&b_trace);
    return sum / (double)f->sequences.R;
}

START_TEST(a_beam_of_all_routes_is_exact)
{
    fixture f = make_fixture_of(DEEP, 1, 2, 4);
    for (size_t i = 0; i < BUDGETS; i++)
        for (int goal = DUO_GOAL_TARGET; goal <= DUO_GOAL_LABEL_FREE; goal++) {
            duo_search_setting beam = make_setting(DUO_SEARCH_BEAM, ROUTES, budgets[i]);
            duo_search_setting exact = make_setting(DUO_SEARCH_EXACT, 0, budgets[i]);
            beam.goal = exact.goal = (duo_search_goal)goal;
            assert_same(&f, &beam, &exact);
        }
    free_fixture(&f);
}
END_TEST

/* On random weights, where a state says little about the final one, losses spread by about 1. */
START_TEST(narrower_beams_lose_little)
{
    fixture f = make_fixture_of(DEEP, 1, 60, 1);
    for (size_t i = 0; i < BUDGETS; i++) {
        const duo_search_setting exact = make_setting(DUO_SEARCH_EXACT, 0, budgets[i]);
        double lost[4];
        for (size_t j = 0; j < 4; j++) {
            const duo_search_setting beam =
                make_setting(DUO_SEARCH_BEAM, (size_t)1 << 2 * j, budgets[i]);
            lost[j] = regret(&f, &beam, &exact);
        }
        ck_assert_double_lt(lost[0], 1.0);
        ck_assert_double_lt(lost[1], lost[0]);
        ck_assert_double_lt(lost[2], lost[1]);
        ck_assert_double_lt(lost[3], 0.05);
    }
    free_fixture(&f);
}
END_TEST

static double naive_loss_of(naive *n, const int32_t *tokens, const uint8_t *route)
{
    naive_step(n, tokens, 0, route, false);
    return (double)naive_loss(n, tokens[1]);
}

/* From one start a greedy search ends where no change of one layer and no swap of two helps. */
START_TEST(a_greedy_search_ends_where_no_step_helps)
{
    enum { TOKENS = 12 };
    fixture f = make_fixture_of(DEEP, 1, TOKENS, 1);
    naive n;
    ok(naive_create(&n, f.model, 1));
    for (size_t i = 0; i < BUDGETS; i++) {
        const duo_search_setting greedy = make_setting(DUO_SEARCH_GREEDY, 1, budgets[i]);
        duo_trace found = run(&f, &greedy);
        for (size_t token = 0; token < TOKENS; token++) {
            const int32_t *tokens = f.sequences.tokens + token * 2;
            const uint8_t *best = found.routes + token * DEEP;
            uint8_t route[DEEP];
            naive_first(route, DEEP, ALL_MODULES);
            do {
                size_t changed = 0;
                for (size_t l = 0; l < DEEP; l++) changed += route[l] != best[l];
                bool swap = changed == 2;
                for (duo_module m = 0; m < DUO_MODULES; m++)
                    swap = swap && naive_count(route, DEEP, m) == naive_count(best, DEEP, m);
                if ((changed == 1 || swap) &&
                    naive_within(&greedy.budget, route, &f.model->params.config))
                    ck_assert(naive_loss_of(&n, tokens, route) >= (double)found.loss[token]);
            } while (naive_next(route, DEEP, ALL_MODULES));
        }
        duo_trace_free(&found);
    }
    naive_free(&n);
    free_fixture(&f);
}
END_TEST

START_TEST(more_starts_are_never_worse)
{
    fixture f = make_fixture_of(DEEP, 1, 60, 1);
    for (size_t i = 0; i < BUDGETS; i++) {
        const duo_search_setting exact = make_setting(DUO_SEARCH_EXACT, 0, budgets[i]);
        const duo_search_setting one = make_setting(DUO_SEARCH_GREEDY, 1, budgets[i]);
        const duo_search_setting eight = make_setting(DUO_SEARCH_GREEDY, 8, budgets[i]);
        ck_assert_double_lt(regret(&f, &one, &exact), 0.5);
        ck_assert_double_gt(regret(&f, &one, &eight), 0);
        ck_assert_double_lt(regret(&f, &eight, &exact), 0.02);
    }
    free_fixture(&f);
}
END_TEST

START_TEST(slices_and_threads_do_not_change_a_bit)
{
    const duo_search_method methods[] = {DUO_SEARCH_BEAM, DUO_SEARCH_GREEDY};
    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; j < BUDGETS; j++) {
            fixture f = make_fixture_of(DEEP, 1, 5, 3);
            const duo_search_setting whole = make_setting(methods[i], 3, budgets[j]);
            const size_t least = methods[i] == DUO_SEARCH_BEAM ? 60 : 1;
            for (size_t nodes = least; nodes < 500; nodes = 2 * nodes + 1) {
                duo_search_setting sliced = whole;
                sliced.max_nodes = nodes;
                assert_same(&f, &sliced, &whole);
            }
            duo_trace want = run(&f, &whole);
            for (int threads = 2; threads <= 3; threads++) {
                ok(duo_kernels_start(threads));
                duo_trace found = run(&f, &whole);
                ck_assert_mem_eq(found.routes, want.routes, 5 * 3 * DEEP);
                ck_assert_mem_eq(found.loss, want.loss, 5 * 3 * sizeof(float));
                duo_trace_free(&found);
            }
            duo_trace_free(&want);
            free_fixture(&f);
        }
}
END_TEST

static duo_reference run_reference(const fixture *f, duo_search_method method, size_t width)
{
    duo_reference found;
    const duo_search_setting setting = {.modules = ALL_MODULES, .method = method, .width = width};
    ok(duo_reference_create(&found, &f->sequences, DEEP));
    ok(duo_search_reference(f->model, &f->sequences, &setting, all_big, 1, 0, &found, NULL, NULL));
    return found;
}

static void assert_not_lower(const float *a, const float *b, size_t n, bool same)
{
    for (size_t i = 0; i < n; i++) {
        ck_assert(a[i] >= b[i]);
        if (same) ck_assert(a[i] == b[i]);
    }
}

START_TEST(beams_in_reference_context)
{
    enum { CELLS = 2 * 6 * (DEEP + 1) };
    fixture f = make_fixture_of(DEEP, 1, 2, 6);
    duo_reference exact = run_reference(&f, DUO_SEARCH_EXACT, 0);
    for (size_t width = 1; width <= 1000; width *= 10) {
        duo_reference beam = run_reference(&f, DUO_SEARCH_BEAM, width);
        const bool all = width >= ROUTES;
        ck_assert_mem_eq(beam.drawn, exact.drawn, 2 * 6 * sizeof(int32_t));
        assert_not_lower(beam.oracle.loss, exact.oracle.loss, CELLS, all);
        assert_not_lower(beam.control.loss, exact.control.loss, CELLS, all);
        assert_not_lower(beam.expected, exact.expected, CELLS, all);
        if (all) {
            ck_assert_mem_eq(beam.oracle.routes, exact.oracle.routes, CELLS * DEEP);
            ck_assert_mem_eq(beam.control.routes, exact.control.routes, CELLS * DEEP);
            ck_assert_mem_eq(beam.label_free.routes, exact.label_free.routes, CELLS * DEEP);
        }
        duo_reference_free(&beam);
    }
    duo_reference_free(&exact);
    free_fixture(&f);
}
END_TEST

START_TEST(a_beam_that_does_not_fit_is_refused)
{
    fixture f = make_fixture_of(DEEP, 1, 2, 2);
    duo_search_setting setting = make_setting(DUO_SEARCH_BEAM, 4, "none");
    setting.max_nodes = 50;
    refused(duo_search_committed(f.model, &f.sequences, &setting, &f.trace, NULL, NULL), DUO_EINVAL,
            "a beam of width 4 needs 74 nodes of a layer, 50 are allowed");
    ck_assert_uint_eq(duo_search_rows(f.model, &f.sequences, &setting), 1);
    free_fixture(&f);
}
END_TEST

/* A beam of one costs little on the way down and scores few. */
START_TEST(what_is_spent_is_counted)
{
    fixture f = make_fixture_of(DEEP, 1, 3, 1);
    double exact_spent = 0, beam_spent = 0, greedy_spent = 0;
    duo_search_setting exact = make_setting(DUO_SEARCH_EXACT, 0, "none");
    duo_search_setting beam = make_setting(DUO_SEARCH_BEAM, 1, "none");
    duo_search_setting greedy = make_setting(DUO_SEARCH_GREEDY, 1, "none");
    exact.spent = &exact_spent;
    beam.spent = &beam_spent;
    greedy.spent = &greedy_spent;
    const duo_search_setting *const all[] = {&exact, &beam, &greedy};
    for (size_t i = 0; i < 3; i++) {
        duo_trace trace = run(&f, all[i]);
        duo_trace_free(&trace);
    }
    ck_assert_double_gt(beam_spent, 0);
    ck_assert_double_lt(beam_spent, 0.2 * exact_spent);
    ck_assert_double_gt(greedy_spent, 0);
    ck_assert_double_lt(greedy_spent, 0.6 * exact_spent);
    free_fixture(&f);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_beam_of_all_routes_is_exact,
        narrower_beams_lose_little,
        a_greedy_search_ends_where_no_step_helps,
        more_starts_are_never_worse,
        slices_and_threads_do_not_change_a_bit,
        beams_in_reference_context,
        a_beam_that_does_not_fit_is_refused,
        what_is_spent_is_counted,
    };
    return run_suite("search_methods", tests, sizeof tests / sizeof *tests);
}
