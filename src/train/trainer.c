#include "duo/train.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duo/kernels.h"
#include "duo/rng.h"
#include "optimizer.h"

enum { MAX_BLOCKS = 16, MAX_LEVELS = 5 }; /* a tree over 16 leaves holds 5 sums at a time */

struct duo_trainer {
    const duo_params *params;
    duo_stage_recipe stage;
    uint64_t seed;
    const duo_sampler *sampler; /* borrowed, as are model and teacher */
    duo_model *model;
    const duo_teacher *teacher;
    size_t micro_batches, blocks;
    duo_arena arena;

    duo_tree m, v;
    size_t levels; /* of the tree over blocks: gradients that are alive at a time */
    duo_tree gradients[MAX_LEVELS];
    duo_pass *pass;
    int32_t *tokens;         /* (micro_batch, T+1) */
    uint8_t *routes;         /* (micro_batch, T, L) */
    float *noise;            /* (micro_batch, T, L, M) */
    float *loss;             /* (micro_batch, T) */
    float *budgets;          /* (micro_batch) share of big */
    uint8_t *path, *labels;  /* (micro_batch, T, L) the teacher's routes, and what is learned */
    float *values;           /* (micro_batch, T, L, DUO_MODULES) the teacher's */
    duo_router_terms *terms; /* (micro_batch) */
    double cost;             /* of a flops penalty */
    double *soft_usage;      /* (L, DUO_MODULES) */
    uint64_t *usage;         /* (L, DUO_MODULES) */
    duo_anomaly anomaly;     /* of a pass that looks for them */
};

/* A stage with a teacher either follows its routes or mixes the modules. */
static bool follows(const duo_stage_recipe *stage)
{
    return stage->kind == DUO_STAGE_ROUTER && stage->teacher[0] && stage->language == 0;
}

static bool reads_budget(const duo_stage_recipe *stage)
{
    return duo_router_reads(stage->router_inputs, DUO_INPUT_BUDGET);
}

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
        t->budgets = DUO_TAKE(arena, float, B);
        t->path = DUO_TAKE(arena, uint8_t, B * T * L);
        t->labels = DUO_TAKE(arena, uint8_t, B * T * L);
        if (stage->learn != DUO_LEARN_ROUTES)
            t->values = DUO_TAKE(arena, float, B *T *L *DUO_MODULES);
        t->terms = DUO_TAKE(arena, duo_router_terms, B);
        t->soft_usage = DUO_TAKE(arena, double, L *DUO_MODULES);
    }
    t->loss = DUO_TAKE(arena, float, B *T);
    t->usage = DUO_TAKE(arena, uint64_t, L * DUO_MODULES);
    duo_model_take_packs(t->model, t->params, stage->precision, true, arena);
    t->pass = duo_pass_take(t->params,
                            (duo_pass_shape){.B = B,
                                             .T = T,
                                             .backward = true,
                                             .gumbel = router && !follows(stage),
                                             .routers = router,
                                             .attention = stage->precision},
                            arena);
}

size_t duo_trainer_bytes(const duo_params *params, const duo_stage_recipe *stage)
{
    duo_trainer trainer = {.params = params, .stage = *stage};
    duo_arena measure = DUO_ARENA_MEASURE;
    lay_out(&trainer, &measure);
    return measure.used;
}

/* The cost that a flops penalty wants: of the FLOPs that are not the FFNs' a router cannot save. */
static duo_status choose_cost(duo_trainer *t)
{
    const duo_stage_recipe *stage = &t->stage;
    const duo_config *c = &t->params->config;
    if (stage->penalty != DUO_PENALTY_FLOPS) return DUO_OK;
    t->cost = duo_router_cost(c, stage->target);
    if (stage->target_flops == 0) return DUO_OK;
    const double rest = duo_flops_base(c, ((double)stage->seq_len + 1) / 2) + duo_flops_routers(c);
    t->cost = duo_router_cost_of_flops(c, stage->target_flops - rest);
    if (t->cost >= 0 && t->cost <= 1) return DUO_OK;
    return duo_fail(DUO_EINVAL,
                    "stage %s: target_flops %g is out of reach: %g are not the routers' to save",
                    stage->name, stage->target_flops, rest);
}

