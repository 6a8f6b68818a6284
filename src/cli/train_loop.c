#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "router_stage.h"
#include "stop.h"
#include "training.h"

/* A measurement on held-out text. */
typedef struct held_out {
    double loss;     /* NaN: none at this step */
    uint64_t *usage; /* (L, DUO_MODULES) */
} held_out;

/* One stage while it runs. */
typedef struct stage_run {
    duo_training *training;
    const duo_stage_recipe *stage;
    duo_step_report report;
    held_out raw;        /* with the weights alone */
    held_out calibrated; /* with the thresholds that a router stage sets at its end */
    size_t constant;     /* layers without a choice that were warned of */
    double last_time;    /* of the last line of metrics */
    uint64_t last_step;
    double interval_flops; /* since then */
    double spike;          /* of the last step, in standard deviations; 0: none */
    uint64_t saved;        /* progress.step of the newest checkpoint */
    uint64_t retry_gap;    /* steps between attempts after a save that failed; 0: none did */
    uint64_t retry_step;   /* the next attempt */
} stage_run;

/* ---------------------------------------------------------------- metrics */

static void write_usage(FILE *out, const char *key, const uint64_t *usage, size_t L)
{
    fprintf(out, ",\"%s\":{", key);
    for (duo_module m = 0; m < DUO_MODULES; m++) {
        fprintf(out, "%s\"%s\":[", m ? "," : "", duo_module_name(m));
        for (size_t l = 0; l < L; l++) {
            const uint64_t *u = usage + l * DUO_MODULES;
            const double all = (double)(u[DUO_SKIP] + u[DUO_SMALL] + u[DUO_BIG]);
            fprintf(out, "%s%.4f", l ? "," : "", (double)u[m] / all);
        }
        fputs("]", out);
    }
    fputs("}", out);
}

static void write_bad(FILE *out, const stage_run *r)
{
    const duo_progress *progress = &r->training->progress;
    if (r->report.bad[0]) fprintf(out, ",\"bad\":\"%s\"", r->report.bad);
    if (progress->skipped > 0) fprintf(out, ",\"skipped\":%" PRIu64, progress->skipped);
    if (progress->rollbacks > 0) fprintf(out, ",\"rollbacks\":%" PRIu64, progress->rollbacks);
    if (r->spike > 0) fprintf(out, ",\"spike\":%.3g", r->spike);
}

/* What depends on the state comes first, what depends on the clock last. */
static duo_status log_step(stage_run *r)
{
    duo_training *s = r->training;
    const size_t L = s->model->params.config.n_layers;
    const double now = duo_cli_seconds(), elapsed = now - r->last_time;
    const uint64_t steps = s->progress.stage_step - r->last_step;
    char *line = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&line, &bytes);
    if (!out) return duo_fail(DUO_ENOMEM, "no memory for a line of metrics");
    fprintf(out, "{\"step\":%" PRIu64 ",\"stage\":\"%s\",\"tokens\":%" PRIu64, s->progress.step,
            r->stage->name, s->progress.tokens);
    const bool good = r->report.bad[0] == '\0'; /* JSON has no word for what is not finite */
    if (good) fprintf(out, ",\"loss\":%.9g", r->report.loss);
    if (!isnan(r->raw.loss)) fprintf(out, ",\"val_loss\":%.9g", r->raw.loss);
    if (!isnan(r->calibrated.loss)) fprintf(out, ",\"calibrated_loss\":%.9g", r->calibrated.loss);
    fprintf(out, ",\"lr\":%.9g", r->report.lr);
    if (good) fprintf(out, ",\"grad_norm\":%.9g", r->report.grad_norm);
    write_bad(out, r);
    if (good && r->stage->kind == DUO_STAGE_ROUTER)
        duo_cli_router_metrics(out, r->stage, &r->report, &s->model->params.config);
    if (good) write_usage(out, "usage", r->report.usage, L);
    if (!isnan(r->raw.loss)) write_usage(out, "val_usage", r->raw.usage, L);
    if (!isnan(r->calibrated.loss)) write_usage(out, "calibrated_usage", r->calibrated.usage, L);
    fprintf(out, ",\"tokens_per_s\":%.1f,\"mfu\":%.4f,\"seconds\":%.2f}\n",
            (double)(steps * r->report.tokens) / elapsed, r->interval_flops / elapsed / s->peak,
            now - s->started);
    r->last_time = now;
    r->last_step = s->progress.stage_step;
    r->interval_flops = 0;
    const bool failed = ferror(out) != 0;
    duo_status status = fclose(out) == 0 && !failed
                            ? duo_run_log(s->run, line)
                            : duo_fail(DUO_ENOMEM, "no memory for a line of metrics");
    free(line);
    return status;
}

