#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "profile.h"
#include "trial.h"

enum { STAGES = 2 };
static const char *const names[STAGES] = {"dense step", "duo step, half big"};

static duo_stage_recipe stage_of(const duo_bench_setting *setting, int which,
                                 duo_precision precision)
{
    duo_stage_recipe stage = setting->stage;
    stage.kind = which == 0 ? DUO_STAGE_DENSE : DUO_STAGE_DUO;
    stage.precision = precision;
    memset(stage.p, 0, sizeof stage.p);
    stage.p[DUO_BIG] = which == 0 ? 1.0 : 0.5;
    stage.p[DUO_SMALL] = 1 - stage.p[DUO_BIG];
    return stage;
}

/* ---------------------------------------------------------------- samples */

/* A step of some kind on each number of threads; sample k of number i: samples[i * repeats + k]. */
typedef struct step_samples {
    const duo_bench *bench;
    const char *name;
    duo_precision precision;
    size_t repeats;
    double tokens;
    bench_sample *samples;
} step_samples;

static duo_status take_sample(bench_sample *s, bench_trial *trial, int threads,
                              duo_precision precision)
{
    const duo_status status = duo_kernels_start(threads);
    if (status != DUO_OK) return status;
    bench_trial_step(trial); /* the new team meets its memory */
    bench_sample_take(s, precision, bench_trial_step, trial);
    s->flops = trial->report.flops;
    return trial->status;
}

/* All numbers of threads in turns, so that a drifting clock meets them alike. The bits of a step
 * do not depend on them: one trial serves all. */
static duo_status take_samples(duo_bench *bench, step_samples *of, const duo_stage_recipe *stage)
{
    const duo_bench_setting *setting = &bench->setting;
    bench_trial trial = {0};
    size_t most = 0;
    for (size_t i = 1; i < setting->n_threads; i++)
        if (setting->threads[i] > setting->threads[most]) most = i;
    duo_status status = bench_start(bench, most); /* scratch for all of them */
    if (status == DUO_OK) status = bench_trial_open(&trial, &setting->model, stage);
    for (size_t k = 0; k < of->repeats; k++)
        for (size_t i = 0; i < setting->n_threads && status == DUO_OK; i++)
            status = take_sample(&of->samples[i * of->repeats + k], &trial, setting->threads[i],
                                 of->precision);
    of->tokens = (double)trial.report.tokens;
    bench_trial_close(&trial);
    return status;
}

/* ---------------------------------------------------------------- rows */

static void emit_step(const step_samples *of, size_t i)
{
    const bench_sample *samples = of->samples + i * of->repeats;
    double flops;
    const bench_times times = bench_sample_times(samples, of->repeats, &flops);
    duo_bench_row row = bench_row(DUO_BENCH_STEP, of->name, of->precision);
    row.threads = of->bench->setting.threads[i];
    bench_row_flops(&row, times, flops);
    row.tokens_per_s = of->tokens / times.median;
    bench_emit(of->bench, &row);
    bench_emit_profile(of->bench, &row, samples, of->repeats, 1);
}

/* Over the first number of threads, of the samples that were taken one after the other. */
static void emit_speed_up(const step_samples *of, size_t i)
{
    const duo_bench_setting *s = &of->bench->setting;
    double ratios[BENCH_MOST_REPEATS], unused[BENCH_MOST_REPEATS] = {0};
    for (size_t k = 0; k < of->repeats; k++) {
        const bench_sample *one = &of->samples[k], *more = &of->samples[i * of->repeats + k];
        ratios[k] = one->seconds / one->flops / (more->seconds / more->flops);
    }
    const bench_times times = bench_summarize(ratios, unused, of->repeats);
    duo_bench_row row = bench_row(DUO_BENCH_STEP, "", of->precision);
    snprintf(row.name, sizeof row.name, "%s, over %d thread%s", of->name, s->threads[0],
             s->threads[0] == 1 ? "" : "s");
    row.threads = s->threads[i];
    row.unit = "times";
    row.value = times.median;
    row.least = times.least;
    row.most = times.most;
    row.limit = (double)s->threads[i] / s->threads[0];
    row.limit_name = "threads";
    bench_emit(of->bench, &row);
}

/* ---------------------------------------------------------------- the part */

static duo_status measure(duo_bench *bench, int which, duo_precision precision)
{
    const duo_bench_setting *s = &bench->setting;
    step_samples of = {
        .bench = bench, .name = names[which], .precision = precision, .repeats = bench_repeats(s)};
    of.samples = calloc(s->n_threads * of.repeats, sizeof *of.samples);
    if (!of.samples) return duo_fail(DUO_ENOMEM, "bench: no memory for the times of steps");
    const duo_stage_recipe stage = stage_of(s, which, precision);
    const duo_status status = take_samples(bench, &of, &stage);
    for (size_t i = 0; i < s->n_threads && status == DUO_OK; i++) {
        emit_step(&of, i);
        if (i > 0) emit_speed_up(&of, i);
    }
    free(of.samples);
    return status;
}

duo_status bench_step(duo_bench *bench)
{
    const duo_bench_setting *s = &bench->setting;
    duo_status status = DUO_OK;
    for (size_t p = 0; p < s->n_precisions; p++)
        for (int which = 0; which < STAGES && status == DUO_OK; which++)
            if (bench_wanted(bench, names[which])) status = measure(bench, which, s->precisions[p]);
    return status;
}
