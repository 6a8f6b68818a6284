#include <math.h>

#include "duo/data.h"
#include "duo/rng.h"
#include "store_fixture.h"

/* ---------------------------------------------------------------- texts */

static const char *const vocabulary[] = {
    "the",    "river", "morning", "letter", "walked", "garden", "answer",
    "window", "quiet", "return",  "value",  "0x1F",   "if (x)", "\xC3\xA9t\xC3\xA9"};

static uint32_t draw(uint64_t i, uint32_t below)
{
    return duo_random(1, DUO_RNG_TEST, (duo_place){.step = i}).word[0] % below;
}

/* Sentences of the words above; each document has others. */
static void print_document(FILE *out, uint64_t document, size_t words, const char *line_end)
{
    const uint32_t n = sizeof vocabulary / sizeof *vocabulary;
    for (size_t w = 0; w < words; w++)
        fprintf(out, "%s%s", vocabulary[draw(document << 20 | w, n)], w % 9 == 8 ? line_end : " ");
    fprintf(out, "document %llu", (unsigned long long)document);
}

static void write_jsonl(const char *path, uint64_t first, size_t documents)
{
    FILE *out = fopen(path, "wb");
    ck_assert_ptr_nonnull(out);
    for (uint64_t d = first; d < first + documents; d++) {
        fputs("{\"source\": \"test\", \"text\": \"", out);
        print_document(out, d, 200, ".\\n\\n");
        fputs("\"}\n", out);
    }
    ck_assert_int_eq(fclose(out), 0);
}

static void write_text(const char *path, const char *text)
{
    spill(path, text, strlen(text));
}

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

/* One domain "text" of one file. */
static duo_status prepare_file(const char *path, size_t vocab_size)
{
    const duo_source_domain domain = {"text", &path, 1, NULL, 0};
    const duo_prepare prepare = {.output = "out.h5",
                                 .domains = &domain,
                                 .n_domains = 1,
                                 .vocab_size = vocab_size,
                                 .json_key = "text",
                                 .held_out_fraction = 0.2,
                                 .seed = 1};
    duo_prepare_summary summary;
    return duo_prepare_run(&prepare, &summary);
}

static duo_tokenizer *small_tokenizer(void)
{
    duo_tokenizer *tokenizer = NULL;
    write_jsonl("prose.jsonl", 0, 30);
    ok(prepare_file("prose.jsonl", 320));
    ok(duo_tokenizer_open(&tokenizer, "out.h5"));
    return tokenizer;
}

/* ---------------------------------------------------------------- tokenizer */

static size_t round_trip(const duo_tokenizer *tokenizer, const char *text, size_t size)
{
    int32_t *ids = NULL;
    char *again = NULL;
    size_t n = 0, got = 0, pieces = 0, marks = 0;
    ok(duo_tokenizer_encode(tokenizer, text, size, &ids, &n));
    for (size_t i = 0; i < n; i++) {
        marks += ids[i] < 3; /* and the unknown */
        pieces += duo_tokenizer_piece_bytes(tokenizer, ids[i]);
    }
    ok(duo_tokenizer_decode(tokenizer, ids, n, &again, &got));
    ck_assert_uint_eq(got, size);
    ck_assert_uint_eq(pieces, size);
    ck_assert_uint_eq(marks, 0);
    ck_assert_int_eq(memcmp(again, text, size), 0);
    ck_assert_int_eq(again[got], '\0');
    free(ids);
    free(again);
    return n;
}

