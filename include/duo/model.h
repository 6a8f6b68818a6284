#ifndef DUO_MODEL_H
#define DUO_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "duo/arena.h"
#include "duo/config.h"
#include "duo/kernels.h"

/* ---------------------------------------------------------------- parameter table */

/** Parts of a model that are counted, frozen and trained together. */
typedef enum duo_group {
    DUO_GROUP_EMBEDDING,
    DUO_GROUP_ATTENTION,
    DUO_GROUP_NORM,
    DUO_GROUP_SMALL,
    DUO_GROUP_BIG,
    DUO_GROUP_HEAD,
    DUO_GROUP_ROUTER,
    DUO_GROUPS
} duo_group;

typedef unsigned duo_group_set; /**< bit 1 << group */
#define DUO_GROUP_BIT(group) (1u << (group))
enum { DUO_ALL_GROUPS = (1 << DUO_GROUPS) - 1 };

/** "embedding", "attention", ... */
const char *duo_group_name(duo_group group);

/** What a tensor is for. The first DUO_P_LAYER_KINDS stand in every layer, the rest once. */
typedef enum duo_slot {
    DUO_P_ATTN_NORM,
    DUO_P_Q,
    DUO_P_K,
    DUO_P_V,
    DUO_P_O,
    DUO_P_FFN_NORM,
    DUO_P_BIG_GATE,
    DUO_P_BIG_UP,
    DUO_P_BIG_DOWN,
    DUO_P_SMALL_GATE,
    DUO_P_SMALL_UP,
    DUO_P_SMALL_DOWN,
    DUO_P_ROUTER_WEIGHT,
    DUO_P_ROUTER_BIAS,
    DUO_P_ROUTER_HIDDEN, /**< the hidden layer's weight */
    DUO_P_ROUTER_HIDDEN_BIAS,
    DUO_P_ROUTER_BUDGET,
    DUO_P_ROUTER_PREVIOUS,
    DUO_P_ROUTER_POSITION,
    DUO_P_LAYER_KINDS,
    DUO_P_TOK_EMB = DUO_P_LAYER_KINDS,
    DUO_P_FINAL_NORM,
    DUO_P_LM_HEAD,
    DUO_P_KINDS
} duo_slot;

/** One parameter tensor, described once: allocation, count, initial values, optimizer groups and
 *  checkpoints all follow this table. */
typedef struct duo_param {
    char name[48]; /**< under /model, as in "layers/00/attn/q/weight" */
    duo_slot slot;
    unsigned stream; /**< of the random numbers behind its initial values */
    size_t layer;    /**< 0 for tensors outside the layers */
    size_t rank, shape[2];
    size_t count;
    duo_group group;
    bool decay;      /**< weight decay applies */
    double init_std; /**< initial values N(0, init_std^2); 0: all init_mean */
    double init_mean;
} duo_param;

typedef struct duo_params {
    duo_config config;
    size_t n;
    duo_param *table; /**< in the order of checkpoints */
} duo_params;

/** Describe the parameters of a checked config. The caller frees with duo_params_free. */
duo_status duo_params_create(duo_params *params, const duo_config *config);
void duo_params_free(duo_params *params);
/** Parameters in a set of groups. */
size_t duo_params_count(const duo_params *params, duo_group_set groups);

/**
 * Tensors of some groups in one block of memory: the weights, their gradients, the optimizer's
 * moments. Tensors of other groups are NULL, which to a kernel means "frozen".
 */
typedef struct duo_tree {
    const duo_params *params; /**< borrowed */
    float *block;
    size_t count;    /**< floats in the block; tensors are padded to cache lines, with zeros */
    float **tensors; /**< (params->n) */
    float **slots;   /**< (n_layers + 1, DUO_P_KINDS) */
} duo_tree;

/** Lay a tree out in an arena; zeroed if the arena's memory is. */
void duo_tree_take(duo_tree *tree, const duo_params *params, duo_group_set groups,
                   duo_arena *arena);

