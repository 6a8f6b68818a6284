#include "duo/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- agreement */

/* Of one layer: confused[a][b] choices were a where the reference's were b. */
static double macro_f1(uint64_t confused[DUO_MODULES][DUO_MODULES])
{
    double sum = 0;
    size_t taken = 0;
    for (size_t m = 0; m < DUO_MODULES; m++) {
        uint64_t own = 0, wanted = 0;
        for (size_t k = 0; k < DUO_MODULES; k++) {
            own += confused[m][k];
            wanted += confused[k][m];
        }
        if (own + wanted == 0) continue;
        sum += 2 * (double)confused[m][m] / (double)(own + wanted);
        taken++;
    }
    return sum / (double)taken;
}

void duo_agree(duo_agreement *agreement, const uint8_t *routes, const uint8_t *reference, size_t n,
               size_t L)
{
    *agreement = (duo_agreement){0};
    for (size_t l = 0; l < L; l++) {
        uint64_t confused[DUO_MODULES][DUO_MODULES] = {{0}}, same = 0;
        for (size_t i = 0; i < n; i++) confused[routes[i * L + l]][reference[i * L + l]]++;
        for (size_t m = 0; m < DUO_MODULES; m++) same += confused[m][m];
        agreement->layer[l].accuracy = (double)same / (double)n;
        agreement->layer[l].macro_f1 = macro_f1(confused);
        agreement->accuracy += agreement->layer[l].accuracy / (double)L;
        agreement->macro_f1 += agreement->layer[l].macro_f1 / (double)L;
    }
}

/* ---------------------------------------------------------------- rows */

/* Share of big at the positions first .. end-1 of all sequences. */
static double share_of_big(const uint8_t *routes, size_t R, size_t T, size_t L, size_t first,
                           size_t end)
{
    uint64_t big = 0;
    for (size_t r = 0; r < R; r++)
        for (size_t i = (r * T + first) * L; i < (r * T + end) * L; i++)
            big += routes[i] == DUO_BIG;
    return (double)big / (double)(R * (end - first) * L);
}

duo_status duo_compared_measure(duo_compared *row, const duo_trace *trace,
                                const duo_sequences *sequences, const duo_config *config,
                                bool with_router)
{
    const size_t R = sequences->R, T = sequences->T, L = config->n_layers;
    const size_t quarter = (T + 3) / 4;
    duo_trace_summary summary;
    row->means = malloc(R * sizeof *row->means);
    if (!row->means) return duo_fail(DUO_ENOMEM, "no memory for the means of %zu sequences", R);
    const duo_status status = duo_trace_summarize(&summary, trace, sequences, config, with_router);
    if (status != DUO_OK) return status;
    row->R = R;
    row->share = summary.share[DUO_BIG];
    row->flops = summary.flops;
    duo_trace_summary_free(&summary);
    duo_sequence_means(row->means, trace->loss, R, T, 1);
    row->early = share_of_big(trace->routes, R, T, L, 0, quarter);
    row->late = share_of_big(trace->routes, R, T, L, T - quarter, T);
    return DUO_OK;
}

void duo_compared_free(duo_compared *row)
{
    free(row->means);
    *row = (duo_compared){0};
}

static double mean_of(const duo_compared *row)
{
    return duo_estimate_mean(row->means, row->R).mean;
}

duo_status duo_compared_mean(duo_compared *mean, const duo_compared *const *rows, size_t n)
{
    const size_t R = rows[0]->R;
    double squares = 0, loss = 0;
    *mean = (duo_compared){.big = rows[0]->big, .seeds = n, .R = R, .spread = NAN};
    memcpy(mean->name, rows[0]->name, sizeof mean->name);
    mean->means = calloc(R, sizeof *mean->means);
    if (!mean->means) return duo_fail(DUO_ENOMEM, "no memory for the means of %zu sequences", R);
    for (size_t i = 0; i < n; i++) {
        const duo_compared *row = rows[i];
        for (size_t r = 0; r < R; r++) mean->means[r] += row->means[r] / (double)n;
        mean->share += row->share / (double)n;
        mean->raw += row->raw / (double)n;
        mean->early += row->early / (double)n;
        mean->late += row->late / (double)n;
        mean->flops += row->flops / (double)n;
        mean->tokens_per_s += row->tokens_per_s / (double)n;
        mean->accuracy += row->accuracy / (double)n;
        mean->macro_f1 += row->macro_f1 / (double)n;
        loss += mean_of(row) / (double)n;
    }
    for (size_t i = 0; i < n; i++) squares += (mean_of(rows[i]) - loss) * (mean_of(rows[i]) - loss);
    if (n > 1) mean->spread = sqrt(squares / (double)(n - 1));
    return DUO_OK;
}

double duo_share_closed(double loss, double from, double to)
{
    return from > to ? (from - loss) / (from - to) : NAN;
}
