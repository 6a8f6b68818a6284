#ifndef DUO_CLI_ROUTER_STAGE_H
#define DUO_CLI_ROUTER_STAGE_H

#include <stdio.h>

#include "training.h"

/** What router stages have beyond the others. */

/** Keys of a line of metrics, each with a comma in front. */
void duo_cli_router_metrics(FILE *out, const duo_stage_recipe *stage, const duo_step_report *report,
                            const duo_config *config);

/** At the end of a stage: set the thresholds on training text, and say on stdout what that did to
 *  the shares. *calibrated is whether: not where the recipe wants none. */
duo_status duo_cli_calibrate_stage(duo_training *training, const duo_stage_recipe *stage,
                                   bool *calibrated);
/** At the end of such a stage: best.h5, where it was saved before, gets thresholds of its own in
 * the same way, and its shares on held-out text are told. Nothing is done where it has them, so
 * that a resumed run may ask again. False when that was left undone for a wish to stop; a failure
 * is a warning, since the run is whole. */
bool duo_cli_calibrate_best(duo_training *training, const duo_stage_recipe *stage);
/** `told`: the routers are told the budget. Says so when a target is missed by half a point. */
void duo_cli_print_calibrated(const char *name, const duo_calibrated *calibrated,
                              duo_module_set modules, bool told);
/** The shares that thresholds give held-out text, usage (L, DUO_MODULES); says so when they miss
 *  the budget as below. */
void duo_cli_print_held_out(const duo_stage_recipe *stage, const uint64_t *usage,
                            const duo_config *config);

/** Whether shares, usage (L, DUO_MODULES), are within a point of the targets of a router stage, or
 *  their FLOPs within a hundredth of the wanted ones: what spends more or less cannot be its best.
 *  True for other stages. */
bool duo_cli_meets_budget(const duo_stage_recipe *stage, const uint64_t *usage,
                          const duo_config *config);

/** Warn, by layer, of routers that send every token one way without thresholds: when most layers
 * do, or some do and the shares are 5 points or more off a target. *warned is the number of such
 * layers that was warned of, and is not again. */
void duo_cli_warn_of_collapse(const duo_stage_recipe *stage, const uint64_t *usage, size_t L,
                              size_t *warned);

#endif
