#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "duo/baseline.h"
#include "evaluator.h"
#include "pattern.h"
#include "sequences.h"

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

enum { MOST_NODES = 8192, LEAF_ROWS = 512 };

/* Nodes of some positions of the sequences whose keys and values are cached: n draws of each. */
typedef struct token_draws {
    const duo_model *model;
    const draws *draws;
    size_t T, C, V, capacity;
    duo_nodes *nodes;
    duo_cache cache;
    float *x, *h;
    uint32_t *sequence, *position;
    uint8_t *routes; /* (capacity, L) */
    duo_row_groups groups;
    int32_t *tokens, *targets;
    float *logits, *loss, *lse;
} token_draws;

static void lay_out(token_draws *s, size_t rows, duo_arena *arena)
{
    const duo_params *params = &s->model->params;
    const size_t n = s->capacity;
    s->nodes = duo_nodes_take(params, n, s->T, arena);
    duo_cache_take(&s->cache, params, rows, s->T, arena);
    s->x = DUO_TAKE(arena, float, n * s->C);
    s->h = DUO_TAKE(arena, float, n * s->C);
    s->sequence = DUO_TAKE(arena, uint32_t, n);
    s->position = DUO_TAKE(arena, uint32_t, n);
    s->routes = DUO_TAKE(arena, uint8_t, n * s->draws->L);
    for (duo_module m = DUO_SMALL; m <= DUO_BIG; m++)
        s->groups.rows[m] = DUO_TAKE(arena, uint32_t, n);
    s->tokens = DUO_TAKE(arena, int32_t, n);
    s->targets = DUO_TAKE(arena, int32_t, n);
    s->logits = DUO_TAKE(arena, float, LEAF_ROWS * s->V);
    s->loss = DUO_TAKE(arena, float, n);
    s->lse = DUO_TAKE(arena, float, LEAF_ROWS);
}

/* Losses of n nodes, from their tokens to the head. */
static void run_nodes(token_draws *s, size_t n)
{
    const size_t L = s->draws->L;
    duo_nodes_embed(s->model, s->x, s->tokens, n);
    for (size_t l = 0; l < L; l++) {
        duo_nodes_attend(s->nodes, s->model, l, s->x, s->h, NULL, NULL, &s->cache, s->sequence,
                         s->position, n);
        duo_routes_group(&s->groups, s->routes + l, L, n);
        for (duo_module m = DUO_SMALL; m <= DUO_BIG; m++)
            duo_nodes_ffn(s->nodes, s->model, l, m, s->x, s->groups.rows[m], s->h,
                          s->groups.rows[m], s->groups.count[m]);
    }
    for (size_t i = 0; i < n; i += LEAF_ROWS) {
        const size_t rows = n - i < LEAF_ROWS ? n - i : LEAF_ROWS;
        duo_nodes_logits(s->nodes, s->model, s->logits, s->x + i * s->C, rows);
        duo_cross_entropy_forward(s->loss + i, s->lse, s->logits, s->targets + i, rows, s->V);
    }
}

/* Tokens first .. first+count-1 of the group of rows from first_row on. */
static void decide_tokens(token_draws *s, const duo_sequences *sequences, size_t first_row,
                          size_t first, size_t count, duo_trace *trace)
{
    const size_t T = s->T, L = s->draws->L, N = s->draws->n;
    for (size_t i = 0; i < count * N; i++) {
        const size_t r = (first + i / N) / T, t = (first + i / N) % T;
        const int32_t *token = sequences->tokens + (first_row + r) * (T + 1) + t;
        s->sequence[i] = (uint32_t)r;
        s->position[i] = (uint32_t)t;
        s->tokens[i] = token[0];
        s->targets[i] = token[1];
        draw(s->draws, s->routes + i * L, i % N, first_row + r, t + 1);
    }
    run_nodes(s, count * N);
    for (size_t i = 0; i < count; i++) {
        size_t best = i * N;
        for (size_t j = best + 1; j < (i + 1) * N; j++)
            if (better((double)s->loss[j], (double)s->loss[best])) best = j;
        const size_t token = first_row * T + first + i;
        trace->loss[token] = s->loss[best];
        memcpy(trace->routes + token * L, s->routes + best * L, L);
    }
}

/* Keys and values of rows that take the reference at every token. */
static duo_status fill_cache(token_draws *s, const duo_sequences *rows, const uint8_t *reference)
{
    const duo_params *params = &s->model->params;
    const duo_pass_shape shape = {.B = rows->R, .T = rows->T, .keep_kv = true};
    const size_t L = s->draws->L;
    duo_arena measure = DUO_ARENA_MEASURE, arena = {0};
    uint8_t *routes = calloc(rows->R * rows->T, L);
    if (!routes) return duo_fail(DUO_ENOMEM, "no memory for the routes of %zu sequences", rows->R);
    duo_pass_take(params, shape, &measure);
    const duo_status status = duo_arena_create(&arena, measure.used, "reference context");
    if (status == DUO_OK) {
        duo_routes_repeat(routes, rows->R * rows->T, L, reference);
        duo_pass *pass = duo_pass_take(params, shape, &arena);
        duo_pass_forward(pass, s->model, rows->tokens,
                         &(duo_routing){.kind = DUO_ROUTING_GIVEN, .routes = routes});
        s->cache.S = rows->R;
        duo_cache_fill(&s->cache, pass, rows->T);
    }
    duo_arena_free(&arena);
    free(routes);
    return status;
}

duo_status duo_random_per_token(const duo_model *model, const duo_sequences *sequences,
                                const duo_random_setting *setting, const uint8_t *reference,
                                duo_trace *trace, duo_study_progress *progress, void *context)
{
    const duo_config *config = &model->params.config;
    const size_t R = sequences->R, T = sequences->T;
    const size_t rows = setting->rows == 0 ? 1 : setting->rows < R ? setting->rows : R;
    draws d;
    duo_arena arena = {0}, measure = DUO_ARENA_MEASURE;
    token_draws s = {
        .model = model, .draws = &d, .T = T, .C = config->d_model, .V = config->vocab_size};
    duo_status status = draws_open(&d, setting, config->n_layers);
    if (status == DUO_OK)
        status = study_sequences_check(sequences, config, DUO_EINVAL, "random patterns");
    if (status != DUO_OK) goto done;
    const size_t tokens = MOST_NODES > d.n ? MOST_NODES / d.n : 1;
    s.capacity = (tokens < rows * T ? tokens : rows * T) * d.n;
    lay_out(&s, rows, &measure);
    if ((status = duo_arena_create(&arena, measure.used, "random patterns")) != DUO_OK) goto done;
    lay_out(&s, rows, &arena);
    for (size_t row = 0, n = 0; row < R && status == DUO_OK; row += n) {
        n = R - row < rows ? R - row : rows;
        const duo_sequences group = duo_sequences_rows(sequences, row, n);
        status = fill_cache(&s, &group, reference);
        const size_t at_once = s.capacity / d.n;
        for (size_t first = 0; first < n * T && status == DUO_OK; first += at_once) {
            const size_t count = n * T - first < at_once ? n * T - first : at_once;
            decide_tokens(&s, sequences, row, first, count, trace);
            if (progress) progress(context, row * T + first + count, R * T);
        }
    }
    if (status == DUO_OK) status = check_loss(trace, R, T);

done:
    duo_arena_free(&arena);
    draws_close(&d);
    return status;
}
