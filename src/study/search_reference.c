#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "duo/kernels.h"
#include "duo/rng.h"
#include "search.h"
#include "sequences.h"

/* One pass over some sequences gives the keys and values that their tokens see; then tokens are
 * independent, and as many are decided together as memory allows. */

enum { MAX_CACHE_BYTES = 128 << 20 }; /* of keys and values, while there are several sequences */

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
    duo_search search;
    const duo_sequences *sequences;
    const uint8_t *pattern;
    uint64_t seed;
    size_t first_row;
    duo_reference *found;

    size_t rows;  /* most sequences with keys and values */
    size_t batch; /* most tokens that are decided together */
    duo_cache cache;
    uint8_t *routes;    /* (rows, T, L): the pattern */
    uint8_t *big_route; /* (batch, L) */
    uint32_t *ones;     /* (batch + 1): 0, 1, 2, ... */
    size_t scratch;     /* where in the arena pass and search stand, one after the other */
} reference_search;

static duo_status size(reference_search *r)
{
    duo_search *s = &r->search;
    const duo_config *config = &s->model->params.config;
    const size_t R = r->sequences->R, T = r->sequences->T;
    const size_t KV = config->n_kv_heads * duo_head_width(config);
    const double bytes = 2.0 * sizeof(float) * (double)(s->L * T * KV);
    const double held = floor(MAX_CACHE_BYTES / bytes);
    const size_t most = held < 1 ? 1 : held < (double)R ? (size_t)held : R;
    duo_status status = duo_search_size(s, most * T, T);
    if (status != DUO_OK) return status;
    r->rows = (s->roots.n + T - 1) / T; /* no more than the tokens need */
    status = duo_search_size(s, r->rows * T, T);
    r->batch = s->roots.n;
    return status;
}

static duo_pass *lay_out_pass(const reference_search *r, size_t rows, duo_arena *arena)
{
    const duo_pass_shape shape = {.B = rows, .T = r->sequences->T, .keep_kv = true};
    return duo_pass_take(&r->search.model->params, shape, arena);
}

static void lay_out(reference_search *r, duo_arena *arena)
{
    const size_t L = r->search.L, T = r->sequences->T;
    duo_cache_take(&r->cache, &r->search.model->params, r->rows, T, arena);
    r->routes = DUO_TAKE(arena, uint8_t, r->rows * T * L);
    r->big_route = DUO_TAKE(arena, uint8_t, r->batch * L);
    r->ones = DUO_TAKE(arena, uint32_t, r->batch + 1);
    r->scratch = arena->used;
}

static size_t measure(reference_search *r)
{
    duo_arena pass = DUO_ARENA_MEASURE, search = DUO_ARENA_MEASURE;
    lay_out(r, &pass);
    search.used = pass.used;
    lay_out_pass(r, r->rows, &pass);
    duo_search_take(&r->search, r->batch, r->sequences->T, &search);
    return pass.used > search.used ? pass.used : search.used;
}

/* ---------------------------------------------------------------- a batch of tokens */

static void keep_distribution(void *context, const duo_route_tree *tree, size_t first, size_t n,
                              const float *logits)
{
    duo_search *s = context;
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
    duo_search *s = &r->search;
    const size_t T = r->sequences->T;
    const duo_route_choice all_big = {.list = r->big_route, .first = r->ones};
    duo_route_tree_grow(&s->tree, &s->roots, &all_big, keep_distribution, NULL, s);
    for (size_t i = 0; i < n; i++) {
        const uint64_t row = r->first_row + (n0 + i) / T;
        const duo_place place = {
            .step = row >> 32, .row = (uint32_t)row, .position = (uint32_t)((n0 + i) % T)};
        const double u = duo_uniform(duo_random(r->seed, DUO_RNG_CONTROL, place).word[0]);
        s->drawn[i] = draw(s->q + i * s->V, s->V, u);
    }
    memcpy(r->found->drawn + n0, s->drawn, n * sizeof *s->drawn);
}

