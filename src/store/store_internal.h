#ifndef DUO_STORE_INTERNAL_H
#define DUO_STORE_INTERNAL_H

#include <sys/types.h>

#include "duo/store.h"

/** "path.tmp-PID", to be freed; NULL when memory is short. */
char *store_temp_path(const char *path, pid_t pid);

/** Remove the temporary files of `path` that processes of this machine left when they were killed.
 */
void store_temp_sweep(const char *path);

/** The folder that `path` lies in, to be freed; NULL when memory is short. */
char *store_folder_of(const char *path);

/**
 * Compare every dataset with its hash in the index, which for a new file was taken from the
 * writer's memory. DUO_EDATA names the first that differs.
 */
duo_status store_check_datasets(const duo_store *store);

#endif
