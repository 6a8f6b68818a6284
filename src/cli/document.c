#include "document.h"

#include <stdlib.h>
#include <string.h>

duo_status duo_document_encode(const duo_tokenizer *tokenizer, const char *text, size_t bytes,
                               int32_t **ids, size_t *n)
{
    int32_t *encoded = NULL;
    size_t count = 0;
    *ids = NULL;
    *n = 0;
    const int32_t bos = duo_tokenizer_bos(tokenizer);
    duo_status status = duo_tokenizer_encode(tokenizer, text, bytes, &encoded, &count);
    if (status != DUO_OK) return status;
    if (bos < 0 && count == 0) {
        free(encoded);
        return duo_fail(DUO_EINVAL,
                        "there is no text, and the tokenizer has no mark for the begin of one");
    }
    *ids = malloc((count + 1) * sizeof **ids);
    if (!*ids) {
        free(encoded);
        return duo_fail(DUO_ENOMEM, "no memory for the text");
    }
    if (bos >= 0) (*ids)[(*n)++] = bos;
    if (count > 0) memcpy(*ids + *n, encoded, count * sizeof **ids);
    *n += count;
    free(encoded);
    return DUO_OK;
}
