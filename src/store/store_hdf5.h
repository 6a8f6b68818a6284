#ifndef DUO_STORE_HDF5_H
#define DUO_STORE_HDF5_H

#include <hdf5.h>

#include "duo/store.h"

/**
 * To be called before anything else of the HDF5 library. Its exit handler is switched off: after
 * a close that failed (a full disk) it would run over objects that are half gone.
 */
void store_hdf5_start(void);

/**
 * duo_fail with "path: cannot DOING OBJECT: the root cause on HDF5's error stack". To be called
 * right after the call that failed; object may be "".
 */
duo_status store_hdf5_fail(duo_status code, const char *path, const char *doing,
                           const char *object);

/** The type in the file and in memory, borrowed from the library. */
hid_t store_hdf5_type(duo_type type);

#endif
