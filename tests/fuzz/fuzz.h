#ifndef DUO_FUZZ_H
#define DUO_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "duo/store.h"

/** A target takes any bytes and lives. Built for libFuzzer, or with fuzz_main.c as a program that
 * takes files and folders of them. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** A file in memory; readers open `path`. */
typedef struct fuzz_file {
    int fd;
    char path[32];
} fuzz_file;

fuzz_file fuzz_open(const void *data, size_t size);
void fuzz_close(const fuzz_file *file);

/**
 * A sealed file whose hashes are right, whatever its index says:
 *
 *     uint32 datasets, uint32 attributes, uint32 bytes of the index, uint32 bytes of the content,
 *     the index, then runs until the end: uint32 offset in the content, uint16 n, n bytes
 *
 * The numbers are little-endian, what no run covers is 0, what is too large is cut. So a seed is as
 * long as what is in it, and a mutation comes to the reader behind the seal.
 */
fuzz_file fuzz_open_sealed(const uint8_t *data, size_t size, duo_kind kind);

#endif
