/*
 * Records what a program does to the files of one flat folder, when it is started with this
 * library in LD_PRELOAD:
 *
 *     DUO_RECORD        the recording (recording.h), appended to
 *     DUO_RECORD_UNDER  text that a path must hold to be recorded, as in run/tiny
 *
 * A call is recorded after it has succeeded. The program may have threads, but one of them writes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "intercept.h"
#include "recording.h"

static const char *under;
static int out = -1;

/* What the library stands in front of. */
static struct {
    int (*openat)(int, const char *, int, ...);
    ssize_t (*write)(int, const void *, size_t);
    ssize_t (*pwrite)(int, const void *, size_t, off_t);
    int (*ftruncate)(int, off_t);
    int (*posix_fallocate)(int, off_t, off_t);
    int (*fsync)(int);
    int (*renameat)(int, const char *, int, const char *);
    int (*linkat)(int, const char *, int, const char *, int);
    int (*symlinkat)(const char *, int, const char *);
    int (*unlinkat)(int, const char *, int);
} next;

__attribute__((constructor)) static void start(void)
{
    intercept_find(&next.openat, "openat");
    intercept_find(&next.write, "write");
    intercept_find(&next.pwrite, "pwrite");
    intercept_find(&next.ftruncate, "ftruncate");
    intercept_find(&next.posix_fallocate, "posix_fallocate");
    intercept_find(&next.fsync, "fsync");
    intercept_find(&next.renameat, "renameat");
    intercept_find(&next.linkat, "linkat");
    intercept_find(&next.symlinkat, "symlinkat");
    intercept_find(&next.unlinkat, "unlinkat");
    under = getenv("DUO_RECORD_UNDER");
    const char *path = getenv("DUO_RECORD");
    if (path) out = next.openat(AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
}

/* ---------------------------------------------------------------- recording */

static void put(const void *data, size_t bytes)
{
    if (next.write(out, data, bytes) != (ssize_t)bytes) abort(); /* half a recording is none */
}

static void keep_name(char *into, const char *path)
{
    const char *slash = strrchr(path, '/');
    snprintf(into, RECORDED_NAME, "%.*s", RECORDED_NAME - 1, slash ? slash + 1 : path);
}

static bool recording(int fd, const char *name)
{
    const int before = errno;
    const bool mine = out >= 0 && intercept_under(under, fd, name);
    errno = before;
    return mine;
}

static void record(recorded_op op, int fd, uint64_t at, const void *data, size_t bytes)
{
    struct stat info;
    if (!recording(fd, "") || fstat(fd, &info) != 0) return;
    if (S_ISDIR(info.st_mode)) op = RECORDED_SYNC_FOLDER;
    const recorded r = {.op = op, .file = info.st_ino, .at = at, .bytes = bytes};
    put(&r, sizeof r);
    put(data, bytes);
}

static void record_names(recorded_op op, int folder, const char *name, const char *to)
{
    if (!recording(folder, op == RECORDED_SYMLINK ? to : name)) return;
    recorded r = {.op = op};
    keep_name(r.name, name);
    keep_name(r.to, to);
    put(&r, sizeof r);
}

/* ---------------------------------------------------------------- calls */

static int open_at(int folder, const char *name, int flags, mode_t mode)
{
    const bool is_new = flags & O_CREAT && faccessat(folder, name, F_OK, 0) != 0;
    const int fd = next.openat(folder, name, flags, mode);
    struct stat info;
    if (fd < 0 || !recording(folder, name) || fstat(fd, &info) != 0) return fd;
    if (is_new) {
        recorded r = {.op = RECORDED_CREATE, .file = info.st_ino};
        keep_name(r.name, name);
        put(&r, sizeof r);
    } else if (flags & O_TRUNC) {
        record(RECORDED_TRUNCATE, fd, 0, NULL, 0);
    }
    return fd;
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
    const ssize_t n = next.write(fd, data, bytes);
    if (n > 0 && recording(fd, ""))
        record(RECORDED_WRITE, fd, (uint64_t)(lseek(fd, 0, SEEK_CUR) - n), data, (size_t)n);
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at)
{
    const ssize_t n = next.pwrite(fd, data, bytes, at);
    if (n > 0) record(RECORDED_WRITE, fd, (uint64_t)at, data, (size_t)n);
    return n;
}

int ftruncate(int fd, off_t size)
{
    const int result = next.ftruncate(fd, size);
    if (result == 0) record(RECORDED_TRUNCATE, fd, (uint64_t)size, NULL, 0);
    return result;
}

/* Space that is reserved at the end makes the file longer. */
int posix_fallocate(int fd, off_t at, off_t bytes)
{
    struct stat info;
    const int result = next.posix_fallocate(fd, at, bytes);
    if (result == 0 && fstat(fd, &info) == 0)
        record(RECORDED_TRUNCATE, fd, (uint64_t)info.st_size, NULL, 0);
    return result;
}

int fsync(int fd)
{
    const int result = next.fsync(fd);
    if (result == 0) record(RECORDED_SYNC_FILE, fd, 0, NULL, 0);
    return result;
}

int rename(const char *from, const char *to)
{
    const int result = next.renameat(AT_FDCWD, from, AT_FDCWD, to);
    if (result == 0) record_names(RECORDED_RENAME, AT_FDCWD, from, to);
    return result;
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    const int result = next.renameat(from_folder, from, to_folder, to);
    if (result == 0) record_names(RECORDED_RENAME, from_folder, from, to);
    return result;
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
    const int result = next.linkat(from_folder, from, to_folder, to, flags);
    if (result == 0) record_names(RECORDED_LINK, from_folder, from, to);
    return result;
}

int symlinkat(const char *target, int folder, const char *name)
{
    const int result = next.symlinkat(target, folder, name);
    if (result == 0) record_names(RECORDED_SYMLINK, folder, target, name);
    return result;
}

int unlink(const char *name)
{
    const int result = next.unlinkat(AT_FDCWD, name, 0);
    if (result == 0) record_names(RECORDED_UNLINK, AT_FDCWD, name, "");
    return result;
}

int unlinkat(int folder, const char *name, int flags)
{
    const int result = next.unlinkat(folder, name, flags);
    if (result == 0) record_names(RECORDED_UNLINK, folder, name, "");
    return result;
}
