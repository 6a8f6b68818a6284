#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "duo/baseline.h"
#include "evaluator.h"
#include "pattern.h"
#include "sequences.h"
#include "token_walk.h"

/* Draws of per_sequence stand at position 0, those of a token behind it. */
typedef struct draws {
    const duo_random_setting *setting;
    duo_module other;
    size_t L, n;
    uint8_t *all; /* (n, L): every pattern, where there are no more than draws; or NULL */
} draws;

static duo_status draws_open(draws *d, const duo_random_setting *setting, size_t L)
{
    *d = (draws){.setting = setting, .L = L, .n = setting->draws};
    if (setting->draws == 0) return duo_fail(DUO_EINVAL, "random patterns: none is wanted");
    if (setting->big > L)
        return duo_fail(DUO_EINVAL, "random patterns: %zu big, the model has %zu layers",
                        setting->big, L);
    const duo_status status = study_pattern_other(&d->other, setting->modules, "random patterns");
    if (status != DUO_OK) return status;
    const double count = study_pattern_count(L, setting->big);
    if (count > (double)setting->draws) return DUO_OK;
    d->n = (size_t)(count + 0.5);
    d->all = calloc(d->n, L);
    if (!d->all) return duo_fail(DUO_ENOMEM, "no memory for %zu patterns", d->n);
    study_pattern_first(d->all, L, setting->big, d->other);
    for (size_t i = 1; i < d->n; i++) {
        memcpy(d->all + i * L, d->all + (i - 1) * L, L);
        study_pattern_next(d->all + i * L, L, d->other);
    }
    return DUO_OK;
}

static void draws_close(draws *d)
{
    free(d->all);
}

/* Draw i of n for row r, counted in these sequences, and a place in it. */
static void draw(const draws *d, uint8_t *pattern, size_t i, size_t r, size_t place)
{
    const duo_random_setting *s = d->setting;
    if (d->all)
        memcpy(pattern, d->all + i * d->L, d->L);
    else
        study_pattern_draw(pattern, d->L, s->big, d->other, s->seed, i, s->first_row + r, place);
}

/* As in a search: what is not finite never stays where something finite is. */
static bool better(double loss, double kept)
{
    return isfinite(loss) && !(isfinite(kept) && kept <= loss);
}

/* ---------------------------------------------------------------- per sequence */

static double sum_of(const float *loss, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)loss[i];
    return sum;
}

static void try_draw(const draws *d, size_t i, study_evaluator *evaluator,
                     const duo_sequences *sequences, duo_trace *tried, duo_trace *best)
{
    const size_t R = sequences->R, T = sequences->T, L = d->L;
    for (size_t first = 0, n = 0; first < R; first += n) {
        n = R - first < evaluator->rows ? R - first : evaluator->rows;
        uint8_t pattern[DUO_MAX_LAYERS];
        for (size_t r = 0; r < n; r++) {
            draw(d, pattern, i, first + r, 0);
            duo_routes_repeat(tried->routes + r * T * L, T, L, pattern);
        }
        const duo_routing routing = {.kind = DUO_ROUTING_GIVEN, .routes = tried->routes};
        study_evaluator_run(evaluator, sequences->tokens + first * (T + 1), n, &routing,
                            tried->loss);
        for (size_t r = 0; r < n; r++) {
            float *kept = best->loss + (first + r) * T;
            if (i > 0 && !better(sum_of(tried->loss + r * T, T), sum_of(kept, T))) continue;
            memcpy(kept, tried->loss + r * T, T * sizeof *kept);
            memcpy(best->routes + (first + r) * T * L, tried->routes + r * T * L, T * L);
        }
    }
}

static duo_status check_loss(const duo_trace *trace, size_t R, size_t T)
{
    for (size_t i = 0; i < R * T; i++)
        if (!isfinite(trace->loss[i]))
            return duo_fail(DUO_ENUMBER,
                            "random patterns: none has a finite loss at position %zu of sequence "
                            "%zu",
                            i % T, i / T);
    return DUO_OK;
}

