#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "duo/kernels.h"
#include "duo/rng.h"
#include "duo/study.h"
#include "random_model.h"

enum {
    TWO = 1 << DUO_SMALL | 1 << DUO_BIG,
    THREE = TWO | 1 << DUO_SKIP,
    R = 3,
    T = 5,
    L = 3,
    MOST_ROUTES = 27
};

/* Whole sequences and single positions sum attention in different orders; losses are near 4. */
static const double tolerance = 1e-4;

static void ok(duo_status status)
{
    ck_assert_msg(status == DUO_OK, "status %d: %s", status, duo_message());
}

static void refused(duo_status status, duo_status expected, const char *part)
{
    ck_assert_int_eq(status, expected);
    ck_assert_msg(strstr(duo_message(), part) != NULL, "'%s' says nothing of '%s'", duo_message(),
                  part);
}

/* ---------------------------------------------------------------- a model, sequences, results */

typedef struct fixture {
    duo_model *model;
    duo_sequences sequences;
    duo_trace trace;
} fixture;

static duo_config tiny_config(void)
{
    return (duo_config){.n_layers = L,
                        .d_model = 18,
                        .n_heads = 3,
                        .n_kv_heads = 1,
                        .d_big = 23,
                        .d_small = 7,
                        .vocab_size = 29,
                        .max_seq = 64,
                        .norm_eps = 1e-5,
                        .rope_theta = 10000.0,
                        .tied_embeddings = true,
                        .router_modules = TWO};
}

static duo_sequences random_sequences(size_t rows, size_t positions)
{
    duo_sequences s = {.R = rows, .T = positions};
    s.tokens = malloc(rows * (positions + 1) * sizeof *s.tokens);
    ck_assert_ptr_nonnull(s.tokens);
    for (size_t i = 0; i < rows * (positions + 1); i++) {
        const duo_place place = {.step = 77, .position = (uint32_t)i};
        s.tokens[i] = (int32_t)(duo_random(1, DUO_RNG_TEST, place).word[0] % 29);
    }
    return s;
}

/* One thread but where threads are the question: bits do not depend on them. */
static fixture make_fixture(int threads, size_t rows, size_t positions)
{
    fixture f = {0};
    const duo_config config = tiny_config();
    ok(duo_kernels_start(threads));
    ok(duo_model_create(&f.model, &config));
    random_model(f.model, 11);
    f.sequences = random_sequences(rows, positions);
    ok(duo_trace_create(&f.trace, &f.sequences, L));
    return f;
}

static void free_fixture(fixture *f)
{
    duo_trace_free(&f->trace);
    duo_sequences_free(&f->sequences);
    duo_model_free(f->model);
    duo_kernels_stop();
}

static void evaluate(const fixture *f, const char *text, size_t rows, duo_trace *trace)
{
    duo_policy policy;
    ok(duo_policy_parse(&policy, text, f->model));
    ok(duo_evaluate(f->model, &f->sequences, &policy, 9, rows, trace, NULL, NULL));
}

static void search(const fixture *f, duo_module_set modules, int budget, size_t max_nodes,
                   duo_trace *trace)
{
    const duo_oracle_setting setting = {modules, budget, max_nodes};
    ok(duo_oracle_search(f->model, &f->sequences, &setting, trace, NULL, NULL));
}

static size_t count_big(const uint8_t *route)
{
    size_t big = 0;
    for (size_t l = 0; l < L; l++) big += route[l] == DUO_BIG;
    return big;
}

