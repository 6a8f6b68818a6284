#ifndef DUO_STUDY_H
#define DUO_STUDY_H

#include <stdio.h>

#include "duo/data.h"
#include "duo/model.h"
#include "duo/store.h"

/* ---------------------------------------------------------------- sequences */

/** Sequences that a study looks at: tokens (R, T+1). */
typedef struct duo_sequences {
    size_t R, T;
    int32_t *tokens;   /**< owned */
    uint64_t bytes;    /**< of text behind the R*T targets; 0: unknown */
    const char *split; /**< they are of: "training", "held-out", "text"; static; NULL: unknown */
} duo_sequences;

/**
 * R windows of T+1 tokens of a split, spread evenly over a domain (-1: all domains); all of them if
 * there are fewer. Freed with duo_sequences_free. DUO_EINVAL: there is none; DUO_EDATA: the file's
 * tokenizer is not that of its ids; DUO_ENOMEM.
 */
duo_status duo_sequences_spread(duo_sequences *sequences, const duo_tokens *tokens, duo_split split,
                                int domain, size_t R, size_t T);
void duo_sequences_free(duo_sequences *sequences);

/** Rows first .. first+n-1; borrowed, their bytes unknown. */
static inline duo_sequences duo_sequences_rows(const duo_sequences *all, size_t first, size_t n)
{
    return (duo_sequences){
        .R = n, .T = all->T, .tokens = all->tokens + first * (all->T + 1), .split = all->split};
}

/** Set `bytes` from the pieces of the tokenizer that made the tokens. */
void duo_sequences_count_bytes(duo_sequences *sequences, const duo_tokenizer *tokenizer);

/* ---------------------------------------------------------------- results */

/** What one policy did on some sequences. */
typedef struct duo_trace {
    uint8_t *routes; /**< (R, T, L) */
    float *loss;     /**< (R, T) nats */
} duo_trace;

/** Room for all tokens of some sequences, zeroed. The caller frees with duo_trace_free. */
duo_status duo_trace_create(duo_trace *trace, const duo_sequences *sequences, size_t L);
void duo_trace_free(duo_trace *trace);

/** Rows from `first` on; borrowed. */
static inline duo_trace duo_trace_rows(const duo_trace *all, size_t first, size_t T, size_t L)
{
    return (duo_trace){.routes = all->routes + first * T * L, .loss = all->loss + first * T};
}

/** Means over a trace; the standard error is over sequences. */
typedef struct duo_trace_summary {
    double loss, loss_error, perplexity,
        bits_per_byte;         /**< bits_per_byte: NaN when bytes are unknown */
    double share[DUO_MODULES]; /**< of (token, layer) pairs */
    double flops;              /**< model FLOPs per token */
    uint64_t *usage;           /**< (L, DUO_MODULES); owned */
} duo_trace_summary;
/** with_router: the policy pays for the routers' products. */
duo_status duo_trace_summarize(duo_trace_summary *summary, const duo_trace *trace,
                               const duo_sequences *sequences, const duo_config *config,
                               bool with_router);
void duo_trace_summary_free(duo_trace_summary *summary);

/* ---------------------------------------------------------------- policies */

/** How tokens are routed when a trained model is measured. */
typedef struct duo_policy {
    char name[96]; /**< as the user wrote it, with the budget that routers are told */
    enum { DUO_POLICY_PATTERN, DUO_POLICY_RANDOM, DUO_POLICY_ROUTER, DUO_POLICY_FILE } kind;
    uint8_t pattern[DUO_MAX_LAYERS];
    double p[DUO_MODULES];
    size_t first_row;     /**< random: what the first sequence counts as; 0 when parsed */
    duo_router_rule rule; /**< router */
    const char *path; /**< of a routes file, as duo_routes_read takes it; points into the text that
                           was parsed */
} duo_policy;

/**
 * small | big | skip | random:P (P: share of big, the rest small) | pattern:BSBS.. | router |
 * file:ROUTES | file:ROUTES#NAME. Of routers further: router:K told a budget of K big layers (those
 * that read one are told half of the layers by `router`), router:raw or router:raw:K without
 * thresholds, router:exact:K with K big layers for every token, told K and with its thresholds
 * where they read a budget, else with those that they have. DUO_EINVAL says what is wrong with the
 * text, or what the model lacks for it.
 */
duo_status duo_policy_parse(duo_policy *policy, const char *text, const duo_model *model);

/** Reports work done of total; may be NULL where it is taken. */
typedef void duo_study_progress(void *context, uint64_t done, uint64_t total);

/**
 * Run sequences through the model under a policy: an ordinary forward pass over whole sequences.
 * For a file policy `trace->routes` holds the routes already; otherwise it is written. `rows`
 * sequences are run at a time. trace is the caller's, with room for all tokens. DUO_EINVAL: tokens
 * that the model cannot read; DUO_ENUMBER: a loss that is not finite; DUO_ENOMEM.
 */
duo_status duo_evaluate(const duo_model *model, const duo_sequences *sequences,
                        const duo_policy *policy, uint64_t seed, size_t rows, duo_trace *trace,
                        duo_study_progress *progress, void *context);

#endif
