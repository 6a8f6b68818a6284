#define _GNU_SOURCE
#include "disk_model.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SECTOR = 512, NAMES = 64, SMALL = 1 << 16 };

typedef struct image {
    unsigned char *data;
    size_t bytes, room;
} image;

/* A write or, without data, a new length. */
typedef struct change {
    size_t at, bytes;
    const unsigned char *data;
} change;

typedef struct file {
    uint64_t inode;
    image durable, seen; /* after the last fsync; as programs see it */
    change *changes;     /* since */
    size_t n_changes, room;
    size_t number, synced; /* its place in the pool */
} file;

/* A name for a file or, file being NULL, for a symbolic link. */
typedef struct entry {
    char name[RECORDED_NAME], target[RECORDED_NAME];
    file *file;
} entry;

typedef struct names {
    entry list[NAMES];
    size_t n;
} names;

/* One step of the folder: a name appears (or changes), another goes. */
typedef struct renaming {
    entry appears;            /* name "": none */
    char goes[RECORDED_NAME]; /* "": none */
} renaming;

struct disk {
    const char *pool;
    disk_faults faults;
    file **files;
    size_t n_files;
    names durable, seen;
    renaming *renamings; /* since the last fsync of the folder */
    size_t n_renamings, room;
};

static void check(bool fine, const char *what)
{
    if (fine) return;
    perror(what);
    exit(2);
}

static void *grow(void *list, size_t count, size_t *room, size_t size)
{
    if (count < *room) return list;
    *room = *room ? 2 * *room : 64;
    list = realloc(list, *room * size);
    check(list != NULL, "memory");
    return list;
}

/* ---------------------------------------------------------------- bytes */

static void set_length(image *m, size_t bytes)
{
    if (bytes > m->room) {
        m->room = 2 * bytes;
        m->data = realloc(m->data, m->room);
        check(m->data != NULL, "memory");
    }
    if (bytes > m->bytes) memset(m->data + m->bytes, 0, bytes - m->bytes);
    m->bytes = bytes;
}

static void apply_change(image *m, const change *c)
{
    if (!c->data) {
        set_length(m, c->at);
        return;
    }
    if (c->at + c->bytes > m->bytes) set_length(m, c->at + c->bytes);
    memcpy(m->data + c->at, c->data, c->bytes);
}

static void add_change(file *f, change c)
{
    f->changes = grow(f->changes, f->n_changes, &f->room, sizeof *f->changes);
    f->changes[f->n_changes++] = c;
    apply_change(&f->seen, &c);
}

static void sync_file(file *f)
{
    for (size_t i = 0; i < f->n_changes; i++) apply_change(&f->durable, &f->changes[i]);
    f->n_changes = 0;
    f->synced++;
}

/* ---------------------------------------------------------------- names */

static entry *find(const names *all, const char *name)
{
    for (size_t i = 0; i < all->n; i++)
        if (strcmp(all->list[i].name, name) == 0) return (entry *)&all->list[i];
    return NULL;
}

static void apply_renaming(names *all, const renaming *r)
{
    entry *gone = r->goes[0] ? find(all, r->goes) : NULL;
    if (gone) *gone = all->list[--all->n];
    if (!r->appears.name[0]) return;
    entry *place = find(all, r->appears.name);
    if (!place) {
        check(all->n < NAMES, "too many names");
        place = &all->list[all->n++];
    }
    *place = r->appears;
}

static void add_renaming(disk *d, const renaming *r)
{
    d->renamings = grow(d->renamings, d->n_renamings, &d->room, sizeof *d->renamings);
    d->renamings[d->n_renamings++] = *r;
    apply_renaming(&d->seen, r);
}

static void name_it(disk *d, const char *name, file *f, const char *target, const char *goes)
{
    renaming r = {.appears = {.file = f}};
    snprintf(r.appears.name, sizeof r.appears.name, "%s", name);
    snprintf(r.appears.target, sizeof r.appears.target, "%s", target);
    snprintf(r.goes, sizeof r.goes, "%s", goes);
    add_renaming(d, &r);
}

static entry look_up(const disk *d, const char *name)
{
    const entry *e = find(&d->seen, name);
    if (!e) {
        fprintf(stderr, "the recording names %s, which it never made\n", name);
        exit(2);
    }
    return *e;
}

/* ---------------------------------------------------------------- the disk */

disk *disk_create(const char *pool, disk_faults faults)
{
    disk *d = calloc(1, sizeof *d);
    check(d != NULL, "memory");
    d->pool = pool;
    d->faults = faults;
    return d;
}

void disk_free(disk *d)
{
    if (!d) return;
    for (size_t i = 0; i < d->n_files; i++) {
        free(d->files[i]->durable.data);
        free(d->files[i]->seen.data);
        free(d->files[i]->changes);
        free(d->files[i]);
    }
    free(d->files);
    free(d->renamings);
    free(d);
}

static file *make_file(disk *d, uint64_t inode)
{
    file *f = calloc(1, sizeof *f);
    d->files = realloc(d->files, (d->n_files + 1) * sizeof(file *));
    check(f && d->files, "memory");
    f->inode = inode;
    f->number = d->n_files;
    d->files[d->n_files++] = f;
    return f;
}

/* The latest of this inode number: earlier ones are gone. */
static file *file_of(const disk *d, uint64_t inode)
{
    size_t i = d->n_files;
    while (i > 0 && d->files[i - 1]->inode != inode) i--;
    if (i == 0) {
        fputs("the recording writes to a file that it never made\n", stderr);
        exit(2);
    }
    return d->files[i - 1];
}

