#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "data_internal.h"

static duo_status read_all(FILE *file, const char *path, char **data, size_t *bytes)
{
    size_t room = 1 << 16;
    char *all = malloc(room);
    *data = NULL;
    *bytes = 0;
    while (all) {
        *bytes += fread(all + *bytes, 1, room - *bytes, file);
        if (*bytes < room) break;
        char *grown = realloc(all, room *= 2);
        if (!grown) free(all);
        all = grown;
    }
    if (!all) return duo_fail(DUO_ENOMEM, "%s: no memory to read it", path);
    *data = all;
    if (!ferror(file)) return DUO_OK;
    return duo_fail(DUO_EIO, "%s: cannot read: %s", path, strerror(errno));
}

static duo_status from_store(duo_tokenizer **tokenizer, const char *path)
{
    duo_store *store = NULL;
    const duo_dataset *model = NULL;
    duo_status status = duo_store_open(&store, path, DUO_KIND_ANY);
    if (status == DUO_OK)
        status = duo_store_require(store, "/tokenizer", DUO_U8, (duo_shape){.rank = 1}, &model);
    if (status == DUO_OK) status = duo_tokenizer_create(tokenizer, model->data, model->count, path);
    duo_store_close(store);
    return status;
}

duo_status duo_tokenizer_create_for(duo_tokenizer **tokenizer, const void *model, size_t bytes,
                                    size_t vocab_size, const char *where)
{
    const duo_status status = duo_tokenizer_create(tokenizer, model, bytes, where);
    if (status != DUO_OK) return status;
    const size_t pieces = duo_tokenizer_vocab_size(*tokenizer);
    if (pieces == vocab_size) return DUO_OK;
    duo_tokenizer_free(*tokenizer);
    *tokenizer = NULL;
    return duo_fail(DUO_EDATA, "%s: /tokenizer has %zu pieces, the vocab_size is %zu", where,
                    pieces, vocab_size);
}

duo_status duo_tokenizer_check_for(const void *model, size_t bytes, size_t vocab_size,
                                   const char *where)
{
    if (bytes == 1) return DUO_OK;
    duo_tokenizer *tokenizer = NULL;
    const duo_status status = duo_tokenizer_create_for(&tokenizer, model, bytes, vocab_size, where);
    duo_tokenizer_free(tokenizer);
    return status;
}

duo_status duo_tokenizer_open(duo_tokenizer **tokenizer, const char *path)
{
    static const char magic[] = "DUOSEAL1";
    char *data = NULL;
    size_t bytes = 0;
    *tokenizer = NULL;
    FILE *file = fopen(path, "rb");
    if (!file) return duo_fail(DUO_EIO, "%s: cannot open: %s", path, strerror(errno));
    char start[sizeof magic - 1];
    const bool is_ours = fread(start, 1, sizeof start, file) == sizeof start &&
                         memcmp(start, magic, sizeof start) == 0;
    duo_status status = DUO_OK;
    if (is_ours) {
        status = from_store(tokenizer, path);
    } else {
        rewind(file);
        status = read_all(file, path, &data, &bytes);
        if (status == DUO_OK) status = duo_tokenizer_create(tokenizer, data, bytes, path);
    }
    free(data);
    fclose(file);
    return status;
}
