/*
 * Storage that fails, for a program that is started with this library in LD_PRELOAD:
 *
 *     DUO_FAULT_UNDER  text that a path must hold to be concerned, as in run/tiny
 *     DUO_FAULT        "CALL ERROR FIRST TIMES": from the FIRST-th such call on, TIMES of them (0:
 *                      all) fail with EIO or ENOSPC, or, ERROR being SHORT, move half their bytes
 *     DUO_FAULT_COUNT  a file that gets "CALL number" for every call, when the program ends,
 *                      and "held number": descriptors of removed files that are still open
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "intercept.h"

typedef enum call {
    OPEN,
    WRITE,
    PWRITE,
    PREAD,
    FTRUNCATE,
    FALLOCATE,
    FSYNC,
    RENAME,
    LINK,
    UNLINK,
    CLOSE,
    CALLS
} call;

static const char *const call_names[CALLS] = {"open",      "write",     "pwrite", "pread",
                                              "ftruncate", "fallocate", "fsync",  "rename",
                                              "link",      "unlink",    "close"};

enum { SHORT = -1 }; /* beside the error numbers */

static struct {
    const char *under;
    call call;
    int error; /* 0: nothing fails */
    long first, times;
} plan;

static atomic_long calls_seen[CALLS];

/* What the library stands in front of. */
static struct {
    int (*openat)(int, const char *, int, ...);
    ssize_t (*write)(int, const void *, size_t);
    ssize_t (*pwrite)(int, const void *, size_t, off_t);
    ssize_t (*pread)(int, void *, size_t, off_t);
    int (*ftruncate)(int, off_t);
    int (*posix_fallocate)(int, off_t, off_t);
    int (*fsync)(int);
    int (*renameat)(int, const char *, int, const char *);
    int (*linkat)(int, const char *, int, const char *, int);
    int (*symlinkat)(const char *, int, const char *);
    int (*unlinkat)(int, const char *, int);
    int (*close)(int);
} next;

static void read_plan(void)
{
    char call_name[16], error[16];
    const char *text = getenv("DUO_FAULT");
    plan.under = getenv("DUO_FAULT_UNDER");
    if (!text || sscanf(text, "%15s %15s %ld %ld", call_name, error, &plan.first, &plan.times) != 4)
        return;
    while (plan.call < CALLS && strcmp(call_names[plan.call], call_name) != 0) plan.call++;
    plan.error = strcmp(error, "EIO") == 0 ? EIO : strcmp(error, "ENOSPC") == 0 ? ENOSPC : SHORT;
}

__attribute__((constructor)) static void start(void)
{
    intercept_find(&next.openat, "openat");
    intercept_find(&next.write, "write");
    intercept_find(&next.pwrite, "pwrite");
    intercept_find(&next.pread, "pread");
    intercept_find(&next.ftruncate, "ftruncate");
    intercept_find(&next.posix_fallocate, "posix_fallocate");
    intercept_find(&next.fsync, "fsync");
    intercept_find(&next.renameat, "renameat");
    intercept_find(&next.linkat, "linkat");
    intercept_find(&next.symlinkat, "symlinkat");
    intercept_find(&next.unlinkat, "unlinkat");
    intercept_find(&next.close, "close");
    read_plan();
}

/* Descriptors of files that are removed: their space is not free as long as these are open. */
static int count_held(void)
{
    int held = 0;
    for (int fd = 0; fd < 256; fd++)
        held += intercept_under(plan.under, fd, "") &&
                strstr(intercept_place_of(fd).path, " (deleted)") != NULL;
    return held;
}

__attribute__((destructor)) static void report(void)
{
    const char *path = getenv("DUO_FAULT_COUNT");
    FILE *out = path ? fopen(path, "w") : NULL;
    if (!out) return;
    for (call c = 0; c < CALLS; c++) fprintf(out, "%s %ld\n", call_names[c], calls_seen[c]);
    fprintf(out, "held %d\n", count_held());
    fclose(out);
}

/* The error that this call is to end with: 0 none, SHORT, or one for errno. */
static int fault(call c, int fd, const char *name)
{
    const int before = errno;
    const bool mine = intercept_under(plan.under, fd, name);
    errno = before;
    if (!mine) return 0;
    const long n = atomic_fetch_add(&calls_seen[c], 1) + 1;
    const bool hit = plan.error && c == plan.call && n >= plan.first &&
                     (plan.times == 0 || n < plan.first + plan.times);
    return hit ? plan.error : 0;
}

static bool fails(call c, int fd, const char *name)
{
    const int error = fault(c, fd, name);
    if (error > 0) errno = error;
    return error > 0;
}

static int open_at(int folder, const char *name, int flags, mode_t mode)
{
    return fails(OPEN, folder, name) ? -1 : next.openat(folder, name, flags, mode);
}

static mode_t mode_of(int flags, va_list arguments)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

int open(const char *name, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_at(AT_FDCWD, name, flags, mode);
}

int openat(int folder, const char *name, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_at(folder, name, flags, mode);
}

ssize_t write(int fd, const void *data, size_t bytes)
{
    const int error = fault(WRITE, fd, "");
    if (error > 0) errno = error;
    return error > 0 ? -1 : next.write(fd, data, error == SHORT ? (bytes + 1) / 2 : bytes);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at)
{
    const int error = fault(PWRITE, fd, "");
    if (error > 0) errno = error;
    return error > 0 ? -1 : next.pwrite(fd, data, error == SHORT ? (bytes + 1) / 2 : bytes, at);
}

ssize_t pread(int fd, void *data, size_t bytes, off_t at)
{
    const int error = fault(PREAD, fd, "");
    if (error > 0) errno = error;
    return error > 0 ? -1 : next.pread(fd, data, error == SHORT ? (bytes + 1) / 2 : bytes, at);
}

int ftruncate(int fd, off_t size)
{
    return fails(FTRUNCATE, fd, "") ? -1 : next.ftruncate(fd, size);
}

int posix_fallocate(int fd, off_t at, off_t bytes)
{
    const int error = fault(FALLOCATE, fd, "");
    return error > 0 ? error : next.posix_fallocate(fd, at, bytes);
}

int fsync(int fd)
{
    return fails(FSYNC, fd, "") ? -1 : next.fsync(fd);
}

int rename(const char *from, const char *to)
{
    return fails(RENAME, AT_FDCWD, from) ? -1 : next.renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    return fails(RENAME, from_folder, from) ? -1 : next.renameat(from_folder, from, to_folder, to);
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
    return fails(LINK, to_folder, to) ? -1 : next.linkat(from_folder, from, to_folder, to, flags);
}

int symlinkat(const char *target, int folder, const char *name)
{
    return fails(LINK, folder, name) ? -1 : next.symlinkat(target, folder, name);
}

int unlink(const char *name)
{
    return fails(UNLINK, AT_FDCWD, name) ? -1 : next.unlinkat(AT_FDCWD, name, 0);
}

int unlinkat(int folder, const char *name, int flags)
{
    return fails(UNLINK, folder, name) ? -1 : next.unlinkat(folder, name, flags);
}

/* A close that fails has closed all the same, as on Linux. */
int close(int fd)
{
    const bool failing = fails(CLOSE, fd, "");
    const int closed = next.close(fd);
    if (!failing) return closed;
    errno = plan.error;
    return -1;
}
