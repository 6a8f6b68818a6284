#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duo/rng.h"
#include "fuzz.h"
#include "store_index.h"

/* Changes of a sealed file, each of which its reader must refuse, naming the dataset when that is
 * what was changed. Usage: corrupt FILE COUNT FIRST
 * Or one file with one to four changes, whatever its format: corrupt FILE COUNT FIRST OUTPUT */

enum { SECTOR = 512, KINDS = 5, FILE_MOST = 64 << 20, MOST_CHANGES = 4 };

typedef struct change {
    size_t at, end; /* of what was changed */
    size_t size;    /* of the file then */
} change;

static size_t draw(uint64_t index, uint32_t row, size_t n)
{
    const duo_place place = {.step = index, .row = row};
    const duo_random4 r = duo_random(11, DUO_RNG_TEST, place);
    return (size_t)((((uint64_t)r.word[0] << 32) | r.word[1]) % n);
}

/* A bit, a byte, a sector; cut; lengthened. `file` has room for another sector. */
static change apply(unsigned char *file, size_t size, uint64_t index)
{
    const size_t at = draw(index, 1, size);
    change c = {.at = at, .end = at + 1, .size = size};
    switch (index % KINDS) {
    case 0:
        file[at] ^= (unsigned char)(1u << draw(index, 2, 8));
        break;
    case 1:
        file[at] ^= (unsigned char)(1 + draw(index, 2, 255));
        break;
    case 2:
        c.at -= at % SECTOR;
        c.end = c.at + SECTOR < size ? c.at + SECTOR : size;
        for (size_t i = c.at; i < c.end; i++)
            file[i] ^= (unsigned char)(1 + draw(index, (uint32_t)(2 + i), 255));
        break;
    case 3:
        c.end = size;
        c.size = at;
        break;
    default:
        c.at = size;
        c.end = c.size = size + 1 + draw(index, 2, SECTOR);
        memset(file + size, (int)draw(index, 3, 256), c.size - size);
    }
    return c;
}

/* The one dataset that a change within the file lies in, or NULL. */
static const char *damaged(const duo_dataset *datasets, size_t n, const unsigned char *file,
                           const change *c, size_t size)
{
    if (c->size != size) return NULL;
    for (size_t i = 0; i < n; i++) {
        const size_t bytes = datasets[i].count * duo_type_size(datasets[i].type);
        if (bytes == 0) continue;
        const size_t begin = (size_t)((const unsigned char *)datasets[i].data - file);
        if (c->at >= begin && c->end <= begin + bytes) return datasets[i].name;
    }
    return NULL;
}

static bool refused(const unsigned char *bytes, size_t size, const char *name)
{
    const fuzz_file file = fuzz_open(bytes, size);
    duo_store *store = NULL;
    char wanted[512];
    const duo_status status = duo_store_open(&store, file.path, DUO_KIND_ANY);
    snprintf(wanted, sizeof wanted, "dataset %s is damaged", name ? name : "");
    const bool held = status == DUO_EDATA && strstr(duo_message(), file.path) &&
                      (!name || strstr(duo_message(), wanted));
    if (!held) fprintf(stderr, "status %d: %s; wanted: %s\n", status, duo_message(), wanted);
    duo_store_close(store);
    fuzz_close(&file);
    return held;
}

static size_t read_file(const char *path, unsigned char *into, size_t room)
{
    FILE *file = fopen(path, "rb");
    const size_t size = file ? fread(into, 1, room, file) : 0;
    if (file) fclose(file);
    return size;
}

/* `file` has room for a sector more with every change. */
static bool write_changed(unsigned char *file, size_t size, uint64_t first, uint64_t count,
                          const char *path)
{
    for (uint64_t i = 0; i < count && size > 0; i++)
        size = apply(file, size, first * count + i).size;
    FILE *out = fopen(path, "wb");
    const bool written = out && fwrite(file, 1, size, out) == size;
    return out && fclose(out) == 0 && written;
}

int main(int argc, char **argv)
{
    unsigned char *original = calloc(2, FILE_MOST + MOST_CHANGES * SECTOR), *changed = original;
    store_header header;
    duo_dataset *datasets = NULL;
    duo_attribute *attributes = NULL;
    int status = 2;
    if ((argc != 4 && argc != 5) || !original) goto done;
    const size_t size = read_file(argv[1], original, FILE_MOST);
    const uint64_t count = strtoull(argv[2], NULL, 10), first = strtoull(argv[3], NULL, 10);
    if (argc == 5) {
        status = count > MOST_CHANGES || !write_changed(original, size, first, count, argv[4]);
        goto done;
    }
    if (store_block_check(argv[1], original, size, &header) != DUO_OK ||
        store_index_parse(argv[1], original, &header, &datasets, &attributes) != DUO_OK) {
        fprintf(stderr, "%s\n", duo_message());
        goto done;
    }
    changed = original + FILE_MOST + MOST_CHANGES * SECTOR;
    memcpy(changed, original, size);
    uint64_t held = 0, named = 0;
    for (uint64_t i = first; i < first + count; i++) {
        const change c = apply(changed, size, i);
        const char *name = damaged(datasets, header.datasets, original, &c, size);
        held += refused(changed, c.size, name);
        named += name != NULL;
        memcpy(changed + c.at, original + c.at, c.end - c.at);
    }
    printf("%s: %llu changes, %llu refused, %llu of them had to name a dataset\n", argv[1],
           (unsigned long long)count, (unsigned long long)held, (unsigned long long)named);
    status = held != count;

done:
    free(datasets);
    free(attributes);
    free(original);
    return status;
}
