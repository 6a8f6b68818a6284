#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "duo/kernels.h"
#include "duo/rng.h"
#include "sequences.h"
#include "token_walk.h"

/* For every token the best route of every number of big FFNs, on the keys and values of one
 * pattern. */

/* ---------------------------------------------------------------- results */

static bool create_curve(duo_route_curve *curve, size_t cells, size_t L)
{
    size_t routes = 0;
    if (!duo_multiply(&routes, cells, L)) return false;
    curve->routes = calloc(routes, sizeof *curve->routes);
    curve->loss = calloc(cells, sizeof *curve->loss);
    return curve->routes && curve->loss;
}

duo_status duo_reference_create(duo_reference *reference, const duo_sequences *sequences, size_t L)
{
    const size_t N = sequences->R * sequences->T;
    size_t cells = 0;
    *reference = (duo_reference){0};
    if (duo_multiply(&cells, N, L + 1) && create_curve(&reference->oracle, cells, L) &&
        create_curve(&reference->control, cells, L) &&
        create_curve(&reference->label_free, cells, L)) {
        reference->expected = calloc(cells, sizeof *reference->expected);
        reference->drawn = calloc(N, sizeof *reference->drawn);
    }
    if (reference->expected && reference->drawn) return DUO_OK;
    duo_reference_free(reference);
    return duo_fail(DUO_ENOMEM, "no memory for the curves of %zu tokens through %zu layers", N, L);
}

static void free_curve(duo_route_curve *curve)
{
    free(curve->routes);
    free(curve->loss);
}

void duo_reference_free(duo_reference *reference)
{
    free_curve(&reference->oracle);
    free_curve(&reference->control);
    free_curve(&reference->label_free);
    free(reference->expected);
    free(reference->drawn);
    *reference = (duo_reference){0};
}

/* ---------------------------------------------------------------- memory */

typedef struct reference_search {
    study_token_walk walk; /* first: the walk's functions find the rest by it */
    const uint8_t *pattern;
    uint64_t seed;
    size_t study_row; /* the number of the first sequence in all of the study */
    duo_reference *found;
    uint8_t *big_route; /* (batch, L) */
    uint32_t *ones;     /* (batch + 1): 0, 1, 2, ... */
} reference_search;

static duo_status size(reference_search *r)
{
    study_search *s = &r->walk.search;
    const size_t T = r->walk.sequences->T;
    duo_status status = study_search_size(s, study_token_walk_rows(&r->walk) * T, T);
    if (status != DUO_OK) return status;
    r->walk.rows = (s->roots.n + T - 1) / T; /* no more than the tokens need */
    status = study_search_size(s, r->walk.rows * T, T);
    r->walk.batch = s->roots.n;
    return status;
}

static void take(study_token_walk *walk, duo_arena *arena)
{
    reference_search *r = (reference_search *)walk;
    const size_t batch = walk->batch, L = walk->search.L;
    r->big_route = DUO_TAKE(arena, uint8_t, batch * L);
    r->ones = DUO_TAKE(arena, uint32_t, batch + 1);
    if (!arena->base) return;
    duo_routes_fill(r->big_route, batch, L, DUO_BIG);
    for (size_t i = 0; i <= batch; i++) r->ones[i] = (uint32_t)i;
}

static void set_routes(study_token_walk *walk, size_t n, duo_pass *pass)
{
    const reference_search *r = (const reference_search *)walk;
    (void)pass;
    duo_routes_repeat(walk->routes, n * walk->sequences->T, walk->search.L, r->pattern);
}

/* ---------------------------------------------------------------- a batch of tokens */

static void keep_distribution(void *context, const study_route_tree *tree, size_t first, size_t n,
                              const float *logits)
{
    study_search *s = context;
    const uint32_t *root = tree->levels[s->L].root + first;
    for (size_t i = 0; i < n; i++)
        duo_softmax_forward(s->q + root[i] * s->V, logits + i * s->V, 1, s->V);
}

static int32_t draw(const float *q, size_t V, double u)
{
    double sum = 0, passed = 0;
    size_t last = 0; /* of a probability above 0: rounding must not pass it */
    for (size_t v = 0; v < V; v++) sum += (double)q[v];
    for (size_t v = 0; v < V; v++) {
        if (!(q[v] > 0)) continue;
        last = v;
        passed += (double)q[v];
        if (u * sum < passed) break;
    }
    return (int32_t)last;
}

