#define _DEFAULT_SOURCE
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store_fixture.h"

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
    write_small("b.h5", 1.5f); /* nor does the file that is replaced matter */
    blob a = slurp("a.h5");
    file_is("b.h5", a);
    free(a.data);
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

START_TEST(the_next_writer_removes_what_a_killed_one_left)
{
    const pid_t child = fork();
    if (child == 0) {
        duo_store_writer *writer = NULL;
        duo_store_create(&writer, "x.h5", DUO_KIND_TOKENS);
        raise(SIGKILL);
    }
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert_uint_eq(files_here(), 1);
    static const char *const others[] = {"x.h5.tmp-", "x.h5.tmp-12x", "ax.h5.tmp-2", "x.h5.tmp--1"};
    const size_t kept = sizeof others / sizeof *others + 1;
    char alive[40];
    snprintf(alive, sizeof alive, "x.h5.tmp-%ld", (long)getppid());
    spill(alive, "", 0);
    for (size_t i = 0; i + 1 < kept; i++) spill(others[i], "", 0);
    write_small("x.h5", 1.5f);
    ck_assert_uint_eq(files_here(), kept + 1);
    ck_assert_int_eq(access(alive, F_OK), 0);
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
    blob one = slurp("plain.h5");
    file_is("sealed.h5", one);
    ck_assert_uint_eq(files_here(), 3);
    free(one.data);
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

/* Bytes of this process in memory, files mapped into it included. */
static size_t resident(void)
{
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%*s %zu", &pages), 1);
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

START_TEST(an_open_file_takes_no_memory_of_its_size)
{
    const size_t n = (size_t)12 << 20, most = (size_t)16 << 20; /* floats; bytes */
    float *values = malloc(n * sizeof *values);
    ck_assert_ptr_nonnull(values);
    for (size_t i = 0; i < n; i++) values[i] = (float)i;
    duo_store_writer *writer = NULL;
    ok(duo_store_create(&writer, "large.h5", DUO_KIND_CHECKPOINT));
    ok(duo_store_write(writer, "/x", DUO_F32, shape(1, n, 0, 0, 0), values));
    ok(duo_store_commit(writer));
    duo_store_writer_free(writer);

    duo_store *store = NULL;
    const duo_dataset *x = NULL;
    const size_t before = resident();
    ok(duo_store_open(&store, "large.h5", DUO_KIND_CHECKPOINT));
    ck_assert_uint_lt(resident(), before + most);
    ok(duo_store_require(store, "/x", DUO_F32, shape(1, n, 0, 0, 0), &x));
    ck_assert_mem_eq(x->data, values, n * sizeof *values);
    ck_assert_uint_gt(resident(), before + n * sizeof *values / 2);
    duo_store_release(store, x);
    ck_assert_uint_lt(resident(), before + most);
    ck_assert_mem_eq(x->data, values, n * sizeof *values); /* from the file again */
    duo_store_close(store);
    free(values);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {hashes,
                                  all_types_and_attributes_come_back,
                                  same_content_gives_same_bytes,
                                  index_outgrows_its_block,
                                  long_text_and_many_attributes,
                                  names_and_values_that_make_no_sense,
                                  writing_a_name_twice_is_refused,
                                  full_disk_keeps_the_old_file,
                                  after_a_failure_the_next_file_can_be_written,
                                  a_writer_given_up_leaves_nothing,
                                  the_next_writer_removes_what_a_killed_one_left,
                                  a_plain_hdf5_file_is_sealed,
                                  damaged_hdf5_files_stay_behind_the_fence,
                                  an_open_file_takes_no_memory_of_its_size};
    return run_suite("store", tests, sizeof tests / sizeof tests[0]);
}
