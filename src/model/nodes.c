#include "block.h"

#include <assert.h>
#include <string.h>

#include "pass.h"

struct duo_nodes {
    size_t capacity;
    float *x, *h, *r, *q, *k, *v, *att, *attention_scratch;
    float *gate, *up; /* a chunk of an FFN */
    float *router, *router_hidden;
    uint32_t *sequences;
    duo_row_groups groups;
};

/* ---------------------------------------------------------------- cache */

static size_t cache_layer(const duo_cache *cache, const duo_config *c)
{
    return cache->S * cache->max_T * duo_kv_width(c);
}

void duo_cache_take(duo_cache *cache, const duo_params *params, size_t S, size_t max_T,
                    duo_arena *arena)
{
    const duo_config *c = &params->config;
    *cache = (duo_cache){.S = S, .max_T = max_T};
    const size_t floats = c->n_layers * cache_layer(cache, c);
    cache->k = DUO_TAKE(arena, float, floats);
    cache->v = DUO_TAKE(arena, float, floats);
    cache->lengths = DUO_TAKE(arena, uint32_t, S);
    if (cache->lengths) memset(cache->lengths, 0, S * sizeof *cache->lengths);
}

size_t duo_cache_rows(const duo_config *config, size_t R, size_t T, size_t bytes)
{
    const double row =
        2.0 * sizeof(float) * (double)config->n_layers * (double)T * (double)duo_kv_width(config);
    const double rows = (double)bytes / row;
    return rows < 1 ? 1 : rows < (double)R ? (size_t)rows : R;
}

void duo_cache_fill(duo_cache *cache, const duo_pass *pass, size_t length)
{
    const size_t T = pass->shape.T;
    const size_t KV = pass->attention.Hkv * pass->attention.D;
    assert(pass->shape.keep_kv && pass->shape.B == cache->S);
    assert(length <= T && length <= cache->max_T);
    for (size_t l = 0; l < pass->n_layers; l++)
        for (size_t s = 0; s < cache->S; s++) {
            const size_t to = (l * cache->S + s) * cache->max_T * KV, from = s * T * KV;
            memcpy(cache->k + to, pass->layers[l].k + from, length * KV * sizeof(float));
            memcpy(cache->v + to, pass->layers[l].v + from, length * KV * sizeof(float));
        }
    for (size_t s = 0; s < cache->S; s++) cache->lengths[s] = (uint32_t)length;
}

/* ---------------------------------------------------------------- nodes */

duo_nodes *duo_nodes_take(const duo_params *params, size_t capacity, size_t max_T, duo_arena *arena)
{
    const duo_config *c = &params->config;
    const size_t C = c->d_model, KV = duo_kv_width(c);
    duo_nodes value = {.capacity = capacity};
    duo_nodes *nodes = DUO_TAKE(arena, duo_nodes, 1);
    value.x = DUO_TAKE(arena, float, capacity *C);
    value.h = DUO_TAKE(arena, float, capacity *C);
    value.r = DUO_TAKE(arena, float, capacity);
    value.q = DUO_TAKE(arena, float, capacity *C);
    value.k = DUO_TAKE(arena, float, capacity *KV);
    value.v = DUO_TAKE(arena, float, capacity *KV);
    value.att = DUO_TAKE(arena, float, capacity *C);
    value.attention_scratch =
        DUO_TAKE(arena, float, duo_attention_step_scratch(max_T, duo_head_width(c)));
    value.gate = DUO_TAKE(arena, float, duo_ffn_floats(c, capacity));
    value.up = DUO_TAKE(arena, float, duo_ffn_floats(c, capacity));
    value.router = DUO_TAKE(arena, float, capacity *DUO_MODULES);
    value.router_hidden = DUO_TAKE(arena, float, capacity * c->router_hidden);
    value.sequences = DUO_TAKE(arena, uint32_t, capacity);
    value.groups.rows[DUO_SMALL] = DUO_TAKE(arena, uint32_t, capacity);
    value.groups.rows[DUO_BIG] = DUO_TAKE(arena, uint32_t, capacity);
    if (nodes) *nodes = value;
    return nodes;
}

/* Nodes of the block from i on, of n. */
static size_t block_rows(const duo_nodes *nodes, size_t i, size_t n)
{
    return n - i < nodes->capacity ? n - i : nodes->capacity;
}

void duo_nodes_embed(const duo_model *model, float *x, const int32_t *tokens, size_t n)
{
    duo_embedding_forward(x, duo_tree_at(&model->weights, 0, DUO_P_TOK_EMB), tokens, n,
                          model->params.config.d_model);
}

static void attend_block(duo_nodes *nodes, const duo_model *model, size_t layer, float *x, float *h,
                         float *k, float *v, const duo_cache *cache, const uint32_t *sequences,
                         const uint32_t *positions, size_t n)
{
    const duo_config *c = &model->params.config;
    const duo_tree *w = &model->weights;
    const size_t C = c->d_model, D = duo_head_width(c);
    const size_t skip = layer * cache_layer(cache, c);
    duo_rmsnorm_forward(h, nodes->r, x, duo_tree_at(w, layer, DUO_P_ATTN_NORM), n, C,
                        (float)c->norm_eps);
    duo_qkv_forward(nodes->q, k, v, h, positions, model, layer, n);
    duo_attention_step(nodes->att, nodes->q, k, v, cache->k + skip, cache->v + skip, sequences,
                       positions, n, cache->max_T, c->n_heads, c->n_kv_heads, D,
                       nodes->attention_scratch);
    duo_linear_forward(x, nodes->att, duo_model_weight(model, layer, DUO_P_O), NULL, n, NULL, NULL,
                       true);
    duo_rmsnorm_forward(h, nodes->r, x, duo_tree_at(w, layer, DUO_P_FFN_NORM), n, C,
                        (float)c->norm_eps);
}

