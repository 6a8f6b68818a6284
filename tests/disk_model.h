#ifndef DISK_MODEL_H
#define DISK_MODEL_H

/*
 * One flat folder on a disk whose power may fail, after what POSIX promises and no more:
 *
 * - fsync of a file makes its bytes and its length durable. What was written since may be there or
 *   not, each sector of 512 bytes by itself, whatever the order of the writes; a file may have its
 *   new length without the bytes, which then read as zeros, or be cut off at any sector.
 * - fsync of the folder makes names durable: that files were made, linked, renamed, removed. Of
 *   what was done since, a first part is there (as journals of ext4 and xfs keep it), or any part
 *   of it (as POSIX allows). A rename is there or not; its two names change together. A name can be
 *   there before the bytes of its file are, and the fsync of a file does nothing for its name.
 * - What was durable stays as it was: there are no bad sectors here.
 */

#include <stdbool.h>
#include <stddef.h>

#include "recording.h"

typedef struct disk disk;

/** A switch makes the disk deaf to one kind of fsync, to see that it is needed. */
typedef struct disk_faults {
    bool ignores_file_sync, ignores_folder_sync;
} disk_faults;

/** An empty folder. `pool` is a folder for the disk's own use. Ends the program when it cannot. */
disk *disk_create(const char *pool, disk_faults faults);
void disk_free(disk *d);

/** One recorded operation and the bytes of a write, which are borrowed as long as the disk lives.
 */
void disk_apply(disk *d, const recorded *r, const void *data);

/** The i-th name as a running program sees it, NULL behind the last. */
const char *disk_name(const disk *d, size_t i);
/** What a link of this name holds, NULL when there is none. */
const char *disk_target(const disk *d, const char *name);
/** The bytes of a file as a running program sees them, NULL when there is none. */
const unsigned char *disk_content(const disk *d, const char *name, size_t *bytes);

/** Make `folder`, which is empty, what a power loss now may leave; another state for each number.
 */
void disk_lose_power(const disk *d, uint64_t number, const char *folder);

#endif
