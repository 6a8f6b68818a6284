#include "router_stage.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "stop.h"

/* Of a token, its routers included, that takes modules with these shares of the layers. */
static double flops_of(const double share[DUO_MODULES], const duo_stage_recipe *stage,
                       const duo_config *config)
{
    double flops = duo_flops_base(config, ((double)stage->seq_len + 1) / 2);
    flops += duo_flops_routers(config);
    for (duo_module m = DUO_SMALL; m <= DUO_BIG; m++)
        flops += (double)config->n_layers * share[m] * duo_flops_ffn(config, m);
    return flops;
}

void duo_cli_router_metrics(FILE *out, const duo_stage_recipe *stage, const duo_step_report *report,
                            const duo_config *config)
{
    const size_t L = config->n_layers;
    const duo_router_terms *terms = &report->router;
    fprintf(out, ",\"budget_loss\":%.9g,\"temperature\":%.9g", terms->penalty, report->tau);
    if (stage->balance > 0) fprintf(out, ",\"balance_loss\":%.9g", terms->balance);
    if (stage->z_loss > 0) fprintf(out, ",\"z_loss\":%.9g", terms->z);
    if (stage->teacher[0])
        fprintf(out, ",\"teacher_loss\":%.9g,\"agreement\":%.6f", terms->teacher, terms->agree);
    fputs(",\"soft_usage\":{", out);
    for (duo_module m = 0; m < DUO_MODULES; m++) {
        fprintf(out, "%s\"%s\":[", m ? "," : "", duo_module_name(m));
        for (size_t l = 0; l < L; l++)
            fprintf(out, "%s%.4f", l ? "," : "", report->soft_usage[l * DUO_MODULES + m]);
        fputs("]", out);
    }
    double share[DUO_MODULES] = {0};
    for (size_t l = 0; l < L; l++)
        for (duo_module m = 0; m < DUO_MODULES; m++)
            share[m] += report->soft_usage[l * DUO_MODULES + m] / (double)L;
    fprintf(out, "},\"expected_flops\":%.9g", flops_of(share, stage, config));
    if (stage->penalty != DUO_PENALTY_LAGRANGIAN) return;
    fputs(",\"multiplier\":{", out);
    for (duo_module m = 0; m < DUO_MODULES; m++)
        fprintf(out, "%s\"%s\":%.9g", m ? "," : "", duo_module_name(m), report->multiplier[m]);
    fputs("}", out);
}

/* ---------------------------------------------------------------- shares */

/* How far a share is from its target at most. */
static double largest_miss(const duo_stage_recipe *stage, const double share[DUO_MODULES])
{
    double miss = 0;
    for (size_t m = 0; m < DUO_MODULES; m++)
        if (stage->target[m] >= 0) miss = fmax(miss, fabs(share[m] - stage->target[m]));
    return miss;
}

static bool meets_budget(const duo_stage_recipe *stage, const double share[DUO_MODULES],
                         const duo_config *config)
{
    if (stage->target_flops == 0) return largest_miss(stage, share) <= 0.01;
    return fabs(flops_of(share, stage, config) / stage->target_flops - 1) <= 0.01;
}

bool duo_cli_meets_budget(const duo_stage_recipe *stage, const uint64_t *usage,
                          const duo_config *config)
{
    double share[DUO_MODULES];
    if (stage->kind != DUO_STAGE_ROUTER) return true;
    duo_routes_shares(share, usage, config->n_layers);
    return meets_budget(stage, share, config);
}

/* `missed`: what follows from shares that miss the budget. */
static void print_held_out(const char *name, const duo_stage_recipe *stage,
                           const double share[DUO_MODULES], const duo_config *config,
                           const char *missed)
{
    printf("%s: held out:", name);
    for (duo_module m = DUO_MODULES; m-- > 0;)
        if (duo_module_in(stage->modules, m))
            printf(" %s %.2f%%", duo_module_name(m), 100 * share[m]);
    if (!meets_budget(stage, share, config))
        printf(", more than %s%s",
               stage->target_flops > 0 ? "a hundredth off target_flops" : "a point off the budget",
               missed);
    puts("");
    fflush(stdout);
}

void duo_cli_print_held_out(const duo_stage_recipe *stage, const uint64_t *usage,
                            const duo_config *config)
{
    char name[DUO_NAME_MAX + 8];
    double share[DUO_MODULES];
    duo_routes_shares(share, usage, config->n_layers);
    snprintf(name, sizeof name, "stage %s", stage->name);
    print_held_out(name, stage, share, config, ": no best.h5 is made of these thresholds");
}

