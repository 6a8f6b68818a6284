#include <math.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check_fixture.h"
#include "duo/arena.h"
#include "duo/config.h"
#include "duo/file.h"
#include "duo/json.h"
#include "duo/number.h"
#include "duo/rng.h"
#include "duo/status.h"
#include "duo/utf8.h"

/* ---------------------------------------------------------------- status */

START_TEST(message_is_kept_on_one_line)
{
    refused_as(duo_fail(DUO_EDATA, "%s: line\nbreak", "a.h5"), DUO_EDATA, "a.h5: line?break");
}
END_TEST

START_TEST(message_may_quote_the_one_before)
{
    duo_fail(DUO_EIO, "disk full");
    refused_as(duo_fail(DUO_EIO, "a.h5: %s", duo_message()), DUO_EIO, "a.h5: disk full");
}
END_TEST

START_TEST(long_message_is_cut)
{
    char *text = malloc(100000);
    ck_assert_ptr_nonnull(text);
    memset(text, 'x', 99999);
    text[99999] = '\0';
    duo_fail(DUO_EINVAL, "%s", text);
    ck_assert_uint_ge(strlen(duo_message()), 500);
    ck_assert_uint_lt(strlen(duo_message()), 99999);
    free(text);
}
END_TEST

/* ---------------------------------------------------------------- arena */

typedef struct layout {
    float *a;
    char *b;
    double *c;
} layout;

static layout lay_out(duo_arena *arena)
{
    return (layout){.a = DUO_TAKE(arena, float, 1001),
                    .b = DUO_TAKE(arena, char, 1),
                    .c = DUO_TAKE(arena, double, 77)};
}

START_TEST(arena_fits_what_was_measured)
{
    duo_arena measure = DUO_ARENA_MEASURE, arena;
    layout l = lay_out(&measure);
    ck_assert_ptr_null(l.a);
    ok(duo_arena_create(&arena, measure.used, "test"));
    l = lay_out(&arena);
    ck_assert_uint_eq(arena.used, measure.used);
    ck_assert_uint_eq((uintptr_t)l.a % DUO_ALIGN, 0);
    ck_assert_uint_eq((uintptr_t)l.b % DUO_ALIGN, 0);
    ck_assert_uint_eq((uintptr_t)l.c % DUO_ALIGN, 0);
    ck_assert((uintptr_t)l.b >= (uintptr_t)(l.a + 1001));
    for (size_t i = 0; i < 77; i++) ck_assert_double_eq(l.c[i], 0);
    duo_arena_free(&arena);
    duo_arena_free(&arena); /* harmless */
}
END_TEST

START_TEST(rewinding_gives_the_same_place_again)
{
    duo_arena arena;
    ok(duo_arena_create(&arena, 1 << 16, "test"));
    DUO_TAKE(&arena, int, 5);
    const size_t mark = arena.used;
    int *first = DUO_TAKE(&arena, int, 100);
    first[99] = 7;
    duo_arena_rewind(&arena, mark);
    int *second = DUO_TAKE(&arena, int, 100);
    ck_assert_ptr_eq(first, second);
    second[0] = 1;
    ck_assert_ptr_null(DUO_TAKE(&arena, int, 0));
    duo_arena_free(&arena);
}
END_TEST

START_TEST(sizes_that_overflow_while_measuring_are_refused)
{
    const size_t counts[][2] = {{SIZE_MAX / 2, 1}, {SIZE_MAX / 16, SIZE_MAX / 16}};
    for (size_t i = 0; i < 2; i++) {
        duo_arena measure = DUO_ARENA_MEASURE, arena;
        for (size_t k = 0; k < 2; k++) DUO_TAKE(&measure, double, counts[i][k]);
        DUO_TAKE(&measure, double, 3);
        refused_as(duo_arena_create(&arena, measure.used, "layout"), DUO_ENOMEM,
                   "layout: size overflows");
    }
}
END_TEST

START_TEST(impossible_size_is_refused)
{
    duo_arena arena;
    ck_assert_int_eq(duo_arena_create(&arena, SIZE_MAX, "activations"), DUO_ENOMEM);
    refused(duo_arena_create(&arena, (size_t)1 << 60, "activations"), DUO_ENOMEM, "activations");
    size_t product = 0;
    ck_assert(!duo_multiply(&product, SIZE_MAX / 2, 3));
    ck_assert(duo_multiply(&product, 1 << 20, 1 << 20));
    ck_assert_uint_eq(product, (size_t)1 << 40);
}
END_TEST

/* ---------------------------------------------------------------- random numbers */

