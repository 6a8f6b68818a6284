#define _GNU_SOURCE /* sync_file_range */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "duo/arena.h"
#include "duo/store.h"
#include "duo/utf8.h"
#include "store_hdf5.h"
#include "store_index.h"
#include "store_internal.h"

struct duo_store_writer {
    char *path, *temp;
    duo_kind kind;
    hid_t file, group_props, dataset_props;
    int fd; /* ours beside HDF5's, from the start: an error of any write reaches its fsync */
    bool temp_made; /* and is ours to remove */
    bool failed;    /* an earlier call did: nothing more can be committed */
    size_t block_bytes;
    store_dataset *datasets;
    size_t dataset_count, dataset_room;
    duo_attribute *attributes;
    size_t attribute_count, attribute_room;
};

static duo_status no_memory(const duo_store_writer *writer)
{
    return duo_fail(DUO_ENOMEM, "%s: no memory to write it", writer->path);
}

/* The block stands in front of data that is not kept, so its size is chosen before the index is
 * known. A checkpoint or probe of 48 layers needs about 0.5 MiB, other kinds have few datasets;
 * what outgrows its block is moved at the commit. */
static size_t expected_block(duo_kind kind)
{
    return kind == DUO_KIND_CHECKPOINT || kind == DUO_KIND_PROBE ? 1 << 20 : STORE_BLOCK_MIN;
}

