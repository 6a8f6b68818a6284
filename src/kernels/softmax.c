#include <assert.h>

#include "simd.h"
#include "span.h"
#include "vmath.h"

void duo_cross_entropy_forward(float *loss, float *lse, const float *z, const int32_t *targets,
                               size_t N, size_t V)
{
    const duo_span span = duo_span_begin();
#pragma omp parallel for num_threads(duo_kernels_threads()) if (N * V > DUO_PARALLEL_MIN)
    for (size_t n = 0; n < N; n++) {
        assert(targets[n] >= 0 && (size_t)targets[n] < V);
        const float *z_n = z + n * V;
        const float max = duo_rows->max(z_n, V);
        lse[n] = max + duo_logf(duo_rows->exp_sum(NULL, z_n, max, V));
        loss[n] = lse[n] - z_n[targets[n]];
    }
    duo_span_end(span, "cross-entropy forward", 0, 0, 0);
}

void duo_cross_entropy_expected(float *loss, const float *lse, const float *z, const float *q,
                                const uint32_t *q_rows, size_t N, size_t V)
{
    const duo_span span = duo_span_begin();
#pragma omp parallel for num_threads(duo_kernels_threads()) if (N * V > DUO_PARALLEL_MIN)
    for (size_t n = 0; n < N; n++)
        loss[n] = lse[n] - duo_rows->dot(q + q_rows[n] * V, z + n * V, V);
    duo_span_end(span, "cross-entropy expected", 0, 0, 0);
}

void duo_cross_entropy_backward(float *z, const float *lse, const int32_t *targets, float dloss,
                                size_t N, size_t V)
{
    const duo_span span = duo_span_begin();
#pragma omp parallel for num_threads(duo_kernels_threads()) if (N * V > DUO_PARALLEL_MIN)
    for (size_t n = 0; n < N; n++) {
        assert(targets[n] >= 0 && (size_t)targets[n] < V);
        float *z_n = z + n * V;
        duo_rows->exp_scale(z_n, z_n, 1.0f, lse[n], dloss, V);
        z_n[targets[n]] -= dloss;
    }
    duo_span_end(span, "cross-entropy backward", 0, 0, 0);
}

void duo_softmax_forward(float *p, const float *h, size_t N, size_t M)
{
    const duo_span span = duo_span_begin();
#pragma omp parallel for num_threads(duo_kernels_threads()) if (N * M > DUO_PARALLEL_MIN)
    for (size_t n = 0; n < N; n++) duo_softmax_row(p + n * M, h + n * M, M);
    duo_span_end(span, "softmax", 0, 0, 0);
}
