#ifndef DUO_CHECKPOINT_H
#define DUO_CHECKPOINT_H

#include "duo/model.h"
#include "duo/store.h"
#include "duo/train.h"

enum { DUO_CHECKPOINT_VERSION = 1 };

/** What a checkpoint is made of; all borrowed. */
typedef struct duo_checkpoint_state {
    const duo_model *model;
    const char *recipe;    /**< complete resolved text */
    const void *tokenizer; /**< bytes of the SentencePiece model */
    size_t tokenizer_bytes;
    uint64_t seed;
    const duo_progress *progress;
    const char *stage;     /**< name of progress->stage */
    const duo_tree *m, *v; /**< moments of what the stage trains; NULL: none */
    double lr, tau, loss;  /**< of the last step, for information */
} duo_checkpoint_state;

/** Write atomically. DUO_ENUMBER, and nothing is written, when a weight or moment is not finite. */
duo_status duo_checkpoint_save(const char *path, const duo_checkpoint_state *state);

/** An open checkpoint whose seal and structure have been verified. */
typedef struct duo_checkpoint duo_checkpoint;
duo_status duo_checkpoint_open(duo_checkpoint **checkpoint, const char *path);
void duo_checkpoint_close(duo_checkpoint *checkpoint);

/** All borrowed from the checkpoint. */
const char *duo_checkpoint_path(const duo_checkpoint *checkpoint);
const char *duo_checkpoint_recipe(const duo_checkpoint *checkpoint);
const char *duo_checkpoint_stage(const duo_checkpoint *checkpoint);
const void *duo_checkpoint_tokenizer(const duo_checkpoint *checkpoint, size_t *bytes);
const duo_config *duo_checkpoint_config(const duo_checkpoint *checkpoint);
const duo_progress *duo_checkpoint_progress(const duo_checkpoint *checkpoint);
/** Instruction set that trained it, as duo_isa_name gives it. */
const char *duo_checkpoint_isa(const duo_checkpoint *checkpoint);

/** A model with the checkpoint's weights; the caller frees it. */
duo_status duo_checkpoint_model(const duo_checkpoint *checkpoint, duo_model **model);
/** Read the moments into trees of the same groups; DUO_EDATA names a tensor that is missing. */
duo_status duo_checkpoint_moments(const duo_checkpoint *checkpoint, duo_tree *m, duo_tree *v);

/** XXH3-128 over names and values of all parameters in table order: the identity of a model. */
duo_hash duo_model_hash(const duo_model *model);

/* ---------------------------------------------------------------- run folder */

/**
 * checkpoints/NAME: recipe.conf, metrics.jsonl, step-00001000.h5, ..., latest -> the newest,
 * best.h5. One writer at a time, held by a lock on the file `lock`, which a crash cannot leave
 * behind.
 */
typedef struct duo_run duo_run;

/**
 * Make or enter a run folder and lock it; removes stale temporary files. DUO_EINVAL when it is
 * locked by another process, or when it holds checkpoints and `resume` is false, or holds none
 * and `resume` is true. The caller closes *run.
 */
duo_status duo_run_open(duo_run **run, const char *folder, size_t keep, bool resume);
void duo_run_close(duo_run *run);
const char *duo_run_folder(const duo_run *run);
/** folder/NAME; borrowed until the next call. */
const char *duo_run_path(duo_run *run, const char *name);

/**
 * The newest checkpoint that verifies. Damaged ones are renamed to *.damaged with one line on
 * stderr each, and the one before is tried; DUO_EDATA when none is left.
 */
duo_status duo_run_newest(duo_run *run, duo_checkpoint **checkpoint);

/**
 * Save step-NNNNNNNN.h5, point `latest` at it and, when best, best.h5; then drop the oldest
 * beyond `keep`, never one that ends a stage (milestone).
 */
duo_status duo_run_save(duo_run *run, const duo_checkpoint_state *state, bool best, bool milestone);

/** Append one line to metrics.jsonl. */
duo_status duo_run_log(duo_run *run, const char *line);
/** Drop lines of metrics.jsonl whose "step" is beyond this one, and a torn last line. */
duo_status duo_run_rewind_log(duo_run *run, uint64_t step);

#endif
