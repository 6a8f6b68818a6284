#include "pass.h"

#include <assert.h>
#include <string.h>

#include "duo/sizes.h"
#include "router_loss.h"

/* Without backward one set of buffers serves all layers, but for keys and values that are kept. */
static void take_layer(duo_layer_state *s, const duo_layer_state *shared, const duo_params *params,
                       const duo_pass_shape *shape, duo_arena *arena)
{
    const duo_config *c = &params->config;
    const size_t N = shape->B * shape->T, C = c->d_model, KV = duo_kv_width(c);
    if (shared) *s = *shared;
    if (!shared || shape->keep_kv) {
        s->k = DUO_TAKE(arena, float, N *KV);
        s->v = DUO_TAKE(arena, float, N *KV);
    }
    const size_t M = duo_module_count(c->router_modules);
    const bool routers = shape->gumbel || shape->routers;
    if (routers) { /* their loss sees all layers */
        s->clean = DUO_TAKE(arena, float, N *M);
        s->logits = DUO_TAKE(arena, float, N *M);
    }
    if (shared) return;
    if (!routers) s->logits = DUO_TAKE(arena, float, N *M);
    s->hidden = DUO_TAKE(arena, float, N * c->router_hidden);
    s->x_in = DUO_TAKE(arena, float, N *C);
    s->r_attn = DUO_TAKE(arena, float, N);
    s->h_attn = DUO_TAKE(arena, float, N *C);
    s->q = DUO_TAKE(arena, float, N *C);
    s->lse = DUO_TAKE(arena, float, N * c->n_heads);
    s->att = DUO_TAKE(arena, float, N *C);
    s->x_mid = shape->backward ? DUO_TAKE(arena, float, N *C) : s->x_in;
    s->r_ffn = DUO_TAKE(arena, float, N);
    s->h_ffn = DUO_TAKE(arena, float, N *C);
    s->groups.rows[DUO_SMALL] = DUO_TAKE(arena, uint32_t, N);
    s->groups.rows[DUO_BIG] = DUO_TAKE(arena, uint32_t, N);

    /* A routed row takes one module: big rows stand in front, small ones behind them. A mixed row
     * takes both. */
    const size_t F = shape->gumbel ? c->d_big + c->d_small : duo_max(c->d_big, c->d_small);
    const size_t kept = shape->backward ? N * F : duo_ffn_floats(c, N);
    s->gate = DUO_TAKE(arena, float, kept);
    s->up = DUO_TAKE(arena, float, kept);
    if (!shape->gumbel) return;
    s->soft = DUO_TAKE(arena, float, N *M);
    s->weight = DUO_TAKE(arena, float, N *M);
    for (duo_module m = DUO_SMALL; m <= DUO_BIG; m++) s->output[m] = DUO_TAKE(arena, float, N *C);
}

static void take_backward(duo_pass *pass, const duo_config *c, duo_arena *arena)
{
    const size_t N = pass->N, C = c->d_model, KV = duo_kv_width(c);
    const size_t M = duo_module_count(c->router_modules);
    const size_t chunk = duo_ffn_floats(c, N);
    pass->dx = DUO_TAKE(arena, float, N *C);
    pass->dh = DUO_TAKE(arena, float, N *C);
    pass->datt = DUO_TAKE(arena, float, N *C);
    pass->dq = DUO_TAKE(arena, float, N *C);
    pass->dk = DUO_TAKE(arena, float, N *KV);
    pass->dv = DUO_TAKE(arena, float, N *KV);
    pass->dgate = DUO_TAKE(arena, float, chunk);
    pass->dup = DUO_TAKE(arena, float, chunk);
    if (!pass->shape.gumbel && !pass->shape.routers) return;
    pass->drouter = DUO_TAKE(arena, float, N *M);
    pass->dhidden = DUO_TAKE(arena, float, N * c->router_hidden);
    if (!pass->shape.gumbel) return;
    pass->dy = DUO_TAKE(arena, float, N *C);
    pass->dweight = DUO_TAKE(arena, float, N *M);
}

