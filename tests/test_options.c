#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "check_fixture.h"
#include "options.h"

enum { ARGUMENTS_MAX = 16 };

static bool quiet;
static const char *file, *policy;
static size_t windows;
static uint64_t seed;
static double rate;
static duo_list texts, sets, rest;
static duo_lists domains;

static const duo_positional positionals[] = {
    {"FILE", "a file", &file, NULL, false},
    {"MORE", "others", NULL, &rest, true},
};
static const duo_option options[] = {
    {"--quiet", NULL, "no progress", DUO_OPTION_FLAG, &quiet, 0, 0},
    {"--policy", "NAME", "which routes", DUO_OPTION_TEXT, &policy, 0, 0},
    {"--windows", "N", "how many", DUO_OPTION_SIZE, &windows, 1, 100},
    {"--seed", "N", "of random numbers", DUO_OPTION_U64, &seed, 0, 0},
    {"--rate", "X", "how fast", DUO_OPTION_REAL, &rate, -1, 2.5},
    {"--texts", "FILE...", "what to read", DUO_OPTION_LIST, &texts, 0, 0},
    {"--set", "KEY=VALUE", "override a key", DUO_OPTION_REPEATED, &sets, 0, 0},
    {"--domain", "NAME FILE...", "a domain's files", DUO_OPTION_LISTS, &domains, 0, 0},
};
static const duo_command command = {
    .name = "eval",
    .description = "Measure something.",
    .example = "duo eval latest",
    .positionals = positionals,
    .n_positionals = 2,
    .options = options,
    .n_options = sizeof options / sizeof *options,
};

static void reset(void)
{
    quiet = false;
    file = policy = NULL;
    windows = 32;
    seed = 1;
    rate = 0.5;
    texts = sets = rest = (duo_list){0};
    domains = (duo_lists){0};
}

static void release(void)
{
    duo_options_free(&command);
}

