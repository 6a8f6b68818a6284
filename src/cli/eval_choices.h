#ifndef DUO_CLI_EVAL_CHOICES_H
#define DUO_CLI_EVAL_CHOICES_H

#include "common.h"

/** Answer a file of multiple choices under each of n policies: a table, and JSON unless NULL. */
duo_status duo_cli_answer_choices(const char *path, const duo_checkpoint *checkpoint,
                                  const duo_model *model, const duo_policy *const *policies,
                                  size_t n, uint64_t seed, size_t rows, const char *json);

#endif
