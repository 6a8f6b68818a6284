#ifndef DUO_CLI_DRY_RUN_H
#define DUO_CLI_DRY_RUN_H

#include "duo/recipe.h"

/** Warn of what ends a run after hours: a teacher that cannot be read, a stage that does not fit
 * into the machine's memory, routers or small FFNs over a model that nothing has trained. */
duo_status duo_cli_foresee(const duo_recipe *recipe);

/** Print what a recipe would train: its resolved text, parameters by group, memory and FLOPs;
 * foresee, and refuse token files and weights that are there and do not fit. */
duo_status duo_cli_dry_run(const duo_recipe *recipe);

#endif
