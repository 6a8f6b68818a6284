#ifndef DUO_COMPARE_H
#define DUO_COMPARE_H

#include "duo/hindsight.h"

/** What holds routers against each other, and against an oracle. */

/* ---------------------------------------------------------------- agreement */

/** How far two traces choose alike, over n tokens: in each layer, and of the whole. */
typedef struct duo_agreement {
    double accuracy; /**< share of choices that are the same */
    double macro_f1; /**< mean of the layers' */
    struct {
        double accuracy;
        double macro_f1; /**< mean over the modules that either takes there */
    } layer[DUO_MAX_LAYERS];
} duo_agreement;

/** routes and reference: (n, L). */
void duo_agree(duo_agreement *agreement, const uint8_t *routes, const uint8_t *reference, size_t n,
               size_t L);

/* ---------------------------------------------------------------- rows of a table */

/** One policy of one model on some sequences. What is not known is NaN. */
typedef struct duo_compared {
    char name[64];
    size_t big;    /**< budget: big layers per token */
    uint64_t seed; /**< 0: none, or the mean of several */
    size_t seeds;  /**< that this is the mean of */
    size_t R;
    double *means;      /**< (R) nats: of each sequence; owned */
    double share;       /**< of big among the choices, */
    double raw;         /**< without thresholds, */
    double early, late; /**< in the first and in the last quarter of the positions */
    double flops, tokens_per_s;
    double accuracy, macro_f1; /**< of the choices, held against the oracle's */
    double spread;             /**< standard deviation of the seeds' losses */
} duo_compared;

/** Losses, shares and FLOPs of a trace; the rest is left as it is. The caller frees *row with
 *  duo_compared_free. DUO_ENOMEM. */
duo_status duo_compared_measure(duo_compared *row, const duo_trace *trace,
                                const duo_sequences *sequences, const duo_config *config,
                                bool with_router);
void duo_compared_free(duo_compared *row);

/** The mean of n rows of the same sequences that differ in their seeds: of each number, and of each
 *  sequence's loss, so that its errors are those over sequences. The caller frees *mean. */
duo_status duo_compared_mean(duo_compared *mean, const duo_compared *const *rows, size_t n);

/** Which share of the way from one mean loss to a lower one is done; NaN when there is no way. */
double duo_share_closed(double loss, double from, double to);

#endif
