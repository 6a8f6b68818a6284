#ifndef DUO_FILE_H
#define DUO_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#include "duo/status.h"

/**
 * Read a file, or its first `most` bytes where it has more; SIZE_MAX: all. A zero stands behind
 * them, and *bytes may be NULL. The caller frees *text, which is NULL on failure: DUO_EIO,
 * DUO_ENOMEM; the message names the path.
 */
duo_status duo_file_read(char **text, size_t *bytes, const char *path, size_t most);

/**
 * Files that appear whole: each is written as PATH.tmp-PID beside its place, and renamed.
 */

/** "path.tmp-PID" of a process; as snprintf, the length that it needs. */
int duo_temporary_name(char *to, size_t bytes, const char *path, pid_t process);

/** The process whose temporary file has this name; 0 where it is no such name. */
pid_t duo_temporary_owner(const char *name);

/** Whether it is the temporary file of a process that is no more on this machine. */
bool duo_temporary_abandoned(const char *name);

/** A text that replaces what its path holds, and keeps its mode, once it is whole and on disk. */
typedef struct duo_text_file {
    FILE *out;
    char *path;      /**< where a file is replaced, behind any symbolic link */
    char *temporary; /**< NULL: a pipe, a device, what stdout goes to, or a link to nothing,
                          written as it is */
} duo_text_file;

/** Begin to write. DUO_EIO, DUO_ENOMEM; then there is nothing to end. */
duo_status duo_text_file_begin(duo_text_file *file, const char *path);

/**
 * End it: where all went well (`status` is DUO_OK) and every byte was written, the new text takes
 * its place; otherwise the path still holds what it held. Returns `status`, or DUO_EIO. *file is
 * then empty; ending an empty one gives `status` back.
 */
duo_status duo_text_file_end(duo_text_file *file, duo_status status);

#endif