/* ---------------------------------------------------------------- calibration */

static const double tolerance = 0.005; /* of a share, that counts as meeting its target */

void duo_cli_print_calibrated(const char *name, const duo_calibrated *calibrated,
                              duo_module_set modules, bool told)
{
    printf("%s: thresholds set on %zu windows of training text:", name, calibrated->windows);
    for (duo_module m = DUO_MODULES; m-- > 0;)
        if (duo_module_in(modules, m))
            printf(" %s %.2f%% -> %.2f%%", duo_module_name(m), 100 * calibrated->before[m],
                   100 * calibrated->after[m]);
    if (told) printf(" for a budget of %g, the one that is missed by most", calibrated->n_big);
    if (calibrated->miss > tolerance)
        printf("; the best that were found miss the target by %.1f points", 100 * calibrated->miss);
    puts("");
    fflush(stdout);
}

/* The share of the dearer of two modules with which they cost so many FLOPs. */
static double share_of_flops(const duo_stage_recipe *stage, const duo_config *config)
{
    duo_module codes[DUO_MODULES];
    duo_module_codes(codes, stage->modules);
    double none[DUO_MODULES] = {0}, all[DUO_MODULES] = {0};
    none[codes[0]] = 1;
    all[codes[1]] = 1;
    const double least = flops_of(none, stage, config), most = flops_of(all, stage, config);
    return fmin(1, fmax(0, (stage->target_flops - least) / (most - least)));
}

static duo_calibration calibration_of(const duo_training *s, const duo_stage_recipe *stage,
                                      const duo_config *config)
{
    duo_calibration calibration = {.tokens = s->tokens,
                                   .windows = stage->calibrate,
                                   .T = stage->seq_len,
                                   .rows = stage->micro_batch,
                                   .budget_min = stage->budget_min,
                                   .budget_max = stage->budget_max};
    memcpy(calibration.target, stage->target, sizeof stage->target);
    if (stage->target_flops > 0) {
        duo_module codes[DUO_MODULES];
        duo_module_codes(codes, stage->modules);
        for (duo_module m = 0; m < DUO_MODULES; m++) calibration.target[m] = -1;
        calibration.target[codes[1]] = share_of_flops(stage, config);
    }
    return calibration;
}

static void print_calibrated(const char *name, const duo_calibrated *found,
                             const duo_stage_recipe *stage, const duo_config *config)
{
    duo_cli_progress_end();
    duo_cli_print_calibrated(name, found, stage->modules,
                             duo_router_reads(config->router_inputs, DUO_INPUT_BUDGET));
}

duo_status duo_cli_calibrate_stage(duo_training *s, const duo_stage_recipe *stage, bool *calibrated)
{
    const duo_config *config = &s->model->params.config;
    char name[DUO_NAME_MAX + 8];
    duo_calibrated found;
    *calibrated = duo_stage_calibrates(stage);
    if (!*calibrated) return DUO_OK;
    duo_calibration calibration = calibration_of(s, stage, config);
    calibration.pass = duo_trainer_pass(s->trainer);
    const duo_status status = duo_calibrate(s->model, &calibration, &found);
    if (status != DUO_OK) return status;
    snprintf(name, sizeof name, "stage %s", stage->name);
    print_calibrated(name, &found, stage, config);
    return DUO_OK;
}

/* All that the checkpoint held, but with thresholds. */
static duo_status save_calibrated(const duo_checkpoint *from, const duo_stage_recipe *stage,
                                  const duo_model *model)
{
    duo_tree m, v;
    duo_losses losses = {0};
    size_t n = 0;
    const double *loss = duo_checkpoint_losses(from, &n);
    duo_checkpoint_state state = {
        .model = model,
        .recipe = duo_checkpoint_recipe(from),
        .seed = duo_checkpoint_seed(from),
        .progress = duo_checkpoint_progress(from),
        .stage = stage->name,
        .m = &m,
        .v = &v,
        .lr = duo_checkpoint_lr(from),
        .tau = duo_checkpoint_tau(from),
        .loss = duo_checkpoint_loss(from),
        .losses = &losses,
    };
    state.tokenizer = duo_checkpoint_tokenizer(from, &state.tokenizer_bytes);
    duo_arena measured = DUO_ARENA_MEASURE, arena = {0};
    duo_tree_take(&m, &model->params, duo_stage_trains(stage), &measured);
    duo_tree_take(&v, &model->params, duo_stage_trains(stage), &measured);
    duo_status status = duo_arena_create(&arena, measured.used, "moments");
    if (status != DUO_OK) return status;
    duo_tree_take(&m, &model->params, duo_stage_trains(stage), &arena);
    duo_tree_take(&v, &model->params, duo_stage_trains(stage), &arena);
    status = duo_checkpoint_moments(from, &m, &v);
    if (status == DUO_OK) status = duo_losses_create(&losses, n, loss, n);
    if (status == DUO_OK) status = duo_checkpoint_save(duo_checkpoint_path(from), &state);
    duo_losses_free(&losses);
    duo_arena_free(&arena);
    return status;
}

