#ifndef DUO_CLI_DRY_RUN_H
#define DUO_CLI_DRY_RUN_H

#include "duo/recipe.h"

/** Print what a recipe would train: its resolved text, parameters by group, memory and FLOPs. */
duo_status duo_cli_dry_run(const duo_recipe *recipe);

#endif
