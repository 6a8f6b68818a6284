#ifndef CHECKPOINT_FIXTURE_H
#define CHECKPOINT_FIXTURE_H

/* What the suites of checkpoints and run folders share: a small state to save. */

#include "duo/checkpoint.h"
#include "store_fixture.h"

typedef struct sample {
    duo_model *model;
    duo_arena arena;
    duo_tree m, v;
    duo_progress progress;
    duo_checkpoint_state state;
} sample;

enum { SMALL_AND_BIG = 1 << DUO_SMALL | 1 << DUO_BIG };

static inline duo_config sample_config(void)
{
    return (duo_config){.n_layers = 2,
                        .d_model = 12,
                        .n_heads = 3,
                        .n_kv_heads = 1,
                        .d_big = 10,
                        .d_small = 5,
                        .vocab_size = 17,
                        .max_seq = 9,
                        .norm_eps = 1e-5,
                        .rope_theta = 12345.6,
                        .router_modules = SMALL_AND_BIG};
}

/* Different everywhere, biases and gains included. */
static inline void fill_tree(duo_tree *tree, uint32_t seed)
{
    for (size_t i = 0; i < tree->params->n; i++)
        for (size_t j = 0; tree->tensors[i] && j < tree->params->table[i].count; j++) {
            seed = seed * 1664525u + 1013904223u;
            tree->tensors[i][j] = (float)seed / 4e9f - 0.5f;
        }
}

static inline void take_moments(sample *s, duo_group_set groups, duo_arena *arena)
{
    duo_tree_take(&s->m, &s->model->params, groups, arena);
    duo_tree_take(&s->v, &s->model->params, groups, arena);
}

static inline void make_sample_of(sample *s, const duo_config *config, duo_group_set groups)
{
    duo_arena measure = DUO_ARENA_MEASURE;
    *s = (sample){0};
    ok(duo_model_create(&s->model, config));
    fill_tree(&s->model->weights, 1);
    take_moments(s, groups, &measure);
    ok(duo_arena_create(&s->arena, measure.used, "moments"));
    take_moments(s, groups, &s->arena);
    fill_tree(&s->m, 2);
    fill_tree(&s->v, 3);
    s->progress = (duo_progress){.stage = 1,
                                 .stage_step = 40,
                                 .step = 140,
                                 .sequences = 1400,
                                 .tokens = 70000,
                                 .best_loss = 3.0625};
    s->state = (duo_checkpoint_state){.model = s->model,
                                      .recipe = "name = sample\n",
                                      .tokenizer = "pieces\0of text",
                                      .tokenizer_bytes = 14,
                                      .seed = 7,
                                      .progress = &s->progress,
                                      .stage = "duo",
                                      .m = &s->m,
                                      .v = &s->v,
                                      .lr = 0.001,
                                      .tau = 0.75,
                                      .loss = 3.25};
}

static inline void make_sample(sample *s)
{
    const duo_config config = sample_config();
    make_sample_of(s, &config, DUO_GROUP_BIT(DUO_GROUP_SMALL) | DUO_GROUP_BIT(DUO_GROUP_ROUTER));
}

static inline void free_sample(sample *s)
{
    duo_arena_free(&s->arena);
    duo_model_free(s->model);
}

/* The same tensors of the same bits. */
static inline void same_tree(const duo_tree *a, const duo_tree *b)
{
    ck_assert_uint_eq(a->params->n, b->params->n);
    for (size_t i = 0; i < a->params->n; i++) {
        const duo_param *p = &a->params->table[i];
        ck_assert_int_eq(a->tensors[i] != NULL, b->tensors[i] != NULL);
        if (a->tensors[i]) ck_assert_mem_eq(a->tensors[i], b->tensors[i], p->count * sizeof(float));
    }
}

#endif
