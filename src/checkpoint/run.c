#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "duo/file.h"
#include "run_internal.h"

/* A checkpoint that does not yet bear its names. */
static const char next_file[] = "next.h5";
static const char best_file[] = "best.h5", latest_link[] = "latest", lock_file[] = "lock";

run_temp run_temp_name(const char *name)
{
    run_temp temp;
    duo_temporary_name(temp.name, sizeof temp.name, name, getpid());
    return temp;
}

duo_status run_fail(const duo_run *run, const char *name, const char *doing)
{
    return duo_fail(DUO_EIO, "%s/%s: cannot %s: %s", run->folder, name, doing, strerror(errno));
}

duo_status run_sync_folder(const duo_run *run)
{
    if (fsync(run->folder_fd) == 0) return DUO_OK;
    return duo_fail(DUO_EIO, "%s: cannot sync the folder: %s", run->folder, strerror(errno));
}

const char *duo_run_path(duo_run *run, const char *name)
{
    snprintf(run->path, run->path_room, "%s/%s", run->folder, name);
    return run->path;
}

/* ---------------------------------------------------------------- names in the folder */

typedef struct step_name {
    char text[40];
} step_name;

static step_name name_of_step(uint64_t step)
{
    step_name name;
    snprintf(name.text, sizeof name.text, "step-%08" PRIu64 ".h5", step);
    return name;
}

/* Only the exact form of name_of_step is ours. */
static bool parse_step(const char *name, uint64_t *step)
{
    static const char prefix[] = "step-";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return false;
    *step = strtoull(name + sizeof prefix - 1, NULL, 10);
    return strcmp(name, name_of_step(*step).text) == 0;
}

static int is_step(const struct dirent *entry)
{
    uint64_t step;
    return parse_step(entry->d_name, &step);
}

/* Names that keep a checkpoint alive when its step file has been dropped. */
static int is_kept(const struct dirent *entry)
{
    static const char prefix[] = "stage-", suffix[] = ".h5";
    const char *name = entry->d_name;
    const size_t length = strlen(name), ends = sizeof prefix - 1 + sizeof suffix - 1;
    if (strcmp(name, best_file) == 0) return 1;
    return length > ends && strncmp(name, prefix, sizeof prefix - 1) == 0 &&
           strcmp(name + length - (sizeof suffix - 1), suffix) == 0;
}

/* Of a run that was killed. Commands that write a result or a page into the folder go on: theirs
 * are not. */
static int is_stale(const struct dirent *entry)
{
    const char *name = entry->d_name;
    return duo_temporary_abandoned(name) || duo_temporary_owner(name) == getpid() ||
           strcmp(name, next_file) == 0;
}

static int newest_first(const struct dirent **a, const struct dirent **b)
{
    uint64_t x = 0, y = 0;
    parse_step((*a)->d_name, &x);
    parse_step((*b)->d_name, &y);
    return (x < y) - (x > y);
}

typedef struct listing {
    struct dirent **entries;
    size_t n;
} listing;

static duo_status list(const duo_run *run, int (*filter)(const struct dirent *),
                       int (*order)(const struct dirent **, const struct dirent **), listing *out)
{
    *out = (listing){0};
    const int n = scandir(run->folder, &out->entries, filter, order);
    if (n < 0)
        return duo_fail(DUO_EIO, "%s: cannot list the folder: %s", run->folder, strerror(errno));
    out->n = (size_t)n;
    return DUO_OK;
}

static void free_listing(listing *names)
{
    for (size_t i = 0; i < names->n; i++) free(names->entries[i]);
    free(names->entries);
}

/* ---------------------------------------------------------------- opening */

