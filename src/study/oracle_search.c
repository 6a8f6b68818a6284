#include <assert.h>
#include <math.h>
#include <string.h>

#include "duo/kernels.h"
#include "sequences.h"

/*
 * The routes of a position form a tree: a node of level l is a prefix of l modules with the hidden
 * state that it leads to. Levels are expanded as a whole, for all sequences of a group together.
 * Where the next level does not hold all children, the parents are taken in slices and each slice
 * is followed to its leaves before the next: so memory is bounded, and nothing is computed twice.
 *
 * Children stand in the order of their parents and, of one parent, in ascending module: leaves of a
 * sequence are visited in ascending route code (base 3, layer 0 the most significant digit).
 */

enum {
    LEAF_BLOCK = 256,
    MAX_LEVELS = 129,           /* duo_config_check allows 128 layers */
    MAX_NODES = 1 << 24,        /* far beyond any memory, so that row indices cannot overflow */
    DEFAULT_BYTES = 512 << 20,  /* of all but keys and values, when max_nodes is left to us */
    MAX_CACHE_BYTES = 256 << 20 /* of keys and values, while a group has several sequences */
};

/* Prefixes of one length that are alive. */
typedef struct level {
    size_t capacity;
    float *x;           /* (capacity, C): residual stream before the layer, then before its FFNs */
    float *h;           /* (capacity, C): normed input of the FFNs; none at the leaves */
    uint32_t *sequence; /* in the group */
    uint32_t *parent;   /* row of the level above */
    uint8_t *module;    /* last of the prefix */
    uint8_t *big;       /* big modules of the prefix */
} level;

typedef struct search {
    const duo_model *model;
    duo_module_set modules;
    int budget;
    size_t L, C, T;
    size_t group; /* most sequences that are decided together */

    duo_nodes *nodes;
    duo_cache cache;
    level levels[MAX_LEVELS];
    float *k, *v;            /* of the nodes of one layer */
    duo_row_groups from, to; /* per module: parents that take it, and their children */
    uint32_t *positions;     /* of the nodes of one layer */
    float *logits;           /* (LEAF_BLOCK, V) */
    float *leaf_loss, *lse;  /* of the last level's nodes */
    int32_t *leaf_target;
    int32_t *inputs, *targets; /* (group): tokens at the position and behind it */
    float *best_loss;          /* (group) */
    uint8_t *best_big;         /* (group) */
    uint8_t *best_route;       /* (group, L) */
} search;

/* ---------------------------------------------------------------- the tree's size */

/* Whether a prefix of `length` modules, `big` of them big, can still meet the budget. */
static bool feasible(const search *s, size_t length, size_t big)
{
    if (s->budget == DUO_NO_BUDGET) return true;
    const size_t budget = (size_t)s->budget;
    return big <= budget && budget - big <= s->L - length;
}

/* Feasible prefixes of every length, for one sequence. Doubles: 3^128 routes are many. */
static void count_prefixes(const search *s, double count[MAX_LEVELS])
{
    double by_big[MAX_LEVELS] = {1}; /* prefixes with this many big modules */
    const double big = duo_module_in(s->modules, DUO_BIG) ? 1 : 0;
    const double others = (double)duo_module_count(s->modules) - big;
    count[0] = 1;
    for (size_t length = 1; length <= s->L; length++) {
        count[length] = 0;
        for (size_t b = length + 1; b-- > 0;) {
            by_big[b] = others * by_big[b] + (b > 0 ? big * by_big[b - 1] : 0);
            if (!feasible(s, length, b)) by_big[b] = 0;
            count[length] += by_big[b];
        }
    }
}

static size_t clamp(double wanted, size_t least, size_t most)
{
    return wanted < (double)least ? least : wanted > (double)most ? most : (size_t)wanted;
}

/* Of keys and values of one sequence. */
static double cache_bytes(const search *s)
{
    const duo_config *c = &s->model->params.config;
    return 2.0 * sizeof(float) * (double)(s->L * s->T * c->n_kv_heads * duo_head_width(c));
}

