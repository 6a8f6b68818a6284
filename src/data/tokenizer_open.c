#include <stdlib.h>
#include <string.h>

#include "data_internal.h"
#include "duo/file.h"

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
    duo_status status = duo_file_read(&data, &bytes, path, sizeof magic - 1);
    if (status != DUO_OK) return status;
    const bool is_ours = strcmp(data, magic) == 0;
    free(data);
    if (is_ours) return from_store(tokenizer, path);
    status = duo_file_read(&data, &bytes, path, SIZE_MAX);
    if (status == DUO_OK) status = duo_tokenizer_create(tokenizer, data, bytes, path);
    free(data);
    return status;
}
