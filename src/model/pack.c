#include <string.h>

#include "duo/model.h"

/* Matrices that whole products read. Routers are too narrow to pack, and their logits stay fp32;
 * the embedding of an untied model is only looked up. */
static bool multiplies(const duo_param *p, const duo_config *config)
{
    if (p->rank != 2 || p->group == DUO_GROUP_ROUTER) return false;
    return p->slot != DUO_P_TOK_EMB || config->tied_embeddings;
}

static size_t place_of(const duo_params *params, const duo_param *p)
{
    const size_t row = p->slot < DUO_P_LAYER_KINDS ? p->layer : params->config.n_layers;
    return row * DUO_P_KINDS + p->slot;
}

void duo_model_take_packs(duo_model *model, const duo_params *params, duo_precision precision,
                          bool backward, duo_arena *arena)
{
    for (size_t i = 0; i < params->n; i++) {
        const duo_param *p = &params->table[i];
        if (!multiplies(p, &params->config)) continue;
        duo_weight weight = {.O = p->shape[0], .I = p->shape[1], .precision = precision};
        weight.forward = duo_arena_take(arena, duo_pack_forward_bytes(&weight), 1);
        if (backward) weight.backward = duo_arena_take(arena, duo_pack_backward_bytes(&weight), 1);
        if (!arena->base) continue;
        weight.w = model->weights.tensors[i];
        model->linear[place_of(params, p)] = weight;
    }
}

void duo_model_repack(duo_model *model, duo_group_set groups)
{
    for (size_t i = 0; i < model->params.n; i++) {
        const duo_param *p = &model->params.table[i];
        const duo_weight *weight = &model->linear[place_of(&model->params, p)];
        if (groups & DUO_GROUP_BIT(p->group) && (weight->forward || weight->backward))
            duo_weight_pack(weight);
    }
}

void duo_model_drop_packs(duo_model *model)
{
    for (size_t i = 0; i < model->params.n; i++) {
        const duo_param *p = &model->params.table[i];
        if (p->rank == 2)
            model->linear[place_of(&model->params, p)] =
                (duo_weight){.w = model->weights.tensors[i], .O = p->shape[0], .I = p->shape[1]};
    }
    duo_arena_free(&model->packs);
}

duo_status duo_model_pack(duo_model *model, duo_precision precision)
{
    duo_arena measure = DUO_ARENA_MEASURE;
    duo_model_drop_packs(model);
    duo_model_take_packs(model, &model->params, precision, false, &measure);
    const duo_status status = duo_arena_create(&model->packs, measure.used, "packed weights");
    if (status != DUO_OK) return status;
    duo_model_take_packs(model, &model->params, precision, false, &model->packs);
    duo_model_repack(model, DUO_ALL_GROUPS);
    return DUO_OK;
}
