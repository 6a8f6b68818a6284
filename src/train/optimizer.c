#include "optimizer.h"

#include <math.h>

#include "duo/kernels.h"

double duo_gradient_norm(const duo_tree *gradient)
{
    return sqrt(duo_sum_squares(gradient->block, gradient->count));
}

void duo_optimizer_step(const duo_tree *weights, duo_tree *m, duo_tree *v, const duo_tree *gradient,
                        const duo_stage_recipe *stage, uint64_t step, double lr, double norm)
{
    const double t = (double)(step + 1);
    duo_adamw setting = {
        .beta1 = (float)stage->beta1,
        .beta2 = (float)stage->beta2,
        .eps = (float)stage->eps,
        .correction1 = (float)(1.0 - pow(stage->beta1, t)),
        .correction2 = (float)(1.0 - pow(stage->beta2, t)),
        .scale = stage->clip > 0 && norm > stage->clip ? (float)(stage->clip / norm) : 1.0f,
    };
    for (size_t i = 0; i < gradient->params->n; i++) {
        if (!gradient->tensors[i]) continue;
        const duo_param *p = &gradient->params->table[i];
        setting.lr = (float)(lr * duo_stage_lr_scale(stage, p->group));
        setting.decay = p->decay ? (float)stage->weight_decay : 0.0f;
        duo_adamw_step(weights->tensors[i], m->tensors[i], v->tensors[i], gradient->tensors[i],
                       p->count, &setting);
    }
}