static duo_status decide(reference_search *r, size_t first_row, size_t n0, size_t n)
{
    duo_search *s = &r->search;
    const size_t T = r->sequences->T, L = s->L, cells = L + 1, at = n0 * cells;
    duo_reference *found = r->found;
    s->roots.n = n;
    for (size_t i = 0; i < n; i++) {
        const size_t row = (n0 + i) / T;
        const int32_t *token = r->sequences->tokens + n0 + i + row;
        s->roots.tokens[i] = token[0];
        s->roots.sequences[i] = (uint32_t)(row - first_row);
        s->roots.positions[i] = (uint32_t)((n0 + i) % T);
        s->targets[i] = token[1];
    }
    draw_targets(r, n0, n);
    const duo_contest contests[DUO_MEASURES] = {
        {DUO_LOSS, found->oracle.loss + at, NULL, found->oracle.routes + at * L},
        {DUO_DRAWN_LOSS, found->control.loss + at, NULL, found->control.routes + at * L},
        {DUO_EXPECTED_LOSS, found->expected + at, found->label_free.loss + at,
         found->label_free.routes + at * L},
    };
    memcpy(s->contests, contests, sizeof contests);
    for (size_t i = 0; i < n * cells; i++) found->label_free.loss[at + i] = INFINITY;
    duo_search_decide(s);
    for (size_t i = 0; i < n; i++) {
        bool any = false;
        for (size_t b = 0; b < cells; b++)
            any = any || (found->oracle.loss[at + i * cells + b] < INFINITY &&
                          found->expected[at + i * cells + b] < INFINITY);
        if (!any)
            return duo_fail(DUO_ENUMBER,
                            "search: no route of position %zu of sequence %zu has a finite loss",
                            (n0 + i) % T, (n0 + i) / T);
    }
    return DUO_OK;
}

/* ---------------------------------------------------------------- all tokens */

/* Keys and values of sequences first .. first + rows-1 on the pattern. */
static void fill_cache(reference_search *r, size_t first, size_t rows, duo_arena *arena)
{
    const size_t T = r->sequences->T, L = r->search.L;
    const duo_routing routing = {.kind = DUO_ROUTING_GIVEN, .routes = r->routes};
    duo_arena_rewind(arena, r->scratch);
    duo_pass *pass = lay_out_pass(r, rows, arena);
    r->cache.S = rows;
    duo_routes_repeat(r->routes, rows * T, L, r->pattern);
    duo_pass_forward(pass, r->search.model, r->sequences->tokens + first * (T + 1), &routing);
    duo_cache_fill(&r->cache, pass, T);
    duo_arena_rewind(arena, r->scratch);
}

static duo_status search_all(reference_search *r, duo_arena *arena, duo_study_progress *progress,
                             void *context)
{
    const size_t R = r->sequences->R, T = r->sequences->T;
    duo_search *s = &r->search;
    duo_status status = DUO_OK;
    lay_out(r, arena);
    duo_routes_fill(r->big_route, r->batch, s->L, DUO_BIG);
    for (size_t i = 0; i <= r->batch; i++) r->ones[i] = (uint32_t)i;
    s->roots.cache = &r->cache;
    for (size_t first = 0; first < R && status == DUO_OK; first += r->rows) {
        const size_t rows = R - first < r->rows ? R - first : r->rows;
        const size_t end = (first + rows) * T;
        fill_cache(r, first, rows, arena);
        duo_search_take(s, r->batch, T, arena);
        for (size_t n = first * T; n < end && status == DUO_OK; n += r->batch) {
            const size_t tokens = end - n < r->batch ? end - n : r->batch;
            status = decide(r, first, n, tokens);
            if (progress && status == DUO_OK) progress(context, n + tokens, R * T);
        }
    }
    return status;
}

static duo_status check(const duo_search_setting *setting, const duo_sequences *sequences,
                        const uint8_t *pattern, const duo_config *config)
{
    duo_status status = duo_search_check(setting, config);
    if (status == DUO_OK) status = duo_sequences_check(sequences, config, DUO_EINVAL, "search");
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
    reference_search r = {.search = {.model = model,
                                     .setting = setting,
                                     .L = config->n_layers,
                                     .V = config->vocab_size,
                                     .cells = config->n_layers + 1,
                                     .rule = duo_budget_rule_of(&none, setting->modules, config),
                                     .contests = {{.measure = DUO_LOSS},
                                                  {.measure = DUO_DRAWN_LOSS},
                                                  {.measure = DUO_EXPECTED_LOSS}},
                                     .n_contests = DUO_MEASURES},
                          .sequences = sequences,
                          .pattern = pattern,
                          .seed = seed,
                          .first_row = first_row,
                          .found = reference};
    duo_arena arena = {0};
    duo_status status = check(setting, sequences, pattern, config);
    if (status == DUO_OK) status = size(&r);
    if (status == DUO_OK) status = duo_arena_create(&arena, measure(&r), "search");
    if (status != DUO_OK) return status;
    status = search_all(&r, &arena, progress, context);
    if (setting->spent) *setting->spent += r.search.tree.flops;
    duo_arena_free(&arena);
    return status;
}
