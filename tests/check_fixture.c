#include "check_fixture.h"

#include <dirent.h>
#include <stdbool.h>

/* Of the suite: made and removed by the process that no test can end. */
static char scratch[4096];

static void enter_folder(void)
{
    char own[sizeof scratch + sizeof "/XXXXXX"];
    snprintf(own, sizeof own, "%s/XXXXXX", scratch);
    ck_assert_ptr_nonnull(mkdtemp(own));
    ck_assert_int_eq(chdir(own), 0);
}

blob slurp(const char *path)
{
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s: cannot be opened", path);
    fseek(file, 0, SEEK_END);
    blob all = {.size = (size_t)ftell(file)};
    rewind(file);
    all.data = malloc(all.size + 1);
    ck_assert_ptr_nonnull(all.data);
    ck_assert_uint_eq(fread(all.data, 1, all.size, file), all.size);
    all.data[all.size] = '\0';
    fclose(file);
    return all;
}

void spill(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    ck_assert_msg(file != NULL, "%s: cannot be opened", path);
    ck_assert_uint_eq(fwrite(data, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

void write_text(const char *path, const char *text)
{
    spill(path, text, strlen(text));
}

size_t files_here(void)
{
    DIR *here = opendir(".");
    size_t count = 0;
    ck_assert_ptr_nonnull(here);
    while (readdir(here)) count++;
    closedir(here);
    return count - 2; /* "." and ".." */
}

TCase *add_case(Suite *suite, double seconds, const TTest *const *tests, size_t count, int variants)
{
    TCase *all = tcase_create("tests");
    tcase_set_timeout(all, seconds);
    tcase_add_checked_fixture(all, enter_folder, NULL);
    for (size_t i = 0; i < count; i++) tcase_add_loop_test(all, tests[i], 0, variants);
    suite_add_tcase(suite, all);
    return all;
}

int run_cases(Suite *suite)
{
    char command[sizeof scratch + sizeof "rm -r ''"];
    const char *place = getenv("TMPDIR");
    SRunner *runner = srunner_create(suite);
    snprintf(scratch, sizeof scratch, "%s/duo-test-XXXXXX", place && *place ? place : "/tmp");
    if (!mkdtemp(scratch)) {
        perror(scratch);
        srunner_free(runner);
        return EXIT_FAILURE;
    }
    srunner_run_all(runner, CK_ENV);
    const bool passed = srunner_ntests_run(runner) > 0 && srunner_ntests_failed(runner) == 0;
    srunner_free(runner);
    snprintf(command, sizeof command, "rm -r '%s'", scratch);
    return system(command) == 0 && passed ? EXIT_SUCCESS : EXIT_FAILURE;
}

int run_suite(const char *name, const TTest *const *tests, size_t count)
{
    Suite *suite = suite_create(name);
    add_case(suite, 50, tests, count, 1);
    return run_cases(suite);
}
