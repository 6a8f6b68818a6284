#include <math.h>
#include <stdio.h>
#include <string.h>

#include "step_kernels.h"
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

static duo_status measure_step(duo_bench *bench, int which, duo_precision precision,
                               double *seconds)
{
    bench_trial trial;
    const duo_stage_recipe stage = stage_of(&bench->setting, which, precision);
    duo_status status = bench_trial_open(&trial, &bench->setting.model, &stage);
    if (status == DUO_OK) {
        const bench_times times =
            bench_measure(&bench->setting, precision, bench_trial_step, &trial);
        status = trial.status;
        duo_bench_row row = bench_row(DUO_BENCH_STEP, names[which], precision);
        bench_row_flops(&row, times, trial.report.flops);
        row.tokens_per_s = (double)trial.report.tokens / times.median;
        if (status == DUO_OK) bench_emit(bench, &row);
        *seconds = times.median;
    }
    bench_trial_close(&trial);
    return status;
}

static void emit_speed_up(const duo_bench *bench, int which, duo_precision precision,
                          const double *seconds)
{
    const duo_bench_setting *s = &bench->setting;
    for (size_t i = 1; i < s->n_threads; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s, over %d thread%s", names[which], s->threads[0],
                 s->threads[0] == 1 ? "" : "s");
        duo_bench_row row = bench_row(DUO_BENCH_STEP, name, precision);
        row.threads = s->threads[i];
        row.unit = "times";
        row.value = seconds[0] / seconds[i];
        row.limit = (double)s->threads[i] / s->threads[0];
        row.limit_name = "threads";
        bench_emit(bench, &row);
    }
}

duo_status bench_step(duo_bench *bench)
{
    const duo_bench_setting *s = &bench->setting;
    for (size_t p = 0; p < s->n_precisions; p++)
        for (int which = 0; which < STAGES; which++) {
            if (!bench_wanted(bench, names[which])) continue;
            double seconds[DUO_MAX_THREADS] = {0};
            for (size_t i = 0; i < s->n_threads; i++) {
                duo_status status = bench_start(bench, i);
                if (status == DUO_OK)
                    status = measure_step(bench, which, s->precisions[p], &seconds[i]);
                if (status == DUO_OK && which == 0 && !s->match)
                    status = bench_step_kernels(bench, s->precisions[p], seconds[i]);
                if (status != DUO_OK) return status;
            }
            emit_speed_up(bench, which, s->precisions[p], seconds);
        }
    return DUO_OK;
}