/* The seed that turns into this Philox key. */
static uint64_t seed_for(uint32_t key0, uint32_t key1)
{
    const uint64_t key = (uint64_t)key1 << 32 | key0;
    return key ^ (uint64_t)DUO_RNG_TEST * UINT64_C(0x9E3779B97F4A7C15);
}

/* The place that turns into this Philox counter. */
static duo_place place_for(const uint32_t counter[4])
{
    return (duo_place){.position = counter[0],
                       .row = counter[1],
                       .step = counter[2] | (uint64_t)(counter[3] >> 16) << 32,
                       .layer = counter[3] & 0xffff};
}

/* Known answers that the authors of Philox published with their Random123 library. */
START_TEST(philox_gives_the_published_numbers)
{
    const struct {
        uint32_t counter[4], key[2], want[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const duo_random4 got = duo_random(seed_for(known[i].key[0], known[i].key[1]), DUO_RNG_TEST,
                                           place_for(known[i].counter));
        ck_assert_mem_eq(got.word, known[i].want, sizeof got.word);
    }
}
END_TEST

START_TEST(every_coordinate_counts)
{
    const duo_place base = {.step = 5, .row = 6, .position = 7, .layer = 8};
    duo_place places[5] = {base, base, base, base, base};
    places[1].step += UINT64_C(1) << 40;
    places[2].row++;
    places[3].position++;
    places[4].layer++;
    for (size_t i = 0; i < 5; i++)
        for (size_t j = 0; j < i; j++)
            ck_assert_uint_ne(duo_random(1, DUO_RNG_TEST, places[i]).word[0],
                              duo_random(1, DUO_RNG_TEST, places[j]).word[0]);
    ck_assert_uint_ne(duo_random(1, DUO_RNG_TEST, base).word[0],
                      duo_random(2, DUO_RNG_TEST, base).word[0]);
    ck_assert_uint_ne(duo_random(1, DUO_RNG_TEST, base).word[0],
                      duo_random(1, DUO_RNG_ROUTE, base).word[0]);
}
END_TEST

START_TEST(uniform_stays_inside_and_its_logarithms_are_finite)
{
    const uint32_t words[] = {0, 1, 0x80000000u, 0xfffffffeu, 0xffffffffu};
    for (size_t i = 0; i < 5; i++) {
        const double u = duo_uniform(words[i]);
        ck_assert(u > 0 && u < 1);
        ck_assert(isfinite(duo_gumbel(words[i])));
        for (size_t j = 0; j < 5; j++) ck_assert(isfinite(duo_normal(words[i], words[j])));
    }
}
END_TEST

/* Mean and variance of n = 200,000 draws, to 5 standard errors: sqrt(v / n) and, for the variance,
 * v * sqrt((kurtosis - 1) / n), with kurtosis 1.8 (uniform), 3 (normal) and 5.4 (Gumbel). */
START_TEST(moments_are_those_of_the_distributions)
{
    enum { N = 200000 };
    const double pi = 3.14159265358979, euler = 0.5772156649;
    const struct {
        double mean, variance, kurtosis;
    } want[3] = {{0.5, 1.0 / 12, 1.8}, {0, 1, 3}, {euler, pi * pi / 6, 5.4}};
    double sum[3] = {0}, squares[3] = {0};
    for (uint32_t i = 0; i < N; i++) {
        const duo_random4 r = duo_random(3, DUO_RNG_TEST, (duo_place){.position = i});
        const double x[3] = {duo_uniform(r.word[0]), duo_normal(r.word[1], r.word[2]),
                             duo_gumbel(r.word[3])};
        for (size_t k = 0; k < 3; k++) {
            sum[k] += x[k];
            squares[k] += x[k] * x[k];
        }
    }
    for (size_t k = 0; k < 3; k++) {
        const double mean = sum[k] / N, variance = squares[k] / N - mean * mean;
        ck_assert_double_eq_tol(mean, want[k].mean, 5 * sqrt(want[k].variance / N));
        ck_assert_double_eq_tol(variance, want[k].variance,
                                5 * want[k].variance * sqrt((want[k].kurtosis - 1) / N));
    }
}
END_TEST

START_TEST(permutation_hits_every_number_once)
{
    const uint64_t sizes[] = {1, 2, 3, 4, 5, 16, 17, 100, 1000, 4096, 65537};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const uint64_t n = sizes[s];
        char *seen = calloc(n, 1);
        ck_assert_ptr_nonnull(seen);
        for (uint64_t i = 0; i < n; i++) {
            const uint64_t image = duo_permute(9, DUO_RNG_TEST, 1, n, i);
            ck_assert_uint_lt(image, n);
            ck_assert_int_eq(seen[image], 0);
            seen[image] = 1;
        }
        free(seen);
    }
}
END_TEST