/** The tensor of a slot; layer 0 for those outside the layers. NULL when absent or frozen. */
static inline float *duo_tree_at(const duo_tree *tree, size_t layer, duo_slot slot)
{
    const size_t row = slot < DUO_P_LAYER_KINDS ? layer : tree->params->config.n_layers;
    return tree->slots[row * DUO_P_KINDS + slot];
}

/* ---------------------------------------------------------------- model */

/**
 * How routers decide at evaluation: the module of the largest logit less its threshold; the lower
 * module wins a tie. With `exact` every token takes big in n_big layers, no more and no less: a
 * token that has spent them takes the best other module, one that needs all layers left takes big.
 */
typedef struct duo_router_rule {
    float budget; /**< share of big, which routers with that input are told */
    float threshold[DUO_MODULES];
    bool exact;
    size_t n_big;
} duo_router_rule;

typedef struct duo_model {
    duo_params params;
    duo_tree weights;
    duo_weight *linear;   /**< (n_layers + 1, DUO_P_KINDS): the matrices, as products read them */
    float *rope;          /**< (max_seq, D/2, 2) */
    float *thresholds;    /**< (duo_threshold_rows, DUO_MODULES), zero until they are calibrated */
    bool calibrated;      /**< they are, be it to zero */
    duo_router_rule rule; /**< of DUO_ROUTING_ROUTER where nothing else is said */
    duo_arena arena, packs;
} duo_model;

/** A model with all weights zero, of a config that duo_config_check lets pass. DUO_ENOMEM; the
 *  caller frees *model. */
duo_status duo_model_create(duo_model **model, const duo_config *config);
void duo_model_free(duo_model *model);

/** Bytes that duo_model_create would map for a model of these parameters. */
size_t duo_model_bytes(const duo_params *params);

/**
 * Packed forms of the weights that products read, so that no product packs them again.
 *
 * duo_model_pack: for a model that is read only, forward; in memory of its own, which is freed with
 * the model or by duo_model_drop_packs. DUO_ENOMEM.
 *
 * duo_model_take_packs: in the caller's arena, which must outlive them or be followed by
 * duo_model_drop_packs; nothing is packed yet. While measuring, model may be NULL.
 *
 * duo_model_repack: pack what was taken, of these groups: at first all, later what has changed.
 *
 * The precision is that of the products' operands; the weights themselves stay fp32, and products
 * of routers are always fp32.
 */
duo_status duo_model_pack(duo_model *model, duo_precision precision);
void duo_model_take_packs(duo_model *model, const duo_params *params, duo_precision precision,
                          bool backward, duo_arena *arena);
void duo_model_repack(duo_model *model, duo_group_set groups);
void duo_model_drop_packs(duo_model *model);

/** Draw the initial values of some groups: the same for a seed whatever the other groups are. */
void duo_model_init(duo_model *model, duo_group_set groups, uint64_t seed);

/** Replace *model by one with the routers of `config`, freshly drawn; everything else is kept. On
 *  failure, DUO_ENOMEM, *model is unchanged. */
duo_status duo_model_add_routers(duo_model **model, const duo_config *config, uint64_t seed);

/** Routers begin with the modules of a pattern (L) `lean` above the others: their biases. */
void duo_model_lean(duo_model *model, const uint8_t *pattern, float lean);

/** Rows of thresholds: one, or with the budget as an input one for each of 0..L big layers. */
size_t duo_threshold_rows(const duo_config *config);
/** The rule for n_big big layers per token, with thresholds interpolated between rows; routers
 *  without that input have one rule, whatever n_big. */
duo_router_rule duo_model_rule(const duo_model *model, double n_big);

/** A layer's matrix as products read it: of attention, an FFN or the router. */
static inline const duo_weight *duo_model_weight(const duo_model *model, size_t layer,
                                                 duo_slot slot)
{
    return &model->linear[layer * DUO_P_KINDS + slot];
}
/** The head's matrix (V, C): tok_emb when tied. */
const duo_weight *duo_model_head(const duo_model *model);

/* ---------------------------------------------------------------- routes */

