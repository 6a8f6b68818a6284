#define _DEFAULT_SOURCE /* madvise */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "duo/store.h"
#include "store_index.h"
#include "store_internal.h"

struct duo_store {
    char *path;
    void *map;
    size_t mapped;
    store_header header;
    duo_dataset *datasets;
    duo_attribute *attributes;
};

/* O_NONBLOCK: opening a FIFO must not wait for a writer. */
static duo_status map_file(duo_store *store)
{
    duo_status status = DUO_OK;
    struct stat info;
    const int fd = open(store->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return duo_fail(DUO_EIO, "%s: cannot open: %s", store->path, strerror(errno));
    if (fstat(fd, &info) != 0) {
        status = duo_fail(DUO_EIO, "%s: cannot read: %s", store->path, strerror(errno));
        goto done;
    }
    if (!S_ISREG(info.st_mode)) {
        status = duo_fail(DUO_EIO, "%s: %s", store->path,
                          S_ISDIR(info.st_mode) ? "is a directory" : "is not a regular file");
        goto done;
    }
    if (info.st_size == 0) goto done; /* cannot be mapped; the block check says that it is empty */
    void *map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        status = duo_fail(DUO_EIO, "%s: cannot map: %s", store->path, strerror(errno));
        goto done;
    }
    store->map = map;
    store->mapped = (size_t)info.st_size;
    posix_madvise(map, store->mapped, POSIX_MADV_SEQUENTIAL); /* the hash reads ahead */

done:
    close(fd);
    return status;
}

static size_t place_of(const duo_store *store, const duo_dataset *dataset)
{
    return (size_t)((const unsigned char *)dataset->data - (const unsigned char *)store->map);
}

/* Whole pages of the mapping between two offsets leave memory; they are read again when touched. */
static void release(const duo_store *store, size_t begin, size_t end)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    begin = (begin + page - 1) / page * page;
    end = end / page * page;
    if (end > begin) madvise((unsigned char *)store->map + begin, end - begin, MADV_DONTNEED);
}

void duo_store_release(const duo_store *store, const duo_dataset *dataset)
{
    const size_t at = place_of(store, dataset);
    release(store, at, at + dataset->count * duo_type_size(dataset->type));
}

/* Hashed in pieces that are let go, so that checking a file takes no memory of its size. */
static duo_status check_hash(const duo_store *store, size_t at, size_t bytes, duo_hash expected,
                             bool *same)
{
    const size_t piece = (size_t)4 << 20;
    duo_hasher *hasher = duo_hasher_create();
    if (!hasher) return duo_fail(DUO_ENOMEM, "%s: no memory to check it", store->path);
    for (const size_t end = at + bytes; at < end;) {
        const size_t n = end - at < piece ? end - at : piece;
        duo_hasher_add(hasher, (const unsigned char *)store->map + at, n);
        release(store, at, at + n);
        at += n;
    }
    *same = duo_hash_equal(duo_hasher_value(hasher), expected);
    duo_hasher_free(hasher);
    return DUO_OK;
}

duo_status store_check_datasets(const duo_store *store)
{
    for (size_t i = 0; i < store->header.datasets; i++) {
        const duo_dataset *d = &store->datasets[i];
        const size_t bytes = d->count * duo_type_size(d->type);
        bool same = false;
        const duo_status status = check_hash(store, place_of(store, d), bytes, d->hash, &same);
        if (status != DUO_OK) return status;
        if (!same) return duo_fail(DUO_EDATA, "%s: dataset %s is damaged", store->path, d->name);
    }
    return DUO_OK;
}

static duo_status check_content(const duo_store *store)
{
    const size_t block = (size_t)store->header.block_bytes;
    bool same = false;
    duo_status status =
        check_hash(store, block, store->mapped - block, store->header.content, &same);
    if (status != DUO_OK || same) return status;
    status = store_check_datasets(store);
    if (status != DUO_OK) return status;
    return duo_fail(DUO_EDATA, "%s: damaged between the datasets, which are whole", store->path);
}

duo_status duo_store_open(duo_store **out, const char *path, duo_kind kind)
{
    *out = NULL;
    duo_status status = DUO_OK;
    duo_store *store = calloc(1, sizeof *store);
    if (!store || !(store->path = strdup(path))) {
        status = duo_fail(DUO_ENOMEM, "%s: no memory to open it", path);
        goto done;
    }
    if ((status = map_file(store)) != DUO_OK) goto done;
    status = store_block_check(path, store->map, store->mapped, &store->header);
    if (status != DUO_OK) goto done;
    if (kind != DUO_KIND_ANY && store->header.kind != kind) {
        status = duo_fail(DUO_EDATA, "%s: is a %s file, not a %s file", path,
                          duo_kind_name(store->header.kind), duo_kind_name(kind));
        goto done;
    }
    status =
        store_index_parse(path, store->map, &store->header, &store->datasets, &store->attributes);
    if (status != DUO_OK) goto done;
    if ((status = check_content(store)) != DUO_OK) goto done;
    posix_madvise(store->map, store->mapped, POSIX_MADV_NORMAL);
    *out = store;
    store = NULL;

done:
    duo_store_close(store);
    return status;
}

