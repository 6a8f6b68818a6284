#ifndef DUO_CLI_ROUTER_STAGE_H
#define DUO_CLI_ROUTER_STAGE_H

#include <stdio.h>

#include "training.h"

/** What router stages have beyond the others. */

/** Keys of a line of metrics, each with a comma in front. */
void duo_cli_router_metrics(FILE *out, const duo_stage_recipe *stage, const duo_step_report *report,
                            size_t L);

/** At the end of a stage: set the thresholds on training text, and say on stdout what that did to
 *  the shares. Does nothing where the recipe wants none. */
duo_status duo_cli_calibrate_stage(duo_training *training, const duo_stage_recipe *stage);
void duo_cli_print_calibrated(const char *name, const duo_calibrated *calibrated,
                              duo_module_set modules);

/** Warn, by layer, of routers that send every token one way, when none decides by token or the
 *  shares of held-out text, usage (L, DUO_MODULES), are 5 points or more off a target. */
void duo_cli_warn_of_collapse(const duo_stage_recipe *stage, const uint64_t *usage, size_t L);

#endif
