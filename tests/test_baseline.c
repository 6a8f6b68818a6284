#include <math.h>

#include "duo/baseline.h"
#include "study_fixture.h"

/* Whole sequences and single positions sum attention in different orders; losses are near 4. */
static const double tolerance = 1e-4;
static const uint8_t all_big[L] = {DUO_BIG, DUO_BIG, DUO_BIG};

static size_t count_big(const uint8_t *route)
{
    size_t big = 0;
    for (size_t l = 0; l < L; l++) big += route[l] == DUO_BIG;
    return big;
}

static double mean(const float *loss, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)loss[i];
    return sum / (double)n;
}

/* Into f->trace: the pattern whose bit l says that layer l is big. */
static void evaluate_pattern(fixture *f, unsigned bits, duo_module other, uint8_t *pattern)
{
    duo_policy policy = {.kind = DUO_POLICY_PATTERN};
    for (size_t l = 0; l < L; l++)
        policy.pattern[l] = pattern[l] = (uint8_t)(bits >> l & 1 ? DUO_BIG : other);
    ok(duo_evaluate(f->model, &f->sequences, &policy, 0, 2, &f->trace, NULL, NULL));
}

START_TEST(fixed_patterns_are_the_best_of_all)
{
    fixture f = make_fixture(1, R, T);
    for (duo_module other = DUO_SKIP; other <= DUO_SMALL; other++) {
        double best[L + 1];
        uint8_t pattern[L], expected[L + 1][L];
        duo_fixed fixed;
        for (size_t b = 0; b <= L; b++) best[b] = INFINITY;
        for (unsigned bits = 0; bits < 1u << L; bits++) {
            evaluate_pattern(&f, bits, other, pattern);
            const size_t b = count_big(pattern);
            const double loss = mean(f.trace.loss, R * T);
            if (loss < best[b]) memcpy(expected[b], pattern, L);
            best[b] = fmin(best[b], loss);
        }
        const duo_module_set modules = 1u << other | 1u << DUO_BIG;
        const size_t beams[] = {0, 100};
        for (size_t i = 0; i < 2; i++) {
            ok(duo_fixed_search(&fixed, f.model, &f.sequences, modules, beams[i], 2, NULL, NULL));
            ck_assert_uint_eq(fixed.evaluated, 1u << L);
            ck_assert_double_eq(duo_fixed_cost(L, beams[i]), 1u << L);
            for (size_t b = 0; b <= L; b++) {
                ck_assert_double_eq_tol(fixed.loss[b], best[b], 1e-9);
                ck_assert_mem_eq(fixed.patterns + b * L, expected[b], L);
            }
            duo_fixed_free(&fixed);
        }
    }
    free_fixture(&f);
}
END_TEST

START_TEST(narrow_beam_tries_few_and_keeps_their_budgets)
{
    fixture f = make_fixture(1, R, T);
    duo_fixed fixed;
    ok(duo_fixed_search(&fixed, f.model, &f.sequences, TWO, 1, 3, NULL, NULL));
    ck_assert_uint_eq(fixed.evaluated, 1 + 3 + 2 + 1);
    ck_assert_double_eq(duo_fixed_cost(L, 1), 7);
    for (size_t b = 0; b <= L; b++) ck_assert_uint_eq(count_big(fixed.patterns + b * L), b);
    duo_fixed_free(&fixed);
    refused(duo_fixed_search(&fixed, f.model, &f.sequences, ALL_MODULES, 1, 3, NULL, NULL),
            DUO_EINVAL, "big and one other module");
    free_fixture(&f);
}
END_TEST

static bool two_are_enough(void *last, uint64_t done, uint64_t total)
{
    ck_assert_uint_lt(done, total);
    *(uint64_t *)last = done;
    return done < 2;
}

START_TEST(search_for_fixed_patterns_is_stopped)
{
    fixture f = make_fixture(1, R, T);
    for (size_t beam = 0; beam < 2; beam++) {
        duo_fixed fixed;
        uint64_t last = 0;
        ok(duo_fixed_search(&fixed, f.model, &f.sequences, TWO, beam, 3, two_are_enough, &last));
        ck_assert_uint_eq(last, 2);
        ck_assert_ptr_null(fixed.patterns);
    }
    free_fixture(&f);
}
END_TEST

START_TEST(best_of_all_patterns_for_a_sequence)
{
    fixture f = make_fixture(1, R, T);
    duo_trace found;
    uint8_t pattern[L];
    ok(duo_trace_create(&found, &f.sequences, L));
    for (size_t big = 0; big <= L; big++) {
        const duo_random_setting setting = {.modules = TWO, .big = big, .draws = 3, .rows = 2};
        ok(duo_random_per_sequence(f.model, &f.sequences, &setting, &found, NULL, NULL));
        double best[R] = {INFINITY, INFINITY, INFINITY};
        for (unsigned bits = 0; bits < 1u << L; bits++) {
            evaluate_pattern(&f, bits, DUO_SMALL, pattern);
            for (size_t r = 0; r < R && count_big(pattern) == big; r++)
                best[r] = fmin(best[r], mean(f.trace.loss + r * T, T));
        }
        for (size_t r = 0; r < R; r++) {
            ck_assert_double_eq_tol(mean(found.loss + r * T, T), best[r], 1e-9);
            for (size_t t = 0; t < T; t++)
                ck_assert_mem_eq(found.routes + (r * T + t) * L, found.routes + r * T * L, L);
        }
    }
    duo_trace_free(&found);
    free_fixture(&f);
}
END_TEST

