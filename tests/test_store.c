#define _DEFAULT_SOURCE
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "duo/store.h"

/* Every test runs in a folder of its own, which is removed afterwards. */
static char folder[64];

static void enter_folder(void)
{
    snprintf(folder, sizeof folder, "/tmp/duo-store-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chdir(folder), 0);
}

static void leave_folder(void)
{
    char command[96];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(system(command), 0);
}

static void ok(duo_status status)
{
    ck_assert_msg(status == DUO_OK, "status %d: %s", status, duo_message());
}

/* The call failed as it should, and its one line says so. */
static void refused(duo_status status, duo_status expected, const char *part)
{
    ck_assert_int_eq(status, expected);
    ck_assert_msg(strstr(duo_message(), part) != NULL, "'%s' does not say '%s'", duo_message(),
                  part);
}

static duo_shape shape(size_t rank, size_t a, size_t b, size_t c, size_t d)
{
    return (duo_shape){.rank = rank, .size = {a, b, c, d}};
}

static const float weights[6] = {1.5f, -2.25f, 3.0f, 0.0f, 1e-20f, 7.0f};
static const uint8_t bytes[5] = {0, 1, 127, 128, 255};

static void write_small(const char *path, float first)
{
    float own[6];
    memcpy(own, weights, sizeof own);
    own[0] = first;
    duo_store_writer *writer = NULL;
    ok(duo_store_create(&writer, path, DUO_KIND_TOKENS));
    ok(duo_store_set_u64(writer, "/model", "n_layers", 12));
    ok(duo_store_write(writer, "/model/layers/00/w", DUO_F32, shape(2, 2, 3, 0, 0), own));
    ok(duo_store_write(writer, "/bytes", DUO_U8, shape(1, 5, 0, 0, 0), bytes));
    ok(duo_store_set_f64(writer, "/bytes", "scale", 0.1));
    ok(duo_store_set_text(writer, "/", "producer", "z\xC3\xBCrich"));
    ok(duo_store_commit(writer));
    duo_store_writer_free(writer);
}

typedef struct blob {
    unsigned char *data;
    size_t size;
} blob;

static blob slurp(const char *path)
{
    FILE *file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    fseek(file, 0, SEEK_END);
    blob all = {.size = (size_t)ftell(file)};
    rewind(file);
    all.data = malloc(all.size + 1);
    ck_assert_uint_eq(fread(all.data, 1, all.size, file), all.size);
    fclose(file);
    return all;
}

static void spill(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

static size_t files_here(void)
{
    FILE *list = popen("ls -A | wc -l", "r");
    size_t count = 0;
    ck_assert_int_eq(fscanf(list, "%zu", &count), 1);
    pclose(list);
    return count;
}

START_TEST(all_types_and_attributes_come_back)
{
    static const duo_type types[] = {DUO_U8,  DUO_U16, DUO_U32, DUO_U64,
                                     DUO_I32, DUO_I64, DUO_F32, DUO_F64};
    unsigned char data[2 * 3 * 1 * 4 * 8];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(i * 37 + 11);
    char name[64];
    duo_store_writer *writer = NULL;
    ok(duo_store_create(&writer, "all.h5", DUO_KIND_CHECKPOINT));
    for (size_t rank = 1; rank <= DUO_MAX_RANK; rank++)
        for (size_t t = 0; t < 8; t++) {
            snprintf(name, sizeof name, "/rank%zu/%s", rank, duo_type_name(types[t]));
            ok(duo_store_write(writer, name, types[t], shape(rank, 2, 3, 1, 4), data));
        }
    ok(duo_store_write(writer, "/empty", DUO_I32, shape(2, 0, 7, 0, 0), NULL));
    ok(duo_store_set_u64(writer, "/train/deep/group", "most", UINT64_MAX));
    ok(duo_store_set_f64(writer, "/rank1/uint8", "lr", -3.5e-300));
    ok(duo_store_set_text(writer, "/", "empty", ""));
    ok(duo_store_commit(writer));
    duo_store_writer_free(writer);
    ck_assert_uint_eq(files_here(), 1);

    duo_store *store = NULL;
    ok(duo_store_open(&store, "all.h5", DUO_KIND_CHECKPOINT));
    ck_assert_int_eq(duo_store_kind(store), DUO_KIND_CHECKPOINT);
    ck_assert_str_eq(duo_store_path(store), "all.h5");
    const duo_dataset *d, *first;
    for (size_t rank = 1; rank <= DUO_MAX_RANK; rank++)
        for (size_t t = 0; t < 8; t++) {
            snprintf(name, sizeof name, "/rank%zu/%s", rank, duo_type_name(types[t]));
            ok(duo_store_require(store, name, types[t], shape(rank, 0, 3, 1, 0), &d));
            ck_assert_uint_eq((uintptr_t)d->data % 4096, 0);
            const size_t size = d->count * duo_type_size(types[t]);
            ck_assert_mem_eq(d->data, data, size);
            ck_assert(duo_hash_equal(d->hash, duo_hash_bytes(data, size)));
        }
    ck_assert_uint_eq(duo_store_datasets(store, &first), 33);
    for (size_t i = 1; i < 33; i++) ck_assert_str_lt(first[i - 1].name, first[i].name);
    d = duo_store_find(store, "/empty");
    ck_assert_uint_eq(d->count, 0);
    ck_assert_uint_eq(d->shape.size[1], 7);

    uint64_t u = 0;
    double f = 0;
    const char *text;
    const duo_attribute *attributes;
    ok(duo_store_get_u64(store, "/train/deep/group", "most", &u));
    ck_assert(u == UINT64_MAX);
    ok(duo_store_get_f64(store, "/rank1/uint8", "lr", &f));
    ck_assert(f == -3.5e-300);
    ok(duo_store_get_text(store, "/", "empty", &text));
    ck_assert_str_eq(text, "");
    ok(duo_store_get_text(store, "/", "kind", &text));
    ck_assert_str_eq(text, "checkpoint");
    ck_assert_uint_eq(duo_store_attributes(store, &attributes), 4);

    refused(duo_store_require(store, "/none", DUO_U8, shape(1, 0, 0, 0, 0), &d), DUO_EDATA,
            "all.h5: dataset /none is missing");
    refused(duo_store_require(store, "/rank2/uint8", DUO_F32, shape(2, 2, 0, 0, 0), &d), DUO_EDATA,
            "all.h5: dataset /rank2/uint8 is uint8 [2, 3], not float32 [2, *]");
    refused(duo_store_get_u64(store, "/", "kind", &u), DUO_EDATA, "kind of / is a text");
    refused(duo_store_get_u64(store, "/", "none", &u), DUO_EDATA, "none of / is missing");
    ck_assert_ptr_null(duo_store_attribute(store, "/none", "kind"));
    duo_store_close(store);
}
END_TEST

START_TEST(same_content_gives_same_bytes)
{
    write_small("a.h5", 1.5f);
    sleep(1); /* a time in the file would differ now */
    usleep(100000);
    write_small("b.h5", 1.5f);
    write_small("a.h5", 1.5f);
    blob a = slurp("a.h5"), b = slurp("b.h5");
    ck_assert_uint_eq(a.size, b.size);
    ck_assert_mem_eq(a.data, b.data, a.size);
    free(a.data);
    free(b.data);
}
END_TEST

/* With 3,000 long names the index outgrows the block of a tokens file. */
START_TEST(index_outgrows_its_block)
{
    enum { MANY = 3000 };
    duo_store_writer *writer = NULL;
    char name[256];
    ok(duo_store_create(&writer, "many.h5", DUO_KIND_TOKENS));
    for (uint32_t i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "/%0200u", i);
        ok(duo_store_write(writer, name, DUO_U32, shape(1, 1, 0, 0, 0), &i));
    }
    ok(duo_store_commit(writer));
    duo_store_writer_free(writer);
    duo_store *store = NULL;
    ok(duo_store_open(&store, "many.h5", DUO_KIND_TOKENS));
    const duo_dataset *first;
    ck_assert_uint_eq(duo_store_datasets(store, &first), MANY);
    for (uint32_t i = 0; i < MANY; i++) ck_assert_uint_eq(*(const uint32_t *)first[i].data, i);
    duo_store_close(store);
    ok(duo_store_seal("many.h5", "again.h5")); /* the HDF5 library still reads it */
}
END_TEST

START_TEST(long_text_and_many_attributes)
{
    enum { LONG = 300 << 10, MANY = 200 };
    char *text = malloc(LONG + 1), name[16];
    memset(text, 'x', LONG);
    text[LONG] = '\0';
    duo_store_writer *writer = NULL;
    ok(duo_store_create(&writer, "x.h5", DUO_KIND_ROUTES));
    ok(duo_store_set_text(writer, "/a/b", "long", text));
    for (uint64_t i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "n%03u", (unsigned)i);
        ok(duo_store_set_u64(writer, "/a", name, i));
    }
    ok(duo_store_commit(writer));
    duo_store_writer_free(writer);
    ok(duo_store_seal("x.h5", "again.h5"));
    duo_store *store = NULL;
    const char *back;
    uint64_t last = 0;
    ok(duo_store_open(&store, "again.h5", DUO_KIND_ROUTES));
    ok(duo_store_get_text(store, "/a/b", "long", &back));
    ck_assert_str_eq(back, text);
    ok(duo_store_get_u64(store, "/a", name, &last));
    ck_assert_uint_eq(last, MANY - 1);
    duo_store_close(store);
    free(text);
}
END_TEST

