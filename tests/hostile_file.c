#include "hostile_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void give_up(const char *what)
{
    fprintf(stderr, "hostile: %s\n", what);
    exit(2);
}

static void *checked(void *memory)
{
    if (!memory) give_up("no memory");
    return memory;
}

static char *copy_text(const char *text)
{
    return checked(strdup(text));
}

static size_t bytes_of(const duo_dataset *d)
{
    return d->count * duo_type_size(d->type);
}

/* ---------------------------------------------------------------- contents */

void hostile_add(hostile_file *file, const char *name, duo_type type, duo_shape shape,
                 const void *data)
{
    if (file->n_datasets >= file->room) {
        file->room = 2 * file->n_datasets + 1;
        file->datasets = checked(realloc(file->datasets, file->room * sizeof *file->datasets));
    }
    store_dataset *d = &file->datasets[file->n_datasets++];
    *d = (store_dataset){.is = {.name = copy_text(name), .type = type, .shape = shape}};
    size_t bytes = 0;
    if (!store_shape_bytes(type, shape, &d->is.count, &bytes)) give_up("a shape overflows");
    if (!data) return;
    void *copy = checked(malloc(bytes + 1));
    memcpy(copy, data, bytes);
    d->is.data = copy;
}

void hostile_add_attribute(hostile_file *file, const char *object, const char *name, uint64_t value,
                           const char *text)
{
    file->attributes =
        checked(realloc(file->attributes, (file->n_attributes + 1) * sizeof *file->attributes));
    file->attributes[file->n_attributes++] =
        (duo_attribute){.object = copy_text(object),
                        .name = copy_text(name),
                        .type = text ? DUO_ATTR_TEXT : DUO_ATTR_U64,
                        .u64 = value,
                        .text = text ? copy_text(text) : NULL};
}

store_dataset *hostile_dataset(const hostile_file *file, const char *name)
{
    for (size_t i = 0; i < file->n_datasets; i++)
        if (strcmp(file->datasets[i].is.name, name) == 0) return &file->datasets[i];
    return NULL;
}

duo_attribute *hostile_attribute(const hostile_file *file, const char *object, const char *name)
{
    for (size_t i = 0; i < file->n_attributes; i++)
        if (strcmp(file->attributes[i].object, object) == 0 &&
            strcmp(file->attributes[i].name, name) == 0)
            return &file->attributes[i];
    return NULL;
}

static void free_dataset(store_dataset *d)
{
    free((void *)d->is.name);
    free((void *)d->is.data);
}

static void free_attribute(duo_attribute *a)
{
    free((void *)a->object);
    free((void *)a->name);
    free((void *)a->text);
}

void hostile_drop(hostile_file *file, const char *name)
{
    store_dataset *d = hostile_dataset(file, name);
    if (!d) give_up(name);
    free_dataset(d);
    *d = file->datasets[--file->n_datasets];
}

void hostile_drop_attribute(hostile_file *file, const char *object, const char *name)
{
    duo_attribute *a = hostile_attribute(file, object, name);
    if (!a) give_up(name);
    free_attribute(a);
    *a = file->attributes[--file->n_attributes];
}

/* ---------------------------------------------------------------- files */

hostile_file hostile_read(const char *path)
{
    hostile_file file = {0};
    duo_store *store = NULL;
    const duo_dataset *datasets = NULL;
    const duo_attribute *attributes = NULL;
    if (duo_store_open(&store, path, DUO_KIND_ANY) != DUO_OK) give_up(duo_message());
    file.kind = duo_store_kind(store);
    const size_t n = duo_store_datasets(store, &datasets);
    for (size_t i = 0; i < n; i++)
        hostile_add(&file, datasets[i].name, datasets[i].type, datasets[i].shape, datasets[i].data);
    const size_t m = duo_store_attributes(store, &attributes);
    for (size_t i = 0; i < m; i++) {
        const duo_attribute *a = &attributes[i];
        hostile_add_attribute(&file, a->object, a->name, a->u64,
                              a->type == DUO_ATTR_TEXT ? a->text : NULL);
        file.attributes[i].type = a->type;
        if (a->type == DUO_ATTR_F64) file.attributes[i].f64 = a->f64;
    }
    duo_store_close(store);
    return file;
}

