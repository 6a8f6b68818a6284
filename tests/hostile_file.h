#ifndef HOSTILE_FILE_H
#define HOSTILE_FILE_H

#include "store_index.h"

/**
 * A sealed file in memory, to be changed at will and written with hashes that are right: what a
 * stranger can make who knows the format. Names and data are the file's own copies.
 */
typedef struct hostile_file {
    duo_kind kind;
    store_dataset *datasets; /**< a NULL in is.data: bytes of 0 */
    size_t n_datasets;
    size_t room; /**< in datasets; less than n_datasets: none beyond them */
    duo_attribute *attributes;
    size_t n_attributes;
    bool keep_places; /**< the offsets are what the changes say, not what would be right */
    bool keep_order;  /**< the lists are written as they stand */
    size_t stated;    /**< datasets that the header claims; 0: those that there are */
} hostile_file;

/** Ends the program when the file cannot be read. */
hostile_file hostile_read(const char *path);
void hostile_free(hostile_file *file);

/** NULL: none of this name. */
store_dataset *hostile_dataset(const hostile_file *file, const char *name);
duo_attribute *hostile_attribute(const hostile_file *file, const char *object, const char *name);

/** Another dataset, zeroed where data is NULL. The pointers above are no longer good. */
void hostile_add(hostile_file *file, const char *name, duo_type type, duo_shape shape,
                 const void *data);
/** Another attribute; text NULL: the number. */
void hostile_add_attribute(hostile_file *file, const char *object, const char *name, uint64_t value,
                           const char *text);
void hostile_drop(hostile_file *file, const char *name);
void hostile_drop_attribute(hostile_file *file, const char *object, const char *name);

/** Ends the program when it cannot be written. */
void hostile_write(const hostile_file *file, const char *path);

#endif
