#include "route_tree.h"

#include <assert.h>
#include <string.h>

#include "duo/kernels.h"
#include "duo/sizes.h"

enum {
    BLOCK_NODES = 512,      /* activations of so many nodes stay in the cache */
    BLOCK_LOGITS = 2 << 20, /* floats */
    LEAST_BLOCK = 64
};

/* ---------------------------------------------------------------- memory */

void study_route_tree_size(study_route_tree *tree, const duo_model *model, const double *widths,
                           size_t roots, size_t max_nodes)
{
    const duo_config *c = &model->params.config;
    *tree =
        (study_route_tree){.model = model, .L = c->n_layers, .C = c->d_model, .V = c->vocab_size};
    size_t most = roots;
    for (size_t l = 0; l <= tree->L; l++) {
        /* A parent is branched when all modules have room. */
        const double wanted = (double)roots * widths[l] + DUO_MODULES - 1;
        size_t capacity = wanted > (double)max_nodes ? max_nodes : (size_t)wanted;
        if (capacity < DUO_MODULES) capacity = DUO_MODULES;
        if (l == 0) capacity = roots;
        tree->levels[l].capacity = capacity;
        if (capacity > most) most = capacity;
    }
    const size_t rows = BLOCK_LOGITS / tree->V;
    tree->block = duo_min(BLOCK_NODES, rows > LEAST_BLOCK ? rows : LEAST_BLOCK);
    tree->block = duo_min(tree->block, most);
}

static size_t widest_level(const study_route_tree *tree)
{
    size_t most = 0;
    for (size_t l = 0; l <= tree->L; l++)
        if (tree->levels[l].capacity > most) most = tree->levels[l].capacity;
    return most;
}

void study_route_tree_take(study_route_tree *tree, size_t max_T, duo_arena *arena)
{
    const size_t C = tree->C, most = widest_level(tree);
    const size_t node_block = duo_min(BLOCK_NODES, most), roots = tree->levels[0].capacity;
    for (size_t l = 0; l <= tree->L; l++) {
        study_route_level *v = &tree->levels[l];
        v->x = DUO_TAKE(arena, float, v->capacity *C);
        v->h = l < tree->L ? DUO_TAKE(arena, float, v->capacity *C) : NULL;
        v->root = DUO_TAKE(arena, uint32_t, v->capacity);
        v->parent = DUO_TAKE(arena, uint32_t, v->capacity);
        v->first = DUO_TAKE(arena, uint32_t, v->capacity);
        v->end = DUO_TAKE(arena, uint32_t, v->capacity);
        v->module = DUO_TAKE(arena, uint8_t, v->capacity);
        v->big = DUO_TAKE(arena, uint8_t, v->capacity);
        v->small = DUO_TAKE(arena, uint8_t, v->capacity);
    }
    /* The committed context also decodes all roots at once. */
    tree->nodes =
        duo_nodes_take(&tree->model->params, node_block > roots ? node_block : roots, max_T, arena);
    tree->logits = DUO_TAKE(arena, float, tree->block * tree->V);
    tree->sequences = DUO_TAKE(arena, uint32_t, most);
    tree->positions = DUO_TAKE(arena, uint32_t, most);
    for (duo_module m = DUO_SMALL; m <= DUO_BIG; m++) {
        tree->from.rows[m] = DUO_TAKE(arena, uint32_t, most);
        tree->to.rows[m] = DUO_TAKE(arena, uint32_t, most);
    }
}

/* ---------------------------------------------------------------- branching */

typedef struct child {
    duo_module module;
    uint32_t first, end;
} child;

static size_t admitted_children(const study_route_tree *tree, size_t l, size_t parent,
                                child children[DUO_MODULES])
{
    const study_budget_rule *rule = tree->choice->rule;
    const study_route_level *here = &tree->levels[l];
    size_t n = 0;
    for (duo_module m = 0; m < DUO_MODULES; m++) {
        const size_t big = here->big[parent] + (size_t)(m == DUO_BIG);
        const size_t small = here->small[parent] + (size_t)(m == DUO_SMALL);
        if (duo_module_in(rule->modules, m) && study_budget_admits(rule, l + 1, big, small))
            children[n++] = (child){.module = m};
    }
    return n;
}

