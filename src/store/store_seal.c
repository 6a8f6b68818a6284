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
#include "duo/utf8.h"
#include "store_hdf5.h"
#include "store_index.h"
#include "store_internal.h"

/* Everything in this file between the fork and _exit may crash, hang or eat memory: the HDF5
 * library reads bytes that anybody may have written. */

enum { MAX_DEPTH = 32, MAX_OBJECTS = STORE_ENTRIES };

typedef struct intake {
    const char *from;
    hid_t file;
    duo_store_writer *writer;
    size_t objects;
    duo_status
        status; /* of the innermost failure: HDF5's iterators pass on only that there was one */
} intake;

/* An object while its attributes or members are gone through. */
typedef struct visit {
    intake *in;
    const char *path;
    size_t depth;
} visit;

static duo_status refuse(const intake *in, const char *path, const char *reason)
{
    return duo_fail(DUO_EDATA, "%s: %s: %s", in->from, path, reason);
}

static duo_status broken(const intake *in, const char *doing, const char *path)
{
    return store_hdf5_fail(DUO_EDATA, in->from, doing, path);
}

/* ---------------------------------------------------------------- attributes */

/* The text of a scalar string attribute, to be freed; NULL when it cannot be read. */
static char *read_text(hid_t attribute, hid_t type)
{
    char *text = NULL;
    const htri_t variable = H5Tis_variable_str(type);
    if (variable < 0) return NULL;
    const size_t size = H5Tget_size(type);
    const hid_t memory = H5Tcopy(H5T_C_S1);
    if (H5Tset_cset(memory, H5Tget_cset(type)) < 0) goto done;
    if (variable) {
        char *held = NULL;
        if (H5Tset_size(memory, H5T_VARIABLE) < 0 || H5Aread(attribute, memory, &held) < 0)
            goto done;
        text = strdup(held ? held : "");
        H5free_memory(held);
    } else {
        text = calloc(1, size + 1);
        if (!text || H5Tset_size(memory, size + 1) < 0 || H5Aread(attribute, memory, text) < 0) {
            free(text);
            text = NULL;
        }
    }

done:
    H5Tclose(memory);
    return text;
}

static duo_status copy_number(const visit *at, const char *label, hid_t attribute, hid_t type,
                              const char *name)
{
    duo_store_writer *writer = at->in->writer;
    if (H5Tget_size(type) > 8) return refuse(at->in, label, "a number of more than 8 bytes");
    if (H5Tget_class(type) == H5T_FLOAT) {
        double value;
        if (H5Aread(attribute, H5T_NATIVE_DOUBLE, &value) < 0) return broken(at->in, "read", label);
        return duo_store_set_f64(writer, at->path, name, value);
    }
    if (H5Tget_sign(type) == H5T_SGN_NONE) {
        uint64_t value;
        if (H5Aread(attribute, H5T_NATIVE_UINT64, &value) < 0) return broken(at->in, "read", label);
        return duo_store_set_u64(writer, at->path, name, value);
    }
    int64_t value;
    if (H5Aread(attribute, H5T_NATIVE_INT64, &value) < 0) return broken(at->in, "read", label);
    if (value < 0) return refuse(at->in, label, "a negative integer cannot be kept");
    return duo_store_set_u64(writer, at->path, name, (uint64_t)value);
}

static duo_status copy_open_attribute(const visit *at, const char *label, hid_t attribute,
                                      const char *name)
{
    const hid_t space = H5Aget_space(attribute), type = H5Aget_type(attribute);
    duo_status status;
    if (space < 0 || type < 0) {
        status = broken(at->in, "read", label);
    } else if (H5Sget_simple_extent_type(space) != H5S_SCALAR) {
        status = refuse(at->in, label, "not a scalar");
    } else if (H5Tget_class(type) == H5T_STRING) {
        char *text = read_text(attribute, type);
        if (!text)
            status = broken(at->in, "read", label);
        else if (!duo_utf8_ok(text))
            status = refuse(at->in, label, "a text that is not UTF-8");
        else
            status = duo_store_set_text(at->in->writer, at->path, name, text);
        free(text);
    } else if (H5Tget_class(type) == H5T_INTEGER || H5Tget_class(type) == H5T_FLOAT) {
        status = copy_number(at, label, attribute, type, name);
    } else {
        status = refuse(at->in, label, "neither an integer nor a float nor a string");
    }
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    return status;
}