START_TEST(names_and_values_that_make_no_sense)
{
    static const char *const bad[] = {"",     "x",     "/",     "//x",        "/x/",
                                      "/./x", "/x/..", "/x\ny", "/\xC0\xAFx", "/x//y"};
    const uint8_t value = 0;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        duo_store_writer *writer = NULL;
        ok(duo_store_create(&writer, "x.h5", DUO_KIND_PROBE));
        refused(duo_store_write(writer, bad[i], DUO_U8, shape(1, 1, 0, 0, 0), &value), DUO_EINVAL,
                "no name");
        refused(duo_store_commit(writer), DUO_EIO, "earlier failure");
        duo_store_writer_free(writer);
    }
    static const duo_shape shapes[] = {
        {.rank = 0},
        {.rank = 5},
        {.rank = 2, .size = {SIZE_MAX, 2}},
        {.rank = 1, .size = {SIZE_MAX}},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        duo_store_writer *writer = NULL;
        ok(duo_store_create(&writer, "x.h5", DUO_KIND_PROBE));
        refused(duo_store_write(writer, "/x", DUO_U64, shapes[i], &value), DUO_EINVAL, "shape");
        duo_store_writer_free(writer);
    }
    duo_store_writer *writer = NULL;
    ok(duo_store_create(&writer, "x.h5", DUO_KIND_PROBE));
    refused(duo_store_set_text(writer, "/", "t", "\xED\xA0\x80"), DUO_EINVAL, "UTF-8");
    duo_store_writer_free(writer);
    refused(duo_store_create(&writer, "x.h5", DUO_KIND_ANY), DUO_EINVAL, "kind");
    duo_store_writer_free(writer);
    refused(duo_store_create(&writer, "none/x.h5", DUO_KIND_PROBE), DUO_EIO, "none/x.h5");
    duo_store_writer_free(writer);
    ck_assert_uint_eq(files_here(), 0);
}
END_TEST

