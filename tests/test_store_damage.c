#define _DEFAULT_SOURCE
#include <fcntl.h>
#include <sys/stat.h>

#include "store_fixture.h"

/* The first and the last block whole, of what lies between every seventh byte; corruption.sh tries
 * the rest by and by. */
START_TEST(every_changed_byte_is_noticed)
{
    enum { WHOLE = 4096, STRIDE = 7 };
    write_small("x.h5", 1.5f);
    blob file = slurp("x.h5");
    const int fd = open("x.h5", O_WRONLY);
    duo_store *store;
    for (size_t i = 0; i < file.size; i += i < WHOLE || i + WHOLE >= file.size ? 1 : STRIDE) {
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

enum { HEADER = 64 };
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
        {12, 4, 9, "unknown kind 9"},
        {12, 4, 0, "unknown kind 0"},
        {48, 8, UINT64_MAX, "does not fit"},
        {48, 8, BLOCK, "does not fit"},
        {48, 8, 20, "more entries"},
        {48, 8, 100, "cut off"},
        {48, 8, 1000, "left over"},
        {56, 4, UINT32_MAX, "at most 65536"},
        {60, 4, UINT32_MAX, "at most 65536"},
        {56, 4, 1000000, "at most 65536"},
        {56, 4, 65000, "more entries"},
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

/* A code of its own: nobody is to put such a file aside as damaged. */
START_TEST(newer_containers_are_not_damaged)
{
    write_small("x.h5", 1.5f);
    blob file = slurp("x.h5");
    put32(file.data + 8, 2);
    refused(open_resealed(file), DUO_EINVAL, "container version 2");
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
        ck_assert(status == DUO_OK || status == DUO_EDATA || status == DUO_EINVAL);
    }
    free(copy.data);
    free(file.data);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {every_changed_byte_is_noticed,
                                  damage_names_the_dataset,
                                  cut_and_lengthened_files,
                                  what_is_not_one_of_our_files,
                                  hostile_index,
                                  newer_containers_are_not_damaged,
                                  hostile_extents,
                                  hostile_attributes,
                                  random_indexes_do_not_crash};
    return run_suite("store_damage", tests, sizeof tests / sizeof tests[0]);
}
