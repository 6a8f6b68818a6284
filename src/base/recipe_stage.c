#include <math.h>
#include <stdio.h>
#include <string.h>

#include "recipe_view.h"

static duo_status read_stage_kind(const recipe_view *v, duo_stage_recipe *stage)
{
    const recipe_key *key = recipe_find_key(RECIPE_STAGE, "kind");
    if (recipe_find_given(v, key->name)) return recipe_read_key(v, key, &stage->kind);
    for (unsigned kind = 0; recipe_stage_kinds[kind]; kind++)
        if (strcmp(stage->name, recipe_stage_kinds[kind]) == 0) {
            stage->kind = (duo_stage_kind)kind;
            return DUO_OK;
        }
    return recipe_fail(
        v, key->name,
        "missing; only the titles dense, duo, small and router say the kind themselves");
}

static duo_status read_stage_keys(const recipe_view *v, duo_stage_recipe *stage)
{
    for (size_t i = 0; i < recipe_n_keys; i++) {
        const recipe_key *key = &recipe_keys[i];
        if (key->section != RECIPE_STAGE || strcmp(key->name, "kind") == 0) continue;
        if (!recipe_key_in_stage(key, stage->kind)) {
            if (recipe_find_given(v, key->name))
                return recipe_fail(v, key->name, "a %s stage has no use for it",
                                   recipe_stage_kinds[stage->kind]);
        } else if (key->offset != RECIPE_NO_FIELD) {
            const duo_status status = recipe_read_key(v, key, (char *)stage + key->offset);
            if (status != DUO_OK) return status;
        }
    }
    return DUO_OK;
}

static duo_status resolve_steps(const recipe_view *v, const duo_config *model,
                                duo_stage_recipe *stage)
{
    if (stage->micro_batch == 0) stage->micro_batch = stage->batch_size;
    if (stage->batch_size % stage->micro_batch != 0)
        return recipe_fail(v, "micro_batch", "%zu does not divide batch_size %zu",
                           stage->micro_batch, stage->batch_size);
    if (stage->seq_len == 0) stage->seq_len = model->max_seq;
    if (stage->seq_len > model->max_seq)
        return recipe_fail(v, "seq_len", "%zu is more than model.max_seq, %zu", stage->seq_len,
                           model->max_seq);
    if (stage->seq_len > UINT32_MAX / stage->micro_batch)
        return recipe_fail(v, "micro_batch", "%zu sequences of %zu tokens are more than %u rows",
                           stage->micro_batch, stage->seq_len, UINT32_MAX);
    if (!recipe_find_given(v, "warmup") && stage->warmup > stage->steps / 10)
        stage->warmup = stage->steps / 10;
    const unsigned long long steps = stage->steps, warmup = stage->warmup,
                             decay = stage->decay_steps;
    if (warmup > steps)
        return recipe_fail(v, "warmup", "%llu is more than steps, %llu", warmup, steps);
    if (decay > 0 && stage->schedule != DUO_CURVE_CONSTANT)
        return recipe_fail(v, "decay_steps", "only a constant schedule has a tail");
    if (decay > steps - warmup)
        return recipe_fail(v, "decay_steps", "%llu is more than the %llu steps after the warm-up",
                           decay, steps - warmup);
    return DUO_OK;
}

static duo_status resolve_random_routing(const recipe_view *v, duo_stage_recipe *stage)
{
    const double sum = stage->p[DUO_SKIP] + stage->p[DUO_SMALL] + stage->p[DUO_BIG];
    if (!(fabs(sum - 1) <= 1e-6))
        return recipe_fail(v, recipe_find_given(v, "p_big") ? "p_big" : "p_small",
                           "p_skip, p_small and p_big sum to %g, not to 1", sum);
    if (stage->kind == DUO_STAGE_SMALL && stage->p[DUO_SMALL] == 0)
        return recipe_fail(v, "p_small", "0 leaves a small stage nothing to train");
    return DUO_OK;
}

