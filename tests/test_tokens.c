#include <math.h>

#include "duo/data.h"
#include "store_fixture.h"

/* ---------------------------------------------------------------- token files */

/* A token file whose ids are their own positions, so that a window says where it is from. */
static void write_version(const char *path, size_t n, const char *names, size_t second,
                          const uint64_t *version)
{
    uint32_t *ids = calloc(n, sizeof *ids);
    for (uint32_t i = 0; i < n; i++) ids[i] = i;
    const uint64_t starts[2] = {0, second};
    duo_store_writer *writer = NULL;
    ok(duo_store_create(&writer, path, DUO_KIND_TOKENS));
    for (size_t s = 0; s < 2; s++) {
        const char *split = s == 0 ? "/train" : "/val";
        char name[40];
        snprintf(name, sizeof name, "%s/tokens", split);
        ok(duo_store_write(writer, name, DUO_U32, shape(1, n, 0, 0, 0), ids));
        snprintf(name, sizeof name, "%s/documents", split);
        ok(duo_store_write(writer, name, DUO_U64, shape(1, second ? 2 : 1, 0, 0, 0), starts));
        snprintf(name, sizeof name, "%s/domains", split);
        if (names) ok(duo_store_write(writer, name, DUO_U64, shape(1, 2, 0, 0, 0), starts));
    }
    ok(duo_store_write(writer, "/tokenizer", DUO_U8, shape(1, 5, 0, 0, 0), bytes));
    ok(duo_store_set_u64(writer, "/", "vocab_size", n));
    if (names) ok(duo_store_set_text(writer, "/", "domains", names));
    if (version) ok(duo_store_set_u64(writer, "/", "format_version", *version));
    ok(duo_store_commit(writer));
    duo_store_writer_free(writer);
    free(ids);
}

static void write_tokens(const char *path, size_t n, const char *names, size_t second)
{
    write_version(path, n, names, second, NULL);
}

START_TEST(windows_tile_the_domains)
{
    enum { T = 10 };
    int32_t out[T + 1];
    duo_tokens *tokens = NULL;
    write_tokens("t.h5", 95, "a,b", 42);
    ok(duo_tokens_open(&tokens, "t.h5"));
    ck_assert_uint_eq(duo_tokens_windows(tokens, DUO_HELD_OUT, 0, T), 4);
    ck_assert_uint_eq(duo_tokens_windows(tokens, DUO_HELD_OUT, 1, T), 5);
    ck_assert_uint_eq(duo_tokens_windows(tokens, DUO_HELD_OUT, -1, T), 9);
    ck_assert_uint_eq(duo_tokens_windows(tokens, DUO_TRAIN, 0, 41), 1);
    ck_assert_uint_eq(duo_tokens_windows(tokens, DUO_TRAIN, 0, 42), 0);
    for (size_t i = 0; i < 9; i++) {
        duo_tokens_window(tokens, DUO_HELD_OUT, -1, T, i, out);
        const int32_t start = (int32_t)(i < 4 ? i * T : 42 + (i - 4) * T);
        for (int32_t t = 0; t <= T; t++) ck_assert_int_eq(out[t], start + t);
    }
    duo_tokens_close(tokens);
}
END_TEST

START_TEST(files_of_other_tools_need_no_domains)
{
    duo_tokens *tokens = NULL;
    write_tokens("t.h5", 50, NULL, 0);
    ok(duo_tokens_open(&tokens, "t.h5"));
    ck_assert_uint_eq(duo_tokens_domains(tokens), 1);
    ck_assert_int_eq(duo_tokens_find_domain(tokens, "text"), 0);
    ck_assert_uint_eq(duo_tokens_count(tokens, DUO_TRAIN, -1), 50);
    ck_assert_uint_eq(duo_tokens_bytes(tokens, DUO_TRAIN, -1), 0);
    ck_assert_double_eq_tol(duo_tokens_unigram_entropy(tokens), log(50), 1e-12);
    duo_tokens_close(tokens);
}
END_TEST

typedef struct flaw {
    uint64_t vocab_size, document, domain;
    uint32_t id;
    duo_type type;
    bool tokenizer;
    const char *part;
} flaw;

