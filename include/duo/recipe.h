#ifndef DUO_RECIPE_H
#define DUO_RECIPE_H

#include <stdint.h>

#include "duo/config.h"
#include "duo/precision.h"

/**
 * A recipe: one experiment as a text file (libconfuse syntax).
 *
 *     name = quickstart
 *     model { n_layers = 8 ... }
 *     data { tokens = "data/quickstart.h5"  domain prose { weight = 1 } ... }
 *     stage duo { steps = 1000 ... }
 *     stage router { budget = 4 ... }
 *
 * Every key has a type, a range and a default; an unknown key, a wrong type, a value out of range
 * or a section that is never closed is an error with file and line. Sections are opened once and
 * keys given once; strings hold no escapes, and variables of the environment are not expanded.
 * Recipes are read by one thread at a time.
 */

enum { DUO_NAME_MAX = 64, DUO_PATH_MAX = 1024 };

typedef enum duo_stage_kind {
    DUO_STAGE_DENSE, /**< the base model alone: every token takes big */
    DUO_STAGE_DUO,   /**< random routing */
    DUO_STAGE_SMALL, /**< random routing; everything is frozen but the small FFNs */
    DUO_STAGE_ROUTER /**< Gumbel-softmax routing, or a teacher's; trains routers */
} duo_stage_kind;

typedef enum duo_curve {
    DUO_CURVE_CONSTANT,
    DUO_CURVE_LINEAR,
    DUO_CURVE_COSINE,
    DUO_CURVE_EXPONENTIAL
} duo_curve;

/** What a router stage trains. */
typedef enum duo_router_trains {
    DUO_TRAIN_ROUTER,       /**< the language model is frozen */
    DUO_TRAIN_ROUTER_SMALL, /**< and the small FFNs */
    DUO_TRAIN_ALL
} duo_router_trains;

/** What routers learn from a teacher's file. */
typedef enum duo_lesson {
    DUO_LEARN_ROUTES, /**< to choose as its routes do */
    DUO_LEARN_LABELS, /**< to choose the module of the least value at each state of its routes */
    DUO_LEARN_GAPS    /**< by how much: differences of logits regress differences of values */
} duo_lesson;

typedef struct duo_stage_recipe {
    char name[DUO_NAME_MAX]; /**< the section's title */
    duo_stage_kind kind;     /**< key `kind`; by default what the title says */

    uint64_t steps;
    size_t batch_size; /**< sequences per optimizer step */
    size_t
        micro_batch; /**< sequences per forward and backward; divides batch_size. 0: batch_size */
    size_t seq_len;  /**< T. 0: the model's max_seq */
    duo_precision precision; /**< of the operands of matrix products; all else is fp32 */

    double lr, min_lr;    /**< peak; and the end of the decay, as a share of the peak */
    uint64_t warmup;      /**< steps of linear warm-up */
    duo_curve schedule;   /**< cosine, linear; or constant with a decay tail */
    uint64_t decay_steps; /**< constant: steps of the linear tail */
    double beta1, beta2, eps, weight_decay;
    double clip; /**< largest global norm of the gradient; 0: no clipping */

    uint64_t bad_steps; /**< in a row that are skipped; one more, and the run rolls back or stops */
    double rollback_lr; /**< times the learning rate at each rollback; negative: none, stop */
    size_t spike_window; /**< losses that one is held against; 0: none is */
    double spike_sigma;  /**< standard deviations above their mean that are worth a warning */

    double p[DUO_MODULES]; /**< random routing: probability of each module, sum 1 */

    duo_module_set modules;     /**< router: what it chooses among; key modules = "small,big" */
    double target[DUO_MODULES]; /**< router: wanted share of each module; negative: none. Key
                                   `budget` (big layers per token) is target_big * n_layers */
    size_t router_hidden;       /**< router: width of a hidden layer; 0: linear */
    duo_router_inputs router_inputs;
    double budget_min, budget_max; /**< budget as an input: big layers per token, drawn evenly for
                                      each sequence; the target is then that of validation */
    char start[DUO_PATH_MAX]; /**< pattern that new routers lean to, a letter per layer; "": none */
    double lean;              /**< by so much their logits of its modules are above the others */
    duo_router_trains train;
    double router_lr; /**< peak learning rate of routers; 0: lr */

    duo_penalty penalty;
    double alpha;        /**< weight of the penalty */
    double target_flops; /**< flops: wanted per token, all included; 0: what the targets mean */
    double dual_lr;      /**< lagrangian: step of the multipliers */
    double balance;      /**< weight of each layer's own shares */
    double z_loss;       /**< weight of the squared log-sum-exp of the logits */
    double tau_start, tau_end;
    duo_curve tau_schedule;
    uint64_t tau_tail;            /**< last steps, at tau_end */
    uint64_t hard_tail;           /**< last steps, with hard choices forward */
    bool straight_through, noise; /**< hard choices forward; Gumbel noise on (default) or off */
    size_t calibrate; /**< windows of training text for the thresholds at the end; 0: none */

    char teacher[DUO_PATH_MAX]; /**< routes file to learn from; "": none */
    duo_lesson learn;           /**< labels and gaps need the file's values */
    double huber;               /**< gaps: bound of Huber's loss in units of the gaps' root mean
                                     square; 0: squares */
    double teach, focal; /**< weight of its loss; 0: cross-entropy, else the focal exponent */
    double language; /**< with a teacher: weight of the language model's loss. 0: the forward pass
                        follows the teacher's routes, else it mixes */

    uint64_t log_every, val_every, save_every; /**< steps; 0: never (save: only at the end) */
    size_t val_windows;                        /**< held-out windows per validation */
} duo_stage_recipe;