duo_status duo_trainer_create(duo_trainer **out, duo_model *model, const duo_stage_recipe *stage,
                              uint64_t seed, const duo_sampler *sampler)
{
    *out = NULL;
    duo_trainer *t = calloc(1, sizeof *t);
    if (!t) return duo_fail(DUO_ENOMEM, "stage %s: no memory", stage->name);
    const duo_config wanted = duo_stage_config(stage, &model->params.config);
    assert(duo_config_same_routers(&wanted, &model->params.config));
    (void)wanted;
    t->params = &model->params;
    t->stage = *stage;
    t->seed = seed;
    t->sampler = sampler;
    t->model = model;
    duo_status status = choose_cost(t);
    if (status == DUO_OK)
        status = duo_arena_create(&t->arena, duo_trainer_bytes(t->params, stage), stage->name);
    if (status != DUO_OK) {
        free(t);
        return status;
    }
    lay_out(t, &t->arena);
    duo_model_repack(model, DUO_ALL_GROUPS);
    if (stage->kind == DUO_STAGE_ROUTER)
        model->rule =
            duo_model_rule(model, stage->target[DUO_BIG] * (double)model->params.config.n_layers);
    *out = t;
    return DUO_OK;
}

/* A module that no choice has a value of, although routers may take it; DUO_MODULES: none. */
static duo_module unvalued(const duo_trainer *t, const duo_teacher *teacher)
{
    const duo_config *c = &t->params->config;
    const size_t choices = teacher->R * teacher->T * c->n_layers;
    for (duo_module m = 0; m < DUO_MODULES; m++) {
        if (!duo_module_in(c->router_modules, m)) continue;
        size_t i = 0;
        while (i < choices && !isfinite(teacher->values[i * DUO_MODULES + m])) i++;
        if (i == choices) return m;
    }
    return DUO_MODULES;
}

duo_status duo_trainer_teach(duo_trainer *t, const duo_teacher *teacher)
{
    if (teacher->R == 0 || teacher->T != t->stage.seq_len)
        return duo_fail(DUO_EINVAL, "%s: %zu sequences of %zu tokens; stage %s has seq_len %zu",
                        t->stage.teacher, teacher->R, teacher->T, t->stage.name, t->stage.seq_len);
    if (t->stage.learn != DUO_LEARN_ROUTES && !teacher->values)
        return duo_fail(DUO_EINVAL,
                        "%s: holds no values, from which stage %s is to learn; duo oracle --values "
                        "writes them",
                        t->stage.teacher, t->stage.name);
    const duo_module missing =
        t->stage.learn == DUO_LEARN_ROUTES ? DUO_MODULES : unvalued(t, teacher);
    if (missing != DUO_MODULES)
        return duo_fail(DUO_EINVAL, "%s: has no values of %s, which the routers of stage %s choose",
                        t->stage.teacher, duo_module_name(missing), t->stage.name);
    t->teacher = teacher;
    return DUO_OK;
}

void duo_trainer_free(duo_trainer *t)
{
    if (!t) return;
    duo_model_drop_packs(t->model);
    duo_arena_free(&t->arena);
    free(t);
}

