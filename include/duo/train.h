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
    double multiplier[DUO_MODULES]; /**< of a lagrangian penalty; 0 at a stage's start */
    uint64_t skipped;               /**< steps of the whole run, because of their numbers */
    uint64_t bad;                   /**< of them, how many in a row until now */
    uint64_t rollbacks;             /**< of this stage, each with a lower learning rate */
} duo_progress;

/** "dense", "duo", "small", "router". */
const char *duo_stage_kind_name(duo_stage_kind kind);

/** What a stage trains; everything else is frozen and costs no weight-gradient work. A module that
 *  no token can take is frozen: it has no gradient, and weight decay would wear it down. */
duo_group_set duo_stage_trains(const duo_stage_recipe *stage);

/** Learning rate of step `step` = 0, 1, ... of a stage. */
double duo_stage_lr(const duo_stage_recipe *stage, uint64_t step);
/** Of routers, and of all else that the stage trains: as a share of duo_stage_lr. */
double duo_stage_lr_scale(const duo_stage_recipe *stage, duo_group group);
/** Temperature of the Gumbel-softmax at that step. */
double duo_stage_tau(const duo_stage_recipe *stage, uint64_t step);
/** Are choices hard forward at that step? */
bool duo_stage_hard(const duo_stage_recipe *stage, uint64_t step);
/** Does it set thresholds at its end? */
bool duo_stage_calibrates(const duo_stage_recipe *stage);
/** The config of a model with the routers that the stage wants; other stages want none. */
duo_config duo_stage_config(const duo_stage_recipe *stage, const duo_config *config);

/** What one optimizer step did. Losses are means over the step's tokens, in nats. */
typedef struct duo_step_report {
    double loss;
    duo_router_terms router;        /**< router stage: mean over the step's sequences */
    const double *soft_usage;       /**< router stage: (L, DUO_MODULES) mean P; borrowed */
    double multiplier[DUO_MODULES]; /**< lagrangian: that the step used */
    double grad_norm;               /**< before clipping */
    double lr, tau;
    uint64_t tokens;
    const uint64_t *usage; /**< (L, DUO_MODULES) tokens per module; borrowed until the next step */
    double flops;  /**< model FLOPs of the step: forward, and backward as far as it is needed */
    char bad[128]; /**< what was not finite: "weights NAME", "layer 3, attention", "loss",
                        "gradient NAME"; empty: all was */
} duo_step_report;

/** One stage in memory: gradients, moments, activations. */
typedef struct duo_trainer duo_trainer;

/**
 * Set up a stage. The model must have routers for a router stage (duo_model_add_routers). Model and
 * sampler stay the caller's and must outlive the trainer; the moments start at zero. While it lives
 * the trainer keeps packed forms of the weights: who changes them calls duo_model_repack.
 * DUO_EINVAL: target_flops that no routes of the model have; DUO_ENOMEM. The caller frees *trainer,
 * NULL on failure.
 */
duo_status duo_trainer_create(duo_trainer **trainer, duo_model *model,
                              const duo_stage_recipe *stage, uint64_t seed,
                              const duo_sampler *sampler);
void duo_trainer_free(duo_trainer *trainer);

/** Bytes that duo_trainer_create would allocate for a model of these parameters. */
size_t duo_trainer_bytes(const duo_params *params, const duo_stage_recipe *stage);
/** The most bytes of a stage beside its model: the trainer, and what a router stage calibrates with
 *  at its end, by duo_trainer_pass (fewer if the training text has fewer windows); or, when that is
 *  more, another model with what it is calibrated with, as for an earlier best checkpoint. */
size_t duo_stage_bytes(const duo_params *params, const duo_stage_recipe *stage);

/** Routes to learn from: tokens (R, T+1), routes (R, T, L). A stage draws its rows
 *  without replacement, from its first step on. */
typedef struct duo_teacher {
    size_t R, T;
    const int32_t *tokens;
    const uint8_t *routes;
    const float *values; /**< (R, T, L, DUO_MODULES): losses that each choice along the routes leads
                              to, infinite where there is none; NULL: unknown */
    double unit;         /**< what gaps are measured in: duo_teacher_unit */
} duo_teacher;

/** Root mean square of the differences of finite values between the router's modules; 1 when there
 *  are none. A gap of that size is a difference of logits of 1. values (choices, DUO_MODULES). */
double duo_teacher_unit(const float *values, size_t choices, duo_module_set modules);
/** labels (choices) = the module of the least value among `modules`, the lower of equal ones;
 *  DUO_NO_LABEL where less than two values are finite. */
enum { DUO_NO_LABEL = 255 };
void duo_teacher_labels(uint8_t *labels, const float *values, size_t choices,
                        duo_module_set modules);

/** The teacher of a stage whose recipe names one, before its first step; borrowed. Its T must be
 * the stage's seq_len, and it must know the values if they are to be learned: DUO_EINVAL. */