START_TEST(writing_a_name_twice_is_refused)
{
    duo_store_writer *writer = NULL;
    ok(duo_store_create(&writer, "x.h5", DUO_KIND_TOKENS));
    ok(duo_store_write(writer, "/a", DUO_U8, shape(1, 5, 0, 0, 0), bytes));
    refused(duo_store_write(writer, "/a", DUO_U8, shape(1, 5, 0, 0, 0), bytes), DUO_EIO,
            "x.h5: cannot create dataset /a: name already exists");
    duo_store_writer_free(writer);
    ok(duo_store_create(&writer, "x.h5", DUO_KIND_TOKENS));
    ok(duo_store_write(writer, "/a", DUO_U8, shape(1, 5, 0, 0, 0), bytes));
    refused(duo_store_write(writer, "/a/b", DUO_U8, shape(1, 5, 0, 0, 0), bytes), DUO_EIO, "/a");
    duo_store_writer_free(writer);
    ok(duo_store_create(&writer, "x.h5", DUO_KIND_TOKENS));
    refused(duo_store_set_u64(writer, "/", "kind", 3), DUO_EIO, "kind");
    duo_store_writer_free(writer);
    ck_assert_uint_eq(files_here(), 0);
}
END_TEST

/* ---------------------------------------------------------------- damage */

