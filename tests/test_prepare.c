#include <math.h>

#include "data_fixture.h"

static const char *const prose[] = {"prose.jsonl"}, *const code[] = {"code.jsonl"},
                         *const code_held[] = {"code_held.jsonl"};
static const duo_source_domain domains[] = {{"prose", prose, 1, NULL, 0},
                                            {"code", code, 1, code_held, 1}};

static duo_prepare two_domains(void)
{
    write_jsonl("prose.jsonl", 0, 30);
    write_jsonl("code.jsonl", 100, 20);
    write_jsonl("code_held.jsonl", 200, 3);
    return (duo_prepare){.output = "out.h5",
                         .domains = domains,
                         .n_domains = 2,
                         .vocab_size = 320,
                         .json_key = "text",
                         .held_out_fraction = 0.2,
                         .seed = 1};
}

START_TEST(documents_become_tokens)
{
    duo_prepare prepare = two_domains();
    duo_prepare_summary summary;
    duo_tokens *tokens = NULL;
    duo_tokenizer *tokenizer = NULL;
    ok(duo_prepare_run(&prepare, &summary));
    ok(duo_tokens_open(&tokens, "out.h5"));
    ok(duo_tokenizer_open(&tokenizer, "out.h5"));

    ck_assert(!summary.up_to_date);
    ck_assert_uint_eq(summary.documents[DUO_TRAIN] + summary.documents[DUO_HELD_OUT], 53);
    ck_assert_uint_eq(duo_tokens_documents(tokens, DUO_TRAIN, 1), 20);
    ck_assert_uint_eq(duo_tokens_documents(tokens, DUO_HELD_OUT, 1), 3);
    ck_assert_uint_ge(duo_tokens_documents(tokens, DUO_HELD_OUT, 0), 1);
    ck_assert_uint_eq(duo_tokens_domains(tokens), 2);
    ck_assert_str_eq(duo_tokens_domain_name(tokens, 1), "code");
    ck_assert_int_eq(duo_tokens_find_domain(tokens, "prose"), 0);
    ck_assert_int_eq(duo_tokens_find_domain(tokens, "verse"), -1);
    ck_assert_uint_eq(summary.tokens[DUO_TRAIN], duo_tokens_count(tokens, DUO_TRAIN, 0) +
                                                     duo_tokens_count(tokens, DUO_TRAIN, 1));
    ck_assert_double_eq_tol(summary.unigram_entropy, duo_tokens_unigram_entropy(tokens), 1e-12);
    ck_assert(summary.unigram_entropy > 1.0 && summary.unigram_entropy < log(320));

    /* The held-out code, from the tokens back to the text that was written. */
    size_t n = duo_tokens_count(tokens, DUO_HELD_OUT, 1), size = 0, wanted = 0;
    int32_t *ids = calloc(n, sizeof *ids);
    char *text = NULL, *expected = NULL;
    duo_tokens_window(tokens, DUO_HELD_OUT, 1, n - 1, 0, ids);
    ck_assert_int_eq(ids[0], 1);
    ck_assert_int_eq(ids[n - 1], 2);
    ok(duo_tokenizer_decode(tokenizer, ids, n, &text, &size));
    FILE *out = open_memstream(&expected, &wanted);
    for (uint64_t d = 200; d < 203; d++) print_document(out, d, 200, ".\n\n");
    fclose(out);
    ck_assert_str_eq(text, expected);
    ck_assert_uint_eq(duo_tokens_bytes(tokens, DUO_HELD_OUT, 1), wanted);
    ck_assert_uint_eq(files_here(), 4);
    free(ids);
    free(text);
    free(expected);
    duo_tokenizer_free(tokenizer);
    duo_tokens_close(tokens);
}
END_TEST

