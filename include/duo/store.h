#ifndef DUO_STORE_H
#define DUO_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "duo/status.h"

/**
 * The sealed container: an HDF5 file behind a user block of ours.
 *
 * The user block holds the magic, the container version, the kind, the length of the file, the
 * XXH3-128 of everything behind the block, an index of all datasets and attributes (name, type,
 * shape, offset, bytes, XXH3-128 of each dataset), and the XXH3-128 of the block itself.
 * Reading goes by the index, never through the HDF5 library: a byte that we did not write cannot
 * reach it. h5py, h5ls and h5dump read the files unchanged.
 *
 * The same content gives the same bytes.
 */

typedef enum duo_kind {
    DUO_KIND_ANY = 0, /**< in duo_store_open: whatever it is */
    DUO_KIND_CHECKPOINT,
    DUO_KIND_TOKENS,
    DUO_KIND_ROUTES, /**< routes and oracle results */
    DUO_KIND_PROBE
} duo_kind;

/** "checkpoint", "tokens", "routes", "probe". */
const char *duo_kind_name(duo_kind kind);

typedef enum duo_type {
    DUO_U8 = 1,
    DUO_U16,
    DUO_U32,
    DUO_U64,
    DUO_I32,
    DUO_I64,
    DUO_F32,
    DUO_F64
} duo_type;

/** Bytes per element. */
size_t duo_type_size(duo_type type);
/** "uint8", "float32", ... as numpy names them. */
const char *duo_type_name(duo_type type);

enum { DUO_MAX_RANK = 4 };

typedef struct duo_shape {
    size_t rank; /**< 1..DUO_MAX_RANK */
    size_t size[DUO_MAX_RANK];
} duo_shape;

/** XXH3-128. */
typedef struct duo_hash {
    uint64_t high, low;
} duo_hash;

/** Hash of a block of memory. */
duo_hash duo_hash_bytes(const void *data, size_t bytes);
bool duo_hash_equal(duo_hash a, duo_hash b);
/** 32 hex digits and a NUL into text. Returns text. */
char *duo_hash_text(char text[33], duo_hash hash);

/** Hash of data that arrives in pieces. NULL when memory is short. Freed with duo_hasher_free. */
typedef struct duo_hasher duo_hasher;
duo_hasher *duo_hasher_create(void);
void duo_hasher_add(duo_hasher *hasher, const void *data, size_t bytes);
duo_hash duo_hasher_value(const duo_hasher *hasher);
void duo_hasher_free(duo_hasher *hasher);

/* ---------------------------------------------------------------- writing */

typedef struct duo_store_writer duo_store_writer;

/**
 * Begin a file. Bytes go to `path`.tmp-PID until the commit; readers of `path` see the old file
 * or the new one, never half of one. What a writer of this path that was killed has left is
 * removed. The caller frees *writer in every case.
 */
duo_status duo_store_create(duo_store_writer **writer, const char *path, duo_kind kind);

/**
 * Write one dataset; groups on the way are made. Names are absolute ("/model/tok_emb"). The data
 * is contiguous, row-major, and not kept.
 */
duo_status duo_store_write(duo_store_writer *writer, const char *name, duo_type type,
                           duo_shape shape, const void *data);

/**
 * Attributes of an object: "/" for the file, a dataset that was written, or a group, which is
 * made if it does not exist. Text is UTF-8, stored as a fixed-length string.
 */
duo_status duo_store_set_u64(duo_store_writer *writer, const char *object, const char *name,
                             uint64_t value);
duo_status duo_store_set_f64(duo_store_writer *writer, const char *object, const char *name,
                             double value);
duo_status duo_store_set_text(duo_store_writer *writer, const char *object, const char *name,
                              const char *value);

/**
 * Close, seal, re-read and verify, fsync, rename over the path, fsync the folder. Afterwards the
 * file is safe against a kill and a power loss. On failure the old file stands untouched.
 */
duo_status duo_store_commit(duo_store_writer *writer);

/** Drops the temporary file unless it was committed. NULL is harmless. */
void duo_store_writer_free(duo_store_writer *writer);

/* ---------------------------------------------------------------- reading */

typedef struct duo_store duo_store;

/** One dataset of an open file; everything is borrowed from the file. */
typedef struct duo_dataset {
    const char *name;
    duo_type type;
    duo_shape shape;
    size_t count;     /**< elements */
    const void *data; /**< mapped read-only, aligned to 4096 bytes */
    duo_hash hash;
} duo_dataset;

/** One attribute of an open file. Only the member that its type names is set. */
typedef struct duo_attribute {
    const char *object, *name;
    enum { DUO_ATTR_U64, DUO_ATTR_F64, DUO_ATTR_TEXT } type;
    uint64_t u64;
    double f64;
    const char *text;
} duo_attribute;

/**
 * Map a sealed file after verifying block, length and content hash. Errors: DUO_EIO when it
 * cannot be read; DUO_EDATA when it is damaged (the message names the first dataset whose hash
 * fails) or of another kind; DUO_EINVAL when it is of a newer version. The caller closes *store.
 */
duo_status duo_store_open(duo_store **store, const char *path, duo_kind kind);
void duo_store_close(duo_store *store);

/** What the first bytes of a file say that it is, unverified; DUO_KIND_ANY for other files and
 * those that cannot be read. */
duo_kind duo_store_glance(const char *path);

/** Let the memory of a dataset's values go after they were copied: they are read from the file
 * again when touched. */
void duo_store_release(const duo_store *store, const duo_dataset *dataset);

const char *duo_store_path(const duo_store *store);
duo_kind duo_store_kind(const duo_store *store);
/** XXH3-128 of everything behind the user block: the identity of the content. */
duo_hash duo_store_hash(const duo_store *store);

/** All datasets and attributes, in the order of their names. */
size_t duo_store_datasets(const duo_store *store, const duo_dataset **first);
size_t duo_store_attributes(const duo_store *store, const duo_attribute **first);

/** NULL when there is none of this name. */
const duo_dataset *duo_store_find(const duo_store *store, const char *name);
const duo_attribute *duo_store_attribute(const duo_store *store, const char *object,
                                         const char *name);

/**
 * The dataset of this name, type and shape; a 0 in want.size accepts any size there. DUO_EDATA
 * names the file, the dataset and what is wrong.
 */
duo_status duo_store_require(const duo_store *store, const char *name, duo_type type,
                             duo_shape want, const duo_dataset **dataset);
duo_status duo_store_get_u64(const duo_store *store, const char *object, const char *name,
                             uint64_t *value);
duo_status duo_store_get_f64(const duo_store *store, const char *object, const char *name,
                             double *value);
/** *value is borrowed from the store. */
duo_status duo_store_get_text(const duo_store *store, const char *object, const char *name,
                              const char **value);

/* ---------------------------------------------------------------- taking in */

/**
 * Read an HDF5 file that other tools wrote (h5py, or one of ours that was edited) in a fenced
 * child process with limits on memory and time, and write a sealed copy to `to`. The kind is
 * taken from the root attribute "kind". Only contiguous or chunked datasets of the types above
 * with rank 1..DUO_MAX_RANK, and scalar integer, float and string attributes are taken; anything
 * else is DUO_EDATA and named.
 */
duo_status duo_store_seal(const char *from, const char *to);

#endif