static herr_t copy_attribute(hid_t object, const char *name, const H5A_info_t *info, void *data)
{
    (void)info;
    const visit *at = data;
    const bool root = strcmp(at->path, "/") == 0;
    if (root && strcmp(name, "kind") == 0) return 0; /* duo_store_create has set it */
    if (++at->in->objects > MAX_OBJECTS || !store_attribute_name_ok(name)) {
        at->in->status =
            refuse(at->in, at->path, "too many attributes or one with a malformed name");
        return -1;
    }
    char label[512];
    snprintf(label, sizeof label, "attribute %s of %s", name, at->path);
    const hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    at->in->status = attribute < 0 ? broken(at->in, "open", label)
                                   : copy_open_attribute(at, label, attribute, name);
    if (attribute >= 0) H5Aclose(attribute);
    return at->in->status == DUO_OK ? 0 : -1;
}

static duo_status copy_attributes(const visit *at, hid_t object)
{
    visit each = *at;
    if (H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, NULL, copy_attribute, &each) >= 0)
        return DUO_OK;
    if (at->in->status != DUO_OK) return at->in->status;
    return broken(at->in, "list the attributes of", at->path);
}

/* ---------------------------------------------------------------- datasets */

/* The type of ours that a type in the file is, in either byte order; 0 when it is none. */
static duo_type known_type(hid_t type)
{
    for (duo_type t = DUO_U8; t <= DUO_F64; t++) {
        const hid_t swapped = H5Tcopy(store_hdf5_type(t));
        H5Tset_order(swapped, H5T_ORDER_BE);
        const bool same = H5Tequal(type, store_hdf5_type(t)) > 0 || H5Tequal(type, swapped) > 0;
        H5Tclose(swapped);
        if (same) return t;
    }
    return (duo_type)0;
}

/* NULL, or why the dataset is not taken: what its bytes would be lies elsewhere than in this
 * file, or it has no shape or type of ours. */
static const char *read_layout(hid_t dataset, duo_type *type, duo_shape *shape)
{
    const char *wrong = NULL;
    const hid_t props = H5Dget_create_plist(dataset), space = H5Dget_space(dataset);
    const hid_t stored = H5Dget_type(dataset);
    const H5D_layout_t layout = H5Pget_layout(props);
    const int rank = H5Sget_simple_extent_ndims(space);
    hsize_t size[H5S_MAX_RANK];
    if (props < 0 || space < 0 || stored < 0)
        wrong = "its description cannot be read";
    else if (layout != H5D_CONTIGUOUS && layout != H5D_CHUNKED)
        wrong = "its layout is neither contiguous nor chunked";
    else if (H5Pget_external_count(props) != 0)
        wrong = "its data lies in another file";
    else if (!(*type = known_type(stored)))
        wrong = "its type is not one of uint8 to uint64, int32, int64, float32, float64";
    else if (rank < 1 || rank > DUO_MAX_RANK || H5Sget_simple_extent_dims(space, size, NULL) < 0)
        wrong = "its rank is not 1 to 4";
    else
        shape->rank = (size_t)rank;
    for (size_t i = 0; !wrong && i < shape->rank; i++) shape->size[i] = size[i];
    if (stored >= 0) H5Tclose(stored);
    if (space >= 0) H5Sclose(space);
    if (props >= 0) H5Pclose(props);
    return wrong;
}