START_TEST(any_text_comes_back)
{
    static const char *const texts[] = {
        "",
        " ",
        "\n",
        "\n\n\n",
        "\t\tx\t",
        "   three  two one ",
        "\r\n",
        " \n \n  \n",
        "\xF0\x9F\x98\x80 \xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x9A\x80",
        "\xE2\x96\x81",
        "a\xE2\x96\x81 \xE2\x96\x81\xE2\x96\x81y \xE2\x96\x81", /* U+2581 */
        "\xE2\x96\x85 \xE2\x96\x82",                            /* its neighbours */
        "\xEF\xBB\xBF\xEF\xBF\xBD\xEF\xBF\xBF", /* BOM, replacement, not a character */
        "<s> </s> <unk> <0x0A> <0xE2>",
        "\x01\x7F\xC2\x80",
        "\xF4\x8F\xBF\xBF",
        "e\xCC\x81 \xEF\xAC\x81 \xC2\xBD \xE3\x80\x80", /* what normalisation would change */
        "the river\n    return value\n\n\tif (x)  \n",
    };
    duo_tokenizer *tokenizer = small_tokenizer();
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        round_trip(tokenizer, texts[i], strlen(texts[i]));
    round_trip(tokenizer, "a\0b\0\0", 5);
    ck_assert_uint_eq(round_trip(tokenizer, "\n", 1), 1);
    ck_assert_uint_eq(round_trip(tokenizer, " river", 6), 1);

    char random[64 * 4];
    for (uint64_t t = 0; t < 300; t++) {
        size_t size = 0;
        for (uint64_t i = 0; i < 64; i++) {
            const uint32_t kind = draw(t << 8 | i, 8), c = draw(t << 8 | i | 1u << 30, 0x80);
            if (kind == 0) /* U+2580..U+259F, a character of three bytes */
                size += (size_t)snprintf(random + size, 5, "\xE2\x96%c", (int)(0x80 + c % 32));
            else if (kind < 4)
                random[size++] = ' ';
            else
                random[size++] = (char)c;
        }
        round_trip(tokenizer, random, size);
    }
    duo_tokenizer_free(tokenizer);
}
END_TEST

/* Texts are encoded in segments; where they are cut must not show. */
START_TEST(long_texts_are_the_sum_of_their_words)
{
    enum { REPEATS = 100000 };
    duo_tokenizer *tokenizer = small_tokenizer();
    static const char part[] = "the quiet  river\n ";
    const size_t each = round_trip(tokenizer, part, sizeof part - 1);
    const size_t room = REPEATS * (sizeof part - 1);
    char *text = malloc(room);
    for (size_t i = 0; i < room; i++) text[i] = part[i % (sizeof part - 1)];
    /* " the" at a seam is another word than "the" at the begin of the text and " " at its end */
    const size_t n = round_trip(tokenizer, text, room);
    ck_assert_uint_le(n, REPEATS * each);
    ck_assert_uint_ge(n + REPEATS, REPEATS * each);
    duo_tokenizer_free(tokenizer);
    free(text);
}
END_TEST

START_TEST(what_is_not_utf8_is_refused)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"ab\xFF", "byte 2"},
        {"\xC0\x80", "byte 0"},
        {"x\xED\xA0\x80", "byte 1"},
        {"12345678901\xE2\x82", "byte 11"},
        {"\xF4\x90\x80\x80", "byte 0"},
        {"\xE0\x9F\xBF", "byte 0"},
        {"\xC3\xA9\xC3\xA9\x80", "byte 4"},
        {"\xF0\x8F\xBF\xBF", "byte 0"},
    };
    duo_tokenizer *tokenizer = small_tokenizer();
    int32_t *ids = NULL;
    size_t n = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        refused(duo_tokenizer_encode(tokenizer, cases[i].text, strlen(cases[i].text), &ids, &n),
                DUO_EINVAL, cases[i].part);
        ck_assert_ptr_null(ids);
    }
    duo_tokenizer_free(tokenizer);
}
END_TEST

