#ifndef DUO_STUDY_TOKEN_WALK_H
#define DUO_STUDY_TOKEN_WALK_H

#include "search.h"

/**
 * Searches in which tokens are independent of each other: one pass over some sequences on given
 * routes gives the keys and values that their tokens see; then every token is the root of a tree of
 * its own, and as many are grown together as memory allows.
 */
typedef struct study_token_walk study_token_walk;
struct study_token_walk {
    study_search search;
    const duo_sequences *sequences;
    size_t rows;      /**< most sequences with keys and values */
    size_t batch;     /**< most tokens that are decided together */
    size_t first_row; /**< the sequence that has the first keys and values */
    duo_cache cache;
    uint8_t *routes; /**< (rows, T, L): of the pass */
    size_t scratch;  /**< where in the arena pass and search stand, one after the other */

    /* What the search at hand brings with it. */
    /** Its own arrays. */
    void (*take)(study_token_walk *walk, duo_arena *arena);
    /** The routes of sequences first_row .. first_row + n-1; a pass for them that may be used. */
    void (*set_routes)(study_token_walk *walk, size_t n, duo_pass *pass);
    /** Tokens n0 .. n0 + n-1, counted from the first of all sequences: the roots and targets. */
    duo_status (*decide)(study_token_walk *walk, size_t n0, size_t n);
};

/** The most sequences whose keys and values are held at a time, one at least. */
size_t study_token_walk_rows(const study_token_walk *walk);
/** The walk with rows and batch sized, to its end or the first error. DUO_ENOMEM. */
duo_status study_token_walk_run(study_token_walk *walk, duo_study_progress *progress,
                                void *context);

/** Run the pass over the sequences from first_row on, on walk->routes. */
void study_token_walk_pass(study_token_walk *walk, duo_pass *pass);
/** DUO_ENUMBER, for a token whose routes all have no finite score. */
duo_status study_token_walk_no_route(const study_token_walk *walk, size_t n);

#endif