static duo_status calibrate_file(const duo_training *s, const duo_stage_recipe *stage,
                                 const duo_checkpoint *from, bool *stopped)
{
    const duo_config *config = duo_checkpoint_config(from);
    duo_calibration calibration = calibration_of(s, stage, config);
    duo_calibrated found = {0};
    duo_model *model = NULL;
    char name[64];
    calibration.stop = duo_cli_stop_wanted;
    calibration.held_out = stage->val_windows;
    duo_status status = duo_checkpoint_model(from, &model);
    if (status != DUO_OK) goto done;
    if ((status = duo_model_pack(model, stage->precision)) != DUO_OK) goto done;
    /* Routers that are told a budget are told the stage's, as when it measured them. */
    model->rule = duo_model_rule(model, stage->target[DUO_BIG] * (double)config->n_layers);
    if ((status = duo_calibrate(model, &calibration, &found)) != DUO_OK) goto done;
    *stopped = found.stopped;
    if (*stopped) goto done;
    if ((status = save_calibrated(from, stage, model)) != DUO_OK) goto done;
    snprintf(name, sizeof name, "best.h5, step %" PRIu64, duo_checkpoint_progress(from)->step);
    print_calibrated(name, &found, stage, config);
    print_held_out(name, stage, found.held_out, config, "");

done:
    duo_model_free(model);
    return status;
}

bool duo_cli_calibrate_best(duo_training *s, const duo_stage_recipe *stage)
{
    const char *path = duo_run_path(s->run, "best.h5");
    duo_checkpoint *from = NULL;
    if (!duo_stage_calibrates(stage) || access(path, F_OK) != 0) return true;
    duo_status status = duo_checkpoint_open(&from, path);
    const bool waits = status == DUO_OK && strcmp(duo_checkpoint_stage(from), stage->name) == 0 &&
                       duo_checkpoint_progress(from)->step < s->progress.step &&
                       !duo_checkpoint_calibrated(from);
    bool stopped = waits && duo_cli_stop_wanted();
    if (waits && !stopped) status = calibrate_file(s, stage, from, &stopped);
    if (status != DUO_OK) duo_warn("best.h5 gets no thresholds: %s", duo_message());
    duo_checkpoint_close(from);
    return !stopped;
}

/* ---------------------------------------------------------------- collapse */

void duo_cli_warn_of_collapse(const duo_stage_recipe *stage, const uint64_t *usage, size_t L,
                              size_t *warned)
{
    char layers[1024] = "";
    size_t constant = 0, used = 0;
    bool between = false; /* is there anything to decide? */
    if (stage->kind != DUO_STAGE_ROUTER) return;
    for (duo_module m = 0; m < DUO_MODULES; m++)
        between = between || (stage->target[m] > 0 && stage->target[m] < 1);
    for (size_t l = 0; l < L; l++) {
        const uint64_t *u = usage + l * DUO_MODULES;
        for (duo_module m = 0; m < DUO_MODULES; m++) {
            if (u[m] < u[DUO_SKIP] + u[DUO_SMALL] + u[DUO_BIG]) continue;
            constant++;
            const int n = snprintf(layers + used, sizeof layers - used, "%s%02zu (%s)",
                                   used ? ", " : "", l, duo_module_name(m));
            if (n > 0 && used + (size_t)n < sizeof layers) used += (size_t)n;
        }
    }
    double share[DUO_MODULES];
    duo_routes_shares(share, usage, L);
    const bool collapsed = 2 * constant > L || (constant > 0 && largest_miss(stage, share) >= 0.05);
    if (!between || !collapsed || constant <= *warned) return;
    *warned = constant;
    duo_warn("stage %s: routers have collapsed: every held-out token takes one module in %zu of "
             "%zu layers: %s",
             stage->name, constant, L, layers);
}
