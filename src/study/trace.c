#include <math.h>
#include <stdlib.h>

#include "duo/hindsight.h"
#include "duo/study.h"

/* ---------------------------------------------------------------- in memory */

duo_status duo_trace_create(duo_trace *trace, const duo_sequences *sequences, size_t L)
{
    const size_t N = sequences->R * sequences->T;
    size_t routes = 0;
    *trace = (duo_trace){0};
    if (duo_multiply(&routes, N, L)) {
        trace->routes = calloc(routes, sizeof *trace->routes);
        trace->loss = calloc(N, sizeof *trace->loss);
    }
    if (trace->routes && trace->loss) return DUO_OK;
    duo_trace_free(trace);
    return duo_fail(DUO_ENOMEM, "no memory for the routes of %zu tokens through %zu layers", N, L);
}

void duo_trace_free(duo_trace *trace)
{
    free(trace->routes);
    free(trace->loss);
    *trace = (duo_trace){0};
}

/* ---------------------------------------------------------------- means */

/* Mean loss, and its standard error from the means of the sequences: tokens of one sequence are
 * not independent. */
static duo_status summarize_loss(duo_trace_summary *s, const float *loss, size_t R, size_t T)
{
    double *means = malloc(R * sizeof *means);
    if (!means) return duo_fail(DUO_ENOMEM, "no memory for the means of %zu sequences", R);
    duo_sequence_means(means, loss, R, T, 1);
    const duo_estimate estimate = duo_estimate_mean(means, R);
    free(means);
    s->loss = estimate.mean;
    s->loss_error = estimate.error;
    s->perplexity = exp(s->loss);
    return DUO_OK;
}

duo_status duo_trace_summarize(duo_trace_summary *summary, const duo_trace *trace,
                               const duo_sequences *sequences, const duo_config *config,
                               bool with_router)
{
    const size_t R = sequences->R, T = sequences->T, L = config->n_layers;
    const double tokens = (double)(R * T);
    *summary = (duo_trace_summary){.bits_per_byte = NAN};
    summary->usage = calloc(L * DUO_MODULES, sizeof *summary->usage);
    if (!summary->usage) return duo_fail(DUO_ENOMEM, "no memory for a summary");
    const duo_status status = summarize_loss(summary, trace->loss, R, T);
    if (status != DUO_OK) {
        duo_trace_summary_free(summary);
        return status;
    }
    if (sequences->bytes > 0)
        summary->bits_per_byte = summary->loss * tokens / log(2.0) / (double)sequences->bytes;

    duo_routes_count(summary->usage, trace->routes, R * T, L);
    summary->flops = duo_flops_base(config, ((double)T + 1) / 2);
    if (with_router) summary->flops += duo_flops_routers(config);
    duo_routes_shares(summary->share, summary->usage, L);
    for (duo_module m = 0; m < DUO_MODULES; m++)
        summary->flops += duo_flops_ffn(config, m) * summary->share[m] * (double)L;
    return DUO_OK;
}

void duo_trace_summary_free(duo_trace_summary *summary)
{
    free(summary->usage);
    *summary = (duo_trace_summary){0};
}
