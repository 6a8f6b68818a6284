#ifndef DUO_STUDY_BUDGET_RULE_H
#define DUO_STUDY_BUDGET_RULE_H

#include "duo/oracle.h"

enum { STUDY_LEVELS = DUO_MAX_LAYERS + 1 }; /* prefixes of 0..L modules */

/** A budget for the routes of some modules through the layers of a model. */
typedef struct study_budget_rule {
    duo_budget budget;
    duo_module_set modules;
    size_t L;
    double flops[DUO_MODULES]; /**< of a module's FFN */
} study_budget_rule;

study_budget_rule study_budget_rule_of(const duo_budget *budget, duo_module_set modules,
                                       const duo_config *config);

/** Whether a prefix of `length` modules, so many of them big and small, can be completed to a route
 *  within the budget. */
bool study_budget_admits(const study_budget_rule *rule, size_t length, size_t big, size_t small);

/** Prefixes that the budget admits. Doubles: 3^128 routes are many. */
typedef struct study_prefix_counts {
    double prefixes[STUDY_LEVELS];            /**< of so many modules */
    double ending[STUDY_LEVELS][DUO_MODULES]; /**< those that end in a module */
} study_prefix_counts;
void study_budget_count(study_prefix_counts *counts, const study_budget_rule *rule);

#endif
