#include <math.h>

#include "study_fixture.h"

enum { MOST_ROUTES = 27 };

/* Whole sequences and single positions sum attention in different orders; losses are near 4. */
static const double tolerance = 1e-4;

static size_t count_big(const uint8_t *route)
{
    size_t big = 0;
    for (size_t l = 0; l < L; l++) big += route[l] == DUO_BIG;
    return big;
}

static size_t all_routes(uint8_t routes[MOST_ROUTES][L], duo_module_set modules, int budget)
{
    size_t n = 0;
    for (unsigned code = 0; code < MOST_ROUTES; code++) {
        const uint8_t route[L] = {(uint8_t)(code / 9), (uint8_t)(code / 3 % 3),
                                  (uint8_t)(code % 3)};
        bool allowed = budget == DUO_NO_BUDGET || count_big(route) == (size_t)budget;
        for (size_t l = 0; l < L; l++)
            allowed = allowed && duo_module_in(modules, (duo_module)route[l]);
        if (allowed) memcpy(routes[n++], route, L);
    }
    return n;
}

/* The best loss of position t of sequence r by running every complete route through whole
 * forward passes, one row per route, behind the routes that `trace` holds for 0 .. t-1. */
static double best_by_force(const fixture *f, duo_module_set modules, int budget, size_t r,
                            size_t t)
{
    uint8_t routes[MOST_ROUTES][L];
    const size_t n = all_routes(routes, modules, budget), length = t + 1;
    duo_sequences rows = random_sequences(n, length);
    duo_trace replay;
    const duo_policy given = {.kind = DUO_POLICY_FILE};
    ok(duo_trace_create(&replay, &rows, L));
    for (size_t i = 0; i < n; i++) {
        memcpy(rows.tokens + i * (length + 1), f->sequences.tokens + r * (T + 1),
               (length + 1) * sizeof *rows.tokens);
        memcpy(replay.routes + i * length * L, f->trace.routes + r * T * L, length * L);
        memcpy(replay.routes + (i * length + t) * L, routes[i], L);
    }
    ok(duo_evaluate(f->model, &rows, &given, 0, n, &replay, NULL, NULL));
    double best = INFINITY;
    for (size_t i = 0; i < n; i++) best = fmin(best, (double)replay.loss[i * length + t]);
    duo_trace_free(&replay);
    duo_sequences_free(&rows);
    return best;
}

static void compare_with_force(fixture *f, duo_module_set modules, int budget)
{
    search(f, modules, budget, 0, &f->trace);
    for (size_t r = 0; r < R; r++)
        for (size_t t = 0; t < T; t++) {
            const uint8_t *route = f->trace.routes + (r * T + t) * L;
            for (size_t l = 0; l < L; l++) ck_assert(duo_module_in(modules, (duo_module)route[l]));
            if (budget != DUO_NO_BUDGET) ck_assert_uint_eq(count_big(route), (size_t)budget);
            ck_assert_double_eq_tol((double)f->trace.loss[r * T + t],
                                    best_by_force(f, modules, budget, r, t), tolerance);
        }
}

START_TEST(oracle_finds_what_brute_force_finds)
{
    fixture f = make_fixture(1, R, T);
    for (int budget = DUO_NO_BUDGET; budget <= L; budget++) {
        compare_with_force(&f, TWO, budget);
        compare_with_force(&f, ALL_MODULES, budget);
        compare_with_force(&f, 1 << DUO_SKIP | 1 << DUO_BIG, budget);
    }
    compare_with_force(&f, 1 << DUO_SKIP | 1 << DUO_SMALL, 0);
    compare_with_force(&f, 1 << DUO_SKIP | 1 << DUO_SMALL, DUO_NO_BUDGET);
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
    for (int budget = DUO_NO_BUDGET; budget <= L; budget++) {
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
    for (int budget = DUO_NO_BUDGET; budget <= 2; budget++) {
        search(&f, ALL_MODULES, budget, 0, &f.trace);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            search(&f, ALL_MODULES, budget, sizes[i], &sliced);
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
    search(&one, ALL_MODULES, DUO_NO_BUDGET, 40, &one.trace);
    for (int threads = 2; threads <= 3; threads++) {
        fixture more = make_fixture(threads, 5, 9);
        search(&more, ALL_MODULES, DUO_NO_BUDGET, 40, &more.trace);
        ck_assert_mem_eq(more.trace.routes, one.trace.routes, 5 * 9 * L);
        ck_assert_mem_eq(more.trace.loss, one.trace.loss, 5 * 9 * sizeof(float));
        free_fixture(&more);
    }
    free_fixture(&one);
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
        {TWO, DUO_NO_BUDGET, {1, 1, 1}},
        {ALL_MODULES, DUO_NO_BUDGET, {0, 0, 0}},
        {TWO, 1, {1, 1, 2}},
        {ALL_MODULES, 1, {0, 0, 2}},
        {TWO, 2, {1, 2, 2}},
        {1 << DUO_SKIP | 1 << DUO_BIG, 2, {0, 2, 2}},
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
        duo_oracle_setting setting;
        const char *part;
    } cases[] = {
        {{TWO, L + 1, 0}, "budget 4, the model has 3 layers"},
        {{TWO, -2, 0}, "budget -2"},
        {{1 << DUO_BIG, 1, 0}, "two or three modules"},
        {{TWO | 1 << 5, 1, 0}, "two or three modules"},
        {{1 << DUO_SKIP | 1 << DUO_SMALL, 1, 0}, "big is not among the modules"},
    };
    fixture f = make_fixture(1, R, T);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(duo_oracle_search(f.model, &f.sequences, &cases[i].setting, &f.trace, NULL, NULL),
                DUO_EINVAL, cases[i].part);
    const duo_oracle_setting setting = {TWO, 1, 0};
    f.sequences.tokens[T + 1 + 2] = 29;
    refused(duo_oracle_search(f.model, &f.sequences, &setting, &f.trace, NULL, NULL), DUO_EINVAL,
            "token 2 of sequence 1 is 29, outside the vocabulary of 29");
    f.sequences.tokens[T + 1 + 2] = 0;
    duo_tree_at(&f.model->weights, 0, DUO_P_FINAL_NORM)[0] = NAN;
    refused(duo_oracle_search(f.model, &f.sequences, &setting, &f.trace, NULL, NULL), DUO_ENUMBER,
            "position 0 of sequence 0");
    free_fixture(&f);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        oracle_finds_what_brute_force_finds,
        oracle_is_reproduced_by_one_forward_pass,
        oracle_in_slices_is_the_same_to_the_bit,
        oracle_is_the_same_on_any_threads,
        oracle_gives_ties_to_fewer_big_then_to_the_lower_code,
        oracle_refuses_what_makes_no_sense,
    };
    return run_suite("oracle", tests, sizeof tests / sizeof *tests);
}
