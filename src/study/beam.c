#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "duo/kernels.h"
#include "search.h"

/*
 * Level by level the best prefixes of every token and every count of the budget's module go on: a
 * beam for each count, since prefixes that have spent more are no measure for those that have
 * spent less. Where all fit into the beam, none is scored.
 */

typedef struct candidate {
    float score;
    uint32_t row;
} candidate;

struct study_beam {
    const study_contest *contest; /* whose measure the prefixes are scored by */
    float *x;                     /* (block, C): states to be scored */
    uint32_t *root;               /* (block): theirs */
    uint32_t *rows;               /* of a level: those to be scored, then those that stay */
    float *scores;                /* of a level's nodes */
    bool *stays;
    candidate *candidates; /* of one beam */
};

/* ---------------------------------------------------------------- memory */

void study_beam_widths(const study_search *s, const study_prefix_counts *counts,
                       double widths[STUDY_LEVELS])
{
    const double modules = (double)duo_module_count(s->setting->modules);
    double kept = 1;
    widths[0] = 1;
    for (size_t l = 1; l <= s->L; l++) {
        widths[l] = fmin(counts->prefixes[l], modules * kept);
        kept = fmin(widths[l], (double)s->setting->width * (double)(l + 1));
    }
}

void study_beam_take(study_search *s, duo_arena *arena)
{
    size_t most = 0;
    for (size_t l = 0; l < s->L; l++)
        if (s->tree.levels[l].capacity > most) most = s->tree.levels[l].capacity;
    struct study_beam value = {0}, *beam = DUO_TAKE(arena, struct study_beam, 1);
    value.x = DUO_TAKE(arena, float, s->tree.block * s->tree.C);
    value.root = DUO_TAKE(arena, uint32_t, s->tree.block);
    value.rows = DUO_TAKE(arena, uint32_t, most);
    value.scores = DUO_TAKE(arena, float, most);
    value.stays = DUO_TAKE(arena, bool, most);
    value.candidates = DUO_TAKE(arena, candidate, most);
    if (beam) *beam = value;
    s->beam = beam;
}

/* ---------------------------------------------------------------- a level */

/* The beam of a node: how often its prefix has the module that the budget counts. */
static size_t beam_of(const study_search *s, const study_route_level *level, size_t l, size_t row)
{
    const duo_budget *budget = &s->rule.budget;
    if (budget->kind == DUO_BUDGET_COUNT && budget->module == DUO_SKIP)
        return l - level->big[row] - level->small[row];
    return level->big[row];
}

static void score_rows(study_search *s, const study_route_level *level, size_t n)
{
    struct study_beam *beam = s->beam;
    study_route_tree *tree = &s->tree;
    const size_t C = tree->C;
    for (size_t i = 0; i < n; i += tree->block) {
        const size_t count = n - i < tree->block ? n - i : tree->block;
        const uint32_t *rows = beam->rows + i;
        for (size_t j = 0; j < count; j++) {
            memcpy(beam->x + j * C, level->x + rows[j] * C, C * sizeof(float));
            beam->root[j] = level->root[rows[j]];
        }
        duo_nodes_logits(tree->nodes, s->model, tree->logits, beam->x, count);
        study_search_measure(s, beam->root, count, tree->logits);
        for (size_t j = 0; j < count; j++)
            beam->scores[rows[j]] = s->values[beam->contest->measure][j];
    }
    tree->flops += 2.0 * (double)n * (double)(C * tree->V);
}

static int compare(const void *a, const void *b)
{
    const candidate *p = a, *q = b;
    const float p_score = isnan(p->score) ? INFINITY : p->score;
    const float q_score = isnan(q->score) ? INFINITY : q->score;
    if (p_score != q_score) return p_score < q_score ? -1 : 1;
    return p->row < q->row ? -1 : 1;
}

/* The nodes first .. end-1 are those of one token. */
static void thin_beam(study_search *s, const study_route_level *level, size_t l, size_t first,
                      size_t end, size_t which)
{
    struct study_beam *beam = s->beam;
    size_t n = 0;
    for (size_t row = first; row < end; row++)
        if (beam_of(s, level, l, row) == which)
            beam->candidates[n++] = (candidate){beam->scores[row], (uint32_t)row};
    if (n > s->setting->width) {
        qsort(beam->candidates, n, sizeof *beam->candidates, compare);
        n = s->setting->width;
    }
    for (size_t i = 0; i < n; i++) beam->stays[beam->candidates[i].row] = true;
}

static size_t end_of_root(const study_route_level *level, size_t first, size_t n)
{
    size_t end = first;
    while (end < n && level->root[end] == level->root[first]) end++;
    return end;
}

/* Lists the nodes whose beam is too full. */
static size_t list_contested(study_search *s, const study_route_level *level, size_t l, size_t n)
{
    size_t contested = 0;
    for (size_t first = 0, end; first < n; first = end) {
        size_t count[STUDY_LEVELS] = {0};
        end = end_of_root(level, first, n);
        for (size_t row = first; row < end; row++) count[beam_of(s, level, l, row)]++;
        for (size_t row = first; row < end; row++)
            if (count[beam_of(s, level, l, row)] > s->setting->width)
                s->beam->rows[contested++] = (uint32_t)row;
    }
    return contested;
}

static size_t thin(void *context, study_route_tree *tree, size_t l, size_t n)
{
    study_search *s = context;
    struct study_beam *beam = s->beam;
    const study_route_level *level = &tree->levels[l];
    const size_t contested = list_contested(s, level, l, n);
    if (contested == 0) return n;
    score_rows(s, level, contested);
    memset(beam->stays, 0, n * sizeof *beam->stays);
    for (size_t first = 0, end; first < n; first = end) {
        end = end_of_root(level, first, n);
        for (size_t which = 0; which <= l; which++) thin_beam(s, level, l, first, end, which);
    }
    size_t kept = 0;
    for (size_t row = 0; row < n; row++)
        if (beam->stays[row]) beam->rows[kept++] = (uint32_t)row;
    study_route_tree_keep(tree, l, beam->rows, kept);
    return kept;
}

/* ---------------------------------------------------------------- the search */

static void visit(void *context, const study_route_tree *tree, size_t first, size_t n,
                  const float *logits)
{
    study_search *s = context;
    study_search_measure(s, tree->levels[s->L].root + first, n, logits);
    study_search_compete(s, s->beam->contest, tree, first, n);
}

/* Each contest has beams of its own: prefixes that were kept for one target would be a poor choice
 * for another, and the comparison unfair. */
void study_beam_decide(study_search *s)
{
    const study_route_choice choice = {.rule = &s->rule};
    for (size_t i = 0; i < s->n_contests; i++) {
        s->beam->contest = &s->contests[i];
        study_route_tree_grow(&s->tree, &s->roots, &choice, visit, thin, s);
    }
}
