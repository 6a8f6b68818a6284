#ifndef DUO_STUDY_EVALUATOR_H
#define DUO_STUDY_EVALUATOR_H

#include "duo/study.h"

/** Ordinary forward passes over whole sequences of one length, in memory that is laid out once. */
typedef struct study_evaluator {
    const duo_model *model;
    size_t rows; /**< sequences of a pass, at most */
    size_t T;
    duo_arena arena;
    duo_pass *pass;
    size_t laid_out; /**< sequences that `pass` is made for */
} study_evaluator;

/** For sequences that are checked against the model here. Closed in every case. */
duo_status study_evaluator_open(study_evaluator *evaluator, const duo_model *model,
                                const duo_sequences *sequences, size_t rows);
void study_evaluator_close(study_evaluator *evaluator);

/** tokens (n, T+1), loss (n, T), 1 <= n <= rows. */
void study_evaluator_run(study_evaluator *evaluator, const int32_t *tokens, size_t n,
                         const duo_routing *routing, float *loss);

#endif