/* A new folder must survive a power loss as what is later put in it does. */
static duo_status sync_parent(const char *folder)
{
    duo_status status = DUO_OK;
    char *parent = strdup(folder);
    if (!parent) return duo_fail(DUO_ENOMEM, "%s: no memory to make it", folder);
    char *slash = strrchr(parent, '/');
    if (slash) slash[slash == parent] = '\0';
    const int fd = open(slash ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        status = duo_fail(DUO_EIO, "%s: made, but not synced: %s", folder, strerror(errno));
    if (fd >= 0) close(fd);
    free(parent);
    return status;
}

static duo_status make_folder(const char *folder)
{
    if (mkdir(folder, 0777) == 0) return sync_parent(folder);
    if (errno == EEXIST) return DUO_OK;
    return duo_fail(DUO_EIO, "%s: cannot make the folder: %s", folder, strerror(errno));
}

/* The folder and its parents; `path` is changed while at work. */
static duo_status make_folders(char *path)
{
    duo_status status = DUO_OK;
    for (char *c = path; *c && status == DUO_OK; c++) {
        if (*c != '/' || c == path || c[-1] == '/') continue;
        *c = '\0';
        status = make_folder(path);
        *c = '/';
    }
    return status == DUO_OK ? make_folder(path) : status;
}

static duo_status enter_folder(duo_run *run, duo_run_start start)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    run->folder_fd = open(run->folder, flags);
    if (run->folder_fd < 0 && errno == ENOENT) {
        if (start == DUO_RUN_RESUME)
            return duo_fail(DUO_EINVAL, "%s: there is no run to resume", run->folder);
        const duo_status status = make_folders(run->folder);
        if (status != DUO_OK) return status;
        run->folder_fd = open(run->folder, flags);
    }
    if (run->folder_fd >= 0) return DUO_OK;
    return duo_fail(DUO_EIO, "%s: cannot open the folder: %s", run->folder, strerror(errno));
}

/* Who holds the lock wrote its number into the file: for people, so a full disk does not matter. */
static duo_status refuse_second(const duo_run *run)
{
    char text[24] = "";
    const ssize_t n = pread(run->lock_fd, text, sizeof text - 1, 0);
    const long holder = n > 0 ? strtol(text, NULL, 10) : 0;
    if (holder <= 0)
        return duo_fail(DUO_EINVAL, "%s: another duo train is writing to this run", run->folder);
    return duo_fail(DUO_EINVAL, "%s: another duo train, process %ld, is writing to this run",
                    run->folder, holder);
}

static void sign_lock(const duo_run *run)
{
    char text[24];
    const int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(run->lock_fd, 0) != 0 || pwrite(run->lock_fd, text, (size_t)n, 0) != n)
        duo_warn("%s/%s: cannot be signed: %s", run->folder, lock_file, strerror(errno));
}

