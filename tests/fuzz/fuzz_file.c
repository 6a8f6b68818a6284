#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "store_index.h"

enum { CONTENT_MAX = 2 << 20, BLOCK = STORE_BLOCK_MIN, HEAD = 16 };

fuzz_file fuzz_open(const void *data, size_t size)
{
    fuzz_file file = {.fd = memfd_create("fuzz", MFD_CLOEXEC)};
    if (file.fd < 0 || write(file.fd, data, size) != (ssize_t)size) abort();
    snprintf(file.path, sizeof file.path, "/proc/self/fd/%d", file.fd);
    return file;
}

void fuzz_close(const fuzz_file *file)
{
    close(file->fd);
}

static uint32_t number(const uint8_t *data, size_t bytes)
{
    uint32_t value = 0;
    for (size_t i = bytes; i-- > 0;) value = value << 8 | data[i];
    return value;
}

static size_t at_most(size_t value, size_t most)
{
    return value < most ? value : most;
}

static void put(unsigned char *to, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) to[i] = (unsigned char)(value >> 8 * i);
}

static void put_hash(unsigned char *to, duo_hash hash)
{
    put(to, hash.high, 8);
    put(to + 8, hash.low, 8);
}

static void put_runs(unsigned char *content, size_t bytes, const uint8_t *data, size_t size)
{
    while (size > 6) {
        const size_t offset = at_most(number(data, 4), bytes);
        const size_t n = at_most(number(data + 4, 2), size - 6);
        memcpy(content + offset, data + 6, at_most(n, bytes - offset));
        data += 6 + n;
        size -= 6 + n;
    }
}

fuzz_file fuzz_open_sealed(const uint8_t *data, size_t size, duo_kind kind)
{
    if (size < HEAD) return fuzz_open(data, size);
    const uint32_t datasets = number(data, 4), attributes = number(data + 4, 4);
    const size_t index =
        at_most(number(data + 8, 4), at_most(size - HEAD, BLOCK - STORE_HEADER - STORE_DIGEST));
    const size_t content = at_most(number(data + 12, 4), CONTENT_MAX);
    unsigned char *bytes = calloc(BLOCK + content, 1);
    if (!bytes) abort();
    memcpy(bytes + STORE_HEADER, data + HEAD, index);
    put_runs(bytes + BLOCK, content, data + HEAD + index, size - HEAD - index);
    memcpy(bytes, "DUOSEAL1", 8);
    put(bytes + 8, STORE_VERSION, 4);
    put(bytes + 12, kind, 4);
    put(bytes + 16, BLOCK, 8);
    put(bytes + 24, BLOCK + content, 8);
    put_hash(bytes + 32, duo_hash_bytes(bytes + BLOCK, content));
    put(bytes + 48, index, 8);
    put(bytes + 56, datasets, 4);
    put(bytes + 60, attributes, 4);
    put_hash(bytes + BLOCK - STORE_DIGEST, duo_hash_bytes(bytes, BLOCK - STORE_DIGEST));
    const fuzz_file file = fuzz_open(bytes, BLOCK + content);
    free(bytes);
    return file;
}
