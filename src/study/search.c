#include "search.h"

#include <math.h>
#include <string.h>

#include "duo/kernels.h"

enum {
    MAX_NODES = 1 << 24,      /* far beyond any memory, so that row indices cannot overflow */
    DEFAULT_BYTES = 512 << 20 /* when max_nodes is left to us */
};

size_t study_count_big(const uint8_t *route, size_t L)
{
    size_t big = 0;
    for (size_t l = 0; l < L; l++) big += route[l] == DUO_BIG;
    return big;
}

duo_status study_search_check(const duo_search_setting *setting, const duo_config *config)
{
    const duo_module_set modules = setting->modules;
    if (duo_module_count(modules) < 2 || modules >> DUO_MODULES != 0)
        return duo_fail(DUO_EINVAL, "search: needs two or three modules to choose among");
    if (config->n_layers >= STUDY_LEVELS)
        return duo_fail(DUO_EINVAL, "search: the model has %zu layers, at most %d are searched",
                        config->n_layers, STUDY_LEVELS - 1);
    if (setting->method != DUO_SEARCH_EXACT && setting->width == 0)
        return duo_fail(DUO_EINVAL, "search: a width of 0 leaves no route");
    return DUO_OK;
}

/* ---------------------------------------------------------------- memory */

/* The most prefixes of every length that one root has, over the budgets of all positions. */
static void count_widths(const study_search *s, size_t T, double widths[STUDY_LEVELS])
{
    const duo_search_setting *setting = s->setting;
    const duo_config *config = &s->model->params.config;
    const bool own = s->cells == 1;
    const duo_budget none = {.kind = DUO_BUDGET_NONE};
    for (size_t l = 0; l <= s->L; l++) widths[l] = 0;
    for (size_t t = 0; t < (own && setting->schedule ? T : 1); t++) {
        const duo_budget *budget = !own                ? &none
                                   : setting->schedule ? &setting->schedule[t]
                                                       : &setting->budget;
        if (t > 0 && memcmp(budget, budget - 1, sizeof *budget) == 0) continue;
        const study_budget_rule rule = study_budget_rule_of(budget, setting->modules, config);
        study_prefix_counts counts;
        double of_budget[STUDY_LEVELS];
        study_budget_count(&counts, &rule);
        memcpy(of_budget, counts.prefixes, sizeof of_budget);
        if (setting->method == DUO_SEARCH_BEAM) study_beam_widths(s, &counts, of_budget);
        for (size_t l = 0; l <= s->L; l++) {
            if (s->most_list > 0) of_budget[l] = fmin(of_budget[l], (double)s->most_list);
            widths[l] = fmax(widths[l], of_budget[l]);
        }
    }
}

static bool needs(const study_search *s, study_measure measure)
{
    for (size_t i = 0; i < s->n_contests; i++)
        if (s->contests[i].measure == measure) return true;
    return false;
}

void study_search_take(study_search *s, size_t roots, size_t T, duo_arena *arena)
{
    const bool drawn = needs(s, STUDY_DRAWN_LOSS);
    const bool q = drawn || needs(s, STUDY_EXPECTED_LOSS);
    study_route_tree_take(&s->tree, T, arena);
    s->roots.tokens = DUO_TAKE(arena, int32_t, roots);
    s->roots.sequences = DUO_TAKE(arena, uint32_t, roots);
    s->roots.positions = DUO_TAKE(arena, uint32_t, roots);
    s->targets = DUO_TAKE(arena, int32_t, roots);
    s->drawn = drawn ? DUO_TAKE(arena, int32_t, roots) : NULL;
    s->q = q ? DUO_TAKE(arena, float, roots * s->V) : NULL;
    s->leaf_targets = DUO_TAKE(arena, int32_t, s->tree.block);
    s->lse = DUO_TAKE(arena, float, s->tree.block);
    for (study_measure m = 0; m < STUDY_MEASURES; m++)
        s->values[m] = DUO_TAKE(arena, float, s->tree.block);
    if (s->setting->method == DUO_SEARCH_BEAM) study_beam_take(s, arena);
    if (s->setting->method == DUO_SEARCH_GREEDY) study_greedy_take(s, roots, arena);
}

/* Roots that max_nodes nodes allow at once; 0 when a beam has no room for one. */
static size_t size_for(study_search *s, size_t available, const double *widths, size_t max_nodes)
{
    double widest = 1;
    for (size_t l = 0; l <= s->L; l++) widest = fmax(widest, widths[l]);
    const bool whole_levels = s->setting->method == DUO_SEARCH_BEAM;
    const double room = (double)max_nodes - (whole_levels ? DUO_MODULES - 1 : 0);
    if (whole_levels && widest > room) return 0;
    const double most = fmin(fmax(floor(room / widest), 1), (double)available);
    const size_t groups = (available + (size_t)most - 1) / (size_t)most;
    const size_t roots = (available + groups - 1) / groups; /* of even size */
    study_route_tree_size(&s->tree, s->model, widths, roots, max_nodes);
    return roots;
}