/* Size the group and the levels for at most max_nodes nodes in each of them. */
static void plan(search *s, size_t R, size_t max_nodes)
{
    double count[MAX_LEVELS];
    count_prefixes(s, count);
    size_t most = clamp((double)max_nodes / count[s->L], 1, R);
    most = clamp(MAX_CACHE_BYTES / cache_bytes(s), 1, most);
    const size_t groups = (R + most - 1) / most;
    s->group = (R + groups - 1) / groups; /* of even size */
    for (size_t l = 0; l <= s->L; l++)    /* a parent is branched when all modules have room */
        s->levels[l].capacity =
            clamp((double)s->group * count[l] + DUO_MODULES - 1, DUO_MODULES, max_nodes);
}

static void lay_out(search *s, duo_arena *arena)
{
    const duo_config *c = &s->model->params.config;
    const size_t C = s->C, KV = c->n_kv_heads * duo_head_width(c), G = s->group;
    const size_t most = s->levels[s->L].capacity; /* every prefix has an extension */
    s->nodes = duo_nodes_take(&s->model->params, most, s->T, arena);
    duo_cache_take(&s->cache, &s->model->params, G, s->T, arena);
    for (size_t l = 0; l <= s->L; l++) {
        level *v = &s->levels[l];
        v->x = DUO_TAKE(arena, float, v->capacity *C);
        v->h = l < s->L ? DUO_TAKE(arena, float, v->capacity *C) : NULL;
        v->sequence = DUO_TAKE(arena, uint32_t, v->capacity);
        v->parent = DUO_TAKE(arena, uint32_t, v->capacity);
        v->module = DUO_TAKE(arena, uint8_t, v->capacity);
        v->big = DUO_TAKE(arena, uint8_t, v->capacity);
    }
    s->k = DUO_TAKE(arena, float, most *KV);
    s->v = DUO_TAKE(arena, float, most *KV);
    for (duo_module m = DUO_SMALL; m <= DUO_BIG; m++) {
        s->from.rows[m] = DUO_TAKE(arena, uint32_t, most);
        s->to.rows[m] = DUO_TAKE(arena, uint32_t, most);
    }
    s->positions = DUO_TAKE(arena, uint32_t, most);
    s->logits = DUO_TAKE(arena, float, LEAF_BLOCK * c->vocab_size);
    s->leaf_loss = DUO_TAKE(arena, float, most);
    s->lse = DUO_TAKE(arena, float, LEAF_BLOCK);
    s->leaf_target = DUO_TAKE(arena, int32_t, most);
    s->inputs = DUO_TAKE(arena, int32_t, G);
    s->targets = DUO_TAKE(arena, int32_t, G);
    s->best_loss = DUO_TAKE(arena, float, G);
    s->best_big = DUO_TAKE(arena, uint8_t, G);
    s->best_route = DUO_TAKE(arena, uint8_t, G * s->L);
}

static size_t measure(search *s, size_t R, size_t max_nodes)
{
    duo_arena arena = DUO_ARENA_MEASURE;
    plan(s, R, max_nodes);
    lay_out(s, &arena);
    return arena.used;
}

/* All nodes of all sequences, or as many as the default amount of memory holds. */
static size_t default_nodes(search *s, size_t R)
{
    double count[MAX_LEVELS];
    count_prefixes(s, count);
    size_t nodes = clamp((double)R * count[s->L] + DUO_MODULES, DUO_MODULES, MAX_NODES);
    while (nodes > DUO_MODULES) {
        const double bytes = (double)measure(s, R, nodes) - (double)s->group * cache_bytes(s);
        if (bytes <= DEFAULT_BYTES) break;
        nodes -= nodes / 8 + 1;
    }
    return nodes;
}

/* ---------------------------------------------------------------- one position */

