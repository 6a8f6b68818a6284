#ifndef DUO_ROUTER_H
#define DUO_ROUTER_H

#include "duo/kernels.h"
#include "duo/model.h"

/**
 * A layer's router: z = W h + b plus one row of a table for each further input; its logits are z,
 * or with a hidden layer W' a + b', a = z where z > 0 and z / 8 elsewhere. Everything is fp32.
 *
 *     budget    a share of big between two of 9 rows takes a mixture of both
 *     previous  the row of the module that the token took in the layer below; none in layer 0
 *     position  t + 1 between two powers of two takes a mixture of their rows
 */
enum { ROUTER_BUDGETS = 9 };

/** Rows of the table of positions: for the powers of two from 1 to the second that is max_seq or
 *  more. */
size_t duo_router_places(const duo_config *config);

/** Width of z: of the hidden layer, or the number of modules. */
size_t duo_router_width(const duo_config *config);

/** What a layer's router reads of n rows. */
typedef struct duo_router_rows {
    size_t n;
    const float *h;        /**< (n, C) the FFN's normed input */
    const uint8_t *routes; /**< routes[i * stride] of the layer, those of layers below in front */
    size_t stride;
    const uint32_t *positions;
    const float *budgets; /**< of row i: budgets[i / per_budget] */
    size_t per_budget;
} duo_router_rows;

/** logits (n, M); hidden (n, H): a, NULL for a linear router. */
void duo_router_forward(float *logits, float *hidden, const duo_router_rows *rows,
                        const duo_model *model, size_t layer);

/** Adds to what `gradient` has of the layer's router, and to dh (n, C) unless that is NULL. hidden
 *  is forward's; dhidden (n, H) is scratch. */
void duo_router_backward(const duo_tree *gradient, float *dh, float *dhidden, const float *dlogits,
                         const float *hidden, const duo_router_rows *rows, const duo_model *model,
                         size_t layer);

/** routes[i * stride] = the module that the rule takes for scores (n, M), i < n; rule NULL: that of
 *  the largest score. */
void duo_router_choose(uint8_t *routes, size_t stride, const float *scores,
                       const duo_config *config, const duo_router_rule *rule, size_t layer,
                       size_t n);

/** FLOPs of a module's FFN as a share of the way from the cheapest to the dearest of the routers'.
 */
void duo_router_costs(double costs[DUO_MODULES], const duo_config *config);

#endif
