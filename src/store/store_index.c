#include "store_index.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "duo/utf8.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Datasets are mapped as they lie in the file, which is little-endian."
#endif

static const char magic[8] = {'D', 'U', 'O', 'S', 'E', 'A', 'L', '1'};

static const struct {
    const char *name;
    size_t size;
} types[] = {
    [DUO_U8] = {"uint8", 1},    [DUO_U16] = {"uint16", 2},  [DUO_U32] = {"uint32", 4},
    [DUO_U64] = {"uint64", 8},  [DUO_I32] = {"int32", 4},   [DUO_I64] = {"int64", 8},
    [DUO_F32] = {"float32", 4}, [DUO_F64] = {"float64", 8},
};

static bool type_ok(uint32_t type)
{
    return type >= DUO_U8 && type <= DUO_F64;
}

size_t duo_type_size(duo_type type)
{
    return type_ok((uint32_t)type) ? types[type].size : 0;
}

const char *duo_type_name(duo_type type)
{
    return type_ok((uint32_t)type) ? types[type].name : "unknown";
}

const char *duo_kind_name(duo_kind kind)
{
    static const char *const names[] = {"any", "checkpoint", "tokens", "routes", "probe"};
    return (size_t)kind < sizeof names / sizeof names[0] ? names[kind] : "unknown";
}

bool store_attribute_name_ok(const char *name)
{
    if (!*name || strlen(name) > 1023 || !duo_utf8_ok(name)) return false;
    for (const char *c = name; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) return false;
    return true;
}

bool store_object_name_ok(const char *name)
{
    if (name[0] != '/' || !store_attribute_name_ok(name)) return false;
    if (!name[1]) return true;
    for (const char *part = name + 1;; part++) {
        const size_t length = strcspn(part, "/");
        if (length == 0 || (length <= 2 && strspn(part, ".") >= length)) return false;
        part += length;
        if (!*part) return true;
    }
}

bool store_shape_bytes(duo_type type, duo_shape shape, size_t *count, size_t *bytes)
{
    if (!type_ok((uint32_t)type) || shape.rank < 1 || shape.rank > DUO_MAX_RANK) return false;
    size_t product = 1;
    for (size_t i = 0; i < shape.rank; i++)
        if (__builtin_mul_overflow(product, shape.size[i], &product)) return false;
    *count = product;
    return !__builtin_mul_overflow(product, duo_type_size(type), bytes);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const store_dataset *)a)->is.name, ((const store_dataset *)b)->is.name);
}

static int by_object_and_name(const void *a, const void *b)
{
    const duo_attribute *x = a, *y = b;
    const int order = strcmp(x->object, y->object);
    return order ? order : strcmp(x->name, y->name);
}

/* ---------------------------------------------------------------- encoding */

static unsigned char *put(unsigned char *at, const void *data, size_t bytes)
{
    memcpy(at, data, bytes);
    return at + bytes;
}

static unsigned char *put_u32(unsigned char *at, uint32_t value)
{
    return put(at, &value, sizeof value);
}

static unsigned char *put_u64(unsigned char *at, uint64_t value)
{
    return put(at, &value, sizeof value);
}

static unsigned char *put_hash(unsigned char *at, duo_hash hash)
{
    return put_u64(put_u64(at, hash.high), hash.low);
}

static unsigned char *put_string(unsigned char *at, const char *text)
{
    const size_t length = strlen(text);
    return put(put_u32(at, (uint32_t)length), text, length + 1);
}

static size_t string_bytes(const char *text)
{
    return sizeof(uint32_t) + strlen(text) + 1;
}

size_t store_index_arrange(store_dataset *datasets, size_t dataset_count, duo_attribute *attributes,
                           size_t attribute_count)
{
    if (dataset_count) qsort(datasets, dataset_count, sizeof *datasets, by_name);
    if (attribute_count) qsort(attributes, attribute_count, sizeof *attributes, by_object_and_name);
    size_t bytes = 0;
    for (size_t i = 0; i < dataset_count; i++)
        bytes += string_bytes(datasets[i].is.name) + 2 * sizeof(uint32_t) +
                 (datasets[i].is.shape.rank + 4) * sizeof(uint64_t);
    for (size_t i = 0; i < attribute_count; i++) {
        const duo_attribute *a = &attributes[i];
        bytes += string_bytes(a->object) + string_bytes(a->name) + sizeof(uint32_t);
        bytes += a->type == DUO_ATTR_TEXT ? string_bytes(a->text) : sizeof(uint64_t);
    }
    return bytes;
}

