#include <math.h>
#include <string.h>

#include "duo/kernels.h"
#include "search.h"
#include "sequences.h"

/* One pass over some sequences gives the keys and values of the routes at hand; then every token is
 * the root of a tree of its own, and as many are grown together as memory allows. */

enum {
    MAX_CACHE_BYTES = 128 << 20, /* of keys and values, while there are several sequences */
    MAX_LOGITS = 16 << 20        /* floats of the all-big distributions, likewise */
};

typedef struct value_search {
    duo_search search;
    const duo_sequences *sequences;
    duo_completion completion;
    const uint8_t *routes; /* (R, T, L) */
    float *values;         /* (R, T, L, DUO_MODULES) */

    size_t rows;  /* most sequences with keys and values */
    size_t batch; /* most tokens whose routes are grown together */
    size_t first; /* the token that root 0 is */
    duo_cache cache;
    float *q;         /* (rows, T, V): label-free only */
    uint8_t *current; /* (rows, T, L): routes of a pass */
    uint8_t *list;    /* (batch * most, L): the same completions only, and */
    uint32_t *ends;   /* (batch + 1) */
    size_t scratch;   /* where in the arena pass and search stand, one after the other */
} value_search;

static bool label_free(const value_search *v)
{
    return v->search.setting->goal == DUO_GOAL_LABEL_FREE;
}

/* ---------------------------------------------------------------- memory */

static size_t at_least_one(double held, size_t most)
{
    return held < 1 ? 1 : held < (double)most ? (size_t)held : most;
}

static duo_status size(value_search *v)
{
    duo_search *s = &v->search;
    const duo_config *config = &s->model->params.config;
    const size_t R = v->sequences->R, T = v->sequences->T;
    const size_t KV = config->n_kv_heads * duo_head_width(config);
    const double bytes = 2.0 * sizeof(float) * (double)(s->L * T * KV);
    v->rows = at_least_one(MAX_CACHE_BYTES / bytes, R);
    if (label_free(v)) v->rows = at_least_one(MAX_LOGITS / (double)(T * s->V), v->rows);
    const duo_status status = duo_search_size(s, v->rows * T, T);
    v->batch = s->roots.n;
    return status;
}

static duo_pass *lay_out_pass(const value_search *v, size_t rows, duo_arena *arena)
{
    const duo_pass_shape shape = {.B = rows, .T = v->sequences->T, .keep_kv = true};
    return duo_pass_take(&v->search.model->params, shape, arena);
}

static void lay_out(value_search *v, duo_arena *arena)
{
    const duo_search *s = &v->search;
    const size_t L = s->L, T = v->sequences->T;
    duo_cache_take(&v->cache, &s->model->params, v->rows, T, arena);
    v->current = DUO_TAKE(arena, uint8_t, v->rows * T * L);
    if (label_free(v)) v->q = DUO_TAKE(arena, float, v->rows *T * s->V);
    if (v->completion == DUO_COMPLETE_SAME) {
        v->list = DUO_TAKE(arena, uint8_t, v->batch * s->most_list * L);
        v->ends = DUO_TAKE(arena, uint32_t, v->batch + 1);
    }
    v->scratch = arena->used;
}

static size_t measure(value_search *v)
{
    duo_arena pass = DUO_ARENA_MEASURE, search = DUO_ARENA_MEASURE;
    lay_out(v, &pass);
    search.used = pass.used;
    lay_out_pass(v, v->rows, &pass);
    duo_search_take(&v->search, v->batch, v->sequences->T, &search);
    return pass.used > search.used ? pass.used : search.used;
}

/* ---------------------------------------------------------------- leaves */

static void improve(float *value, float score)
{
    if (score < *value) *value = score; /* NaN never is */
}

/* A route leaves the one at hand at some layer: up to there it completes that one's own choices,
 * and there it begins with another module. */