START_TEST(permutations_of_epochs_differ)
{
    size_t same = 0;
    for (uint64_t i = 0; i < 1000; i++)
        same +=
            duo_permute(9, DUO_RNG_TEST, 1, 1000, i) == duo_permute(9, DUO_RNG_TEST, 2, 1000, i);
    ck_assert_uint_lt(same, 10); /* one is expected */
    const uint64_t huge = (UINT64_C(1) << 62) - 1;
    ck_assert_uint_lt(duo_permute(9, DUO_RNG_TEST, 0, huge, huge - 1), huge);
}
END_TEST

/* ---------------------------------------------------------------- modules, numbers */

START_TEST(module_sets_are_read_and_written)
{
    char text[16];
    duo_module_set set = 0;
    ck_assert(duo_module_set_parse(&set, "big,skip,small"));
    ck_assert_str_eq(duo_module_set_text(text, set), "skip,small,big");
    ck_assert_uint_eq(duo_module_count(set), 3);
    const char *const wrong[] = {"", "large", "big,", ",big", "big,big", "big small", "bi"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert(!duo_module_set_parse(&set, wrong[i]));
}
END_TEST

START_TEST(numbers_are_the_whole_text)
{
    uint64_t whole = 0;
    double real = 0;
    ck_assert_int_eq(duo_number_u64(&whole, "18446744073709551615"), DUO_NUMBER_OK);
    ck_assert_uint_eq(whole, UINT64_MAX);
    ck_assert_int_eq(duo_number_u64(&whole, "18446744073709551616"), DUO_NUMBER_RANGE);
    ck_assert_int_eq(duo_number_u64(&whole, "-1"), DUO_NUMBER_RANGE);
    ck_assert_int_eq(duo_number_real(&real, "-1.5e-3"), DUO_NUMBER_OK);
    ck_assert_double_eq(real, -1.5e-3);
    ck_assert_int_eq(duo_number_real(&real, "-0"), DUO_NUMBER_OK);
    ck_assert(!signbit(real));
    ck_assert_int_eq(duo_number_real(&real, "1e400"), DUO_NUMBER_RANGE);
    const char *const wrong[] = {"", " 1", "1 ", "0x10", "nan", "inf", "1e", "1.5.2", "--1", "+"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ck_assert_int_eq(duo_number_u64(&whole, wrong[i]), DUO_NUMBER_MALFORMED);
        ck_assert_int_eq(duo_number_real(&real, wrong[i]), DUO_NUMBER_MALFORMED);
    }
}
END_TEST

START_TEST(json_is_read_value_by_value)
{
    const char *text = "{\"a\": [1, 2.5]}\n[true] x";
    json_error_t error;
    json_t *value = NULL;
    ok(duo_json_parse(&value, text, strlen(text), JSON_DISABLE_EOF_CHECK, &error));
    ck_assert_int_eq(error.position, 15);
    ck_assert_double_eq(json_real_value(json_array_get(json_object_get(value, "a"), 1)), 2.5);
    json_decref(value);
    ck_assert_int_eq(duo_json_parse(&value, text, strlen(text), 0, &error), DUO_EINVAL);
    ck_assert_ptr_null(value);
    ck_assert_ptr_nonnull(strstr(duo_message(), "not JSON: "));
    ck_assert_ptr_nonnull(strstr(duo_message(), "at byte 17"));
    json_t *other = json_pack("[s]", "what the library allocates is free's again");
    json_decref(other);
}
END_TEST

/* Of RFC 3629: the first and last characters of each length, and what stands beside them. */
START_TEST(utf8_is_what_the_standard_says)
{
    static const struct {
        const char *text;
        uint32_t character; /* 0: malformed or cut off */
        bool begins;
    } cases[] = {
        {"\x7F", 0x7F, true},
        {"\x80", 0, false},
        {"\xC1\xBF", 0, false},
        {"\xC2\x80", 0x80, true},
        {"\xDF\xBF", 0x7FF, true},
        {"\xC3", 0, true},
        {"\xC3\x28", 0, false},
        {"\xE0\x9F\xBF", 0, false},
        {"\xE0\xA0\x80", 0x800, true},
        {"\xE0\xA0", 0, true},
        {"\xED\x9F\xBF", 0xD7FF, true},
        {"\xED\xA0\x80", 0, false},
        {"\xEF\xBF\xBF", 0xFFFF, true},
        {"\xF0\x8F\xBF\xBF", 0, false},
        {"\xF0\x90\x80\x80", 0x10000, true},
        {"\xF4\x8F\xBF\xBF", 0x10FFFF, true},
        {"\xF4\x90\x80\x80", 0, false},
        {"\xF5\x80\x80\x80", 0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t bytes = strlen(cases[i].text);
        const bool whole = cases[i].character != 0;
        uint32_t character = 0;
        ck_assert_uint_eq(duo_utf8_at(cases[i].text, bytes, &character), whole ? bytes : 0);
        ck_assert_uint_eq(character, cases[i].character);
        ck_assert_int_eq(duo_utf8_begins(cases[i].text, bytes), cases[i].begins);
        ck_assert_int_eq(duo_utf8_ok(cases[i].text), whole);
    }
    ck_assert_uint_eq(duo_utf8_prefix("twelve ASCII\xC3\xA9\xFF", 15), 14);
    ck_assert_uint_eq(duo_utf8_prefix("a\0b", 3), 3);
}
END_TEST

START_TEST(what_is_no_utf8_is_mended)
{
    char text[32];
    duo_utf8_mend(text, sizeof text, "a\xFF\xC3\xA9\xE2\x82");
    ck_assert_str_eq(text, "a\uFFFD\u00E9\uFFFD\uFFFD");
    duo_utf8_mend(text, 4, "ab\xC3\xA9");
    ck_assert_str_eq(text, "ab");
    duo_utf8_mend(text, 5, "ab\xC3\xA9");
    ck_assert_str_eq(text, "ab\u00E9");
    json_t *string = duo_json_string("\xFF/a.h5");
    ck_assert_str_eq(json_string_value(string), "\uFFFD/a.h5");
    json_decref(string);
}
END_TEST

START_TEST(any_bytes_are_written_as_json)
{
    static const char any[] = "a\"\\\n\x7F<\xC3\xA9\xFF\xE2\x80\xA8";
    char *text = NULL;
    size_t bytes = 0;
    json_error_t error;
    json_t *value = NULL;
    FILE *out = open_memstream(&text, &bytes);
    ck_assert_ptr_nonnull(out);
    duo_json_text(out, any, sizeof any - 1);
    fclose(out);
    ck_assert_str_eq(text, "\"a\\\"\\\\\\u000a\\u007f\\u003c\xC3\xA9\\ufffd\\u2028\"");
    ck_assert_int_eq(duo_json_parse(&value, text, bytes, JSON_DECODE_ANY, &error), DUO_OK);
    ck_assert_str_eq(json_string_value(value), "a\"\\\n\x7F<\u00E9\uFFFD\u2028");
    json_decref(value);
    free(text);
}
END_TEST

/* What a parser that gives up has to give back is a matter of its length, not of its square. */
START_TEST(long_json_that_breaks_off_is_refused_soon)
{
    enum { ELEMENTS = 300000 };
    char *text = malloc(2 * ELEMENTS + 2);
    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < ELEMENTS; i++) memcpy(text + 2 * i, i == 0 ? "[1" : ",1", 2);
    json_error_t error;
    json_t *value = NULL;
    ck_assert_int_eq(duo_json_parse(&value, text, 2 * ELEMENTS, 0, &error), DUO_EINVAL);
    ck_assert_ptr_null(value);
    text[2 * ELEMENTS] = ']';
    ok(duo_json_parse(&value, text, 2 * ELEMENTS + 1, 0, &error));
    ck_assert_uint_eq(json_array_size(value), ELEMENTS);
    json_decref(value);
    free(text);
}
END_TEST

/* ---------------------------------------------------------------- files */

static duo_status replace_text(const char *path, const char *text, duo_status status)
{
    duo_text_file file;
    const duo_status begun = duo_text_file_begin(&file, path);
    if (begun != DUO_OK) return begun;
    fputs(text, file.out);
    return duo_text_file_end(&file, status);
}

START_TEST(a_text_file_is_replaced_whole_or_not_at_all)
{
    ok(replace_text("a.txt", "old", DUO_OK));
    ck_assert_int_eq(replace_text("a.txt", "half", DUO_ENUMBER), DUO_ENUMBER);
    file_says("a.txt", "old");
    ck_assert_int_eq(chmod("a.txt", 0600), 0);
    ck_assert_int_eq(symlink("a.txt", "link"), 0);
    ok(replace_text("link", "new", DUO_OK));
    file_says("a.txt", "new");
    struct stat link, kept;
    ck_assert_int_eq(stat("a.txt", &kept), 0);
    ck_assert_uint_eq(kept.st_mode & 0777, 0600);
    ck_assert_int_eq(lstat("link", &link), 0);
    ck_assert(S_ISLNK(link.st_mode));
    ck_assert_uint_eq(files_here(), 2);
    ck_assert_int_eq(symlink("b.txt", "ahead"), 0);
    ok(replace_text("ahead", "new", DUO_OK));
    file_says("b.txt", "new");
    ok(replace_text("/dev/null", "gone", DUO_OK));
    refused_as(replace_text("none/a.txt", "x", DUO_OK), DUO_EIO,
               "none/a.txt: cannot be written: No such file or directory");
    duo_text_file empty = {0}, folder;
    refused_as(duo_text_file_begin(&folder, "."), DUO_EIO,
               ".: cannot be written: Is a directory"); /* at once, not at the end */
    ck_assert_int_eq(duo_text_file_end(&empty, DUO_EDATA), DUO_EDATA);
}
END_TEST

START_TEST(a_file_is_read_whole_or_to_a_limit)
{
    enum { BYTES = 10000 };
    static const size_t limits[] = {0, 1, 4095, 4096, 4097, BYTES - 1, BYTES, BYTES + 1, SIZE_MAX};
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = fopen("read", "w");
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < BYTES; i++) putc(i % 251, file); /* zeros, too */
    fclose(file);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        ck_assert_int_eq(duo_file_read(&text, &bytes, "read", limits[i]), DUO_OK);
        ck_assert_uint_eq(bytes, limits[i] < BYTES ? limits[i] : BYTES);
        for (size_t k = 0; k < bytes; k++) ck_assert_uint_eq((unsigned char)text[k], k % 251);
        ck_assert_int_eq(text[bytes], '\0');
        free(text);
    }
    ck_assert_int_eq(duo_file_read(&text, NULL, "none", SIZE_MAX), DUO_EIO);
    ck_assert_str_eq(duo_message(), "none: No such file or directory");
    ck_assert_int_eq(duo_file_read(&text, &bytes, ".", SIZE_MAX), DUO_EIO);
    ck_assert_str_eq(duo_message(), ".: cannot be read: Is a directory");
    ck_assert_ptr_null(text);
}
END_TEST