static duo_status lock(duo_run *run)
{
    run->lock_fd = openat(run->folder_fd, lock_file, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (run->lock_fd < 0) return run_fail(run, lock_file, "open");
    if (flock(run->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? refuse_second(run) : run_fail(run, lock_file, "lock");
    sign_lock(run);
    return DUO_OK;
}

/* Only under the lock: no other run is at work. */
static duo_status remove_stale(const duo_run *run)
{
    listing names;
    const duo_status status = list(run, is_stale, alphasort, &names);
    if (status != DUO_OK) return status;
    for (size_t i = 0; i < names.n; i++) {
        const char *name = names.entries[i]->d_name;
        if (unlinkat(run->folder_fd, name, 0) != 0)
            duo_warn("%s/%s: cannot be removed: %s", run->folder, name, strerror(errno));
    }
    free_listing(&names);
    return DUO_OK;
}

static duo_status check_start(duo_run *run, duo_run_start start)
{
    listing steps = {0}, kept = {0};
    duo_status status = list(run, is_step, alphasort, &steps);
    if (status == DUO_OK) status = list(run, is_kept, alphasort, &kept);
    if (status != DUO_OK) goto done;
    run->resumes = steps.n + kept.n > 0;
    if (start == DUO_RUN_RESUME && !run->resumes)
        status = duo_fail(DUO_EINVAL, "%s: holds no checkpoint to resume from", run->folder);
    if (start == DUO_RUN_BEGIN && run->resumes)
        status = duo_fail(DUO_EINVAL,
                          "%s: holds checkpoints; go on with --resume, or choose another name",
                          run->folder);

done:
    free_listing(&steps);
    free_listing(&kept);
    return status;
}

duo_status duo_run_open(duo_run **out, const char *folder, size_t keep, duo_run_start start)
{
    assert(keep >= 1);
    *out = NULL;
    duo_status status = DUO_OK;
    duo_run *run = calloc(1, sizeof *run);
    if (!run) return duo_fail(DUO_ENOMEM, "%s: no memory to open it", folder);
    run->folder_fd = run->lock_fd = run->log_fd = -1;
    run->keep = keep;
    run->path_room = strlen(folder) + NAME_MAX + 2;
    run->folder = strdup(folder);
    run->path = malloc(run->path_room);
    if (!run->folder || !run->path) {
        status = duo_fail(DUO_ENOMEM, "%s: no memory to open it", folder);
        goto done;
    }
    if ((status = enter_folder(run, start)) != DUO_OK) goto done;
    if ((status = lock(run)) != DUO_OK) goto done;
    if ((status = remove_stale(run)) != DUO_OK) goto done;
    if ((status = check_start(run, start)) != DUO_OK) goto done;
    /* A run that ended before its first checkpoint may have left lines. */
    if (!run->resumes && (status = duo_run_rewind_log(run, 0)) != DUO_OK) goto done;
    *out = run;
    run = NULL;

done:
    duo_run_close(run);
    return status;
}

bool duo_run_resumes(const duo_run *run)
{
    return run->resumes;
}

void duo_run_close(duo_run *run)
{
    if (!run) return;
    if (run->log_fd >= 0) close(run->log_fd);
    if (run->folder_fd >= 0) close(run->folder_fd);
    if (run->lock_fd >= 0) close(run->lock_fd); /* and unlocks */
    free(run->waiting.data);
    free(run->folder);
    free(run->path);
    free(run);
}

/* ---------------------------------------------------------------- names for a checkpoint */

typedef enum link_kind { HARD, SYMBOLIC } link_kind;

/* Readers of `name` see what it was or `target`, never nothing. */
static duo_status put_link(const duo_run *run, const char *name, link_kind kind, const char *target)
{
    const run_temp temp = run_temp_name(name);
    const int fd = run->folder_fd;
    unlinkat(fd, temp.name, 0); /* of an attempt that failed */
    const int made =
        kind == HARD ? linkat(fd, target, fd, temp.name, 0) : symlinkat(target, fd, temp.name);
    if (made != 0) return run_fail(run, name, "link");
    if (renameat(fd, temp.name, fd, name) == 0) return DUO_OK;
    const duo_status status = run_fail(run, name, "replace");
    unlinkat(fd, temp.name, 0);
    return status;
}

/* ---------------------------------------------------------------- resuming */

/* *checkpoint stays NULL when the file was damaged; it is then out of the way. */
static duo_status open_or_set_aside(duo_run *run, const char *name, duo_checkpoint **checkpoint)
{
    char aside[NAME_MAX + sizeof ".damaged"];
    const duo_status status = duo_checkpoint_open(checkpoint, duo_run_path(run, name));
    if (status != DUO_EDATA) return status;
    snprintf(aside, sizeof aside, "%s.damaged", name);
    if (renameat(run->folder_fd, name, run->folder_fd, aside) != 0)
        return duo_fail(DUO_EIO, "%s; cannot rename it to %s: %s", duo_message(), aside,
                        strerror(errno));
    duo_warn("%s; renamed to %s", duo_message(), aside);
    return DUO_OK;
}

static duo_status newest_step(duo_run *run, duo_checkpoint **checkpoint)
{
    listing names;
    duo_status status = list(run, is_step, newest_first, &names);
    for (size_t i = 0; i < names.n && status == DUO_OK && !*checkpoint; i++)
        status = open_or_set_aside(run, names.entries[i]->d_name, checkpoint);
    free_listing(&names);
    return status;
}

static duo_status newest_kept(duo_run *run, duo_checkpoint **checkpoint)
{
    listing names;
    duo_status status = list(run, is_kept, alphasort, &names);
    for (size_t i = 0; i < names.n && status == DUO_OK; i++) {
        duo_checkpoint *found = NULL;
        status = open_or_set_aside(run, names.entries[i]->d_name, &found);
        if (!found) continue;
        const bool newer = !*checkpoint || duo_checkpoint_progress(found)->step >
                                               duo_checkpoint_progress(*checkpoint)->step;
        duo_checkpoint_close(newer ? *checkpoint : found);
        if (newer) *checkpoint = found;
    }
    free_listing(&names);
    return status;
}

duo_status duo_run_newest(duo_run *run, duo_checkpoint **checkpoint)
{
    *checkpoint = NULL;
    duo_status status = newest_step(run, checkpoint);
    if (status == DUO_OK && !*checkpoint) status = newest_kept(run, checkpoint);
    if (status == DUO_OK && !*checkpoint)
        status = duo_fail(DUO_EDATA, "%s: no checkpoint is left that verifies", run->folder);
    /* It may have pointed at a damaged one, or not yet at this one. */
    if (status == DUO_OK)
        status = put_link(run, latest_link, SYMBOLIC,
                          strrchr(duo_checkpoint_path(*checkpoint), '/') + 1);
    if (status == DUO_OK) return DUO_OK;
    duo_checkpoint_close(*checkpoint);
    *checkpoint = NULL;
    return status;
}

/* ---------------------------------------------------------------- saving */

/* A step file that stays behind costs space and nothing else: warn, and train on. */
static void drop_old(const duo_run *run, uint64_t newest)
{
    listing names;
    size_t kept = 0;
    if (list(run, is_step, newest_first, &names) != DUO_OK) duo_warn("%s", duo_message());
    for (size_t i = 0; i < names.n; i++) {
        const char *name = names.entries[i]->d_name;
        uint64_t step = 0;
        parse_step(name, &step);
        if (step > newest || kept++ < run->keep) continue;
        if (unlinkat(run->folder_fd, name, 0) != 0)
            duo_warn("%s/%s: cannot be removed: %s", run->folder, name, strerror(errno));
    }
    free_listing(&names);
}

/* The names that outlive retention come first, and the step's last: a run that is killed in
 * between goes on from the step before and gives them again. */
static duo_status give_names(const duo_run *run, const duo_checkpoint_state *state, bool best,
                             bool milestone)
{
    const step_name step = name_of_step(state->progress->step);
    char stage[DUO_NAME_MAX + sizeof "stage-.h5"];
    duo_status status = DUO_OK;
    snprintf(stage, sizeof stage, "stage-%s.h5", state->stage);
    if (best) status = put_link(run, best_file, HARD, next_file);
    if (status == DUO_OK && milestone) status = put_link(run, stage, HARD, next_file);
    if (status == DUO_OK && (best || milestone)) status = run_sync_folder(run);
    if (status != DUO_OK) return status;
    if (renameat(run->folder_fd, next_file, run->folder_fd, step.text) != 0)
        return run_fail(run, step.text, "rename a checkpoint to it");
    status = put_link(run, latest_link, SYMBOLIC, step.text);
    return status == DUO_OK ? run_sync_folder(run) : status;
}

duo_status duo_run_save(duo_run *run, const duo_checkpoint_state *state, bool best, bool milestone)
{
    run_note_log(run, duo_run_sync_log(run)); /* no reason to lose a checkpoint too */
    duo_status status = duo_checkpoint_save(duo_run_path(run, next_file), state);
    if (status == DUO_OK) status = give_names(run, state, best, milestone);
    if (status == DUO_OK)
        drop_old(run, state->progress->step);
    else
        unlinkat(run->folder_fd, next_file, 0);
    return status;
}