typedef struct duo_domain_recipe {
    char name[DUO_NAME_MAX];
    double weight;
} duo_domain_recipe;

typedef struct duo_recipe {
    char name[DUO_NAME_MAX]; /**< the run folder is checkpoints/NAME */
    uint64_t seed;
    size_t keep;             /**< checkpoints kept besides the ends of stages and the best */
    char init[DUO_PATH_MAX]; /**< checkpoint whose weights a new run starts from; empty: none */
    duo_config model;
    char tokens[DUO_PATH_MAX]; /**< token file */
    size_t n_domains;          /**< 0: the file's own proportions */
    duo_domain_recipe *domains;
    size_t n_stages;
    duo_stage_recipe *stages;
} duo_recipe;

/**
 * Read a recipe file. Each override is "key=value" with the key's path, as in
 * "stage.router.budget=4" or "seed=2"; the last one wins. DUO_EINVAL names file and line, or the
 * override. The caller frees *recipe.
 */
duo_status duo_recipe_load(duo_recipe **recipe, const char *path, const char *const *overrides,
                           size_t n_overrides);

/** The same from a text; `where` stands for the file's name in messages. */
duo_status duo_recipe_parse(duo_recipe **recipe, const char *text, const char *where,
                            const char *const *overrides, size_t n_overrides);

/**
 * The complete recipe as text, every key with its value, in a fixed order: equal recipes give
 * equal texts, and parsing it gives the recipe back to the last bit. NULL without memory; the
 * caller frees it.
 */
char *duo_recipe_text(const duo_recipe *recipe);

/** A key, as "stage.dense.steps", whose values differ, or a stage or domain that only one recipe
 * has, with NULL for the other's value. `stage` is its number, SIZE_MAX outside of stages. */
typedef void duo_recipe_change(void *context, size_t stage, const char *key, const char *before,
                               const char *now);
/** Tell of each difference, in the order of the text. Stages and domains are held against those of
 * the same number. */
void duo_recipe_changes(const duo_recipe *before, const duo_recipe *now, duo_recipe_change *tell,
                        void *context);

/** Every key with type, default and meaning, for `duo train --keys`. Static. */
void duo_recipe_print_keys(void);

void duo_recipe_free(duo_recipe *recipe);

#endif
