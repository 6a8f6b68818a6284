#include "duo/train.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "duo/kernels.h"
#include "optimizer.h"

enum { MAX_BLOCKS = 16, MAX_LEVELS = 5 }; /* a tree over 16 leaves holds 5 sums at a time */

struct duo_trainer {
    const duo_params *params;
    duo_stage_recipe stage;
    uint64_t seed;
    const duo_sampler *sampler; /* borrowed, as is model */
    duo_model *model;
    size_t micro_batches, blocks;
    duo_arena arena;

    duo_tree m, v;
    size_t levels; /* of the tree over blocks: gradients that are alive at a time */
    duo_tree gradients[MAX_LEVELS];
    duo_pass *pass;
    int32_t *tokens; /* (micro_batch, T+1) */
    uint8_t *routes; /* (micro_batch, T, L) */
    float *noise;    /* (micro_batch, T, L, M) */
    float *loss;     /* (micro_batch, T) */
    float *budget;   /* (micro_batch) */
    uint64_t *usage; /* (L, DUO_MODULES) */
};

/* ---------------------------------------------------------------- layout */

static void lay_out(duo_trainer *t, duo_arena *arena)
{
    const duo_stage_recipe *stage = &t->stage;
    const duo_config *c = &t->params->config;
    const size_t B = stage->micro_batch, T = stage->seq_len, L = c->n_layers;
    const duo_group_set groups = duo_stage_trains(stage);
    const bool router = stage->kind == DUO_STAGE_ROUTER;

    duo_tree_take(&t->m, t->params, groups, arena);
    duo_tree_take(&t->v, t->params, groups, arena);
    t->micro_batches = stage->batch_size / B;
    t->blocks = t->micro_batches < MAX_BLOCKS ? t->micro_batches : MAX_BLOCKS;
    t->levels = 1;
    while ((size_t)2 << (t->levels - 1) <= t->blocks) t->levels++;
    for (size_t i = 0; i < t->levels; i++)
        duo_tree_take(&t->gradients[i], t->params, groups, arena);
    t->tokens = DUO_TAKE(arena, int32_t, B * (T + 1));
    t->routes = DUO_TAKE(arena, uint8_t, B * T * L);
    if (router) {
        t->noise = DUO_TAKE(arena, float, B *T *L *duo_module_count(c->router_modules));
        t->budget = DUO_TAKE(arena, float, B);
    }
    t->loss = DUO_TAKE(arena, float, B *T);
    t->usage = DUO_TAKE(arena, uint64_t, L * DUO_MODULES);
    duo_model_take_packs(t->model, t->params, stage->precision, true, arena);
    t->pass = duo_pass_take(
        t->params, (duo_pass_shape){.B = B, .T = T, .backward = true, .gumbel = router}, arena);
}

size_t duo_trainer_bytes(const duo_params *params, const duo_stage_recipe *stage)
{
    duo_trainer trainer = {.params = params, .stage = *stage};
    duo_arena measure = DUO_ARENA_MEASURE;
    lay_out(&trainer, &measure);
    return measure.used;
}

duo_status duo_trainer_create(duo_trainer **out, duo_model *model, const duo_stage_recipe *stage,
                              uint64_t seed, const duo_sampler *sampler)
{
    *out = NULL;
    duo_trainer *t = calloc(1, sizeof *t);
    if (!t) return duo_fail(DUO_ENOMEM, "stage %s: no memory", stage->name);
    assert(stage->kind != DUO_STAGE_ROUTER ||
           model->params.config.router_modules == stage->modules);
    t->params = &model->params;
    t->stage = *stage;
    t->seed = seed;
    t->sampler = sampler;
    t->model = model;
    const duo_status status =
        duo_arena_create(&t->arena, duo_trainer_bytes(t->params, stage), stage->name);
    if (status != DUO_OK) {
        free(t);
        return status;
    }
    lay_out(t, &t->arena);
    duo_model_repack(model, DUO_ALL_GROUPS);
    *out = t;
    return DUO_OK;
}

void duo_trainer_free(duo_trainer *t)
{
    if (!t) return;
    duo_model_drop_packs(t->model);
    duo_arena_free(&t->arena);
    free(t);
}

duo_tree *duo_trainer_m(duo_trainer *t)
{
    return &t->m;
}

