#include <math.h>

#include "study_fixture.h"

/* ---------------------------------------------------------------- policies */

static void evaluate(const fixture *f, const char *text, size_t rows, duo_trace *trace)
{
    duo_policy policy;
    ok(duo_policy_parse(&policy, text, f->model));
    ok(duo_evaluate(f->model, &f->sequences, &policy, 9, rows, trace, NULL, NULL));
}

START_TEST(policies_are_read_or_refused)
{
    const struct {
        const char *text, *part;
    } bad[] = {
        {"large", "policy large: is none of"},
        {"", "is none of"},
        {"bigger", "is none of"},
        {"random:", "share of big"},
        {"random:1.5", "share of big"},
        {"random:-0.1", "share of big"},
        {"random:nan", "share of big"},
        {"random:0.5x", "share of big"},
        {"pattern:BS", "2 letters, the model 3 layers"},
        {"pattern:BSX", "letter 3"},
        {"router:raw6", "'raw6' is no number of big layers"},
        {"file:", "path of a routes file is missing"},
    };
    fixture f = make_fixture(1, R, T);
    duo_policy p;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(duo_policy_parse(&p, bad[i].text, f.model), DUO_EINVAL, bad[i].part);
    const uint8_t pattern[L] = {DUO_BIG, DUO_SKIP, DUO_SMALL}, small[L] = {1, 1, 1};
    ok(duo_policy_parse(&p, "pattern:B-s", f.model));
    ck_assert_int_eq(p.kind, DUO_POLICY_PATTERN);
    ck_assert_mem_eq(p.pattern, pattern, L);
    ck_assert_str_eq(p.name, "pattern:B-s");
    ok(duo_policy_parse(&p, "small", f.model));
    ck_assert_mem_eq(p.pattern, small, L);
    ok(duo_policy_parse(&p, "random:0.25", f.model));
    ck_assert_int_eq(p.kind, DUO_POLICY_RANDOM);
    ck_assert_double_eq(p.p[DUO_BIG], 0.25);
    ck_assert_double_eq(p.p[DUO_SMALL], 0.75);
    ck_assert_double_eq(p.p[DUO_SKIP], 0);
    ok(duo_policy_parse(&p, "file:a/b.h5", f.model));
    ck_assert_int_eq(p.kind, DUO_POLICY_FILE);
    ck_assert_str_eq(p.path, "a/b.h5");
    ok(duo_policy_parse(&p, "router", f.model));
    ck_assert_int_eq(p.kind, DUO_POLICY_ROUTER);
    ck_assert_str_eq(p.name, "router");
    f.model->params.config.router_modules = 0;
    refused(duo_policy_parse(&p, "router", f.model), DUO_EINVAL, "no routers");
    free_fixture(&f);
}
END_TEST

/* By the budget and its thresholds; without one, half of the layers. */
START_TEST(routers_are_told_the_budget_of_their_policy)
{
    fixture f = make_fixture(1, R, T);
    duo_config config = f.model->params.config;
    config.router_inputs |= 1u << DUO_INPUT_BUDGET;
    ok(duo_model_add_routers(&f.model, &config, 1));
    for (size_t i = 0; i < (L + 1) * DUO_MODULES; i++) f.model->thresholds[i] = (float)i;
    const struct {
        const char *text, *name;
        float budget, first;
    } cases[] = {
        {"router:exact:1", "router:exact:1", 1.0f / L, DUO_MODULES},
        {"router:2", "router:2", 2.0f / L, 2 * DUO_MODULES},
        {"router:raw:2", "router:raw:2", 2.0f / L, 0},
        {"router", "router:1.5", 0.5f, 1.5f * DUO_MODULES},
        {"router:raw", "router:raw:1.5", 0.5f, 0},
    };
    f.model->rule = duo_model_rule(f.model, 0.5 * L);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        duo_policy p;
        ok(duo_policy_parse(&p, cases[i].text, f.model));
        ck_assert_str_eq(p.name, cases[i].name);
        ck_assert_float_eq(p.rule.budget, cases[i].budget);
        ck_assert_float_eq(p.rule.threshold[0], cases[i].first);
    }
    free_fixture(&f);
}
END_TEST

