#include "router_stage.h"

#include <math.h>
#include <string.h>

#include "common.h"

void duo_cli_router_metrics(FILE *out, const duo_stage_recipe *stage, const duo_step_report *report,
                            size_t L)
{
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
    fputs("}", out);
    if (stage->penalty != DUO_PENALTY_LAGRANGIAN) return;
    fputs(",\"multiplier\":{", out);
    for (duo_module m = 0; m < DUO_MODULES; m++)
        fprintf(out, "%s\"%s\":%.9g", m ? "," : "", duo_module_name(m), report->multiplier[m]);
    fputs("}", out);
}

/* ---------------------------------------------------------------- calibration */

void duo_cli_print_calibrated(const char *name, const duo_calibrated *calibrated,
                              duo_module_set modules)
{
    printf("%s: thresholds set on %zu windows of training text:", name, calibrated->windows);
    for (duo_module m = DUO_MODULES; m-- > 0;)
        if (duo_module_in(modules, m))
            printf(" %s %.2f%% -> %.2f%%", duo_module_name(m), 100 * calibrated->before[m],
                   100 * calibrated->after[m]);
    puts("");
    fflush(stdout);
}

duo_status duo_cli_calibrate_stage(duo_training *s, const duo_stage_recipe *stage)
{
    char name[DUO_NAME_MAX + 8];
    duo_calibrated calibrated;
    if (stage->kind != DUO_STAGE_ROUTER || stage->calibrate == 0) return DUO_OK;
    duo_calibration calibration = {.tokens = s->tokens,
                                   .windows = stage->calibrate,
                                   .T = stage->seq_len,
                                   .rows = stage->micro_batch,
                                   .budget_min = stage->budget_min,
                                   .budget_max = stage->budget_max};
    memcpy(calibration.target, stage->target, sizeof stage->target);
    const duo_status status = duo_calibrate(s->model, &calibration, &calibrated);
    if (status != DUO_OK) return status;
    duo_cli_progress_end();
    snprintf(name, sizeof name, "stage %s", stage->name);
    duo_cli_print_calibrated(name, &calibrated, stage->modules);
    return DUO_OK;
}

/* ---------------------------------------------------------------- collapse */

void duo_cli_warn_of_collapse(const duo_stage_recipe *stage, const uint64_t *usage, size_t L)
{
    char layers[512] = "";
    size_t constant = 0, used = 0;
    double miss = 0, share[DUO_MODULES] = {0};
    for (size_t l = 0; l < L; l++) {
        const uint64_t *u = usage + l * DUO_MODULES;
        const uint64_t all = u[DUO_SKIP] + u[DUO_SMALL] + u[DUO_BIG];
        for (duo_module m = 0; m < DUO_MODULES; m++) {
            share[m] += (double)u[m] / (double)all / (double)L;
            if (u[m] < all) continue;
            constant++;
            const int n = snprintf(layers + used, sizeof layers - used, "%s%02zu (%s)",
                                   used ? ", " : "", l, duo_module_name(m));
            if (n > 0 && used + (size_t)n < sizeof layers) used += (size_t)n;
        }
    }
    bool between = false; /* is there anything to decide? */
    for (duo_module m = 0; m < DUO_MODULES; m++) {
        if (stage->target[m] < 0) continue;
        between = between || (stage->target[m] > 0 && stage->target[m] < 1);
        miss = fmax(miss, fabs(share[m] - stage->target[m]));
    }
    if (between && constant > 0 && (constant == L || miss >= 0.05))
        duo_warn("stage %s: routers have collapsed: every token takes one module in layers %s",
                 stage->name, layers);
}
