#ifndef DUO_ROUTER_LOSS_H
#define DUO_ROUTER_LOSS_H

#include "pass.h"

/** Mean probability of every module, per sequence and layer, from `clean` of all layers. */
void duo_router_shares(duo_pass *pass);

/** dlogits (N, M) of layer l += drouter times the gradient of the sum of router losses. */
void duo_router_loss_backward(float *dlogits, const duo_pass *pass, const duo_routing *routing,
                              size_t l, double drouter);

#endif