START_TEST(random_policy_keeps_its_share_whatever_the_rows)
{
    const size_t n = 64 * 50;
    fixture f = make_fixture(1, 64, 50);
    duo_trace other;
    ok(duo_trace_create(&other, &f.sequences, L));
    evaluate(&f, "random:0.3", 64, &f.trace);
    evaluate(&f, "random:0.3", 7, &other);
    ck_assert_mem_eq(other.routes, f.trace.routes, n * L);
    ck_assert_mem_eq(other.loss, f.trace.loss, n * sizeof(float));
    duo_trace_summary summary;
    ok(duo_trace_summarize(&summary, &f.trace, &f.sequences, &f.model->params.config, false));
    /* five standard errors of a share over 9,600 draws */
    ck_assert_double_eq_tol(summary.share[DUO_BIG], 0.3, 5 * sqrt(0.3 * 0.7 / 9600));
    ck_assert_double_eq(summary.share[DUO_SKIP], 0);
    duo_trace_summary_free(&summary);
    duo_trace_free(&other);
    free_fixture(&f);
}
END_TEST

START_TEST(router_policy_writes_the_routes_that_it_took)
{
    fixture f = make_fixture(1, R, T);
    evaluate(&f, "router", 2, &f.trace);
    float found[R * T];
    memcpy(found, f.trace.loss, sizeof found);
    const duo_policy given = {.kind = DUO_POLICY_FILE};
    ok(duo_evaluate(f.model, &f.sequences, &given, 0, R, &f.trace, NULL, NULL));
    ck_assert_mem_eq(f.trace.loss, found, sizeof found);
    free_fixture(&f);
}
END_TEST

START_TEST(evaluation_refuses_sequences_that_the_model_cannot_read)
{
    fixture f = make_fixture(1, R, T);
    duo_policy p;
    ok(duo_policy_parse(&p, "big", f.model));
    f.model->params.config.max_seq = T - 1;
    refused(duo_evaluate(f.model, &f.sequences, &p, 0, 1, &f.trace, NULL, NULL), DUO_EINVAL,
            "sequences of 5 tokens, the model sees 4");
    f.model->params.config.max_seq = T;
    f.sequences.tokens[0] = -1;
    refused(duo_evaluate(f.model, &f.sequences, &p, 0, 1, &f.trace, NULL, NULL), DUO_EINVAL,
            "token 0 of sequence 0 is -1");
    f.sequences.tokens[0] = 0;
    duo_tree_at(&f.model->weights, 0, DUO_P_FINAL_NORM)[0] = NAN;
    refused(duo_evaluate(f.model, &f.sequences, &p, 0, 2, &f.trace, NULL, NULL), DUO_ENUMBER,
            "policy big: the loss of position 0 of sequence 0");
    free_fixture(&f);
}
END_TEST

/* ---------------------------------------------------------------- summaries */

