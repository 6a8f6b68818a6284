#ifndef DUO_CLI_TEACHER_H
#define DUO_CLI_TEACHER_H

#include "duo/model.h"
#include "duo/store.h"
#include "duo/train.h"

/** Routes to learn from, in the routes file that they came in. */
typedef struct duo_cli_teacher {
    duo_store *file;
    duo_teacher routes; /**< borrowed from it */
} duo_cli_teacher;

/**
 * Open the first policy of a routes file for a model of these sizes. `fresh`: the model has not
 * been trained since; a file that was made for another one is then warned of. DUO_EDATA names what
 * does not fit. Closed with duo_cli_teacher_close in every case.
 */
duo_status duo_cli_teacher_open(duo_cli_teacher *teacher, const char *path, const duo_model *model,
                                bool fresh);
void duo_cli_teacher_close(duo_cli_teacher *teacher);

#endif
