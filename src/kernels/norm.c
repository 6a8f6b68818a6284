#include <math.h>
#include <omp.h>

#include "simd.h"
#include "span.h"

/* y = g x r,  r_n = 1 / sqrt(mean_c(x_nc^2) + eps).  arXiv:1910.07467 */
void duo_rmsnorm_forward(float *y, float *r, const float *x, const float *g, size_t N, size_t C,
                         float eps)
{
    const duo_span span = duo_span_begin();
#pragma omp parallel for num_threads(duo_kernels_threads()) if (N * C > DUO_PARALLEL_MIN)
    for (size_t n = 0; n < N; n++) {
        const float *x_n = x + n * C;
        r[n] = 1.0f / sqrtf(duo_rows->dot(x_n, x_n, C) / (float)C + eps);
        duo_rows->product(y + n * C, x_n, g, r[n], C);
    }
    duo_span_end(span, "rmsnorm forward", 0, 0, 0);
}

/* With u = g dy, h = x r:  dx += r (u - h mean_c(u h)),  dg += sum_n dy h. */
void duo_rmsnorm_backward(float *dx, float *dg, const float *dy, const float *x, const float *g,
                          const float *r, size_t N, size_t C)
{
    const duo_span span = duo_span_begin();
#pragma omp parallel num_threads(duo_kernels_threads()) if (N * C > DUO_PARALLEL_MIN)
    {
#pragma omp for nowait
        for (size_t n = 0; n < N; n++) {
            const float *x_n = x + n * C, *dy_n = dy + n * C;
            const float mean = r[n] * r[n] * duo_rows->dot3(g, dy_n, x_n, C) / (float)C;
            duo_rows->norm_gradient(dx + n * C, dy_n, x_n, g, r[n], mean, C);
        }
        /* A thread owns columns, so each dg[c] adds its rows in order. */
        const duo_range own = duo_share(C, omp_get_thread_num(), omp_get_num_threads());
        for (size_t n = 0; n < N && dg; n++)
            duo_rows->add_product(dg + own.begin, dy + n * C + own.begin, x + n * C + own.begin,
                                  r[n], own.end - own.begin);
    }
    duo_span_end(span, "rmsnorm backward", 0, 0, 0);
}
