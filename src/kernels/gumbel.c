#include <string.h>

#include "simd.h"
#include "span.h"

size_t duo_argmax(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

void duo_gumbel_softmax_forward(float *weight, float *soft, const float *h, const float *noise,
                                float tau, bool hard, size_t N, size_t M)
{
    const duo_span span = duo_span_begin();
#pragma omp parallel for num_threads(duo_kernels_threads()) if (N * M > DUO_PARALLEL_MIN)
    for (size_t n = 0; n < N; n++) {
        float *soft_n = soft + n * M, *weight_n = weight + n * M;
        for (size_t m = 0; m < M; m++)
            soft_n[m] = (h[n * M + m] + (noise ? noise[n * M + m] : 0.0f)) / tau;
        duo_softmax_row(soft_n, soft_n, M);
        if (hard) {
            memset(weight_n, 0, M * sizeof *weight_n);
            weight_n[duo_argmax(soft_n, M)] = 1.0f;
        } else {
            memcpy(weight_n, soft_n, M * sizeof *weight_n);
        }
    }
    duo_span_end(span, "gumbel-softmax forward", 0, 0, 0);
}

void duo_gumbel_softmax_backward(float *dh, const float *dweight, const float *soft, float tau,
                                 size_t N, size_t M)
{
    const duo_span span = duo_span_begin();
#pragma omp parallel for num_threads(duo_kernels_threads()) if (N * M > DUO_PARALLEL_MIN)
    for (size_t n = 0; n < N; n++) {
        const float *dweight_n = dweight + n * M, *soft_n = soft + n * M;
        duo_rows->softmax_gradient(dh + n * M, dweight_n, soft_n, 1.0f / tau,
                                   duo_rows->dot(soft_n, dweight_n, M), M);
    }
    duo_span_end(span, "gumbel-softmax backward", 0, 0, 0);
}

void duo_mix_forward(float *x, const float *y, const float *weights, size_t stride, size_t N,
                     size_t C)
{
    const duo_span span = duo_span_begin();
#pragma omp parallel for num_threads(duo_kernels_threads()) if (N * C > DUO_PARALLEL_MIN)
    for (size_t n = 0; n < N; n++)
        duo_rows->add_scaled(x + n * C, y + n * C, weights[n * stride], C);
    duo_span_end(span, "mixture forward", 0, 0, 0);
}

void duo_mix_backward(float *dy, float *dweights, const float *dx, const float *y,
                      const float *weights, size_t stride, size_t N, size_t C)
{
    const duo_span span = duo_span_begin();
#pragma omp parallel for num_threads(duo_kernels_threads()) if (N * C > DUO_PARALLEL_MIN)
    for (size_t n = 0; n < N; n++) {
        /* The dot product first: dy may be y. */
        if (dweights) dweights[n * stride] += duo_rows->dot(dx + n * C, y + n * C, C);
        duo_rows->scale(dy + n * C, dx + n * C, weights[n * stride], C);
    }
    duo_span_end(span, "mixture backward", 0, 0, 0);
}
