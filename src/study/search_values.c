#include <math.h>
#include <string.h>

#include "duo/kernels.h"
#include "sequences.h"
#include "token_walk.h"

/* For every token and layer what each module is worth, on the keys and values of the routes at
 * hand. */

enum { MAX_LOGITS = 16 << 20 }; /* floats of all-big distributions, while there are several rows */

typedef struct value_search {
    study_token_walk walk; /* first: the walk's functions find the rest by it */
    duo_completion completion;
    const uint8_t *routes; /* (R, T, L) */
    float *values;         /* (R, T, L, DUO_MODULES) */
    size_t first;          /* the token that root 0 is */
    float *q;              /* (rows, T, V): label-free only */
    uint8_t *list;         /* (batch * most, L): the same completions only, and */
    uint32_t *ends;        /* (batch + 1) */
} value_search;

static bool label_free(const value_search *v)
{
    return v->walk.search.setting->goal == DUO_GOAL_LABEL_FREE;
}

/* ---------------------------------------------------------------- memory */

static duo_status size(value_search *v)
{
    study_search *s = &v->walk.search;
    const size_t T = v->walk.sequences->T, held = MAX_LOGITS / (T * s->V);
    v->walk.rows = study_token_walk_rows(&v->walk);
    if (label_free(v) && v->walk.rows > held) v->walk.rows = held < 1 ? 1 : held;
    const duo_status status = study_search_size(s, v->walk.rows * T, T);
    v->walk.batch = s->roots.n;
    return status;
}

static void take(study_token_walk *walk, duo_arena *arena)
{
    value_search *v = (value_search *)walk;
    const study_search *s = &walk->search;
    if (label_free(v)) v->q = DUO_TAKE(arena, float, walk->rows * walk->sequences->T * s->V);
    if (v->completion != DUO_COMPLETE_SAME) return;
    v->list = DUO_TAKE(arena, uint8_t, walk->batch * s->most_list * s->L);
    v->ends = DUO_TAKE(arena, uint32_t, walk->batch + 1);
}

/* The routes at hand; and what the all-big model predicts. */
static void set_routes(study_token_walk *walk, size_t n, duo_pass *pass)
{
    value_search *v = (value_search *)walk;
    const study_search *s = &walk->search;
    const size_t T = walk->sequences->T;
    if (label_free(v)) {
        duo_routes_fill(walk->routes, n * T, s->L, DUO_BIG);
        study_token_walk_pass(walk, pass);
        duo_pass_logits(pass, s->model, v->q);
        duo_softmax_forward(v->q, v->q, n * T, s->V);
    }
    memcpy(walk->routes, v->routes + walk->first_row * T * s->L, n * T * s->L);
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
    const size_t L = v->walk.search.L;
    const uint8_t *own = v->routes + token * L;
    float *values = v->values + token * L * DUO_MODULES;
    size_t leaves = 0;
    while (leaves < L && route[leaves] == own[leaves]) leaves++;
    if (leaves < L) improve(values + leaves * DUO_MODULES + route[leaves], score);
    if (leaves < L && v->completion == DUO_COMPLETE_SAME) return;
    for (size_t l = 0; l < leaves; l++) improve(values + l * DUO_MODULES + own[l], score);
}

static void visit(void *context, const study_route_tree *tree, size_t first, size_t n,
                  const float *logits)
{
    value_search *v = context;
    study_search *s = &v->walk.search;
    const uint32_t *root = tree->levels[s->L].root + first;
    uint8_t route[STUDY_LEVELS];
    study_search_measure(s, root, n, logits);
    for (size_t i = 0; i < n; i++) {
        study_route_tree_route(tree, first + i, route);
        offer(v, v->first + root[i], route, s->values[s->contests[0].measure][i]);
    }
}

/* ---------------------------------------------------------------- a batch of tokens */

/* The route at hand, and those that differ in one layer: the last first, so that prefixes that are
 * shared stand together. */
static void list_changes(value_search *v, size_t n)
{
    const study_search *s = &v->walk.search;
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

static duo_status decide(study_token_walk *walk, size_t n0, size_t n)
{
    value_search *v = (value_search *)walk;
    study_search *s = &walk->search;
    v->first = n0;
    if (label_free(v)) s->q = v->q + (n0 - walk->first_row * walk->sequences->T) * s->V;
    study_route_choice choice = {.rule = &s->rule};
    if (v->completion == DUO_COMPLETE_SAME) {
        list_changes(v, n);
        choice = (study_route_choice){.list = v->list, .first = v->ends};
    }
    study_route_tree_grow(&s->tree, &s->roots, &choice, visit, NULL, v);
    return DUO_OK;
}

/* ---------------------------------------------------------------- all tokens */

static duo_status check_values(const value_search *v)
{
    const size_t tokens = v->walk.sequences->R * v->walk.sequences->T;
    const size_t cells = v->walk.search.L * DUO_MODULES;
    for (size_t n = 0; n < tokens; n++) {
        bool any = false;
        for (size_t i = 0; i < cells; i++) any = any || isfinite(v->values[n * cells + i]);
        if (!any) return study_token_walk_no_route(&v->walk, n);
    }
    return DUO_OK;
}

static duo_status check(const value_search *v)
{
    const study_search *s = &v->walk.search;
    const duo_search_setting *setting = s->setting;
    const duo_config *config = &s->model->params.config;
    duo_status status = study_search_check(setting, config);
    if (status == DUO_OK)
        status = study_sequences_check(v->walk.sequences, config, DUO_EINVAL, "search");
    if (status == DUO_OK) status = duo_budget_check(&setting->budget, setting->modules, config);
    if (status != DUO_OK) return status;
    if (setting->method != DUO_SEARCH_EXACT || setting->schedule || setting->targets)
        return duo_fail(DUO_EINVAL, "search: values are of an exhaustive search under one budget, "
                                    "for the true targets");
    for (size_t i = 0; i < v->walk.sequences->R * v->walk.sequences->T * s->L; i++)
        if (!duo_module_in(setting->modules, (duo_module)v->routes[i]))
            return duo_fail(DUO_EINVAL,
                            "search: the routes take %d at layer %zu of position %zu, which is "
                            "none of the modules that are searched",
                            (int)v->routes[i], i % s->L, i / s->L % v->walk.sequences->T);
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
    value_search v = {.walk = {.search = {.model = model,
                                          .setting = &used,
                                          .L = config->n_layers,
                                          .V = config->vocab_size,
                                          .cells = 1,
                                          .n_contests = 1},
                               .sequences = sequences,
                               .take = take,
                               .set_routes = set_routes,
                               .decide = decide},
                      .completion = completion,
                      .routes = routes,
                      .values = values};
    study_search *s = &v.walk.search;
    s->contests[0].measure = label_free(&v) ? STUDY_EXPECTED_LOSS : STUDY_LOSS;
    s->rule = study_budget_rule_of(&used.budget, used.modules, config);
    if (same) s->most_list = 1 + s->L * (duo_module_count(used.modules) - 1);
    duo_status status = check(&v);
    if (status == DUO_OK) status = size(&v);
    if (status != DUO_OK) return status;
    const size_t cells = sequences->R * sequences->T * s->L * DUO_MODULES;
    for (size_t i = 0; i < cells; i++) values[i] = INFINITY;
    status = study_token_walk_run(&v.walk, progress, context);
    if (setting->spent) *setting->spent += s->tree.flops;
    return status == DUO_OK ? check_values(&v) : status;
}
