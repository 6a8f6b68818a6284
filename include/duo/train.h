#ifndef DUO_TRAIN_H
#define DUO_TRAIN_H

#include <stdint.h>

#include "duo/data.h"
#include "duo/model.h"
#include "duo/recipe.h"

/** Where a run stands: with the weights and the optimizer's moments, all that resuming needs. */
typedef struct duo_progress {
    size_t stage;        /**< index in the recipe */
    uint64_t stage_step; /**< optimizer steps done in this stage */
    uint64_t step;       /**< and in the whole run */
    uint64_t sequences;  /**< drawn from the sampler by the whole run: the next one's index */
    uint64_t tokens;     /**< trained on by the whole run */
    double best_loss;    /**< lowest held-out loss of this stage; 0: none yet */
} duo_progress;

/** "dense", "duo", "small", "router". */
const char *duo_stage_kind_name(duo_stage_kind kind);

/** What a stage trains; everything else is frozen and costs no weight-gradient work. A module that
 *  no token can take is frozen: it has no gradient, and weight decay would wear it down. */
duo_group_set duo_stage_trains(const duo_stage_recipe *stage);

/** Learning rate of step `step` = 0, 1, ... of a stage. */
double duo_stage_lr(const duo_stage_recipe *stage, uint64_t step);
/** Temperature of the Gumbel-softmax at that step. */
double duo_stage_tau(const duo_stage_recipe *stage, uint64_t step);

/** What one optimizer step did. Losses are means over the step's tokens, in nats. */
typedef struct duo_step_report {
    double loss;
    double budget_loss; /**< router stage: mean over the step's sequences */
    double grad_norm;   /**< before clipping */
    double lr, tau;
    uint64_t tokens;
    const uint64_t *usage; /**< (L, DUO_MODULES) tokens per module; borrowed until the next step */
    double flops; /**< model FLOPs of the step: forward, and backward as far as it is needed */
} duo_step_report;

/** One stage in memory: gradients, moments, activations. */
typedef struct duo_trainer duo_trainer;

/**
 * Set up a stage. The model must have routers for a router stage (duo_model_add_routers). Model and
 * sampler stay the caller's and must outlive the trainer; the moments start at zero. While it lives
 * the trainer keeps packed forms of the weights: who changes them calls duo_model_repack.
 */
duo_status duo_trainer_create(duo_trainer **trainer, duo_model *model,
                              const duo_stage_recipe *stage, uint64_t seed,
                              const duo_sampler *sampler);
void duo_trainer_free(duo_trainer *trainer);

/** Bytes that duo_trainer_create would allocate for a model of these parameters. */
size_t duo_trainer_bytes(const duo_params *params, const duo_stage_recipe *stage);

/** The moments, to save and to restore. Borrowed. */
duo_tree *duo_trainer_m(duo_trainer *trainer);
duo_tree *duo_trainer_v(duo_trainer *trainer);

/**
 * One optimizer step: all micro-batches forward and backward, clipping, AdamW; progress advances.
 * DUO_ENUMBER when loss or gradient norm is not finite: the weights are untouched.
 *
 * The gradients of micro-batches are summed in a fixed shape: in order within at most 16 blocks of
 * neighbours, the blocks in a binary tree. So the spread of blocks over processes cannot change the
 * bits, and a process never holds more than 5 gradients.
 */
duo_status duo_trainer_step(duo_trainer *trainer, duo_progress *progress, duo_step_report *report);

/**
 * Held-out loss under the stage's own routing (dense: big; duo, small: random, the same at every
 * call; router: the router's choice), mean over `val_windows` windows spread evenly over the
 * held-out split (all of them if it has fewer). usage (L, DUO_MODULES) is overwritten.
 */
duo_status duo_trainer_validate(duo_trainer *trainer, const duo_tokens *tokens, double *loss,
                                uint64_t *usage);

#endif
