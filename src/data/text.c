#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/types.h>

#include "data_internal.h"
#include "duo/json.h"
#include "duo/utf8.h"

/* Some editors begin a file with a byte order mark (U+FEFF), which is no text: its bytes, or 0. */
static size_t mark_length(const char *text, size_t bytes)
{
    static const char mark[] = "\xEF\xBB\xBF";
    const size_t length = sizeof mark - 1;
    return bytes >= length && memcmp(text, mark, length) == 0 ? length : 0;
}

static duo_status not_utf8(const char *path, uint64_t offset)
{
    return duo_fail(DUO_EINVAL, "%s: byte %" PRIu64 ": not UTF-8", path, offset);
}

/* ---------------------------------------------------------------- corpus */

duo_status data_corpus_create(data_corpus *corpus, const char *output, size_t n_sources)
{
    *corpus = (data_corpus){0};
    corpus->sources = calloc(n_sources, sizeof *corpus->sources);
    if (!corpus->sources) return duo_fail(DUO_ENOMEM, "%s: no memory to write it", output);
    return data_spool_create(&corpus->text, output);
}

void data_corpus_free(data_corpus *corpus)
{
    data_spool_free(&corpus->text);
    free(corpus->documents);
    free(corpus->sources);
    *corpus = (data_corpus){0};
}

static duo_status add_document(data_corpus *corpus, data_document document)
{
    if (corpus->n_documents == corpus->documents_room) {
        const size_t room = corpus->documents_room ? 2 * corpus->documents_room : 1024;
        data_document *grown = realloc(corpus->documents, room * sizeof *grown);
        if (!grown) return duo_fail(DUO_ENOMEM, "%s: no memory for documents", corpus->text.where);
        corpus->documents = grown;
        corpus->documents_room = room;
    }
    corpus->documents[corpus->n_documents++] = document;
    return DUO_OK;
}

duo_status data_corpus_cut(data_corpus *corpus, size_t i, uint64_t at)
{
    const duo_status status = add_document(corpus, corpus->documents[i]);
    if (status != DUO_OK) return status;
    data_document *first = &corpus->documents[i], *second = first + 1;
    memmove(second, first, (corpus->n_documents - i - 1) * sizeof *first);
    first->bytes = at;
    second->start += at;
    second->bytes -= at;
    return DUO_OK;
}

/* Begin a document where the spool ends. */
static duo_status begin_document(data_corpus *corpus, const data_source *source)
{
    return add_document(corpus, (data_document){.start = corpus->text.bytes,
                                                .domain = source->domain,
                                                .split = source->split});
}

static duo_status add_text(data_corpus *corpus, const char *text, size_t bytes)
{
    corpus->documents[corpus->n_documents - 1].bytes += bytes;
    return data_spool_add(&corpus->text, text, bytes);
}

static duo_status cannot_read(const char *path)
{
    return duo_fail(DUO_EIO, "%s: cannot read: %s", path, strerror(errno));
}

/* ---------------------------------------------------------------- plain text */

static duo_status read_plain(data_corpus *corpus, data_source *source, FILE *file,
                             duo_hasher *hasher)
{
    enum { CHUNK = 1 << 20 };
    duo_status status = begin_document(corpus, source);
    char *chunk = malloc(CHUNK);
    if (!chunk) status = duo_fail(DUO_ENOMEM, "%s: no memory to read it", source->path);
    size_t kept = 0; /* bytes of a character that the last chunk cut */
    while (status == DUO_OK) {
        const size_t got = fread(chunk + kept, 1, CHUNK - kept, file);
        if (ferror(file)) {
            status = cannot_read(source->path);
            break;
        }
        duo_hasher_add(hasher, chunk + kept, got);
        const size_t have = kept + got, valid = duo_utf8_prefix(chunk, have);
        if (have - valid > (got > 0 ? 3 : 0)) {
            status = not_utf8(source->path, source->bytes - kept + valid);
            break;
        }
        const size_t mark = source->bytes == 0 ? mark_length(chunk, valid) : 0;
        source->bytes += got;
        status = add_text(corpus, chunk + mark, valid - mark);
        kept = have - valid;
        memmove(chunk, chunk + valid, kept);
        if (got == 0) break;
    }
    free(chunk);
    return status;
}

/* ---------------------------------------------------------------- JSON lines */