START_TEST(every_changed_byte_is_noticed)
{
    write_small("x.h5", 1.5f);
    blob file = slurp("x.h5");
    const int fd = open("x.h5", O_WRONLY);
    duo_store *store;
    for (size_t i = 0; i < file.size; i++) {
        const unsigned char changed = (unsigned char)(file.data[i] ^ (1u << (i % 8)));
        ck_assert_int_eq(pwrite(fd, &changed, 1, (off_t)i), 1);
        const duo_status status = duo_store_open(&store, "x.h5", DUO_KIND_ANY);
        ck_assert_msg(status == DUO_EDATA, "byte %zu: %d", i, status);
        ck_assert_ptr_null(store);
        ck_assert_int_eq(pwrite(fd, &file.data[i], 1, (off_t)i), 1);
    }
    ok(duo_store_open(&store, "x.h5", DUO_KIND_ANY));
    duo_store_close(store);
    close(fd);
    free(file.data);
}
END_TEST

static size_t find_bytes(blob file, const void *what, size_t size)
{
    for (size_t i = 0; i + size <= file.size; i++)
        if (memcmp(file.data + i, what, size) == 0) return i;
    ck_abort_msg("not in the file");
    return 0;
}

START_TEST(damage_names_the_dataset)
{
    write_small("x.h5", 1.5f);
    blob file = slurp("x.h5");
    duo_store *store;
    const size_t at = find_bytes(file, weights, sizeof weights);
    ck_assert_uint_eq(at % 4096, 0);
    file.data[at + 3] ^= 4;
    spill("x.h5", file.data, file.size);
    refused(duo_store_open(&store, "x.h5", DUO_KIND_ANY), DUO_EDATA,
            "x.h5: dataset /model/layers/00/w is damaged");
    file.data[at + 3] ^= 4;
    file.data[at + sizeof weights] ^= 4;
    spill("x.h5", file.data, file.size);
    refused(duo_store_open(&store, "x.h5", DUO_KIND_ANY), DUO_EDATA, "between the datasets");
    free(file.data);
}
END_TEST

START_TEST(cut_and_lengthened_files)
{
    write_small("x.h5", 1.5f);
    blob file = slurp("x.h5");
    duo_store *store;
    for (size_t size = 0; size < file.size; size += size < 80 ? 1 : 997) {
        spill("cut.h5", file.data, size);
        refused(duo_store_open(&store, "cut.h5", DUO_KIND_ANY), DUO_EDATA,
                size == 0   ? "cut.h5: is empty"
                : size < 64 ? "cut.h5: not a sealed file"
                            : "cut.h5: truncated");
    }
    file.data[file.size] = 0;
    spill("long.h5", file.data, file.size + 1);
    refused(duo_store_open(&store, "long.h5", DUO_KIND_ANY), DUO_EDATA, "appended");
    free(file.data);
}
END_TEST

START_TEST(what_is_not_one_of_our_files)
{
    duo_store *store;
    refused(duo_store_open(&store, "none.h5", DUO_KIND_ANY), DUO_EIO, "none.h5: cannot open");
    refused(duo_store_open(&store, ".", DUO_KIND_ANY), DUO_EIO, ".: is a directory");
    ck_assert_int_eq(mkfifo("fifo", 0600), 0);
    refused(duo_store_open(&store, "fifo", DUO_KIND_ANY), DUO_EIO, "fifo: is not a regular");
    refused(duo_store_seal("fifo", "x.h5"), DUO_EIO, "fifo: is not a regular");
    refused(duo_store_seal("none.h5", "x.h5"), DUO_EIO, "none.h5: cannot open");
    refused(duo_store_open(&store, "/dev/zero", DUO_KIND_ANY), DUO_EIO, "not a regular");
    ck_assert_int_eq(symlink("loop", "loop"), 0);
    refused(duo_store_open(&store, "loop", DUO_KIND_ANY), DUO_EIO, "loop: cannot open");
    char text[200];
    memset(text, 'x', sizeof text);
    spill("text", text, sizeof text);
    refused(duo_store_open(&store, "text", DUO_KIND_ANY), DUO_EDATA, "text: not a sealed file");
    refused(duo_store_seal("text", "x.h5"), DUO_EDATA, "text: cannot read as HDF5");

    write_small("x.h5", 1.5f);
    refused(duo_store_open(&store, "x.h5", DUO_KIND_PROBE), DUO_EDATA,
            "x.h5: is a tokens file, not a probe file");
    ck_assert_int_eq(symlink("x.h5", "link"), 0);
    ok(duo_store_open(&store, "link", DUO_KIND_TOKENS));
    duo_store_close(store);
}
END_TEST

