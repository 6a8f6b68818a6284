#ifndef DUO_RANDOM_MODEL_H
#define DUO_RANDOM_MODEL_H

#include <math.h>

#include "duo/model.h"
#include "duo/rng.h"

enum { ALL_MODULES = 1 << DUO_SKIP | 1 << DUO_SMALL | 1 << DUO_BIG };

/* No size is a multiple of a tile; query heads share keys and values. */
static inline duo_config tiny_config(void)
{
    return (duo_config){.n_layers = 2,
                        .d_model = 18,
                        .n_heads = 3,
                        .n_kv_heads = 1,
                        .d_big = 23,
                        .d_small = 7,
                        .vocab_size = 29,
                        .max_seq = 24,
                        .norm_eps = 1e-5,
                        .rope_theta = 10000.0,
                        .tied_embeddings = true,
                        .router_modules = ALL_MODULES};
}

/* Large enough that every kernel wakes the other threads. */
static inline duo_config wide_config(void)
{
    duo_config config = tiny_config();
    config.d_model = 96;
    config.n_heads = 4;
    config.n_kv_heads = 2;
    config.d_big = 200;
    config.d_small = 40;
    config.vocab_size = 300;
    config.max_seq = 64;
    return config;
}

/**
 * Weights at which everything matters: activations keep about unit size through every product, so
 * that no module, head or router vanishes beside the residual stream as it does at the initial
 * values.
 */
static inline void random_model(duo_model *model, uint64_t seed)
{
    for (size_t i = 0; i < model->params.n; i++) {
        const duo_param *p = &model->params.table[i];
        float *w = model->weights.tensors[i];
        const bool embedding = p->group == DUO_GROUP_EMBEDDING;
        const double inputs = p->rank == 2 && !embedding ? (double)p->shape[1] : 4.0;
        const double size = sqrt(3.0 / inputs);
        for (size_t j = 0; j < p->count; j++) {
            const duo_place place = {.step = i, .position = (uint32_t)j};
            const double u = duo_uniform(duo_random(seed, DUO_RNG_TEST, place).word[0]);
            w[j] = (float)(p->init_mean * (1.0 - size / 4) +
                           size * (2.0 * u - 1.0) * (p->init_mean != 0 ? 0.25 : 1.0));
        }
    }
}

#endif
