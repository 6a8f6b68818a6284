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

typedef struct duo_hindsight {
    size_t budgets;                  /**< L + 1 */
    duo_estimate *oracle;            /**< (budgets) loss; NaN where no route has so many big */
    duo_estimate *gain, *control;    /**< (budgets) */
    duo_estimate *corrected;         /**< (budgets) */
    duo_estimate *label_free;        /**< (budgets) loss of the true target */
    duo_estimate *label_free_gain;   /**< (budgets) */
    duo_estimate all_big, all_small; /**< loss; NaN without those modules */
} duo_hindsight;

/** From a reference search of the first R sequences. The caller frees. DUO_EINVAL when the search
 *  had no all-big route. */
duo_status duo_hindsight_measure(duo_hindsight *hindsight, const duo_reference *reference,
                                 const duo_sequences *sequences, size_t L);
void duo_hindsight_free(duo_hindsight *hindsight);

#endif