/* Files of other content, so that only their documents are the same. */
START_TEST(copies_of_documents_are_left_out)
{
    static const char *const twice[] = {"prose.jsonl", "again.jsonl"},
                             *const leaking[] = {"code.jsonl", "leak.jsonl"},
                             *const all_held[] = {"leak.jsonl"};
    static const duo_source_domain repeated[] = {{"prose", twice, 2, NULL, 0},
                                                 {"code", leaking, 2, code_held, 1}};
    static const duo_source_domain nothing[] = {{"code", all_held, 1, code_held, 1}};
    duo_prepare prepare = two_domains();
    duo_prepare_summary once, summary;
    ok(duo_prepare_run(&prepare, &once));
    write_jsonl("again.jsonl", 0, 10);
    write_jsonl("leak.jsonl", 201, 1);
    prepare.output = "copies.h5";
    prepare.domains = repeated;
    ok(duo_prepare_run(&prepare, &summary));
    for (duo_split split = DUO_TRAIN; split <= DUO_HELD_OUT; split++) {
        ck_assert_uint_eq(summary.documents[split], once.documents[split]);
        ck_assert_uint_eq(summary.tokens[split], once.tokens[split]);
    }
    prepare.output = "nothing.h5";
    prepare.domains = nothing;
    prepare.n_domains = 1;
    refused(duo_prepare_run(&prepare, &summary), DUO_EINVAL,
            "domain code: nothing is left to train on: the rest are copies");
    static const duo_source_domain swallowed[] = {{"prose", prose, 1, NULL, 0},
                                                  {"again", twice + 1, 1, code_held, 1}},
                                   held_twice[] = {{"prose", prose, 1, all_held, 1},
                                                   {"code", code, 1, all_held, 1}};
    prepare.n_domains = 2;
    prepare.domains = swallowed;
    refused(duo_prepare_run(&prepare, &summary), DUO_EINVAL,
            "domain again: nothing is left to train on");
    prepare.domains = held_twice;
    refused(duo_prepare_run(&prepare, &summary), DUO_EINVAL,
            "domain code: nothing is left to hold out");
}
END_TEST

START_TEST(outputs_are_made_once)
{
    duo_prepare prepare = two_domains(), other = prepare;
    duo_prepare_summary summary, again;
    ok(duo_prepare_run(&prepare, &summary));
    blob first = slurp("out.h5");
    ok(duo_prepare_run(&prepare, &again));
    ck_assert(again.up_to_date);
    ck_assert_uint_eq(again.tokens[DUO_TRAIN], summary.tokens[DUO_TRAIN]);

    other.seed = 2;
    refused(duo_prepare_run(&other, &again), DUO_EINVAL, "out.h5: exists and was made with other");
    ck_assert(again.in_the_way);
    prepare.force = true;
    ok(duo_prepare_run(&prepare, &again)); /* the same bytes again */
    file_is("out.h5", first);
    free(first.data);

    prepare.force = false;
    write_jsonl("code.jsonl", 101, 20);
    refused(duo_prepare_run(&prepare, &again), DUO_EINVAL,
            "out.h5: exists and was made from other");
    prepare.force = true;
    ok(duo_prepare_run(&prepare, &again));
    spill("out.h5", "something else", 14);
    prepare.force = false;
    refused(duo_prepare_run(&prepare, &again), DUO_EDATA, "out.h5");
    prepare.output = "code.jsonl";
    prepare.force = true;
    refused(duo_prepare_run(&prepare, &again), DUO_EINVAL, "code.jsonl: is input and output");
}
END_TEST

START_TEST(vocabularies_see_the_training_text_alone)
{
    duo_prepare prepare = two_domains();
    duo_prepare_summary summary;
    duo_tokenizer *tokenizer = NULL;
    FILE *out = fopen("code_held.jsonl", "wb");
    fputs("{\"text\": \"", out);
    for (size_t i = 0; i < 2000; i++) fputs("zyzzyva ", out);
    fputs("\"}", out);
    fclose(out);
    ok(duo_prepare_run(&prepare, &summary));
    ok(duo_tokenizer_open(&tokenizer, "out.h5"));
    for (int32_t id = 0; id < 320; id++)
        ck_assert_ptr_null(strstr(duo_tokenizer_piece(tokenizer, id), "zz"));

    /* A tokenizer that is given is taken as it is. */
    prepare.tokenizer = "out.h5";
    prepare.output = "again.h5";
    ok(duo_prepare_run(&prepare, &summary));
    duo_tokens *tokens = NULL;
    size_t size = 0, taken = 0;
    ok(duo_tokens_open(&tokens, "again.h5"));
    const void *model = duo_tokenizer_model(tokenizer, &size);
    ck_assert_mem_eq(duo_tokens_tokenizer(tokens, &taken), model, size);
    ck_assert_uint_eq(taken, size);
    duo_tokens_close(tokens);
    duo_tokenizer_free(tokenizer);
}
END_TEST

