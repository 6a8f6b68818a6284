#include "sample.h"

#include <math.h>

#include "check_fixture.h"
#include "duo/rng.h"

enum { MOST = 4096 };
static duo_candidate candidates[MOST];

static int32_t draw(duo_sampling sampling, const float *logits, size_t V, uint64_t i)
{
    const duo_place place = {.step = i};
    const double u = duo_uniform(duo_random(1, DUO_RNG_SAMPLE, place).word[0]);
    return duo_sample(&sampling, logits, V, u, candidates);
}

static const float five[5] = {0.5f, 2.0f, -1.0f, 1.0f, 0.0f};

START_TEST(draws_follow_the_softmax)
{
    enum { DRAWS = 20000 };
    const double temperatures[] = {0.5, 1.0, 2.0};
    for (size_t t = 0; t < 3; t++) {
        size_t counts[5] = {0};
        double sum = 0;
        for (uint64_t i = 0; i < DRAWS; i++)
            counts[draw((duo_sampling){temperatures[t], 0, 1}, five, 5, i)]++;
        for (size_t v = 0; v < 5; v++) sum += exp((double)five[v] / temperatures[t]);
        for (size_t v = 0; v < 5; v++) { /* 4 standard errors: 4 * 0.5 / sqrt(20000) */
            const double p = exp((double)five[v] / temperatures[t]) / sum;
            ck_assert_double_eq_tol((double)counts[v] / DRAWS, p, 0.015);
        }
    }
}
END_TEST

START_TEST(top_k_keeps_the_k_best)
{
    const int32_t order[5] = {1, 3, 0, 4, 2};
    for (size_t k = 1; k <= 7; k++) {
        const duo_sampling sampling = {0.7, k, 1};
        const size_t n = duo_sample_candidates(candidates, &sampling, five, 5);
        ck_assert_uint_eq(n, k < 5 ? k : 5);
        if (k < 5)
            for (size_t i = 0; i < n; i++) ck_assert_int_eq(candidates[i].id, order[i]);
    }
    for (uint64_t i = 0; i < 100; i++)
        ck_assert_int_eq(draw((duo_sampling){5, 1, 1}, five, 5, i), 1);
}
END_TEST

/* Against the obvious: sort everything. */
static int by_logit(const void *a, const void *b)
{
    const float *x = a, *y = b;
    return x[0] > y[0] ? -1 : x[0] < y[0] ? 1 : (x[1] > y[1]) - (x[1] < y[1]);
}

START_TEST(both_cuts_agree_with_sorting_everything)
{
    static float logits[MOST], sorted[MOST][2];
    const size_t ks[] = {0, 1, 40, 1000, 4095};
    const double ps[] = {1, 0.999, 0.9, 0.3, 0.001};
    for (size_t v = 0; v < MOST; v++) { /* quarters, so that many are equal */
        const duo_random4 r = duo_random(2, DUO_RNG_TEST, (duo_place){.step = v});
        logits[v] = (float)floor(8 * duo_normal(r.word[0], r.word[1])) / 4;
        sorted[v][0] = logits[v];
        sorted[v][1] = (float)v;
    }
    qsort(sorted, MOST, sizeof *sorted, by_logit);
    for (size_t k = 0; k < sizeof ks / sizeof *ks; k++)
        for (size_t p = 0; p < sizeof ps / sizeof *ps; p++) {
            const duo_sampling sampling = {1, ks[k], ps[p]};
            const size_t most = ks[k] ? ks[k] : MOST;
            const size_t n = duo_sample_candidates(candidates, &sampling, logits, MOST);
            double total = 0, share = 0;
            for (size_t i = 0; i < most; i++) total += exp((double)sorted[i][0]);
            for (size_t i = 0; i + 1 < n; i++) share += exp((double)sorted[i][0]) / total;
            ck_assert_uint_le(n, most);
            if (ps[p] < 1) ck_assert(share < ps[p]); /* fewest: one less does not reach p */
            share += exp((double)sorted[n - 1][0]) / total;
            ck_assert_double_ge(share, ps[p] - 1e-12);
            if (ks[k] == 0 && ps[p] == 1) continue; /* nothing is cut, nothing sorted */
            for (size_t i = 0; i < n; i++)
                ck_assert_int_eq(candidates[i].id, (int32_t)sorted[i][1]);
        }
}
END_TEST

START_TEST(top_p_is_the_smallest_set_that_reaches_it)
{
    const float halves[4] = {logf(0.5f), logf(0.25f), logf(0.125f), logf(0.125f)};
    const struct {
        double p;
        size_t n;
    } cases[] = {{1e-9, 1}, {0.49, 1}, {0.51, 2}, {0.74, 2}, {0.76, 3}, {0.88, 4}, {1, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const duo_sampling sampling = {1, 0, cases[i].p};
        ck_assert_uint_eq(duo_sample_candidates(candidates, &sampling, halves, 4), cases[i].n);
    }
    /* After top_k the share is of what is left: 0.5 of 0.75. */
    ck_assert_uint_eq(duo_sample_candidates(candidates, &(duo_sampling){1, 2, 0.6}, halves, 4), 1);
}
END_TEST

START_TEST(ties_go_to_the_lower_id)
{
    const float same[6] = {1, 3, 3, 3, 2, 3};
    ck_assert_int_eq(draw((duo_sampling){0, 0, 1}, same, 6, 0), 1);
    ck_assert_uint_eq(duo_sample_candidates(candidates, &(duo_sampling){1, 3, 1}, same, 6), 3);
    for (size_t i = 0; i < 3; i++) ck_assert_int_eq(candidates[i].id, (int32_t)i + 1);
    /* Four equals: half of the mass is two of them. */
    ck_assert_uint_eq(duo_sample_candidates(candidates, &(duo_sampling){1, 4, 0.5}, same, 6), 2);
    ck_assert_int_eq(candidates[1].id, 2);
}
END_TEST

START_TEST(numbers_that_are_none_are_refused)
{
    const duo_sampling greedy = {0, 0, 1}, warm = {1, 2, 0.9};
    const float bad[][3] = {
        {1, NAN, 2}, {NAN, NAN, NAN}, {1, INFINITY, 0}, {-INFINITY, -INFINITY, -INFINITY}};
    const float masked[3] = {-INFINITY, 1, -INFINITY}, wide[3] = {-3e38f, 3e38f, 0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(draw(greedy, bad[i], 3, i), -1);
        ck_assert_int_eq(draw(warm, bad[i], 3, i), -1);
    }
    for (uint64_t i = 0; i < 50; i++) {
        ck_assert_int_eq(draw((duo_sampling){100, 0, 1}, masked, 3, i), 1);
        ck_assert_int_eq(draw((duo_sampling){1, 0, 1}, wide, 3, i), 1);
    }
}
END_TEST

START_TEST(the_ends_of_u_are_in_range)
{
    const duo_sampling sampling = {1, 0, 1};
    ck_assert_int_eq(duo_sample(&sampling, five, 5, 1e-300, candidates), 0);
    ck_assert_int_eq(duo_sample(&sampling, five, 5, nextafter(1, 0), candidates), 4);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        draws_follow_the_softmax,
        top_k_keeps_the_k_best,
        both_cuts_agree_with_sorting_everything,
        top_p_is_the_smallest_set_that_reaches_it,
        ties_go_to_the_lower_id,
        numbers_that_are_none_are_refused,
        the_ends_of_u_are_in_range,
    };
    Suite *suite = suite_create("sample");
    add_case(suite, 4, tests, sizeof tests / sizeof *tests, 1);
    return run_cases(suite);
}