/* ---------------------------------------------------------------- oracle */

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
        compare_with_force(&f, THREE, budget);
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
        search(&f, THREE, budget, 0, &f.trace);
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
        search(&f, THREE, budget, 0, &f.trace);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            search(&f, THREE, budget, sizes[i], &sliced);
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
    search(&one, THREE, DUO_NO_BUDGET, 40, &one.trace);
    for (int threads = 2; threads <= 3; threads++) {
        fixture more = make_fixture(threads, 5, 9);
        search(&more, THREE, DUO_NO_BUDGET, 40, &more.trace);
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
        {THREE, DUO_NO_BUDGET, {0, 0, 0}},
        {TWO, 1, {1, 1, 2}},
        {THREE, 1, {0, 0, 2}},
        {TWO, 2, {1, 2, 2}},
        {1 << DUO_SKIP | 1 << DUO_BIG, 2, {0, 2, 2}},
        {THREE, 3, {2, 2, 2}},
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

/* ---------------------------------------------------------------- policies */

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
    f.model->params.config.router_modules = 0;
    refused(duo_policy_parse(&p, "router", f.model), DUO_EINVAL, "no routers");
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
    const duo_config config = tiny_config();
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

typedef struct scratch_file {
    char folder[64], path[96];
} scratch_file;

static scratch_file make_file(void)
{
    scratch_file file = {.folder = "/tmp/duo-study-XXXXXX"};
    ck_assert_ptr_nonnull(mkdtemp(file.folder));
    snprintf(file.path, sizeof file.path, "%s/file.h5", file.folder);
    return file;
}

static void drop_file(const scratch_file *file)
{
    unlink(file->path);
    rmdir(file->folder);
}

static void write_words(const char *path, uint64_t seed)
{
    static const char *const words[] = {"river", "stone", "light", "under", "carries", "old"};
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    for (uint32_t i = 0; i < 4000; i++) {
        const duo_random4 r = duo_random(seed, DUO_RNG_TEST, (duo_place){.position = i});
        fprintf(file, "%s%s", words[r.word[0] % 6], r.word[1] % 8 ? " " : ".\n");
    }
    ck_assert_int_eq(fclose(file), 0);
}

/* A token file of one domain, prose. */
static void prepare_tokens(const scratch_file *output)
{
    char texts[2][128];
    const char *const train = texts[0], *const held_out = texts[1];
    for (size_t i = 0; i < 2; i++) {
        snprintf(texts[i], sizeof texts[i], "%s/%zu.txt", output->folder, i);
        write_words(texts[i], i);
    }
    const duo_source_domain domain = {"prose", &train, 1, &held_out, 1};
    const duo_prepare prepare = {.output = output->path,
                                 .domains = &domain,
                                 .n_domains = 1,
                                 .vocab_size = 290,
                                 .json_key = "text",
                                 .seed = 1};
    duo_prepare_summary summary;
    ok(duo_prepare_run(&prepare, &summary));
    unlink(train);
    unlink(held_out);
}

START_TEST(held_out_windows_are_spread_evenly)
{
    const scratch_file file = make_file();
    duo_tokens *tokens = NULL;
    duo_tokenizer *tokenizer = NULL;
    duo_sequences s;
    prepare_tokens(&file);
    ok(duo_tokens_open(&tokens, file.path));
    ok(duo_tokenizer_open(&tokenizer, file.path));
    const size_t held = duo_tokens_windows(tokens, DUO_HELD_OUT, 0, 8);
    ck_assert_uint_gt(held, 30);
    ok(duo_sequences_held_out(&s, tokens, 0, 7, 8));
    ck_assert_uint_eq(s.R, 7);
    uint64_t bytes = 0;
    for (size_t r = 0; r < s.R; r++) {
        int32_t window[9];
        duo_tokens_window(tokens, DUO_HELD_OUT, 0, 8, r * held / 7, window);
        ck_assert_mem_eq(s.tokens + r * 9, window, sizeof window);
        for (size_t t = 1; t < 9; t++) bytes += duo_tokenizer_piece_bytes(tokenizer, window[t]);
    }
    ck_assert_uint_eq(s.bytes, bytes);
    duo_sequences_free(&s);
    ok(duo_sequences_held_out(&s, tokens, -1, held + 5, 8));
    ck_assert_uint_eq(s.R, held);
    duo_sequences_free(&s);
    refused(duo_sequences_held_out(&s, tokens, 0, 1, 1000000), DUO_EINVAL,
            "domain prose holds no held-out window of 1000001 tokens");
    refused(duo_sequences_held_out(&s, tokens, 0, 0, 8), DUO_EINVAL, "no window was asked for");
    duo_tokenizer_free(tokenizer);
    duo_tokens_close(tokens);
    drop_file(&file);
}
END_TEST

/* ---------------------------------------------------------------- routes files */

static const duo_hash hash = {0x0123456789abcdef, 0xfedcba9876543210};

static void write_routes(const fixture *f, const scratch_file *file, size_t layers)
{
    const duo_routes_origin origin = {"oracle", "2", "committed", TWO, hash};
    ok(duo_routes_write(file->path, &f->sequences, &f->trace, layers, &origin));
}

static duo_status read_routes(const fixture *f, const scratch_file *file, duo_hash model)
{
    duo_sequences sequences;
    duo_trace trace;
    const duo_status status = duo_routes_read(file->path, f->model, model, &sequences, &trace);
    if (status != DUO_OK) return status;
    ck_assert_uint_eq(sequences.R, R);
    ck_assert_uint_eq(sequences.T, T);
    ck_assert_mem_eq(sequences.tokens, f->sequences.tokens, R * (T + 1) * sizeof(int32_t));
    ck_assert_mem_eq(trace.routes, f->trace.routes, R * T * L);
    ck_assert_mem_eq(trace.loss, f->trace.loss, R * T * sizeof(float));
    duo_sequences_free(&sequences);
    duo_trace_free(&trace);
    return DUO_OK;
}

START_TEST(routes_file_comes_back_as_it_was)
{
    fixture f = make_fixture(1, R, T);
    const scratch_file file = make_file();
    search(&f, TWO, 2, 0, &f.trace);
    write_routes(&f, &file, L);
    ok(read_routes(&f, &file, hash));
    duo_store *store = NULL;
    ok(duo_store_open(&store, file.path, DUO_KIND_ROUTES));
    const char *const texts[][2] = {{"policy", "oracle"},
                                    {"budget", "2"},
                                    {"context", "committed"},
                                    {"modules", "small,big"},
                                    {"model_hash", "0123456789abcdeffedcba9876543210"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *value = NULL;
        ok(duo_store_get_text(store, "/", texts[i][0], &value));
        ck_assert_str_eq(value, texts[i][1]);
    }
    duo_store_close(store);
    drop_file(&file);
    free_fixture(&f);
}
END_TEST

START_TEST(routes_file_of_something_else_is_refused)
{
    fixture f = make_fixture(1, R, T);
    const scratch_file file = make_file();
    search(&f, TWO, 2, 0, &f.trace);
    refused(read_routes(&f, &file, hash), DUO_EIO, file.path);
    write_routes(&f, &file, L);
    refused(read_routes(&f, &file, (duo_hash){1, 2}), DUO_EINVAL, "was found for the model 0123");
    write_routes(&f, &file, L - 1);
    refused(read_routes(&f, &file, hash), DUO_EDATA, "/routes");
    f.trace.routes[7] = DUO_MODULES;
    write_routes(&f, &file, L);
    refused(read_routes(&f, &file, hash), DUO_EDATA, "/routes holds 3");
    f.trace.routes[7] = DUO_BIG;
    f.trace.loss[3] = NAN;
    write_routes(&f, &file, L);
    refused(read_routes(&f, &file, hash), DUO_EDATA, "/loss holds what is not finite");
    f.trace.loss[3] = 1;
    f.sequences.tokens[2 * (T + 1) + T] = 29;
    write_routes(&f, &file, L);
    refused(read_routes(&f, &file, hash), DUO_EDATA, "token 5 of sequence 2 is 29");
    f.sequences.tokens[2 * (T + 1) + T] = 28;
    f.model->params.config.max_seq = T - 1;
    write_routes(&f, &file, L);
    refused(read_routes(&f, &file, hash), DUO_EDATA, "sequences of 5 tokens, the model sees 4");
    drop_file(&file);
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
        policies_are_read_or_refused,
        random_policy_keeps_its_share_whatever_the_rows,
        router_policy_writes_the_routes_that_it_took,
        evaluation_refuses_sequences_that_the_model_cannot_read,
        summary_has_the_numbers_of_a_sum_by_hand,
        held_out_windows_are_spread_evenly,
        routes_file_comes_back_as_it_was,
        routes_file_of_something_else_is_refused,
    };
    Suite *suite = suite_create("study");
    TCase *all = tcase_create("study");
    tcase_set_timeout(all, 50);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) tcase_add_test(all, tests[i]);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