static void add_child(search *s, size_t l, size_t parent, duo_module m, size_t child)
{
    const level *here = &s->levels[l], *below = &s->levels[l + 1];
    below->sequence[child] = here->sequence[parent];
    below->parent[child] = (uint32_t)parent;
    below->module[child] = (uint8_t)m;
    below->big[child] = (uint8_t)(here->big[parent] + (m == DUO_BIG));
    if (m == DUO_SKIP) return;
    const size_t i = s->from.count[m]++;
    s->from.rows[m][i] = (uint32_t)parent;
    s->to.rows[m][i] = (uint32_t)child;
}

/* Name the children of the parents from *parent (of n) on, as many as fit into the next level, and
 * move *parent behind them. Returns the number of children. */
static size_t branch(search *s, size_t l, size_t n, size_t *parent)
{
    const level *here = &s->levels[l], *below = &s->levels[l + 1];
    size_t children = 0;
    memset(s->from.count, 0, sizeof s->from.count);
    for (; *parent < n && children + DUO_MODULES <= below->capacity; ++*parent)
        for (duo_module m = 0; m < DUO_MODULES; m++) {
            const size_t big = here->big[*parent] + (size_t)(m == DUO_BIG);
            if (duo_module_in(s->modules, m) && feasible(s, l + 1, big))
                add_child(s, l, *parent, m, children++);
        }
    return children;
}

/* A child's state is its parent's behind attention, plus its module's output. */
static void compute_children(search *s, size_t l, size_t children)
{
    const level *here = &s->levels[l], *below = &s->levels[l + 1];
    const size_t C = s->C;
#pragma omp parallel for schedule(static) num_threads(duo_kernels_threads())
    for (size_t i = 0; i < children; i++)
        memcpy(below->x + i * C, here->x + below->parent[i] * C, C * sizeof(float));
    for (duo_module m = DUO_SMALL; m <= DUO_BIG; m++)
        duo_nodes_ffn(s->nodes, s->model, l, m, below->x, s->to.rows[m], here->h, s->from.rows[m],
                      s->from.count[m]);
}

static void keep_route(search *s, size_t leaf, size_t sequence)
{
    uint8_t *route = s->best_route + sequence * s->L;
    for (size_t l = s->L, node = leaf; l > 0; l--) {
        route[l - 1] = s->levels[l].module[node];
        node = s->levels[l].parent[node];
    }
}

static void score_leaves(search *s, size_t n)
{
    const level *leaves = &s->levels[s->L];
    for (size_t i = 0; i < n; i++) s->leaf_target[i] = s->targets[leaves->sequence[i]];
    for (size_t i = 0; i < n; i += LEAF_BLOCK) {
        const size_t rows = n - i < LEAF_BLOCK ? n - i : LEAF_BLOCK;
        duo_nodes_logits(s->nodes, s->model, s->logits, leaves->x + i * s->C, rows);
        duo_cross_entropy_forward(s->leaf_loss + i, s->lse, s->logits, s->leaf_target + i, rows,
                                  s->model->params.config.vocab_size);
    }
    for (size_t i = 0; i < n; i++) {
        const size_t r = leaves->sequence[i];
        const float loss = s->leaf_loss[i];
        if (loss < s->best_loss[r] ||
            (loss == s->best_loss[r] && leaves->big[i] < s->best_big[r])) {
            s->best_loss[r] = loss;
            s->best_big[r] = leaves->big[i];
            keep_route(s, i, r);
        }
    }
}

static void descend(search *s, size_t l, size_t n)
{
    const level *here = &s->levels[l];
    if (l == s->L) {
        score_leaves(s, n);
        return;
    }
    for (size_t i = 0; i < n; i++) s->positions[i] = s->cache.lengths[here->sequence[i]];
    duo_nodes_attend(s->nodes, s->model, l, here->x, here->h, s->k, s->v, &s->cache, here->sequence,
                     s->positions, n);
    for (size_t parent = 0; parent < n;) {
        const size_t children = branch(s, l, n, &parent);
        compute_children(s, l, children);
        descend(s, l + 1, children);
    }
}

