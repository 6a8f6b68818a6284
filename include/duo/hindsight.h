#ifndef DUO_HINDSIGHT_H
#define DUO_HINDSIGHT_H

#include "duo/oracle.h"

/**
 * How much of the oracle's gain can be known before the answer is seen?
 *
 * The oracle picks the route that is best for the true successor, so it would gain even where
 * nothing can be known: it picks the luckiest of many routes. The control measures that. With b
 * big FFNs, means over tokens, and loss(b) = the best route's loss:
 *
 *     gain(b)      = loss of all-big              - oracle loss(b)          true targets
 *     control(b)   = loss of all-big              - oracle loss(b)          targets drawn from the
 *                                                                           all-big distribution
 *     corrected(b) = gain(b) - control(b)
 *     label_free(b) = loss of all-big - loss of the route with the least expected loss under the
 *                     all-big distribution, on true targets: a gain without hindsight
 *
 * Standard errors are over the means of sequences.
 */
typedef struct duo_estimate {
    double mean, error; /**< error is NaN for a single sequence */
} duo_estimate;

/** Mean of n values, such as the means of sequences, and its standard error. */
duo_estimate duo_estimate_mean(const double *values, size_t n);
/** Mean of the differences a - b of n pairs, such as two policies' losses on the same sequences,
 * and its standard error: what both have in common drops out. */
duo_estimate duo_estimate_difference(const double *a, const double *b, size_t n);
/** means (R) of loss (R, T), whose elements stand `stride` apart. */
void duo_sequence_means(double *means, const float *loss, size_t R, size_t T, size_t stride);

typedef struct duo_hindsight {
    size_t budgets;                  /**< L + 1 */
    duo_estimate *oracle;            /**< (budgets) loss; NaN where no route has so many big */
    duo_estimate *gain, *control;    /**< (budgets) */
    duo_estimate *corrected;         /**< (budgets) */
    duo_estimate *label_free;        /**< (budgets) loss of the true target */
    duo_estimate *label_free_gain;   /**< (budgets) */
    duo_estimate all_big, all_small; /**< loss; NaN without those modules */
} duo_hindsight;

/**
 * Targets (R, T) drawn at every position from the distribution of the all-big model in its own
 * context, keyed by (seed, row, position) with rows counted from first_row, and the loss (R, T)
 * that the all-big model has on them: what the control of a committed search is measured against.
 */
duo_status duo_control_draw(const duo_model *model, const duo_sequences *sequences, uint64_t seed,
                            size_t first_row, int32_t *drawn, float *loss);

/** From a reference search of the first R sequences. The caller frees. DUO_EINVAL when the search
 *  had no all-big route. */
duo_status duo_hindsight_measure(duo_hindsight *hindsight, const duo_reference *reference,
                                 const duo_sequences *sequences, size_t L);
void duo_hindsight_free(duo_hindsight *hindsight);

#endif