/* The text of one line; *object is released by the caller. */
static duo_status parse_line(json_t **object, const char **text, size_t *bytes, const char *line,
                             size_t length, const char *key, const char *path, size_t number)
{
    json_error_t error;
    const duo_status status =
        duo_json_parse(object, line, length,
                       JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    if (status != DUO_OK) return duo_fail(status, "%s:%zu: %s", path, number, duo_message());
    if (!json_is_object(*object))
        return duo_fail(DUO_EINVAL, "%s:%zu: not a JSON object", path, number);
    const json_t *value = json_object_get(*object, key);
    if (!value) return duo_fail(DUO_EINVAL, "%s:%zu: no key \"%s\"", path, number, key);
    if (!json_is_string(value))
        return duo_fail(DUO_EINVAL, "%s:%zu: \"%s\" is not a string", path, number, key);
    *text = json_string_value(value);
    *bytes = json_string_length(value);
    return DUO_OK;
}

static bool is_blank(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!isspace((unsigned char)line[i])) return false;
    return true;
}

static duo_status read_lines(data_corpus *corpus, data_source *source, FILE *file,
                             duo_hasher *hasher, const char *key)
{
    duo_status status = DUO_OK;
    char *line = NULL;
    size_t room = 0, number = 0, without_text = 0, first_without = 0;
    ssize_t got = 0;
    while (status == DUO_OK && (errno = 0, got = getline(&line, &room, file)) >= 0) {
        const size_t length = (size_t)got, valid = duo_utf8_prefix(line, length);
        const uint64_t start = source->bytes;
        number++;
        source->bytes += length;
        duo_hasher_add(hasher, line, length);
        if (valid < length) {
            status = not_utf8(source->path, start + valid);
            break;
        }
        const size_t mark = start == 0 ? mark_length(line, length) : 0;
        if (is_blank(line + mark, length - mark)) continue;
        json_t *object = NULL;
        const char *text = NULL;
        size_t bytes = 0;
        status = parse_line(&object, &text, &bytes, line + mark, length - mark, key, source->path,
                            number);
        if (status == DUO_OK && bytes == 0) {
            if (without_text++ == 0) first_without = number;
        } else if (status == DUO_OK && (status = begin_document(corpus, source)) == DUO_OK) {
            status = add_text(corpus, text, bytes);
        }
        json_decref(object);
    }
    free(line);
    if (status != DUO_OK) return status;
    if (!feof(file)) return cannot_read(source->path);
    if (without_text > 0)
        duo_warn("%s:%zu: the text is empty; %zu such document%s left out", source->path,
                 first_without, without_text, without_text == 1 ? "" : "s");
    return DUO_OK;
}

/* ---------------------------------------------------------------- one file */

static bool ends_with(const char *path, const char *ending)
{
    const size_t a = strlen(path), b = strlen(ending);
    return a >= b && strcasecmp(path + a - b, ending) == 0;
}

duo_status data_corpus_read(data_corpus *corpus, const char *path, size_t domain, duo_split split,
                            const char *json_key)
{
    data_source *source = &corpus->sources[corpus->n_sources];
    *source = (data_source){.path = path, .domain = domain, .split = split};
    const size_t documents = corpus->n_documents;
    const uint64_t bytes = corpus->text.bytes;
    FILE *file = fopen(path, "rb");
    if (!file) return duo_fail(DUO_EIO, "%s: cannot open: %s", path, strerror(errno));
    duo_status status = DUO_OK;
    duo_hasher *hasher = duo_hasher_create();
    if (!hasher) {
        status = duo_fail(DUO_ENOMEM, "%s: no memory to read it", path);
        goto done;
    }
    status = ends_with(path, ".jsonl") || ends_with(path, ".json")
                 ? read_lines(corpus, source, file, hasher, json_key)
                 : read_plain(corpus, source, file, hasher);
    if (status != DUO_OK) goto done;
    if (source->bytes == 0)
        status = duo_fail(DUO_EINVAL, "%s: empty", path);
    else if (corpus->n_documents == documents || corpus->text.bytes == bytes)
        status = duo_fail(DUO_EINVAL, "%s: holds no document with text", path);
    source->hash = duo_hasher_value(hasher);
    corpus->n_sources++;

done:
    duo_hasher_free(hasher);
    fclose(file);
    return status;
}