duo_tree *duo_trainer_v(duo_trainer *t)
{
    return &t->v;
}

/* ---------------------------------------------------------------- routing */

static duo_routing routing_of(const duo_trainer *t, double tau)
{
    duo_routing routing = {.kind = DUO_ROUTING_GIVEN, .routes = t->routes};
    if (t->stage.kind != DUO_STAGE_ROUTER) return routing;
    routing.kind = DUO_ROUTING_GUMBEL;
    routing.noise = t->stage.noise ? t->noise : NULL;
    routing.tau = (float)tau;
    routing.straight_through = t->stage.straight_through;
    memcpy(routing.target, t->stage.target, sizeof routing.target);
    return routing;
}

/* Routes or noise for the rows first_row .. of a step, as the stage wants them. */
static void draw_routes(duo_trainer *t, uint64_t seed, uint64_t step, size_t first_row)
{
    const duo_config *c = &t->params->config;
    const size_t B = t->stage.micro_batch, T = t->stage.seq_len, L = c->n_layers;
    switch (t->stage.kind) {
    case DUO_STAGE_DENSE:
        duo_routes_fill(t->routes, B * T, L, DUO_BIG);
        break;
    case DUO_STAGE_DUO:
    case DUO_STAGE_SMALL:
        duo_routes_random(t->routes, B, T, L, t->stage.p, seed, step, first_row);
        break;
    case DUO_STAGE_ROUTER:
        if (t->stage.noise)
            duo_gumbel_fill(t->noise, B, T, L, duo_module_count(c->router_modules), seed, step,
                            first_row);
        break;
    }
}

/* ---------------------------------------------------------------- one step */

static double sum(const float *x, size_t n)
{
    double total = 0;
    for (size_t i = 0; i < n; i++) total += (double)x[i];
    return total;
}

/* Forward multiply-adds as the routes took them; backward costs one such pass for the gradient of
 * the activations and one more where weights are trained. The mixture of a router stage runs every
 * module, which is not counted: FLOPs are those of the model, not of the method. */
static double step_flops(const duo_trainer *t, uint64_t tokens)
{
    const duo_config *c = &t->params->config;
    double forward = (double)tokens * duo_flops_base(c, ((double)t->stage.seq_len + 1) / 2);
    for (size_t l = 0; l < c->n_layers; l++)
        for (duo_module m = DUO_SMALL; m <= DUO_BIG; m++)
            forward += (double)t->usage[l * DUO_MODULES + m] * duo_flops_ffn(c, m);
    const bool language_model = t->stage.kind == DUO_STAGE_DENSE || t->stage.kind == DUO_STAGE_DUO;
    return forward * (language_model ? 3.0 : 2.0);
}

static void run_micro_batch(duo_trainer *t, const duo_progress *progress, size_t index,
                            duo_tree *gradient, duo_step_report *report)
{
    const duo_stage_recipe *stage = &t->stage;
    const size_t B = stage->micro_batch, T = stage->seq_len, L = t->params->config.n_layers;
    const size_t first_row = index * B;
    for (size_t b = 0; b < B; b++)
        duo_sampler_sequence(t->sampler, progress->sequences + first_row + b,
                             t->tokens + b * (T + 1));
    draw_routes(t, t->seed, progress->step, first_row);

    const duo_routing routing = routing_of(t, report->tau);
    const float dloss = 1.0f / (float)(stage->batch_size * T);
    duo_pass_forward(t->pass, t->model, t->tokens, &routing);
    duo_pass_loss(t->pass, t->model, t->loss, gradient, dloss);
    duo_pass_backward(t->pass, t->model, &routing, gradient,
                      (float)(stage->alpha / (double)stage->batch_size));
    report->loss += sum(t->loss, B * T);
    duo_routes_count(t->usage, t->routes, B * T, L);
    if (routing.kind == DUO_ROUTING_GUMBEL) {
        duo_pass_budget_loss(t->pass, &routing, t->budget);
        report->budget_loss += sum(t->budget, B);
    }
}

/* Micro-batches are added up in order within at most 16 blocks, and the blocks in a binary tree,
 * walked as a binary counter: after block i there is one partial sum for each bit set in i + 1. */