/* Where all patterns are tried, it is the oracle in the same context. */
START_TEST(best_of_all_patterns_for_a_token)
{
    fixture f = make_fixture(1, R, T);
    const duo_search_setting search_setting = {.modules = TWO};
    duo_reference reference;
    ok(duo_reference_create(&reference, &f.sequences, L));
    ok(duo_search_reference(f.model, &f.sequences, &search_setting, all_big, 1, 0, &reference, NULL,
                            NULL));
    for (size_t big = 0; big <= L; big++) {
        const duo_random_setting setting = {.modules = TWO, .big = big, .draws = 3, .rows = 2};
        ok(duo_random_per_token(f.model, &f.sequences, &setting, all_big, &f.trace, NULL, NULL));
        for (size_t i = 0; i < R * T; i++) {
            ck_assert_double_eq_tol((double)f.trace.loss[i],
                                    (double)reference.oracle.loss[i * (L + 1) + big], tolerance);
            ck_assert_uint_eq(count_big(f.trace.routes + i * L), big);
        }
    }
    duo_reference_free(&reference);
    free_fixture(&f);
}
END_TEST

START_TEST(draws_are_keyed_by_the_row_and_reach_every_layer)
{
    enum { ROWS = 40, POSITIONS = 20, CHANCES = ROWS * POSITIONS };
    fixture f = make_fixture(1, ROWS, POSITIONS);
    duo_trace pieces;
    ok(duo_trace_create(&pieces, &f.sequences, L));
    duo_random_setting setting = {.modules = TWO, .big = 1, .draws = 1, .seed = 4, .rows = 8};
    ok(duo_random_per_token(f.model, &f.sequences, &setting, all_big, &f.trace, NULL, NULL));
    for (setting.first_row = 0; setting.first_row < ROWS; setting.first_row += 10) {
        const duo_sequences part = duo_sequences_rows(&f.sequences, setting.first_row, 10);
        duo_trace trace = duo_trace_rows(&pieces, setting.first_row, POSITIONS, L);
        ok(duo_random_per_token(f.model, &part, &setting, all_big, &trace, NULL, NULL));
    }
    ck_assert_mem_eq(pieces.routes, f.trace.routes, CHANCES * L);
    ck_assert_mem_eq(pieces.loss, f.trace.loss, CHANCES * sizeof(float));
    for (size_t l = 0; l < L; l++) {
        size_t big = 0;
        for (size_t i = 0; i < CHANCES; i++) big += f.trace.routes[i * L + l] == DUO_BIG;
        /* five standard errors of a share of a third */
        ck_assert_double_eq_tol((double)big / CHANCES, 1.0 / 3, 5 * sqrt(2.0 / 9 / CHANCES));
    }
    duo_trace_free(&pieces);
    free_fixture(&f);
}
END_TEST

START_TEST(random_patterns_refuse_what_makes_no_sense)
{
    fixture f = make_fixture(1, R, T);
    duo_random_setting s = {.modules = TWO, .big = L + 1, .draws = 3, .rows = 2};
    refused(duo_random_per_sequence(f.model, &f.sequences, &s, &f.trace, NULL, NULL), DUO_EINVAL,
            "4 big, the model has 3 layers");
    s.big = 1;
    s.draws = 0;
    refused(duo_random_per_token(f.model, &f.sequences, &s, all_big, &f.trace, NULL, NULL),
            DUO_EINVAL, "none is wanted");
    free_fixture(&f);
}
END_TEST

START_TEST(schedules_are_straight_lines)
{
    size_t counts[9];
    const size_t falling[9] = {6, 6, 5, 5, 4, 4, 3, 3, 2};
    ok(duo_schedule_parse(counts, 9, 12, "6:2"));
    for (size_t t = 0; t < 9; t++) ck_assert_uint_eq(counts[t], falling[t]);
    ok(duo_schedule_parse(counts, 9, 12, "4:4"));
    for (size_t t = 0; t < 9; t++) ck_assert_uint_eq(counts[t], 4);
    ok(duo_schedule_parse(counts, 1, 12, "2:6"));
    ck_assert_uint_eq(counts[0], 2);
    refused(duo_schedule_parse(counts, 9, 5, "6:2"), DUO_EINVAL, "schedule 6:2: the model has 5");
    const char *const bad[] = {"", "6", "6:", ":2", "6:2x", "a:b", "6:-1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(duo_schedule_parse(counts, 9, 12, bad[i]), DUO_EINVAL, "not of the form 6:2");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        fixed_patterns_are_the_best_of_all,
        narrow_beam_tries_few_and_keeps_their_budgets,
        search_for_fixed_patterns_is_stopped,
        best_of_all_patterns_for_a_sequence,
        best_of_all_patterns_for_a_token,
        draws_are_keyed_by_the_row_and_reach_every_layer,
        random_patterns_refuse_what_makes_no_sense,
        schedules_are_straight_lines,
    };
    return run_suite("baseline", tests, sizeof tests / sizeof *tests);
}
