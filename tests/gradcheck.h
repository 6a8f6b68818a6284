#ifndef DUO_GRADCHECK_H
#define DUO_GRADCHECK_H

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "duo/rng.h"

/*
 * Gradients against central differences. The scalar under test is sum(w * y) with random w, summed
 * in double: with all ones, errors of different elements could cancel.
 */

/** n numbers in [-1, 1), a function of the stream alone. Freed by the caller. */
static inline float *gradcheck_numbers(size_t n, uint32_t stream)
{
    float *x = malloc((n ? n : 1) * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < n; i++) {
        const duo_place place = {.step = i, .row = stream};
        x[i] = (float)(2.0 * duo_uniform(duo_random(3, DUO_RNG_TEST, place).word[0]) - 1.0);
    }
    return x;
}

static inline double gradcheck_dot(const float *w, const float *y, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)w[i] * (double)y[i];
    return sum;
}

typedef double gradcheck_loss(void *context);

/**
 * gradient[i] must be before + the derivative of the loss by x[i], for every stride-th i of n.
 * `before` is what the gradient was filled with when the backward under test adds, else 0. The
 * differences are taken over 2h.
 */
static inline void gradcheck(const char *name, gradcheck_loss *loss, void *context, float *x,
                             const float *gradient, float before, size_t n, size_t stride, float h,
                             double tolerance)
{
    for (size_t i = 0; i < n; i += stride) {
        const float keep = x[i], above = keep + h, below = keep - h;
        x[i] = above;
        const double up = loss(context);
        x[i] = below;
        const double down = loss(context);
        x[i] = keep;
        const double want = (double)before + (up - down) / ((double)above - (double)below);
        if (!(fabs((double)gradient[i] - want) <= tolerance))
            ck_abort_msg("%s[%zu] is %.7g, central difference %.7g, tolerance %.2g", name, i,
                         (double)gradient[i], want, tolerance);
    }
}

#endif
