#include "pass.h"

#include <assert.h>
#include <string.h>

#include "router_loss.h"

/* What is trainable decides where gradients must flow. */
static bool trains(const duo_tree *gradient, size_t l, duo_slot first, duo_slot last)
{
    for (duo_slot slot = first; slot <= last; slot++)
        if (duo_tree_at(gradient, l, slot)) return true;
    return false;
}

/* What a gradient of the residual stream below layer l can reach. Under given routes that is not
 * the routers: they are told what to say, and no loss but their own depends on them. */
static bool trains_below(const duo_tree *gradient, size_t l, bool mixed)
{
    const duo_slot last = mixed ? DUO_P_LAYER_KINDS - 1 : DUO_P_SMALL_DOWN;
    if (duo_tree_at(gradient, 0, DUO_P_TOK_EMB)) return true;
    for (size_t i = 0; i < l; i++)
        if (trains(gradient, i, 0, last)) return true;
    return false;
}

/* One FFN for n rows (rows NULL: all), in chunks. Adds to dh if the input's gradient is needed. */
static void ffn_backward(duo_pass *pass, const duo_model *model, const duo_tree *gradient, size_t l,
                         duo_module m, const float *dy, const uint32_t *rows, size_t n,
                         bool need_dh)
{
    const duo_layer_state *s = &pass->layers[l];
    const duo_config *c = &model->params.config;
    const size_t C = c->d_model, F = duo_ffn_width(c, m), chunk = duo_ffn_chunk(F, n);
    const duo_ffn_slots slots = duo_ffn_slots_of(m);
    const duo_weight *w_gate = duo_model_weight(model, l, slots.gate);
    const duo_weight *w_up = duo_model_weight(model, l, slots.up);
    const duo_weight *w_down = duo_model_weight(model, l, slots.down);
    float *dw_gate = duo_tree_at(gradient, l, slots.gate);
    float *dw_up = duo_tree_at(gradient, l, slots.up);
    float *dw_down = duo_tree_at(gradient, l, slots.down);
    if (!need_dh && !dw_down) return;

    float *da = pass->dgate, *act = dw_down ? pass->act : NULL;
    for (size_t first = 0; first < n; first += chunk) {
        const size_t k = n - first < chunk ? n - first : chunk;
        const duo_rows_of at = duo_rows_from(rows, first, C);
        const float *dy_k = dy + at.skip, *h = s->h_ffn + at.skip;
        const float *gate = s->ffn[m].gate + first * F, *up = s->ffn[m].up + first * F;
        duo_linear_backward_input(da, dy_k, w_down, k, NULL, at.rows, false);
        duo_pass_check(pass, l, "gradient of an FFN's activation", da, k * F);
        duo_swiglu_backward(pass->dgate, pass->dup, act, da, gate, up, k * F);
        duo_pass_check(pass, l, "gradient of an FFN's gate", pass->dgate, k * F);
        duo_pass_check(pass, l, "gradient of an FFN's up", pass->dup, k * F);
        if (dw_down) {
            const duo_precision as = w_down->precision;
            duo_linear_backward_weight(dw_down, NULL, dy_k, act, k, C, F, at.rows, NULL, as);
            const duo_linear_gradient of_h[] = {{dw_gate, pass->dgate, F}, {dw_up, pass->dup, F}};
            duo_linear_backward_weight_each(of_h, 2, h, k, C, at.rows, as);
        }
        if (!need_dh) continue;
        float *dh = pass->dh + at.skip;
        duo_linear_backward_input(dh, pass->dgate, w_gate, k, at.rows, NULL, true);
        duo_linear_backward_input(dh, pass->dup, w_up, k, at.rows, NULL, true);
    }
}

/* dlogits: what came through a mixture; adds the router's own loss. */
static void router_backward(duo_pass *pass, const duo_model *model, const duo_routing *routing,
                            const duo_tree *gradient, size_t l, double drouter, bool need_dh)
{
    const duo_router_rows rows = duo_pass_router_rows(pass, model, routing, l);
    if (!need_dh && !duo_tree_at(gradient, l, DUO_P_ROUTER_WEIGHT)) return;
    duo_router_loss_backward(pass->drouter, pass, routing, l, drouter);
    duo_pass_check(pass, l, "gradient of the router", pass->drouter,
                   pass->N * duo_module_count(pass->config.router_modules));
    duo_router_backward(gradient, need_dh ? pass->dh : NULL, pass->dhidden, pass->drouter,
                        pass->layers[l].hidden, &rows, model, l);
}

static void mixed_backward(duo_pass *pass, const duo_model *model, const duo_routing *routing,
                           const duo_tree *gradient, size_t l, double drouter, bool need_dh)
{
    const duo_config *c = &model->params.config;
    const duo_layer_state *s = &pass->layers[l];
    duo_module codes[DUO_MODULES];
    const size_t N = pass->N, M = duo_module_codes(codes, c->router_modules);
    memset(pass->dweight, 0, N * M * sizeof(float));
    for (size_t i = 0; i < M; i++) {
        const duo_module m = codes[i];
        if (m == DUO_SKIP) continue;
        duo_mix_backward(pass->dy, pass->dweight + i, pass->dx, s->output[m], s->weight + i, M, N,
                         c->d_model);
        duo_pass_check(pass, l, "gradient of an FFN's output", pass->dy, N * c->d_model);
        duo_pass_check(pass, l, "gradient of the mixture's weights", pass->dweight, N * M);
        ffn_backward(pass, model, gradient, l, m, pass->dy, NULL, N, need_dh);
    }
    memset(pass->drouter, 0, N * M * sizeof(float));
    duo_gumbel_softmax_backward(pass->drouter, pass->dweight, s->soft, routing->tau, N, M);
    router_backward(pass, model, routing, gradient, l, drouter, need_dh);
}

