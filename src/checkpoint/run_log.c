#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run_internal.h"

static const char log_file[] = "metrics.jsonl";

static duo_status append(run_text *text, const char *data, size_t bytes)
{
    if (text->room - text->bytes < bytes) {
        const size_t room = 2 * (text->bytes + bytes);
        char *grown = realloc(text->data, room);
        if (!grown) return duo_fail(DUO_ENOMEM, "%s: no memory for its lines", log_file);
        text->data = grown;
        text->room = room;
    }
    memcpy(text->data + text->bytes, data, bytes);
    text->bytes += bytes;
    return DUO_OK;
}

/* How many bytes were written; fewer than given: errno says why. */
static size_t write_most(int fd, const char *data, size_t bytes)
{
    size_t done = 0;
    while (done < bytes) {
        const ssize_t n = write(fd, data + done, bytes - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break;
        done += (size_t)n;
    }
    return done;
}

/* ---------------------------------------------------------------- appending */

/* What could not be written stays, the rest of a line included: no line is torn by a full disk. */
static duo_status write_waiting(duo_run *run)
{
    run_text *waiting = &run->waiting;
    if (waiting->bytes == 0) return DUO_OK;
    if (run->log_fd < 0)
        run->log_fd =
            openat(run->folder_fd, log_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (run->log_fd < 0) return run_fail(run, log_file, "open");
    const size_t written = write_most(run->log_fd, waiting->data, waiting->bytes);
    const duo_status status = written == waiting->bytes ? DUO_OK : run_fail(run, log_file, "write");
    waiting->bytes -= written;
    memmove(waiting->data, waiting->data + written, waiting->bytes);
    return status;
}

void run_note_log(duo_run *run, duo_status status)
{
    if (status != DUO_OK && !run->log_fails)
        duo_warn("%s; its lines are kept until they can be written", duo_message());
    run->log_fails = status != DUO_OK;
}

duo_status duo_run_log(duo_run *run, const char *line)
{
    const duo_status status = append(&run->waiting, line, strlen(line));
    if (status == DUO_OK) run_note_log(run, write_waiting(run));
    return status;
}

/* After a failed fsync the next one may succeed although the lines never reached the disk: the
 * file is then written anew. */
duo_status duo_run_sync_log(duo_run *run)
{
    duo_status status = write_waiting(run);
    if (status != DUO_OK) return status;
    if (run->log_doubtful) {
        status = duo_run_rewind_log(run, UINT64_MAX);
        run->log_doubtful = status != DUO_OK;
    } else if (run->log_fd >= 0 && fsync(run->log_fd) != 0) {
        status = run_fail(run, log_file, "sync");
        run->log_doubtful = true;
    }
    return status;
}

/* ---------------------------------------------------------------- replacing */

static duo_status fill(const duo_run *run, int fd, const char *name, run_text text)
{
    if (write_most(fd, text.data, text.bytes) != text.bytes) return run_fail(run, name, "write");
    return fsync(fd) == 0 ? DUO_OK : run_fail(run, name, "sync");
}

/* Readers of `name` see what it was or the text. */
static duo_status replace(const duo_run *run, const char *name, run_text text)
{
    const run_temp temp = run_temp_name(name);
    unlinkat(run->folder_fd, temp.name, 0); /* of an attempt that failed */
    const int fd = openat(run->folder_fd, temp.name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return run_fail(run, temp.name, "make");
    duo_status status = fill(run, fd, name, text);
    close(fd);
    if (status == DUO_OK && renameat(run->folder_fd, temp.name, run->folder_fd, name) != 0)
        status = run_fail(run, name, "replace");
    if (status == DUO_OK) return run_sync_folder(run);
    unlinkat(run->folder_fd, temp.name, 0);
    return status;
}

duo_status duo_run_write(duo_run *run, const char *name, const char *text)
{
    return replace(run, name, (run_text){.data = (char *)text, .bytes = strlen(text)});
}

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
    if (n == 0 || (digits[n] != ',' && digits[n] != '}')) return false;
    errno = 0;
    return strtoull(digits, NULL, 10) <= step && errno == 0;
}

static duo_status read_lines(const duo_run *run, FILE *from, uint64_t step, run_text *kept)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    duo_status status = DUO_OK;
    while (status == DUO_OK && (n = getline(&line, &room, from)) > 0)
        if (belongs(line, (size_t)n, step)) status = append(kept, line, (size_t)n);
    if (status == DUO_OK && !feof(from)) status = run_fail(run, log_file, "read");
    free(line);
    return status;
}

duo_status duo_run_rewind_log(duo_run *run, uint64_t step)
{
    run_text kept = {0};
    if (run->log_fd >= 0) close(run->log_fd); /* of the file that is replaced */
    run->log_fd = -1;
    const int fd = openat(run->folder_fd, log_file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? DUO_OK : run_fail(run, log_file, "open");
    FILE *from = fdopen(fd, "r");
    duo_status status = from ? read_lines(run, from, step, &kept) : run_fail(run, log_file, "read");
    if (status == DUO_OK) status = replace(run, log_file, kept);
    if (from)
        fclose(from);
    else
        close(fd);
    free(kept.data);
    return status;
}