/* ---------------------------------------------------------------- hostile indexes */

/* The layout that store_index.h describes. */
enum { HEADER = 64, BLOCK = 64 << 10 };

static void put64(unsigned char *at, uint64_t value)
{
    memcpy(at, &value, sizeof value);
}

static void put32(unsigned char *at, uint32_t value)
{
    memcpy(at, &value, sizeof value);
}

/* A block that was changed gets a correct digest again. */
static duo_status open_resealed(blob file)
{
    const duo_hash digest = duo_hash_bytes(file.data, BLOCK - 16);
    put64(file.data + BLOCK - 16, digest.high);
    put64(file.data + BLOCK - 8, digest.low);
    spill("hostile.h5", file.data, file.size);
    duo_store *store;
    const duo_status status = duo_store_open(&store, "hostile.h5", DUO_KIND_ANY);
    duo_store_close(store);
    return status;
}

/* The file of write_small begins its index with /bytes: length 6, the name, a NUL; from there on
 * type, rank, one size, offset, bytes, hash. */
enum {
    NAME = HEADER + 4,
    TYPE = NAME + 7,
    RANK = TYPE + 4,
    SIZE = RANK + 4,
    OFFSET = SIZE + 8,
    BYTES = OFFSET + 8,
    SECOND = BYTES + 8 + 16
};

START_TEST(hostile_index)
{
    typedef struct change {
        size_t at, width;
        uint64_t value;
        const char *says;
    } change;
    static const change changes[] = {
        {8, 4, 2, "container version 2"},
        {12, 4, 9, "unknown kind 9"},
        {12, 4, 0, "unknown kind 0"},
        {48, 8, UINT64_MAX, "does not fit"},
        {48, 8, BLOCK, "does not fit"},
        {48, 8, 20, "more entries"},
        {48, 8, 100, "cut off"},
        {48, 8, 1000, "left over"},
        {56, 4, UINT32_MAX, "more entries"},
        {60, 4, UINT32_MAX, "more entries"},
        {56, 4, 3, "dataset 2"},
        {56, 4, 1, "attribute 0"},
        {60, 4, 1, "left over"},
        {HEADER, 4, UINT32_MAX, "name is cut off"},
        {HEADER, 4, 5, "name is cut off"},
        {HEADER, 4, 7, "name is cut off"},
        {HEADER, 4, 0, "name is cut off"},
        {NAME, 1, 'b', "no path"},
        {NAME + 1, 1, '\n', "no path"},
        {NAME + 1, 1, 0xFF, "no path"},
        {NAME + 1, 1, 0, "name is cut off"},
        {NAME + 6, 1, 'x', "name is cut off"},
        {NAME + 1, 1, 'z', "out of order"},
        {TYPE, 4, 0, "type is unknown"},
        {TYPE, 4, 9, "type is unknown"},
        {TYPE, 4, DUO_F64, "disagree"},
        {RANK, 4, 0, "rank is out of range"},
        {RANK, 4, 5, "rank is out of range"},
        {RANK, 4, 4, "dataset 0"},
        {SIZE, 8, UINT64_MAX, "disagree"},
        {SIZE, 8, 4, "disagree"},
        {OFFSET, 8, 1, "not aligned"},
        {OFFSET, 8, UINT64_MAX - 4095, "leaves the file"},
        {OFFSET, 8, 1u << 30, "leaves the file"},
        {BYTES, 8, UINT64_MAX, "disagree"},
    };
    write_small("x.h5", 1.5f);
    blob file = slurp("x.h5");
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        blob copy = {.data = malloc(file.size), .size = file.size};
        memcpy(copy.data, file.data, file.size);
        memcpy(copy.data + changes[i].at, &changes[i].value, changes[i].width);
        refused(open_resealed(copy), DUO_EDATA, changes[i].says);
        free(copy.data);
    }
    free(file.data);
}
END_TEST

