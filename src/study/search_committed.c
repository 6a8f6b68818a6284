#include <math.h>
#include <string.h>

#include "duo/kernels.h"
#include "search.h"
#include "sequences.h"

/* Tokens of a group of sequences are decided together, one position after the other; then all
 * advance by the routes that were chosen. */

enum { MAX_CACHE_BYTES = 256 << 20 }; /* of keys and values, while a group has several sequences */

typedef struct committed {
    study_search search;
    const duo_sequences *sequences;
    size_t group;      /* most sequences that are decided together */
    duo_cache cache;   /* of the chosen routes */
    duo_cache all_big; /* of the routes that are big everywhere; label-free only */
    uint8_t *big_routes;
    float *score, *loss; /* (group) */
    uint8_t *routes;     /* (group, L) */
} committed;

static bool label_free(const committed *c)
{
    return c->search.setting->goal == DUO_GOAL_LABEL_FREE;
}

static duo_status check(const duo_search_setting *setting, const duo_sequences *sequences,
                        const duo_config *config)
{
    duo_status status = study_search_check(setting, config);
    if (status == DUO_OK) status = study_sequences_check(sequences, config, DUO_EINVAL, "search");
    if (status == DUO_OK && !setting->schedule)
        status = duo_budget_check(&setting->budget, setting->modules, config);
    for (size_t t = 0; setting->schedule && t < sequences->T && status == DUO_OK; t++)
        status = duo_budget_check(&setting->schedule[t], setting->modules, config);
    for (size_t i = 0; setting->targets && i < sequences->R * sequences->T; i++) {
        const int32_t id = setting->targets[i];
        if (status == DUO_OK && (id < 0 || (size_t)id >= config->vocab_size))
            status = duo_fail(DUO_EINVAL,
                              "search: target %zu of sequence %zu is %d, outside the vocabulary of "
                              "%zu",
                              i % sequences->T, i / sequences->T, (int)id, config->vocab_size);
    }
    return status;
}

static duo_status size(committed *c)
{
    const duo_config *config = &c->search.model->params.config;
    const size_t R = c->sequences->R, T = c->sequences->T;
    const size_t most =
        duo_cache_rows(config, R, T, (size_t)MAX_CACHE_BYTES / (label_free(c) ? 2 : 1));
    const size_t groups = (R + most - 1) / most;
    const duo_status status = study_search_size(&c->search, (R + groups - 1) / groups, T);
    c->group = c->search.roots.n;
    return status;
}

static void lay_out(committed *c, duo_arena *arena)
{
    study_search *s = &c->search;
    const duo_params *params = &s->model->params;
    const size_t G = c->group, T = c->sequences->T, L = s->L;
    duo_cache_take(&c->cache, params, G, T, arena);
    if (label_free(c)) {
        duo_cache_take(&c->all_big, params, G, T, arena);
        c->big_routes = DUO_TAKE(arena, uint8_t, G * L);
    }
    study_search_take(s, G, T, arena);
    c->score = DUO_TAKE(arena, float, G);
    c->loss = DUO_TAKE(arena, float, G);
    c->routes = DUO_TAKE(arena, uint8_t, G * L);
}

static duo_status prepare(committed *c, const duo_model *model, const duo_sequences *sequences,
                          const duo_search_setting *setting)
{
    const duo_config *config = &model->params.config;
    *c = (committed){.search = {.model = model,
                                .setting = setting,
                                .L = config->n_layers,
                                .V = config->vocab_size,
                                .cells = 1,
                                .n_contests = 1},
                     .sequences = sequences};
    c->search.contests[0].measure = label_free(c) ? STUDY_EXPECTED_LOSS : STUDY_LOSS;
    const duo_status status = check(setting, sequences, config);
    return status == DUO_OK ? size(c) : status;
}

/* Position t of the sequences first .. first + G-1. */
static duo_status decide(committed *c, size_t first, size_t G, size_t t, duo_trace *trace)
{
    study_search *s = &c->search;
    const duo_search_setting *setting = s->setting;
    const size_t T = c->sequences->T, L = s->L;
    const duo_budget *budget = setting->schedule ? &setting->schedule[t] : &setting->budget;
    s->rule = study_budget_rule_of(budget, setting->modules, &s->model->params.config);
    for (size_t i = 0; i < G; i++) {
        const size_t n = (first + i) * T + t;
        const int32_t *token = c->sequences->tokens + n + first + i;
        s->roots.tokens[i] = token[0];
        s->roots.sequences[i] = (uint32_t)i;
        s->roots.positions[i] = (uint32_t)t;
        s->targets[i] = setting->targets ? setting->targets[n] : token[1];
    }
    if (label_free(c)) {
        const duo_routing all_big = {.kind = DUO_ROUTING_GIVEN, .routes = c->big_routes};
        duo_decode(s->tree.nodes, s->model, &c->all_big, s->roots.tokens, &all_big, s->q);
        duo_softmax_forward(s->q, s->q, G, s->V);
    }
    study_search_decide(s);
    for (size_t i = 0; i < G; i++) {
        const size_t n = (first + i) * T + t;
        if (!isfinite(c->score[i])) /* NaN is never the best, so it leaves infinity */
            return duo_fail(DUO_ENUMBER,
                            "search: no route of position %zu of sequence %zu has a finite loss", t,
                            first + i);
        trace->loss[n] = c->loss[i];
        memcpy(trace->routes + n * L, c->routes + i * L, L);
    }
    const duo_routing chosen = {.kind = DUO_ROUTING_GIVEN, .routes = c->routes};
    duo_decode(s->tree.nodes, s->model, &c->cache, s->roots.tokens, &chosen, NULL);
    return DUO_OK;
}

static void start_group(committed *c, size_t G)
{
    study_search *s = &c->search;
    c->cache.S = c->all_big.S = s->roots.n = G;
    memset(c->cache.lengths, 0, G * sizeof *c->cache.lengths);
    if (!label_free(c)) return;
    memset(c->all_big.lengths, 0, G * sizeof *c->all_big.lengths);
    duo_routes_fill(c->big_routes, G, s->L, DUO_BIG);
}

duo_status duo_search_committed(const duo_model *model, const duo_sequences *sequences,
                                const duo_search_setting *setting, duo_trace *trace,
                                duo_study_progress *progress, void *context)
{
    const size_t R = sequences->R, T = sequences->T;
    committed c;
    duo_status status = prepare(&c, model, sequences, setting);
    if (status != DUO_OK) return status;
    duo_arena arena = {0}, measure = DUO_ARENA_MEASURE;
    lay_out(&c, &measure);
    status = duo_arena_create(&arena, measure.used, "search");
    if (status != DUO_OK) return status;
    lay_out(&c, &arena);
    study_contest *contest = &c.search.contests[0];
    contest->score = c.score;
    contest->loss = c.loss;
    contest->routes = c.routes;
    c.search.roots.cache = &c.cache;
    for (size_t first = 0; first < R && status == DUO_OK; first += c.group) {
        const size_t G = R - first < c.group ? R - first : c.group;
        start_group(&c, G);
        for (size_t t = 0; t < T && status == DUO_OK; t++) {
            status = decide(&c, first, G, t, trace);
            if (progress && status == DUO_OK) progress(context, first * T + (t + 1) * G, R * T);
        }
    }
    if (setting->spent) *setting->spent += c.search.tree.flops;
    duo_arena_free(&arena);
    return status;
}

size_t duo_search_rows(const duo_model *model, const duo_sequences *sequences,
                       const duo_search_setting *setting)
{
    committed c;
    return prepare(&c, model, sequences, setting) == DUO_OK ? c.group : 1;
}
