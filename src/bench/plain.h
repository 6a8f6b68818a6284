#ifndef DUO_BENCH_PLAIN_H
#define DUO_BENCH_PLAIN_H

#include <stddef.h>
#include <stdint.h>

/** The largest deviation so far, and the squares of the right results that it is held against. */
typedef struct plain_error {
    double worst, squares;
    size_t n;
} plain_error;

void plain_compare(plain_error *error, double got, double want);
/** The largest deviation over the root mean square of the right results. */
double plain_error_value(const plain_error *error);

/**
 * Plain loops in double over a few rows of what a kernel has done: the same letters and layouts as
 * in kernels.h. Each returns plain_error_value.
 */
double plain_swiglu(const float *a, const float *gate, const float *up, size_t n);
double plain_swiglu_gradient(const float *dgate, const float *dup, const float *da,
                             const float *gate, const float *up, size_t n);
double plain_rmsnorm(const float *y, const float *x, const float *g, size_t N, size_t C,
                     double eps);
/** Of dx alone, which was zero before. */
double plain_rmsnorm_gradient(const float *dx, const float *dy, const float *x, const float *g,
                              size_t N, size_t C, double eps);
double plain_rope(const float *y, const float *x, const uint32_t *positions, size_t N, size_t H,
                  size_t D, double theta);
double plain_cross_entropy(const float *loss, const float *z, const int32_t *targets, size_t N,
                           size_t V);
double plain_cross_entropy_gradient(const float *dz, const float *z, const int32_t *targets,
                                    double dloss, size_t N, size_t V);
double plain_gumbel_softmax(const float *weight, const float *h, const float *noise, double tau,
                            size_t N, size_t M);

#endif