duo_status duo_random_per_sequence(const duo_model *model, const duo_sequences *sequences,
                                   const duo_random_setting *setting, duo_trace *trace,
                                   duo_study_progress *progress, void *context)
{
    const size_t L = model->params.config.n_layers;
    study_evaluator evaluator = {0};
    duo_trace tried = {0};
    draws d;
    duo_status status = draws_open(&d, setting, L);
    if (status == DUO_OK)
        status = study_evaluator_open(&evaluator, model, sequences, setting->rows);
    if (status == DUO_OK) {
        const duo_sequences some = duo_sequences_rows(sequences, 0, evaluator.rows);
        status = duo_trace_create(&tried, &some, L);
    }
    for (size_t i = 0; i < d.n && status == DUO_OK; i++) {
        try_draw(&d, i, &evaluator, sequences, &tried, trace);
        if (progress) progress(context, i + 1, d.n);
    }
    if (status == DUO_OK) status = check_loss(trace, sequences->R, sequences->T);
    duo_trace_free(&tried);
    study_evaluator_close(&evaluator);
    draws_close(&d);
    return status;
}

/* ---------------------------------------------------------------- per token */

/* The draws of a token are routes of its own tree, which shares their prefixes. */
typedef struct token_draws {
    study_token_walk walk; /* first: the walk's functions find the rest by it */
    const draws *draws;
    const uint8_t *reference; /* (L) */
    duo_trace *trace;
    uint8_t *list;  /* (batch * n, L) */
    uint32_t *ends; /* (batch + 1) */
} token_draws;

static void take(study_token_walk *walk, duo_arena *arena)
{
    token_draws *t = (token_draws *)walk;
    t->list = DUO_TAKE(arena, uint8_t, walk->batch * t->draws->n * walk->search.L);
    t->ends = DUO_TAKE(arena, uint32_t, walk->batch + 1);
    for (size_t i = 0; arena->base && i <= walk->batch; i++)
        t->ends[i] = (uint32_t)(i * t->draws->n);
}

static void set_routes(study_token_walk *walk, size_t n, duo_pass *pass)
{
    const token_draws *t = (const token_draws *)walk;
    (void)pass;
    duo_routes_repeat(walk->routes, n * walk->sequences->T, walk->search.L, t->reference);
}

/* Put a route behind the n that are listed in ascending order, at its place among them. */
static void insert(uint8_t *list, size_t n, const uint8_t *route, size_t L)
{
    size_t at = n;
    while (at > 0 && memcmp(list + (at - 1) * L, route, L) > 0) at--;
    memmove(list + (at + 1) * L, list + at * L, (n - at) * L);
    memcpy(list + at * L, route, L);
}

static duo_status decide(study_token_walk *walk, size_t n0, size_t n)
{
    token_draws *t = (token_draws *)walk;
    study_search *s = &walk->search;
    const size_t T = walk->sequences->T, N = t->draws->n;
    uint8_t route[DUO_MAX_LAYERS];
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < N; k++) {
            draw(t->draws, route, k, (n0 + i) / T, (n0 + i) % T + 1);
            insert(t->list + i * N * s->L, k, route, s->L);
        }
    s->contests[0].score = t->trace->loss + n0;
    s->contests[0].routes = t->trace->routes + n0 * s->L;
    study_search_decide_among(s, &(study_route_choice){.list = t->list, .first = t->ends});
    return DUO_OK;
}

duo_status duo_random_per_token(const duo_model *model, const duo_sequences *sequences,
                                const duo_random_setting *setting, const uint8_t *reference,
                                duo_trace *trace, duo_study_progress *progress, void *context)
{
    const duo_config *config = &model->params.config;
    const size_t R = sequences->R, T = sequences->T;
    const duo_search_setting search = {.modules = setting->modules};
    draws d;
    token_draws t = {.walk = {.search = {.model = model,
                                         .setting = &search,
                                         .L = config->n_layers,
                                         .V = config->vocab_size,
                                         .cells = 1,
                                         .contests = {{.measure = STUDY_LOSS}},
                                         .n_contests = 1},
                              .sequences = sequences,
                              .take = take,
                              .set_routes = set_routes,
                              .decide = decide},
                     .draws = &d,
                     .reference = reference,
                     .trace = trace};
    duo_status status = draws_open(&d, setting, config->n_layers);
    if (status == DUO_OK)
        status = study_sequences_check(sequences, config, DUO_EINVAL, "random patterns");
    if (status != DUO_OK) goto done;
    t.walk.search.most_list = d.n;
    t.walk.rows = study_token_walk_rows(&t.walk);
    status = study_search_size(&t.walk.search, t.walk.rows * T, T);
    t.walk.batch = t.walk.search.roots.n;
    if (status == DUO_OK) status = study_token_walk_run(&t.walk, progress, context);
    if (status == DUO_OK) status = check_loss(trace, R, T);

done:
    draws_close(&d);
    return status;
}
