#ifndef DUO_OPTIMIZER_H
#define DUO_OPTIMIZER_H

#include "duo/train.h"

/** Global norm of a gradient, over all its tensors. */
double duo_gradient_norm(const duo_tree *gradient);

/**
 * One AdamW step over the tensors of `gradient`, clipped to the stage's norm. Tensors of rank 1
 * have no weight decay. step = 0, 1, ... counts the stage's steps; lr is what routers and others
 * have their shares of.
 */
void duo_optimizer_step(const duo_tree *weights, duo_tree *m, duo_tree *v, const duo_tree *gradient,
                        const duo_stage_recipe *stage, uint64_t step, double lr, double norm);

#endif