duo_status study_search_size(study_search *s, size_t available, size_t T)
{
    double widths[STUDY_LEVELS], widest = 1;
    if (s->setting->method == DUO_SEARCH_GREEDY) s->most_list = study_greedy_neighbours(s);
    count_widths(s, T, widths);
    for (size_t l = 0; l <= s->L; l++) widest = fmax(widest, widths[l]);
    const bool given = s->setting->max_nodes > 0;
    const double wanted =
        given ? (double)s->setting->max_nodes : (double)available * widest + DUO_MODULES;
    size_t max_nodes = wanted < MAX_NODES ? (size_t)wanted : MAX_NODES;
    if (max_nodes < DUO_MODULES) max_nodes = DUO_MODULES;
    for (;;) {
        const size_t roots = size_for(s, available, widths, max_nodes);
        if (roots == 0)
            return duo_fail(DUO_EINVAL,
                            "search: a beam of width %zu needs %.0f nodes of a layer, %zu are "
                            "allowed",
                            s->setting->width, widest + DUO_MODULES - 1, max_nodes);
        s->roots.n = roots;
        duo_arena measure = DUO_ARENA_MEASURE;
        study_search_take(s, roots, T, &measure);
        if (given || measure.used <= DEFAULT_BYTES || max_nodes == DUO_MODULES) return DUO_OK;
        max_nodes -= max_nodes / 8 + 1;
        if (max_nodes < DUO_MODULES) max_nodes = DUO_MODULES;
    }
}

/* ---------------------------------------------------------------- leaves */

void study_search_measure(study_search *s, const uint32_t *root, size_t n, const float *logits)
{
    for (size_t i = 0; i < n; i++) s->leaf_targets[i] = s->targets[root[i]];
    duo_cross_entropy_forward(s->values[STUDY_LOSS], s->lse, logits, s->leaf_targets, n, s->V);
    for (size_t i = 0; i < n && s->drawn; i++)
        s->values[STUDY_DRAWN_LOSS][i] = s->lse[i] - logits[i * s->V + (size_t)s->drawn[root[i]]];
    if (needs(s, STUDY_EXPECTED_LOSS))
        duo_cross_entropy_expected(s->values[STUDY_EXPECTED_LOSS], s->lse, logits, s->q, root, n,
                                   s->V);
}

/* Whether `route` comes before `other`, which has the same score. */
static bool wins_tie(const uint8_t *route, const uint8_t *other, size_t L)
{
    const size_t big = study_count_big(route, L), other_big = study_count_big(other, L);
    return big != other_big ? big < other_big : memcmp(route, other, L) < 0;
}

void study_search_compete(study_search *s, const study_contest *contest,
                          const study_route_tree *tree, size_t first, size_t n)
{
    const study_route_level *leaves = &tree->levels[s->L];
    uint8_t route[STUDY_LEVELS];
    for (size_t i = 0; i < n; i++) {
        const size_t leaf = first + i;
        const size_t cell = leaves->root[leaf] * s->cells + (s->cells > 1 ? leaves->big[leaf] : 0);
        const float score = s->values[contest->measure][i];
        if (!(score < INFINITY && score <= contest->score[cell])) continue; /* nor NaN */
        study_route_tree_route(tree, leaf, route);
        uint8_t *best = contest->routes + cell * s->L;
        if (score == contest->score[cell] && !wins_tie(route, best, s->L)) continue;
        contest->score[cell] = score;
        if (contest->loss) contest->loss[cell] = s->values[STUDY_LOSS][i];
        memcpy(best, route, s->L);
    }
}

/* ---------------------------------------------------------------- decisions */

static void visit_all_contests(void *context, const study_route_tree *tree, size_t first, size_t n,
                               const float *logits)
{
    study_search *s = context;
    study_search_measure(s, tree->levels[s->L].root + first, n, logits);
    for (size_t i = 0; i < s->n_contests; i++)
        study_search_compete(s, &s->contests[i], tree, first, n);
}

static void clear_contests(study_search *s)
{
    for (size_t i = 0; i < s->n_contests; i++)
        for (size_t cell = 0; cell < s->roots.n * s->cells; cell++)
            s->contests[i].score[cell] = INFINITY;
}

void study_search_decide_among(study_search *s, const study_route_choice *choice)
{
    clear_contests(s);
    study_route_tree_grow(&s->tree, &s->roots, choice, visit_all_contests, NULL, s);
}

void study_search_decide(study_search *s)
{
    switch (s->setting->method) {
    case DUO_SEARCH_EXACT:
        study_search_decide_among(s, &(study_route_choice){.rule = &s->rule});
        break;
    case DUO_SEARCH_BEAM:
        clear_contests(s);
        study_beam_decide(s);
        break;
    case DUO_SEARCH_GREEDY:
        clear_contests(s);
        study_greedy_decide(s);
        break;
    }
}