duo_pass *duo_pass_take(const duo_params *params, duo_pass_shape shape, duo_arena *arena)
{
    const duo_config *c = &params->config;
    const size_t N = shape.B * shape.T, L = c->n_layers, C = c->d_model;
    const size_t M = duo_module_count(c->router_modules);
    assert(shape.T <= c->max_seq && N - 1 <= UINT32_MAX);

    /* While measuring, nothing may be written: the layout goes through values on the stack. */
    duo_pass value = {
        .shape = shape, .N = N, .n_layers = L, .head_block = duo_head_block(c, N), .config = *c};
    value.attention = (duo_attention_shape){shape.B,       shape.T,           c->n_heads,
                                            c->n_kv_heads, duo_head_width(c), shape.attention};
    duo_pass *pass = DUO_TAKE(arena, duo_pass, 1);
    value.layers = DUO_TAKE(arena, duo_layer_state, L);
    duo_layer_state first = {0};
    take_layer(&first, NULL, params, &shape, arena);
    for (size_t l = 0; l < L; l++) {
        duo_layer_state layer = first;
        if (l > 0) {
            layer = (duo_layer_state){0};
            take_layer(&layer, shape.backward ? NULL : &first, params, &shape, arena);
        }
        if (value.layers) value.layers[l] = layer;
    }
    value.x_out = shape.backward ? DUO_TAKE(arena, float, N *C) : first.x_in;
    value.r_final = DUO_TAKE(arena, float, N);
    value.h_final = DUO_TAKE(arena, float, N *C);
    value.inputs = DUO_TAKE(arena, int32_t, N);
    value.targets = DUO_TAKE(arena, int32_t, N);
    value.positions = DUO_TAKE(arena, uint32_t, N);
    value.shares = DUO_TAKE(arena, double, shape.B *L *M);
    value.logits = DUO_TAKE(arena, float, value.head_block * c->vocab_size);
    value.lse = DUO_TAKE(arena, float, value.head_block);
    value.act = DUO_TAKE(arena, float, duo_ffn_floats(c, N));
    if (shape.gumbel) value.noise = DUO_TAKE(arena, float, N *M);
    value.attention_scratch = DUO_TAKE(arena, float, duo_attention_scratch(value.attention));
    if (shape.backward) take_backward(&value, c, arena);
    if (!pass) return NULL;
    for (size_t n = 0; n < N; n++) value.positions[n] = (uint32_t)(n % shape.T);
    *pass = value;
    return pass;
}

/* ---------------------------------------------------------------- forward */

static void attention_forward(duo_pass *pass, const duo_model *model, size_t l)
{
    const duo_config *c = &model->params.config;
    const size_t N = pass->N, C = c->d_model, KV = duo_kv_width(c);
    duo_layer_state *s = &pass->layers[l];
    duo_rmsnorm_forward(s->h_attn, s->r_attn, s->x_in,
                        duo_tree_at(&model->weights, l, DUO_P_ATTN_NORM), N, C, (float)c->norm_eps);
    duo_pass_check(pass, l, "norm before attention", s->h_attn, N * C);
    duo_qkv_forward(s->q, s->k, s->v, s->h_attn, pass->positions, model, l, N);
    duo_pass_check(pass, l, "queries", s->q, N * C);
    duo_pass_check(pass, l, "keys", s->k, N * KV);
    duo_pass_check(pass, l, "values", s->v, N * KV);
    duo_attention_forward(s->att, s->lse, s->q, s->k, s->v, pass->attention,
                          pass->attention_scratch);
    duo_pass_check(pass, l, "attention", s->att, N * C);
    if (s->x_mid != s->x_in) duo_copy(s->x_mid, s->x_in, N * C);
    duo_linear_forward(s->x_mid, s->att, duo_model_weight(model, l, DUO_P_O), NULL, N, NULL, NULL,
                       true);
    duo_pass_check(pass, l, "output of attention", s->x_mid, N * C);
    duo_rmsnorm_forward(s->h_ffn, s->r_ffn, s->x_mid,
                        duo_tree_at(&model->weights, l, DUO_P_FFN_NORM), N, C, (float)c->norm_eps);
    duo_pass_check(pass, l, "norm before the FFNs", s->h_ffn, N * C);
}

/* Kept: big rows in front, small ones behind them. */
static void place_ffn_states(duo_pass *pass, duo_layer_state *s, size_t big_floats)
{
    const bool keep = pass->shape.backward;
    const size_t behind = keep ? big_floats : 0;
    s->ffn[DUO_BIG] = (duo_ffn_state){s->gate, s->up, keep, pass->act};
    s->ffn[DUO_SMALL] = (duo_ffn_state){s->gate + behind, s->up + behind, keep, pass->act};
}

