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
    duo_compared row = {.big = 1, .seed = seed, .seeds = 1, .raw = 0.5, .accuracy = 0.25};
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
    ck_assert_double_eq_tol(a.early, 1.0 / 4, 1e-12);
    ck_assert_double_eq(a.late, 0);
    b.accuracy = 0.75;
    ok(duo_compared_mean(&mean, rows, 2));
    ck_assert_double_eq_tol(mean.means[2], 4, 1e-6);
    ck_assert_double_eq_tol(mean.spread, sqrt(0.5), 1e-6);
    ck_assert_double_eq_tol(mean.accuracy, 0.5, 1e-12);
    ck_assert_double_eq(mean.flops, a.flops);
    ck_assert_uint_eq(mean.seeds, 2);
    duo_compared_free(&mean);
    ok(duo_compared_mean(&mean, rows, 1));
    ck_assert(isnan(mean.spread));
    duo_compared_free(&mean);
    duo_compared_free(&a);
    duo_compared_free(&b);
}
END_TEST

START_TEST(shares_closed)
{
    ck_assert_double_eq_tol(duo_share_closed(3.4, 3.5, 3.3), 0.5, 1e-12);
    ck_assert_double_eq_tol(duo_share_closed(3.6, 3.5, 3.3), -0.5, 1e-12);
    ck_assert(isnan(duo_share_closed(3.4, 3.3, 3.5)));
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
        what_pairs_have_in_common_drops_out,
        rows_and_their_means_by_hand,
        shares_closed,
        agreement_by_hand,
    };
    return run_suite("compare", tests, sizeof tests / sizeof *tests);
}