/* Tokens n0 .. n0+n-1, counted from the first token of all sequences. */
static void draw_targets(reference_search *r, size_t n0, size_t n)
{
    study_search *s = &r->walk.search;
    const size_t T = r->walk.sequences->T;
    const study_route_choice all_big = {.list = r->big_route, .first = r->ones};
    study_route_tree_grow(&s->tree, &s->roots, &all_big, keep_distribution, NULL, s);
    for (size_t i = 0; i < n; i++) {
        const double u = study_control_uniform(r->seed, r->study_row + (n0 + i) / T, (n0 + i) % T);
        s->drawn[i] = draw(s->q + i * s->V, s->V, u);
    }
    memcpy(r->found->drawn + n0, s->drawn, n * sizeof *s->drawn);
}

static duo_status decide(study_token_walk *walk, size_t n0, size_t n)
{
    reference_search *r = (reference_search *)walk;
    study_search *s = &walk->search;
    const size_t L = s->L, cells = L + 1, at = n0 * cells;
    duo_reference *found = r->found;
    draw_targets(r, n0, n);
    const study_contest contests[STUDY_MEASURES] = {
        {STUDY_LOSS, found->oracle.loss + at, NULL, found->oracle.routes + at * L},
        {STUDY_DRAWN_LOSS, found->control.loss + at, NULL, found->control.routes + at * L},
        {STUDY_EXPECTED_LOSS, found->expected + at, found->label_free.loss + at,
         found->label_free.routes + at * L},
    };
    memcpy(s->contests, contests, sizeof contests);
    for (size_t i = 0; i < n * cells; i++) found->label_free.loss[at + i] = INFINITY;
    study_search_decide(s);
    for (size_t i = 0; i < n; i++) {
        bool any = false;
        for (size_t b = 0; b < cells; b++)
            any = any || (found->oracle.loss[at + i * cells + b] < INFINITY &&
                          found->expected[at + i * cells + b] < INFINITY);
        if (!any) return study_token_walk_no_route(walk, n0 + i);
    }
    return DUO_OK;
}

/* ---------------------------------------------------------------- all tokens */

static duo_status check(const duo_search_setting *setting, const duo_sequences *sequences,
                        const uint8_t *pattern, const duo_config *config)
{
    duo_status status = study_search_check(setting, config);
    if (status == DUO_OK) status = study_sequences_check(sequences, config, DUO_EINVAL, "search");
    if (status != DUO_OK) return status;
    if (setting->method == DUO_SEARCH_GREEDY)
        return duo_fail(DUO_EINVAL, "search: in reference context every number of big is sought at "
                                    "once, which a greedy search cannot do");
    for (size_t l = 0; l < config->n_layers; l++)
        if (pattern[l] >= DUO_MODULES)
            return duo_fail(DUO_EINVAL, "search: layer %zu of the pattern takes %d, no module", l,
                            (int)pattern[l]);
    return DUO_OK;
}

duo_status duo_search_reference(const duo_model *model, const duo_sequences *sequences,
                                const duo_search_setting *setting, const uint8_t *pattern,
                                uint64_t seed, size_t first_row, duo_reference *reference,
                                duo_study_progress *progress, void *context)
{
    const duo_config *config = &model->params.config;
    const duo_budget none = {.kind = DUO_BUDGET_NONE};
    reference_search r = {
        .walk = {.search = {.model = model,
                            .setting = setting,
                            .L = config->n_layers,
                            .V = config->vocab_size,
                            .cells = config->n_layers + 1,
                            .rule = study_budget_rule_of(&none, setting->modules, config),
                            .contests = {{.measure = STUDY_LOSS},
                                         {.measure = STUDY_DRAWN_LOSS},
                                         {.measure = STUDY_EXPECTED_LOSS}},
                            .n_contests = STUDY_MEASURES},
                 .sequences = sequences,
                 .take = take,
                 .set_routes = set_routes,
                 .decide = decide},
        .pattern = pattern,
        .seed = seed,
        .study_row = first_row,
        .found = reference};
    duo_status status = check(setting, sequences, pattern, config);
    if (status == DUO_OK) status = size(&r);
    if (status == DUO_OK) status = study_token_walk_run(&r.walk, progress, context);
    if (setting->spent) *setting->spent += r.walk.search.tree.flops;
    return status;
}