START_TEST(token_files_are_checked)
{
    static const flaw flaws[] = {
        {100, 2, 2, 99, DUO_U16, true, NULL}, /* none: the file below is good */
        {100, 2, 2, 100, DUO_U16, true, "/val/tokens: id 100 is not below the vocab_size of 100"},
        {100, 2, 2, 70000, DUO_U32, true, "/val/tokens: id 70000"},
        {0, 2, 2, 0, DUO_U16, true, "vocab_size is 0, outside"},
        {UINT64_MAX, 2, 2, 0, DUO_U16, true, "vocab_size is 18446744073709551615, outside"},
        {100, 9, 2, 99, DUO_U16, true, "/val/documents: offset 1"},
        {100, 2, 9, 99, DUO_U16, true, "/val/domains: offset 1"},
        {100, 2, 2, 99, DUO_I32, true, "/val/tokens is int32"},
        {100, 2, 2, 99, DUO_U16, false, "/tokenizer is missing"},
    };
    for (size_t i = 0; i < sizeof flaws / sizeof *flaws; i++) {
        const flaw *f = &flaws[i];
        const uint16_t good[4] = {1, 2, 3, 4};
        uint16_t narrow[4] = {1, 2, 3, (uint16_t)f->id};
        uint32_t wide[4] = {1, 2, 3, f->id};
        const uint64_t documents[2] = {0, f->document}, starts[2] = {0, f->domain},
                       sound[2] = {0, 2};
        duo_store_writer *writer = NULL;
        ok(duo_store_create(&writer, "t.h5", DUO_KIND_TOKENS));
        ok(duo_store_write(writer, "/train/tokens", DUO_U16, shape(1, 4, 0, 0, 0), good));
        ok(duo_store_write(writer, "/train/documents", DUO_U64, shape(1, 2, 0, 0, 0), sound));
        ok(duo_store_write(writer, "/train/domains", DUO_U64, shape(1, 2, 0, 0, 0), sound));
        ok(duo_store_write(writer, "/val/tokens", f->type, shape(1, 4, 0, 0, 0),
                           f->type == DUO_U16 ? (void *)narrow : (void *)wide));
        ok(duo_store_write(writer, "/val/documents", DUO_U64, shape(1, 2, 0, 0, 0), documents));
        ok(duo_store_write(writer, "/val/domains", DUO_U64, shape(1, 2, 0, 0, 0), starts));
        if (f->tokenizer)
            ok(duo_store_write(writer, "/tokenizer", DUO_U8, shape(1, 5, 0, 0, 0), bytes));
        ok(duo_store_set_u64(writer, "/", "vocab_size", f->vocab_size));
        ok(duo_store_set_text(writer, "/", "domains", "a,b"));
        ok(duo_store_commit(writer));
        duo_store_writer_free(writer);
        duo_tokens *tokens = NULL;
        if (f->part) {
            refused(duo_tokens_open(&tokens, "t.h5"), DUO_EDATA, f->part);
            ck_assert_ptr_null(tokens);
        } else {
            ok(duo_tokens_open(&tokens, "t.h5"));
            duo_tokens_close(tokens);
        }
    }
    duo_tokens *tokens = NULL;
    const uint64_t newer = 2;
    write_version("t.h5", 5000, NULL, 0, &newer);
    refused(duo_tokens_open(&tokens, "t.h5"), DUO_EINVAL, "t.h5: tokens of format 2");
    write_tokens("t.h5", 5000, NULL, 0);
    blob file = slurp("t.h5");
    file.data[file.size / 2 + BLOCK / 2] ^= 1;
    spill("t.h5", file.data, file.size);
    refused(duo_tokens_open(&tokens, "t.h5"), DUO_EDATA, "t.h5");
    free(file.data);
}
END_TEST

/* ---------------------------------------------------------------- sampler */

START_TEST(epochs_visit_every_window_once)
{
    enum { N = 1000, T = 10, WINDOWS = (N - T) / T, EPOCHS = 4 };
    duo_tokens *tokens = NULL;
    duo_sampler *sampler = NULL, *other = NULL;
    int32_t out[T + 1], again[T + 1], first[EPOCHS];
    write_tokens("t.h5", N, NULL, 0);
    ok(duo_tokens_open(&tokens, "t.h5"));
    ok(duo_sampler_create(&sampler, tokens, T, 3, NULL));
    ok(duo_sampler_create(&other, tokens, T, 4, NULL));
    size_t in_order = 0, as_other = 0, offsets = 0;
    for (size_t e = 0; e < EPOCHS; e++) {
        bool seen[WINDOWS] = {false};
        int32_t before = -1;
        for (size_t i = 0; i < WINDOWS; i++) {
            duo_sampler_sequence(sampler, e * WINDOWS + i, out);
            if (i == 0) first[e] = out[0] % T;
            ck_assert_int_eq(out[0] % T, first[e]); /* one grid an epoch */
            ck_assert_int_lt(out[T], N);
            for (int32_t t = 1; t <= T; t++) ck_assert_int_eq(out[t], out[0] + t);
            const size_t window = (size_t)(out[0] / T);
            ck_assert(!seen[window]);
            seen[window] = true;
            in_order += out[0] > before;
            before = out[0];
            duo_sampler_sequence(other, e * WINDOWS + i, again);
            as_other += again[0] / T == out[0] / T;
        }
        offsets += e > 0 && first[e] != first[0];
    }
    ck_assert_uint_lt(in_order, EPOCHS * WINDOWS * 3 / 4);
    ck_assert_uint_lt(as_other, EPOCHS * WINDOWS / 4);
    ck_assert_uint_gt(offsets, 0);

    duo_sampler_sequence(sampler, 123456789, out); /* asked for in any order */
    duo_sampler_sequence(sampler, 5, again);
    duo_sampler_sequence(sampler, 123456789, again);
    ck_assert_mem_eq(out, again, sizeof out);
    duo_sampler_free(sampler);
    duo_sampler_free(other);
    duo_tokens_close(tokens);
}
END_TEST

