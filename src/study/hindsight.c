#include "duo/hindsight.h"

#include <math.h>
#include <stdlib.h>

duo_estimate duo_estimate_mean(const double *values, size_t n)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    const double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) squares += (values[i] - mean) * (values[i] - mean);
    return (duo_estimate){mean, n > 1 ? sqrt(squares / (double)(n - 1) / (double)n) : NAN};
}

duo_estimate duo_estimate_difference(const double *a, const double *b, size_t n)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] - b[i];
    const double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) squares += (a[i] - b[i] - mean) * (a[i] - b[i] - mean);
    return (duo_estimate){mean, n > 1 ? sqrt(squares / (double)(n - 1) / (double)n) : NAN};
}

void duo_sequence_means(double *means, const float *loss, size_t R, size_t T, size_t stride)
{
    for (size_t r = 0; r < R; r++) {
        double sum = 0;
        for (size_t t = 0; t < T; t++) sum += (double)loss[(r * T + t) * stride];
        means[r] = sum / (double)T;
    }
}

/* ---------------------------------------------------------------- from one tree */

static const duo_estimate unknown = {NAN, NAN};

/* Whether all tokens took this module at every layer with so many big: then the best of them is the
 * only one, or as good as it. */
static bool all_take(const duo_route_curve *curve, size_t tokens, size_t L, size_t big,
                     duo_module m)
{
    for (size_t n = 0; n < tokens; n++)
        for (size_t l = 0; l < L; l++)
            if (curve->routes[(n * (L + 1) + big) * L + l] != m) return false;
    return true;
}

static bool all_finite(const double *means, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(means[i])) return false;
    return true;
}

/* Means of sequences, (R) each: at one budget, and of the all-big route. */
typedef struct sequence_means {
    double *oracle, *control, *label_free, *big, *big_drawn, *scratch;
} sequence_means;

static void measure_budget(duo_hindsight *h, size_t b, const duo_reference *reference,
                           const sequence_means *m, size_t R, size_t T)
{
    const size_t stride = h->budgets;
    duo_sequence_means(m->oracle, reference->oracle.loss + b, R, T, stride);
    duo_sequence_means(m->control, reference->control.loss + b, R, T, stride);
    duo_sequence_means(m->label_free, reference->label_free.loss + b, R, T, stride);
    if (!all_finite(m->oracle, R)) {
        h->oracle[b] = h->gain[b] = h->control[b] = h->corrected[b] = unknown;
        h->label_free[b] = h->label_free_gain[b] = unknown;
        return;
    }
    h->oracle[b] = duo_estimate_mean(m->oracle, R);
    h->label_free[b] = duo_estimate_mean(m->label_free, R);
    h->gain[b] = duo_estimate_difference(m->big, m->oracle, R);
    h->control[b] = duo_estimate_difference(m->big_drawn, m->control, R);
    h->label_free_gain[b] = duo_estimate_difference(m->big, m->label_free, R);
    for (size_t r = 0; r < R; r++)
        m->scratch[r] = m->big[r] - m->oracle[r] - (m->big_drawn[r] - m->control[r]);
    h->corrected[b] = duo_estimate_mean(m->scratch, R);
}

duo_status duo_hindsight_measure(duo_hindsight *hindsight, const duo_reference *reference,
                                 const duo_sequences *sequences, size_t L)
{
    const size_t R = sequences->R, T = sequences->T, budgets = L + 1;
    enum { CURVES = 6, MEANS = 6 };
    *hindsight = (duo_hindsight){.budgets = budgets, .all_big = unknown, .all_small = unknown};
    if (!all_take(&reference->oracle, R * T, L, L, DUO_BIG))
        return duo_fail(DUO_EINVAL, "hindsight: is measured against the all-big route, which was "
                                    "not searched");
    duo_status status = DUO_OK;
    double *means = calloc(MEANS * R, sizeof *means);
    duo_estimate *curves = calloc(CURVES * budgets, sizeof *curves);
    hindsight->oracle = curves;
    if (!means || !curves) {
        status = duo_fail(DUO_ENOMEM, "no memory for the means of %zu sequences", R);
        duo_hindsight_free(hindsight);
        goto done;
    }
    hindsight->gain = curves + budgets;
    hindsight->control = curves + 2 * budgets;
    hindsight->corrected = curves + 3 * budgets;
    hindsight->label_free = curves + 4 * budgets;
    hindsight->label_free_gain = curves + 5 * budgets;
    const sequence_means m = {means,         means + R,     means + 2 * R,
                              means + 3 * R, means + 4 * R, means + 5 * R};
    duo_sequence_means(m.big, reference->oracle.loss + L, R, T, budgets);
    duo_sequence_means(m.big_drawn, reference->control.loss + L, R, T, budgets);
    for (size_t b = 0; b <= L; b++) measure_budget(hindsight, b, reference, &m, R, T);
    hindsight->all_big = hindsight->oracle[L];
    if (all_take(&reference->oracle, R * T, L, 0, DUO_SMALL))
        hindsight->all_small = hindsight->oracle[0];

done:
    free(means);
    return status;
}

void duo_hindsight_free(duo_hindsight *hindsight)
{
    free(hindsight->oracle);
    *hindsight = (duo_hindsight){0};
}