static duo_status copy_dataset(const visit *at, hid_t dataset)
{
    const intake *in = at->in;
    duo_type type = (duo_type)0;
    duo_shape shape = {0};
    size_t count, bytes;
    const char *wrong = read_layout(dataset, &type, &shape);
    if (wrong) return refuse(in, at->path, wrong);
    if (!store_shape_bytes(type, shape, &count, &bytes))
        return refuse(in, at->path, "its shape overflows");
    void *data = malloc(bytes ? bytes : 1);
    if (!data)
        return duo_fail(DUO_ENOMEM,
                        "%s: %s: no memory for %zu MiB within the limit for a file of "
                        "this size",
                        in->from, at->path, bytes >> 20);
    duo_status status;
    if (H5Dread(dataset, store_hdf5_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        status = broken(in, "read", at->path);
    else
        status = duo_store_write(in->writer, at->path, type, shape, data);
    free(data);
    return status == DUO_OK ? copy_attributes(at, dataset) : status;
}

/* ---------------------------------------------------------------- groups */

static duo_status copy_group(const visit *at, hid_t group);

static duo_status copy_object(const visit *at, hid_t object)
{
    H5O_info_t info;
    if (H5Oget_info2(object, &info, H5O_INFO_BASIC) < 0)
        return broken(at->in, "describe", at->path);
    if (info.rc > 1) return refuse(at->in, at->path, "an object with more than one name");
    if (info.type == H5O_TYPE_GROUP) return copy_group(at, object);
    if (info.type == H5O_TYPE_DATASET) return copy_dataset(at, object);
    return refuse(at->in, at->path, "neither a group nor a dataset");
}

static herr_t copy_link(hid_t group, const char *name, const H5L_info_t *info, void *data)
{
    const visit *above = data;
    intake *in = above->in;
    char path[1024];
    const char *folder = strcmp(above->path, "/") == 0 ? "" : above->path;
    const int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    const visit at = {.in = in, .path = path, .depth = above->depth + 1};
    if (length < 0 || (size_t)length >= sizeof path || at.depth > MAX_DEPTH) {
        in->status = refuse(in, above->path, "a member lies too deep or its name is too long");
    } else if (!store_object_name_ok(path)) {
        in->status = refuse(in, above->path, "the name of a member is malformed");
    } else if (++in->objects > MAX_OBJECTS) {
        in->status = refuse(in, path, "more objects than are taken in");
    } else if (info->type != H5L_TYPE_HARD) {
        in->status = refuse(in, path, "a soft or external link");
    } else {
        const hid_t object = H5Oopen(group, name, H5P_DEFAULT);
        in->status = object < 0 ? broken(in, "open", path) : copy_object(&at, object);
        if (object >= 0) H5Oclose(object);
    }
    return in->status == DUO_OK ? 0 : -1;
}

static duo_status copy_group(const visit *at, hid_t group)
{
    visit each = *at;
    const duo_status status = copy_attributes(at, group);
    if (status != DUO_OK) return status;
    if (H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, copy_link, &each) >= 0) return DUO_OK;
    if (at->in->status != DUO_OK) return at->in->status;
    return broken(at->in, "list", at->path);
}

static duo_status read_kind(const intake *in, hid_t root, duo_kind *kind)
{
    const hid_t attribute = H5Aopen(root, "kind", H5P_DEFAULT);
    const hid_t type = attribute < 0 ? H5I_INVALID_HID : H5Aget_type(attribute);
    const hid_t space = attribute < 0 ? H5I_INVALID_HID : H5Aget_space(attribute);
    char *text = NULL;
    if (type >= 0 && H5Tget_class(type) == H5T_STRING &&
        H5Sget_simple_extent_type(space) == H5S_SCALAR)
        text = read_text(attribute, type);
    *kind = DUO_KIND_ANY;
    for (duo_kind k = DUO_KIND_CHECKPOINT; text && k <= DUO_KIND_PROBE; k++)
        if (strcmp(text, duo_kind_name(k)) == 0) *kind = k;
    const duo_status status =
        *kind != DUO_KIND_ANY
            ? DUO_OK
            : duo_fail(DUO_EDATA,
                       "%s: its attribute kind is not checkpoint, tokens, routes or probe",
                       in->from);
    free(text);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (attribute >= 0) H5Aclose(attribute);
    return status;
}

static duo_status take_in(const char *from, const char *to)
{
    intake in = {.from = from, .file = H5I_INVALID_HID};
    hid_t root = H5I_INVALID_HID;
    duo_kind kind;
    duo_status status;
    store_hdf5_start();
    H5PLset_loading_state(0); /* a file names the filters it wants: never load code for it */
    in.file = H5Fopen(from, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (in.file >= 0) root = H5Gopen2(in.file, "/", H5P_DEFAULT);
    if (root < 0) {
        status = broken(&in, "read as HDF5", "");
        goto done;
    }
    if ((status = read_kind(&in, root, &kind)) != DUO_OK) goto done;
    if ((status = duo_store_create(&in.writer, to, kind)) != DUO_OK) goto done;
    const visit at = {.in = &in, .path = "/"};
    if ((status = copy_group(&at, root)) != DUO_OK) goto done;
    H5Gclose(root);
    H5Fclose(in.file);
    root = in.file = H5I_INVALID_HID; /* the copy may go to the place of the original */
    status = duo_store_commit(in.writer);

done:
    duo_store_writer_free(in.writer);
    if (root >= 0) H5Gclose(root);
    if (in.file >= 0) H5Fclose(in.file);
    return status;
}

/* ---------------------------------------------------------------- the fence */

typedef struct report {
    duo_status status;
    char message[1024];
} report;

static size_t memory_in_use(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file) return 0;
    if (fscanf(file, "%lu", &pages) != 1) pages = 0;
    fclose(file);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void limit(int resource, rlim_t most)
{
    struct rlimit now;
    if (getrlimit(resource, &now) != 0) return;
    if (now.rlim_max == RLIM_INFINITY || most < now.rlim_max) now.rlim_max = most;
    now.rlim_cur = now.rlim_max;
    setrlimit(resource, &now);
}

/* Generous for honest files, compressed ones too: memory and time grow with the size. */
static void put_up_fence(size_t file_bytes)
{
    const size_t memory = ((size_t)1 << 30) + 16 * file_bytes;
    const rlim_t seconds = 20 + file_bytes / (8 << 20);
    limit(RLIMIT_AS, memory_in_use() + memory);
    limit(RLIMIT_CPU, seconds);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_NOFILE, 256);
    signal(SIGALRM, SIG_DFL);
    alarm(2 * (unsigned)seconds); /* for a wait that takes no processor time */
    const int null = open("/dev/null", O_RDWR);
    if (null >= 0) { /* a crash has its line from the parent */
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
    }
}

static _Noreturn void run_child(int answer, const char *from, const char *to, size_t file_bytes)
{
    put_up_fence(file_bytes);
    report out = {.status = take_in(from, to)};
    if (out.status != DUO_OK) snprintf(out.message, sizeof out.message, "%s", duo_message());
    const bool told = write(answer, &out, sizeof out) == (ssize_t)sizeof out;
    _exit(told ? 0 : 1);
}

/* The child's report, or what its end says in its place. */
static duo_status judge(const char *from, int end, bool told, const report *said)
{
    if (told && WIFEXITED(end))
        return said->status == DUO_OK ? DUO_OK : duo_fail(said->status, "%s", said->message);
    if (!WIFSIGNALED(end)) return duo_fail(DUO_EDATA, "%s: the HDF5 library gave up on it", from);
    if (WTERMSIG(end) == SIGXCPU || WTERMSIG(end) == SIGALRM || WTERMSIG(end) == SIGKILL)
        return duo_fail(DUO_EDATA, "%s: not read within the limits of time and memory", from);
    return duo_fail(DUO_EDATA, "%s: the HDF5 library crashed on it (signal %d)", from,
                    WTERMSIG(end));
}

static void remove_temp(const char *to, pid_t child)
{
    char *temp = store_temp_path(to, child);
    if (temp) unlink(temp);
    free(temp);
}

static bool read_report(int from, report *said)
{
    size_t have = 0;
    while (have < sizeof *said) {
        const ssize_t n = read(from, (char *)said + have, sizeof *said - have);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        have += (size_t)n;
    }
    said->message[sizeof said->message - 1] = '\0';
    return true;
}

duo_status duo_store_seal(const char *from, const char *to)
{
    struct stat info;
    if (stat(from, &info) != 0)
        return duo_fail(DUO_EIO, "%s: cannot open: %s", from, strerror(errno));
    if (!S_ISREG(info.st_mode)) return duo_fail(DUO_EIO, "%s: is not a regular file", from);

    int ends[2];
    if (pipe(ends) != 0)
        return duo_fail(DUO_EIO, "%s: cannot make a pipe: %s", from, strerror(errno));
    const pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        run_child(ends[1], from, to, (size_t)info.st_size);
    }
    close(ends[1]);
    duo_status status;
    if (child < 0) {
        status = duo_fail(DUO_EIO, "%s: cannot start a process: %s", from, strerror(errno));
        goto done;
    }
    report said;
    int end = 0;
    const bool told = read_report(ends[0], &said);
    while (waitpid(child, &end, 0) < 0 && errno == EINTR) continue;
    status = judge(from, end, told, &said);
    if (status != DUO_OK) remove_temp(to, child);

done:
    close(ends[0]);
    return status;
}
