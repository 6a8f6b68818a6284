#include "duo/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duo/kernels.h"
#include "duo/rng.h"
#include "router.h"

static const char *const group_names[DUO_GROUPS] = {
    "embedding", "attention", "norm", "small", "big", "head", "router",
};

const char *duo_group_name(duo_group group)
{
    return group_names[group];
}

/* ---------------------------------------------------------------- the table */

typedef enum size_symbol {
    NONE,
    C_,
    KV,
    V_,
    F_BIG,
    F_SMALL,
    M_,
    R_IN,  /* what the router's last product reads: its hidden layer or the hidden state */
    R_OUT, /* what its first product makes */
    BUDGETS,
    PLACES
} size_symbol;
typedef enum init_rule { INIT_ONE, INIT_ZERO, INIT_NORMAL, INIT_NORMAL_OUT } init_rule;

/* Initial values are drawn from a stream per slot, numbered as the slots were before the routers
 * grew: a seed keeps its weights. */
static unsigned stream_of(duo_slot slot)
{
    const unsigned grown = DUO_P_LAYER_KINDS - DUO_P_ROUTER_HIDDEN;
    if (slot < DUO_P_ROUTER_HIDDEN) return slot;
    return slot < DUO_P_LAYER_KINDS ? slot + DUO_P_KINDS : slot - grown;
}

