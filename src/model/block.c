#include "block.h"

size_t duo_ffn_width(const duo_config *config, duo_module module)
{
    return module == DUO_BIG ? config->d_big : module == DUO_SMALL ? config->d_small : 0;
}

duo_ffn duo_ffn_of(const duo_tree *tree, size_t layer, duo_module module)
{
    const duo_slot gate = module == DUO_BIG ? DUO_P_BIG_GATE : DUO_P_SMALL_GATE;
    return (duo_ffn){
        .gate = duo_tree_at(tree, layer, gate),
        .up = duo_tree_at(tree, layer, gate + (DUO_P_BIG_UP - DUO_P_BIG_GATE)),
        .down = duo_tree_at(tree, layer, gate + (DUO_P_BIG_DOWN - DUO_P_BIG_GATE)),
    };
}

void duo_ffn_forward(float *y, const uint32_t *y_rows, const float *h, const uint32_t *h_rows,
                     const duo_model *model, size_t layer, duo_module module,
                     const duo_ffn_state *state, size_t n, bool add)
{
    const size_t C = model->params.config.d_model;
    const size_t F = duo_ffn_width(&model->params.config, module);
    const duo_ffn w = duo_ffn_of(&model->weights, layer, module);
    duo_linear_forward(state->gate, h, w.gate, NULL, n, F, C, NULL, h_rows, false);
    duo_linear_forward(state->up, h, w.up, NULL, n, F, C, NULL, h_rows, false);
    duo_swiglu_forward(state->act, state->gate, state->up, n * F);
    duo_linear_forward(y, state->act, w.down, NULL, n, C, F, y_rows, NULL, add);
}

void duo_qkv_forward(float *q, float *k, float *v, const float *h, const uint32_t *positions,
                     const duo_model *model, size_t layer, size_t N)
{
    const duo_config *c = &model->params.config;
    const duo_tree *w = &model->weights;
    const size_t C = c->d_model, D = duo_head_width(c), KV = c->n_kv_heads * D;
    duo_linear_forward(q, h, duo_tree_at(w, layer, DUO_P_Q), NULL, N, C, C, NULL, NULL, false);
    duo_linear_forward(k, h, duo_tree_at(w, layer, DUO_P_K), NULL, N, KV, C, NULL, NULL, false);
    duo_linear_forward(v, h, duo_tree_at(w, layer, DUO_P_V), NULL, N, KV, C, NULL, NULL, false);
    duo_rope_forward(q, model->rope, positions, N, c->n_heads, D);
    duo_rope_forward(k, model->rope, positions, N, c->n_kv_heads, D);
}

size_t duo_router_codes(duo_module codes[DUO_MODULES], const duo_config *config)
{
    size_t M = 0;
    for (duo_module m = 0; m < DUO_MODULES; m++)
        if (duo_module_in(config->router_modules, m)) codes[M++] = m;
    return M;
}

void duo_router_logits(float *logits, const float *h, const duo_model *model, size_t layer,
                       size_t N)
{
    const duo_config *c = &model->params.config;
    duo_linear_forward(logits, h, duo_tree_at(&model->weights, layer, DUO_P_ROUTER_WEIGHT),
                       duo_tree_at(&model->weights, layer, DUO_P_ROUTER_BIAS), N,
                       duo_module_count(c->router_modules), c->d_model, NULL, NULL, false);
}

void duo_router_choose(uint8_t *routes, size_t stride, const float *scores,
                       const duo_config *config, size_t n)
{
    duo_module codes[DUO_MODULES];
    const size_t M = duo_router_codes(codes, config);
    for (size_t i = 0; i < n; i++) {
        size_t best = 0;
        for (size_t m = 1; m < M; m++)
            if (scores[i * M + m] > scores[i * M + best]) best = m;
        routes[i * stride] = (uint8_t)codes[best];
    }
}

size_t duo_head_block(const duo_config *config, size_t N)
{
    const size_t most = (size_t)4 << 20; /* floats: 16 MiB of logits */
    size_t rows = most / config->vocab_size / 64 * 64;
    if (rows < 64) rows = 64;
    return rows < N ? rows : N;
}