/* dx: in, the gradient of x_mid; out, that of x_in if it is needed below. */
static void attention_backward(duo_pass *pass, const duo_model *model, const duo_tree *gradient,
                               size_t l, bool below)
{
    const duo_config *c = &model->params.config;
    const duo_tree *w = &model->weights;
    const duo_layer_state *s = &pass->layers[l];
    const size_t N = pass->N, C = c->d_model, D = duo_head_width(c);

    const duo_weight *w_o = duo_model_weight(model, l, DUO_P_O);
    duo_linear_backward_input(pass->datt, pass->dx, w_o, N, NULL, NULL, false);
    duo_pass_check(pass, l, "gradient of attention", pass->datt, N * C);
    float *dw = duo_tree_at(gradient, l, DUO_P_O);
    if (dw)
        duo_linear_backward_weight(dw, NULL, pass->dx, s->att, N, C, C, NULL, NULL, w_o->precision);
    duo_attention_backward(pass->dq, pass->dk, pass->dv, pass->datt, s->q, s->k, s->v, s->att,
                           s->lse, pass->attention, pass->attention_scratch);
    duo_pass_check(pass, l, "gradient of the queries", pass->dq, N * C);
    duo_pass_check(pass, l, "gradient of the keys", pass->dk, N * c->n_kv_heads * D);
    duo_pass_check(pass, l, "gradient of the values", pass->dv, N * c->n_kv_heads * D);
    duo_rope_backward(pass->dq, model->rope, pass->positions, N, c->n_heads, D);
    duo_rope_backward(pass->dk, model->rope, pass->positions, N, c->n_kv_heads, D);

    const bool need_dh = below || duo_tree_at(gradient, l, DUO_P_ATTN_NORM);
    const duo_slot slots[] = {DUO_P_Q, DUO_P_K, DUO_P_V};
    const float *const dy[] = {pass->dq, pass->dk, pass->dv};
    duo_linear_gradient of_h[3];
    for (size_t i = 0; i < 3; i++) {
        const duo_weight *weight = duo_model_weight(model, l, slots[i]);
        of_h[i] = (duo_linear_gradient){duo_tree_at(gradient, l, slots[i]), dy[i], weight->O};
        if (need_dh) duo_linear_backward_input(pass->dh, dy[i], weight, N, NULL, NULL, i > 0);
    }
    duo_linear_backward_weight_each(of_h, 3, s->h_attn, N, C, NULL, w_o->precision);
    if (need_dh)
        duo_rmsnorm_backward(pass->dx, duo_tree_at(gradient, l, DUO_P_ATTN_NORM), pass->dh, s->x_in,
                             duo_tree_at(w, l, DUO_P_ATTN_NORM), s->r_attn, N, C);
    if (need_dh) duo_pass_check(pass, l, "gradient of the layer's input", pass->dx, N * C);
}

void duo_pass_backward(duo_pass *pass, const duo_model *model, const duo_routing *routing,
                       const duo_tree *gradient, float drouter)
{
    const duo_config *c = &model->params.config;
    const duo_tree *w = &model->weights;
    const size_t N = pass->N, C = c->d_model, M = duo_module_count(c->router_modules);
    const bool mixed = routing->kind == DUO_ROUTING_GUMBEL, routers = pass->shape.routers && !mixed;
    assert(pass->shape.backward && routing->kind != DUO_ROUTING_ROUTER);

    if (trains_below(gradient, c->n_layers, mixed) || duo_tree_at(gradient, 0, DUO_P_FINAL_NORM)) {
        duo_clear(pass->dx, N * C);
        duo_rmsnorm_backward(pass->dx, duo_tree_at(gradient, 0, DUO_P_FINAL_NORM), pass->dh,
                             pass->x_out, duo_tree_at(w, 0, DUO_P_FINAL_NORM), pass->r_final, N, C);
        duo_pass_check(pass, DUO_NO_LAYER, "gradient of the last layer", pass->dx, N * C);
    }
    for (size_t l = c->n_layers; l-- > 0;) {
        const bool below = trains_below(gradient, l, mixed);
        const bool attention = below || trains(gradient, l, DUO_P_ATTN_NORM, DUO_P_O);
        const bool need_dh = attention || duo_tree_at(gradient, l, DUO_P_FFN_NORM);
        const duo_layer_state *s = &pass->layers[l];

        if (need_dh) duo_clear(pass->dh, N * C);
        if (mixed)
            mixed_backward(pass, model, routing, gradient, l, (double)drouter, need_dh);
        else
            for (duo_module m = DUO_SMALL; m <= DUO_BIG; m++)
                ffn_backward(pass, model, gradient, l, m, pass->dx, s->groups.rows[m],
                             s->groups.count[m], need_dh);
        if (routers) {
            memset(pass->drouter, 0, N * M * sizeof(float));
            router_backward(pass, model, routing, gradient, l, (double)drouter, need_dh);
        }
        if (need_dh) {
            duo_pass_check(pass, l, "gradient of the FFNs' input", pass->dh, N * C);
            duo_rmsnorm_backward(pass->dx, duo_tree_at(gradient, l, DUO_P_FFN_NORM), pass->dh,
                                 s->x_mid, duo_tree_at(w, l, DUO_P_FFN_NORM), s->r_ffn, N, C);
            duo_pass_check(pass, l, "gradient of the FFNs' norm", pass->dx, N * C);
        }
        if (attention) attention_backward(pass, model, gradient, l, below);
        if (!below && !routers) return;
    }
    float *dembedding = duo_tree_at(gradient, 0, DUO_P_TOK_EMB);
    if (dembedding) duo_embedding_backward(dembedding, pass->dx, pass->inputs, N, C);
}