static void show_progress(const stage_run *r, double tokens_per_s)
{
    const duo_training *s = r->training;
    char text[160], eta[16];
    const double left = (double)(r->stage->steps - s->progress.stage_step) *
                        (double)r->report.tokens / tokens_per_s;
    int n = snprintf(text, sizeof text, "%s %" PRIu64 "/%" PRIu64 "  loss %.4f", r->stage->name,
                     s->progress.stage_step, r->stage->steps, r->report.loss);
    if (!isnan(r->raw.loss) && n > 0)
        n += snprintf(text + n, sizeof text - (size_t)n, "  held out %.4f", r->raw.loss);
    if (n > 0)
        snprintf(text + n, sizeof text - (size_t)n, "  %.0f tokens/s  ETA %s", tokens_per_s,
                 duo_cli_duration(eta, left));
    duo_cli_progress(text, !isnan(r->raw.loss) || r->stage->val_every == 0);
}

/* ---------------------------------------------------------------- saving */

static duo_status save(stage_run *r, bool best, bool end_of_stage)
{
    duo_training *s = r->training;
    size_t bytes = 0;
    const void *tokenizer = duo_tokens_tokenizer(s->tokens, &bytes);
    const duo_checkpoint_state state = {
        .model = s->model,
        .recipe = s->recipe_text,
        .tokenizer = tokenizer,
        .tokenizer_bytes = bytes,
        .seed = s->recipe->seed,
        .progress = &s->progress,
        .stage = r->stage->name,
        .m = duo_trainer_m(s->trainer),
        .v = duo_trainer_v(s->trainer),
        .lr = r->report.lr,
        .tau = r->report.tau,
        .loss = s->loss,
        .losses = &s->losses,
    };
    const duo_status status = duo_run_save(s->run, &state, best, end_of_stage);
    if (status != DUO_OK)
        return duo_fail(status, "step %" PRIu64 " is not saved: %s", s->progress.step,
                        duo_message());
    r->saved = s->progress.step;
    s->saved = true;
    r->retry_gap = 0;
    return DUO_OK;
}

/* Storage that fails may recover, as when somebody makes room: try again soon, then ever more
 * seldom, since a failed attempt can take as long as a good one. */
static duo_status save_or_go_on(stage_run *r, bool best, double best_before)
{
    duo_training *s = r->training;
    const duo_status status = save(r, best, false);
    if (status != DUO_EIO && status != DUO_EDATA && status != DUO_ENOMEM) return status;
    s->progress.best_loss = best_before; /* which best.h5 still holds */
    r->retry_gap = r->retry_gap ? 2 * r->retry_gap : 1;
    r->retry_step = s->progress.step + r->retry_gap;
    duo_warn("%s; training goes on", duo_message());
    return DUO_OK;
}

static bool every(uint64_t step, uint64_t period)
{
    return period > 0 && step % period == 0;
}

static duo_status measure_held_out(const stage_run *r, held_out *held)
{
    duo_training *s = r->training;
    const duo_status status = duo_trainer_validate(s->trainer, s->tokens, &held->loss, held->usage);
    if (status == DUO_OK && !isfinite(held->loss))
        return duo_fail(DUO_ENUMBER, "stage %s, step %" PRIu64 ": held-out loss %g: not finite",
                        r->stage->name, s->progress.step, held->loss);
    return status;
}

/* At the end of a stage with thresholds it is they that count. */
static duo_status validate(stage_run *r, bool last, bool *best)
{
    duo_training *s = r->training;
    const size_t L = s->model->params.config.n_layers;
    const held_out *counts = &r->raw;
    bool calibrates = false;
    duo_status status = measure_held_out(r, &r->raw);
    if (status == DUO_OK) duo_cli_warn_of_collapse(r->stage, r->raw.usage, L, &r->constant);
    if (status == DUO_OK && last) status = duo_cli_calibrate_stage(s, r->stage, &calibrates);
    if (status == DUO_OK && calibrates) {
        status = measure_held_out(r, &r->calibrated);
        if (status == DUO_OK)
            duo_cli_print_held_out(r->stage, r->calibrated.usage, &s->model->params.config);
        counts = &r->calibrated;
    }
    *best = status == DUO_OK &&
            duo_cli_meets_budget(r->stage, counts->usage, &s->model->params.config) &&
            (s->progress.best_loss == 0 || counts->loss < s->progress.best_loss);
    if (*best) s->progress.best_loss = counts->loss;
    return status;
}

/* ---------------------------------------------------------------- one stage */

