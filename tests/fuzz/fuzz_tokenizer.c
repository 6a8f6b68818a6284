#include <stdlib.h>

#include "duo/data.h"
#include "fuzz.h"

/* The bytes of a model; what can be read encodes and decodes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "the king sees 7 \xc3\xa9\n";
    duo_tokenizer *tokenizer = NULL;
    int32_t *ids = NULL;
    char *back = NULL;
    size_t n = 0, bytes = 0;
    if (duo_tokenizer_create(&tokenizer, data, size, "fuzz") == DUO_OK &&
        duo_tokenizer_encode(tokenizer, text, sizeof text - 1, &ids, &n) == DUO_OK)
        (void)duo_tokenizer_decode(tokenizer, ids, n, &back, &bytes);
    free(ids);
    free(back);
    duo_tokenizer_free(tokenizer);
    return 0;
}