void hostile_free(hostile_file *file)
{
    for (size_t i = 0; i < file->n_datasets; i++) free_dataset(&file->datasets[i]);
    for (size_t i = 0; i < file->n_attributes; i++) free_attribute(&file->attributes[i]);
    free(file->datasets);
    free(file->attributes);
    *file = (hostile_file){0};
}

/* Where every dataset goes, and the bytes of the content. */
static size_t place(store_dataset *datasets, size_t n, bool keep)
{
    size_t end = STORE_ALIGN;
    for (size_t i = 0; i < n; i++) {
        const size_t bytes = bytes_of(&datasets[i].is);
        if (!keep) datasets[i].offset = bytes ? end : 0;
        /* What lies elsewhere than it could has no bytes of its own. */
        const size_t after = datasets[i].offset + bytes;
        if (bytes > 0 && datasets[i].is.data && after > end)
            end = (after + STORE_ALIGN - 1) / STORE_ALIGN * STORE_ALIGN;
    }
    return end;
}

static void fill(unsigned char *content, size_t size, store_dataset *datasets, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        duo_dataset *d = &datasets[i].is;
        const size_t at = datasets[i].offset, bytes = bytes_of(d);
        if (at > size || bytes > size - at) continue;
        if (d->data) memcpy(content + at, d->data, bytes);
    }
    for (size_t i = 0; i < n; i++) {
        duo_dataset *d = &datasets[i].is;
        const size_t at = datasets[i].offset, bytes = bytes_of(d);
        if (at <= size && bytes <= size - at) d->hash = duo_hash_bytes(content + at, bytes);
    }
}

void hostile_write(const hostile_file *file, const char *path)
{
    const size_t D = file->n_datasets, A = file->n_attributes;
    store_dataset *datasets = checked(calloc(D + 1, sizeof *datasets));
    duo_attribute *attributes = checked(calloc(A + 1, sizeof *attributes));
    memcpy(datasets, file->datasets, D * sizeof *datasets);
    memcpy(attributes, file->attributes, A * sizeof *attributes);
    store_header header = {.kind = file->kind,
                           .datasets = (uint32_t)D,
                           .attributes = (uint32_t)A,
                           .block_bytes = STORE_BLOCK_MIN};
    header.index_bytes = store_index_arrange(datasets, D, attributes, A);
    if (file->keep_order) {
        memcpy(datasets, file->datasets, D * sizeof *datasets);
        memcpy(attributes, file->attributes, A * sizeof *attributes);
    }
    while (header.block_bytes < STORE_HEADER + header.index_bytes + STORE_DIGEST)
        header.block_bytes *= 2;
    const size_t content_bytes = place(datasets, D, file->keep_places);
    const size_t block = (size_t)header.block_bytes;
    header.file_bytes = block + content_bytes;
    unsigned char *all = checked(calloc(header.file_bytes, 1));
    fill(all + block, content_bytes, datasets, D);
    header.content = duo_hash_bytes(all + block, content_bytes);
    store_block_encode(all, &header, datasets, attributes);
    if (file->stated > 0) { /* and the digest once more */
        const uint32_t stated = (uint32_t)file->stated;
        memcpy(all + 56, &stated, sizeof stated);
        const duo_hash digest = duo_hash_bytes(all, block - STORE_DIGEST);
        memcpy(all + block - STORE_DIGEST, &digest.high, 8);
        memcpy(all + block - 8, &digest.low, 8);
    }
    FILE *out = fopen(path, "wb");
    if (!out || fwrite(all, 1, header.file_bytes, out) != header.file_bytes || fclose(out) != 0)
        give_up(path);
    free(all);
    free(datasets);
    free(attributes);
}
