#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "duo/compare.h"
#include "random_model.h"
#include "store_fixture.h"

enum { R = 4, T = 8, L = 2 };

START_TEST(what_pairs_have_in_common_drops_out)
{
    const double a[] = {10, 20, 30, 44}, b[] = {9, 18, 29, 42};
    const duo_estimate e = duo_estimate_difference(a, b, 4);
    ck_assert_double_eq_tol(e.mean, 1.5, 1e-12);
    ck_assert_double_eq_tol(e.error, sqrt((0.25 * 4) / 3 / 4), 1e-12);
    ck_assert(isnan(duo_estimate_difference(a, b, 1).error));
}
END_TEST

static duo_compared row_of(float loss, uint64_t seed)
{
    const duo_config config = {.n_layers = L,
                               .d_model = 8,
                               .n_heads = 2,
                               .n_kv_heads = 2,
                               .d_big = 6,
                               .d_small = 2,
                               .vocab_size = 16,
                               .max_seq = T};
    const duo_sequences sequences = {.R = R, .T = T};
    duo_compared row = duo_compared_empty("a", 1, seed);
    row.raw = 0.5;
    row.agreement.accuracy = 0.25;
    duo_trace trace;
    ok(duo_trace_create(&trace, &sequences, L));
    duo_routes_fill(trace.routes, R * T, L, DUO_SMALL);
    for (size_t r = 0; r < R; r++) {
        for (size_t t = 0; t < T; t++) trace.loss[r * T + t] = loss + (float)r + (float)(t % 2);
        trace.routes[r * T * L] = DUO_BIG;           /* position 0 */
        trace.routes[(r * T + T - 3) * L] = DUO_BIG; /* before the last quarter */
    }
    ok(duo_compared_measure(&row, &trace, &sequences, &config, false));
    duo_trace_free(&trace);
    return row;
}

START_TEST(rows_and_their_means_by_hand)
{
    duo_compared a = row_of(1, 1), b = row_of(2, 2), mean;
    const duo_compared *const rows[] = {&a, &b};
    ck_assert_double_eq_tol(a.means[2], 3.5, 1e-6);
    ck_assert_double_eq_tol(a.share, 2.0 / (T * L), 1e-12);
    ck_assert_double_eq_tol(a.layer_share[0], 2.0 / T, 1e-12);
    ck_assert_double_eq(a.layer_share[1], 0);
    ck_assert_double_eq_tol(a.early.mean, 1.0 / 4, 1e-12);
    ck_assert_double_eq(a.late.mean, 0);
    b.agreement.accuracy = 0.75;
    ok(duo_compared_mean(&mean, rows, 2));
    ck_assert_double_eq_tol(mean.means[2], 4, 1e-6);
    ck_assert_double_eq_tol(duo_compared_spread(&mean), sqrt(0.5), 1e-6);
    ck_assert_double_eq_tol(mean.agreement.accuracy, 0.5, 1e-12);
    ck_assert_double_eq_tol(mean.layer_share[0], 2.0 / T, 1e-12);
    ck_assert_double_eq(mean.flops, a.flops);
    ck_assert_uint_eq(mean.seeds, 2);
    duo_compared_free(&mean);
    ok(duo_compared_mean(&mean, rows, 1));
    ck_assert(isnan(duo_compared_spread(&mean)));
    duo_compared_free(&mean);
    duo_compared_free(&a);
    duo_compared_free(&b);
}
END_TEST

/* A row of given losses and FLOPs. */
static duo_compared made(uint64_t seed, double flops, const double losses[R])
{
    duo_compared row = duo_compared_empty("b", 1, seed);
    row.R = R;
    row.flops = flops;
    row.means = malloc(R * sizeof *row.means);
    ck_assert_ptr_nonnull(row.means);
    memcpy(row.means, losses, R * sizeof *row.means);
    return row;
}

/* Sequences are alike, so that all error is that of the seeds. */
START_TEST(errors_are_over_seeds_too)
{
    const double one[] = {1, 1, 1, 1}, two[] = {2, 2, 2, 2}, four[] = {4, 4, 4, 4};
    duo_compared a1 = made(1, 1, one), a2 = made(2, 1, four);
    duo_compared b1 = made(1, 1, two), b2 = made(2, 1, one), b9 = made(9, 1, one);
    const duo_compared *const a[] = {&a1, &a2}, *const b[] = {&b2, &b1}, *const c[] = {&b1, &b9};
    duo_compared mean_a, mean_b, mean_c;
    ok(duo_compared_mean(&mean_a, a, 2));
    ok(duo_compared_mean(&mean_b, b, 2));
    ok(duo_compared_mean(&mean_c, c, 2));
    ck_assert_double_eq_tol(duo_compared_loss(&mean_a).error, 1.5, 1e-12);
    /* -1 and +3, seed by seed, whatever their order */
    ck_assert_double_eq_tol(duo_compared_less(&mean_a, &mean_b).mean, 1, 1e-12);
    ck_assert_double_eq_tol(duo_compared_less(&mean_a, &mean_b).error, 2, 1e-12);
    /* other seeds: the squares add up */
    ck_assert_double_eq_tol(duo_compared_less(&mean_a, &mean_c).error, sqrt(2.25 + 0.25), 1e-12);
    ck_assert_double_eq_tol(duo_compared_less(&mean_a, &b1).error, 1.5, 1e-12);
    ck_assert_double_eq(duo_compared_less(&a1, &b1).error, 0);
    ck_assert(isnan(duo_compared_less(&a1, NULL).mean));
    duo_compared *all[] = {&a1, &a2, &b1, &b2, &b9, &mean_a, &mean_b, &mean_c};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) duo_compared_free(all[i]);
}
END_TEST