void duo_nodes_attend(duo_nodes *nodes, const duo_model *model, size_t layer, float *x, float *h,
                      float *k, float *v, const duo_cache *cache, const uint32_t *sequences,
                      const uint32_t *positions, size_t n)
{
    const duo_config *c = &model->params.config;
    const size_t C = c->d_model, KV = duo_kv_width(c);
    for (size_t i = 0; i < n; i += nodes->capacity)
        attend_block(nodes, model, layer, x + i * C, h + i * C, k ? k + i * KV : nodes->k,
                     v ? v + i * KV : nodes->v, cache, sequences + i, positions + i,
                     block_rows(nodes, i, n));
}

void duo_nodes_ffn(duo_nodes *nodes, const duo_model *model, size_t layer, duo_module module,
                   float *y, const uint32_t *y_rows, const float *h, const uint32_t *h_rows,
                   size_t n)
{
    const duo_ffn_state state = {.gate = nodes->gate, .up = nodes->up, .act = nodes->gate};
    for (size_t i = 0; i < n; i += nodes->capacity)
        duo_ffn_forward(y, y_rows + i, h, h_rows + i, model, layer, module, &state,
                        block_rows(nodes, i, n), true);
}

void duo_nodes_route(duo_nodes *nodes, const duo_model *model, const duo_router_rule *rule,
                     size_t layer, uint8_t *routes, size_t stride, const float *h,
                     const uint32_t *positions, size_t n)
{
    const duo_config *c = &model->params.config;
    if (!rule) rule = &model->rule;
    for (size_t i = 0; i < n; i += nodes->capacity) {
        const duo_router_rows rows = {.n = block_rows(nodes, i, n),
                                      .h = h + i * c->d_model,
                                      .routes = routes + i * stride,
                                      .stride = stride,
                                      .positions = positions + i,
                                      .budgets = &rule->budget,
                                      .per_budget = n};
        duo_router_forward(nodes->router, nodes->router_hidden, &rows, model, layer);
        duo_router_choose(routes + i * stride, stride, nodes->router, c, rule, layer, rows.n);
    }
}

void duo_nodes_logits(duo_nodes *nodes, const duo_model *model, float *logits, const float *x,
                      size_t n)
{
    const duo_config *c = &model->params.config;
    const size_t C = c->d_model;
    for (size_t i = 0; i < n; i += nodes->capacity) {
        const size_t rows = block_rows(nodes, i, n);
        duo_rmsnorm_forward(nodes->h, nodes->r, x + i * C,
                            duo_tree_at(&model->weights, 0, DUO_P_FINAL_NORM), rows, C,
                            (float)c->norm_eps);
        duo_linear_forward(logits + i * c->vocab_size, nodes->h, duo_model_head(model), NULL, rows,
                           NULL, NULL, false);
    }
}

/* ---------------------------------------------------------------- decoding */

static void append(duo_cache *cache, const duo_config *c, size_t layer, const float *k,
                   const float *v)
{
    const size_t KV = duo_kv_width(c);
    for (size_t s = 0; s < cache->S; s++) {
        const size_t at =
            layer * cache_layer(cache, c) + (s * cache->max_T + cache->lengths[s]) * KV;
        memcpy(cache->k + at, k + s * KV, KV * sizeof(float));
        memcpy(cache->v + at, v + s * KV, KV * sizeof(float));
    }
}

void duo_decode(duo_nodes *nodes, const duo_model *model, duo_cache *cache, const int32_t *tokens,
                const duo_routing *routing, float *logits)
{
    const duo_config *c = &model->params.config;
    const size_t S = cache->S, L = c->n_layers;
    assert(S <= nodes->capacity && routing->kind != DUO_ROUTING_GUMBEL);
    for (size_t s = 0; s < S; s++) nodes->sequences[s] = (uint32_t)s;
    duo_nodes_embed(model, nodes->x, tokens, S);
    for (size_t l = 0; l < L; l++) {
        duo_nodes_attend(nodes, model, l, nodes->x, nodes->h, nodes->k, nodes->v, cache,
                         nodes->sequences, cache->lengths, S);
        append(cache, c, l, nodes->k, nodes->v);
        if (routing->kind == DUO_ROUTING_ROUTER)
            duo_nodes_route(nodes, model, routing->rule, l, routing->routes + l, L, nodes->h,
                            cache->lengths, S);
        duo_routes_group(&nodes->groups, routing->routes + l, L, S);
        for (duo_module m = DUO_SMALL; m <= DUO_BIG; m++)
            duo_nodes_ffn(nodes, model, l, m, nodes->x, nodes->groups.rows[m], nodes->h,
                          nodes->groups.rows[m], nodes->groups.count[m]);
    }
    for (size_t s = 0; s < S; s++) cache->lengths[s]++;
    if (logits) duo_nodes_logits(nodes, model, logits, nodes->x, S);
}
