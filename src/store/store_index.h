#ifndef DUO_STORE_INDEX_H
#define DUO_STORE_INDEX_H

#include "duo/store.h"

/**
 * The user block, version 1. All numbers are little-endian, all hashes XXH3-128, the high half
 * first. B is the size of the block: a power of two, at least 64 KiB.
 *
 *     0      8   magic "DUOSEAL1"
 *     8      4   container version, 1
 *     12     4   kind (duo_kind)
 *     16     8   B
 *     24     8   bytes of the whole file
 *     32     16  hash of everything behind the block
 *     48     8   bytes of the index
 *     56     4   datasets
 *     60     4   attributes
 *     64         the index, then zeros
 *     B-16   16  hash of the B-16 bytes before it
 *
 * Magic, version, B and the hash at the end keep their places in all versions to come: a newer
 * file is told from a damaged one.
 *
 * A string in the index is a uint32 length, its bytes, and a NUL that is not counted. Records
 * follow each other without gaps, datasets by name, then attributes by object and name:
 *
 *     dataset    string name, uint32 type, uint32 rank, uint64 size[rank],
 *                uint64 offset behind the block (a multiple of 4096), uint64 bytes, hash
 *     attribute  string object, string name, uint32 type, then a uint64, the bits of a float64,
 *                or a string
 *
 * Datasets neither overlap nor leave the file; one without elements has offset 0. Datasets and
 * attributes together are 65536 at most: far more than any model needs, and little memory.
 */
enum {
    STORE_VERSION = 1,
    STORE_HEADER = 64,
    STORE_DIGEST = 16,
    STORE_BLOCK_MIN = 64 << 10,
    STORE_BLOCK_MAX = 256 << 20,
    STORE_ALIGN = 4096,
    STORE_ENTRIES = 1 << 16
};

typedef struct store_header {
    duo_kind kind;
    uint64_t block_bytes;
    uint64_t file_bytes;
    duo_hash content;
    uint64_t index_bytes;
    uint32_t datasets, attributes;
} store_header;

/** A dataset of a file that is being written: `data` is unset. */
typedef struct store_dataset {
    duo_dataset is;
    uint64_t offset; /**< behind the user block */
} store_dataset;

/** Names of objects are absolute paths without empty, "." or ".." parts and control characters. */
bool store_object_name_ok(const char *name);
bool store_attribute_name_ok(const char *name);

/**
 * Elements of a shape, and their bytes. False when the type is unknown, the rank is out of range
 * or a product overflows.
 */
bool store_shape_bytes(duo_type type, duo_shape shape, size_t *count, size_t *bytes);

/** Sort both lists as the index wants them, and count the bytes of the index. */
size_t store_index_arrange(store_dataset *datasets, size_t dataset_count, duo_attribute *attributes,
                           size_t attribute_count);

/** Fill a zeroed block of header->block_bytes from the header and two arranged lists. */
void store_block_encode(unsigned char *block, const store_header *header,
                        const store_dataset *datasets, const duo_attribute *attributes);

/** What a file of ours says that it is in its first STORE_HEADER bytes; else DUO_KIND_ANY. */
duo_kind store_header_kind(const unsigned char first[STORE_HEADER]);

/**
 * Check a block at the start of file_bytes readable bytes. Only then can the header be used.
 * `path` is for messages. DUO_EDATA.
 */
duo_status store_block_check(const char *path, const unsigned char *file, size_t file_bytes,
                             store_header *header);

/**
 * Parse the index of a checked block. Names, texts and data point into the file; the two arrays
 * are the caller's to free, also after a failure. DUO_EDATA or DUO_ENOMEM.
 */
duo_status store_index_parse(const char *path, const unsigned char *file,
                             const store_header *header, duo_dataset **datasets,
                             duo_attribute **attributes);

#endif