static unsigned char *put_dataset(unsigned char *at, const store_dataset *dataset)
{
    const duo_dataset *d = &dataset->is;
    at = put_string(at, d->name);
    at = put_u32(at, (uint32_t)d->type);
    at = put_u32(at, (uint32_t)d->shape.rank);
    for (size_t i = 0; i < d->shape.rank; i++) at = put_u64(at, d->shape.size[i]);
    at = put_u64(at, dataset->offset);
    at = put_u64(at, d->count * duo_type_size(d->type));
    return put_hash(at, d->hash);
}

static unsigned char *put_attribute(unsigned char *at, const duo_attribute *attribute)
{
    at = put_string(at, attribute->object);
    at = put_string(at, attribute->name);
    at = put_u32(at, (uint32_t)attribute->type);
    if (attribute->type == DUO_ATTR_TEXT) return put_string(at, attribute->text);
    if (attribute->type == DUO_ATTR_F64) return put(at, &attribute->f64, sizeof attribute->f64);
    return put_u64(at, attribute->u64);
}

void store_block_encode(unsigned char *block, const store_header *header,
                        const store_dataset *datasets, const duo_attribute *attributes)
{
    unsigned char *at = put(block, magic, sizeof magic);
    at = put_u32(at, STORE_VERSION);
    at = put_u32(at, (uint32_t)header->kind);
    at = put_u64(at, header->block_bytes);
    at = put_u64(at, header->file_bytes);
    at = put_hash(at, header->content);
    at = put_u64(at, header->index_bytes);
    at = put_u32(at, header->datasets);
    at = put_u32(at, header->attributes);
    for (size_t i = 0; i < header->datasets; i++) at = put_dataset(at, &datasets[i]);
    for (size_t i = 0; i < header->attributes; i++) at = put_attribute(at, &attributes[i]);
    const size_t body = (size_t)header->block_bytes - STORE_DIGEST;
    put_hash(block + body, duo_hash_bytes(block, body));
}

/* ---------------------------------------------------------------- parsing */

typedef struct cursor {
    const unsigned char *at;
    size_t left;
} cursor;

static bool get(cursor *c, void *value, size_t bytes)
{
    if (bytes > c->left) return false;
    memcpy(value, c->at, bytes);
    c->at += bytes;
    c->left -= bytes;
    return true;
}

static bool get_hash(cursor *c, duo_hash *hash)
{
    return get(c, &hash->high, sizeof hash->high) && get(c, &hash->low, sizeof hash->low);
}

static bool get_string(cursor *c, const char **text)
{
    uint32_t length;
    if (!get(c, &length, sizeof length) || length >= c->left) return false;
    *text = (const char *)c->at;
    if (memchr(c->at, 0, (size_t)length + 1) != c->at + length) return false;
    c->at += (size_t)length + 1;
    c->left -= (size_t)length + 1;
    return true;
}

duo_kind store_header_kind(const unsigned char first[STORE_HEADER])
{
    uint32_t kind = 0;
    if (memcmp(first, magic, sizeof magic) != 0) return DUO_KIND_ANY;
    cursor c = {.at = first + sizeof magic + sizeof(uint32_t), .left = sizeof kind};
    get(&c, &kind, sizeof kind);
    return kind >= DUO_KIND_CHECKPOINT && kind <= DUO_KIND_PROBE ? (duo_kind)kind : DUO_KIND_ANY;
}