/* Every kind of tensor of the llama family, in the order of checkpoints. */
static const struct kind {
    duo_slot slot;
    const char *name; /* of a layer's tensor behind "layers/NN/" */
    size_symbol shape[2];
    duo_group group;
    init_rule init;
} kinds[] = {
    {DUO_P_TOK_EMB, "tok_emb", {V_, C_}, DUO_GROUP_EMBEDDING, INIT_NORMAL},
    {DUO_P_ATTN_NORM, "attn_norm/weight", {C_, NONE}, DUO_GROUP_NORM, INIT_ONE},
    {DUO_P_Q, "attn/q/weight", {C_, C_}, DUO_GROUP_ATTENTION, INIT_NORMAL},
    {DUO_P_K, "attn/k/weight", {KV, C_}, DUO_GROUP_ATTENTION, INIT_NORMAL},
    {DUO_P_V, "attn/v/weight", {KV, C_}, DUO_GROUP_ATTENTION, INIT_NORMAL},
    {DUO_P_O, "attn/o/weight", {C_, C_}, DUO_GROUP_ATTENTION, INIT_NORMAL_OUT},
    {DUO_P_FFN_NORM, "ffn_norm/weight", {C_, NONE}, DUO_GROUP_NORM, INIT_ONE},
    {DUO_P_BIG_GATE, "big/gate/weight", {F_BIG, C_}, DUO_GROUP_BIG, INIT_NORMAL},
    {DUO_P_BIG_UP, "big/up/weight", {F_BIG, C_}, DUO_GROUP_BIG, INIT_NORMAL},
    {DUO_P_BIG_DOWN, "big/down/weight", {C_, F_BIG}, DUO_GROUP_BIG, INIT_NORMAL_OUT},
    {DUO_P_SMALL_GATE, "small/gate/weight", {F_SMALL, C_}, DUO_GROUP_SMALL, INIT_NORMAL},
    {DUO_P_SMALL_UP, "small/up/weight", {F_SMALL, C_}, DUO_GROUP_SMALL, INIT_NORMAL},
    {DUO_P_SMALL_DOWN, "small/down/weight", {C_, F_SMALL}, DUO_GROUP_SMALL, INIT_NORMAL_OUT},
    {DUO_P_ROUTER_WEIGHT, "router/weight", {M_, R_IN}, DUO_GROUP_ROUTER, INIT_NORMAL},
    {DUO_P_ROUTER_BIAS, "router/bias", {M_, NONE}, DUO_GROUP_ROUTER, INIT_ZERO},
    {DUO_P_ROUTER_HIDDEN, "router/hidden/weight", {R_OUT, C_}, DUO_GROUP_ROUTER, INIT_NORMAL},
    {DUO_P_ROUTER_HIDDEN_BIAS, "router/hidden/bias", {R_OUT, NONE}, DUO_GROUP_ROUTER, INIT_ZERO},
    {DUO_P_ROUTER_BUDGET, "router/budget", {R_OUT, BUDGETS}, DUO_GROUP_ROUTER, INIT_ZERO},
    {DUO_P_ROUTER_PREVIOUS, "router/previous", {R_OUT, M_}, DUO_GROUP_ROUTER, INIT_ZERO},
    {DUO_P_ROUTER_POSITION, "router/position", {R_OUT, PLACES}, DUO_GROUP_ROUTER, INIT_ZERO},
    {DUO_P_FINAL_NORM, "final_norm/weight", {C_, NONE}, DUO_GROUP_NORM, INIT_ONE},
    {DUO_P_LM_HEAD, "lm_head", {V_, C_}, DUO_GROUP_HEAD, INIT_NORMAL},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static size_t size_of(const duo_config *c, size_symbol symbol)
{
    switch (symbol) {
    case NONE:
        return 1;
    case C_:
        return c->d_model;
    case KV:
        return duo_kv_width(c);
    case V_:
        return c->vocab_size;
    case F_BIG:
        return c->d_big;
    case F_SMALL:
        return c->d_small;
    case M_:
        return duo_module_count(c->router_modules);
    case R_IN:
        return c->router_hidden > 0 ? c->router_hidden : c->d_model;
    case R_OUT:
        return duo_router_width(c);
    case BUDGETS:
        return ROUTER_BUDGETS;
    case PLACES:
        return duo_router_places(c);
    }
    return 0;
}

static bool router_has(const duo_config *c, duo_slot slot)
{
    switch (slot) {
    case DUO_P_ROUTER_HIDDEN:
    case DUO_P_ROUTER_HIDDEN_BIAS:
        return c->router_hidden > 0;
    case DUO_P_ROUTER_BUDGET:
        return duo_router_reads(c->router_inputs, DUO_INPUT_BUDGET);
    case DUO_P_ROUTER_PREVIOUS:
        return duo_router_reads(c->router_inputs, DUO_INPUT_PREVIOUS);
    case DUO_P_ROUTER_POSITION:
        return duo_router_reads(c->router_inputs, DUO_INPUT_POSITION);
    default:
        return true;
    }
}

static bool present(const duo_config *c, const struct kind *kind)
{
    if (kind->group == DUO_GROUP_ROUTER) return c->router_modules != 0 && router_has(c, kind->slot);
    return kind->group != DUO_GROUP_HEAD || !c->tied_embeddings;
}

static void describe(duo_param *p, const duo_config *c, const struct kind *kind, size_t layer)
{
    *p = (duo_param){
        .slot = kind->slot, .stream = stream_of(kind->slot), .layer = layer, .group = kind->group};
    if (kind->slot < DUO_P_LAYER_KINDS)
        snprintf(p->name, sizeof p->name, "layers/%02zu/%s", layer, kind->name);
    else
        snprintf(p->name, sizeof p->name, "%s", kind->name);
    p->rank = kind->shape[1] == NONE ? 1 : 2;
    p->shape[0] = size_of(c, kind->shape[0]);
    p->shape[1] = size_of(c, kind->shape[1]);
    p->count = p->shape[0] * p->shape[1];
    p->decay = p->rank == 2 && !(kind->slot >= DUO_P_ROUTER_BUDGET &&
                                 kind->slot <= DUO_P_ROUTER_POSITION); /* tables, like biases */
    p->init_mean = kind->init == INIT_ONE ? 1.0 : 0.0;
    if (kind->init == INIT_NORMAL) p->init_std = 0.02;
    if (kind->init == INIT_NORMAL_OUT) p->init_std = 0.02 / sqrt(2.0 * (double)c->n_layers);
}

duo_status duo_params_create(duo_params *params, const duo_config *config)
{
    *params = (duo_params){.config = *config};
    params->table = calloc(KINDS * config->n_layers, sizeof *params->table);
    if (!params->table) return duo_fail(DUO_ENOMEM, "no memory for the parameter table");

    /* Layers stand where their first kind stands; each layer is complete before the next. */
    bool layers_done = false;
    for (size_t k = 0; k < KINDS; k++) {
        if (kinds[k].slot >= DUO_P_LAYER_KINDS) {
            if (present(config, &kinds[k]))
                describe(&params->table[params->n++], config, &kinds[k], 0);
            continue;
        }
        if (layers_done) continue;
        layers_done = true;
        for (size_t l = 0; l < config->n_layers; l++)
            for (size_t i = k; i < KINDS && kinds[i].slot < DUO_P_LAYER_KINDS; i++)
                if (present(config, &kinds[i]))
                    describe(&params->table[params->n++], config, &kinds[i], l);
    }
    return DUO_OK;
}

void duo_params_free(duo_params *params)
{
    free(params->table);
    *params = (duo_params){0};
}

size_t duo_params_count(const duo_params *params, duo_group_set groups)
{
    size_t count = 0;
    for (size_t i = 0; i < params->n; i++)
        if (groups & DUO_GROUP_BIT(params->table[i].group)) count += params->table[i].count;
    return count;
}

/* ---------------------------------------------------------------- trees */

void duo_tree_take(duo_tree *tree, const duo_params *params, duo_group_set groups, duo_arena *arena)
{
    const size_t pad = DUO_ALIGN / sizeof(float), L = params->config.n_layers;
    *tree = (duo_tree){.params = params};
    for (size_t i = 0; i < params->n; i++)
        if (groups & DUO_GROUP_BIT(params->table[i].group))
            tree->count += (params->table[i].count + pad - 1) / pad * pad;
    tree->tensors = DUO_TAKE(arena, float *, params->n);
    tree->slots = DUO_TAKE(arena, float *, (L + 1) * DUO_P_KINDS);
    tree->block = DUO_TAKE(arena, float, tree->count);
    if (!tree->tensors) return;

    memset(tree->slots, 0, (L + 1) * DUO_P_KINDS * sizeof *tree->slots);
    size_t at = 0;
    for (size_t i = 0; i < params->n; i++) {
        const duo_param *p = &params->table[i];
        tree->tensors[i] = NULL;
        if (!(groups & DUO_GROUP_BIT(p->group))) continue;
        const size_t row = p->slot < DUO_P_LAYER_KINDS ? p->layer : L;
        tree->tensors[i] = tree->slots[row * DUO_P_KINDS + p->slot] = tree->block + at;
        at += (p->count + pad - 1) / pad * pad;
    }
}

/* ---------------------------------------------------------------- the model */

static void lay_out(duo_model *model, const duo_params *params, duo_arena *arena)
{
    const duo_config *c = &params->config;
    duo_tree_take(&model->weights, params, DUO_ALL_GROUPS, arena);
    model->linear = DUO_TAKE(arena, duo_weight, (c->n_layers + 1) * DUO_P_KINDS);
    model->rope = DUO_TAKE(arena, float, c->max_seq *duo_head_width(c));
    model->thresholds = DUO_TAKE(arena, float, duo_threshold_rows(c) * DUO_MODULES);
}

size_t duo_model_bytes(const duo_params *params)
{
    duo_model model;
    duo_arena measure = DUO_ARENA_MEASURE;
    lay_out(&model, params, &measure);
    return measure.used;
}

duo_status duo_model_create(duo_model **out, const duo_config *config)
{
    *out = NULL;
    duo_model *model = calloc(1, sizeof *model);
    if (!model) return duo_fail(DUO_ENOMEM, "no memory for a model");
    duo_status status = duo_params_create(&model->params, config);
    if (status != DUO_OK) goto done;
    status = duo_arena_create(&model->arena, duo_model_bytes(&model->params), "model weights");
    if (status != DUO_OK) goto done;
    lay_out(model, &model->params, &model->arena);
    duo_model_drop_packs(model);
    duo_rope_table(model->rope, config->max_seq, duo_head_width(config), config->rope_theta);
    model->rule = duo_model_rule(model, (double)config->n_layers / 2);
    *out = model;
    model = NULL;

done:
    duo_model_free(model);
    return status;
}

void duo_model_free(duo_model *model)
{
    if (!model) return;
    duo_arena_free(&model->packs);
    duo_arena_free(&model->arena);
    duo_params_free(&model->params);
    free(model);
}

/* Elements 2i and 2i+1 are drawn together from the four words of place i. */
static void draw_normal(float *w, const duo_param *p, uint64_t seed)
{
    const size_t pairs = (p->count + 1) / 2;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < pairs; i++) {
        const duo_random4 r = duo_random(seed, DUO_RNG_INIT,
                                         (duo_place){.step = p->stream,
                                                     .layer = (uint32_t)p->layer,
                                                     .row = (uint32_t)(i >> 32),
                                                     .position = (uint32_t)i});
        w[2 * i] = (float)(p->init_std * duo_normal(r.word[0], r.word[1]));
        if (2 * i + 1 < p->count)
            w[2 * i + 1] = (float)(p->init_std * duo_normal(r.word[2], r.word[3]));
    }
}