static void offer(const value_search *v, size_t token, const uint8_t *route, float score)
{
    const size_t L = v->search.L;
    const uint8_t *own = v->routes + token * L;
    float *values = v->values + token * L * DUO_MODULES;
    size_t leaves = 0;
    while (leaves < L && route[leaves] == own[leaves]) leaves++;
    if (leaves < L) improve(values + leaves * DUO_MODULES + route[leaves], score);
    if (leaves < L && v->completion == DUO_COMPLETE_SAME) return;
    for (size_t l = 0; l < leaves; l++) improve(values + l * DUO_MODULES + own[l], score);
}

static void visit(void *context, const duo_route_tree *tree, size_t first, size_t n,
                  const float *logits)
{
    value_search *v = context;
    duo_search *s = &v->search;
    const uint32_t *root = tree->levels[s->L].root + first;
    uint8_t route[DUO_MAX_LEVELS];
    duo_search_measure(s, root, n, logits);
    for (size_t i = 0; i < n; i++) {
        duo_route_tree_route(tree, first + i, route);
        offer(v, v->first + root[i], route, s->values[s->contests[0].measure][i]);
    }
}

/* ---------------------------------------------------------------- a batch of tokens */

/* The route at hand, and those that differ in one layer: the last first, so that prefixes that are
 * shared stand together. */
static void list_changes(value_search *v, size_t n)
{
    const duo_search *s = &v->search;
    const size_t L = s->L;
    uint32_t listed = 0;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *own = v->routes + (v->first + i) * L;
        v->ends[i] = listed;
        memcpy(v->list + (size_t)listed++ * L, own, L);
        for (size_t l = L; l-- > 0;)
            for (duo_module m = 0; m < DUO_MODULES; m++) {
                if (m == own[l] || !duo_module_in(s->setting->modules, m)) continue;
                uint8_t *changed = memcpy(v->list + (size_t)listed++ * L, own, L);
                changed[l] = (uint8_t)m;
            }
    }
    v->ends[n] = listed;
}

static void value_tokens(value_search *v, size_t first_row, size_t n0, size_t n)
{
    duo_search *s = &v->search;
    const size_t T = v->sequences->T;
    s->roots.n = n;
    v->first = n0;
    for (size_t i = 0; i < n; i++) {
        const size_t row = (n0 + i) / T;
        const int32_t *token = v->sequences->tokens + n0 + i + row;
        s->roots.tokens[i] = token[0];
        s->roots.sequences[i] = (uint32_t)(row - first_row);
        s->roots.positions[i] = (uint32_t)((n0 + i) % T);
        s->targets[i] = token[1];
    }
    if (label_free(v)) s->q = v->q + (n0 - first_row * T) * s->V;
    duo_route_choice choice = {.rule = &s->rule};
    if (v->completion == DUO_COMPLETE_SAME) {
        list_changes(v, n);
        choice = (duo_route_choice){.list = v->list, .first = v->ends};
    }
    duo_route_tree_grow(&s->tree, &s->roots, &choice, visit, NULL, v);
}

/* ---------------------------------------------------------------- all tokens */

/* Keys and values of sequences first .. first + rows-1 on their routes, and what the all-big model
 * predicts for them. */
static void fill_cache(value_search *v, size_t first, size_t rows, duo_arena *arena)
{
    duo_search *s = &v->search;
    const size_t T = v->sequences->T, L = s->L;
    const int32_t *tokens = v->sequences->tokens + first * (T + 1);
    const duo_routing routing = {.kind = DUO_ROUTING_GIVEN, .routes = v->current};
    duo_arena_rewind(arena, v->scratch);
    duo_pass *pass = lay_out_pass(v, rows, arena);
    v->cache.S = rows;
    if (label_free(v)) {
        duo_routes_fill(v->current, rows * T, L, DUO_BIG);
        duo_pass_forward(pass, s->model, tokens, &routing);
        duo_pass_logits(pass, s->model, v->q);
        duo_softmax_forward(v->q, v->q, rows * T, s->V);
    }
    memcpy(v->current, v->routes + first * T * L, rows * T * L);
    duo_pass_forward(pass, s->model, tokens, &routing);
    duo_cache_fill(&v->cache, pass, T);
    duo_arena_rewind(arena, v->scratch);
}

