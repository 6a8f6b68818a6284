#ifndef RECORDING_H
#define RECORDING_H

/* A recording: one of these after the other, those of a write followed by its bytes. */

#include <stdint.h>

typedef enum recorded_op {
    RECORDED_CREATE, /* file `name` is made and gets the number `file` */
    RECORDED_WRITE,
    RECORDED_TRUNCATE, /* to `at` bytes */
    RECORDED_SYNC_FILE,
    RECORDED_SYNC_FOLDER,
    RECORDED_RENAME,
    RECORDED_LINK,
    RECORDED_SYMLINK, /* named `to`, holding the text `name` */
    RECORDED_UNLINK
} recorded_op;

enum { RECORDED_NAME = 64 };

typedef struct recorded {
    uint32_t op;
    uint64_t file; /* inode number, which a file that is made later may bear again */
    uint64_t at, bytes;
    char name[RECORDED_NAME], to[RECORDED_NAME];
} recorded;

#endif