START_TEST(hostile_extents)
{
    write_small("x.h5", 1.5f);
    blob file = slurp("x.h5");
    unsigned char *const second = file.data + SECOND + 4 + sizeof "/model/layers/00/w" + 8;
    uint64_t offset;
    memcpy(&offset, second + 16, sizeof offset);
    ck_assert_uint_eq(BLOCK + offset, find_bytes(file, weights, sizeof weights));

    uint64_t before;
    memcpy(&before, file.data + OFFSET, sizeof before);
    put64(file.data + OFFSET, offset);
    refused(open_resealed(file), DUO_EDATA, "overlap");
    put64(file.data + OFFSET, before);

    put64(second, (uint64_t)1 << 62); /* 2^62 x 4 floats */
    put64(second + 8, 4);
    refused(open_resealed(file), DUO_EDATA, "overflows");
    put64(second, (uint64_t)1 << 61); /* the elements fit, their bytes do not */
    put64(second + 8, 3);
    refused(open_resealed(file), DUO_EDATA, "overflows");
    put64(second, file.size / 4); /* longer than what is left */
    put64(second + 8, 1);
    put64(second + 24, file.size / 4 * 4);
    refused(open_resealed(file), DUO_EDATA, "leaves the file");
    put64(second, 0);
    put64(second + 8, 3);
    put64(second + 24, 0);
    refused(open_resealed(file), DUO_EDATA, "empty and has a place");
    put64(second + 16, 0);
    ok(open_resealed(file));
    put64(file.data + SIZE, 0); /* /bytes */
    put64(file.data + BYTES, 0);
    put64(file.data + OFFSET, 0);
    ok(open_resealed(file));
    put64(file.data + 24, file.size + 1);
    refused(open_resealed(file), DUO_EDATA, "truncated");
    free(file.data);
}
END_TEST

START_TEST(hostile_attributes)
{
    write_small("x.h5", 1.5f);
    blob file = slurp("x.h5");
    const size_t text = find_bytes(file, "z\xC3\xBCrich", 8);
    ck_assert_uint_lt(text, BLOCK);
    file.data[text + 1] = 'u';
    refused(open_resealed(file), DUO_EDATA, "not UTF-8");
    file.data[text + 1] = 0;
    refused(open_resealed(file), DUO_EDATA, "cut off");
    file.data[text + 1] = 0xC3;
    put32(file.data + text - 8, 3);
    refused(open_resealed(file), DUO_EDATA, "type is unknown");
    put32(file.data + text - 8, DUO_ATTR_U64);
    refused(open_resealed(file), DUO_EDATA, "attribute");
    put32(file.data + text - 8, DUO_ATTR_TEXT);
    put32(file.data + text - 4, UINT32_MAX);
    refused(open_resealed(file), DUO_EDATA, "cut off");
    free(file.data);
}
END_TEST

/* Random changes under a correct digest: errors or a store whose datasets lie in the file. */
START_TEST(random_indexes_do_not_crash)
{
    write_small("x.h5", 1.5f);
    blob file = slurp("x.h5");
    blob copy = {.data = malloc(file.size), .size = file.size};
    uint32_t seed = 1;
    for (int round = 0; round < 3000; round++) {
        memcpy(copy.data, file.data, file.size);
        for (int change = 0; change < 3; change++) {
            seed = seed * 1664525u + 1013904223u;
            copy.data[8 + (seed >> 8) % 400] = (unsigned char)(seed >> 24);
        }
        const duo_status status = open_resealed(copy);
        ck_assert(status == DUO_OK || status == DUO_EDATA);
    }
    free(copy.data);
    free(file.data);
}
END_TEST

/* ---------------------------------------------------------------- failing commits */

static bool first_weight(const char *path, float expected)
{
    duo_store *store = NULL;
    ok(duo_store_open(&store, path, DUO_KIND_TOKENS));
    const duo_dataset *d;
    ok(duo_store_require(store, "/model/layers/00/w", DUO_F32, shape(2, 2, 3, 0, 0), &d));
    const float first = *(const float *)d->data;
    duo_store_close(store);
    return first == expected;
}

