#include "data_fixture.h"

static duo_tokenizer *small_tokenizer(void)
{
    duo_tokenizer *tokenizer = NULL;
    write_jsonl("prose.jsonl", 0, 30);
    ok(prepare_file("prose.jsonl", 320));
    ok(duo_tokenizer_open(&tokenizer, "out.h5"));
    return tokenizer;
}

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

    refused(duo_tokenizer_open(&copy, "none.model"), DUO_EIO, "none.model: No such file");
    write_text("text.model", "the river");
    refused(duo_tokenizer_open(&copy, "text.model"), DUO_EDATA, "text.model: not a Sentence");
    write_text("empty.model", "");
    refused(duo_tokenizer_open(&copy, "empty.model"), DUO_EDATA, "empty.model: not a Sentence");
    refused(duo_tokenizer_create(&copy, model, size / 2, "half"), DUO_EDATA, "half: not a");
    const size_t pieces = duo_tokenizer_vocab_size(tokenizer);
    ok(duo_tokenizer_check_for(model, size, pieces, "whole"));
    refused(duo_tokenizer_check_for(model, size, pieces + 1, "whole"), DUO_EDATA,
            "whole: /tokenizer has");
    ok(duo_tokenizer_check_for("?", 1, 7, "ids without text"));
    refused(duo_tokenizer_check_for("?!", 2, 7, "two"), DUO_EDATA, "two: not a");
    write_small("weights.h5", 1.0f);
    refused(duo_tokenizer_open(&copy, "weights.h5"), DUO_EDATA, "/tokenizer is missing");
    ck_assert_ptr_null(copy);
    duo_tokenizer_free(tokenizer);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        any_text_comes_back, long_texts_are_the_sum_of_their_words, what_is_not_utf8_is_refused,
        marks_and_pieces,    models_are_opened_wherever_they_are,
    };
    return run_suite("tokenizer", tests, sizeof tests / sizeof *tests);
}