START_TEST(weights_hold_in_every_cycle)
{
    enum { N = 3000, SECOND = 1000, T = 7, CYCLE = 256, CYCLES = 20 };
    static const struct {
        double weight[2];
        size_t first; /* draws of the first domain in a cycle */
    } cases[] = {{{1, 1}, 128}, {{3, 1}, 192}, {{0.7, 0.3}, 179}, {{1, 0}, 256}, {{1e-9, 1}, 1}};
    duo_tokens *tokens = NULL;
    int32_t out[T + 1];
    write_tokens("t.h5", N, "a,b", SECOND);
    ok(duo_tokens_open(&tokens, "t.h5"));
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        duo_sampler *sampler = NULL;
        ok(duo_sampler_create(&sampler, tokens, T, 1, cases[c].weight));
        const size_t windows = (SECOND - T) / T;
        size_t visits[SECOND / T + 1] = {0}, draws = 0;
        for (size_t cycle = 0; cycle < CYCLES; cycle++) {
            size_t of_first = 0;
            for (size_t s = 0; s < CYCLE; s++) {
                duo_sampler_sequence(sampler, cycle * CYCLE + s, out);
                const bool is_first = out[0] < SECOND;
                ck_assert_int_eq(out[T] < SECOND, is_first); /* never across the border */
                of_first += is_first;
                if (is_first && draws++ / windows == 0) visits[out[0] / T]++;
            }
            ck_assert_uint_eq(of_first, cases[c].first);
        }
        /* The first epoch of a domain is whole before its second one begins. */
        if (draws >= windows)
            for (size_t w = 0; w < windows; w++) ck_assert_uint_eq(visits[w], 1);
        duo_sampler_free(sampler);
    }
    duo_tokens_close(tokens);
}
END_TEST

START_TEST(short_domains_are_refused_or_just_fit)
{
    const double only_first[] = {1, 0}, negative[] = {1, -1}, nothing[] = {0, 0},
                 not_a_number[] = {1, NAN};
    duo_tokens *tokens = NULL;
    duo_sampler *sampler = NULL;
    int32_t out[51];
    write_tokens("t.h5", 73, "long,short", 51);
    ok(duo_tokens_open(&tokens, "t.h5"));
    refused(duo_sampler_create(&sampler, tokens, 50, 1, NULL), DUO_EINVAL,
            "t.h5: domain short has 22 tokens to train on, a sequence needs 51");
    refused(duo_sampler_create(&sampler, tokens, 10, 1, negative), DUO_EINVAL, "short is -1");
    refused(duo_sampler_create(&sampler, tokens, 10, 1, not_a_number), DUO_EINVAL, "short is nan");
    refused(duo_sampler_create(&sampler, tokens, 10, 1, nothing), DUO_EINVAL, "sum to 0");
    refused(duo_sampler_create(&sampler, tokens, 0, 1, NULL), DUO_EINVAL, "0 tokens");
    ck_assert_ptr_null(sampler);
    ok(duo_sampler_create(&sampler, tokens, 50, 1, only_first));
    for (uint64_t k = 0; k < 300; k++) {
        duo_sampler_sequence(sampler, k, out);
        ck_assert_int_eq(out[0], 0);
        ck_assert_int_eq(out[50], 50);
    }
    duo_sampler_free(sampler);
    duo_tokens_close(tokens);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        windows_tile_the_domains,    files_of_other_tools_need_no_domains,
        token_files_are_checked,     epochs_visit_every_window_once,
        weights_hold_in_every_cycle, short_domains_are_refused_or_just_fit,
    };
    return run_suite("tokens", tests, sizeof tests / sizeof *tests);
}
