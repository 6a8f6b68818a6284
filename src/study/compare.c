#include "duo/compare.h"

#include <math.h>
#include <stdio.h>
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

static const duo_estimate unknown = {NAN, NAN};

duo_compared duo_compared_empty(const char *name, size_t big, uint64_t seed)
{
    duo_compared row = {.big = big,
                        .seed = seed,
                        .seeds = 1,
                        .raw = NAN,
                        .early = unknown,
                        .late = unknown,
                        .tokens_per_s = NAN,
                        .agreement = {.accuracy = NAN, .macro_f1 = NAN}};
    snprintf(row.name, sizeof row.name, "%s", name);
    for (size_t l = 0; l < DUO_MAX_LAYERS; l++)
        row.agreement.layer[l].accuracy = row.agreement.layer[l].macro_f1 = NAN;
    return row;
}

/* Share of big at the positions first .. end-1; scratch (R). */
static duo_estimate share_of_big(const uint8_t *routes, size_t R, size_t T, size_t L, size_t first,
                                 size_t end, double *scratch)
{
    for (size_t r = 0; r < R; r++) {
        uint64_t big = 0;
        for (size_t i = (r * T + first) * L; i < (r * T + end) * L; i++)
            big += routes[i] == DUO_BIG;
        scratch[r] = (double)big / (double)((end - first) * L);
    }
    return duo_estimate_mean(scratch, R);
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
    row->L = L;
    row->share = summary.share[DUO_BIG];
    row->flops = summary.flops;
    for (size_t l = 0; l < L; l++)
        row->layer_share[l] = (double)summary.usage[l * DUO_MODULES + DUO_BIG] / (double)(R * T);
    duo_trace_summary_free(&summary);
    row->early = share_of_big(trace->routes, R, T, L, 0, quarter, row->means);
    row->late = share_of_big(trace->routes, R, T, L, T - quarter, T, row->means);
    duo_sequence_means(row->means, trace->loss, R, T, 1);
    return DUO_OK;
}

void duo_compared_free(duo_compared *row)
{
    free(row->means);
    free(row->seed_loss);
    *row = (duo_compared){0};
}

/* ---------------------------------------------------------------- estimates */

static const duo_seed_loss *find_seed(const duo_compared *row, uint64_t seed)
{
    for (size_t i = 0; row->seed_loss && i < row->seeds; i++)
        if (row->seed_loss[i].seed == seed) return &row->seed_loss[i];
    return NULL;
}

static bool same_seeds(const duo_compared *a, const duo_compared *b)
{
    if (!a->seed_loss || !b->seed_loss || a->seeds != b->seeds) return false;
    for (size_t i = 0; i < a->seeds; i++)
        if (!find_seed(b, a->seed_loss[i].seed)) return false;
    return true;
}

/* Squared standard error of the mean over seeds of a row's loss, less the other's of the same seed
 * unless that is NULL. */
static double variance_over_seeds(const duo_compared *row, const duo_compared *other)
{
    const double n = (double)row->seeds;
    double sum = 0, squares = 0;
    for (size_t i = 0; i < row->seeds; i++) {
        const duo_seed_loss *own = &row->seed_loss[i];
        const double d = own->loss - (other ? find_seed(other, own->seed)->loss : 0);
        sum += d;
        squares += d * d;
    }
    return fmax(squares - sum * sum / n, 0) / (n - 1) / n;
}

static double seed_variance(const duo_compared *row, const duo_compared *other)
{
    if (same_seeds(row, other)) return variance_over_seeds(row, other);
    return row->seed_variance + other->seed_variance;
}

double duo_compared_spread(const duo_compared *row)
{
    return row->seed_loss ? sqrt((double)row->seeds * row->seed_variance) : NAN;
}

duo_estimate duo_compared_loss(const duo_compared *row)
{
    duo_estimate e = duo_estimate_mean(row->means, row->R);
    e.error = sqrt(e.error * e.error + row->seed_variance);
    return e;
}

duo_estimate duo_compared_less(const duo_compared *row, const duo_compared *other)
{
    if (!other || !other->means || other->R != row->R) return unknown;
    duo_estimate e = duo_estimate_difference(row->means, other->means, row->R);
    e.error = sqrt(e.error * e.error + seed_variance(row, other));
    return e;
}

/* ---------------------------------------------------------------- means */

static double mean_of(const duo_compared *row)
{
    return duo_estimate_mean(row->means, row->R).mean;
}

static duo_status take_room(duo_compared *row)
{
    row->means = calloc(row->R, sizeof *row->means);
    if (row->seeds > 1) row->seed_loss = calloc(row->seeds, sizeof *row->seed_loss);
    if (row->means && (row->seeds == 1 || row->seed_loss)) return DUO_OK;
    duo_compared_free(row);
    return duo_fail(DUO_ENOMEM, "no memory for a row of the table");
}

static void add_estimate(duo_estimate *sum, duo_estimate e, double weight)
{
    sum->mean += weight * e.mean;
    sum->error += weight * e.error; /* seeds share their sequences */
}