static duo_tree *accumulate(duo_trainer *t, const duo_progress *progress, duo_step_report *report)
{
    const size_t floats = t->gradients[0].count;
    size_t depth = 0, index = 0;
    for (size_t block = 1; block <= t->blocks; block++) {
        duo_tree *gradient = &t->gradients[depth++];
        memset(gradient->block, 0, floats * sizeof(float));
        for (; index < block * t->micro_batches / t->blocks; index++)
            run_micro_batch(t, progress, index, gradient, report);
        for (size_t bits = block; bits % 2 == 0; bits /= 2, depth--)
            duo_add(t->gradients[depth - 2].block, t->gradients[depth - 1].block, floats);
    }
    for (; depth > 1; depth--)
        duo_add(t->gradients[depth - 2].block, t->gradients[depth - 1].block, floats);
    return &t->gradients[0];
}

duo_status duo_trainer_step(duo_trainer *t, duo_progress *progress, duo_step_report *report)
{
    const duo_stage_recipe *stage = &t->stage;
    const uint64_t tokens = (uint64_t)stage->batch_size * stage->seq_len;
    *report = (duo_step_report){
        .lr = duo_stage_lr(stage, progress->stage_step),
        .tau = stage->kind == DUO_STAGE_ROUTER ? duo_stage_tau(stage, progress->stage_step) : 0,
        .tokens = tokens,
        .usage = t->usage,
    };
    memset(t->usage, 0, t->params->config.n_layers * DUO_MODULES * sizeof *t->usage);
    duo_tree *gradient = accumulate(t, progress, report);
    report->loss /= (double)tokens;
    report->budget_loss /= (double)stage->batch_size;
    report->grad_norm = duo_gradient_norm(gradient);
    report->flops = step_flops(t, tokens);
    if (!isfinite(report->loss) || !isfinite(report->grad_norm))
        return duo_fail(DUO_ENUMBER, "stage %s, step %llu: loss %g, gradient norm %g: not finite",
                        stage->name, (unsigned long long)progress->step + 1, report->loss,
                        report->grad_norm);
    duo_optimizer_step(&t->model->weights, &t->m, &t->v, gradient, stage, progress->stage_step,
                       report->grad_norm);
    duo_model_repack(t->model, duo_stage_trains(stage));
    progress->stage_step++;
    progress->step++;
    progress->sequences += stage->batch_size;
    progress->tokens += tokens;
    return DUO_OK;
}

/* ---------------------------------------------------------------- held out */

duo_status duo_trainer_validate(duo_trainer *t, const duo_tokens *tokens, double *loss,
                                uint64_t *usage)
{
    const size_t B = t->stage.micro_batch, T = t->stage.seq_len, L = t->params->config.n_layers;
    const size_t held = duo_tokens_windows(tokens, DUO_HELD_OUT, -1, T);
    const size_t windows = t->stage.val_windows < held ? t->stage.val_windows : held;
    if (windows == 0)
        return duo_fail(DUO_EINVAL, "%s: the held-out split holds no window of %zu tokens",
                        duo_tokens_path(tokens), T + 1);
    duo_routing routing = routing_of(t, 1.0);
    if (t->stage.kind == DUO_STAGE_ROUTER) routing.kind = DUO_ROUTING_ROUTER;

    memset(usage, 0, L * DUO_MODULES * sizeof *usage);
    double total = 0;
    for (size_t first = 0; first < windows; first += B) {
        const size_t rows = windows - first < B ? windows - first : B;
        for (size_t b = 0; b < B; b++) { /* rows beyond the last window repeat it, uncounted */
            const size_t i = first + (b < rows ? b : rows - 1);
            duo_tokens_window(tokens, DUO_HELD_OUT, -1, T, i * held / windows,
                              t->tokens + b * (T + 1));
        }
        if (routing.kind == DUO_ROUTING_GIVEN) draw_routes(t, ~t->seed, 0, first);
        duo_pass_forward(t->pass, t->model, t->tokens, &routing);
        duo_pass_loss(t->pass, t->model, t->loss, NULL, 0);
        total += sum(t->loss, rows * T);
        duo_routes_count(usage, t->routes, rows * T, L);
    }
    *loss = total / (double)(windows * T);
    return DUO_OK;
}