duo_status store_block_check(const char *path, const unsigned char *file, size_t file_bytes,
                             store_header *header)
{
    static const unsigned char hdf5[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
    if (file_bytes == 0) return duo_fail(DUO_EDATA, "%s: is empty", path);
    if (file_bytes >= sizeof hdf5 && memcmp(file, hdf5, sizeof hdf5) == 0)
        return duo_fail(DUO_EDATA, "%s: an HDF5 file without a seal; duo seal takes it in", path);
    if (file_bytes < STORE_HEADER || memcmp(file, magic, sizeof magic) != 0)
        return duo_fail(DUO_EDATA, "%s: not a sealed file", path);

    cursor c = {.at = file + sizeof magic, .left = STORE_HEADER - sizeof magic};
    uint32_t version = 0, kind = 0;
    *header = (store_header){0};
    get(&c, &version, sizeof version);
    get(&c, &kind, sizeof kind);
    get(&c, &header->block_bytes, sizeof header->block_bytes);
    get(&c, &header->file_bytes, sizeof header->file_bytes);
    get_hash(&c, &header->content);
    get(&c, &header->index_bytes, sizeof header->index_bytes);
    get(&c, &header->datasets, sizeof header->datasets);
    get(&c, &header->attributes, sizeof header->attributes);

    const uint64_t block_bytes = header->block_bytes;
    if (block_bytes < STORE_BLOCK_MIN || block_bytes > STORE_BLOCK_MAX ||
        (block_bytes & (block_bytes - 1)))
        return duo_fail(DUO_EDATA, "%s: the user block is damaged (its size)", path);
    if (block_bytes > file_bytes)
        return duo_fail(DUO_EDATA, "%s: truncated: %zu bytes, within the user block", path,
                        file_bytes);
    const size_t body = (size_t)block_bytes - STORE_DIGEST;
    cursor end = {.at = file + body, .left = STORE_DIGEST};
    duo_hash digest;
    get_hash(&end, &digest);
    if (!duo_hash_equal(digest, duo_hash_bytes(file, body)))
        return duo_fail(DUO_EDATA, "%s: the user block is damaged", path);
    if (version != STORE_VERSION)
        return duo_fail(DUO_EINVAL, "%s: container version %" PRIu32 "; this program reads %d",
                        path, version, STORE_VERSION);
    if (kind < DUO_KIND_CHECKPOINT || kind > DUO_KIND_PROBE)
        return duo_fail(DUO_EDATA, "%s: unknown kind %" PRIu32, path, kind);
    header->kind = (duo_kind)kind;
    if (header->file_bytes != file_bytes)
        return duo_fail(DUO_EDATA, "%s: %s: %zu bytes instead of %" PRIu64, path,
                        file_bytes < header->file_bytes ? "truncated" : "bytes were appended",
                        file_bytes, header->file_bytes);
    if (header->index_bytes > body - STORE_HEADER)
        return duo_fail(DUO_EDATA, "%s: the index does not fit the user block", path);
    return DUO_OK;
}

/* NULL, or what is wrong with the record. */
static const char *parse_dataset(cursor *c, const unsigned char *content, uint64_t content_bytes,
                                 duo_dataset *dataset)
{
    uint32_t type, rank;
    if (!get_string(c, &dataset->name)) return "its name is cut off";
    if (!store_object_name_ok(dataset->name) || !dataset->name[1]) return "its name is no path";
    if (!get(c, &type, sizeof type) || !get(c, &rank, sizeof rank)) return "it is cut off";
    if (!type_ok(type)) return "its type is unknown";
    if (rank < 1 || rank > DUO_MAX_RANK) return "its rank is out of range";
    dataset->type = (duo_type)type;
    dataset->shape.rank = rank;
    for (size_t i = 0; i < rank; i++) {
        uint64_t size;
        if (!get(c, &size, sizeof size)) return "it is cut off";
        dataset->shape.size[i] = (size_t)size;
    }
    uint64_t offset, stated;
    if (!get(c, &offset, sizeof offset) || !get(c, &stated, sizeof stated) ||
        !get_hash(c, &dataset->hash))
        return "it is cut off";
    size_t bytes;
    if (!store_shape_bytes(dataset->type, dataset->shape, &dataset->count, &bytes))
        return "its shape overflows";
    if (bytes != stated) return "its shape and its bytes disagree";
    if (offset % STORE_ALIGN) return "it is not aligned";
    if (bytes == 0 && offset != 0) return "it is empty and has a place";
    if (offset > content_bytes || bytes > content_bytes - offset) return "it leaves the file";
    dataset->data = content + offset;
    return NULL;
}

static const char *parse_attribute(cursor *c, duo_attribute *attribute)
{
    uint32_t type;
    if (!get_string(c, &attribute->object) || !get_string(c, &attribute->name))
        return "its name is cut off";
    if (!store_object_name_ok(attribute->object) || !store_attribute_name_ok(attribute->name))
        return "its name is malformed";
    if (!get(c, &type, sizeof type)) return "it is cut off";
    switch (type) {
    case DUO_ATTR_U64:
        attribute->type = DUO_ATTR_U64;
        return get(c, &attribute->u64, sizeof attribute->u64) ? NULL : "it is cut off";
    case DUO_ATTR_F64:
        attribute->type = DUO_ATTR_F64;
        return get(c, &attribute->f64, sizeof attribute->f64) ? NULL : "it is cut off";
    case DUO_ATTR_TEXT:
        attribute->type = DUO_ATTR_TEXT;
        if (!get_string(c, &attribute->text)) return "it is cut off";
        return duo_utf8_ok(attribute->text) ? NULL : "its text is not UTF-8";
    default:
        return "its type is unknown";
    }
}

static size_t dataset_bytes(const duo_dataset *dataset)
{
    return dataset->count * duo_type_size(dataset->type);
}

static int by_place(const void *a, const void *b)
{
    const duo_dataset *x = *(const duo_dataset *const *)a, *y = *(const duo_dataset *const *)b;
    const char *p = x->data, *q = y->data;
    return (p > q) - (p < q);
}

/* A name that is none stays out of the message. */
static duo_status bad_dataset(const char *path, size_t i, const char *name, const char *wrong)
{
    const bool named = name && store_object_name_ok(name);
    return duo_fail(DUO_EDATA, "%s: index: dataset %zu%s%.200s: %s", path, i, named ? ", " : "",
                    named ? name : "", wrong);
}

static duo_status check_overlap(const char *path, const duo_dataset *datasets, size_t count)
{
    duo_status status = DUO_OK;
    const duo_dataset **placed = malloc((count + 1) * sizeof(const duo_dataset *));
    if (!placed) return duo_fail(DUO_ENOMEM, "%s: no memory for its index", path);
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (datasets[i].count) placed[n++] = &datasets[i];
    qsort(placed, n, sizeof(const duo_dataset *), by_place);
    for (size_t i = 1; i < n && status == DUO_OK; i++)
        if ((const char *)placed[i - 1]->data + dataset_bytes(placed[i - 1]) >
            (const char *)placed[i]->data)
            status = duo_fail(DUO_EDATA, "%s: index: datasets %s and %s overlap", path,
                              placed[i - 1]->name, placed[i]->name);
    free(placed);
    return status;
}

duo_status store_index_parse(const char *path, const unsigned char *file,
                             const store_header *header, duo_dataset **datasets,
                             duo_attribute **attributes)
{
    enum { LEAST_RECORD = 16 }; /* no record is shorter: a hostile count allocates little */
    cursor c = {.at = file + STORE_HEADER, .left = (size_t)header->index_bytes};
    const size_t D = header->datasets, A = header->attributes;
    if (D + A > STORE_ENTRIES)
        return duo_fail(DUO_EDATA, "%s: index: %zu entries, at most %d are read", path, D + A,
                        STORE_ENTRIES);
    if (D + A > c.left / LEAST_RECORD)
        return duo_fail(DUO_EDATA, "%s: index: more entries than it has room for", path);
    *datasets = calloc(D + 1, sizeof **datasets);
    *attributes = calloc(A + 1, sizeof **attributes);
    if (!*datasets || !*attributes)
        return duo_fail(DUO_ENOMEM, "%s: no memory for its index", path);

    const unsigned char *content = file + header->block_bytes;
    const uint64_t content_bytes = header->file_bytes - header->block_bytes;
    for (size_t i = 0; i < D; i++) {
        duo_dataset *d = *datasets + i;
        const char *wrong = parse_dataset(&c, content, content_bytes, d);
        if (!wrong && i && strcmp(d[-1].name, d->name) >= 0) wrong = "it is out of order";
        if (wrong) return bad_dataset(path, i, d->name, wrong);
    }
    for (size_t i = 0; i < A; i++) {
        duo_attribute *a = *attributes + i;
        const char *wrong = parse_attribute(&c, a);
        if (!wrong && i && by_object_and_name(a - 1, a) >= 0) wrong = "it is out of order";
        if (wrong) return duo_fail(DUO_EDATA, "%s: index: attribute %zu: %s", path, i, wrong);
    }
    if (c.left) return duo_fail(DUO_EDATA, "%s: index: bytes are left over", path);
    return check_overlap(path, *datasets, D);
}