/** Every token of n takes `module` at every layer. routes (n, L). */
void duo_routes_fill(uint8_t *routes, size_t n, size_t L, duo_module module);
/** Every token of n takes the same pattern (L). */
void duo_routes_repeat(uint8_t *routes, size_t n, size_t L, const uint8_t *pattern);
/** Independent draws, P(module m) = p[m] / sum(p), for rows first_row .. first_row+B-1 of a step.
 *  routes (B, T, L). */
void duo_routes_random(uint8_t *routes, size_t B, size_t T, size_t L, const double p[DUO_MODULES],
                       uint64_t seed, uint64_t step, size_t first_row);
/** A text of L letters, as in "BS-B": B or b big, S or s small, - skip. DUO_EINVAL otherwise. */
duo_status duo_routes_pattern(uint8_t *pattern, size_t L, const char *text);
/** Standard Gumbel noise (B, T, L, M) for rows first_row .. first_row+B-1 of a step. */
void duo_gumbel_fill(float *noise, size_t B, size_t T, size_t L, size_t M, uint64_t seed,
                     uint64_t step, size_t first_row);
/** Count modules per layer: usage (L, DUO_MODULES) += counts over n tokens. */
void duo_routes_count(uint64_t *usage, const uint8_t *routes, size_t n, size_t L);
/** Each module's share of such counts over all layers; at least one token was counted. */
void duo_routes_shares(double share[DUO_MODULES], const uint64_t *usage, size_t L);

/** Tokens of one layer grouped by module; skipped tokens are counted and in no list. */
typedef struct duo_row_groups {
    uint32_t *rows[DUO_MODULES]; /**< ascending; rows[DUO_SKIP] is not filled */
    size_t count[DUO_MODULES];
} duo_row_groups;
/** Fill the lists, of n entries each, from the modules routes[i * stride], i < n. */
void duo_routes_group(duo_row_groups *groups, const uint8_t *routes, size_t stride, size_t n);

/** 2 * multiply-adds of one token's forward pass: all but its FFNs, which sees `context` positions
 * on average (itself included), */
double duo_flops_base(const duo_config *config, double context);
/** one FFN, */
double duo_flops_ffn(const duo_config *config, duo_module module);
/** and of the routers of all layers (0 without routers). */
double duo_flops_routers(const duo_config *config);

/* ---------------------------------------------------------------- whole sequences */

typedef enum duo_routing_kind {
    DUO_ROUTING_GIVEN,  /**< routes are read */
    DUO_ROUTING_ROUTER, /**< the router's best module, no noise; routes are written */
    DUO_ROUTING_GUMBEL  /**< mixture by Gumbel-softmax; routes are written (largest weight) */
} duo_routing_kind;

/**
 * What a sequence's shares P_m, means over layers and positions of softmax(logits) without noise
 * and temperature, cost beyond the language model's loss (sums over the modules with a target t_m):
 *
 *     squared      sum_m (P_m - t_m)^2                      arXiv:2410.10846, section 3
 *     hinge        sum_m max(0, P_m - t_m)
 *     flops        (sum_m P_m c_m - c)^2,  c_m = (f_m - f_least) / (f_most - f_least)
 *     lagrangian   sum_m (P_m - t_m)^2 + lambda_m (P_m - t_m)
 *
 * f_m are the FLOPs of the module's FFN, least and most among those that the routers know: with
 * small and big, c_big = 1 and c_small = 0. lambda_m is the caller's, as of the augmented
 * Lagrangian.
 *
 * That is the penalty. The routers' own loss of a sequence is
 *
 *     alpha * penalty
 *     + balance * mean_l sum_m (P_lm - t_m)^2               each layer's shares on their own
 *     + z * mean_ln (log sum_m exp h_lnm)^2                 arXiv:2202.08906
 *     + teach * mean_ln -(1 - p_y)^focal log p_y            y = teacher[l, n], p = softmax(h)
 *
 * focal 0 is the cross-entropy; arXiv:1708.02002. Routes of a teacher that the routers do not know
 * count nothing. With the values v (losses) of the modules at each state, in place of that
 *
 *     + teach * mean_ln sum_{m<k} H((h_m - h_k) - (v_k - v_m) / unit)
 *
 * over the modules whose value is finite: differences of logits regress gaps of loss. H is Huber's
 * loss, e^2 / 2 up to |e| = huber and huber (|e| - huber / 2) beyond; the square alone where huber
 * is 0.
 */
