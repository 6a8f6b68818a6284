#ifndef DUO_STUDY_ROUTE_TREE_H
#define DUO_STUDY_ROUTE_TREE_H

#include "budget_rule.h"
#include "duo/arena.h"

/**
 * Routes of many tokens, grown together as trees: a node of level l is a prefix of l modules of one
 * token's routes, with the hidden state that it leads to, so that what routes share is computed
 * once. A level is expanded as a whole, for all tokens at once. Where the next level does not hold
 * all children, the parents are taken in slices, and each slice is followed to its leaves before
 * the next: memory is bounded and nothing is computed twice.
 *
 * Children stand in the order of their parents and, of one parent, in ascending module.
 */

/** Prefixes of one length that are alive. */
typedef struct study_route_level {
    size_t capacity;
    float *x;         /**< (capacity, C): residual stream before the layer, then before its FFNs */
    float *h;         /**< (capacity, C): normed input of the FFNs; none at the leaves */
    uint32_t *root;   /**< whose route this is */
    uint32_t *parent; /**< row of the level above */
    uint32_t *first, *end; /**< listed routes that begin with this prefix */
    uint8_t *module;       /**< last of the prefix */
    uint8_t *big, *small;  /**< so many in the prefix */
} study_route_level;

/** The tokens whose routes are grown: token i continues a cached sequence at a position. */
typedef struct study_route_roots {
    const duo_cache *cache;
    size_t n;
    int32_t *tokens;
    uint32_t *sequences, *positions;
} study_route_roots;

/** Which routes: all within a budget; or, where that is NULL, for root i the rows first[i] ..
 *  first[i+1]-1 of a list, in which routes that share a prefix are neighbours. */
typedef struct study_route_choice {
    const study_budget_rule *rule;
    const uint8_t *list; /**< (., L) */
    const uint32_t *first;
} study_route_choice;

typedef struct study_route_tree study_route_tree;

/** Sees leaves first .. first+n-1 with their logits (n, V). */
typedef void study_leaf_visitor(void *context, const study_route_tree *tree, size_t first, size_t n,
                                const float *logits);
/** Sees all n nodes of a level above the leaves and thins them out by study_route_tree_keep;
 * returns how many are left. */
typedef size_t study_level_thinner(void *context, study_route_tree *tree, size_t level, size_t n);

struct study_route_tree {
    const duo_model *model;
    size_t L, C, V;
    size_t block; /**< of leaves, and of nodes in the cache at a time */
    study_route_level levels[STUDY_LEVELS];
    duo_nodes *nodes;
    float *logits;                   /**< (block, V) */
    uint32_t *sequences, *positions; /**< of the nodes of one level */
    duo_row_groups from, to;         /**< per module: parents that take it, and their children */
    double flops;                    /**< spent since the tree was laid out */

    /* while it grows: */
    const study_route_roots *roots;
    const study_route_choice *choice;
    study_leaf_visitor *visit;
    study_level_thinner *thin;
    void *context;
};

/**
 * Sizes for `roots` tokens with `widths[l]` prefixes of length l each (L+1), of which at most
 * max_nodes, and at least DUO_MODULES, are held of a length.
 */
void study_route_tree_size(study_route_tree *tree, const duo_model *model, const double *widths,
                           size_t roots, size_t max_nodes);
/** Lay a sized tree out, for caches of max_T positions. */
void study_route_tree_take(study_route_tree *tree, size_t max_T, duo_arena *arena);

/** Grow the routes and visit all leaves; thin may be NULL, and sees whole levels only where each
 *  holds all children of all roots. */
void study_route_tree_grow(study_route_tree *tree, const study_route_roots *roots,
                           const study_route_choice *choice, study_leaf_visitor *visit,
                           study_level_thinner *thin, void *context);

/** The modules of a leaf's route (L). */
void study_route_tree_route(const study_route_tree *tree, size_t leaf, uint8_t *route);
/** Keep n ascending rows of a level. */
void study_route_tree_keep(study_route_tree *tree, size_t level, const uint32_t *rows, size_t n);

#endif
