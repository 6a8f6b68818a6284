#ifndef DUO_BENCH_TRIAL_H
#define DUO_BENCH_TRIAL_H

#include "bench_internal.h"
#include "duo/train.h"

/** A token file of random ids, enough for sequences of T tokens. */
duo_status bench_tokens_write(const char *path, size_t vocab_size, size_t T);

/** A new folder for temporary files into path. */
duo_status bench_folder_create(char path[DUO_PATH_MAX]);

/** One stage of training on random tokens. */
typedef struct bench_trial {
    duo_model *model;
    duo_tokens *tokens;
    duo_sampler *sampler;
    duo_trainer *trainer;
    duo_progress progress;
    duo_step_report report; /* of the last step */
    duo_status status;      /* of the steps so far */
} bench_trial;

/** The kernels must have been started. The caller closes *trial, also after a failure. */
duo_status bench_trial_open(bench_trial *trial, const duo_config *config,
                            const duo_stage_recipe *stage);
void bench_trial_close(bench_trial *trial);
/** One step: a bench_work of a bench_trial. */
void bench_trial_step(void *trial);

#endif
