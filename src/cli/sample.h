#ifndef DUO_CLI_SAMPLE_H
#define DUO_CLI_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

/** How the next token is drawn from its logits. */
typedef struct duo_sampling {
    double temperature; /**< 0: the largest logit, the lower id winning a tie */
    size_t top_k;       /**< only the k most probable; 0: all */
    double top_p;       /**< only the fewest, most probable, that hold this share; 1: all */
} duo_sampling;

/** An id that is left to choose from. */
typedef struct duo_candidate {
    double mass; /**< probability up to a common factor */
    int32_t id;
} duo_candidate;

/**
 * The candidates of a row of logits, n of V of them, the most probable first where top_k or top_p
 * leave some out: softmax(logits / temperature), cut to top_k, the rest cut to top_p of what is
 * left. Among equals the lower id comes first. Returns n; 0 when a logit is NaN or +infinity, or
 * all are -infinity. candidates (V); temperature > 0.
 */
size_t duo_sample_candidates(duo_candidate *candidates, const duo_sampling *sampling,
                             const float *logits, size_t V);

/**
 * The id that the number u in (0, 1) picks; -1 when there are no candidates. candidates (V) is
 * scratch.
 */
int32_t duo_sample(const duo_sampling *sampling, const float *logits, size_t V, double u,
                   duo_candidate *candidates);

#endif