static duo_status create_hdf5(duo_store_writer *writer)
{
    const hid_t create = H5Pcreate(H5P_FILE_CREATE), access = H5Pcreate(H5P_FILE_ACCESS);
    writer->group_props = H5Pcreate(H5P_GROUP_CREATE);
    writer->dataset_props = H5Pcreate(H5P_DATASET_CREATE);
    /* No times: the same content gives the same bytes. Alignment from one byte on, so that every
     * dataset can be mapped; HDF5's own headers are aligned with them. Blocks of size 0 waste no
     * space; a file space strategy would do the same, but is recorded in an object with times. */
    bool ok = H5Pset_userblock(create, writer->block_bytes) >= 0 &&
              H5Pset_obj_track_times(create, 0) >= 0 &&
              H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0 &&
              H5Pset_alignment(access, 1, STORE_ALIGN) >= 0 &&
              H5Pset_meta_block_size(access, 0) >= 0 &&
              H5Pset_small_data_block_size(access, 0) >= 0 &&
              H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0 &&
              H5Pset_obj_track_times(writer->group_props, 0) >= 0 &&
              H5Pset_obj_track_times(writer->dataset_props, 0) >= 0 &&
              H5Pset_layout(writer->dataset_props, H5D_CONTIGUOUS) >= 0 &&
              H5Pset_alloc_time(writer->dataset_props, H5D_ALLOC_TIME_EARLY) >= 0 &&
              H5Pset_fill_time(writer->dataset_props, H5D_FILL_TIME_NEVER) >= 0;
    if (ok) {
        unlink(writer->temp); /* of a process of the same number that was killed */
        writer->temp_made = true;
        writer->file = H5Fcreate(writer->temp, H5F_ACC_EXCL, create, access);
        ok = writer->file >= 0;
    }
    const duo_status status =
        ok ? DUO_OK : store_hdf5_fail(DUO_EIO, writer->path, "create the temporary file", "");
    H5Pclose(create);
    H5Pclose(access);
    if (!ok) return status;
    writer->fd = open(writer->temp, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (writer->fd < 0)
        return duo_fail(DUO_EIO, "%s: cannot open the temporary file: %s", writer->path,
                        strerror(errno));
    return DUO_OK;
}

duo_status duo_store_create(duo_store_writer **out, const char *path, duo_kind kind)
{
    duo_store_writer *writer = *out = calloc(1, sizeof *writer);
    if (!writer) return duo_fail(DUO_ENOMEM, "%s: no memory to write it", path);
    writer->file = writer->group_props = writer->dataset_props = H5I_INVALID_HID;
    writer->fd = -1;
    writer->kind = kind;
    writer->block_bytes = expected_block(kind);
    writer->path = strdup(path);
    writer->temp = store_temp_path(path, getpid());
    duo_status status = DUO_OK;
    if (!writer->path || !writer->temp)
        status = duo_fail(DUO_ENOMEM, "%s: no memory to write it", path);
    else if (kind < DUO_KIND_CHECKPOINT || kind > DUO_KIND_PROBE)
        status = duo_fail(DUO_EINVAL, "%s: a file needs a kind", path);
    /* The HDF5 library crashes where its memory runs out: there must be more than it takes. */
    if (status == DUO_OK) status = duo_memory_check((size_t)16 << 20, path);
    if (status == DUO_OK) {
        store_temp_sweep(path);
        store_hdf5_start();
        status = create_hdf5(writer);
    }
    /* Also as an attribute: a copy that other tools edited still says what it is. */
    if (status == DUO_OK) status = duo_store_set_text(writer, "/", "kind", duo_kind_name(kind));
    writer->failed = status != DUO_OK;
    return status;
}

/* One more element of a list that grows by doubling. False when memory is short. */
static bool make_room(void **list, size_t count, size_t *room, size_t size)
{
    if (count < *room) return true;
    const size_t more = *room ? *room * 2 : 64;
    void *grown = realloc(*list, more * size);
    if (!grown) return false;
    *list = grown;
    *room = more;
    return true;
}

/* Make the groups of path[0..length), each by itself: groups that HDF5 makes on the way to
 * another object carry times. */
static duo_status make_groups(duo_store_writer *writer, const char *path, size_t length)
{
    duo_status status = DUO_OK;
    char *part = strndup(path, length);
    if (!part) return no_memory(writer);
    for (size_t i = 1; i <= length && status == DUO_OK; i++) {
        if (part[i] != '/' && part[i] != '\0') continue;
        const char keep = part[i];
        part[i] = '\0';
        const htri_t exists = H5Lexists(writer->file, part, H5P_DEFAULT);
        if (exists == 0) {
            const hid_t group =
                H5Gcreate2(writer->file, part, H5P_DEFAULT, writer->group_props, H5P_DEFAULT);
            if (group < 0 || H5Gclose(group) < 0)
                status = store_hdf5_fail(DUO_EIO, writer->path, "make group", part);
        } else if (exists < 0) {
            status = store_hdf5_fail(DUO_EIO, writer->path, "look up", part);
        }
        part[i] = keep;
    }
    free(part);
    return status;
}

enum { LARGE = 1 << 20 }; /* bytes of a dataset that deserves system calls of its own */

/* A full disk is refused before the first byte. File systems that cannot reserve may refuse for
 * other reasons: the write itself will tell. */
static duo_status reserve(const duo_store_writer *writer, const char *name, haddr_t offset,
                          size_t bytes)
{
    if (bytes < LARGE) return DUO_OK;
    const int error = posix_fallocate(writer->fd, (off_t)offset, (off_t)bytes);
    if (error != ENOSPC && error != EFBIG && error != EDQUOT) return DUO_OK;
    return duo_fail(DUO_EIO, "%s: cannot write dataset %s: %s", writer->path, name,
                    strerror(error));
}

static duo_status write_dataset(duo_store_writer *writer, const duo_dataset *dataset, size_t bytes,
                                uint64_t *offset)
{
    duo_status status = DUO_OK;
    hsize_t size[DUO_MAX_RANK];
    for (size_t i = 0; i < dataset->shape.rank; i++) size[i] = dataset->shape.size[i];
    const hid_t type = store_hdf5_type(dataset->type);
    const hid_t space = H5Screate_simple((int)dataset->shape.rank, size, NULL);
    hid_t object = space < 0 ? H5I_INVALID_HID
                             : H5Dcreate2(writer->file, dataset->name, type, space, H5P_DEFAULT,
                                          writer->dataset_props, H5P_DEFAULT);
    if (object < 0) {
        status = store_hdf5_fail(DUO_EIO, writer->path, "create dataset", dataset->name);
        goto done;
    }
    *offset = 0;
    if (bytes) {
        const haddr_t place = H5Dget_offset(object); /* counts the user block */
        if (place == HADDR_UNDEF) {
            status = store_hdf5_fail(DUO_EIO, writer->path, "place dataset", dataset->name);
            goto done;
        }
        *offset = place - writer->block_bytes;
        if ((status = reserve(writer, dataset->name, place, bytes)) != DUO_OK) goto done;
        if (H5Dwrite(object, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, dataset->data) < 0) {
            status = store_hdf5_fail(DUO_EIO, writer->path, "write dataset", dataset->name);
            goto done;
        }
        if (bytes >= LARGE) /* the disk works while the rest is computed; a hint */
            sync_file_range(writer->fd, (off_t)place, (off_t)bytes, SYNC_FILE_RANGE_WRITE);
    }
    const herr_t closed = H5Dclose(object);
    object = H5I_INVALID_HID;
    if (closed < 0) status = store_hdf5_fail(DUO_EIO, writer->path, "close dataset", dataset->name);

done:
    if (object >= 0) H5Dclose(object);
    if (space >= 0) H5Sclose(space);
    return status;
}

static duo_status add_dataset(duo_store_writer *writer, duo_dataset dataset, size_t bytes)
{
    if (!make_room((void **)&writer->datasets, writer->dataset_count, &writer->dataset_room,
                   sizeof *writer->datasets))
        return no_memory(writer);
    const char *slash = strrchr(dataset.name, '/');
    duo_status status = make_groups(writer, dataset.name, (size_t)(slash - dataset.name));
    if (status != DUO_OK) return status;
    store_dataset *record = &writer->datasets[writer->dataset_count];
    if ((status = write_dataset(writer, &dataset, bytes, &record->offset)) != DUO_OK) return status;
    record->is = dataset;
    record->is.data = NULL;
    record->is.hash = duo_hash_bytes(dataset.data, bytes);
    record->is.name = strdup(dataset.name);
    if (!record->is.name) return no_memory(writer);
    writer->dataset_count++;
    return DUO_OK;
}

static duo_status refuse_after_failure(const duo_store_writer *writer)
{
    return duo_fail(DUO_EIO, "%s: given up after an earlier failure", writer->path);
}

duo_status duo_store_write(duo_store_writer *writer, const char *name, duo_type type,
                           duo_shape shape, const void *data)
{
    if (writer->failed) return refuse_after_failure(writer);
    duo_dataset dataset = {.name = name, .type = type, .shape = shape, .data = data};
    size_t bytes;
    duo_status status;
    if (!store_object_name_ok(name) || !name[1])
        status = duo_fail(DUO_EINVAL, "%s: '%s' is no name for a dataset", writer->path, name);
    else if (!store_shape_bytes(type, shape, &dataset.count, &bytes))
        status = duo_fail(DUO_EINVAL, "%s: dataset %s: type or shape makes no sense", writer->path,
                          name);
    else
        status = add_dataset(writer, dataset, bytes);
    writer->failed = status != DUO_OK;
    return status;
}

/* ---------------------------------------------------------------- attributes */

static duo_status write_attribute(duo_store_writer *writer, const duo_attribute *attribute,
                                  hid_t type, const void *value)
{
    duo_status status = DUO_OK;
    hid_t written = H5I_INVALID_HID;
    const hid_t space = H5Screate(H5S_SCALAR);
    hid_t object = H5Oopen(writer->file, attribute->object, H5P_DEFAULT);
    if (object < 0) {
        status = make_groups(writer, attribute->object, strlen(attribute->object));
        if (status != DUO_OK) goto done;
        object = H5Oopen(writer->file, attribute->object, H5P_DEFAULT);
    }
    if (object >= 0)
        written = H5Acreate2(object, attribute->name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (written < 0 || H5Awrite(written, type, value) < 0)
        status = store_hdf5_fail(DUO_EIO, writer->path, "write attribute", attribute->name);

done:
    if (written >= 0 && H5Aclose(written) < 0 && status == DUO_OK)
        status = store_hdf5_fail(DUO_EIO, writer->path, "close attribute", attribute->name);
    if (object >= 0 && H5Oclose(object) < 0 && status == DUO_OK)
        status = store_hdf5_fail(DUO_EIO, writer->path, "close object", attribute->object);
    if (space >= 0) H5Sclose(space);
    return status;
}

static void free_attribute(duo_attribute *attribute)
{
    free((void *)attribute->object);
    free((void *)attribute->name);
    if (attribute->type == DUO_ATTR_TEXT) free((void *)attribute->text);
}

static duo_status keep_attribute(duo_store_writer *writer, duo_attribute attribute)
{
    const bool text = attribute.type == DUO_ATTR_TEXT;
    attribute.object = strdup(attribute.object);
    attribute.name = strdup(attribute.name);
    if (text) attribute.text = strdup(attribute.text);
    if (!attribute.object || !attribute.name || (text && !attribute.text) ||
        !make_room((void **)&writer->attributes, writer->attribute_count, &writer->attribute_room,
                   sizeof *writer->attributes)) {
        free_attribute(&attribute);
        return no_memory(writer);
    }
    writer->attributes[writer->attribute_count++] = attribute;
    return DUO_OK;
}

static duo_status set_attribute(duo_store_writer *writer, duo_attribute attribute, hid_t type,
                                const void *value)
{
    if (writer->failed) return refuse_after_failure(writer);
    duo_status status;
    if (!store_object_name_ok(attribute.object) || !store_attribute_name_ok(attribute.name))
        status = duo_fail(DUO_EINVAL, "%s: '%s' of '%s' is no name for an attribute", writer->path,
                          attribute.name, attribute.object);
    else if (attribute.type == DUO_ATTR_TEXT && !duo_utf8_ok(attribute.text))
        status = duo_fail(DUO_EINVAL, "%s: attribute %s of %s is not UTF-8", writer->path,
                          attribute.name, attribute.object);
    else
        status = write_attribute(writer, &attribute, type, value);
    if (status == DUO_OK) status = keep_attribute(writer, attribute);
    writer->failed = status != DUO_OK;
    return status;
}

duo_status duo_store_set_u64(duo_store_writer *writer, const char *object, const char *name,
                             uint64_t value)
{
    return set_attribute(
        writer, (duo_attribute){.object = object, .name = name, .type = DUO_ATTR_U64, .u64 = value},
        H5T_STD_U64LE, &value);
}

duo_status duo_store_set_f64(duo_store_writer *writer, const char *object, const char *name,
                             double value)
{
    return set_attribute(
        writer, (duo_attribute){.object = object, .name = name, .type = DUO_ATTR_F64, .f64 = value},
        H5T_IEEE_F64LE, &value);
}

duo_status duo_store_set_text(duo_store_writer *writer, const char *object, const char *name,
                              const char *value)
{
    duo_status status;
    const size_t bytes = *value ? strlen(value) : 1; /* HDF5 knows no strings of length 0 */
    const hid_t type = H5Tcopy(H5T_C_S1);
    if (H5Tset_size(type, bytes) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0 ||
        H5Tset_strpad(type, H5T_STR_NULLPAD) < 0) {
        writer->failed = true;
        status = store_hdf5_fail(DUO_EIO, writer->path, "write attribute", name);
        goto done;
    }
    status = set_attribute(
        writer,
        (duo_attribute){.object = object, .name = name, .type = DUO_ATTR_TEXT, .text = value}, type,
        value);

done:
    if (type >= 0) H5Tclose(type);
    return status;
}

/* ---------------------------------------------------------------- commit */

static duo_status close_hdf5(duo_store_writer *writer)
{
    if (H5Fflush(writer->file, H5F_SCOPE_GLOBAL) < 0)
        return store_hdf5_fail(DUO_EIO, writer->path, "flush", "");
    const hid_t file = writer->file;
    writer->file = H5I_INVALID_HID; /* whatever comes: a second H5Fclose may crash */
    if (H5Fclose(file) < 0) return store_hdf5_fail(DUO_EIO, writer->path, "close", "");
    return DUO_OK;
}

typedef enum direction { READ, WRITE } direction;

static duo_status transfer(const duo_store_writer *writer, direction way, void *buffer,
                           size_t bytes, size_t at)
{
    char *next = buffer;
    while (bytes) {
        const ssize_t n = way == READ ? pread(writer->fd, next, bytes, (off_t)at)
                                      : pwrite(writer->fd, next, bytes, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return duo_fail(DUO_EIO, "%s: cannot %s the temporary file: %s", writer->path,
                            way == READ ? "read" : "write",
                            n < 0 ? strerror(errno) : "it was cut off");
        next += n;
        at += (size_t)n;
        bytes -= (size_t)n;
    }
    return DUO_OK;
}

enum { CHUNK = 1 << 20 };

/* Move the content behind a larger block, the end first, since the two places overlap. The
 * library then settles the new base address in its superblock. */
static duo_status move_content(duo_store_writer *writer, size_t file_bytes, size_t block_bytes,
                               void *buffer)
{
    const size_t by = block_bytes - writer->block_bytes;
    size_t left = file_bytes - writer->block_bytes;
    while (left) {
        const size_t piece = left < CHUNK ? left : CHUNK;
        left -= piece;
        const size_t from = writer->block_bytes + left;
        duo_status status = transfer(writer, READ, buffer, piece, from);
        if (status == DUO_OK) status = transfer(writer, WRITE, buffer, piece, from + by);
        if (status != DUO_OK) return status;
    }
    memset(buffer, 0, CHUNK);
    for (size_t at = 0; at < block_bytes; at += CHUNK) {
        const size_t piece = block_bytes - at < CHUNK ? block_bytes - at : CHUNK;
        const duo_status status = transfer(writer, WRITE, buffer, piece, at);
        if (status != DUO_OK) return status;
    }
    writer->block_bytes = block_bytes;
    writer->file = H5Fopen(writer->temp, H5F_ACC_RDWR, H5P_DEFAULT);
    if (writer->file < 0) return store_hdf5_fail(DUO_EIO, writer->path, "reopen", "");
    return close_hdf5(writer);
}

static duo_status size_of(const duo_store_writer *writer, size_t *bytes)
{
    struct stat info;
    if (fstat(writer->fd, &info) != 0)
        return duo_fail(DUO_EIO, "%s: cannot read the size of the temporary file: %s", writer->path,
                        strerror(errno));
    *bytes = (size_t)info.st_size;
    return DUO_OK;
}

static duo_status hash_content(const duo_store_writer *writer, size_t file_bytes, void *buffer,
                               duo_hash *hash)
{
    duo_hasher *hasher = duo_hasher_create();
    if (!hasher) return no_memory(writer);
    duo_status status = DUO_OK;
    for (size_t at = writer->block_bytes; at < file_bytes && status == DUO_OK; at += CHUNK) {
        const size_t piece = file_bytes - at < CHUNK ? file_bytes - at : CHUNK;
        status = transfer(writer, READ, buffer, piece, at);
        if (status == DUO_OK) duo_hasher_add(hasher, buffer, piece);
    }
    *hash = duo_hasher_value(hasher);
    duo_hasher_free(hasher);
    return status;
}

static duo_status seal(duo_store_writer *writer)
{
    unsigned char *block = NULL;
    duo_status status;
    void *buffer = malloc(CHUNK);
    if (!buffer) {
        status = no_memory(writer);
        goto done;
    }
    store_header header = {.kind = writer->kind,
                           .datasets = (uint32_t)writer->dataset_count,
                           .attributes = (uint32_t)writer->attribute_count};
    header.index_bytes = store_index_arrange(writer->datasets, writer->dataset_count,
                                             writer->attributes, writer->attribute_count);
    size_t block_bytes = writer->block_bytes, file_bytes = 0;
    if (writer->dataset_count + writer->attribute_count > STORE_ENTRIES) {
        status = duo_fail(DUO_EINVAL, "%s: more than %d datasets and attributes", writer->path,
                          STORE_ENTRIES);
        goto done;
    }
    while (block_bytes < STORE_HEADER + header.index_bytes + STORE_DIGEST) block_bytes *= 2;
    if (block_bytes > STORE_BLOCK_MAX) {
        status = duo_fail(DUO_EINVAL, "%s: names and attributes of %" PRIu64 " bytes are too many",
                          writer->path, header.index_bytes);
        goto done;
    }
    if ((status = size_of(writer, &file_bytes)) != DUO_OK) goto done;
    if (block_bytes > writer->block_bytes) {
        status = move_content(writer, file_bytes, block_bytes, buffer);
        if (status == DUO_OK) status = size_of(writer, &file_bytes);
        if (status != DUO_OK) goto done;
    }
    header.block_bytes = block_bytes;
    header.file_bytes = file_bytes;
    if ((status = hash_content(writer, file_bytes, buffer, &header.content)) != DUO_OK) goto done;
    block = calloc(1, block_bytes);
    if (!block) {
        status = no_memory(writer);
        goto done;
    }
    store_block_encode(block, &header, writer->datasets, writer->attributes);
    status = transfer(writer, WRITE, block, block_bytes, 0);

done:
    free(block);
    free(buffer);
    return status;
}

/* What was written is what the callers gave: the hashes in the index are those of their memory. */
static duo_status verify(const duo_store_writer *writer)
{
    duo_store *store = NULL;
    duo_status status = duo_store_open(&store, writer->temp, writer->kind);
    if (status == DUO_OK) status = store_check_datasets(store);
    duo_store_close(store);
    return status;
}

static duo_status sync_folder(const duo_store_writer *writer)
{
    duo_status status = DUO_OK;
    char *folder = store_folder_of(writer->path);
    if (!folder) return no_memory(writer);
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        status = duo_fail(DUO_EIO, "%s: renamed, but its folder is not synced: %s", writer->path,
                          strerror(errno));
    if (fd >= 0) close(fd);
    free(folder);
    return status;
}

static duo_status publish(duo_store_writer *writer)
{
    if (fsync(writer->fd) != 0)
        return duo_fail(DUO_EIO, "%s: cannot sync: %s", writer->path, strerror(errno));
    if (rename(writer->temp, writer->path) != 0)
        return duo_fail(DUO_EIO, "%s: cannot rename the temporary file to it: %s", writer->path,
                        strerror(errno));
    writer->temp_made = false;
    return sync_folder(writer);
}

duo_status duo_store_commit(duo_store_writer *writer)
{
    if (writer->failed) return refuse_after_failure(writer);
    writer->failed = true; /* for any later call: a writer commits once */
    duo_status status = close_hdf5(writer);
    if (status == DUO_OK) status = seal(writer);
    if (status == DUO_OK) status = verify(writer);
    if (status == DUO_OK) status = publish(writer);
    return status;
}

void duo_store_writer_free(duo_store_writer *writer)
{
    if (!writer) return;
    if (writer->file >= 0) H5Fclose(writer->file);
    if (writer->group_props >= 0) H5Pclose(writer->group_props);
    if (writer->dataset_props >= 0) H5Pclose(writer->dataset_props);
    if (writer->fd >= 0) close(writer->fd);
    if (writer->temp_made) unlink(writer->temp);
    for (size_t i = 0; i < writer->dataset_count; i++) free((void *)writer->datasets[i].is.name);
    for (size_t i = 0; i < writer->attribute_count; i++) free_attribute(&writer->attributes[i]);
    free(writer->datasets);
    free(writer->attributes);
    free(writer->path);
    free(writer->temp);
    free(writer);
}
