#ifndef DUO_RNG_H
#define DUO_RNG_H

#include <stdint.h>

/**
 * Random numbers without state: each is a pure function of what it is for and where it is used,
 * so that threads, micro-batches and resuming cannot change a run.
 *
 * Generator: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC
 * 2011).
 */
typedef enum duo_purpose {
    DUO_RNG_INIT =
        1, /**< initial weights: step = index of the parameter, row and position = element */
    DUO_RNG_ROUTE,   /**< random routing */
    DUO_RNG_GUMBEL,  /**< router noise */
    DUO_RNG_WINDOW,  /**< order and offset of the windows of an epoch */
    DUO_RNG_DOMAIN,  /**< order of the domains in a batch */
    DUO_RNG_SPLIT,   /**< documents held out */
    DUO_RNG_SAMPLE,  /**< tokens drawn in generation */
    DUO_RNG_PATTERN, /**< random layer patterns */
    DUO_RNG_TEST,
    DUO_RNG_CONTROL, /**< targets drawn from a model's own distribution */
    DUO_RNG_CHOICE,  /**< passages of a multiple choice */
    DUO_RNG_BUDGET   /**< budgets of sequences, for routers that are told them */
} duo_purpose;

/** Where in a run a number is used; unused coordinates are 0. layer < 2^16, step < 2^48. */
typedef struct duo_place {
    uint64_t step;
    uint32_t row;      /**< of the whole step's batch, not of the micro-batch */
    uint32_t position; /**< in the sequence */
    uint32_t layer;
} duo_place;

/** Four independent 32-bit words for this place. */
typedef struct duo_random4 {
    uint32_t word[4];
} duo_random4;

duo_random4 duo_random(uint64_t seed, duo_purpose purpose, duo_place place);

/** A word as a number in (0, 1): never 0, never 1, so that its logarithm is finite. */
double duo_uniform(uint32_t word);

/** Two words as one standard normal number (Box-Muller). */
double duo_normal(uint32_t a, uint32_t b);

/** A word as a standard Gumbel number, -log(-log u). */
double duo_gumbel(uint32_t word);

/**
 * Image of i under a keyed permutation of 0..n-1 (a balanced Feistel network, walked until the
 * image is below n). 1 <= n < 2^62, i < n.
 */
uint64_t duo_permute(uint64_t seed, duo_purpose purpose, uint64_t epoch, uint64_t n, uint64_t i);

#endif
