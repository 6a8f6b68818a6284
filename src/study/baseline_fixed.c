#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "duo/baseline.h"
#include "evaluator.h"
#include "pattern.h"

enum { MOST_EXHAUSTIVE_LAYERS = 24 };

/* A pattern with the mean loss that it has. */
typedef struct scored {
    double loss;
    uint8_t *pattern; /* (L) */
} scored;

typedef struct fixed_search {
    const duo_sequences *sequences;
    duo_module other;
    size_t L, width; /* of the beam */
    study_evaluator evaluator;
    uint8_t *routes; /* (rows, T, L) */
    float *loss;     /* (rows, T) */
    duo_fixed *fixed;
    duo_fixed_progress *progress;
    void *context;
    bool stopped;
    double cost;
} fixed_search;

double duo_fixed_cost(size_t L, size_t beam)
{
    if (beam == 0) return exp2((double)L);
    double cost = 1;
    for (size_t big = 0; big < L; big++) {
        const double parents = study_pattern_count(L, big),
                     children = study_pattern_count(L, big + 1);
        const double grown = (parents < (double)beam ? parents : (double)beam) * (double)(L - big);
        cost += grown < children ? grown : children;
    }
    return cost;
}

/* ---------------------------------------------------------------- one pattern */

static duo_status try_pattern(fixed_search *s, const uint8_t *pattern, size_t big, double *mean)
{
    const size_t R = s->sequences->R, T = s->sequences->T;
    const duo_routing routing = {.kind = DUO_ROUTING_GIVEN, .routes = s->routes};
    double sum = 0;
    duo_routes_repeat(s->routes, s->evaluator.rows * T, s->L, pattern);
    for (size_t first = 0, n = 0; first < R; first += n) {
        n = R - first < s->evaluator.rows ? R - first : s->evaluator.rows;
        study_evaluator_run(&s->evaluator, s->sequences->tokens + first * (T + 1), n, &routing,
                            s->loss);
        for (size_t i = 0; i < n * T; i++) sum += (double)s->loss[i];
    }
    *mean = sum / (double)(R * T);
    if (!isfinite(*mean))
        return duo_fail(DUO_ENUMBER, "fixed patterns: the loss of one with %zu big is not finite",
                        big);
    duo_fixed *fixed = s->fixed;
    const bool best =
        isnan(fixed->loss[big]) || *mean < fixed->loss[big] ||
        (*mean == fixed->loss[big] && memcmp(pattern, fixed->patterns + big * s->L, s->L) < 0);
    if (best) {
        fixed->loss[big] = *mean;
        memcpy(fixed->patterns + big * s->L, pattern, s->L);
    }
    fixed->evaluated++;
    const uint64_t total = (uint64_t)s->cost;
    if (s->progress)
        s->stopped = !s->progress(s->context, fixed->evaluated,
                                  total > fixed->evaluated ? total : fixed->evaluated);
    return DUO_OK;
}

/* ---------------------------------------------------------------- all patterns */

static duo_status try_all(fixed_search *s, uint8_t *pattern)
{
    duo_status status = DUO_OK;
    double mean;
    for (size_t big = 0; big <= s->L; big++) {
        study_pattern_first(pattern, s->L, big, s->other);
        do {
            status = try_pattern(s, pattern, big, &mean);
        } while (status == DUO_OK && !s->stopped && study_pattern_next(pattern, s->L, s->other));
        if (status != DUO_OK || s->stopped) return status;
    }
    return DUO_OK;
}

/* ---------------------------------------------------------------- some of them */

/* The lower loss first, of equals the lower code. */
static bool better(const scored *a, const scored *b, size_t L)
{
    return a->loss < b->loss || (a->loss == b->loss && memcmp(a->pattern, b->pattern, L) < 0);
}

static bool is_among(const scored *list, size_t n, const uint8_t *pattern, size_t L)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(list[i].pattern, pattern, L) == 0) return true;
    return false;
}

/* Put the best `width` of n to the front, in order. */
static size_t keep_best(scored *list, size_t n, size_t width, size_t L)
{
    const size_t kept = n < width ? n : width;
    for (size_t i = 0; i < kept; i++)
        for (size_t j = i + 1; j < n; j++)
            if (better(&list[j], &list[i], L)) {
                const scored swapped = list[i];
                list[i] = list[j];
                list[j] = swapped;
            }
    return kept;
}