static void limit_file_size(size_t most)
{
    const struct rlimit limit = {.rlim_cur = most, .rlim_max = most};
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* At any size that the disk gives out at, the old file stays and nothing is left behind. */
START_TEST(full_disk_keeps_the_old_file)
{
    enum { COUNT = 300 << 10 };
    write_small("x.h5", 1.5f);
    static float big[COUNT];
    for (size_t most = 4096; most < (2 << 20); most += 117 << 10) {
        const pid_t child = fork();
        if (child == 0) {
            limit_file_size(most);
            duo_store_writer *writer = NULL;
            duo_status status = duo_store_create(&writer, "x.h5", DUO_KIND_TOKENS);
            for (int i = 0; i < 4 && status == DUO_OK; i++) {
                char name[8];
                snprintf(name, sizeof name, "/%d", i);
                status = duo_store_write(writer, name, DUO_F32, shape(1, COUNT, 0, 0, 0), big);
            }
            if (status == DUO_OK) status = duo_store_commit(writer);
            duo_store_writer_free(writer);
            const bool told =
                strncmp(duo_message(), "x.h5: ", 6) == 0 && strstr(duo_message(), "File too large");
            _exit(status == DUO_EIO && told ? 0 : 1);
        }
        int end;
        ck_assert_int_eq(waitpid(child, &end, 0), child);
        ck_assert_msg(WIFEXITED(end) && WEXITSTATUS(end) == 0, "limit %zu: end %x", most, end);
        ck_assert_uint_eq(files_here(), 1);
        ck_assert(first_weight("x.h5", 1.5f));
    }
}
END_TEST

START_TEST(after_a_failure_the_next_file_can_be_written)
{
    struct rlimit limit;
    duo_store_writer *writer = NULL;
    static float big[300 << 10];
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    const rlim_t before = limit.rlim_cur;
    limit.rlim_cur = 100 << 10;
    setrlimit(RLIMIT_FSIZE, &limit);
    ok(duo_store_create(&writer, "x.h5", DUO_KIND_TOKENS));
    refused(duo_store_write(writer, "/big", DUO_F32, shape(1, 300 << 10, 0, 0, 0), big), DUO_EIO,
            "x.h5: cannot write dataset /big: File too large");
    duo_store_writer_free(writer);
    limit.rlim_cur = before;
    setrlimit(RLIMIT_FSIZE, &limit);
    ck_assert_uint_eq(files_here(), 0);
    write_small("x.h5", 2.5f);
    ck_assert(first_weight("x.h5", 2.5f));
}
END_TEST

START_TEST(a_writer_given_up_leaves_nothing)
{
    write_small("x.h5", 1.5f);
    duo_store_writer *writer = NULL;
    ok(duo_store_create(&writer, "x.h5", DUO_KIND_TOKENS));
    ok(duo_store_write(writer, "/bytes", DUO_U8, shape(1, 5, 0, 0, 0), bytes));
    ck_assert_uint_eq(files_here(), 2);
    duo_store_writer_free(writer);
    duo_store_writer_free(NULL);
    ck_assert_uint_eq(files_here(), 1);
    ck_assert(first_weight("x.h5", 1.5f));

    ck_assert_int_eq(mkdir("taken", 0700), 0);
    ok(duo_store_create(&writer, "taken", DUO_KIND_TOKENS));
    refused(duo_store_commit(writer), DUO_EIO, "taken: cannot rename");
    refused(duo_store_commit(writer), DUO_EIO, "earlier failure");
    duo_store_writer_free(writer);
    ck_assert_uint_eq(files_here(), 2);
}
END_TEST

/* ---------------------------------------------------------------- taking in */

START_TEST(a_plain_hdf5_file_is_sealed)
{
    write_small("x.h5", 1.5f);
    blob file = slurp("x.h5");
    spill("plain.h5", file.data + BLOCK, file.size - BLOCK);
    duo_store *store;
    refused(duo_store_open(&store, "plain.h5", DUO_KIND_ANY), DUO_EDATA, "without a seal");
    ok(duo_store_seal("plain.h5", "sealed.h5"));
    ok(duo_store_open(&store, "sealed.h5", DUO_KIND_TOKENS));
    const duo_dataset *d;
    const char *text;
    uint64_t layers;
    double scale;
    ok(duo_store_require(store, "/model/layers/00/w", DUO_F32, shape(2, 2, 3, 0, 0), &d));
    ck_assert_mem_eq(d->data, weights, sizeof weights);
    ok(duo_store_require(store, "/bytes", DUO_U8, shape(1, 5, 0, 0, 0), &d));
    ok(duo_store_get_text(store, "/", "producer", &text));
    ck_assert_str_eq(text, "z\xC3\xBCrich");
    ok(duo_store_get_u64(store, "/model", "n_layers", &layers));
    ck_assert_uint_eq(layers, 12);
    ok(duo_store_get_f64(store, "/bytes", "scale", &scale));
    ck_assert(scale == 0.1);
    duo_store_close(store);
    ok(duo_store_seal("plain.h5", "plain.h5")); /* in its own place */
    blob one = slurp("plain.h5"), two = slurp("sealed.h5");
    ck_assert_uint_eq(one.size, two.size);
    ck_assert_mem_eq(one.data, two.data, one.size);
    ck_assert_uint_eq(files_here(), 3);
    free(one.data);
    free(two.data);
    free(file.data);
}
END_TEST

/* Whatever the damage does to the HDF5 library, this process gets a status and one line. */
START_TEST(damaged_hdf5_files_stay_behind_the_fence)
{
    write_small("x.h5", 1.5f);
    blob file = slurp("x.h5");
    const size_t size = file.size - BLOCK;
    unsigned char *plain = file.data + BLOCK;
    uint32_t seed = 7;
    for (int round = 0; round < 100; round++) {
        seed = seed * 1664525u + 1013904223u;
        const size_t at = (seed >> 8) % size;
        const unsigned char keep = plain[at];
        plain[at] = (unsigned char)(keep ^ (1 + seed % 255));
        spill("plain.h5", plain, round % 4 ? size : at + 1);
        plain[at] = keep;
        const duo_status status = duo_store_seal("plain.h5", "out.h5");
        ck_assert_msg(status == DUO_OK || status == DUO_EDATA, "%d: %s", status, duo_message());
        if (status == DUO_EDATA) ck_assert_int_eq(strncmp(duo_message(), "plain.h5: ", 10), 0);
        unlink("out.h5");
        ck_assert_uint_eq(files_here(), 2);
    }
    free(file.data);
}
END_TEST

START_TEST(hashes)
{
    char text[33];
    unsigned char data[1000];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(i * i);
    /* XXH3-128 of nothing, from the specification of xxHash. */
    ck_assert_str_eq(duo_hash_text(text, duo_hash_bytes("", 0)),
                     "99aa06d3014798d86001c324468d497f");
    duo_hasher *hasher = duo_hasher_create();
    for (size_t at = 0; at < sizeof data; at += 8) duo_hasher_add(hasher, data + at, 8);
    ck_assert(duo_hash_equal(duo_hasher_value(hasher), duo_hash_bytes(data, sizeof data)));
    data[999] ^= 1;
    ck_assert(!duo_hash_equal(duo_hasher_value(hasher), duo_hash_bytes(data, sizeof data)));
    duo_hasher_free(hasher);
    duo_hasher_free(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *tests = tcase_create("store");
    tcase_set_timeout(tests, 50);
    tcase_add_checked_fixture(tests, enter_folder, leave_folder);
    tcase_add_test(tests, hashes);
    tcase_add_test(tests, all_types_and_attributes_come_back);
    tcase_add_test(tests, same_content_gives_same_bytes);
    tcase_add_test(tests, index_outgrows_its_block);
    tcase_add_test(tests, long_text_and_many_attributes);
    tcase_add_test(tests, names_and_values_that_make_no_sense);
    tcase_add_test(tests, writing_a_name_twice_is_refused);
    tcase_add_test(tests, every_changed_byte_is_noticed);
    tcase_add_test(tests, damage_names_the_dataset);
    tcase_add_test(tests, cut_and_lengthened_files);
    tcase_add_test(tests, what_is_not_one_of_our_files);
    tcase_add_test(tests, hostile_index);
    tcase_add_test(tests, hostile_extents);
    tcase_add_test(tests, hostile_attributes);
    tcase_add_test(tests, random_indexes_do_not_crash);
    tcase_add_test(tests, full_disk_keeps_the_old_file);
    tcase_add_test(tests, after_a_failure_the_next_file_can_be_written);
    tcase_add_test(tests, a_writer_given_up_leaves_nothing);
    tcase_add_test(tests, a_plain_hdf5_file_is_sealed);
    tcase_add_test(tests, damaged_hdf5_files_stay_behind_the_fence);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
