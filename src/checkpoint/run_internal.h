#ifndef DUO_RUN_INTERNAL_H
#define DUO_RUN_INTERNAL_H

#include <limits.h>

#include "duo/checkpoint.h"

/** Lines of the log, or a whole file. */
typedef struct run_text {
    char *data;
    size_t bytes, room;
} run_text;

/** What the parts of a run folder share. */
struct duo_run {
    char *folder;
    int folder_fd, lock_fd;
    int log_fd;        /* -1 until the first line */
    run_text waiting;  /* of the log, to be written */
    bool log_fails;    /* and has been warned of */
    bool log_doubtful; /* lines may not be on the disk although nothing says so any more */
    bool resumes;      /* there were checkpoints */
    size_t keep;
    char *path; /* of the last duo_run_path */
    size_t path_room;
};

/** "NAME.tmp-PID", the form of which duo_run_open removes what a killed process left. */
typedef struct run_temp {
    char name[NAME_MAX + 1];
} run_temp;

run_temp run_temp_name(const char *name);

/** DUO_EIO: "FOLDER/NAME: cannot DOING: " and the reason in errno. */
duo_status run_fail(const duo_run *run, const char *name, const char *doing);

/** Make renames in the folder durable. */
duo_status run_sync_folder(const duo_run *run);

/** Warn once of a log that fails, however many lines it is about. */
void run_note_log(duo_run *run, duo_status status);

#endif
