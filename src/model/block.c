#include "block.h"

size_t duo_ffn_width(const duo_config *config, duo_module module)
{
    return module == DUO_BIG ? config->d_big : module == DUO_SMALL ? config->d_small : 0;
}

duo_ffn_slots duo_ffn_slots_of(duo_module module)
{
    if (module == DUO_BIG) return (duo_ffn_slots){DUO_P_BIG_GATE, DUO_P_BIG_UP, DUO_P_BIG_DOWN};
    return (duo_ffn_slots){DUO_P_SMALL_GATE, DUO_P_SMALL_UP, DUO_P_SMALL_DOWN};
}

size_t duo_ffn_chunk(size_t F, size_t n)
{
    const size_t most = (size_t)512 << 10, least = 384; /* floats that stay near; rows that pay */
    const size_t rows = most / F > least ? most / F / 48 * 48 : least;
    return rows < n ? rows : n;
}

size_t duo_ffn_floats(const duo_config *config, size_t n)
{
    const size_t big = config->d_big * duo_ffn_chunk(config->d_big, n);
    const size_t small = config->d_small * duo_ffn_chunk(config->d_small, n);
    return big > small ? big : small;
}

void duo_ffn_forward(float *y, const uint32_t *y_rows, const float *h, const uint32_t *h_rows,
                     const duo_model *model, size_t layer, duo_module module,
                     const duo_ffn_state *state, size_t n, bool add)
{
    const duo_config *c = &model->params.config;
    const size_t C = c->d_model, F = duo_ffn_width(c, module), chunk = duo_ffn_chunk(F, n);
    const duo_ffn_slots slots = duo_ffn_slots_of(module);
    const duo_weight *w_gate = duo_model_weight(model, layer, slots.gate);
    const duo_weight *w_up = duo_model_weight(model, layer, slots.up);
    const duo_weight *w_down = duo_model_weight(model, layer, slots.down);
    for (size_t first = 0; first < n; first += chunk) {
        const size_t rows = n - first < chunk ? n - first : chunk;
        const size_t kept = state->keep ? first * F : 0;
        float *gate = state->gate + kept, *up = state->up + kept;
        const duo_rows_of to = duo_rows_from(y_rows, first, C),
                          from = duo_rows_from(h_rows, first, C);
        const duo_linear_output outputs[] = {{gate, w_gate}, {up, w_up}};
        duo_linear_forward_each(outputs, 2, h + from.skip, rows, from.rows);
        duo_swiglu_forward(state->act, gate, up, rows * F);
        duo_linear_forward(y + to.skip, state->act, w_down, NULL, rows, to.rows, NULL, add);
    }
}

void duo_qkv_forward(float *q, float *k, float *v, const float *h, const uint32_t *positions,
                     const duo_model *model, size_t layer, size_t N)
{
    const duo_config *c = &model->params.config;
    const size_t D = duo_head_width(c);
    const duo_linear_output outputs[] = {{q, duo_model_weight(model, layer, DUO_P_Q)},
                                         {k, duo_model_weight(model, layer, DUO_P_K)},
                                         {v, duo_model_weight(model, layer, DUO_P_V)}};
    duo_linear_forward_each(outputs, 3, h, N, NULL);
    duo_rope_forward(q, model->rope, positions, N, c->n_heads, D);
    duo_rope_forward(k, model->rope, positions, N, c->n_kv_heads, D);
}

size_t duo_head_block(const duo_config *config, size_t N)
{
    const size_t most = (size_t)4 << 20; /* floats: 16 MiB of logits */
    size_t rows = most / config->vocab_size / 64 * 64;
    if (rows < 64) rows = 64;
    return rows < N ? rows : N;
}
