/* A checkpoint of random weights, for tests of the program:
 * make_checkpoint OUT.h5 [tokenizer=FILE] [modules=small,big] [inputs=budget] [seed=N] [SIZE=N]...
 * Sizes as in a recipe's model section. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duo/checkpoint.h"
#include "duo/kernels.h"
#include "duo/number.h"
#include "random_model.h"

typedef struct wanted {
    duo_config config;
    const char *tokenizer;
    uint64_t seed;
} wanted;

static duo_status set(wanted *w, const char *key, const char *value)
{
    duo_config *c = &w->config;
    const struct {
        const char *key;
        size_t *value;
    } sizes[] = {
        {"n_layers", &c->n_layers},     {"d_model", &c->d_model},       {"n_heads", &c->n_heads},
        {"n_kv_heads", &c->n_kv_heads}, {"d_big", &c->d_big},           {"d_small", &c->d_small},
        {"max_seq", &c->max_seq},       {"vocab_size", &c->vocab_size},
    };
    uint64_t number = 0;
    if (strcmp(key, "tokenizer") == 0) {
        w->tokenizer = value;
        return DUO_OK;
    }
    if (strcmp(key, "modules") == 0 && duo_module_set_parse(&c->router_modules, value))
        return DUO_OK;
    if (strcmp(key, "inputs") == 0 && duo_router_inputs_parse(&c->router_inputs, value))
        return DUO_OK;
    if (duo_number_u64(&number, value) != DUO_NUMBER_OK)
        return duo_fail(DUO_EUSAGE, "%s=%s: not understood", key, value);
    if (strcmp(key, "tied") == 0) {
        c->tied_embeddings = number != 0;
        return DUO_OK;
    }
    if (strcmp(key, "seed") == 0) {
        w->seed = number;
        return DUO_OK;
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (strcmp(key, sizes[i].key) == 0) {
            *sizes[i].value = number;
            return DUO_OK;
        }
    return duo_fail(DUO_EUSAGE, "%s=%s: not understood", key, value);
}

static duo_status write_checkpoint(const char *path, const wanted *w,
                                   const duo_tokenizer *tokenizer)
{
    static const char no_tokenizer[] = "none";
    const duo_progress progress = {0};
    duo_model *model = NULL;
    size_t bytes = sizeof no_tokenizer;
    const void *of_tokenizer =
        tokenizer ? duo_tokenizer_model(tokenizer, &bytes) : (const void *)no_tokenizer;
    duo_status status = duo_config_check(&w->config, path);
    if (status == DUO_OK) status = duo_model_create(&model, &w->config);
    if (status != DUO_OK) return status;
    random_model(model, w->seed);
    status = duo_checkpoint_save(path, &(duo_checkpoint_state){.model = model,
                                                               .recipe = "name = random\n",
                                                               .tokenizer = of_tokenizer,
                                                               .tokenizer_bytes = bytes,
                                                               .progress = &progress,
                                                               .stage = "none"});
    duo_model_free(model);
    return status;
}

int main(int argc, char **argv)
{
    wanted w = {.config = {.n_layers = 2,
                           .d_model = 32,
                           .n_heads = 4,
                           .n_kv_heads = 4,
                           .d_big = 48,
                           .d_small = 16,
                           .vocab_size = 64,
                           .max_seq = 64,
                           .norm_eps = 1e-5,
                           .rope_theta = 10000.0,
                           .tied_embeddings = true},
                .seed = 1};
    duo_tokenizer *tokenizer = NULL;
    duo_status status = argc < 2 ? duo_fail(DUO_EUSAGE, "OUT.h5 is missing") : duo_kernels_start(1);
    for (int i = 2; i < argc && status == DUO_OK; i++) {
        char *equals = strchr(argv[i], '=');
        if (!equals) {
            status = duo_fail(DUO_EUSAGE, "%s: not understood", argv[i]);
            break;
        }
        *equals = '\0';
        status = set(&w, argv[i], equals + 1);
    }
    if (status == DUO_OK && w.tokenizer) {
        status = duo_tokenizer_open(&tokenizer, w.tokenizer);
        if (status == DUO_OK) w.config.vocab_size = duo_tokenizer_vocab_size(tokenizer);
    }
    if (status == DUO_OK) status = write_checkpoint(argv[1], &w, tokenizer);
    if (status != DUO_OK) fprintf(stderr, "make_checkpoint: %s\n", duo_message());
    duo_tokenizer_free(tokenizer);
    duo_kernels_stop();
    return status == DUO_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
