#include <stdlib.h>
#include <string.h>

#include "duo/data.h"
#include "fuzz.h"

static const duo_tokenizer *tokenizer_of_seeds(void)
{
    static duo_tokenizer *tokenizer;
    if (!tokenizer && duo_tokenizer_open(&tokenizer, DUO_FUZZ_SEEDS "/tokenizer/plain.model"))
        abort();
    return tokenizer;
}

/* A prompt is refused, or its ids are in the vocabulary and give the same bytes back. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const duo_tokenizer *tokenizer = tokenizer_of_seeds();
    int32_t *ids = NULL;
    char *text = NULL;
    size_t n = 0, bytes = 0;
    if (duo_tokenizer_encode(tokenizer, (const char *)data, size, &ids, &n) != DUO_OK) return 0;
    if (duo_tokenizer_decode(tokenizer, ids, n, &text, &bytes) != DUO_OK) abort();
    if (bytes != size || (size > 0 && memcmp(text, data, size) != 0)) abort();
    free(ids);
    free(text);
    return 0;
}