void duo_model_init(duo_model *model, duo_group_set groups, uint64_t seed)
{
    for (size_t i = 0; i < model->params.n; i++) {
        const duo_param *p = &model->params.table[i];
        float *w = model->weights.tensors[i];
        if (!(groups & DUO_GROUP_BIT(p->group))) continue;
        for (size_t j = 0; j < p->count; j++) w[j] = (float)p->init_mean;
        if (p->init_std > 0) draw_normal(w, p, seed);
    }
}

duo_status duo_model_add_routers(duo_model **model, const duo_config *routers, uint64_t seed)
{
    duo_config config = (*model)->params.config;
    config.router_modules = routers->router_modules;
    config.router_hidden = routers->router_hidden;
    config.router_inputs = routers->router_inputs;
    duo_model *wider = NULL;
    const duo_status status = duo_model_create(&wider, &config);
    if (status != DUO_OK) return status;
    const duo_tree *from = &(*model)->weights;
    for (size_t i = 0; i < wider->params.n; i++) {
        const duo_param *p = &wider->params.table[i];
        if (p->group == DUO_GROUP_ROUTER) continue;
        memcpy(wider->weights.tensors[i], duo_tree_at(from, p->layer, p->slot),
               p->count * sizeof(float));
    }
    duo_model_init(wider, DUO_GROUP_BIT(DUO_GROUP_ROUTER), seed);
    duo_model_free(*model);
    *model = wider;
    return DUO_OK;
}

const duo_weight *duo_model_head(const duo_model *model)
{
    const duo_slot slot = model->params.config.tied_embeddings ? DUO_P_TOK_EMB : DUO_P_LM_HEAD;
    return duo_model_weight(model, model->params.config.n_layers, slot);
}