typedef struct duo_router_loss {
    duo_penalty penalty;
    double alpha, balance, z, teach, focal;
    double target[DUO_MODULES];     /**< wanted shares; negative: none */
    double multiplier[DUO_MODULES]; /**< lagrangian */
    double cost;                    /**< flops: c */
    const uint8_t *teacher;         /**< (B, T, L), or NULL */
    const float *values;            /**< (B, T, L, DUO_MODULES) by module, or NULL */
    double unit, huber;             /**< of values; unit > 0 */
} duo_router_loss;

typedef struct duo_routing {
    duo_routing_kind kind;
    uint8_t *routes;             /**< (B, T, L) */
    const float *noise;          /**< Gumbel: (B, T, L, M), or NULL for none */
    float tau;                   /**< Gumbel: temperature */
    bool straight_through;       /**< Gumbel: hard choices forward */
    const duo_router_rule *rule; /**< router: NULL: the model's */
    const float *budgets;        /**< (B) share of big that routers are told, which is also the
                                      target of big; NULL: the rule's, and the loss's */
    duo_router_loss loss;        /**< Gumbel, or given routes with duo_pass_shape.routers */
} duo_routing;

/** What a pass must be able to do; it decides what is kept. */
typedef struct duo_pass_shape {
    size_t B, T;
    bool backward;
    bool gumbel;  /**< DUO_ROUTING_GUMBEL */
    bool routers; /**< the routers' logits of all layers, whatever the routing; Gumbel has them */
    bool keep_kv; /**< keys and values of all layers, for duo_cache_fill */
    duo_precision attention; /**< of its products (duo_attention_shape): training's; where a pass
                              * must agree with steps of a node each, it is fp32 */
} duo_pass_shape;

/** Activations of one micro-batch. */
typedef struct duo_pass duo_pass;

/** Lay a pass out in an arena (everything, the pass itself included): T <= max_seq, B*T <= 2^32.
 *  NULL while measuring. */
duo_pass *duo_pass_take(const duo_params *params, duo_pass_shape shape, duo_arena *arena);

/** Forward through all layers. tokens (B, T+1): inputs and, one further, targets. */
void duo_pass_forward(duo_pass *pass, const duo_model *model, const int32_t *tokens,
                      const duo_routing *routing);

/**
 * Cross-entropy of the targets: loss (B, T) in nats. With a gradient tree also the gradient of
 * dloss * sum(loss), into the head and the final hidden states, for duo_pass_backward.
 */
void duo_pass_loss(duo_pass *pass, const duo_model *model, float *loss, const duo_tree *gradient,
                   float dloss);

/** The first output of a kernel that was not finite. */
typedef struct duo_anomaly {
    bool found;
    char place[64]; /**< "layer 3, attention of the forward pass" */
} duo_anomaly;

/**
 * From now on look at every output of forward, loss and backward, and note the first that is not
 * finite in *anomaly unless that has one; NULL: no more. It costs a reading of each.
 */
void duo_pass_detect(duo_pass *pass, duo_anomaly *anomaly);

/** Logits (B, T, V) of the pass. */
void duo_pass_logits(duo_pass *pass, const duo_model *model, float *logits);

/** The terms of a sequence's router loss, without their weights. */
typedef struct duo_router_terms {
    double penalty, balance, z, teacher;
    double total;  /**< with their weights */
    double taught; /**< choices of which the teacher names a module that the router knows */
    double agree;  /**< share of those whose logit is the largest; 0 where there are none */
} duo_router_terms;

/** terms (B) of the last pass; only with Gumbel routing or duo_pass_shape.routers. */
void duo_pass_router_loss(const duo_pass *pass, const duo_routing *routing,
                          duo_router_terms *terms);

/** shares (L, DUO_MODULES) += sum over sequences of the mean over positions of P; likewise. */
void duo_pass_router_shares(const duo_pass *pass, double *shares);

