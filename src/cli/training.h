#ifndef DUO_CLI_TRAINING_H
#define DUO_CLI_TRAINING_H

#include "duo/checkpoint.h"
#include "duo/recipe.h"
#include "teacher.h"

/** A run in this process: from a recipe, or from the newest checkpoint of its folder. */
typedef struct duo_training {
    duo_recipe *recipe;
    char *recipe_text;
    duo_run *run;
    duo_tokens *tokens;
    duo_model *model;
    duo_sampler *sampler; /**< of the current stage, as is trainer */
    duo_trainer *trainer;
    duo_cli_teacher teacher;
    duo_progress progress;
    double loss;             /**< of the last good step */
    duo_losses losses;       /**< of the current stage */
    bool detect_anomaly;     /**< the caller's wish */
    bool saved;              /**< there is a checkpoint to go back to */
    duo_checkpoint *resumed; /**< until its moments have been read */
    double peak;             /**< measured multiply-add rate, FLOP/s */
    double started;          /**< seconds */
} duo_training;

/**
 * Set up everything that comes before the first step. `training` is zeroed by the caller, who
 * calls duo_training_close in every case. The recipe becomes its own.
 */
duo_status duo_training_open(duo_training *training, duo_recipe *recipe, const char *folder,
                             duo_run_start start);
/** The recipe's token file, which fits its model and domains. The caller closes *tokens, in every
 * case. */
duo_status duo_training_open_tokens(duo_tokens **tokens, const duo_recipe *recipe);
/** The checkpoint or run that `init` names, which fits the recipe's model and, unless it is NULL,
 * the token file. The caller closes *from, in every case. */
duo_status duo_training_open_init(duo_checkpoint **from, const duo_recipe *recipe,
                                  const duo_tokens *tokens);
/** The next stage's start, in progress. */
void duo_training_next_stage(duo_training *training);

/**
 * Between stages' work: the state of the last checkpoint, or of the start when there is none, with
 * one more rollback counted to the stage that wanted it.
 */
duo_status duo_training_roll_back(duo_training *training);
void duo_training_close(duo_training *training);

/**
 * Run all stages that are left. SIGINT and SIGTERM end it after the step that is running: the
 * state is saved, *interrupted set unless nothing was left to do, and DUO_OK returned.
 */
duo_status duo_training_run(duo_training *training, bool *interrupted);

#endif