duo_pass *duo_trainer_pass(duo_trainer *t)
{
    return t->stage.precision == DUO_FP32 ? t->pass : NULL;
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

/* How the micro-batch that is at hand is routed. */
static duo_routing routing_of(const duo_trainer *t, const duo_progress *progress)
{
    const duo_stage_recipe *stage = &t->stage;
    duo_routing routing = {.kind = DUO_ROUTING_GIVEN, .routes = t->routes};
    if (stage->kind != DUO_STAGE_ROUTER) return routing;
    if (follows(stage)) {
        routing.routes = t->path;
    } else {
        routing.kind = DUO_ROUTING_GUMBEL;
        routing.noise = stage->noise ? t->noise : NULL;
        routing.tau = (float)duo_stage_tau(stage, progress->stage_step);
        routing.straight_through = duo_stage_hard(stage, progress->stage_step);
    }
    routing.budgets = reads_budget(stage) ? t->budgets : NULL;
    routing.loss = (duo_router_loss){.penalty = stage->penalty,
                                     .alpha = stage->alpha,
                                     .balance = stage->balance,
                                     .z = stage->z_loss,
                                     .teach = t->teacher ? stage->teach : 0,
                                     .focal = stage->focal,
                                     .cost = t->cost,
                                     .teacher = t->teacher ? t->labels : NULL,
                                     .huber = stage->huber};
    if (t->teacher && stage->learn == DUO_LEARN_GAPS) {
        routing.loss.values = t->values;
        routing.loss.unit = t->teacher->unit;
    }
    memcpy(routing.loss.target, stage->target, sizeof stage->target);
    memcpy(routing.loss.multiplier, progress->multiplier, sizeof progress->multiplier);
    return routing;
}

static void draw_budgets(duo_trainer *t, uint64_t seed, uint64_t step, size_t first_row)
{
    const duo_stage_recipe *stage = &t->stage;
    const double L = (double)t->params->config.n_layers;
    for (size_t b = 0; b < stage->micro_batch; b++) {
        const duo_place place = {.step = step, .row = (uint32_t)(first_row + b)};
        const double u = duo_uniform(duo_random(seed, DUO_RNG_BUDGET, place).word[0]);
        const double n_big = stage->budget_min + u * (stage->budget_max - stage->budget_min);
        t->budgets[b] = (float)(n_big / L);
    }
}

/* Routes, noise or budgets for the rows first_row .. of a step, as the stage wants them. */
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
        if (t->stage.noise && !follows(&t->stage))
            duo_gumbel_fill(t->noise, B, T, L, duo_module_count(c->router_modules), seed, step,
                            first_row);
        if (reads_budget(&t->stage)) draw_budgets(t, seed, step, first_row);
        break;
    }
}

/* Row b of the micro-batch is row `row` of the teacher's file. */
static void draw_lesson(duo_trainer *t, size_t b, size_t row)
{
    const duo_teacher *from = t->teacher;
    const size_t T = from->T, choices = T * t->params->config.n_layers;
    uint8_t *path = t->path + b * choices, *labels = t->labels + b * choices;
    memcpy(t->tokens + b * (T + 1), from->tokens + row * (T + 1), (T + 1) * sizeof *t->tokens);
    memcpy(path, from->routes + row * choices, choices);
    if (t->stage.learn == DUO_LEARN_ROUTES) {
        memcpy(labels, path, choices);
        return;
    }
    float *values = t->values + b * choices * DUO_MODULES;
    memcpy(values, from->values + row * choices * DUO_MODULES,
           choices * DUO_MODULES * sizeof *values);
    duo_teacher_labels(labels, values, choices, t->params->config.router_modules);
}

/* Row first_row .. of the batch: the sampler's next of the run, or the teacher's next of the stage
 * with what it has to say of them, all of its rows once before any again. */
static void draw_sequences(duo_trainer *t, const duo_progress *progress, size_t first_row)
{
    const size_t B = t->stage.micro_batch, T = t->stage.seq_len;
    for (size_t b = 0; b < B; b++) {
        const uint64_t row = first_row + b;
        if (!t->teacher) {
            duo_sampler_sequence(t->sampler, progress->sequences + row, t->tokens + b * (T + 1));
            continue;
        }
        const uint64_t R = t->teacher->R, next = progress->stage_step * t->stage.batch_size + row;
        draw_lesson(t, b, (size_t)duo_permute(t->seed, DUO_RNG_WINDOW, next / R, R, next % R));
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
    if (follows(&t->stage)) return forward;
    const duo_group_set most = DUO_GROUP_BIT(DUO_GROUP_ATTENTION);
    return forward * (duo_stage_trains(&t->stage) & most ? 3.0 : 2.0);
}

static void add_terms(duo_router_terms *sum, const duo_router_terms *terms, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sum->penalty += terms[i].penalty;
        sum->balance += terms[i].balance;
        sum->z += terms[i].z;
        sum->teacher += terms[i].teacher;
        sum->total += terms[i].total;
        sum->agree += terms[i].agree * terms[i].taught;
        sum->taught += terms[i].taught;
    }
}