START_TEST(a_device_that_is_full_is_told)
{
    if (access("/dev/full", W_OK) != 0) return;
    refused_as(replace_text("/dev/full", "x", DUO_OK), DUO_EIO,
               "/dev/full: cannot be written: No space left on device");
}
END_TEST

START_TEST(temporary_names_tell_their_process)
{
    static const char *const none[] = {"a", "a.tmp-", "a.tmp--3", "a.tmp-3x", "a.tmp-0"};
    char name[40];
    ck_assert_int_eq(duo_temporary_name(name, sizeof name, "a.tmp-1/b.tmp-2", 345), 23);
    ck_assert_str_eq(name, "a.tmp-1/b.tmp-2.tmp-345");
    ck_assert_int_eq(duo_temporary_owner(name), 345);
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        ck_assert_int_eq(duo_temporary_owner(none[i]), 0);
    duo_temporary_name(name, sizeof name, "a", getpid());
    ck_assert(!duo_temporary_abandoned(name));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        message_is_kept_on_one_line,
        message_may_quote_the_one_before,
        long_message_is_cut,
        arena_fits_what_was_measured,
        rewinding_gives_the_same_place_again,
        sizes_that_overflow_while_measuring_are_refused,
        impossible_size_is_refused,
        philox_gives_the_published_numbers,
        every_coordinate_counts,
        uniform_stays_inside_and_its_logarithms_are_finite,
        moments_are_those_of_the_distributions,
        permutation_hits_every_number_once,
        permutations_of_epochs_differ,
        module_sets_are_read_and_written,
        numbers_are_the_whole_text,
        json_is_read_value_by_value,
        utf8_is_what_the_standard_says,
        what_is_no_utf8_is_mended,
        any_bytes_are_written_as_json,
        long_json_that_breaks_off_is_refused_soon,
        a_text_file_is_replaced_whole_or_not_at_all,
        a_file_is_read_whole_or_to_a_limit,
        a_device_that_is_full_is_told,
        temporary_names_tell_their_process,
    };
    Suite *suite = suite_create("base");
    add_case(suite, 4, tests, sizeof tests / sizeof *tests, 1);
    return run_cases(suite);
}
