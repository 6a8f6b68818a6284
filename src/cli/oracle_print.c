#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "oracle_study.h"
#include "summary.h"

/* ---------------------------------------------------------------- rows */

static duo_status row_of_policy(const duo_oracle_study *s, size_t i, duo_oracle_row *row)
{
    const duo_sequences done = duo_oracle_study_done(s);
    duo_trace_summary summary;
    const duo_status status = duo_trace_summarize(&summary, &s->results.policies[i].trace, &done,
                                                  &s->model->params.config, false);
    if (status != DUO_OK) return status;
    *row = (duo_oracle_row){.label = s->entries[i].label,
                            .big = s->entries[i].big,
                            .loss = {summary.loss, summary.loss_error},
                            .share = summary.share[DUO_BIG]};
    duo_trace_summary_free(&summary);
    return DUO_OK;
}

static size_t rows_of_curve(duo_oracle_row *rows, const char *label, const duo_estimate *loss,
                            size_t L)
{
    for (size_t b = 0; b <= L; b++)
        rows[b] = (duo_oracle_row){label, (int)b, loss[b], (double)b / (double)L};
    return L + 1;
}

duo_status duo_oracle_rows(const duo_oracle_study *study, const duo_hindsight *hindsight,
                           duo_oracle_row **rows, size_t *n)
{
    const size_t L = study->results.L;
    duo_status status = DUO_OK;
    *n = 0;
    *rows = calloc(study->n + 2 * (L + 1), sizeof **rows);
    if (!*rows) return duo_fail(DUO_ENOMEM, "no memory for the table");
    for (size_t i = 0; i < study->n && status == DUO_OK; i++)
        status = row_of_policy(study, i, &(*rows)[(*n)++]);
    if (hindsight && status == DUO_OK) {
        *n += rows_of_curve(*rows + *n, "oracle", hindsight->oracle, L);
        *n += rows_of_curve(*rows + *n, "label-free", hindsight->label_free, L);
    }
    return status;
}

static const duo_oracle_row *find(const duo_oracle_row *rows, size_t n, const char *label, int big)
{
    for (size_t i = 0; i < n; i++)
        if (rows[i].big == big && strcmp(rows[i].label, label) == 0) return &rows[i];
    return NULL;
}

/* ---------------------------------------------------------------- one search */

static const char *estimate_text(char text[48], duo_estimate e)
{
    snprintf(text, 48, isnan(e.error) ? "%.4f" : "%.4f +- %.4f", e.mean, e.error);
    return text;
}

static void print_search(const duo_oracle_study *s, const duo_trace_summary *summary)
{
    char modules[16], loss[48], took[16];
    const double tokens = (double)((s->results.done - s->resumed) * s->sequences.T);
    const size_t L = s->results.L;
    printf("%s over %s, budget %s of %zu layers, %s, %s context%s%s\n", s->entries[0].label,
           duo_module_set_text(modules, s->setting.modules), s->budget, L, s->method,
           s->origin.context, s->in_reference ? " " : "", s->in_reference ? s->reference_text : "");
    printf("loss %s nats, perplexity %.3f", duo_cli_loss_text(loss, summary), summary->perplexity);
    if (!isnan(summary->bits_per_byte)) printf(", %.4f bits per byte", summary->bits_per_byte);
    printf("\nbig %.1f %%, small %.1f %%, skip %.1f %%, %.3f MFLOP per token on the chosen "
           "routes\n",
           100 * summary->share[DUO_BIG], 100 * summary->share[DUO_SMALL],
           100 * summary->share[DUO_SKIP], summary->flops / 1e6);
    duo_cli_print_layers(summary, L);
    if (tokens > 0)
        printf("%.3f ms per token, %.0f tokens in %s", 1e3 * s->seconds / tokens, tokens,
               duo_cli_duration(took, s->seconds));
    if (tokens > 0 && s->spent > 0)
        printf("; the oracle's search computed %.1f MFLOP for each", s->spent / tokens / 1e6);
    if (tokens > 0) putchar('\n');
}

/* Means of sequences of a policy's loss; (R), allocated. */
static double *means_of(const duo_oracle_study *s, const char *name)
{
    const duo_trace *trace = duo_results_find(&s->results, name);
    double *means = malloc(s->results.done * sizeof *means);
    if (means && trace) duo_sequence_means(means, trace->loss, s->results.done, s->sequences.T, 1);
    return means;
}

duo_status duo_oracle_control_measure(duo_oracle_control *control, const duo_oracle_study *s)
{
    const size_t R = s->results.done;
    double *big = means_of(s, "big"), *oracle = means_of(s, s->entries[0].label);
    double *drawn = means_of(s, "big-drawn"), *on_drawn = means_of(s, "control");
    double *gain = malloc(3 * R * sizeof *gain);
    duo_status status = DUO_OK;
    if (!big || !oracle || !drawn || !on_drawn || !gain) {
        status = duo_fail(DUO_ENOMEM, "no memory for the means of %zu sequences", R);
        goto done;
    }
    double *lucky = gain + R, *corrected = lucky + R;
    for (size_t r = 0; r < R; r++) {
        gain[r] = big[r] - oracle[r];
        lucky[r] = drawn[r] - on_drawn[r];
        corrected[r] = gain[r] - lucky[r];
    }
    *control = (duo_oracle_control){
        .oracle = duo_estimate_mean(oracle, R),
        .gain = duo_estimate_mean(gain, R),
        .control = duo_estimate_mean(lucky, R),
        .corrected = duo_estimate_mean(corrected, R),
    };

done:
    free(big);
    free(oracle);
    free(drawn);
    free(on_drawn);
    free(gain);
    return status;
}

