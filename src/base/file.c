#define _XOPEN_SOURCE 700 /* realpath */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "duo/file.h"

/* ---------------------------------------------------------------- reading */

/* Up to most bytes; false: the system, or memory, refuses more. */
static bool read_all(FILE *file, char **text, size_t *bytes, size_t most)
{
    size_t room = 0;
    for (;;) {
        if (*bytes + 1 >= room) {
            room = room > 0 ? 2 * room : 4096;
            char *grown = realloc(*text, room);
            if (!grown) return false;
            *text = grown;
        }
        const size_t holds = room - 1 - *bytes, left = most - *bytes,
                     wanted = holds < left ? holds : left;
        const size_t got = fread(*text + *bytes, 1, wanted, file);
        *bytes += got;
        if (got < wanted || *bytes == most) break;
    }
    (*text)[*bytes] = '\0';
    return ferror(file) == 0;
}

duo_status duo_file_read(char **text, size_t *bytes, const char *path, size_t most)
{
    size_t n = 0;
    *text = NULL;
    if (bytes) *bytes = 0;
    FILE *file = fopen(path, "rb");
    if (!file)
        return errno == ENOMEM ? duo_fail(DUO_ENOMEM, "%s: no memory to read it", path)
                               : duo_fail(DUO_EIO, "%s: %s", path, strerror(errno));
    errno = 0;
    const bool whole = read_all(file, text, &n, most);
    const int error = errno;
    fclose(file);
    if (whole) {
        if (bytes) *bytes = n;
        return DUO_OK;
    }
    free(*text);
    *text = NULL;
    return error == ENOMEM ? duo_fail(DUO_ENOMEM, "%s: no memory to read it", path)
                           : duo_fail(DUO_EIO, "%s: cannot be read: %s", path, strerror(error));
}

/* ---------------------------------------------------------------- names */

static const char mark[] = ".tmp-";

int duo_temporary_name(char *to, size_t bytes, const char *path, pid_t process)
{
    return snprintf(to, bytes, "%s%s%ld", path, mark, (long)process);
}

pid_t duo_temporary_owner(const char *name)
{
    const char *at = NULL;
    for (const char *next = name; (next = strstr(next, mark)); next++) at = next;
    if (!at || !isdigit((unsigned char)at[sizeof mark - 1])) return 0;
    char *end = NULL;
    const long process = strtol(at + sizeof mark - 1, &end, 10);
    return *end == '\0' && process > 0 && process == (pid_t)process ? (pid_t)process : 0;
}

bool duo_temporary_abandoned(const char *name)
{
    const pid_t owner = duo_temporary_owner(name);
    return owner > 0 && kill(owner, 0) != 0 && errno == ESRCH;
}

/* ---------------------------------------------------------------- texts */

static void forget(duo_text_file *file)
{
    free(file->path);
    free(file->temporary);
    *file = (duo_text_file){0};
}

/* Standard output or error where they go to this file, which would no longer be theirs if it were
 * replaced; -1: they do not. */
static int printed_by(const struct stat *there)
{
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
        struct stat open;
        if (fstat(fd, &open) == 0 && open.st_dev == there->st_dev && open.st_ino == there->st_ino)
            return fd;
    }
    return -1;
}

/* *printed: as above. */
static bool set_paths(duo_text_file *file, const char *path, int *printed)
{
    struct stat there;
    const bool exists = stat(path, &there) == 0;
    *printed = exists ? printed_by(&there) : -1;
    const bool replaceable =
        exists ? S_ISREG(there.st_mode) : lstat(path, &there) != 0; /* no link to nothing */
    const bool whole = replaceable && *printed < 0;
    file->path = whole && exists ? realpath(path, NULL) : strdup(path);
    if (!file->path) return false;
    if (!whole) return true;
    const size_t bytes = (size_t)duo_temporary_name(NULL, 0, file->path, getpid()) + 1;
    file->temporary = malloc(bytes);
    if (file->temporary) duo_temporary_name(file->temporary, bytes, file->path, getpid());
    return file->temporary != NULL;
}

/* Who may read the file that is replaced may read the new one, and nobody else. */
static void keep_mode(const duo_text_file *file)
{
    struct stat there;
    if (file->temporary && stat(file->path, &there) == 0)
        fchmod(fileno(file->out), there.st_mode & 0777);
}

/* Behind what was printed so far, and before what will be. */
static FILE *open_printed(int fd)
{
    fflush(stdout);
    const int own = dup(fd);
    FILE *out = own >= 0 ? fdopen(own, "w") : NULL;
    if (!out && own >= 0) close(own);
    return out;
}

duo_status duo_text_file_begin(duo_text_file *file, const char *path)
{
    *file = (duo_text_file){0};
    errno = 0;
    int printed = -1;
    if (set_paths(file, path, &printed))
        file->out = printed >= 0 ? open_printed(printed)
                                 : fopen(file->temporary ? file->temporary : file->path, "w");
    if (file->out) {
        keep_mode(file);
        return DUO_OK;
    }
    const duo_status status =
        errno == ENOMEM ? duo_fail(DUO_ENOMEM, "%s: no memory to write it", path)
                        : duo_fail(DUO_EIO, "%s: cannot be written: %s", path, strerror(errno));
    forget(file);
    return status;
}

/* All that was printed is on disk, or in the pipe. */
static bool flush(const duo_text_file *file)
{
    errno = 0;
    if (ferror(file->out) != 0 || fflush(file->out) != 0) return false;
    return !file->temporary || fsync(fileno(file->out)) == 0;
}

duo_status duo_text_file_end(duo_text_file *file, duo_status status)
{
    if (!file->out) return status;
    bool whole = flush(file);
    int error = errno;
    if (fclose(file->out) != 0 && whole) {
        whole = false;
        error = errno;
    }
    if (whole && status == DUO_OK && file->temporary && rename(file->temporary, file->path) != 0) {
        whole = false;
        error = errno;
    }
    if (file->temporary && (!whole || status != DUO_OK)) unlink(file->temporary);
    if (!whole && status == DUO_OK)
        status = error == 0
                     ? duo_fail(DUO_EIO, "%s: cannot be written", file->path)
                     : duo_fail(DUO_EIO, "%s: cannot be written: %s", file->path, strerror(error));
    forget(file);
    return status;
}