/* The best routes of all sequences at the position behind what the cache holds. */
static void decide(search *s)
{
    const level *root = &s->levels[0];
    const size_t G = s->cache.S;
    for (size_t i = 0; i < G; i++) {
        s->best_loss[i] = INFINITY;
        s->best_big[i] = UINT8_MAX;
        root->sequence[i] = (uint32_t)i;
        root->big[i] = 0;
    }
    duo_nodes_embed(s->model, root->x, s->inputs, G);
    descend(s, 0, G);
}

/* ---------------------------------------------------------------- all positions */

/* Sequences first .. first + G-1, left to right. */
static duo_status search_group(search *s, const duo_sequences *sequences, size_t first, size_t G,
                               duo_trace *trace, duo_study_progress *progress, void *context)
{
    const size_t T = s->T, L = s->L;
    const duo_routing chosen = {.kind = DUO_ROUTING_GIVEN, .routes = s->best_route};
    s->cache.S = G;
    memset(s->cache.lengths, 0, G * sizeof *s->cache.lengths);
    for (size_t t = 0; t < T; t++) {
        for (size_t i = 0; i < G; i++) {
            const int32_t *token = sequences->tokens + (first + i) * (T + 1) + t;
            s->inputs[i] = token[0];
            s->targets[i] = token[1];
        }
        decide(s);
        for (size_t i = 0; i < G; i++) {
            const size_t n = (first + i) * T + t;
            if (!isfinite(s->best_loss[i])) /* NaN is never the best, so it leaves infinity */
                return duo_fail(DUO_ENUMBER,
                                "oracle: no route of position %zu of sequence %zu has a finite "
                                "loss",
                                t, first + i);
            trace->loss[n] = s->best_loss[i];
            memcpy(trace->routes + n * L, s->best_route + i * L, L);
        }
        duo_decode(s->nodes, s->model, &s->cache, s->inputs, &chosen, NULL);
        if (progress) progress(context, first * T + (t + 1) * G, sequences->R * T);
    }
    return DUO_OK;
}

static duo_status check_setting(const duo_oracle_setting *setting, size_t L)
{
    const size_t n = duo_module_count(setting->modules);
    if (n < 2 || setting->modules >> DUO_MODULES != 0)
        return duo_fail(DUO_EINVAL, "oracle: needs two or three modules to choose among");
    if (setting->budget == DUO_NO_BUDGET) return DUO_OK;
    if (setting->budget < 0 || (size_t)setting->budget > L)
        return duo_fail(DUO_EINVAL, "oracle: budget %d, the model has %zu layers", setting->budget,
                        L);
    if (setting->budget > 0 && !duo_module_in(setting->modules, DUO_BIG))
        return duo_fail(DUO_EINVAL, "oracle: budget %d, but big is not among the modules",
                        setting->budget);
    return DUO_OK;
}

duo_status duo_oracle_search(const duo_model *model, const duo_sequences *sequences,
                             const duo_oracle_setting *setting, duo_trace *trace,
                             duo_study_progress *progress, void *context)
{
    const duo_config *config = &model->params.config;
    const size_t R = sequences->R;
    search s = {.model = model,
                .modules = setting->modules,
                .budget = setting->budget,
                .L = config->n_layers,
                .C = config->d_model,
                .T = sequences->T};
    assert(s.L < MAX_LEVELS);
    duo_status status = check_setting(setting, s.L);
    if (status == DUO_OK) status = duo_sequences_check(sequences, config, DUO_EINVAL, "oracle");
    if (status != DUO_OK) return status;

    duo_arena arena = {0};
    const size_t max_nodes = setting->max_nodes == 0
                                 ? default_nodes(&s, R)
                                 : clamp((double)setting->max_nodes, DUO_MODULES, MAX_NODES);
    status = duo_arena_create(&arena, measure(&s, R, max_nodes), "oracle");
    if (status != DUO_OK) return status;
    lay_out(&s, &arena);
    for (size_t first = 0; first < R && status == DUO_OK; first += s.group) {
        const size_t G = R - first < s.group ? R - first : s.group;
        status = search_group(&s, sequences, first, G, trace, progress, context);
    }
    duo_arena_free(&arena);
    return status;
}
