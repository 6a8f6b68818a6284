#include "duo/train.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

/* From `from` at x = 0 to `to` at x = 1. */
static double curve(duo_curve shape, double from, double to, double x)
{
    switch (shape) {
    case DUO_CURVE_CONSTANT:
        return from;
    case DUO_CURVE_LINEAR:
        return from + (to - from) * x;
    case DUO_CURVE_COSINE:
        return to + (from - to) * 0.5 * (1.0 + cos(pi * x));
    case DUO_CURVE_EXPONENTIAL:
        return from * pow(to / from, x);
    }
    return from;
}

/* How far step lies between first and last, in 0..1. */
static double share(uint64_t step, uint64_t first, uint64_t last)
{
    if (step <= first) return 0.0;
    return step >= last ? 1.0 : (double)(step - first) / (double)(last - first);
}

double duo_stage_rollback_scale(const duo_stage_recipe *stage, uint64_t rollbacks)
{
    double scale = 1; /* by multiplication: pow differs between machines */
    for (uint64_t i = 0; i < rollbacks && scale > 0; i++) scale *= stage->rollback_lr;
    return scale;
}

double duo_stage_lr(const duo_stage_recipe *stage, uint64_t step)
{
    if (step < stage->warmup) return stage->lr * (double)(step + 1) / (double)stage->warmup;
    const double end = stage->lr * stage->min_lr;
    const uint64_t last = stage->steps > 0 ? stage->steps - 1 : 0;
    if (stage->schedule != DUO_CURVE_CONSTANT)
        return curve(stage->schedule, stage->lr, end, share(step, stage->warmup, last));
    if (stage->decay_steps == 0) return stage->lr;
    const uint64_t tail = stage->steps > stage->decay_steps ? stage->steps - stage->decay_steps : 0;
    return curve(DUO_CURVE_LINEAR, stage->lr, end, share(step, tail, last));
}

double duo_stage_lr_scale(const duo_stage_recipe *stage, duo_group group)
{
    const bool own = group == DUO_GROUP_ROUTER && stage->router_lr > 0;
    return own ? stage->router_lr / stage->lr : 1.0;
}

double duo_stage_tau(const duo_stage_recipe *stage, uint64_t step)
{
    const uint64_t moving = stage->steps - stage->tau_tail, last = moving > 0 ? moving - 1 : 0;
    if (stage->tau_tail > 0 && step >= moving) return stage->tau_end;
    return curve(stage->tau_schedule, stage->tau_start, stage->tau_end, share(step, 0, last));
}

bool duo_stage_hard(const duo_stage_recipe *stage, uint64_t step)
{
    return stage->straight_through || step >= stage->steps - stage->hard_tail;
}
