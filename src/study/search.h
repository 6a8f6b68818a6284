#ifndef DUO_STUDY_SEARCH_H
#define DUO_STUDY_SEARCH_H

#include "route_tree.h"

/** What the searches in both contexts share: they differ in the tokens that are decided together,
 *  and in the best routes that are asked for. */

/** A number that a final state has. */
typedef enum study_measure {
    STUDY_LOSS,          /**< of the target */
    STUDY_DRAWN_LOSS,    /**< of a drawn target */
    STUDY_EXPECTED_LOSS, /**< under a distribution */
    STUDY_MEASURES
} study_measure;

/** The best routes by one measure: a cell per root, or per root and number of big FFNs. */
typedef struct study_contest {
    study_measure measure;
    float *score;    /**< (cells): of the best route so far; infinity before the first */
    float *loss;     /**< (cells): its loss of the target, or NULL */
    uint8_t *routes; /**< (cells, L) */
} study_contest;

typedef struct study_search {
    const duo_model *model;
    const duo_search_setting *setting;
    size_t L, V;
    size_t cells;     /**< of a root: 1, or L+1 for one of every number of big FFNs */
    size_t most_list; /**< routes of a root, where they are listed; 0: they are those of the rule */
    study_route_tree tree;
    study_route_roots roots; /**< room for what the search was sized for */
    study_budget_rule rule;  /**< of these roots */

    /* By root; drawn and q where the contests need them: */
    int32_t *targets, *drawn;
    float *q; /**< (., V): a distribution of targets */

    /* Of a block of leaves: */
    int32_t *leaf_targets;
    float *lse, *values[STUDY_MEASURES];

    study_contest contests[STUDY_MEASURES];
    size_t n_contests;

    struct study_beam *beam;
    struct study_greedy *greedy;
} study_search;

/** Whether setting and model fit together, but for the budgets. */
duo_status study_search_check(const duo_search_setting *setting, const duo_config *config);

/**
 * Size the search for as many of `available` roots at once as the setting's max_nodes allows;
 * search->roots.n says how many. The contests must be known. DUO_EINVAL when a beam does not fit.
 */
duo_status study_search_size(study_search *search, size_t available, size_t T);
/** Lay a sized search out for at most `roots` roots. */
void study_search_take(study_search *search, size_t roots, size_t T, duo_arena *arena);

/** Let all allowed routes of the roots within the rule, or those that the method tries, compete. */
void study_search_decide(study_search *search);
/** The same of all routes of a choice, whatever the method. */
void study_search_decide_among(study_search *search, const study_route_choice *choice);

/** What n states of the tokens root[i] have by all measures of the contests: search->values. At
 *  most a block of the tree. */
void study_search_measure(study_search *search, const uint32_t *root, size_t n,
                          const float *logits);
/** Let n measured leaves compete in a contest. Ties go to fewer big, then to the lower code. */
void study_search_compete(study_search *search, const study_contest *contest,
                          const study_route_tree *tree, size_t first, size_t n);

size_t study_count_big(const uint8_t *route, size_t L);

/* beam.c */
/** The most prefixes of every length that a beam holds for one root, before it is thinned. */
void study_beam_widths(const study_search *search, const study_prefix_counts *counts,
                       double widths[STUDY_LEVELS]);
void study_beam_take(study_search *search, duo_arena *arena);
void study_beam_decide(study_search *search);

/* greedy.c */
/** Routes next to a route, at most. */
size_t study_greedy_neighbours(const study_search *search);
void study_greedy_take(study_search *search, size_t roots, duo_arena *arena);
void study_greedy_decide(study_search *search);

#endif