duo_status duo_compared_mean(duo_compared *mean, const duo_compared *const *rows, size_t n)
{
    const double weight = 1 / (double)n;
    *mean = (duo_compared){.big = rows[0]->big, .seeds = n, .R = rows[0]->R, .L = rows[0]->L};
    memcpy(mean->name, rows[0]->name, sizeof mean->name);
    const duo_status status = take_room(mean);
    for (size_t i = 0; i < n && status == DUO_OK; i++) {
        const duo_compared *row = rows[i];
        for (size_t r = 0; r < mean->R; r++) mean->means[r] += weight * row->means[r];
        mean->share += weight * row->share;
        mean->raw += weight * row->raw;
        add_estimate(&mean->early, row->early, weight);
        add_estimate(&mean->late, row->late, weight);
        mean->flops += weight * row->flops;
        mean->tokens_per_s += weight * row->tokens_per_s;
        mean->agreement.accuracy += weight * row->agreement.accuracy;
        mean->agreement.macro_f1 += weight * row->agreement.macro_f1;
        for (size_t l = 0; l < mean->L; l++) {
            mean->layer_share[l] += weight * row->layer_share[l];
            mean->agreement.layer[l].accuracy += weight * row->agreement.layer[l].accuracy;
            mean->agreement.layer[l].macro_f1 += weight * row->agreement.layer[l].macro_f1;
        }
        if (mean->seed_loss) mean->seed_loss[i] = (duo_seed_loss){row->seed, mean_of(row)};
    }
    if (status == DUO_OK && mean->seed_loss) mean->seed_variance = variance_over_seeds(mean, NULL);
    return status;
}

/* ---------------------------------------------------------------- equal FLOPs */

/* (1 - part) of one row, part of the other. */
static duo_status mix(duo_compared *at, const duo_compared *a, const duo_compared *b, double part)
{
    const bool paired = same_seeds(a, b);
    const double rest = 1 - part;
    *at = duo_compared_empty("mixture", a->big, 0);
    at->R = a->R;
    at->L = a->L;
    at->seeds = paired ? a->seeds : 1;
    at->flops = rest * a->flops + part * b->flops;
    const duo_status status = take_room(at);
    if (status != DUO_OK) return status;
    for (size_t r = 0; r < at->R; r++) at->means[r] = rest * a->means[r] + part * b->means[r];
    at->seed_variance = rest * rest * a->seed_variance + part * part * b->seed_variance;
    if (!paired) return DUO_OK;
    for (size_t i = 0; i < at->seeds; i++) {
        const duo_seed_loss *own = &a->seed_loss[i];
        at->seed_loss[i] =
            (duo_seed_loss){own->seed, rest * own->loss + part * find_seed(b, own->seed)->loss};
    }
    at->seed_variance = variance_over_seeds(at, NULL);
    return DUO_OK;
}

duo_status duo_compared_at(duo_compared *at, const duo_compared *const *rows, size_t n,
                           double flops)
{
    const duo_compared *below = NULL, *above = NULL;
    *at = duo_compared_empty("mixture", 0, 0);
    for (size_t i = 0; i < n; i++) {
        const duo_compared *row = rows[i];
        if (!row->means) continue;
        if (row->flops <= flops && (!below || row->flops > below->flops)) below = row;
        if (row->flops >= flops && (!above || row->flops < above->flops)) above = row;
    }
    if (!below || !above || below->R != above->R) return DUO_OK;
    const double way = above->flops - below->flops;
    return mix(at, below, above, way > 0 ? (flops - below->flops) / way : 0);
}

/* ---------------------------------------------------------------- ways */

duo_estimate duo_share_closed(const duo_compared *row, const duo_compared *from,
                              const duo_compared *to, duo_estimate gain)
{
    const size_t n = row->R;
    const double loss = mean_of(row), begin = mean_of(from), way = begin - mean_of(to) + gain.mean;
    const duo_estimate paired = duo_compared_less(from, to);
    const double error = sqrt(paired.error * paired.error + gain.error * gain.error);
    if (!(way > 2 * error)) return unknown;
    duo_estimate share = {(begin - loss) / way, 0};
    double sum = 0, squares = 0;
    for (size_t r = 0; r < n; r++) { /* all sequences but this one */
        const double k = (double)n - 1, rest = (double)n / k;
        const double gone = rest * (begin - loss) - (from->means[r] - row->means[r]) / k;
        const double all = rest * (way - gain.mean) - (from->means[r] - to->means[r]) / k;
        const double one = gone / (all + gain.mean);
        sum += one;
        squares += one * one;
    }
    const double over_sequences =
        fmax(squares - sum * sum / (double)n, 0) * (double)(n - 1) / (double)n;
    const double of_gain = share.mean / way * gain.error;
    const double over_seeds = seed_variance(row, from) / (way * way);
    share.error = sqrt(over_sequences + over_seeds + of_gain * of_gain);
    return share;
}