START_TEST(summary_has_the_numbers_of_a_sum_by_hand)
{
    const duo_config config = study_config();
    uint8_t routes[] = {0, 1, 2, 2, 2, 2, 1, 1, 1, 0, 2, 1};
    float loss[] = {1, 2, 3, 6};
    const duo_sequences sequences = {.R = 2, .T = 2, .bytes = 10};
    const duo_trace trace = {.routes = routes, .loss = loss};
    const uint64_t usage[L * DUO_MODULES] = {2, 1, 1, 0, 2, 2, 0, 2, 2};
    duo_trace_summary s;
    ok(duo_trace_summarize(&s, &trace, &sequences, &config, false));
    ck_assert_double_eq(s.loss, 3);
    /* means 1.5 and 4.5, deviations 1.5: sqrt(2 * 1.5^2 / 1 / 2) */
    ck_assert_double_eq_tol(s.loss_error, 1.5, 1e-12);
    ck_assert_double_eq_tol(s.perplexity, exp(3), 1e-12);
    ck_assert_double_eq_tol(s.bits_per_byte, 12 / log(2.0) / 10, 1e-12);
    ck_assert_mem_eq(s.usage, usage, sizeof usage);
    ck_assert_double_eq_tol(s.share[DUO_SKIP], 2.0 / 12, 1e-12);
    ck_assert_double_eq_tol(s.share[DUO_SMALL], 5.0 / 12, 1e-12);
    ck_assert_double_eq_tol(s.share[DUO_BIG], 5.0 / 12, 1e-12);
    /* per layer q and o 18 x 18, k and v 18 x 6, scores and sum over 1.5 positions; head 18 x 29;
     * 5 big FFNs of 3 x 18 x 23 and 5 small ones of 3 x 18 x 7 over 4 tokens */
    const double base = 2 * (3 * (2 * 18 * 18 + 2 * 18 * 6 + 2 * 18 * 1.5) + 18 * 29);
    const double ffns = 2 * 5.0 * (3 * 18 * 23 + 3 * 18 * 7) / 4;
    ck_assert_double_eq_tol(s.flops, base + ffns, 1e-9);
    duo_trace_summary_free(&s);
    ok(duo_trace_summarize(&s, &trace, &sequences, &config, true));
    ck_assert_double_eq_tol(s.flops, base + ffns + 2 * 3 * 2 * 18, 1e-9);
    duo_trace_summary_free(&s);
    const duo_sequences single = {.R = 1, .T = 2};
    ok(duo_trace_summarize(&s, &trace, &single, &config, false));
    ck_assert(isnan(s.loss_error) && isnan(s.bits_per_byte));
    duo_trace_summary_free(&s);
}
END_TEST

/* ---------------------------------------------------------------- held-out windows */

START_TEST(held_out_windows_are_spread_evenly)
{
    duo_tokens *tokens = NULL;
    duo_tokenizer *tokenizer = NULL;
    duo_sequences s;
    prepare_tokens(4000);
    ok(duo_tokens_open(&tokens, "tokens.h5"));
    ok(duo_tokenizer_open(&tokenizer, "tokens.h5"));
    const size_t held = duo_tokens_windows(tokens, DUO_HELD_OUT, 0, 8);
    ck_assert_uint_gt(held, 30);
    ok(duo_sequences_spread(&s, tokens, DUO_HELD_OUT, 0, 7, 8));
    ck_assert_uint_eq(s.R, 7);
    uint64_t predicted = 0;
    for (size_t r = 0; r < s.R; r++) {
        int32_t window[9];
        duo_tokens_window(tokens, DUO_HELD_OUT, 0, 8, r * held / 7, window);
        ck_assert_mem_eq(s.tokens + r * 9, window, sizeof window);
        for (size_t t = 1; t < 9; t++) predicted += duo_tokenizer_piece_bytes(tokenizer, window[t]);
    }
    ck_assert_uint_eq(s.bytes, predicted);
    duo_sequences_free(&s);
    ok(duo_sequences_spread(&s, tokens, DUO_HELD_OUT, -1, held + 5, 8));
    ck_assert_uint_eq(s.R, held);
    duo_sequences_free(&s);
    refused(duo_sequences_spread(&s, tokens, DUO_HELD_OUT, 0, 1, 1000000), DUO_EINVAL,
            "domain prose holds no held-out window of 1000001 tokens");
    refused(duo_sequences_spread(&s, tokens, DUO_HELD_OUT, 0, 0, 8), DUO_EINVAL,
            "no window was asked for");
    duo_tokenizer_free(tokenizer);
    duo_tokens_close(tokens);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        policies_are_read_or_refused,
        random_policy_keeps_its_share_whatever_the_rows,
        routers_are_told_the_budget_of_their_policy,
        router_policy_writes_the_routes_that_it_took,
        evaluation_refuses_sequences_that_the_model_cannot_read,
        summary_has_the_numbers_of_a_sum_by_hand,
        held_out_windows_are_spread_evenly,
    };
    return run_suite("study", tests, sizeof tests / sizeof *tests);
}