/* Arguments between single spaces; the parser may write into the vector. */
static duo_status run(const char *line, bool *help)
{
    static char copy[512];
    static char *argv[ARGUMENTS_MAX];
    int argc = 0;
    snprintf(copy, sizeof copy, "eval %s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) argv[argc++] = word;
    return duo_options_parse(&command, argc, argv, help);
}

static void accept(const char *line)
{
    bool help = true;
    ok(run(line, &help));
    ck_assert(!help);
}

static void refuse(const char *line, const char *want)
{
    bool help = true;
    refused_as(run(line, &help), DUO_EUSAGE, want);
}

START_TEST(values_not_given_are_left_alone)
{
    accept("a.h5");
    ck_assert_str_eq(file, "a.h5");
    ck_assert(!quiet);
    ck_assert_ptr_null(policy);
    ck_assert_uint_eq(windows, 32);
    ck_assert_double_eq(rate, 0.5);
    ck_assert_uint_eq(texts.n + sets.n + domains.n + rest.n, 0);
}
END_TEST

START_TEST(both_forms_are_read)
{
    accept("--windows 7 --policy=big --seed=18446744073709551615 a.h5 --rate -0.25 --quiet");
    ck_assert_uint_eq(windows, 7);
    ck_assert_str_eq(policy, "big");
    ck_assert_uint_eq(seed, UINT64_MAX);
    ck_assert_double_eq(rate, -0.25);
    ck_assert(quiet);
    ck_assert_str_eq(file, "a.h5");
}
END_TEST

START_TEST(value_may_be_empty_or_hold_an_equals_sign)
{
    accept("a.h5 --policy= --set stage.duo.lr=1e-3 --set=seed=2");
    ck_assert_str_eq(policy, "");
    ck_assert_uint_eq(sets.n, 2);
    ck_assert_str_eq(sets.text[0], "stage.duo.lr=1e-3");
    ck_assert_str_eq(sets.text[1], "seed=2");
}
END_TEST

START_TEST(last_value_wins)
{
    accept("a.h5 --windows 7 --windows 8");
    ck_assert_uint_eq(windows, 8);
}
END_TEST

START_TEST(list_ends_at_the_next_option)
{
    accept("--texts=x y z --windows 2 -- p q");
    ck_assert_uint_eq(texts.n, 3);
    ck_assert_str_eq(texts.text[0], "x");
    ck_assert_str_eq(texts.text[2], "z");
    ck_assert_str_eq(file, "p");
    ck_assert_uint_eq(rest.n, 1);
    ck_assert_str_eq(rest.text[0], "q");
}
END_TEST

START_TEST(lists_are_kept_apart)
{
    accept("a.h5 --domain prose x y --domain code z --quiet");
    ck_assert_uint_eq(domains.n, 2);
    ck_assert_uint_eq(domains.list[0].n, 3);
    ck_assert_str_eq(domains.list[0].text[2], "y");
    ck_assert_uint_eq(domains.list[1].n, 2);
    ck_assert_str_eq(domains.list[1].text[0], "code");
    ck_assert(quiet);
}
END_TEST

START_TEST(two_dashes_end_the_options)
{
    accept("-- --windows --help");
    ck_assert_str_eq(file, "--windows");
    ck_assert_str_eq(rest.text[0], "--help");
}
END_TEST

START_TEST(a_dash_is_a_file)
{
    accept("-");
    ck_assert_str_eq(file, "-");
}
END_TEST

START_TEST(help_comes_before_mistakes)
{
    bool help = false;
    fflush(stdout);
    const int before = dup(STDOUT_FILENO);
    char path[] = "/tmp/duo-options-XXXXXX";
    const int into = mkstemp(path);
    ck_assert_int_ge(into, 0);
    dup2(into, STDOUT_FILENO);
    const duo_status status = run("--nonsense --help", &help);
    fflush(stdout);
    dup2(before, STDOUT_FILENO);
    close(before);
    char text[4096] = "";
    const ssize_t bytes = pread(into, text, sizeof text - 1, 0);
    close(into);
    unlink(path);
    ok(status);
    ck_assert(help);
    ck_assert_int_gt(bytes, 0);
    ck_assert_str_eq(text, "usage: duo eval FILE [MORE...] [OPTION]...\n"
                           "Measure something.\n\n"
                           "  FILE                   a file\n"
                           "  MORE                   others\n\n"
                           "  --quiet                no progress\n"
                           "  --policy NAME          which routes\n"
                           "  --windows N            how many\n"
                           "  --seed N               of random numbers\n"
                           "  --rate X               how fast\n"
                           "  --texts FILE...        what to read\n"
                           "  --set KEY=VALUE        override a key\n"
                           "  --domain NAME FILE...  a domain's files\n"
                           "  --help                 show this and stop\n\n"
                           "example:\n  duo eval latest\n");
}
END_TEST

static const struct {
    const char *line, *want;
} mistakes[] = {
    {"", "FILE is missing; see duo eval --help"},
    {"--quiet", "FILE is missing; see duo eval --help"},
    {"a --nonsense", "--nonsense: no such option; see duo eval --help"},
    {"a --window=3", "--window: no such option; see duo eval --help"},
    {"a -q", "-q: no such option; see duo eval --help"},
    {"a --quiet=yes", "--quiet: takes no value"},
    {"a --windows", "--windows: N is missing"},
    {"a --windows --quiet", "--windows: N is missing"},
    {"a --windows x", "--windows: 'x' is not a whole number"},
    {"a --windows 1.5", "--windows: '1.5' is not a whole number"},
    {"a --windows=", "--windows: '' is not a whole number"},
    {"a --windows 0", "--windows: 0 is outside 1..100"},
    {"a --windows -3", "--windows: -3 is outside 1..100"},
    {"a --windows 101", "--windows: 101 is outside 1..100"},
    {"a --seed 18446744073709551616", "--seed: 18446744073709551616 is out of range"},
    {"a --seed -1", "--seed: -1 is too small"},
    {"a --rate nan", "--rate: 'nan' is not a number"},
    {"a --rate 1e999", "--rate: 1e999 is outside -1..2.5"},
    {"a --rate 2.6", "--rate: 2.6 is outside -1..2.5"},
    {"a --texts", "--texts: FILE... is missing"},
    {"a --texts x --texts y", "--texts: given twice"},
};

START_TEST(mistake_is_named)
{
    refuse(mistakes[_i].line, mistakes[_i].want);
}
END_TEST

START_TEST(one_argument_too_many_is_named)
{
    const duo_command narrow = {.name = "seal", .positionals = positionals, .n_positionals = 1};
    char name[] = "seal", a[] = "a", b[] = "b";
    char *argv[] = {name, a, b};
    bool help = false;
    refused_as(duo_options_parse(&narrow, 3, argv, &help), DUO_EUSAGE,
               "b: one argument too many; see duo seal --help");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        values_not_given_are_left_alone,
        both_forms_are_read,
        value_may_be_empty_or_hold_an_equals_sign,
        last_value_wins,
        list_ends_at_the_next_option,
        lists_are_kept_apart,
        two_dashes_end_the_options,
        a_dash_is_a_file,
        help_comes_before_mistakes,
        one_argument_too_many_is_named,
    };
    Suite *suite = suite_create("options");
    TCase *all = add_case(suite, 4, tests, sizeof tests / sizeof *tests, 1);
    tcase_add_checked_fixture(all, reset, release);
    tcase_add_loop_test(all, mistake_is_named, 0, (int)(sizeof mistakes / sizeof *mistakes));
    return run_cases(suite);
}