/* What a module's FFN has left of its activations, for n rows, and its output. */
static void check_ffn(const duo_pass *pass, size_t l, duo_module m, size_t n, const float *y)
{
    static const char *const names[DUO_MODULES][3] = {
        [DUO_SMALL] = {"gate of the small FFN", "up of the small FFN", "output of the small FFN"},
        [DUO_BIG] = {"gate of the big FFN", "up of the big FFN", "output of the big FFN"},
    };
    const duo_ffn_state *ffn = &pass->layers[l].ffn[m];
    const size_t kept = ffn->keep ? n * duo_ffn_width(&pass->config, m) : 0;
    duo_pass_check(pass, l, names[m][0], ffn->gate, kept);
    duo_pass_check(pass, l, names[m][1], ffn->up, kept);
    duo_pass_check(pass, l, names[m][2], y, pass->N * pass->config.d_model);
}

/* Every token through its own module. */
static void routed_forward(duo_pass *pass, const duo_model *model, size_t l, float *x)
{
    duo_layer_state *s = &pass->layers[l];
    place_ffn_states(pass, s, s->groups.count[DUO_BIG] * model->params.config.d_big);
    for (duo_module m = DUO_SMALL; m <= DUO_BIG; m++) {
        duo_ffn_forward(x, s->groups.rows[m], s->h_ffn, s->groups.rows[m], model, l, m, &s->ffn[m],
                        s->groups.count[m], true);
        check_ffn(pass, l, m, s->groups.count[m], x);
    }
}

duo_router_rows duo_pass_router_rows(const duo_pass *pass, const duo_model *model,
                                     const duo_routing *routing, size_t l)
{
    const duo_router_rule *rule = routing->rule ? routing->rule : &model->rule;
    return (duo_router_rows){.n = pass->N,
                             .h = pass->layers[l].h_ffn,
                             .routes = routing->routes + l,
                             .stride = pass->n_layers,
                             .positions = pass->positions,
                             .budgets = routing->budgets ? routing->budgets : &rule->budget,
                             .per_budget = routing->budgets ? pass->shape.T : pass->N};
}

static void router_forward(duo_pass *pass, const duo_model *model, const duo_routing *routing,
                           size_t l)
{
    duo_layer_state *s = &pass->layers[l];
    const duo_router_rows rows = duo_pass_router_rows(pass, model, routing, l);
    duo_router_forward(s->logits, s->hidden, &rows, model, l);
    duo_pass_check(pass, l, "router", s->logits,
                   pass->N * duo_module_count(pass->config.router_modules));
    if (s->clean)
        duo_softmax_forward(s->clean, s->logits, pass->N,
                            duo_module_count(pass->config.router_modules));
}

/* Every token through every module; the outputs are mixed by the Gumbel-softmax weights. */
static void mixed_forward(duo_pass *pass, const duo_model *model, size_t l, float *x,
                          const duo_routing *routing)
{
    const duo_config *c = &model->params.config;
    const size_t N = pass->N, L = c->n_layers;
    duo_module codes[DUO_MODULES];
    const size_t M = duo_module_codes(codes, c->router_modules);
    duo_layer_state *s = &pass->layers[l];

    const float *noise = NULL;
    if (routing->noise) { /* the layer's slice of (N, L, M), dense as kernels take it */
        for (size_t n = 0; n < N; n++)
            memcpy(pass->noise + n * M, routing->noise + (n * L + l) * M, M * sizeof(float));
        noise = pass->noise;
    }
    duo_gumbel_softmax_forward(s->weight, s->soft, s->logits, noise, routing->tau,
                               routing->straight_through, N, M);
    duo_pass_check(pass, l, "Gumbel-softmax", s->weight, N * M);
    duo_router_choose(routing->routes + l, L, s->soft, c, NULL, l, N);
    place_ffn_states(pass, s, N * c->d_big);
    for (size_t i = 0; i < M; i++) {
        const duo_module m = codes[i];
        if (m == DUO_SKIP) continue;
        duo_ffn_forward(s->output[m], NULL, s->h_ffn, NULL, model, l, m, &s->ffn[m], N, false);
        check_ffn(pass, l, m, N, s->output[m]);
        duo_mix_forward(x, s->output[m], s->weight + i, M, N, c->d_model);
        duo_pass_check(pass, l, "mixture", x, N * c->d_model);
    }
}

