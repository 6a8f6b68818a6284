#ifndef STUDY_FIXTURE_H
#define STUDY_FIXTURE_H

/* What the suites of the study share: a model, sequences and what a pass over them found. */

#include "duo/kernels.h"
#include "duo/oracle.h"
#include "random_model.h"
#include "store_fixture.h"

enum { TWO = 1 << DUO_SMALL | 1 << DUO_BIG, R = 3, T = 5, L = 3 };

typedef struct fixture {
    duo_model *model;
    duo_sequences sequences;
    duo_trace trace;
} fixture;

/* tiny_config() of three layers, so that every route of a position can be tried. */
static inline duo_config study_config(void)
{
    duo_config config = tiny_config();
    config.n_layers = L;
    config.max_seq = 64;
    config.router_modules = TWO;
    return config;
}

static inline duo_sequences random_sequences(size_t rows, size_t positions)
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

static inline void write_words(const char *path, uint64_t seed, uint32_t n)
{
    static const char *const words[] = {"river", "stone", "light", "under", "carries", "old"};
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    for (uint32_t i = 0; i < n; i++) {
        const duo_random4 r = duo_random(seed, DUO_RNG_TEST, (duo_place){.position = i});
        fprintf(file, "%s%s", words[r.word[0] % 6], r.word[1] % 8 ? " " : ".\n");
    }
    ck_assert_int_eq(fclose(file), 0);
}

/* tokens.h5 of one domain, prose, of so many words, and as many held out. */
static inline void prepare_tokens(uint32_t words)
{
    const char *const train = "train.txt", *const held_out = "held_out.txt";
    write_words(train, 0, words);
    write_words(held_out, 1, words);
    const duo_source_domain domain = {"prose", &train, 1, &held_out, 1};
    const duo_prepare prepare = {.output = "tokens.h5",
                                 .domains = &domain,
                                 .n_domains = 1,
                                 .vocab_size = 290,
                                 .json_key = "text",
                                 .seed = 1};
    duo_prepare_summary summary;
    ok(duo_prepare_run(&prepare, &summary));
}

/* One thread but where threads are the question: bits do not depend on them. */
static inline fixture make_fixture_of(size_t layers, int threads, size_t rows, size_t positions)
{
    fixture f = {0};
    duo_config config = study_config();
    config.n_layers = layers;
    ok(duo_kernels_start(threads));
    ok(duo_model_create(&f.model, &config));
    random_model(f.model, 11);
    f.sequences = random_sequences(rows, positions);
    ok(duo_trace_create(&f.trace, &f.sequences, layers));
    return f;
}

static inline fixture make_fixture(int threads, size_t rows, size_t positions)
{
    return make_fixture_of(L, threads, rows, positions);
}

static inline void free_fixture(fixture *f)
{
    duo_trace_free(&f->trace);
    duo_sequences_free(&f->sequences);
    duo_model_free(f->model);
    duo_kernels_stop();
}

enum { NO_BUDGET = -1 };

/* Exactly so many big, or NO_BUDGET. */
static inline duo_budget exactly(int big)
{
    if (big == NO_BUDGET) return (duo_budget){.kind = DUO_BUDGET_NONE};
    return (duo_budget){DUO_BUDGET_COUNT, DUO_BIG, big, big};
}

/* Exhaustive, committed context. */
static inline void search(const fixture *f, duo_module_set modules, int budget, size_t max_nodes,
                          duo_trace *trace)
{
    const duo_search_setting setting = {
        .modules = modules, .budget = exactly(budget), .max_nodes = max_nodes};
    ok(duo_search_committed(f->model, &f->sequences, &setting, trace, NULL, NULL));
}

#endif