static size_t listed_children(const study_route_tree *tree, size_t l, size_t parent,
                              child children[DUO_MODULES])
{
    const study_route_level *here = &tree->levels[l];
    const uint8_t *list = tree->choice->list + l;
    size_t n = 0;
    for (uint32_t i = here->first[parent]; i < here->end[parent];) {
        child c = {.module = (duo_module)list[i * tree->L], .first = i};
        while (i < here->end[parent] && list[i * tree->L] == c.module) i++;
        c.end = i;
        assert(n < DUO_MODULES);
        children[n++] = c;
    }
    return n;
}

static size_t children_of(const study_route_tree *tree, size_t l, size_t parent,
                          child children[DUO_MODULES])
{
    return tree->choice->rule ? admitted_children(tree, l, parent, children)
                              : listed_children(tree, l, parent, children);
}

static void add_child(study_route_tree *tree, size_t l, size_t parent, child c, size_t row)
{
    const study_route_level *here = &tree->levels[l], *below = &tree->levels[l + 1];
    const duo_module m = c.module;
    below->root[row] = here->root[parent];
    below->parent[row] = (uint32_t)parent;
    below->first[row] = c.first;
    below->end[row] = c.end;
    below->module[row] = (uint8_t)m;
    below->big[row] = (uint8_t)(here->big[parent] + (m == DUO_BIG));
    below->small[row] = (uint8_t)(here->small[parent] + (m == DUO_SMALL));
    if (m == DUO_SKIP) return;
    const size_t i = tree->from.count[m]++;
    tree->from.rows[m][i] = (uint32_t)parent;
    tree->to.rows[m][i] = (uint32_t)row;
}

/* Children of a slice when all those of n parents are cut into as few slices as the next level
 * allows, of about the same size. */
static size_t slice_size(const study_route_tree *tree, size_t l, size_t n)
{
    const size_t capacity = tree->levels[l + 1].capacity, room = capacity - (DUO_MODULES - 1);
    child children[DUO_MODULES];
    size_t all = 0;
    if (n * DUO_MODULES <= capacity) return capacity;
    for (size_t parent = 0; parent < n; parent++) all += children_of(tree, l, parent, children);
    const size_t slices = (all + room - 1) / room;
    return slices > 1 ? (all + slices - 1) / slices : capacity;
}

/* Name the children of the parents from *parent (of n) on, until they are `wanted` or the next
 * level is full, and move *parent behind them. Returns the number of children. */
static size_t branch(study_route_tree *tree, size_t l, size_t n, size_t wanted, size_t *parent)
{
    const size_t capacity = tree->levels[l + 1].capacity;
    child children[DUO_MODULES];
    size_t rows = 0;
    memset(tree->from.count, 0, sizeof tree->from.count);
    for (; *parent < n && rows < wanted && rows + DUO_MODULES <= capacity; ++*parent) {
        const size_t count = children_of(tree, l, *parent, children);
        for (size_t i = 0; i < count; i++) add_child(tree, l, *parent, children[i], rows++);
    }
    return rows;
}

/* ---------------------------------------------------------------- growing */

/* A child's state is its parent's behind attention, plus its module's output. */
static void compute_children(study_route_tree *tree, size_t l, size_t n)
{
    const study_route_level *here = &tree->levels[l], *below = &tree->levels[l + 1];
    const size_t C = tree->C;
#pragma omp parallel for schedule(static) num_threads(duo_kernels_threads()) if (n > LEAST_BLOCK)
    for (size_t i = 0; i < n; i++)
        memcpy(below->x + i * C, here->x + below->parent[i] * C, C * sizeof(float));
    for (duo_module m = DUO_SMALL; m <= DUO_BIG; m++) {
        const size_t count = tree->from.count[m];
        duo_nodes_ffn(tree->nodes, tree->model, l, m, below->x, tree->to.rows[m], here->h,
                      tree->from.rows[m], count);
        tree->flops += (double)count * duo_flops_ffn(&tree->model->params.config, m);
    }
}

