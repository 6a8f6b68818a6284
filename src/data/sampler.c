#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "data_internal.h"
#include "duo/rng.h"

/* Draws of a cycle; each domain has a fixed number of them, so weights hold exactly. */
enum { CYCLE = 256 };

typedef struct sampled_domain {
    uint64_t start;      /* of its tokens in the split */
    uint64_t windows;    /* of an epoch */
    uint64_t offsets;    /* where the grid of windows may begin: 0 .. offsets-1 */
    uint64_t first_slot; /* its slots of the unpermuted cycle */
    uint64_t slots;
} sampled_domain;

struct duo_sampler {
    const duo_tokens *tokens;
    size_t T;
    uint64_t seed;
    size_t n_domains;
    sampled_domain domains[DATA_MAX_DOMAINS];
};

/* ---------------------------------------------------------------- weights */

static duo_status check_weights(const duo_tokens *tokens, const double *weights)
{
    double sum = 0.0;
    for (size_t d = 0; d < duo_tokens_domains(tokens); d++) {
        if (!(weights[d] >= 0.0 && isfinite(weights[d])))
            return duo_fail(DUO_EINVAL, "%s: the weight of domain %s is %g",
                            duo_tokens_path(tokens), duo_tokens_domain_name(tokens, d), weights[d]);
        sum += weights[d];
    }
    if (!(sum > 0.0 && isfinite(sum)))
        return duo_fail(DUO_EINVAL, "%s: the weights of the domains sum to %g",
                        duo_tokens_path(tokens), sum);
    return DUO_OK;
}

/* Largest remainders share out the cycle; a domain with any weight is drawn at least once. */
static void share_slots(duo_sampler *sampler, const double *weights)
{
    const size_t n = sampler->n_domains;
    double sum = 0.0, remainder[DATA_MAX_DOMAINS];
    uint64_t given = 0;
    for (size_t d = 0; d < n; d++) sum += weights[d];
    for (size_t d = 0; d < n; d++) {
        const double quota = CYCLE * (weights[d] / sum);
        sampler->domains[d].slots = (uint64_t)quota;
        remainder[d] = quota - floor(quota);
        given += sampler->domains[d].slots;
    }
    for (; given < CYCLE; given++) {
        size_t best = 0;
        for (size_t d = 1; d < n; d++)
            if (remainder[d] > remainder[best]) best = d;
        sampler->domains[best].slots++;
        remainder[best] = -1.0;
    }
    for (size_t d = 0; d < n; d++) {
        if (weights[d] == 0.0 || sampler->domains[d].slots > 0) continue;
        size_t richest = 0;
        for (size_t e = 1; e < n; e++)
            if (sampler->domains[e].slots > sampler->domains[richest].slots) richest = e;
        sampler->domains[richest].slots--;
        sampler->domains[d].slots++;
    }
    for (size_t d = 1; d < n; d++)
        sampler->domains[d].first_slot =
            sampler->domains[d - 1].first_slot + sampler->domains[d - 1].slots;
}

/* Windows of T+1 tokens, neighbours sharing one, that fit whatever the offset. */
static duo_status measure_domain(duo_sampler *sampler, size_t d)
{
    sampled_domain *domain = &sampler->domains[d];
    const uint64_t T = sampler->T;
    const uint64_t n = duo_tokens_count(sampler->tokens, DUO_TRAIN, (int)d);
    for (size_t e = 0; e < d; e++)
        domain->start += duo_tokens_count(sampler->tokens, DUO_TRAIN, (int)e);
    if (domain->slots == 0) return DUO_OK;
    if (n < T + 1)
        return duo_fail(
            DUO_EINVAL, "%s: domain %s has %llu tokens to train on, a sequence needs %zu",
            duo_tokens_path(sampler->tokens), duo_tokens_domain_name(sampler->tokens, d),
            (unsigned long long)n, sampler->T + 1);
    domain->windows = n < 2 * T ? 1 : (n - T) / T;
    const uint64_t spare = n - domain->windows * T;
    domain->offsets = spare < T ? spare : T;
    return DUO_OK;
}

duo_status duo_sampler_create(duo_sampler **out, const duo_tokens *tokens, size_t T, uint64_t seed,
                              const double *weights)
{
    *out = NULL;
    if (T < 1 || T >= INT32_MAX)
        return duo_fail(DUO_EINVAL, "sequences of %zu tokens make no sense", T);
    duo_sampler *sampler = calloc(1, sizeof *sampler);
    if (!sampler) return duo_fail(DUO_ENOMEM, "no memory for the sampler");
    sampler->tokens = tokens;
    sampler->T = T;
    sampler->seed = seed;
    sampler->n_domains = duo_tokens_domains(tokens);
    double by_tokens[DATA_MAX_DOMAINS];
    for (size_t d = 0; d < sampler->n_domains; d++)
        by_tokens[d] = (double)duo_tokens_count(tokens, DUO_TRAIN, (int)d);
    if (!weights) weights = by_tokens;
    duo_status status = check_weights(tokens, weights);
    if (status == DUO_OK) share_slots(sampler, weights);
    for (size_t d = 0; d < sampler->n_domains && status == DUO_OK; d++)
        status = measure_domain(sampler, d);
    if (status == DUO_OK)
        *out = sampler;
    else
        duo_sampler_free(sampler);
    return status;
}

void duo_sampler_free(duo_sampler *sampler)
{
    free(sampler);
}

/* ---------------------------------------------------------------- draws */

static size_t domain_of_slot(const duo_sampler *sampler, uint64_t cycle, uint64_t slot)
{
    const uint64_t image = duo_permute(sampler->seed, DUO_RNG_DOMAIN, cycle, CYCLE, slot);
    size_t d = sampler->n_domains - 1;
    while (image < sampler->domains[d].first_slot || sampler->domains[d].slots == 0) d--;
    return d;
}

void duo_sampler_sequence(const duo_sampler *sampler, uint64_t k, int32_t *out)
{
    const uint64_t cycle = k / CYCLE, slot = k % CYCLE;
    const size_t d = domain_of_slot(sampler, cycle, slot);
    const sampled_domain *domain = &sampler->domains[d];
    uint64_t draw = cycle * domain->slots; /* of this domain, since the begin of the run */
    if (domain->slots == CYCLE)
        draw += slot;
    else
        for (uint64_t s = 0; s < slot; s++) draw += domain_of_slot(sampler, cycle, s) == d;

    const uint64_t epoch = draw / domain->windows;
    const uint64_t key = epoch * sampler->n_domains + d; /* domains must not share an order */
    const uint64_t window =
        duo_permute(sampler->seed, DUO_RNG_WINDOW, key, domain->windows, draw % domain->windows);
    /* The permutation leaves position 0 to itself. */
    const duo_random4 r =
        duo_random(sampler->seed, DUO_RNG_WINDOW, (duo_place){.step = key, .position = 1});
    const uint64_t wide = (uint64_t)r.word[0] << 32 | r.word[1];
    data_copy_tokens(sampler->tokens, DUO_TRAIN,
                     domain->start + wide % domain->offsets + window * sampler->T, sampler->T + 1,
                     out);
}