/* Means over n sequences, of agreement over what is taught. */
static void divide_terms(duo_router_terms *sum, double n)
{
    *sum = (duo_router_terms){.penalty = sum->penalty / n,
                              .balance = sum->balance / n,
                              .z = sum->z / n,
                              .teacher = sum->teacher / n,
                              .total = sum->total / n,
                              .taught = sum->taught,
                              .agree = sum->agree / (sum->taught > 0 ? sum->taught : 1)};
}

static void run_micro_batch(duo_trainer *t, const duo_progress *progress, size_t index,
                            duo_tree *gradient, duo_step_report *report)
{
    const duo_stage_recipe *stage = &t->stage;
    const size_t B = stage->micro_batch, T = stage->seq_len, L = t->params->config.n_layers;
    const size_t first_row = index * B;
    draw_sequences(t, progress, first_row);
    draw_routes(t, t->seed, progress->step, first_row);

    const duo_routing routing = routing_of(t, progress);
    const bool router = stage->kind == DUO_STAGE_ROUTER;
    const double language = router && t->teacher ? stage->language : 1;
    const float dloss = (float)(language / (double)(stage->batch_size * T));
    duo_pass_forward(t->pass, t->model, t->tokens, &routing);
    duo_pass_loss(t->pass, t->model, t->loss, follows(stage) ? NULL : gradient, dloss);
    duo_pass_backward(t->pass, t->model, &routing, gradient, 1.0f / (float)stage->batch_size);
    report->loss += sum(t->loss, B * T);
    duo_routes_count(t->usage, routing.routes, B * T, L);
    if (!router) return;
    duo_pass_router_loss(t->pass, &routing, t->terms);
    duo_pass_router_shares(t->pass, t->soft_usage);
    add_terms(&report->router, t->terms, B);
}

/* Micro-batches are added up in order within at most 16 blocks, and the blocks in a binary tree,
 * walked as a binary counter: after block i there is one partial sum for each bit set in i + 1. */
static duo_tree *accumulate(duo_trainer *t, const duo_progress *progress, duo_step_report *report)
{
    const size_t floats = t->gradients[0].count;
    size_t depth = 0, index = 0;
    for (size_t block = 1; block <= t->blocks; block++) {
        duo_tree *gradient = &t->gradients[depth++];
        duo_clear(gradient->block, floats);
        for (; index < block * t->micro_batches / t->blocks; index++)
            run_micro_batch(t, progress, index, gradient, report);
        for (size_t bits = block; bits % 2 == 0; bits /= 2, depth--)
            duo_add(t->gradients[depth - 2].block, t->gradients[depth - 1].block, floats);
    }
    for (; depth > 1; depth--)
        duo_add(t->gradients[depth - 2].block, t->gradients[depth - 1].block, floats);
    return &t->gradients[0];
}

/* Dual ascent: lambda_m += dual_lr (P_m - t_m), P_m the step's mean share. */
static void ascend(const duo_trainer *t, duo_progress *progress)
{
    const size_t L = t->params->config.n_layers;
    for (duo_module m = 0; m < DUO_MODULES; m++) {
        double share = 0;
        if (t->stage.target[m] < 0) continue;
        for (size_t l = 0; l < L; l++) share += t->soft_usage[l * DUO_MODULES + m];
        progress->multiplier[m] += t->stage.dual_lr * (share / (double)L - t->stage.target[m]);
    }
}

/* ---------------------------------------------------------------- bad numbers */

void duo_trainer_detect(duo_trainer *t)
{
    duo_pass_detect(t->pass, &t->anomaly);
}

static const char *first_bad(const duo_tree *tree)
{
    for (size_t i = 0; i < tree->params->n; i++) {
        const duo_param *p = &tree->params->table[i];
        if (tree->tensors[i] && !duo_all_finite(tree->tensors[i], p->count)) return p->name;
    }
    return NULL;
}

