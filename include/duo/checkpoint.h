#ifndef DUO_CHECKPOINT_H
#define DUO_CHECKPOINT_H

#include "duo/model.h"
#include "duo/store.h"
#include "duo/train.h"

enum { DUO_CHECKPOINT_VERSION = 1 };
#define DUO_CHECKPOINT_THRESHOLDS "/calibration/thresholds"

/**
 * Beyond linear routers on the hidden state, a file holds: attributes router_hidden and
 * router_inputs ("budget,previous,position") of /model; layers/NN/router/hidden/{weight [H, C],
 * bias [H]}, where router/weight is [M, H]; layers/NN/router/{budget [H or M, 9], previous [H or M,
 * M], position [H or M, K]}. After a calibration /calibration/thresholds [1 or n_layers + 1, 3]: of
 * skip, small and big; with the budget as an input a row for each number of big layers. Multipliers
 * that are not 0: attributes multiplier_MODULE of /train; skipped_steps and rollbacks
 * likewise. /train/losses [n]: of the last steps, oldest first. What is absent is 0. best_loss of
 * /train is the lowest held-out loss of the stage so far as it was measured: of routers without
 * thresholds, but at the end of their stage with them. A best.h5 that got thresholds afterwards
 * keeps the one from before.
 */

/** What a checkpoint is made of; all borrowed. */
typedef struct duo_checkpoint_state {
    const duo_model *model;
    const char *recipe;    /**< complete resolved text */
    const void *tokenizer; /**< bytes of the SentencePiece model */
    size_t tokenizer_bytes;
    uint64_t seed;
    const duo_progress *progress;
    const char *stage;        /**< name of progress->stage */
    const duo_tree *m, *v;    /**< moments of what the stage trains; NULL: none */
    double lr, tau, loss;     /**< of the last good step, for information */
    const duo_losses *losses; /**< NULL: none */
} duo_checkpoint_state;

/**
 * Write atomically. DUO_ENUMBER, and nothing is written, when a weight, a moment, a loss, the
 * learning rate or the temperature is not finite; the message names it.
 *
 * The same state gives the same bytes. Therefore the attribute `created` does not come from the
 * clock: it is the date of the environment variable SOURCE_DATE_EPOCH (seconds since 1970, as
 * reproducible builds set it), or 1970-01-01T00:00:00Z without it.
 */
duo_status duo_checkpoint_save(const char *path, const duo_checkpoint_state *state);

/** An open checkpoint whose seal and structure have been verified. */
typedef struct duo_checkpoint duo_checkpoint;

/**
 * Open and verify: the seal, the sizes of the model, and that /model holds every tensor of such a
 * model in its shape and no other. DUO_EDATA names what is wrong; DUO_EINVAL: a newer format,
 * which is no damage. The caller closes *checkpoint.
 */
duo_status duo_checkpoint_open(duo_checkpoint **checkpoint, const char *path);
void duo_checkpoint_close(duo_checkpoint *checkpoint);

/** All borrowed from the checkpoint. */
const char *duo_checkpoint_path(const duo_checkpoint *checkpoint);
const char *duo_checkpoint_recipe(const duo_checkpoint *checkpoint);
const char *duo_checkpoint_stage(const duo_checkpoint *checkpoint);
const void *duo_checkpoint_tokenizer(const duo_checkpoint *checkpoint, size_t *bytes);
/** Its tokenizer; DUO_EDATA when that is not of the model's vocabulary. The caller frees it. */
duo_status duo_checkpoint_open_tokenizer(const duo_checkpoint *checkpoint,
                                         duo_tokenizer **tokenizer);
const duo_config *duo_checkpoint_config(const duo_checkpoint *checkpoint);
const duo_progress *duo_checkpoint_progress(const duo_checkpoint *checkpoint);
/** Of the last good step before it was saved. */
double duo_checkpoint_lr(const duo_checkpoint *checkpoint);
double duo_checkpoint_tau(const duo_checkpoint *checkpoint);
double duo_checkpoint_loss(const duo_checkpoint *checkpoint);
/** Have its routers' thresholds been set? */
bool duo_checkpoint_calibrated(const duo_checkpoint *checkpoint);
/** Losses of the last steps, oldest first; NULL and 0 when it has none. */
const double *duo_checkpoint_losses(const duo_checkpoint *checkpoint, size_t *n);
/** Of its run's random numbers. */
uint64_t duo_checkpoint_seed(const duo_checkpoint *checkpoint);
/** Instruction set that trained it, as duo_isa_name gives it. */
const char *duo_checkpoint_isa(const duo_checkpoint *checkpoint);
/** duo_model_hash of its weights, as text; empty when the file does not say. */
const char *duo_checkpoint_model_hash(const duo_checkpoint *checkpoint);

