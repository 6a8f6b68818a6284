/*
 * Replays the recording of a training run on a disk that loses power (disk_model.h), and opens
 * what is left as `duo train --resume` does. A checkpoint counts as acknowledged when the run,
 * having pointed `latest` at it, goes on to anything but syncs.
 *
 *     power_loss RECORDING SCRATCH COUNT FIRST [--without-file-sync | --without-folder-sync]
 *
 * COUNT states from number FIRST on: half of them spread over all prefixes of the recording, half
 * over those next to anything but a write. SCRATCH is an empty folder. Exit status 0: nothing that
 * was acknowledged is lost in any state.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk_model.h"
#include "duo/checkpoint.h"

enum { NAMES = 64, KEEP = 2 };

/* What the run may rely on since its last acknowledged checkpoint. */
typedef struct promise {
    bool made;
    uint64_t step;
    char names[NAMES][RECORDED_NAME]; /* of checkpoints */
    size_t n_names;
    char *log; /* lines of metrics up to the step */
    size_t log_bytes;
} promise;

typedef struct state {
    size_t prefix;
    uint64_t number;
} state;

static void check(bool fine, const char *what)
{
    if (fine) return;
    perror(what);
    exit(2);
}

/* ---------------------------------------------------------------- the recording */

typedef struct recording {
    unsigned char *bytes;
    size_t *at; /* of each operation */
    size_t n;
} recording;

static recorded operation(const recording *r, size_t i)
{
    recorded op;
    memcpy(&op, r->bytes + r->at[i], sizeof op);
    return op;
}

static recording read_recording(const char *path)
{
    recording r = {0};
    struct stat info;
    FILE *file = fopen(path, "rb");
    check(file && fstat(fileno(file), &info) == 0, path);
    const size_t size = (size_t)info.st_size;
    r.bytes = malloc(size);
    r.at = malloc((size / sizeof(recorded) + 1) * sizeof *r.at);
    check(r.bytes && r.at && fread(r.bytes, 1, size, file) == size, path);
    fclose(file);
    for (size_t at = 0; at < size;) {
        r.at[r.n] = at;
        const recorded op = operation(&r, r.n++);
        at += sizeof op + (op.op == RECORDED_WRITE ? op.bytes : 0);
    }
    return r;
}

/* ---------------------------------------------------------------- promises */

static bool is_checkpoint(const char *name)
{
    const size_t length = strlen(name);
    return length > 3 && strcmp(name + length - 3, ".h5") == 0 && strcmp(name, "next.h5") != 0;
}

/* The bytes of the lines of steps up to this one, which come first. */
static size_t lines_until(const char *log, size_t bytes, uint64_t step)
{
    size_t at = 0;
    while (at < bytes) {
        const char *end = memchr(log + at, '\n', bytes - at);
        uint64_t of = UINT64_MAX;
        if (!end || sscanf(log + at, "{\"step\":%" SCNu64, &of) != 1 || of > step) break;
        at = (size_t)(end - log) + 1;
    }
    return at;
}

static void acknowledge(promise *p, const disk *d)
{
    const char *target = disk_target(d, "latest"), *name;
    if (!target || sscanf(target, "step-%" SCNu64 ".h5", &p->step) != 1) return;
    p->made = true;
    p->n_names = 0;
    for (size_t i = 0; (name = disk_name(d, i)); i++)
        if (is_checkpoint(name)) snprintf(p->names[p->n_names++], RECORDED_NAME, "%s", name);
    size_t bytes;
    const char *log = (const char *)disk_content(d, "metrics.jsonl", &bytes);
    p->log_bytes = log ? lines_until(log, bytes, p->step) : 0;
    free(p->log);
    p->log = malloc(p->log_bytes + 1);
    check(p->log != NULL, "memory");
    if (p->log_bytes) memcpy(p->log, log, p->log_bytes);
}

/* ---------------------------------------------------------------- one state */

static bool lost(const state *s, const char *what, const char *detail)
{
    fprintf(stderr, "prefix %zu, state %" PRIu64 ": %s: %s\n", s->prefix, s->number, what, detail);
    return false;
}

static bool opens(const char *folder, const char *name)
{
    char path[512];
    duo_checkpoint *c;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (duo_checkpoint_open(&c, path) != DUO_OK) return false;
    duo_checkpoint_close(c);
    return true;
}

/* A name is given to a checkpoint when it is whole and never before. */
static bool whole_names(const state *s, const char *folder)
{
    bool fine = true;
    DIR *list = opendir(folder);
    check(list != NULL, folder);
    for (const struct dirent *e; fine && (e = readdir(list));)
        if (is_checkpoint(e->d_name) && !opens(folder, e->d_name))
            fine = lost(s, "not whole", duo_message());
    closedir(list);
    return fine;
}

/* What was there at the promise and has not been dropped since. */
static bool kept_names(const state *s, const promise *p, const disk *d, const char *folder)
{
    size_t bytes;
    for (size_t i = 0; i < p->n_names; i++)
        if (disk_content(d, p->names[i], &bytes) && !opens(folder, p->names[i]))
            return lost(s, "is gone", p->names[i]);
    return true;
}

static bool kept_log(const state *s, const promise *p, const char *folder)
{
    char path[512];
    static char text[1 << 20];
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    FILE *file = fopen(path, "rb");
    const size_t bytes = file ? fread(text, 1, sizeof text, file) : 0;
    if (file) fclose(file);
    if (bytes < p->log_bytes || memcmp(text, p->log, p->log_bytes) != 0)
        return lost(s, "lines are lost", path);
    return lines_until(text, bytes, UINT64_MAX - 1) == bytes || lost(s, "torn line", path);
}

