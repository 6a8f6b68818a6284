#include <math.h>

#include "duo/hindsight.h"
#include "study_fixture.h"

/* One layer, two sequences of one token: b = 0 and 1. */
START_TEST(hindsight_has_the_numbers_of_a_sum_by_hand)
{
    uint8_t routes[] = {DUO_SMALL, DUO_BIG, DUO_SMALL, DUO_BIG};
    float oracle[] = {3, 4, 5, 8}, control[] = {2, 2.5f, 4, 6}, label_free[] = {3.5f, 4, 9, 8};
    const duo_reference reference = {.oracle = {routes, oracle},
                                     .control = {routes, control},
                                     .label_free = {routes, label_free}};
    const duo_sequences sequences = {.R = 2, .T = 1};
    duo_hindsight h;
    ok(duo_hindsight_measure(&h, &reference, &sequences, 1));
    ck_assert_uint_eq(h.budgets, 2);
    ck_assert_double_eq(h.all_big.mean, 6);
    ck_assert_double_eq(h.all_small.mean, 4);
    ck_assert_double_eq(h.oracle[0].mean, 4);
    ck_assert_double_eq_tol(h.oracle[0].error, 1, 1e-12); /* means 3 and 5 */
    ck_assert_double_eq(h.gain[0].mean, 2);               /* 1 and 3 */
    ck_assert_double_eq_tol(h.gain[0].error, 1, 1e-12);
    ck_assert_double_eq(h.control[0].mean, 1.25); /* 0.5 and 2 */
    ck_assert_double_eq(h.corrected[0].mean, 0.75);
    ck_assert_double_eq_tol(h.corrected[0].error, 0.25, 1e-12); /* 0.5 and 1 */
    ck_assert_double_eq(h.label_free[0].mean, 6.25);
    ck_assert_double_eq(h.label_free_gain[0].mean, -0.25); /* 0.5 and -1 */
    ck_assert_double_eq_tol(h.label_free_gain[0].error, 0.75, 1e-12);
    ck_assert_double_eq(h.gain[1].mean, 0);
    duo_hindsight_free(&h);
    const duo_sequences single = {.R = 1, .T = 2};
    ok(duo_hindsight_measure(&h, &reference, &single, 1));
    ck_assert_double_eq(h.oracle[0].mean, 4);
    ck_assert(isnan(h.oracle[0].error) && isnan(h.corrected[0].error));
    duo_hindsight_free(&h);
    oracle[0] = oracle[2] = INFINITY; /* no route is all small */
    routes[0] = routes[2] = 0;
    ok(duo_hindsight_measure(&h, &reference, &sequences, 1));
    ck_assert(isnan(h.oracle[0].mean) && isnan(h.corrected[0].mean) && isnan(h.all_small.mean));
    ck_assert_double_eq(h.oracle[1].mean, 6);
    duo_hindsight_free(&h);
    routes[3] = DUO_SMALL;
    refused(duo_hindsight_measure(&h, &reference, &sequences, 1), DUO_EINVAL, "all-big route");
}
END_TEST

/* With all-big as the reference its gain is measured on ordinary all-big passes. */
START_TEST(all_big_of_a_search_is_the_all_big_model)
{
    fixture f = make_fixture(1, R, T);
    const duo_search_setting setting = {.modules = TWO};
    const uint8_t big[L] = {DUO_BIG, DUO_BIG, DUO_BIG};
    duo_reference reference;
    duo_hindsight h;
    duo_policy policy;
    double mean = 0;
    ok(duo_reference_create(&reference, &f.sequences, L));
    ok(duo_search_reference(f.model, &f.sequences, &setting, big, 3, 0, &reference, NULL, NULL));
    ok(duo_hindsight_measure(&h, &reference, &f.sequences, L));
    ok(duo_policy_parse(&policy, "big", f.model));
    ok(duo_evaluate(f.model, &f.sequences, &policy, 0, R, &f.trace, NULL, NULL));
    for (size_t i = 0; i < R * T; i++) mean += (double)f.trace.loss[i] / (R * T);
    ck_assert_double_eq_tol(h.all_big.mean, mean, 1e-5);
    ck_assert_double_eq(h.gain[L].mean, 0);
    ck_assert_double_eq(h.control[L].mean, 0);
    for (size_t b = 1; b < L; b++) ck_assert(isfinite(h.corrected[b].error));

    /* the control of a committed search draws the same targets, with the same loss */
    int32_t drawn[R * T];
    float loss[R * T];
    ok(duo_control_draw(f.model, &f.sequences, 3, 0, drawn, loss));
    ck_assert_mem_eq(drawn, reference.drawn, sizeof drawn);
    for (size_t i = 0; i < R * T; i++)
        ck_assert_double_eq_tol((double)loss[i], (double)reference.control.loss[i * (L + 1) + L],
                                1e-4);
    duo_hindsight_free(&h);
    duo_reference_free(&reference);
    free_fixture(&f);
}
END_TEST

START_TEST(drawn_targets_are_keyed_by_the_row)
{
    fixture f = make_fixture(1, R, T);
    int32_t whole[R * T], part[T];
    float loss[R * T], part_loss[T];
    ok(duo_control_draw(f.model, &f.sequences, 9, 0, whole, loss));
    for (size_t r = 0; r < R; r++) {
        const duo_sequences row = duo_sequences_rows(&f.sequences, r, 1);
        ok(duo_control_draw(f.model, &row, 9, r, part, part_loss));
        ck_assert_mem_eq(part, whole + r * T, sizeof part);
        ck_assert_mem_eq(part_loss, loss + r * T, sizeof part_loss);
    }
    free_fixture(&f);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        hindsight_has_the_numbers_of_a_sum_by_hand,
        all_big_of_a_search_is_the_all_big_model,
        drawn_targets_are_keyed_by_the_row,
    };
    return run_suite("hindsight", tests, sizeof tests / sizeof *tests);
}