/* Causes come before their effects. Sums of finite numbers may overflow too. */
static void name_bad(const duo_trainer *t, const duo_tree *gradient, duo_step_report *report)
{
    const size_t room = sizeof report->bad;
    const char *weights = first_bad(&t->model->weights), *name = NULL;
    if (weights)
        snprintf(report->bad, room, "weights %s", weights);
    else if (t->anomaly.found)
        snprintf(report->bad, room, "%s", t->anomaly.place);
    else if (!isfinite(report->loss))
        snprintf(report->bad, room, "loss");
    else if ((name = first_bad(gradient)) != NULL)
        snprintf(report->bad, room, "gradient %s", name);
    else
        snprintf(report->bad, room, "gradient norm");
}

static void advance(const duo_trainer *t, duo_progress *progress)
{
    progress->stage_step++;
    progress->step++;
    progress->sequences += t->stage.batch_size;
}

void duo_trainer_skip(const duo_trainer *t, duo_progress *progress)
{
    advance(t, progress);
    progress->skipped++;
    progress->bad++;
}

/* ---------------------------------------------------------------- a step */

duo_status duo_trainer_step(duo_trainer *t, duo_progress *progress, duo_step_report *report)
{
    const duo_stage_recipe *stage = &t->stage;
    const uint64_t tokens = (uint64_t)stage->batch_size * stage->seq_len;
    *report = (duo_step_report){
        .lr = duo_stage_lr(stage, progress->stage_step) *
              duo_stage_rollback_scale(stage, progress->rollbacks),
        .tau = stage->kind == DUO_STAGE_ROUTER ? duo_stage_tau(stage, progress->stage_step) : 0,
        .tokens = tokens,
        .usage = t->usage,
        .soft_usage = t->soft_usage,
    };
    const size_t L = t->params->config.n_layers;
    memcpy(report->multiplier, progress->multiplier, sizeof report->multiplier);
    memset(t->usage, 0, L * DUO_MODULES * sizeof *t->usage);
    if (t->soft_usage) memset(t->soft_usage, 0, L * DUO_MODULES * sizeof *t->soft_usage);
    t->anomaly.found = false;
    duo_tree *gradient = accumulate(t, progress, report);
    report->loss /= (double)tokens;
    divide_terms(&report->router, (double)stage->batch_size);
    for (size_t i = 0; t->soft_usage && i < L * DUO_MODULES; i++)
        t->soft_usage[i] /= (double)stage->batch_size;
    report->grad_norm = duo_gradient_norm(gradient);
    report->flops = step_flops(t, tokens);
    if (t->anomaly.found || !isfinite(report->loss) || !isfinite(report->grad_norm)) {
        name_bad(t, gradient, report);
        return duo_fail(DUO_ENUMBER,
                        "stage %s, step %llu: loss %g, gradient norm %g: %s: not finite",
                        stage->name, (unsigned long long)progress->step + 1, report->loss,
                        report->grad_norm, report->bad);
    }
    duo_optimizer_step(&t->model->weights, &t->m, &t->v, gradient, stage, progress->stage_step,
                       report->lr, report->grad_norm);
    duo_model_repack(t->model, duo_stage_trains(stage));
    if (stage->penalty == DUO_PENALTY_LAGRANGIAN) ascend(t, progress);
    advance(t, progress);
    progress->tokens += tokens;
    progress->bad = 0;
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
    const duo_routing routing = {
        .kind = t->stage.kind == DUO_STAGE_ROUTER ? DUO_ROUTING_ROUTER : DUO_ROUTING_GIVEN,
        .routes = t->routes,
    };

    memset(usage, 0, L * DUO_MODULES * sizeof *usage);
    double total = 0;
    for (size_t first = 0; first < windows; first += B) {
        const size_t rows = windows - first < B ? windows - first : B;
        duo_tokens_spread(tokens, DUO_HELD_OUT, -1, T, windows, first, B, t->tokens);
        if (routing.kind == DUO_ROUTING_GIVEN) draw_routes(t, ~t->seed, 0, first);
        duo_pass_forward(t->pass, t->model, t->tokens, &routing);
        duo_pass_loss(t->pass, t->model, t->loss, NULL, 0);
        total += sum(t->loss, rows * T);
        duo_routes_count(usage, t->routes, rows * T, L);
    }
    *loss = total / (double)(windows * T);
    return DUO_OK;
}