static bool nothing_unfinished(const state *s, const char *folder)
{
    bool fine = true;
    DIR *list = opendir(folder);
    check(list != NULL, folder);
    for (const struct dirent *e; fine && (e = readdir(list));)
        if (strstr(e->d_name, ".tmp-") || strstr(e->d_name, ".damaged") ||
            strcmp(e->d_name, "next.h5") == 0)
            fine = lost(s, "left behind", e->d_name);
    closedir(list);
    return fine;
}

static bool resumes(const state *s, const promise *p, const char *folder)
{
    duo_run *run = NULL;
    duo_checkpoint *newest = NULL;
    bool fine = false;
    duo_status status = duo_run_open(&run, folder, KEEP, DUO_RUN_RESUME);
    if (status == DUO_EINVAL && !p->made) {
        fine = true; /* it begins anew */
        goto done;
    }
    if (status == DUO_OK) status = duo_run_newest(run, &newest);
    if (status == DUO_OK) status = duo_run_rewind_log(run, duo_checkpoint_progress(newest)->step);
    if (status != DUO_OK)
        lost(s, "does not resume", duo_message());
    else if (p->made && duo_checkpoint_progress(newest)->step < p->step)
        lost(s, "resumes too early", duo_checkpoint_path(newest));
    else
        fine = nothing_unfinished(s, folder);

done:
    duo_checkpoint_close(newest);
    duo_run_close(run);
    return fine;
}

static void empty(const char *folder)
{
    char path[512];
    DIR *list = opendir(folder);
    check(list != NULL, folder);
    for (const struct dirent *e; (e = readdir(list));) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] != '.') check(unlink(path) == 0, path);
    }
    closedir(list);
}

static bool survives(const state *s, const promise *p, const disk *d, const char *folder)
{
    empty(folder);
    disk_lose_power(d, s->number, folder);
    return whole_names(s, folder) && kept_names(s, p, d, folder) && resumes(s, p, folder) &&
           (!p->made || kept_log(s, p, folder));
}

/* ---------------------------------------------------------------- all states */

static int by_prefix(const void *a, const void *b)
{
    const state *x = a, *y = b;
    return (x->prefix > y->prefix) - (x->prefix < y->prefix);
}

static state *choose_states(const recording *r, size_t count, uint64_t first)
{
    size_t *joints = malloc((2 * r->n + 1) * sizeof *joints), n_joints = 0;
    state *states = malloc((count + 1) * sizeof *states);
    check(joints && states, "memory");
    for (size_t i = 0; i < r->n; i++)
        if (operation(r, i).op != RECORDED_WRITE) {
            joints[n_joints++] = i;
            joints[n_joints++] = i + 1;
        }
    for (size_t i = 0; i < count; i++) {
        const uint64_t k = first + i,
                       half = k / 2 * 7919; /* prime: far apart, and all in the end */
        states[i].prefix = k % 2 ? half % (r->n + 1) : joints[half % n_joints];
        states[i].number = (k + 1) * 0x9E3779B97F4A7C15u >> 20;
    }
    qsort(states, count, sizeof *states, by_prefix);
    free(joints);
    return states;
}

int main(int argc, char **argv)
{
    const char *switched = argc == 6 ? argv[5] : "";
    if (argc < 5 || argc > 6) {
        fputs("usage: power_loss RECORDING SCRATCH COUNT FIRST [--without-file-sync | "
              "--without-folder-sync]\n",
              stderr);
        return 2;
    }
    const recording r = read_recording(argv[1]);
    const size_t count = strtoul(argv[3], NULL, 10);
    state *states = choose_states(&r, count, strtoul(argv[4], NULL, 10));
    check(chdir(argv[2]) == 0 && mkdir("pool", 0777) == 0 && mkdir("left", 0777) == 0, argv[2]);

    disk *d = disk_create("pool",
                          (disk_faults){
                              .ignores_file_sync = strcmp(switched, "--without-file-sync") == 0,
                              .ignores_folder_sync = strcmp(switched, "--without-folder-sync") == 0,
                          });
    promise p = {0};
    bool swapped = false;
    size_t held = 0, acknowledged = 0, i = 0;
    for (size_t prefix = 0; prefix <= r.n; prefix++) {
        const recorded op = prefix < r.n ? operation(&r, prefix) : (recorded){0};
        const bool goes_on = op.op != RECORDED_SYNC_FOLDER && op.op != RECORDED_SYNC_FILE;
        if (swapped && goes_on) {
            acknowledge(&p, d);
            acknowledged++;
            swapped = false;
        }
        for (; i < count && states[i].prefix == prefix; i++)
            held += survives(&states[i], &p, d, "left");
        if (prefix == r.n) break;
        disk_apply(d, &op, r.bytes + r.at[prefix] + sizeof op);
        swapped |= op.op == RECORDED_RENAME && strcmp(op.to, "latest") == 0;
    }
    printf("power_loss: tried %zu, held %zu (%zu operations, %zu acknowledged checkpoints)\n",
           count, held, r.n, acknowledged);
    disk_free(d);
    free(p.log);
    free(states);
    free(r.bytes);
    free(r.at);
    return held == count ? 0 : 1;
}