START_TEST(a_single_document_is_cut_at_a_paragraph)
{
    FILE *out = fopen("book.txt", "wb");
    print_document(out, 7, 900, ".\n\n");
    fclose(out);
    ok(prepare_file("book.txt", 320));
    duo_tokens *tokens = NULL;
    ok(duo_tokens_open(&tokens, "out.h5"));
    ck_assert_uint_eq(duo_tokens_documents(tokens, DUO_TRAIN, -1), 1);
    ck_assert_uint_eq(duo_tokens_documents(tokens, DUO_HELD_OUT, -1), 1);
    const double held = (double)duo_tokens_bytes(tokens, DUO_HELD_OUT, 0),
                 all = held + (double)duo_tokens_bytes(tokens, DUO_TRAIN, 0);
    ck_assert_double_eq_tol(held / all, 0.2, 0.03);
    const size_t n = duo_tokens_count(tokens, DUO_TRAIN, 0);
    int32_t *ids = calloc(n, sizeof *ids);
    duo_tokens_window(tokens, DUO_TRAIN, 0, n - 1, 0, ids);
    ck_assert_int_eq(ids[n - 2], 3 + '\n');
    ck_assert_int_eq(ids[n - 3], 3 + '\n');
    free(ids);
    duo_tokens_close(tokens);
}
END_TEST

