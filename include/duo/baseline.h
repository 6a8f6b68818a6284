#ifndef DUO_BASELINE_H
#define DUO_BASELINE_H

#include "duo/study.h"

/**
 * What an oracle is held against: patterns that do not look at the token.
 *
 * A pattern is one route for all tokens of a sequence; it is made of two modules, big and one
 * other, and its budget is the number of big.
 */

/* ---------------------------------------------------------------- fixed */

/** The best single pattern for every number of big FFNs. */
typedef struct duo_fixed {
    size_t L;
    uint8_t *patterns; /**< (L+1, L) */
    double *loss;      /**< (L+1) mean on the sequences that they were chosen on */
    size_t evaluated;  /**< patterns that were tried */
} duo_fixed;

/** Reports patterns tried of total; false: no more of them. */
typedef bool duo_fixed_progress(void *context, uint64_t done, uint64_t total);

/**
 * Try patterns on all tokens, each in its own context, and keep the best of every number of big; of
 * equals the one whose big layers come later. beam 0: all 2^L patterns. Otherwise the `beam` best
 * of k big grow by one layer each to those of k+1. Also the best of many is lucky on the sequences
 * that it was chosen on: measure it on others. The caller frees. progress may be NULL; where it
 * wants no more, DUO_OK and no patterns. DUO_EINVAL: modules that are not big and one other, more
 * than 24 layers without a beam; DUO_ENUMBER: a loss that is not finite; DUO_ENOMEM.
 */
duo_status duo_fixed_search(duo_fixed *fixed, const duo_model *model,
                            const duo_sequences *sequences, duo_module_set modules, size_t beam,
                            size_t rows, duo_fixed_progress *progress, void *context);
void duo_fixed_free(duo_fixed *fixed);
/** Patterns that a search will try. */
double duo_fixed_cost(size_t L, size_t beam);

/* ---------------------------------------------------------------- random */

typedef struct duo_random_setting {
    duo_module_set modules;
    size_t big;   /**< of every pattern */
    size_t draws; /**< N; where there are no more patterns than that, each is tried once */
    uint64_t seed;
    size_t first_row; /**< of the sequences in the whole work: draws are keyed by the row */
    size_t rows;      /**< sequences run at a time, per sequence */
} duo_random_setting;

/**
 * Every sequence takes the best of N random patterns for all of its tokens, in its own context.
 * Here and below: trace is the caller's, with room for all tokens; progress may be NULL.
 * DUO_EINVAL: a setting or tokens that do not fit the model; DUO_ENUMBER: no draw has a finite
 * loss; DUO_ENOMEM.
 */
duo_status duo_random_per_sequence(const duo_model *model, const duo_sequences *sequences,
                                   const duo_random_setting *setting, duo_trace *trace,
                                   duo_study_progress *progress, void *context);

/**
 * Every token takes the best of N random routes, while the tokens before it took `reference` (L):
 * an oracle that looks at N routes instead of all. Ties go to the lower code, layer by layer.
 */
duo_status duo_random_per_token(const duo_model *model, const duo_sequences *sequences,
                                const duo_random_setting *setting, const uint8_t *reference,
                                duo_trace *trace, duo_study_progress *progress, void *context);

/* ---------------------------------------------------------------- schedules */

/**
 * A number of big FFNs per position from a text "6:2": from 6 at the first of T positions to 2 at
 * the last, in a straight line, rounded. counts (T). DUO_EINVAL when it is no such text or beyond
 * L.
 */
duo_status duo_schedule_parse(size_t *counts, size_t T, size_t L, const char *text);

#endif