void duo_pass_forward(duo_pass *pass, const duo_model *model, const int32_t *tokens,
                      const duo_routing *routing)
{
    const duo_config *c = &model->params.config;
    const size_t N = pass->N, C = c->d_model, L = c->n_layers, T = pass->shape.T;
    const bool routers = pass->shape.routers || routing->kind == DUO_ROUTING_GUMBEL;
    assert(routing->kind != DUO_ROUTING_GUMBEL || pass->shape.gumbel);
    for (size_t b = 0; b < pass->shape.B; b++) {
        memcpy(pass->inputs + b * T, tokens + b * (T + 1), T * sizeof *tokens);
        memcpy(pass->targets + b * T, tokens + b * (T + 1) + 1, T * sizeof *tokens);
    }
    duo_embedding_forward(pass->layers[0].x_in, duo_tree_at(&model->weights, 0, DUO_P_TOK_EMB),
                          pass->inputs, N, C);
    duo_pass_check(pass, DUO_NO_LAYER, "embedding", pass->layers[0].x_in, N * C);
    for (size_t l = 0; l < L; l++) {
        duo_layer_state *s = &pass->layers[l];
        attention_forward(pass, model, l);
        float *x = l + 1 < L ? pass->layers[l + 1].x_in : pass->x_out;
        if (x != s->x_mid) duo_copy(x, s->x_mid, N * C);
        if (routers || routing->kind == DUO_ROUTING_ROUTER) router_forward(pass, model, routing, l);
        if (routing->kind == DUO_ROUTING_GUMBEL) {
            mixed_forward(pass, model, l, x, routing);
            continue;
        }
        if (routing->kind == DUO_ROUTING_ROUTER)
            duo_router_choose(routing->routes + l, L, s->logits, c,
                              routing->rule ? routing->rule : &model->rule, l, N);
        duo_routes_group(&s->groups, routing->routes + l, L, N);
        routed_forward(pass, model, l, x);
    }
    if (routers) duo_router_shares(pass);
    duo_rmsnorm_forward(pass->h_final, pass->r_final, pass->x_out,
                        duo_tree_at(&model->weights, 0, DUO_P_FINAL_NORM), N, C,
                        (float)c->norm_eps);
    duo_pass_check(pass, DUO_NO_LAYER, "final norm", pass->h_final, N * C);
}

/* ---------------------------------------------------------------- head */

static float *head_gradient(const duo_tree *gradient, bool tied)
{
    return duo_tree_at(gradient, 0, tied ? DUO_P_TOK_EMB : DUO_P_LM_HEAD);
}

void duo_pass_loss(duo_pass *pass, const duo_model *model, float *loss, const duo_tree *gradient,
                   float dloss)
{
    const duo_config *c = &model->params.config;
    const size_t C = c->d_model, V = c->vocab_size;
    const duo_weight *head = duo_model_head(model);
    assert(!gradient || pass->shape.backward);
    for (size_t n = 0; n < pass->N; n += pass->head_block) {
        const size_t rows = pass->N - n < pass->head_block ? pass->N - n : pass->head_block;
        const float *h = pass->h_final + n * C;
        duo_linear_forward(pass->logits, h, head, NULL, rows, NULL, NULL, false);
        duo_pass_check(pass, DUO_NO_LAYER, "logits", pass->logits, rows * V);
        duo_cross_entropy_forward(loss + n, pass->lse, pass->logits, pass->targets + n, rows, V);
        duo_pass_check(pass, DUO_NO_LAYER, "loss", loss + n, rows);
        if (!gradient) continue;
        duo_cross_entropy_backward(pass->logits, pass->lse, pass->targets + n, dloss, rows, V);
        duo_pass_check(pass, DUO_NO_LAYER, "gradient of the logits", pass->logits, rows * V);
        duo_linear_backward_input(pass->dh + n * C, pass->logits, head, rows, NULL, NULL, false);
        duo_pass_check(pass, DUO_NO_LAYER, "gradient of the final norm", pass->dh + n * C,
                       rows * C);
        float *dhead = head_gradient(gradient, c->tied_embeddings);
        if (dhead)
            duo_linear_backward_weight(dhead, NULL, pass->logits, h, rows, V, C, NULL, NULL,
                                       head->precision);
    }
}

void duo_pass_logits(duo_pass *pass, const duo_model *model, float *logits)
{
    duo_linear_forward(logits, pass->h_final, duo_model_head(model), NULL, pass->N, NULL, NULL,
                       false);
}