/** Logits (B, T, L, M) of all routers; likewise. */
void duo_pass_router_logits(const duo_pass *pass, float *logits);

/** The wanted cost c of a flops penalty that targets mean: what has none shares the rest, all of it
 *  taken by the cheapest such module. `target` as in duo_router_loss. */
double duo_router_cost(const duo_config *config, const double target[DUO_MODULES]);
/** And that of FFN_FLOPS per token in all layers. */
double duo_router_cost_of_flops(const duo_config *config, double ffn_flops);

/**
 * Backward through all layers: adds to every tensor that `gradient` has, and does no work for
 * those that it lacks, nor below the lowest that it has. Adds drouter times the gradient of the sum
 * of the sequences' router losses. With given routes and only routers to train nothing of the
 * language model is read, and duo_pass_loss needs no gradient.
 */
void duo_pass_backward(duo_pass *pass, const duo_model *model, const duo_routing *routing,
                       const duo_tree *gradient, float drouter);

/* ---------------------------------------------------------------- position by position */

/** Keys and values of S sequences. */
typedef struct duo_cache {
    size_t S, max_T;
    float *k, *v;      /**< (L, S, max_T, Hkv, D) */
    uint32_t *lengths; /**< (S) positions held */
} duo_cache;

/** Lay out an empty cache in an arena. */
void duo_cache_take(duo_cache *cache, const duo_params *params, size_t S, size_t max_T,
                    duo_arena *arena);
/** Of R sequences of T positions how many, at least one, have keys and values in so many bytes. */
size_t duo_cache_rows(const duo_config *config, size_t R, size_t T, size_t bytes);
/** Take over the first `length` positions of a pass with keep_kv and B == S. */
void duo_cache_fill(duo_cache *cache, const duo_pass *pass, size_t length);

/** Scratch for nodes: hidden states that each continue one cached sequence at some position. */
typedef struct duo_nodes duo_nodes;
/** Lay it out in an arena, for caches of max_T positions; more nodes than `capacity` are worked on
 *  in blocks of so many. NULL while measuring. */
duo_nodes *duo_nodes_take(const duo_params *params, size_t capacity, size_t max_T,
                          duo_arena *arena);

/** x (n, C) = embeddings of tokens (n). */
void duo_nodes_embed(const duo_model *model, float *x, const int32_t *tokens, size_t n);

/**
 * The attention half of a layer for n nodes, node i at positions[i] of cached sequence
 * sequences[i], of which it sees the positions before: x (n, C) += attention; h (n, C) = the normed
 * FFN input; k, v (n, Hkv, D) of the nodes, or both NULL.
 */
void duo_nodes_attend(duo_nodes *nodes, const duo_model *model, size_t layer, float *x, float *h,
                      float *k, float *v, const duo_cache *cache, const uint32_t *sequences,
                      const uint32_t *positions, size_t n);

/** One FFN for n nodes: y[y_rows[i]] += FFN(h[h_rows[i]]). */
void duo_nodes_ffn(duo_nodes *nodes, const duo_model *model, size_t layer, duo_module module,
                   float *y, const uint32_t *y_rows, const float *h, const uint32_t *h_rows,
                   size_t n);

/** The modules of n nodes by the layer's router, of the rule or (NULL) the model's:
 * routes[i * stride], i < n. In front of it stand those of the layers below. */
void duo_nodes_route(duo_nodes *nodes, const duo_model *model, const duo_router_rule *rule,
                     size_t layer, uint8_t *routes, size_t stride, const float *h,
                     const uint32_t *positions, size_t n);

/** logits (n, V) of final hidden states x (n, C). */
void duo_nodes_logits(duo_nodes *nodes, const duo_model *model, float *logits, const float *x,
                      size_t n);

/**
 * Advance every sequence of the cache by one token (S <= capacity): tokens (S), routes (S, L) given
 * or chosen by the router, logits (S, V) or NULL. lengths grow by one; they must be below max_T.
 */
void duo_decode(duo_nodes *nodes, const duo_model *model, duo_cache *cache, const int32_t *tokens,
                const duo_routing *routing, float *logits);

#endif