static duo_status print_control(const duo_oracle_study *s)
{
    duo_oracle_control c;
    char gain[48], control[48], corrected[48];
    const duo_status status = duo_oracle_control_measure(&c, s);
    if (status != DUO_OK) return status;
    printf("gain over all-big %s, control %s, corrected gain %s nats\n",
           estimate_text(gain, c.gain), estimate_text(control, c.control),
           estimate_text(corrected, c.corrected));
    puts("control: what the same search gains on targets drawn from the all-big model, where there "
         "is nothing to know");
    return DUO_OK;
}

/* ---------------------------------------------------------------- hindsight */

static void print_hindsight(const duo_hindsight *h)
{
    puts("\nbig  perplexity     gain  control  corrected           label-free loss    gain");
    for (size_t b = 0; b < h->budgets; b++) {
        char corrected[48];
        if (isnan(h->oracle[b].mean)) continue;
        printf("%3zu  %10.3f  %7.4f  %7.4f  %-18s  %14.4f  %7.4f\n", b, exp(h->oracle[b].mean),
               h->gain[b].mean, h->control[b].mean, estimate_text(corrected, h->corrected[b]),
               h->label_free[b].mean, h->label_free_gain[b].mean);
    }
    puts("gain: nats below all-big with the best route per token. control: the same for targets "
         "drawn from the\nall-big model, where there is nothing to know: hindsight. corrected: "
         "gain - control. label-free: the route\nof least expected loss, chosen without the "
         "target, and what it gains on the true one.");
}

/* ---------------------------------------------------------------- comparison */

static const char *perplexity_text(char text[32], const duo_oracle_row *row)
{
    if (!row || isnan(row->loss.mean)) return "-";
    const double perplexity = exp(row->loss.mean);
    snprintf(text, 32, isnan(row->loss.error) ? "%.2f" : "%.2f +- %.2f", perplexity,
             perplexity * row->loss.error);
    return text;
}

static void print_comparison(const duo_oracle_study *s, const duo_oracle_row *rows, size_t n)
{
    static const char *const columns[] = {"oracle", "label-free", "fixed", "random-per-token",
                                          "random-per-sequence"};
    enum { COLUMNS = sizeof columns / sizeof *columns };
    const size_t L = s->results.L;
    char text[32];
    printf("\nperplexity by number of big layers; random: best of %zu patterns\nbig",
           s->options->draws);
    for (size_t c = 0; c < COLUMNS; c++) printf("  %-19s", columns[c]);
    puts("  fixed pattern");
    for (size_t b = 0; b <= L; b++) {
        printf("%3zu", b);
        for (size_t c = 0; c < COLUMNS; c++)
            printf("  %-19s", perplexity_text(text, find(rows, n, columns[c], (int)b)));
        printf("  ");
        for (size_t l = 0; l < L; l++)
            putchar(duo_module_letter((duo_module)s->results.fixed->patterns[b * L + l]));
        putchar('\n');
    }
    for (size_t i = 0; i < n; i++)
        if (rows[i].big == DUO_ANY_BIG)
            printf("%-20s %s, big %.1f %%\n", rows[i].label, perplexity_text(text, &rows[i]),
                   100 * rows[i].share);
    printf("for every token: oracle, label-free%s in %s context%s%s, random-per-token behind %s.\n"
           "random-per-sequence: once for a sequence, by its loss. fixed: one of %zu patterns for "
           "all, chosen on %s.\n",
           s->options->schedules.n > 0 ? ", schedules" : "", s->origin.context,
           s->in_reference ? " " : "", s->in_reference ? s->reference_text : "", s->reference_text,
           s->results.fixed->evaluated,
           s->options->training_windows > 0 ? "training windows" : "these very windows");
}

/* ---------------------------------------------------------------- all */

static void print_others(const duo_oracle_study *s, const duo_oracle_row *rows)
{
    const char *between = "";
    char text[48];
    for (size_t i = 0; i < s->n; i++)
        if (s->entries[i].kind == DUO_ENTRY_POLICY) {
            printf("%s%s loss %s", between, rows[i].label, estimate_text(text, rows[i].loss));
            between = ", ";
        }
    putchar('\n');
}

duo_status duo_oracle_print(const duo_oracle_study *study, const duo_hindsight *hindsight,
                            const duo_oracle_row *rows, size_t n)
{
    const duo_oracle_options *o = study->options;
    const duo_sequences done = duo_oracle_study_done(study);
    duo_trace_summary summary;
    duo_status status = duo_trace_summarize(&summary, &study->results.policies[0].trace, &done,
                                            &study->model->params.config, false);
    if (status != DUO_OK) return status;
    print_search(study, &summary);
    duo_trace_summary_free(&summary);
    if (!o->compare) print_others(study, rows);
    if (o->control) status = print_control(study);
    if (hindsight) print_hindsight(hindsight);
    if (o->compare) print_comparison(study, rows, n);
    if (status == DUO_OK && o->output)
        printf("%s holds it; measure others on it: duo eval %s --policy file:%s --policy big\n",
               o->output, o->checkpoint, o->output);
    return status;
}
