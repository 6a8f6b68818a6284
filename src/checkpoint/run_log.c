#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run_internal.h"

static const char log_file[] = "metrics.jsonl";

duo_status duo_run_log(duo_run *run, const char *line)
{
    if (run->log_fd < 0)
        run->log_fd =
            openat(run->folder_fd, log_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (run->log_fd < 0) return run_fail(run, log_file, "open");
    for (size_t left = strlen(line); left > 0;) {
        const ssize_t n = write(run->log_fd, line, left);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return run_fail(run, log_file, "write");
        line += n;
        left -= (size_t)n;
    }
    return DUO_OK;
}

duo_status run_sync_log(const duo_run *run)
{
    if (run->log_fd < 0 || fsync(run->log_fd) == 0) return DUO_OK;
    return run_fail(run, log_file, "sync");
}

/* ---------------------------------------------------------------- replacing */

/* A whole line of ours, of a step up to this one. A crash may leave a line without its end, or
 * zeros where its text should be. */
static bool belongs(const char *line, size_t length, uint64_t step)
{
    static const char key[] = "{\"step\":";
    const size_t begin = sizeof key - 1;
    if (strlen(line) != length || strncmp(line, key, begin) != 0) return false;
    if (strcmp(line + length - 2, "}\n") != 0) return false;
    const char *const digits = line + begin;
    const size_t n = strspn(digits, "0123456789");
    return n > 0 && (digits[n] == ',' || digits[n] == '}') && strtoull(digits, NULL, 10) <= step;
}

static FILE *open_stream(const duo_run *run, const char *name, int flags, const char *mode)
{
    const int fd = openat(run->folder_fd, name, flags | O_CLOEXEC, 0666);
    FILE *stream = fd < 0 ? NULL : fdopen(fd, mode);
    if (fd >= 0 && !stream) close(fd);
    return stream;
}

/* Put the finished temporary file in place of `name`, or remove it. Closes it. */
static duo_status replace(const duo_run *run, FILE *temp, const char *temp_name, const char *name,
                          duo_status status)
{
    if (status == DUO_OK && (fflush(temp) != 0 || fsync(fileno(temp)) != 0))
        status = run_fail(run, name, "write");
    fclose(temp);
    if (status == DUO_OK && renameat(run->folder_fd, temp_name, run->folder_fd, name) != 0)
        status = run_fail(run, name, "replace");
    if (status == DUO_OK) return run_sync_folder(run);
    unlinkat(run->folder_fd, temp_name, 0);
    return status;
}

duo_status duo_run_write(duo_run *run, const char *name, const char *text)
{
    const run_temp temp = run_temp_name(name);
    FILE *to = open_stream(run, temp.name, O_WRONLY | O_CREAT | O_EXCL, "w");
    if (!to) return run_fail(run, temp.name, "make");
    const duo_status status = fputs(text, to) >= 0 ? DUO_OK : run_fail(run, name, "write");
    return replace(run, to, temp.name, name, status);
}

static duo_status copy_lines(const duo_run *run, FILE *from, FILE *to, uint64_t step)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    duo_status status = DUO_OK;
    while (status == DUO_OK && (n = getline(&line, &room, from)) > 0)
        if (belongs(line, (size_t)n, step) && fwrite(line, 1, (size_t)n, to) != (size_t)n)
            status = run_fail(run, log_file, "rewrite");
    if (status == DUO_OK && !feof(from)) status = run_fail(run, log_file, "read");
    free(line);
    return status;
}

duo_status duo_run_rewind_log(duo_run *run, uint64_t step)
{
    const run_temp temp = run_temp_name(log_file);
    if (run->log_fd >= 0) close(run->log_fd); /* of the file that is replaced */
    run->log_fd = -1;
    FILE *from = open_stream(run, log_file, O_RDONLY, "r");
    if (!from) return errno == ENOENT ? DUO_OK : run_fail(run, log_file, "open");
    FILE *to = open_stream(run, temp.name, O_WRONLY | O_CREAT | O_EXCL, "w");
    duo_status status = to ? copy_lines(run, from, to, step) : run_fail(run, temp.name, "make");
    if (to) status = replace(run, to, temp.name, log_file, status);
    fclose(from);
    return status;
}