/**
 * What duo_checkpoint_open leaves to the readers of its parts: every float of the file is finite,
 * the recipe parses, the tokenizer has the model's vocabulary. DUO_EDATA or DUO_EINVAL names the
 * dataset; reads all of the file and takes no memory of its size.
 */
duo_status duo_checkpoint_check_values(const duo_checkpoint *checkpoint);

/** A model with the checkpoint's weights; the caller frees it. DUO_EDATA names a tensor that is not
 * finite. */
duo_status duo_checkpoint_model(const duo_checkpoint *checkpoint, duo_model **model);
/** Read the moments into trees of the same groups; DUO_EDATA names a tensor that is missing or not
 * finite. */
duo_status duo_checkpoint_moments(const duo_checkpoint *checkpoint, duo_tree *m, duo_tree *v);

/**
 * The identity of a model: XXH3-128 over names and values of all parameters in table order, as a
 * chain h <- XXH3-128(h, XXH3-128(name), XXH3-128(values)) from h = 0. The hash of the values is
 * that of the dataset in the index of a file.
 */
duo_hash duo_model_hash(const duo_model *model);
/** And that which it had before it got routers. */
duo_hash duo_model_hash_without_routers(const duo_model *model);

/* ---------------------------------------------------------------- run folder */

/**
 * checkpoints/NAME: recipe.conf, metrics.jsonl, and checkpoints, whose bytes never change once
 * they are written:
 *
 *     step-00001000.h5   the last `keep` of them
 *     stage-NAME.h5      the end of a stage: a second (hard) link to its step's file, so that it
 *                        stays when the step file is dropped
 *     best.h5            the lowest held-out loss of the stage, linked likewise; of routers, among
 *                        what is within a point of the budget. At the end of their stage it gets
 *                        thresholds, unless it has, and is then a file of its own
 *     latest             symbolic link to the newest
 *
 * One writer at a time, held by a lock on the file `lock`, which a crash cannot leave behind.
 * Files of the folder are named with the process number until they are whole (NAME.tmp-PID), and
 * a checkpoint is next.h5 until it bears all its names.
 */
typedef struct duo_run duo_run;

typedef enum duo_run_start {
    DUO_RUN_BEGIN,  /**< there must be no checkpoint */
    DUO_RUN_RESUME, /**< there must be one */
    DUO_RUN_EITHER  /**< resume where there is one */
} duo_run_start;

/**
 * Make or enter a run folder and lock it; removes stale temporary files, and the metrics of a run
 * that ended before its first checkpoint. Folders on the way are made. keep >= 1. DUO_EINVAL when
 * it is locked by another process, which is named, or against `start`. The caller closes *run.
 */
duo_status duo_run_open(duo_run **run, const char *folder, size_t keep, duo_run_start start);
/** Whether it held checkpoints when it was opened. */
bool duo_run_resumes(const duo_run *run);
void duo_run_close(duo_run *run);
/** folder/NAME; borrowed until the next call. */
const char *duo_run_path(duo_run *run, const char *name);

/**
 * The newest checkpoint that verifies, to which `latest` is pointed. Damaged ones are renamed to
 * *.damaged with one line on stderr each, and the one before is tried; when no step file is left,
 * the furthest of stage-*.h5 and best.h5. DUO_EDATA when nothing is left. The caller closes
 * *checkpoint.
 */
duo_status duo_run_newest(duo_run *run, duo_checkpoint **checkpoint);

/**
 * Save step-NNNNNNNN.h5, with the link best.h5 when best and stage-NAME.h5 when it ends a stage
 * (milestone), and point `latest` at it; then drop the oldest step files beyond `keep`. A run that
 * is killed in between resumes at the step before, or with all links in place. On failure the
 * checkpoints that were there are untouched, and a later call starts afresh; a log that cannot be
 * written is a warning.
 */
duo_status duo_run_save(duo_run *run, const duo_checkpoint_state *state, bool best, bool milestone);

/** Write a small text file into the folder; readers see the old one or the new one. */
duo_status duo_run_write(duo_run *run, const char *name, const char *text);

/**
 * Append one line, which ends in a newline and begins with {"step":N, to metrics.jsonl. What the
 * storage refuses is kept, with one warning, and written before the next line, at the next save
 * or by duo_run_sync_log. Fails only for want of memory.
 */
duo_status duo_run_log(duo_run *run, const char *line);
/** Make all lines durable. */
duo_status duo_run_sync_log(duo_run *run);
/** Drop lines of metrics.jsonl whose "step" is beyond this one, and those that a crash has torn. */
duo_status duo_run_rewind_log(duo_run *run, uint64_t step);

#endif
