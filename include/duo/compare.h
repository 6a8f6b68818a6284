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

/** The mean loss of one seed. */
typedef struct duo_seed_loss {
    uint64_t seed;
    double loss;
} duo_seed_loss;

/** One policy of one model on some sequences. What is not known is NaN. */
typedef struct duo_compared {
    char name[64];
    size_t big;    /**< budget: big layers per token */
    uint64_t seed; /**< 0: none, or the mean of several */
    size_t seeds;  /**< that this is the mean of */
    size_t R, L;
    double *means;            /**< (R) nats: of each sequence; owned */
    double seed_variance;     /**< squared standard error of the mean over seeds; 0: one seed */
    duo_seed_loss *seed_loss; /**< (seeds), or NULL: one, or others in each part of a
                                  mixture; owned */
    double share;             /**< of big among the choices, */
    double raw;               /**< without thresholds, */
    duo_estimate early, late; /**< in the first and in the last quarter of the positions */
    double layer_share[DUO_MAX_LAYERS]; /**< (L) of big */
    double flops;
    double tokens_per_s;     /**< of a machine that keeps the speed of the first row */
    duo_agreement agreement; /**< of the choices with the oracle's */
} duo_compared;

/** A row of which nothing is known yet. */
duo_compared duo_compared_empty(const char *name, size_t big, uint64_t seed);

/** Losses, shares and FLOPs of a trace; the rest is left as it is. The caller frees *row with
 *  duo_compared_free. DUO_ENOMEM. */
duo_status duo_compared_measure(duo_compared *row, const duo_trace *trace,
                                const duo_sequences *sequences, const duo_config *config,
                                bool with_router);
void duo_compared_free(duo_compared *row);

/** The mean of n rows of the same sequences that differ in their seeds: of each number, and of each
 *  sequence's loss. The caller frees *mean. DUO_ENOMEM. */
duo_status duo_compared_mean(duo_compared *mean, const duo_compared *const *rows, size_t n);

/** Standard deviation of the seeds' losses; NaN for one seed. */
double duo_compared_spread(const duo_compared *row);

/** Mean loss of a row, and of a row less another on the same sequences (NULL, or on others: NaN).
 *  The squared error is that over sequences, paired, plus that over seeds where there are several:
 *  seed by seed where both rows have the same ones. */
duo_estimate duo_compared_loss(const duo_compared *row);
duo_estimate duo_compared_less(const duo_compared *row, const duo_compared *other);

/**
 * What a mixture of the two rows with just less and just more FLOPs has at so many FLOPs: losses on
 * the straight line between them. rows (n) are of the same sequences, in any order; those without
 * means are passed over. *at has no means where no two rows are around `flops`. The caller frees
 * *at. DUO_ENOMEM.
 */
duo_status duo_compared_at(duo_compared *at, const duo_compared *const *rows, size_t n,
                           double flops);

/**
 * Which share of the way from the loss of one row to that of another, lowered by `gain`, a row has
 * gone: all on the same sequences, with a jackknife error over them, that over seeds and that of
 * the gain. NaN when the way is shorter than two of its standard errors.
 */
duo_estimate duo_share_closed(const duo_compared *row, const duo_compared *from,
                              const duo_compared *to, duo_estimate gain);

#endif