START_TEST(marks_and_pieces)
{
    duo_tokenizer *tokenizer = small_tokenizer();
    ck_assert_uint_eq(duo_tokenizer_vocab_size(tokenizer), 320);
    ck_assert_int_eq(duo_tokenizer_bos(tokenizer), 1);
    ck_assert_int_eq(duo_tokenizer_eos(tokenizer), 2);
    ck_assert_uint_eq(duo_tokenizer_piece_bytes(tokenizer, 1), 0);
    ck_assert_str_eq(duo_tokenizer_piece(tokenizer, 1), "<s>");
    ck_assert_str_eq(duo_tokenizer_piece(tokenizer, 3 + '\n'), "\n");
    ck_assert_str_eq(duo_tokenizer_piece(tokenizer, 3 + 0xE2), "<0xE2>");

    char *text = NULL;
    size_t size = 0;
    const int32_t marks[] = {1, 3 + 'a', 3 + 0xFF, 2}, outside[] = {5, 320}, below[] = {-1};
    ok(duo_tokenizer_decode(tokenizer, marks, 4, &text, &size));
    ck_assert_uint_eq(size, 2);
    ck_assert_str_eq(text, "a\xFF"); /* bytes as they are */
    free(text);
    refused(duo_tokenizer_decode(tokenizer, outside, 2, &text, &size), DUO_EINVAL, "id 320");
    refused(duo_tokenizer_decode(tokenizer, below, 1, &text, &size), DUO_EINVAL, "id -1");
    duo_tokenizer_free(tokenizer);
}
END_TEST

START_TEST(models_are_opened_wherever_they_are)
{
    duo_tokenizer *tokenizer = small_tokenizer(), *copy = NULL;
    size_t size = 0, copied = 0;
    const void *model = duo_tokenizer_model(tokenizer, &size);
    spill("own.model", model, size);
    ok(duo_tokenizer_open(&copy, "own.model"));
    ck_assert_mem_eq(duo_tokenizer_model(copy, &copied), model, size);
    ck_assert_uint_eq(copied, size);
    duo_tokenizer_free(copy);

    refused(duo_tokenizer_open(&copy, "none.model"), DUO_EIO, "none.model: cannot open");
    write_text("text.model", "the river");
    refused(duo_tokenizer_open(&copy, "text.model"), DUO_EDATA, "text.model: not a Sentence");
    write_text("empty.model", "");
    refused(duo_tokenizer_open(&copy, "empty.model"), DUO_EDATA, "empty.model: not a Sentence");
    refused(duo_tokenizer_create(&copy, model, size / 2, "half"), DUO_EDATA, "half: not a");
    write_small("weights.h5", 1.0f);
    refused(duo_tokenizer_open(&copy, "weights.h5"), DUO_EDATA, "/tokenizer is missing");
    ck_assert_ptr_null(copy);
    duo_tokenizer_free(tokenizer);
}
END_TEST

/* ---------------------------------------------------------------- preparing */

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
    blob second = slurp("out.h5");
    ck_assert_uint_eq(first.size, second.size);
    ck_assert_mem_eq(first.data, second.data, first.size);
    free(first.data);
    free(second.data);

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
        {0, 2, 2, 0, DUO_U16, true, "vocab_size is out of range"},
        {UINT64_MAX, 2, 2, 0, DUO_U16, true, "vocab_size is out of range"},
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
        any_text_comes_back,
        long_texts_are_the_sum_of_their_words,
        what_is_not_utf8_is_refused,
        marks_and_pieces,
        models_are_opened_wherever_they_are,
        documents_become_tokens,
        outputs_are_made_once,
        vocabularies_see_the_training_text_alone,
        a_single_document_is_cut_at_a_paragraph,
        bad_inputs_are_named,
        plain_text_is_read_in_chunks,
        json_strings_are_read_strictly,
        byte_order_marks_are_no_text,
        windows_tile_the_domains,
        files_of_other_tools_need_no_domains,
        token_files_are_checked,
        epochs_visit_every_window_once,
        weights_hold_in_every_cycle,
        short_domains_are_refused_or_just_fit,
    };
    return run_suite("data", tests, sizeof tests / sizeof *tests);
}
