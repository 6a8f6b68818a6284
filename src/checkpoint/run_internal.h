#ifndef DUO_RUN_INTERNAL_H
#define DUO_RUN_INTERNAL_H

#include <limits.h>

#include "duo/checkpoint.h"

/** What the parts of a run folder share. */
struct duo_run {
    char *folder;
    int folder_fd, lock_fd;
    int log_fd; /* -1 until the first line */
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

/** Make the lines of the log durable. */
duo_status run_sync_log(const duo_run *run);

#endif
