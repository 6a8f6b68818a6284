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

duo_group_set duo_stage_trains(const duo_stage_recipe *stage)
{
    duo_group_set trains = kinds[stage->kind].trains;
    if (stage->kind != DUO_STAGE_DUO && stage->kind != DUO_STAGE_SMALL) return trains;
    if (stage->p[DUO_SMALL] == 0) trains &= ~DUO_GROUP_BIT(DUO_GROUP_SMALL);
    if (stage->p[DUO_BIG] == 0) trains &= ~DUO_GROUP_BIT(DUO_GROUP_BIG);
    return trains;
}