/* A bad step is left out; too many in a row are the weights' fault. */
static duo_status skip_step(stage_run *r)
{
    duo_training *s = r->training;
    duo_trainer_skip(s->trainer, &s->progress);
    if (s->progress.bad > r->stage->bad_steps)
        return duo_fail(DUO_ENUMBER, "%s; %" PRIu64 " steps in a row", duo_message(),
                        s->progress.bad);
    duo_warn("%s; the step is skipped", duo_message());
    return DUO_OK;
}

static void look_for_spike(stage_run *r)
{
    duo_training *s = r->training;
    const double z = duo_losses_add(&s->losses, r->report.loss);
    s->loss = r->report.loss;
    if (z < r->stage->spike_sigma) return;
    r->spike = z;
    duo_warn("stage %s, step %" PRIu64 ": loss %g is %.1f standard deviations above the last %zu",
             r->stage->name, s->progress.step, r->report.loss, z, r->stage->spike_window);
}

static duo_status one_step(stage_run *r)
{
    duo_training *s = r->training;
    const duo_stage_recipe *stage = r->stage;
    duo_status status = duo_trainer_step(s->trainer, &s->progress, &r->report);
    r->spike = 0;
    if (status == DUO_OK)
        look_for_spike(r);
    else if (status != DUO_ENUMBER || (status = skip_step(r)) != DUO_OK)
        return status;
    r->interval_flops += r->report.flops;
    r->raw.loss = r->calibrated.loss = NAN;

    const uint64_t step = s->progress.stage_step;
    const bool last = step == stage->steps;
    const double best_before = s->progress.best_loss;
    bool best = false;
    if (every(step, stage->val_every) || last)
        if ((status = validate(r, last, &best)) != DUO_OK) return status;
    if (every(step, stage->log_every) || !isnan(r->raw.loss) || r->report.bad[0] || r->spike > 0) {
        const uint64_t steps = step - r->last_step;
        const double rate = (double)(steps * r->report.tokens) / (duo_cli_seconds() - r->last_time);
        if ((status = log_step(r)) != DUO_OK) return status;
        show_progress(r, rate);
    }
    if (last) return save(r, best, true); /* or stop: the next stage builds on this file */
    if (s->progress.bad > 0) { /* these weights may be why: the checkpoint before them stays */
        s->progress.best_loss = best_before;
        return status;
    }
    const bool retry = r->retry_gap > 0 && s->progress.step >= r->retry_step;
    /* To calibrate takes a while, and memory: a run that ends in it has one step to do again. */
    const bool precious = step + 1 == stage->steps && duo_stage_calibrates(stage);
    if (every(step, stage->save_every) || best || retry || precious)
        status = save_or_go_on(r, best, best_before);
    return status;
}

static duo_status sampler_create(duo_training *s, const duo_stage_recipe *stage)
{
    const duo_recipe *recipe = s->recipe;
    double *weights = NULL;
    if (recipe->n_domains > 0) {
        weights = calloc(duo_tokens_domains(s->tokens), sizeof *weights);
        if (!weights) return duo_fail(DUO_ENOMEM, "no memory for the domains");
        for (size_t i = 0; i < recipe->n_domains; i++)
            weights[duo_tokens_find_domain(s->tokens, recipe->domains[i].name)] =
                recipe->domains[i].weight;
    }
    const duo_status status =
        duo_sampler_create(&s->sampler, s->tokens, stage->seq_len, recipe->seed, weights);
    free(weights);
    return status;
}

static duo_status remember_losses(duo_training *s, const duo_stage_recipe *stage)
{
    size_t n = 0;
    const double *before = NULL;
    if (s->resumed && s->progress.stage_step > 0) before = duo_checkpoint_losses(s->resumed, &n);
    return duo_losses_create(&s->losses, stage->spike_window, before, n);
}

static duo_status add_routers(duo_training *s, const duo_stage_recipe *stage,
                              const duo_config *wanted)
{
    const size_t L = s->recipe->model.n_layers;
    uint8_t pattern[DUO_MAX_LAYERS];
    duo_status status = duo_model_add_routers(&s->model, wanted, s->recipe->seed);
    if (status != DUO_OK || wanted->router_modules == 0 || !stage->start[0]) return status;
    status = duo_routes_pattern(pattern, L, stage->start);
    if (status == DUO_OK) duo_model_lean(s->model, pattern, (float)stage->lean);
    return status;
}

