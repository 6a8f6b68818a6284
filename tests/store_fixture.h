#ifndef STORE_FIXTURE_H
#define STORE_FIXTURE_H

/* What the suites of the store share: a folder per test, and one small file. */

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "duo/store.h"

/* Bytes of the user block of a small file. */
enum { BLOCK = 64 << 10 };

/* Every test runs in a folder of its own, which is removed afterwards. */
static char folder[64];

static inline void enter_folder(void)
{
    snprintf(folder, sizeof folder, "/tmp/duo-store-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chdir(folder), 0);
}

static inline void leave_folder(void)
{
    char command[96];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(system(command), 0);
}

static inline void ok(duo_status status)
{
    ck_assert_msg(status == DUO_OK, "status %d: %s", status, duo_message());
}

/* The call failed as it should, and its one line says so. */
static inline void refused(duo_status status, duo_status expected, const char *part)
{
    ck_assert_int_eq(status, expected);
    ck_assert_msg(strstr(duo_message(), part) != NULL, "'%s' does not say '%s'", duo_message(),
                  part);
}

static inline duo_shape shape(size_t rank, size_t a, size_t b, size_t c, size_t d)
{
    return (duo_shape){.rank = rank, .size = {a, b, c, d}};
}

static const float weights[6] = {1.5f, -2.25f, 3.0f, 0.0f, 1e-20f, 7.0f};
static const uint8_t bytes[5] = {0, 1, 127, 128, 255};

static inline void write_small(const char *path, float first)
{
    float own[6];
    memcpy(own, weights, sizeof own);
    own[0] = first;
    duo_store_writer *writer = NULL;
    ok(duo_store_create(&writer, path, DUO_KIND_TOKENS));
    ok(duo_store_set_u64(writer, "/model", "n_layers", 12));
    ok(duo_store_write(writer, "/model/layers/00/w", DUO_F32, shape(2, 2, 3, 0, 0), own));
    ok(duo_store_write(writer, "/bytes", DUO_U8, shape(1, 5, 0, 0, 0), bytes));
    ok(duo_store_set_f64(writer, "/bytes", "scale", 0.1));
    ok(duo_store_set_text(writer, "/", "producer", "z\xC3\xBCrich"));
    ok(duo_store_commit(writer));
    duo_store_writer_free(writer);
}

typedef struct blob {
    unsigned char *data;
    size_t size;
} blob;

static inline blob slurp(const char *path)
{
    FILE *file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    fseek(file, 0, SEEK_END);
    blob all = {.size = (size_t)ftell(file)};
    rewind(file);
    all.data = malloc(all.size + 1);
    ck_assert_uint_eq(fread(all.data, 1, all.size, file), all.size);
    fclose(file);
    return all;
}

static inline void spill(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

static inline size_t files_here(void)
{
    FILE *list = popen("ls -A | wc -l", "r");
    size_t count = 0;
    ck_assert_int_eq(fscanf(list, "%zu", &count), 1);
    pclose(list);
    return count;
}

/* Runs the tests of one suite, each in a folder of its own. */
static inline int run_suite(const char *name, const TTest *const *tests, size_t count)
{
    Suite *suite = suite_create(name);
    TCase *all = tcase_create(name);
    tcase_set_timeout(all, 50);
    tcase_add_checked_fixture(all, enter_folder, leave_folder);
    for (size_t i = 0; i < count; i++) tcase_add_test(all, tests[i]);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