/* With the budget as an input each sequence has its own; what `budget` says is for validation. */
static duo_status resolve_budgets(const recipe_view *v, const duo_config *model,
                                  duo_stage_recipe *stage)
{
    const bool input = duo_router_reads(stage->router_inputs, DUO_INPUT_BUDGET);
    const char *const keys[] = {"budget_min", "budget_max", "target_skip", "target_small"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (recipe_find_given(v, keys[i]) && (i < 2) != input &&
            strcmp(recipe_find_given(v, keys[i])->text, "none") != 0)
            return recipe_fail(v, keys[i],
                               input ? "with the budget as an input only big has a target"
                                     : "only routers with the budget among their inputs use it");
    if (!input) return DUO_OK;
    if (stage->budget_min < 0) stage->budget_min = 0;
    if (stage->budget_max < 0) stage->budget_max = (double)model->n_layers;
    if (stage->budget_max > (double)model->n_layers || stage->budget_max < stage->budget_min)
        return recipe_fail(v, "budget_max", "%g is not in budget_min..n_layers, %g..%zu",
                           stage->budget_max, stage->budget_min, model->n_layers);
    if (!duo_module_in(stage->modules, DUO_BIG))
        return recipe_fail(v, "router_inputs", "big is not among the modules");
    if (stage->penalty == DUO_PENALTY_LAGRANGIAN)
        return recipe_fail(v, "penalty",
                           "lagrangian has one multiplier, which is no use to many budgets");
    if (stage->target[DUO_BIG] < 0)
        stage->target[DUO_BIG] =
            (stage->budget_min + stage->budget_max) / 2 / (double)model->n_layers;
    return DUO_OK;
}

static duo_status resolve_start(const recipe_view *v, const duo_config *model,
                                const duo_stage_recipe *stage)
{
    const size_t length = strlen(stage->start);
    if (length == 0) return DUO_OK;
    if (length != model->n_layers)
        return recipe_fail(v, "start", "'%s' has %zu letters, the model %zu layers", stage->start,
                           length, model->n_layers);
    for (size_t l = 0; l < length; l++) {
        duo_module module = DUO_SKIP;
        if (!duo_module_of_letter(&module, stage->start[l]) ||
            !duo_module_in(stage->modules, module))
            return recipe_fail(v, "start", "'%c' of layer %zu is none of the modules",
                               stage->start[l], l);
    }
    return DUO_OK;
}

static duo_status resolve_router(const recipe_view *v, duo_stage_recipe *stage)
{
    const unsigned long long steps = stage->steps, tau = stage->tau_tail, hard = stage->hard_tail;
    if (tau > steps) return recipe_fail(v, "tau_tail", "%llu is more than steps, %llu", tau, steps);
    if (hard > steps)
        return recipe_fail(v, "hard_tail", "%llu is more than steps, %llu", hard, steps);
    if (stage->tau_end > stage->tau_start)
        return recipe_fail(v, "tau_end", "%g is above tau_start, %g", stage->tau_end,
                           stage->tau_start);
    if (stage->target_flops > 0 && stage->penalty != DUO_PENALTY_FLOPS)
        return recipe_fail(v, "target_flops", "only the penalty flops has use for it");
    if (stage->target_flops > 0 && duo_router_reads(stage->router_inputs, DUO_INPUT_BUDGET))
        return recipe_fail(v, "target_flops", "routers that are told a budget have many");
    if (stage->target_flops > 0 && stage->calibrate > 0 && duo_module_count(stage->modules) > 2)
        return recipe_fail(v, "calibrate",
                           "target_flops does not tell the shares of three modules; set it to 0");
    if (stage->train == DUO_TRAIN_ROUTER_SMALL && !duo_module_in(stage->modules, DUO_SMALL))
        return recipe_fail(v, "train", "small is not among the modules");
    if (stage->teacher[0] && stage->language == 0 && stage->train != DUO_TRAIN_ROUTER)
        return recipe_fail(v, "train", "a teacher with language = 0 trains routers alone");
    if (stage->learn != DUO_LEARN_ROUTES && !stage->teacher[0])
        return recipe_fail(v, "learn", "there is no teacher");
    return DUO_OK;
}

static duo_status resolve_targets(const recipe_view *v, const duo_config *model,
                                  duo_stage_recipe *stage)
{
    static const char *const keys[DUO_MODULES] = {"target_skip", "target_small", "target_big"};
    const recipe_key *budget_key = recipe_find_key(RECIPE_STAGE, "budget");
    double budget = -1, sum = 0;
    size_t targets = 0;
    const duo_status status = recipe_read_key(v, budget_key, &budget);
    if (status != DUO_OK) return status;
    if (budget >= 0 && stage->target[DUO_BIG] >= 0) {
        const bool budget_set = recipe_find_given(v, "budget")->line == 0,
                   target_set = recipe_find_given(v, "target_big")->line == 0;
        if (budget_set == target_set)
            return recipe_fail(v, budget_key->name, "target_big says the same; give one of them");
        if (target_set) budget = -1; /* the override wins over the file */
    }
    if (budget >= 0) {
        if (budget > (double)model->n_layers)
            return recipe_fail(v, budget_key->name, "%g is more than model.n_layers, %zu", budget,
                               model->n_layers);
        stage->target[DUO_BIG] = budget / (double)model->n_layers;
    }
    const duo_status budgets = resolve_budgets(v, model, stage);
    if (budgets != DUO_OK) return budgets;
    for (duo_module m = 0; m < DUO_MODULES; m++) {
        if (stage->target[m] < 0) continue;
        if (!duo_module_in(stage->modules, m))
            return recipe_fail(v, m == DUO_BIG && budget >= 0 ? budget_key->name : keys[m],
                               "%s is not among the modules", duo_module_name(m));
        sum += stage->target[m];
        targets++;
    }
    if (stage->target[DUO_SKIP] < 0 && stage->target[DUO_SMALL] < 0 && stage->target[DUO_BIG] < 0)
        return recipe_fail(v, budget_key->name, "missing; a router needs a budget or a target");
    if (!(sum <= 1 + 1e-6))
        return recipe_fail(v, "target_big", "the targets sum to %g, above 1", sum);
    if (targets == duo_module_count(stage->modules) && sum < 1 - 1e-6)
        return recipe_fail(v, "target_big", "the targets of all modules sum to %g, below 1", sum);
    const duo_status routers = resolve_router(v, stage);
    return routers == DUO_OK ? resolve_start(v, model, stage) : routers;
}

duo_status recipe_read_stage(const recipe_view *v, const duo_config *model, duo_stage_recipe *stage)
{
    snprintf(stage->name, sizeof stage->name, "%s", cfg_title(v->section));
    for (duo_module m = 0; m < DUO_MODULES; m++) stage->target[m] = -1;
    duo_status status = read_stage_kind(v, stage);
    if (status == DUO_OK) status = read_stage_keys(v, stage);
    if (status == DUO_OK) status = resolve_steps(v, model, stage);
    if (status != DUO_OK) return status;
    switch (stage->kind) {
    case DUO_STAGE_DENSE:
        stage->p[DUO_BIG] = 1;
        return DUO_OK;
    case DUO_STAGE_DUO:
    case DUO_STAGE_SMALL:
        return resolve_random_routing(v, stage);
    case DUO_STAGE_ROUTER:
        return resolve_targets(v, model, stage);
    }
    return DUO_OK;
}