/* parents (width) and children (width * L) with room for a pattern each. */
static duo_status grow(fixed_search *s, scored *parents, scored *children)
{
    const size_t L = s->L;
    size_t n = 1;
    study_pattern_first(parents[0].pattern, L, 0, s->other);
    duo_status status = try_pattern(s, parents[0].pattern, 0, &parents[0].loss);
    for (size_t big = 1; big <= L && status == DUO_OK && !s->stopped; big++) {
        size_t born = 0;
        for (size_t i = 0; i < n * L && status == DUO_OK && !s->stopped; i++) {
            uint8_t *child = children[born].pattern;
            memcpy(child, parents[i / L].pattern, L);
            if (child[i % L] == DUO_BIG) continue;
            child[i % L] = DUO_BIG;
            if (is_among(children, born, child, L)) continue;
            status = try_pattern(s, child, big, &children[born++].loss);
        }
        n = keep_best(children, born, s->width, L);
        for (size_t i = 0; i < n; i++) memcpy(parents[i].pattern, children[i].pattern, L);
    }
    return status;
}

static duo_status try_beam(fixed_search *s)
{
    const size_t n = s->width * (s->L + 1);
    duo_status status = DUO_OK;
    scored *list = calloc(n, sizeof *list);
    uint8_t *patterns = calloc(n, s->L);
    if (list && patterns) {
        for (size_t i = 0; i < n; i++) list[i].pattern = patterns + i * s->L;
        status = grow(s, list, list + s->width);
    } else {
        status = duo_fail(DUO_ENOMEM, "no memory for a beam of %zu patterns", s->width);
    }
    free(patterns);
    free(list);
    return status;
}

/* ---------------------------------------------------------------- search */

static duo_status create(duo_fixed *fixed, size_t L)
{
    *fixed = (duo_fixed){.L = L,
                         .patterns = calloc((L + 1) * L, sizeof *fixed->patterns),
                         .loss = calloc(L + 1, sizeof *fixed->loss)};
    if (!fixed->patterns || !fixed->loss) {
        duo_fixed_free(fixed);
        return duo_fail(DUO_ENOMEM, "no memory for the patterns of %zu layers", L);
    }
    for (size_t big = 0; big <= L; big++) fixed->loss[big] = NAN;
    return DUO_OK;
}

void duo_fixed_free(duo_fixed *fixed)
{
    if (!fixed) return;
    free(fixed->patterns);
    free(fixed->loss);
    *fixed = (duo_fixed){0};
}

duo_status duo_fixed_search(duo_fixed *fixed, const duo_model *model,
                            const duo_sequences *sequences, duo_module_set modules, size_t beam,
                            size_t rows, duo_fixed_progress *progress, void *context)
{
    const size_t L = model->params.config.n_layers;
    fixed_search s = {.sequences = sequences,
                      .L = L,
                      .width = beam,
                      .fixed = fixed,
                      .progress = progress,
                      .context = context,
                      .cost = duo_fixed_cost(L, beam)};
    *fixed = (duo_fixed){0};
    duo_status status = study_pattern_other(&s.other, modules, "fixed patterns");
    if (status == DUO_OK && beam == 0 && L > MOST_EXHAUSTIVE_LAYERS)
        status = duo_fail(DUO_EINVAL, "fixed patterns: 2^%zu are too many to try, take a beam", L);
    if (status != DUO_OK) return status;
    if ((status = study_evaluator_open(&s.evaluator, model, sequences, rows)) != DUO_OK) goto done;
    if ((status = create(fixed, L)) != DUO_OK) goto done;
    s.routes = calloc(s.evaluator.rows * sequences->T, L);
    s.loss = calloc(s.evaluator.rows * sequences->T, sizeof *s.loss);
    uint8_t pattern[DUO_MAX_LAYERS];
    if (!s.routes || !s.loss)
        status =
            duo_fail(DUO_ENOMEM, "no memory for the routes of %zu sequences", s.evaluator.rows);
    else
        status = beam > 0 ? try_beam(&s) : try_all(&s, pattern);

done:
    free(s.routes);
    free(s.loss);
    study_evaluator_close(&s.evaluator);
    if (status != DUO_OK || s.stopped) duo_fixed_free(fixed);
    return status;
}