static duo_status enter_stage(duo_training *s, const duo_stage_recipe *stage)
{
    duo_status status = DUO_OK;
    const duo_config wanted = duo_stage_config(stage, &s->model->params.config);
    if (!duo_config_same_routers(&wanted, &s->model->params.config))
        status = add_routers(s, stage, &wanted);
    if (status == DUO_OK && stage->kind == DUO_STAGE_ROUTER) duo_calibration_clear(s->model);
    if (status == DUO_OK) status = sampler_create(s, stage);
    if (status == DUO_OK)
        status = duo_trainer_create(&s->trainer, s->model, stage, s->recipe->seed, s->sampler);
    if (status == DUO_OK && stage->kind == DUO_STAGE_ROUTER && stage->teacher[0]) {
        status = duo_cli_teacher_open(&s->teacher, stage->teacher, s->model,
                                      s->progress.stage_step == 0);
        if (status == DUO_OK) status = duo_trainer_teach(s->trainer, &s->teacher.routes);
    }
    if (status == DUO_OK && s->resumed && s->progress.stage_step > 0)
        status = duo_checkpoint_moments(s->resumed, duo_trainer_m(s->trainer),
                                        duo_trainer_v(s->trainer));
    if (status == DUO_OK) status = remember_losses(s, stage);
    if (status == DUO_OK && s->detect_anomaly) duo_trainer_detect(s->trainer);
    duo_checkpoint_close(s->resumed);
    s->resumed = NULL;
    return status;
}

static void leave_stage(duo_training *s)
{
    duo_trainer_free(s->trainer);
    duo_losses_free(&s->losses);
    duo_cli_teacher_close(&s->teacher);
    duo_sampler_free(s->sampler);
    s->trainer = NULL;
    s->sampler = NULL;
}

static duo_status run_stage(duo_training *s, const duo_stage_recipe *stage)
{
    const size_t L = s->recipe->model.n_layers;
    const size_t counts = L * DUO_MODULES;
    uint64_t *usage = calloc(2 * counts, sizeof *usage);
    if (!usage) return duo_fail(DUO_ENOMEM, "no memory for the shares of %zu layers", L);
    stage_run r = {
        .training = s, .stage = stage, .raw = {NAN, usage}, .calibrated = {NAN, usage + counts}};
    duo_status status = enter_stage(s, stage);
    r.last_time = duo_cli_seconds();
    r.last_step = s->progress.stage_step;
    r.saved = s->progress.step;
    while (status == DUO_OK && !duo_cli_stop_wanted() && s->progress.stage_step < stage->steps)
        status = one_step(&r);
    if (status == DUO_OK && duo_cli_stop_wanted() && r.saved != s->progress.step &&
        s->progress.bad == 0)
        status = save(&r, false, false);
    duo_cli_progress_end();
    if (status == DUO_OK && s->progress.stage_step == stage->steps && !isnan(r.raw.loss)) {
        const double loss = isnan(r.calibrated.loss) ? r.raw.loss : r.calibrated.loss;
        printf("stage %s: held-out loss %.4f nats, perplexity %.3f (unigram entropy %.4f)\n",
               stage->name, loss, exp(loss), duo_tokens_unigram_entropy(s->tokens));
        fflush(stdout); /* in order with the progress on stderr */
    }
    free(usage);
    leave_stage(s);
    return status;
}

/* Nothing but the learning rate changes, so a stage without a lower one would end there again. */
static bool may_roll_back(const duo_training *s, const duo_stage_recipe *stage)
{
    const double least = 1e-3; /* below that it is not the learning rate */
    return stage->rollback_lr > 0 &&
           duo_stage_rollback_scale(stage, s->progress.rollbacks + 1) >= least;
}

static duo_status roll_back(duo_training *s, const duo_stage_recipe *stage)
{
    duo_warn("%s; back to the last checkpoint with %g times the learning rate", duo_message(),
             duo_stage_rollback_scale(stage, s->progress.rollbacks + 1));
    return duo_training_roll_back(s);
}

duo_status duo_training_run(duo_training *s, bool *interrupted)
{
    duo_cli_catch_stop();
    duo_status status = DUO_OK;
    *interrupted = true;
    while (status == DUO_OK) {
        const duo_stage_recipe *stage = &s->recipe->stages[s->progress.stage];
        const bool over = s->progress.stage_step >= stage->steps;
        if (over && !duo_cli_calibrate_best(s, stage)) break;
        *interrupted = !over || s->progress.stage + 1 < s->recipe->n_stages;
        if (!*interrupted || duo_cli_stop_wanted()) break;
        if (over) {
            duo_training_next_stage(s);
            continue;
        }
        status = run_stage(s, stage);
        if (status == DUO_ENUMBER && may_roll_back(s, stage)) status = roll_back(s, stage);
    }
    return status == DUO_OK ? duo_run_sync_log(s->run) : status;
}