START_TEST(rows_mix_to_any_flops_between_them)
{
    const double high[] = {4, 5, 6, 7}, low[] = {2, 2, 2, 2};
    duo_compared far = made(0, 90, low), cheap = made(0, 10, high), dear = made(0, 30, low), at;
    const duo_compared *const rows[] = {&far, &dear, &cheap};
    ok(duo_compared_at(&at, rows, 3, 15));
    ck_assert_double_eq_tol(at.means[1], 0.75 * 5 + 0.25 * 2, 1e-12);
    ck_assert_double_eq_tol(at.flops, 15, 1e-12);
    duo_compared_free(&at);
    ok(duo_compared_at(&at, rows, 3, 30));
    ck_assert_double_eq(at.means[3], 2);
    duo_compared_free(&at);
    ok(duo_compared_at(&at, rows, 3, 9));
    ck_assert_ptr_null(at.means);
    duo_compared_free(&far);
    duo_compared_free(&cheap);
    duo_compared_free(&dear);
}
END_TEST

START_TEST(shares_closed_have_jackknife_errors)
{
    const double from[] = {3.5, 3.7, 3.4, 3.9}, to[] = {3.3, 3.4, 3.3, 3.5};
    const double own[] = {3.4, 3.6, 3.3, 3.8};
    duo_compared a = made(0, 1, from), b = made(0, 1, to), row = made(0, 1, own);
    const duo_estimate none = {0, 0}, gain = {0.05, 0.02};
    double without[R], sum = 0, squares = 0;
    for (size_t r = 0; r < R; r++) {
        double gone = 0, way = 0;
        for (size_t k = 0; k < R; k++) {
            gone += k == r ? 0 : from[k] - own[k];
            way += k == r ? 0 : from[k] - to[k];
        }
        without[r] = gone / way;
        sum += without[r] / R;
    }
    for (size_t r = 0; r < R; r++) squares += (without[r] - sum) * (without[r] - sum);
    const duo_estimate share = duo_share_closed(&row, &a, &b, none);
    ck_assert_double_eq_tol(share.mean, 0.4 / 1.0, 1e-9);
    ck_assert_double_eq_tol(share.error, sqrt(squares * (R - 1) / R), 1e-9);
    const duo_estimate corrected = duo_share_closed(&row, &a, &b, gain);
    ck_assert_double_eq_tol(corrected.mean, 0.4 / 1.2, 1e-9);
    ck_assert_double_gt(corrected.error, 0.4 / 1.2 / 0.3 * 0.02);
    ck_assert(isnan(duo_share_closed(&row, &b, &a, none).mean)); /* no way */
    duo_compared_free(&a);
    duo_compared_free(&b);
    duo_compared_free(&row);
}
END_TEST

START_TEST(agreement_by_hand)
{
    const uint8_t a[] = {DUO_BIG, DUO_BIG, DUO_SMALL, DUO_BIG, DUO_BIG, DUO_BIG};
    const uint8_t b[] = {DUO_BIG, DUO_BIG, DUO_BIG, DUO_BIG, DUO_SMALL, DUO_BIG};
    duo_agreement agreement;
    duo_agree(&agreement, a, b, 3, 2);
    ck_assert_double_eq_tol(agreement.accuracy, (1.0 / 3 + 1) / 2, 1e-12);
    ck_assert_double_eq_tol(agreement.layer[0].macro_f1, (2.0 / 4 + 0) / 2, 1e-12);
    ck_assert_double_eq_tol(agreement.layer[1].macro_f1, 1, 1e-12);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        what_pairs_have_in_common_drops_out, rows_and_their_means_by_hand,
        errors_are_over_seeds_too,           rows_mix_to_any_flops_between_them,
        shares_closed_have_jackknife_errors, agreement_by_hand,
    };
    return run_suite("compare", tests, sizeof tests / sizeof *tests);
}