void disk_apply(disk *d, const recorded *r, const void *data)
{
    entry from;
    switch ((recorded_op)r->op) {
    case RECORDED_CREATE:
        name_it(d, r->name, make_file(d, r->file), "", "");
        break;
    case RECORDED_WRITE:
        add_change(file_of(d, r->file), (change){.at = r->at, .bytes = r->bytes, .data = data});
        break;
    case RECORDED_TRUNCATE:
        add_change(file_of(d, r->file), (change){.at = r->at});
        break;
    case RECORDED_SYNC_FILE:
        if (!d->faults.ignores_file_sync) sync_file(file_of(d, r->file));
        break;
    case RECORDED_SYNC_FOLDER:
        if (d->faults.ignores_folder_sync) break;
        d->durable = d->seen;
        d->n_renamings = 0;
        break;
    case RECORDED_RENAME:
        from = look_up(d, r->name);
        name_it(d, r->to, from.file, from.target, r->name);
        break;
    case RECORDED_LINK:
        name_it(d, r->to, look_up(d, r->name).file, "", "");
        break;
    case RECORDED_SYMLINK:
        name_it(d, r->to, NULL, r->name, "");
        break;
    case RECORDED_UNLINK:
        name_it(d, "", NULL, "", look_up(d, r->name).name);
        break;
    }
}

const char *disk_name(const disk *d, size_t i)
{
    return i < d->seen.n ? d->seen.list[i].name : NULL;
}

const char *disk_target(const disk *d, const char *name)
{
    const entry *e = find(&d->seen, name);
    return e && !e->file ? e->target : NULL;
}

const unsigned char *disk_content(const disk *d, const char *name, size_t *bytes)
{
    const entry *e = find(&d->seen, name);
    *bytes = e && e->file ? e->file->seen.bytes : 0;
    return e && e->file ? e->file->seen.data : NULL;
}

/* ---------------------------------------------------------------- losing power */

typedef struct dice {
    uint64_t state;
} dice;

static uint64_t roll(dice *d, uint64_t sides)
{
    uint64_t z = d->state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (z ^ z >> 31) % sides;
}

/* How much of what is not synced is there. */
typedef enum luck { NOTHING, ALL, FIRST_PART, ANY_PART, LUCKS } luck;

static names surviving_names(const disk *d, luck names_luck, dice *random)
{
    names left = d->durable;
    const size_t part = roll(random, d->n_renamings + 1);
    for (size_t i = 0; i < d->n_renamings; i++)
        if (names_luck == ALL || (names_luck == FIRST_PART && i < part) ||
            (names_luck == ANY_PART && roll(random, 2)))
            apply_renaming(&left, &d->renamings[i]);
    return left;
}

static void tear(image *m, const change *c, dice *random)
{
    if (!c->data) return;
    for (size_t at = c->at, end; at < c->at + c->bytes; at = end) {
        end = (at / SECTOR + 1) * SECTOR;
        if (end > c->at + c->bytes) end = c->at + c->bytes;
        const change sector = {.at = at, .bytes = end - at, .data = c->data + (at - c->at)};
        if (roll(random, 2)) apply_change(m, &sector);
    }
}

static image surviving_bytes(const file *f, luck bytes_luck, dice *random)
{
    image left = {0};
    set_length(&left, f->durable.bytes);
    if (left.bytes) memcpy(left.data, f->durable.data, left.bytes);
    const size_t part = roll(random, f->n_changes + 1);
    for (size_t i = 0; i < f->n_changes; i++) {
        const bool whole = bytes_luck == ALL || (bytes_luck == FIRST_PART && i < part) ||
                           (bytes_luck == ANY_PART && roll(random, 3) == 0);
        if (whole)
            apply_change(&left, &f->changes[i]);
        else if ((bytes_luck == FIRST_PART && i == part) ||
                 (bytes_luck == ANY_PART && roll(random, 2)))
            tear(&left, &f->changes[i], random);
    }
    if (bytes_luck == ALL) return left;
    const uint64_t length = roll(random, 4);
    if (length == 0 && f->seen.bytes > left.bytes) set_length(&left, f->seen.bytes);
    if (length == 1 && left.bytes > f->durable.bytes)
        set_length(&left, f->durable.bytes +
                              roll(random, (left.bytes - f->durable.bytes) / SECTOR + 1) * SECTOR);
    return left;
}

static void write_image(const char *path, const image *m)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0666);
    check(fd >= 0 && write(fd, m->data, m->bytes) == (ssize_t)m->bytes, path);
    close(fd);
}

/* Large files that are durable are written once and linked: whoever opens the state only reads
 * them. */
static void link_from_pool(const disk *d, const file *f, const char *path)
{
    char pooled[512];
    snprintf(pooled, sizeof pooled, "%s/%zu-%zu", d->pool, f->number, f->synced);
    if (access(pooled, F_OK) != 0) write_image(pooled, &f->durable);
    check(link(pooled, path) == 0, path);
}

void disk_lose_power(const disk *d, uint64_t number, const char *folder)
{
    dice random = {.state = number * 0xD1342543DE82EF95u};
    const names left =
        surviving_names(d, (luck)(number % LUCKS), &random); /* every luck of names... */
    const luck bytes_luck = (luck)(number / LUCKS % LUCKS);  /* ...with every luck of bytes */
    for (size_t i = 0; i < left.n; i++) {
        char path[512];
        const entry *e = &left.list[i];
        snprintf(path, sizeof path, "%s/%s", folder, e->name);
        if (!e->file) {
            check(symlink(e->target, path) == 0, path);
        } else if (e->file->n_changes == 0 && e->file->durable.bytes > SMALL) {
            link_from_pool(d, e->file, path);
        } else {
            image bytes = surviving_bytes(e->file, bytes_luck, &random);
            write_image(path, &bytes);
            free(bytes.data);
        }
    }
}