static void value_all(value_search *v, duo_arena *arena, duo_study_progress *progress,
                      void *context)
{
    const size_t R = v->sequences->R, T = v->sequences->T;
    duo_search *s = &v->search;
    lay_out(v, arena);
    s->roots.cache = &v->cache;
    for (size_t i = 0; i < R * T * s->L * DUO_MODULES; i++) v->values[i] = INFINITY;
    for (size_t first = 0; first < R; first += v->rows) {
        const size_t rows = R - first < v->rows ? R - first : v->rows;
        const size_t end = (first + rows) * T;
        fill_cache(v, first, rows, arena);
        duo_search_take(s, v->batch, T, arena);
        for (size_t n = first * T; n < end; n += v->batch) {
            const size_t tokens = end - n < v->batch ? end - n : v->batch;
            value_tokens(v, first, n, tokens);
            if (progress) progress(context, n + tokens, R * T);
        }
    }
}

/* A token whose routes all have no finite score. */
static duo_status check_values(const value_search *v)
{
    const size_t T = v->sequences->T, cells = v->search.L * DUO_MODULES;
    for (size_t n = 0; n < v->sequences->R * T; n++) {
        bool any = false;
        for (size_t i = 0; i < cells; i++) any = any || isfinite(v->values[n * cells + i]);
        if (!any)
            return duo_fail(DUO_ENUMBER,
                            "search: no route of position %zu of sequence %zu has a finite loss",
                            n % T, n / T);
    }
    return DUO_OK;
}

static duo_status check(const value_search *v)
{
    const duo_search *s = &v->search;
    const duo_search_setting *setting = s->setting;
    const duo_config *config = &s->model->params.config;
    duo_status status = duo_search_check(setting, config);
    if (status == DUO_OK) status = duo_sequences_check(v->sequences, config, DUO_EINVAL, "search");
    if (status == DUO_OK) status = duo_budget_check(&setting->budget, setting->modules, config);
    if (status != DUO_OK) return status;
    if (setting->method != DUO_SEARCH_EXACT || setting->schedule || setting->targets)
        return duo_fail(DUO_EINVAL, "search: values are of an exhaustive search under one budget, "
                                    "for the true targets");
    for (size_t i = 0; i < v->sequences->R * v->sequences->T * s->L; i++)
        if (!duo_module_in(setting->modules, (duo_module)v->routes[i]))
            return duo_fail(DUO_EINVAL,
                            "search: the routes take %d at layer %zu of position %zu, which is "
                            "none of the modules that are searched",
                            (int)v->routes[i], i % s->L, i / s->L % v->sequences->T);
    return DUO_OK;
}

duo_status duo_search_values(const duo_model *model, const duo_sequences *sequences,
                             const duo_search_setting *setting, duo_completion completion,
                             const uint8_t *routes, float *values, duo_study_progress *progress,
                             void *context)
{
    const duo_config *config = &model->params.config;
    const bool same = completion == DUO_COMPLETE_SAME;
    duo_search_setting used = *setting;
    if (same) used.budget = (duo_budget){.kind = DUO_BUDGET_NONE};
    value_search v = {.search = {.model = model,
                                 .setting = &used,
                                 .L = config->n_layers,
                                 .V = config->vocab_size,
                                 .cells = 1,
                                 .n_contests = 1},
                      .sequences = sequences,
                      .completion = completion,
                      .routes = routes,
                      .values = values};
    duo_search *s = &v.search;
    duo_arena arena = {0};
    s->contests[0].measure = label_free(&v) ? DUO_EXPECTED_LOSS : DUO_LOSS;
    s->rule = duo_budget_rule_of(&used.budget, used.modules, config);
    if (same) s->most_list = 1 + s->L * (duo_module_count(used.modules) - 1);
    duo_status status = check(&v);
    if (status == DUO_OK) status = size(&v);
    if (status == DUO_OK) status = duo_arena_create(&arena, measure(&v), "search");
    if (status != DUO_OK) return status;
    value_all(&v, &arena, progress, context);
    if (setting->spent) *setting->spent += s->tree.flops;
    duo_arena_free(&arena);
    return check_values(&v);
}