START_TEST(bad_inputs_are_named)
{
    static const struct {
        const char *path, *content, *part;
        duo_status status;
    } cases[] = {
        {"none.txt", NULL, "none.txt: cannot open", DUO_EIO},
        {".", NULL, ".: cannot read", DUO_EIO},
        {"empty.txt", "", "empty.txt: empty", DUO_EINVAL},
        {"empty.jsonl", "", "empty.jsonl: empty", DUO_EINVAL},
        {"blank.jsonl", "\n\n", "blank.jsonl: holds no document", DUO_EINVAL},
        {"latin.txt", "caf\xE9 noir", "latin.txt: byte 3: not UTF-8", DUO_EINVAL},
        {"cut.txt", "caf\xC3", "cut.txt: byte 3: not UTF-8", DUO_EINVAL},
        {"latin.jsonl", "{\"text\":\"a\"}\n{\"text\":\"\xE9\"}", "latin.jsonl: byte 22: not UTF-8",
         DUO_EINVAL},
        {"bad.jsonl", "{\"text\":\"a\"}\n{\"text\":", "bad.jsonl:2: not JSON", DUO_EINVAL},
        {"tail.jsonl", "{\"text\":\"a\"} x\n", "tail.jsonl:1: not JSON", DUO_EINVAL},
        {"twice.jsonl", "{\"text\":\"a\",\"text\":\"b\"}", "twice.jsonl:1: not JSON", DUO_EINVAL},
        {"half.jsonl", "{\"text\":\"\\ud800\"}", "half.jsonl:1: not JSON", DUO_EINVAL},
        {"list.jsonl", "[1]\n", "list.jsonl:1: not a JSON object", DUO_EINVAL},
        {"key.jsonl", "\n{\"body\":\"a\"}\n", "key.jsonl:2: no key \"text\"", DUO_EINVAL},
        {"number.jsonl", "{\"text\":1}\n", "number.jsonl:1: \"text\" is not a string", DUO_EINVAL},
        {"void.jsonl", "{\"text\":\"\"}\n", "void.jsonl: holds no document", DUO_EINVAL},
        {"short.txt", "a", "too little text", DUO_EINVAL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (cases[i].content) write_text(cases[i].path, cases[i].content);
        refused(prepare_file(cases[i].path, 300), cases[i].status, cases[i].part);
    }
    write_jsonl("good.jsonl", 0, 30);
    refused(prepare_file("good.jsonl", 100000), DUO_EINVAL, "100000 is too large");
    refused(prepare_file("good.jsonl", 260), DUO_EINVAL, "260 is too small");
    refused(prepare_file("good.jsonl", 2), DUO_EINVAL, "2 is too small: marks, bytes and");

    const char *const same[] = {"good.jsonl"};
    const duo_source_domain leak = {"text", same, 1, same, 1};
    duo_prepare prepare = {.output = "out.h5", .domains = &leak, .n_domains = 1, .vocab_size = 300};
    duo_prepare_summary summary;
    prepare.json_key = "text";
    refused(duo_prepare_run(&prepare, &summary), DUO_EINVAL, "good.jsonl: held out, but");
    prepare.output = "no/folder/out.h5";
    refused(duo_prepare_run(&prepare, &summary), DUO_EIO, "no/folder/out.h5");
    const duo_source_domain named = {"a,b", same, 1, NULL, 0};
    prepare.domains = &named;
    refused(duo_prepare_run(&prepare, &summary), DUO_EINVAL, "domain 'a,b'");
    ck_assert_int_ne(access("out.h5", F_OK), 0);
    ck_assert_int_eq(system("ls | grep -q 'out.h5'"), 256); /* nor anything beside it */
}
END_TEST

/* Two chunks of the reader, with a character of four bytes across their border. */
START_TEST(plain_text_is_read_in_chunks)
{
    enum { CHUNK = 1 << 20 };
    char *text = malloc(2 * CHUNK);
    for (size_t i = 0; i < 2 * CHUNK; i++) text[i] = "the river\n"[i % 10];
    memcpy(text + CHUNK - 2, "\xF0\x9F\x98\x80", 4);
    spill("long.txt", text, 2 * CHUNK);
    ok(prepare_file("long.txt", 275));
    text[CHUNK + 1] = 'x';
    spill("long.txt", text, 2 * CHUNK);
    refused(prepare_file("long.txt", 275), DUO_EINVAL, "long.txt: byte 1048574: not UTF-8");
    free(text);
}
END_TEST

START_TEST(json_strings_are_read_strictly)
{
    write_jsonl("good.jsonl", 0, 20);
    FILE *out = fopen("good.jsonl", "ab");
    for (size_t i = 0; i < 4; i++)
        fputs("{\"n\": 123456789012345678901234567890, \"text\": "
              "\"\\u00e9\\ud83d\\ude00\\n\\t\\\"\\\\\\u0000end\"}\n\n",
              out);
    fclose(out);
    ok(prepare_file("good.jsonl", 300));
}
END_TEST

/* With a byte order mark and without, a text is the same tokens. */
START_TEST(byte_order_marks_are_no_text)
{
    static const char *const endings[] = {"txt", "jsonl"};
    for (size_t e = 0; e < 2; e++) {
        char names[2][16], line[400];
        duo_tokens *tokens[2] = {NULL, NULL};
        for (size_t m = 0; m < 2; m++) {
            snprintf(names[m], sizeof names[m], "%zu.%s", m, endings[e]);
            FILE *out = fopen(names[m], "wb");
            ck_assert_ptr_nonnull(out);
            if (m == 1) fputs("\xEF\xBB\xBF", out);
            for (size_t i = 0; i < 20; i++) {
                snprintf(line, sizeof line, "the river and the sea, %zu times the stone", i);
                fprintf(out, e ? "{\"text\": \"%s\"}\n" : "%s\n", line);
            }
            ck_assert_int_eq(fclose(out), 0);
            ok(prepare_file(names[m], 290));
            ok(duo_tokens_open(&tokens[m], "out.h5"));
            ck_assert_int_eq(remove("out.h5"), 0);
        }
        for (duo_split s = DUO_TRAIN; s <= DUO_HELD_OUT; s++) {
            const size_t n = duo_tokens_count(tokens[0], s, -1);
            ck_assert_uint_eq(n, duo_tokens_count(tokens[1], s, -1));
            ck_assert_uint_eq(duo_tokens_bytes(tokens[0], s, -1),
                              duo_tokens_bytes(tokens[1], s, -1));
            int32_t *a = calloc(n, sizeof *a), *b = calloc(n, sizeof *b);
            duo_tokens_window(tokens[0], s, -1, n - 1, 0, a);
            duo_tokens_window(tokens[1], s, -1, n - 1, 0, b);
            ck_assert_int_eq(memcmp(a, b, n * sizeof *a), 0);
            free(a);
            free(b);
        }
        for (size_t m = 0; m < 2; m++) duo_tokens_close(tokens[m]);
    }
    spill("mark.txt", "\xEF\xBB\xBF", 3);
    refused(prepare_file("mark.txt", 290), DUO_EINVAL, "mark.txt: holds no document");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        documents_become_tokens,
        copies_of_documents_are_left_out,
        outputs_are_made_once,
        vocabularies_see_the_training_text_alone,
        a_single_document_is_cut_at_a_paragraph,
        bad_inputs_are_named,
        plain_text_is_read_in_chunks,
        json_strings_are_read_strictly,
        byte_order_marks_are_no_text,
    };
    return run_suite("prepare", tests, sizeof tests / sizeof *tests);
}
