#include <stdlib.h>
#include <string.h>

#include "duo/result.h"
#include "fuzz.h"

/* The model of the seeds, whose hash is whatever the file says. */
static duo_model *model_of_seeds(void)
{
    static duo_model *model;
    const duo_config config = {.n_layers = 1,
                               .d_model = 8,
                               .n_heads = 1,
                               .n_kv_heads = 1,
                               .d_big = 4,
                               .d_small = 2,
                               .vocab_size = 310,
                               .max_seq = 8,
                               .norm_eps = 1e-5,
                               .rope_theta = 1e4,
                               .tied_embeddings = true};
    if (!model && duo_model_create(&model, &config) != DUO_OK) abort();
    return model;
}

static duo_hash hash_in(const char *path)
{
    duo_hash hash = {0};
    duo_store *store = NULL;
    const char *text = NULL;
    if (duo_store_open(&store, path, DUO_KIND_ROUTES) == DUO_OK &&
        duo_store_get_text(store, "/", "model_hash", &text) == DUO_OK && strlen(text) == 32) {
        char high[17] = "";
        memcpy(high, text, 16);
        hash = (duo_hash){strtoull(high, NULL, 16), strtoull(text + 16, NULL, 16)};
    }
    duo_store_close(store);
    return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const fuzz_file file = fuzz_open_sealed(data, size, DUO_KIND_ROUTES);
    duo_sequences sequences = {0};
    duo_trace trace = {0};
    if (duo_routes_read(file.path, model_of_seeds(), hash_in(file.path), &sequences, &trace) ==
        DUO_OK) {
        duo_sequences_free(&sequences);
        duo_trace_free(&trace);
    }
    fuzz_close(&file);
    return 0;
}
