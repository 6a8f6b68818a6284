#include "sample.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

static bool before(const duo_candidate *a, const duo_candidate *b)
{
    return a->mass > b->mass || (a->mass == b->mass && a->id < b->id);
}

static int compare(const void *a, const void *b)
{
    return before(a, b) ? -1 : before(b, a) ? 1 : 0;
}

/* The largest logit's index; V when no token can be drawn. */
static size_t largest(const float *logits, size_t V)
{
    size_t best = 0;
    for (size_t v = 0; v < V; v++) {
        if (isnan(logits[v]) || logits[v] == INFINITY) return V;
        if (logits[v] > logits[best]) best = v;
    }
    return logits[best] == -INFINITY ? V : best;
}

/* heap[0] is the last of the heap's candidates; restore that below `at`. */
static void sift_down(duo_candidate *heap, size_t n, size_t at)
{
    for (;;) {
        size_t last = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < n; child++)
            if (before(&heap[last], &heap[child])) last = child;
        if (last == at) return;
        const duo_candidate keep = heap[at];
        heap[at] = heap[last];
        heap[last] = keep;
        at = last;
    }
}

/* The first k of n, in front, in any order. */
static void select_first(duo_candidate *candidates, size_t n, size_t k)
{
    for (size_t i = k / 2; i-- > 0;) sift_down(candidates, k, i);
    for (size_t i = k; i < n; i++) {
        if (!before(&candidates[i], &candidates[0])) continue;
        candidates[0] = candidates[i];
        sift_down(candidates, k, 0);
    }
}

static double sum_mass(const duo_candidate *candidates, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += candidates[i].mass;
    return sum;
}

/* Ids below (1 - p) / n of the mass hold less than 1 - p together, so that the others reach p
 * without them: they need not be sorted. */
static size_t cut_to_share(duo_candidate *candidates, size_t n, double p)
{
    const double total = sum_mass(candidates, n), least = (1 - p) / (double)n * total;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (candidates[i].mass >= least) candidates[kept++] = candidates[i];
    qsort(candidates, kept, sizeof *candidates, compare);
    double sum = 0;
    size_t i = 0;
    while (i < kept && (i == 0 || sum < p * total)) sum += candidates[i++].mass;
    return i;
}

size_t duo_sample_candidates(duo_candidate *candidates, const duo_sampling *sampling,
                             const float *logits, size_t V)
{
    const size_t best = largest(logits, V);
    if (best == V) return 0;
    size_t n = 0;
    for (size_t v = 0; v < V; v++) {
        const double z = ((double)logits[v] - (double)logits[best]) / sampling->temperature;
        const double mass = exp(z);
        if (mass > 0) candidates[n++] = (duo_candidate){mass, (int32_t)v};
    }
    if (sampling->top_k > 0 && sampling->top_k < n) {
        select_first(candidates, n, sampling->top_k);
        n = sampling->top_k;
        qsort(candidates, n, sizeof *candidates, compare);
    }
    if (sampling->top_p < 1) n = cut_to_share(candidates, n, sampling->top_p);
    return n;
}

int32_t duo_sample(const duo_sampling *sampling, const float *logits, size_t V, double u,
                   duo_candidate *candidates)
{
    if (sampling->temperature == 0) {
        const size_t best = largest(logits, V);
        return best == V ? -1 : (int32_t)best;
    }
    const size_t n = duo_sample_candidates(candidates, sampling, logits, V);
    if (n == 0) return -1;
    double left = u * sum_mass(candidates, n);
    size_t i = 0;
    while (i + 1 < n && left >= candidates[i].mass) left -= candidates[i++].mass;
    return candidates[i].id;
}
