#ifndef DUO_ORACLE_H
#define DUO_ORACLE_H

#include "duo/study.h"

/**
 * Finding, for every token, the route that predicts its successor best. Source: arXiv:2410.10846,
 * section 2.2, which tries every route; here routes share prefixes, so that each distinct hidden
 * state is computed once, and prefixes that cannot meet the budget are dropped.
 *
 * The routes of earlier tokens change the keys and values that a token attends to. Committed
 * context: tokens are decided left to right, each seeing the routes chosen before it, so that one
 * forward pass with the recorded routes reproduces the loss. Reference context: all earlier tokens
 * took one given pattern, so that positions are independent and one tree answers every budget.
 *
 * Ties go to fewer big, then to the lower route code: the modules as digits in base 3, layer 0 the
 * most significant. Results are the same bits whatever is computed together: on any number of
 * threads, within any max_nodes, with any other sequences.
 */

/* ---------------------------------------------------------------- budgets */

/** What a route may cost. */
typedef struct duo_budget {
    enum { DUO_BUDGET_NONE, DUO_BUDGET_COUNT, DUO_BUDGET_FLOPS } kind;
    duo_module module; /**< counted: DUO_BIG or DUO_SKIP */
    double low, high;  /**< inclusive: layers that take the module, or forward FLOPs of the FFNs */
} duo_budget;

/** "none", "4" (exactly four big), "0..4" (at most four), "skip:6", "skip:2..6",
 *  "flops:2e6..3e6" (of all FFNs of a token). DUO_EINVAL otherwise. */
duo_status duo_budget_parse(duo_budget *budget, const char *text);
/** A text that reads back as the same budget. Returns text. */
const char *duo_budget_text(char text[64], const duo_budget *budget);
/** DUO_EINVAL when no route of the modules through the model's layers meets it. */
duo_status duo_budget_check(const duo_budget *budget, duo_module_set modules,
                            const duo_config *config);

/* ---------------------------------------------------------------- search */

typedef enum duo_search_method {
    DUO_SEARCH_EXACT, /**< every route within the budget */
    DUO_SEARCH_BEAM,  /**< at each layer the `width` best prefixes of every number of big (of skips,
                           where the budget counts them), by what their states have under the
                           model's head. A beam as wide as the routes are many is exact */
    DUO_SEARCH_GREEDY /**< from a start within the budget, single changes and swaps of layers, the
                           best first, while they help; `width` starts. Committed context only */
} duo_search_method;

/** What a route is chosen by. */
typedef enum duo_search_goal {
    DUO_GOAL_TARGET,    /**< loss of the target */
    DUO_GOAL_LABEL_FREE /**< expected loss sum_v q_v loss_v, with q the distribution of the all-big
                             route in all-big context: what can be known without the target */
} duo_search_goal;

typedef struct duo_search_setting {
    duo_module_set modules; /**< allowed; two or three */
    duo_budget budget;
    const duo_budget *schedule; /**< (T) budgets by position instead of one, or NULL; borrowed */
    duo_search_method method;
    size_t width; /**< of beam and greedy; at least 1 */
    duo_search_goal goal;
    const int32_t *targets; /**< (R, T) instead of the true successors, or NULL; borrowed */
    size_t max_nodes;       /**< states of a layer held at a time: bounds memory. 0: what fits into
                                 512 MiB, keys and values aside. A beam needs some for every token;
                                 bits do not depend on it */
    double *spent; /**< adds the FLOPs of the nodes that were computed, or NULL; borrowed */
} duo_search_setting;

/**
 * Committed context. trace: routes, and the loss of the target (also with the label-free goal).
 * DUO_EINVAL for a setting or sequences that do not fit the model; DUO_ENUMBER when no route of a
 * token has a finite loss.
 */
duo_status duo_search_committed(const duo_model *model, const duo_sequences *sequences,
                                const duo_search_setting *setting, duo_trace *trace,
                                duo_study_progress *progress, void *context);

/** For every token and every number of big FFNs 0..L the best route; b is that number. */
typedef struct duo_route_curve {
    uint8_t *routes; /**< (R, T, L+1, L) */
    float *loss;     /**< (R, T, L+1); infinity where no route has b big */
} duo_route_curve;

/** What one tree per token tells in reference context. */
typedef struct duo_reference {
    duo_route_curve oracle;     /**< chosen by the true target, and its loss */
    duo_route_curve control;    /**< chosen by a drawn target, and the loss of that */
    duo_route_curve label_free; /**< chosen by the expected loss, and the loss of the true target */
    float *expected;            /**< (R, T, L+1): the label-free routes' expected loss */
    int32_t *drawn;             /**< (R, T): the control's targets */
} duo_reference;

/** Room for the tokens of some sequences. The caller frees with duo_reference_free. */
duo_status duo_reference_create(duo_reference *reference, const duo_sequences *sequences, size_t L);
void duo_reference_free(duo_reference *reference);

/**
 * Reference context: earlier tokens took `pattern` (L). Exhaustive or by beam over the modules of
 * the setting, whose budget, schedule, goal and targets are not read: one tree answers all, while a
 * beam is run for each of the three. Distributions are those of the token's own all-big route in
 * this context. From them the control's targets are drawn, keyed by (seed, row, position), rows
 * counted from first_row, so that work may be cut into pieces. DUO_EINVAL and DUO_ENUMBER as above,
 * DUO_EINVAL also for a greedy search.
 */
duo_status duo_search_reference(const duo_model *model, const duo_sequences *sequences,
                                const duo_search_setting *setting, const uint8_t *pattern,
                                uint64_t seed, size_t first_row, duo_reference *reference,
                                duo_study_progress *progress, void *context);

/** How a route goes on behind the module that is valued. */
typedef enum duo_completion {
    DUO_COMPLETE_BEST, /**< as is best within the budget */
    DUO_COMPLETE_SAME  /**< as the routes at hand do; no budget */
} duo_completion;

/**
 * What every choice along given routes is worth: at token n and layer l, behind the prefix
 * routes[n, 0..l-1], the least score (the setting's goal) of the routes that go on with module m.
 * Tokens see the keys and values that the routes (R, T, L) of the tokens before them lead to, so
 * that these are the states of whoever chose the routes: of an oracle, or of a router, which learns
 * from its own mistakes by them (arXiv:1011.0686). By the best completion the values are those of
 * an oracle that takes over there; by the same, of changing one choice alone.
 *
 * values (R, T, L, DUO_MODULES) nats; infinity where no route within the budget goes on so, or the
 * module is not among the setting's. Exhaustive. DUO_EINVAL for a setting, sequences or routes that
 * do not fit; DUO_ENUMBER when no route of a token has a finite score.
 */
duo_status duo_search_values(const duo_model *model, const duo_sequences *sequences,
                             const duo_search_setting *setting, duo_completion completion,
                             const uint8_t *routes, float *values, duo_study_progress *progress,
                             void *context);

/** Sequences that a committed search decides together: the natural size of a piece of work. 1 where
 *  the search would be refused. */
size_t duo_search_rows(const duo_model *model, const duo_sequences *sequences,
                       const duo_search_setting *setting);

/** Multiply-adds, times two, of an exhaustive search of one token that sees so many positions
 *  (itself included), after sharing prefixes: all within the setting's budget, whatever its
 *  schedule. */
double duo_search_flops(const duo_config *config, const duo_search_setting *setting,
                        double context_length);

#endif