duo_status duo_trainer_teach(duo_trainer *trainer, const duo_teacher *teacher);

/** That which it trains by, of (micro_batch, seq_len), free to use between steps; NULL where its
 *  attention is not fp32, as it is wherever a model is used. Borrowed. */
duo_pass *duo_trainer_pass(duo_trainer *trainer);

/** The moments, to save and to restore. Borrowed. */
duo_tree *duo_trainer_m(duo_trainer *trainer);
duo_tree *duo_trainer_v(duo_trainer *trainer);

/**
 * One optimizer step: all micro-batches forward and backward, clipping, AdamW; progress advances.
 * DUO_ENUMBER when loss or gradient norm is not finite: weights, moments and progress are
 * untouched, and report->bad names the first tensor, causes before effects.
 *
 * The gradients of micro-batches are summed in a fixed shape: in order within at most 16 blocks of
 * neighbours, the blocks in a binary tree. So the spread of blocks over processes cannot change the
 * bits, and a process never holds more than 5 gradients.
 */
duo_status duo_trainer_step(duo_trainer *trainer, duo_progress *progress, duo_step_report *report);

/** After DUO_ENUMBER: leave the step and its sequences out, and count it. */
void duo_trainer_skip(const duo_trainer *trainer, duo_progress *progress);

/** Look at every kernel's output: the first that is not finite makes the step DUO_ENUMBER, and is
 * what the report names. */
void duo_trainer_detect(duo_trainer *trainer);

/** How far rollbacks have lowered the stage's learning rate. */
double duo_stage_rollback_scale(const duo_stage_recipe *stage, uint64_t rollbacks);

/* ---------------------------------------------------------------- spikes */

/** The losses of the last steps, oldest first. */
typedef struct duo_losses {
    size_t n, window;
    double *loss; /**< room for `window` */
} duo_losses;

/** Begin with the last of the n losses that a checkpoint holds. DUO_ENOMEM. */
duo_status duo_losses_create(duo_losses *losses, size_t window, const double *loss, size_t n);
void duo_losses_free(duo_losses *losses);

/** By how many standard deviations a loss is above the mean of those before it, which it then
 * joins. 0 until the window is full. */
double duo_losses_add(duo_losses *losses, double loss);

/**
 * Held-out loss under the stage's own routing (dense: big; duo, small: random, the same at every
 * call; router: the router's choice), mean over `val_windows` windows spread evenly over the
 * held-out split (all of them if it has fewer; DUO_EINVAL if it has none). usage (L, DUO_MODULES)
 * is overwritten.
 */
duo_status duo_trainer_validate(duo_trainer *trainer, const duo_tokens *tokens, double *loss,
                                uint64_t *usage);

/* ---------------------------------------------------------------- calibration */

/** Where and for what thresholds are set. */
typedef struct duo_calibration {
    const duo_tokens *tokens;      /**< of which training text sets them, never held-out */
    size_t windows, T, rows;       /**< windows of T tokens spread evenly, `rows` at a time */
    size_t held_out;               /**< windows of held-out text to look at in the end; 0: none */
    double target[DUO_MODULES];    /**< wanted shares; negative: none. Big alone, and unread, for
                                        routers that are told the budget */
    double budget_min, budget_max; /**< those: the budgets to set; others take the nearest's */
    duo_pass *pass; /**< to run the text by, of (rows, T) with routers; NULL: one of its own. Its
                         attention is fp32, as where thresholds are used */
    bool (*stop)(void); /**< asked now and then: true ends it unfinished; NULL: never */
} duo_calibration;

/** Shares of modules under the routers' own hard choices on the text that thresholds were set on.
 */
typedef struct duo_calibrated {
    double before[DUO_MODULES], after[DUO_MODULES]; /**< with thresholds of 0, and with those set */
    double held_out[DUO_MODULES]; /**< under the model's rule, if that was to be looked at */
    double miss;                  /**< of a target by `after`, at most */
    double n_big; /**< of many budgets, that of which all this is told: the one missed by most */
    size_t windows;
    bool stopped; /**< on request: thresholds are 0, and nothing else is told */
} duo_calibrated;

/**
 * Set the model's thresholds so that its routers' hard choices meet the targets: quantiles of the
 * scores of all tokens and layers, found again under the routes that they lead to, on a few windows
 * and then on all, until shares are within 0.05 points. Where that is not reached the best is kept,
 * and `miss` tells how far it is. The model's rule takes the thresholds over. DUO_EINVAL without
 * routers or windows; DUO_ENOMEM; DUO_ENUMBER, and thresholds of 0, when a score is not finite.
 */
duo_status duo_calibrate(duo_model *model, const duo_calibration *calibration,
                         duo_calibrated *calibrated);
/** Thresholds of 0. */
void duo_calibration_clear(duo_model *model);

#endif
