#ifndef DUO_OPTIMIZER_H
#define DUO_OPTIMIZER_H

#include "duo/train.h"

/** Global norm of a gradient, over all its tensors. */
double duo_gradient_norm(const duo_tree *gradient);

/**
 * One AdamW step over the tensors of `gradient`, clipped to the stage's norm. Weights of products
 * and embeddings decay; norms, biases and the routers' tables of inputs do not. step = 0, 1, ...
 * counts the stage's steps, also those that were skipped: bias correction then takes the moments
 * for a little further along than they are. lr is what routers and others have their shares of.
 */
void duo_optimizer_step(const duo_tree *weights, duo_tree *m, duo_tree *v, const duo_tree *gradient,
                        const duo_stage_recipe *stage, uint64_t step, double lr, double norm);

#endif
