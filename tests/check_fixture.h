#ifndef CHECK_FIXTURE_H
#define CHECK_FIXTURE_H

/* What all suites share: how calls are expected to end, files, and the running of tests, each in a
 * folder of its own. The macros fail at the line of the test that calls them. */

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "duo/status.h"

#define ok(call)                                                                                   \
    do {                                                                                           \
        const duo_status ok_status = (call);                                                       \
        ck_assert_msg(ok_status == DUO_OK, "status %d: %s", ok_status, duo_message());             \
    } while (0)

/* The call failed as it should, and its one line says so. */
#define refused(call, status, part)                                                                \
    do {                                                                                           \
        ck_assert_int_eq(call, status);                                                            \
        ck_assert_msg(strstr(duo_message(), part) != NULL, "'%s' does not say '%s'",               \
                      duo_message(), part);                                                        \
    } while (0)

/* Likewise, and this is all of the line. */
#define refused_as(call, status, line)                                                             \
    do {                                                                                           \
        ck_assert_int_eq(call, status);                                                            \
        ck_assert_str_eq(duo_message(), line);                                                     \
    } while (0)

#define file_says(path, text)                                                                      \
    do {                                                                                           \
        blob file_text = slurp(path);                                                              \
        ck_assert_str_eq((char *)file_text.data, text);                                            \
        ck_assert_uint_eq(file_text.size, strlen(text));                                           \
        free(file_text.data);                                                                      \
    } while (0)

/* Byte for byte. */
#define file_is(path, bytes)                                                                       \
    do {                                                                                           \
        blob file_bytes = slurp(path);                                                             \
        ck_assert_uint_eq(file_bytes.size, (bytes).size);                                          \
        ck_assert_mem_eq(file_bytes.data, (bytes).data, file_bytes.size);                          \
        free(file_bytes.data);                                                                     \
    } while (0)

typedef struct blob {
    unsigned char *data; /* with a zero behind it; the caller frees */
    size_t size;
} blob;

blob slurp(const char *path);
void spill(const char *path, const void *data, size_t size);
void write_text(const char *path, const char *text);

/* In the folder of the test. */
size_t files_here(void);

/**
 * Another case of the suite: tests of so many seconds at most, each in an empty folder of its own,
 * once for every _i below `variants`.
 */
TCase *add_case(Suite *suite, double seconds, const TTest *const *tests, size_t count,
                int variants);

/** Returns what main returns, which is a failure too when no test was run. Frees the suite. */
int run_cases(Suite *suite);

/** A suite of one case, of 50 seconds. */
int run_suite(const char *name, const TTest *const *tests, size_t count);

#endif
