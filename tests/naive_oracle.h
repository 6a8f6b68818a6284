#ifndef NAIVE_ORACLE_H
#define NAIVE_ORACLE_H

/*
 * The oracle without any wit: one token, every complete route by itself, from the embedding to the
 * logits. Numbers of a token do not depend on what is computed beside it, so that a search must
 * find the same bits.
 */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "duo/kernels.h"
#include "duo/oracle.h"

typedef struct naive {
    const duo_model *model;
    size_t L, V, T;
    duo_arena arena;
    duo_nodes *nodes;
    duo_cache cache; /* of one sequence */
    duo_pass *pass;  /* over it */
    float *logits, *q;
    uint8_t *routes; /* (T, L) */
} naive;

static inline void naive_lay_out(naive *n, duo_arena *arena)
{
    const duo_params *params = &n->model->params;
    duo_cache_take(&n->cache, params, 1, n->T, arena);
    n->nodes = duo_nodes_take(params, 1, n->T, arena);
    n->pass = duo_pass_take(params, (duo_pass_shape){.B = 1, .T = n->T, .keep_kv = true}, arena);
    n->logits = DUO_TAKE(arena, float, n->V);
    n->q = DUO_TAKE(arena, float, n->V);
    n->routes = DUO_TAKE(arena, uint8_t, n->T * n->L);
}

static inline duo_status naive_create(naive *n, const duo_model *model, size_t T)
{
    const duo_config *config = &model->params.config;
    *n = (naive){.model = model, .L = config->n_layers, .V = config->vocab_size, .T = T};
    duo_arena measure = DUO_ARENA_MEASURE;
    naive_lay_out(n, &measure);
    const duo_status status = duo_arena_create(&n->arena, measure.used, "naive search");
    if (status == DUO_OK) naive_lay_out(n, &n->arena);
    return status;
}

static inline void naive_free(naive *n)
{
    duo_arena_free(&n->arena);
}

/* The sequence sees routes (T, L): keys and values of a whole pass. tokens (T+1). */
static inline void naive_context(naive *n, const int32_t *tokens, const uint8_t *routes)
{
    memcpy(n->routes, routes, n->T * n->L);
    const duo_routing routing = {.kind = DUO_ROUTING_GIVEN, .routes = n->routes};
    duo_pass_forward(n->pass, n->model, tokens, &routing);
}

/* The step of one token at position t on one route, from the logits on. With fresh keys and values
 * the context is what the last pass saw, else what the cache holds of the steps before. */
static inline const float *naive_step(naive *n, const int32_t *tokens, size_t t,
                                      const uint8_t *route, bool fresh)
{
    uint8_t own[128];
    memcpy(own, route, n->L);
    const duo_routing routing = {.kind = DUO_ROUTING_GIVEN, .routes = own};
    if (fresh)
        duo_cache_fill(&n->cache, n->pass, t);
    else
        n->cache.lengths[0] = (uint32_t)t;
    duo_decode(n->nodes, n->model, &n->cache, tokens + t, &routing, n->logits);
    return n->logits;
}

static inline float naive_loss(const naive *n, int32_t target)
{
    float loss, lse;
    duo_cross_entropy_forward(&loss, &lse, n->logits, &target, 1, n->V);
    return loss;
}

static inline float naive_expected(const naive *n)
{
    float loss, lse;
    const int32_t any = 0;
    const uint32_t row = 0;
    duo_cross_entropy_forward(&loss, &lse, n->logits, &any, 1, n->V);
    duo_cross_entropy_expected(&loss, &lse, n->logits, n->q, &row, 1, n->V);
    return loss;
}

/* The next route of the modules in ascending code; false behind the last. */
static inline bool naive_next(uint8_t *route, size_t L, duo_module_set modules)
{
    for (size_t l = L; l-- > 0;) {
        for (unsigned m = route[l] + 1u; m < DUO_MODULES; m++)
            if (duo_module_in(modules, (duo_module)m)) {
                route[l] = (uint8_t)m;
                return true;
            }
        for (unsigned m = 0; m < DUO_MODULES; m++)
            if (duo_module_in(modules, (duo_module)m)) {
                route[l] = (uint8_t)m;
                break;
            }
    }
    return false;
}

static inline void naive_first(uint8_t *route, size_t L, duo_module_set modules)
{
    for (size_t l = 0; l < L; l++) route[l] = DUO_BIG;
    naive_next(route, L, modules);
}

static inline size_t naive_count(const uint8_t *route, size_t L, duo_module module)
{
    size_t count = 0;
    for (size_t l = 0; l < L; l++) count += route[l] == module;
    return count;
}

/* Spelt out from the definition, not by what the search prunes with. */
static inline bool naive_within(const duo_budget *budget, const uint8_t *route,
                                const duo_config *config)
{
    double spent = 0;
    if (budget->kind == DUO_BUDGET_COUNT)
        spent = (double)naive_count(route, config->n_layers, budget->module);
    for (size_t l = 0; l < config->n_layers && budget->kind == DUO_BUDGET_FLOPS; l++)
        spent += duo_flops_ffn(config, (duo_module)route[l]);
    return budget->kind == DUO_BUDGET_NONE || (spent >= budget->low && spent <= budget->high);
}

/* What has been found so far; routes come in ascending code, so that of equals the first stays
 * unless the later has fewer big. */
typedef struct naive_best {
    float score, loss;
    uint8_t route[128];
} naive_best;

static inline void naive_offer(naive_best *best, const uint8_t *route, float score, float loss,
                               size_t L)
{
    if (!(score <= best->score) || isinf(score)) return;
    if (score == best->score &&
        naive_count(route, L, DUO_BIG) >= naive_count(best->route, L, DUO_BIG))
        return;
    best->score = score;
    best->loss = loss;
    memcpy(best->route, route, L);
}

#endif
