#include <assert.h>
#include <math.h>
#include <string.h>

#include "duo/rng.h"
#include "search.h"

/*
 * All tokens together, each from the same start: a round tries every route next to a token's, which
 * is a tree again since they share prefixes with it, and moves to the best one if that is better.
 */

struct study_greedy {
    uint8_t *routes; /* (roots, L): where a token stands */
    float *scores;   /* (roots) */
    bool *moves;     /* (roots): its last round helped */
    uint8_t *list;   /* (roots * most, L): routes to try */
    uint32_t *first; /* (roots + 1) */
    uint32_t listed;
    study_contest round; /* the best of this round */
};

size_t study_greedy_neighbours(const study_search *s)
{
    const size_t L = s->L, modules = duo_module_count(s->setting->modules);
    return L * (modules - 1) + L * (L - 1) / 2;
}

void study_greedy_take(study_search *s, size_t roots, duo_arena *arena)
{
    struct study_greedy value = {0}, *greedy = DUO_TAKE(arena, struct study_greedy, 1);
    value.routes = DUO_TAKE(arena, uint8_t, roots * s->L);
    value.scores = DUO_TAKE(arena, float, roots);
    value.moves = DUO_TAKE(arena, bool, roots);
    value.list = DUO_TAKE(arena, uint8_t, roots * s->most_list * s->L);
    value.first = DUO_TAKE(arena, uint32_t, roots + 1);
    value.round.score = DUO_TAKE(arena, float, roots);
    value.round.routes = DUO_TAKE(arena, uint8_t, roots * s->L);
    if (greedy) *greedy = value;
    s->greedy = greedy;
}

/* ---------------------------------------------------------------- starts */

/* The number of ways to spend a budget, by big and small; *big and *small are those of way `at`. */
static size_t compositions(const study_budget_rule *rule, size_t at, size_t *big, size_t *small)
{
    const size_t L = rule->L;
    size_t n = 0;
    for (size_t b = 0; b <= (duo_module_in(rule->modules, DUO_BIG) ? L : 0); b++)
        for (size_t s = 0; s <= (duo_module_in(rule->modules, DUO_SMALL) ? L - b : 0); s++) {
            if (b + s < L && !duo_module_in(rule->modules, DUO_SKIP)) continue;
            if (!study_budget_admits(rule, L, b, s)) continue;
            if (n++ != at) continue;
            *big = b;
            *small = s;
        }
    return n;
}

/* The first start spends the middle way, others a random one; layers are shuffled. */
static void make_start(const study_search *s, size_t start, uint8_t *route)
{
    size_t big = 0, small = 0;
    const size_t n = compositions(&s->rule, 0, &big, &small);
    const duo_random4 r = duo_random(0, DUO_RNG_PATTERN, (duo_place){.step = start});
    assert(n > 0); /* the budget was checked */
    compositions(&s->rule, start == 0 ? n / 2 : r.word[0] % n, &big, &small);
    for (size_t l = 0; l < s->L; l++) {
        const uint64_t place = duo_permute(0, DUO_RNG_PATTERN, start, s->L, l);
        route[l] = place < big ? DUO_BIG : place < big + small ? DUO_SMALL : DUO_SKIP;
    }
}

/* ---------------------------------------------------------------- rounds */

static uint8_t *add_route(struct study_greedy *g, const uint8_t *route, size_t L)
{
    return memcpy(g->list + (size_t)g->listed++ * L, route, L);
}

static void add_change(const study_search *s, const uint8_t *route, size_t l, duo_module module)
{
    size_t big = 0, small = 0;
    for (size_t i = 0; i < s->L; i++) {
        const duo_module m = i == l ? module : (duo_module)route[i];
        big += m == DUO_BIG;
        small += m == DUO_SMALL;
    }
    if (study_budget_admits(&s->rule, s->L, big, small))
        add_route(s->greedy, route, s->L)[l] = (uint8_t)module;
}

/* Routes that differ from this one first at layer l, where they take `module`: prefixes that are
 * shared stand together. */
static void add_neighbours(const study_search *s, const uint8_t *route, size_t l, duo_module module)
{
    add_change(s, route, l, module);
    for (size_t other = s->L - 1; other > l; other--) {
        if (route[other] != module) continue;
        uint8_t *swapped = add_route(s->greedy, route, s->L);
        swapped[l] = (uint8_t)module;
        swapped[other] = route[l];
    }
}

static void list_neighbours(study_search *s)
{
    struct study_greedy *g = s->greedy;
    g->listed = 0;
    for (size_t i = 0; i < s->roots.n; i++) {
        const uint8_t *route = g->routes + i * s->L;
        g->first[i] = g->listed;
        for (size_t l = s->L; l-- > 0 && g->moves[i];)
            for (duo_module m = 0; m < DUO_MODULES; m++)
                if (m != route[l] && duo_module_in(s->setting->modules, m))
                    add_neighbours(s, route, l, m);
    }
    g->first[s->roots.n] = g->listed;
}

static void list_start(study_search *s, size_t start)
{
    struct study_greedy *g = s->greedy;
    uint8_t route[STUDY_LEVELS];
    make_start(s, start, route);
    g->listed = 0;
    for (size_t i = 0; i < s->roots.n; i++) {
        g->first[i] = g->listed;
        add_route(g, route, s->L);
        g->scores[i] = INFINITY;
    }
    g->first[s->roots.n] = g->listed;
}

static void visit(void *context, const study_route_tree *tree, size_t first, size_t n,
                  const float *logits)
{
    study_search *s = context;
    study_search_measure(s, tree->levels[s->L].root + first, n, logits);
    study_search_compete(s, &s->contests[0], tree, first, n);
    study_search_compete(s, &s->greedy->round, tree, first, n);
}

/* Try the listed routes; false when no token found a better one. */
static bool run_round(study_search *s)
{
    struct study_greedy *g = s->greedy;
    const study_route_choice choice = {.list = g->list, .first = g->first};
    bool any = false;
    for (size_t i = 0; i < s->roots.n; i++) g->round.score[i] = INFINITY;
    study_route_tree_grow(&s->tree, &s->roots, &choice, visit, NULL, s);
    for (size_t i = 0; i < s->roots.n; i++) {
        g->moves[i] = g->round.score[i] < g->scores[i];
        if (!g->moves[i]) continue;
        g->scores[i] = g->round.score[i];
        memcpy(g->routes + i * s->L, g->round.routes + i * s->L, s->L);
        any = true;
    }
    return any;
}

void study_greedy_decide(study_search *s)
{
    s->greedy->round.measure = s->contests[0].measure;
    for (size_t start = 0; start < s->setting->width; start++) {
        list_start(s, start);
        while (run_round(s)) list_neighbours(s);
    }
}
