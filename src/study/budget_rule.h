#ifndef DUO_STUDY_BUDGET_RULE_H
#define DUO_STUDY_BUDGET_RULE_H

#include "duo/oracle.h"

enum { DUO_MAX_LEVELS = 129 }; /* prefixes of 0..L modules; duo_config_check allows 128 layers */

/** A budget for the routes of some modules through the layers of a model. */
typedef struct duo_budget_rule {
    duo_budget budget;
    duo_module_set modules;
    size_t L;
    double flops[DUO_MODULES]; /**< of a module's FFN */
} duo_budget_rule;

duo_budget_rule duo_budget_rule_of(const duo_budget *budget, duo_module_set modules,
                                   const duo_config *config);

/** Whether a prefix of `length` modules, so many of them big and small, can be completed to a route
 *  within the budget. */
bool duo_budget_admits(const duo_budget_rule *rule, size_t length, size_t big, size_t small);

/** Prefixes that the budget admits. Doubles: 3^128 routes are many. */
typedef struct duo_prefix_counts {
    double prefixes[DUO_MAX_LEVELS];            /**< of so many modules */
    double ending[DUO_MAX_LEVELS][DUO_MODULES]; /**< those that end in a module */
} duo_prefix_counts;
void duo_budget_count(duo_prefix_counts *counts, const duo_budget_rule *rule);

#endif