static void attend(study_route_tree *tree, size_t l, size_t n)
{
    const duo_config *c = &tree->model->params.config;
    const study_route_level *here = &tree->levels[l];
    const double head = 2.0 * (double)(tree->C * tree->V);
    double seen = 0;
    for (size_t i = 0; i < n; i++) {
        tree->sequences[i] = tree->roots->sequences[here->root[i]];
        tree->positions[i] = tree->roots->positions[here->root[i]];
        seen += (double)tree->positions[i] + 1;
    }
    duo_nodes_attend(tree->nodes, tree->model, l, here->x, here->h, NULL, NULL, tree->roots->cache,
                     tree->sequences, tree->positions, n);
    tree->flops += (double)n * (duo_flops_base(c, seen / (double)n) - head) / (double)c->n_layers;
}

static void visit_leaves(study_route_tree *tree, size_t n)
{
    for (size_t i = 0; i < n; i += tree->block) {
        const size_t rows = duo_min(n - i, tree->block);
        duo_nodes_logits(tree->nodes, tree->model, tree->logits,
                         tree->levels[tree->L].x + i * tree->C, rows);
        tree->visit(tree->context, tree, i, rows, tree->logits);
    }
    tree->flops += 2.0 * (double)n * (double)(tree->C * tree->V);
}

static void descend(study_route_tree *tree, size_t l, size_t n)
{
    if (n == 0) return;
    if (l == tree->L) {
        visit_leaves(tree, n);
        return;
    }
    attend(tree, l, n);
    const size_t wanted = slice_size(tree, l, n);
    for (size_t parent = 0; parent < n;) {
        size_t rows = branch(tree, l, n, wanted, &parent);
        compute_children(tree, l, rows);
        if (tree->thin && l + 1 < tree->L) {
            assert(parent == n);
            rows = tree->thin(tree->context, tree, l + 1, rows);
        }
        descend(tree, l + 1, rows);
    }
}

/* Roots without a listed route do not appear. */
static size_t plant(study_route_tree *tree)
{
    const study_route_level *root = &tree->levels[0];
    const study_route_choice *choice = tree->choice;
    size_t n = 0;
    for (size_t i = 0; i < tree->roots->n; i++) {
        if (!choice->rule && choice->first[i] == choice->first[i + 1]) continue;
        root->root[n] = (uint32_t)i;
        root->first[n] = choice->rule ? 0 : choice->first[i];
        root->end[n] = choice->rule ? 0 : choice->first[i + 1];
        root->big[n] = root->small[n] = 0;
        duo_nodes_embed(tree->model, root->x + n * tree->C, tree->roots->tokens + i, 1);
        n++;
    }
    return n;
}

void study_route_tree_grow(study_route_tree *tree, const study_route_roots *roots,
                           const study_route_choice *choice, study_leaf_visitor *visit,
                           study_level_thinner *thin, void *context)
{
    assert(roots->n <= tree->levels[0].capacity);
    tree->roots = roots;
    tree->choice = choice;
    tree->visit = visit;
    tree->thin = thin;
    tree->context = context;
    descend(tree, 0, plant(tree));
}

/* ---------------------------------------------------------------- nodes */

void study_route_tree_route(const study_route_tree *tree, size_t leaf, uint8_t *route)
{
    for (size_t l = tree->L, node = leaf; l > 0; l--) {
        route[l - 1] = tree->levels[l].module[node];
        node = tree->levels[l].parent[node];
    }
}

void study_route_tree_keep(study_route_tree *tree, size_t level, const uint32_t *rows, size_t n)
{
    study_route_level *v = &tree->levels[level];
    const size_t C = tree->C;
    for (size_t i = 0; i < n; i++) {
        const size_t row = rows[i];
        if (row == i) continue;
        memcpy(v->x + i * C, v->x + row * C, C * sizeof(float));
        v->root[i] = v->root[row];
        v->parent[i] = v->parent[row];
        v->first[i] = v->first[row];
        v->end[i] = v->end[row];
        v->module[i] = v->module[row];
        v->big[i] = v->big[row];
        v->small[i] = v->small[row];
    }
}