duo_kind duo_store_glance(const char *path)
{
    unsigned char first[STORE_HEADER] = {0};
    FILE *file = fopen(path, "rb");
    if (!file) return DUO_KIND_ANY;
    const size_t got = fread(first, 1, sizeof first, file);
    fclose(file);
    return got == sizeof first ? store_header_kind(first) : DUO_KIND_ANY;
}

void duo_store_close(duo_store *store)
{
    if (!store) return;
    free(store->datasets);
    free(store->attributes);
    if (store->map) munmap(store->map, store->mapped);
    free(store->path);
    free(store);
}

const char *duo_store_path(const duo_store *store)
{
    return store->path;
}

duo_kind duo_store_kind(const duo_store *store)
{
    return store->header.kind;
}

duo_hash duo_store_hash(const duo_store *store)
{
    return store->header.content;
}

size_t duo_store_datasets(const duo_store *store, const duo_dataset **first)
{
    *first = store->datasets;
    return store->header.datasets;
}

size_t duo_store_attributes(const duo_store *store, const duo_attribute **first)
{
    *first = store->attributes;
    return store->header.attributes;
}

static int compare_dataset(const void *name, const void *dataset)
{
    return strcmp(name, ((const duo_dataset *)dataset)->name);
}

const duo_dataset *duo_store_find(const duo_store *store, const char *name)
{
    return bsearch(name, store->datasets, store->header.datasets, sizeof(duo_dataset),
                   compare_dataset);
}

static int compare_attribute(const void *key, const void *attribute)
{
    const duo_attribute *want = key, *have = attribute;
    const int order = strcmp(want->object, have->object);
    return order ? order : strcmp(want->name, have->name);
}

const duo_attribute *duo_store_attribute(const duo_store *store, const char *object,
                                         const char *name)
{
    const duo_attribute want = {.object = object, .name = name};
    return bsearch(&want, store->attributes, store->header.attributes, sizeof want,
                   compare_attribute);
}

/* "[3, *, 4]", where 0 in a wanted shape means any size. */
typedef struct shape_text {
    char text[128];
} shape_text;

static shape_text describe(duo_shape shape, bool wanted)
{
    shape_text out;
    size_t used = 0;
    out.text[used++] = '[';
    for (size_t i = 0; i < shape.rank && i < DUO_MAX_RANK; i++) {
        char *at = out.text + used;
        const size_t room = sizeof out.text - used;
        const char *comma = i ? ", " : "";
        const int n = wanted && shape.size[i] == 0
                          ? snprintf(at, room, "%s*", comma)
                          : snprintf(at, room, "%s%zu", comma, shape.size[i]);
        used += (size_t)n;
    }
    out.text[used++] = ']';
    out.text[used] = '\0';
    return out;
}

duo_status duo_store_require(const duo_store *store, const char *name, duo_type type,
                             duo_shape want, const duo_dataset **dataset)
{
    *dataset = NULL;
    const duo_dataset *have = duo_store_find(store, name);
    if (!have) return duo_fail(DUO_EDATA, "%s: dataset %s is missing", store->path, name);
    bool fits = have->type == type && have->shape.rank == want.rank;
    for (size_t i = 0; fits && i < want.rank; i++)
        fits = want.size[i] == 0 || want.size[i] == have->shape.size[i];
    if (!fits)
        return duo_fail(DUO_EDATA, "%s: dataset %s is %s %s, not %s %s", store->path, name,
                        duo_type_name(have->type), describe(have->shape, false).text,
                        duo_type_name(type), describe(want, true).text);
    *dataset = have;
    return DUO_OK;
}

static duo_status require_attribute(const duo_store *store, const char *object, const char *name,
                                    int type, const duo_attribute **attribute)
{
    static const char *const names[] = {"an integer", "a float", "a text"};
    *attribute = duo_store_attribute(store, object, name);
    if (!*attribute)
        return duo_fail(DUO_EDATA, "%s: attribute %s of %s is missing", store->path, name, object);
    if ((int)(*attribute)->type != type)
        return duo_fail(DUO_EDATA, "%s: attribute %s of %s is %s, not %s", store->path, name,
                        object, names[(*attribute)->type], names[type]);
    return DUO_OK;
}

duo_status duo_store_get_u64(const duo_store *store, const char *object, const char *name,
                             uint64_t *value)
{
    const duo_attribute *found;
    const duo_status status = require_attribute(store, object, name, DUO_ATTR_U64, &found);
    if (status == DUO_OK) *value = found->u64;
    return status;
}

duo_status duo_store_get_f64(const duo_store *store, const char *object, const char *name,
                             double *value)
{
    const duo_attribute *found;
    const duo_status status = require_attribute(store, object, name, DUO_ATTR_F64, &found);
    if (status == DUO_OK) *value = found->f64;
    return status;
}

duo_status duo_store_get_text(const duo_store *store, const char *object, const char *name,
                              const char **value)
{
    const duo_attribute *found;
    const duo_status status = require_attribute(store, object, name, DUO_ATTR_TEXT, &found);
    if (status == DUO_OK) *value = found->text;
    return status;
}
