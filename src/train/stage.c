#include "duo/train.h"

static const struct {
    const char *name;
    duo_group_set trains;
} kinds[] = {
    [DUO_STAGE_DENSE] = {"dense", DUO_ALL_GROUPS & ~DUO_GROUP_BIT(DUO_GROUP_ROUTER) &
                                      ~DUO_GROUP_BIT(DUO_GROUP_SMALL)},
    [DUO_STAGE_DUO] = {"duo", DUO_ALL_GROUPS & ~DUO_GROUP_BIT(DUO_GROUP_ROUTER)},
    [DUO_STAGE_SMALL] = {"small", DUO_GROUP_BIT(DUO_GROUP_SMALL)},
    [DUO_STAGE_ROUTER] = {"router", DUO_GROUP_BIT(DUO_GROUP_ROUTER)},
};

const char *duo_stage_kind_name(duo_stage_kind kind)
{
    return kinds[kind].name;
}

static duo_group_set router_trains(const duo_stage_recipe *stage)
{
    duo_group_set trains = DUO_GROUP_BIT(DUO_GROUP_ROUTER);
    if (stage->train == DUO_TRAIN_ROUTER_SMALL) trains |= DUO_GROUP_BIT(DUO_GROUP_SMALL);
    if (stage->train != DUO_TRAIN_ALL) return trains;
    trains = DUO_ALL_GROUPS;
    if (!duo_module_in(stage->modules, DUO_SMALL)) trains &= ~DUO_GROUP_BIT(DUO_GROUP_SMALL);
    if (!duo_module_in(stage->modules, DUO_BIG)) trains &= ~DUO_GROUP_BIT(DUO_GROUP_BIG);
    return trains;
}

duo_group_set duo_stage_trains(const duo_stage_recipe *stage)
{
    duo_group_set trains = kinds[stage->kind].trains;
    if (stage->kind == DUO_STAGE_ROUTER) return router_trains(stage);
    if (stage->kind == DUO_STAGE_DENSE) return trains;
    if (stage->p[DUO_SMALL] == 0) trains &= ~DUO_GROUP_BIT(DUO_GROUP_SMALL);
    if (stage->p[DUO_BIG] == 0) trains &= ~DUO_GROUP_BIT(DUO_GROUP_BIG);
    return trains;
}

bool duo_stage_calibrates(const duo_stage_recipe *stage)
{
    return stage->kind == DUO_STAGE_ROUTER && stage->calibrate > 0;
}

duo_config duo_stage_config(const duo_stage_recipe *stage, const duo_config *config)
{
    duo_config wanted = *config;
    if (stage->kind != DUO_STAGE_ROUTER) return wanted;
    wanted.router_modules = stage->modules;
    wanted.router_hidden = stage->router_hidden;
    wanted.router_inputs = stage->router_inputs;
    return wanted;
}
