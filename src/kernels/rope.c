#include <assert.h>
#include <math.h>

#include "simd.h"
#include "span.h"

void duo_rope_table(float *table, size_t T, size_t D, double theta)
{
    assert(D % 2 == 0);
    for (size_t i = 0; i < D / 2; i++) {
        const double frequency = pow(theta, -2.0 * (double)i / (double)D);
        for (size_t t = 0; t < T; t++) {
            table[t * D + 2 * i] = (float)cos((double)t * frequency);
            table[t * D + 2 * i + 1] = (float)sin((double)t * frequency);
        }
    }
}

static void rotate_all(float *x, const float *table, const uint32_t *positions, float direction,
                       size_t N, size_t H, size_t D)
{
    const duo_span span = duo_span_begin();
    assert(D % 2 == 0);
#pragma omp parallel for num_threads(duo_kernels_threads()) if (N * H * D > DUO_PARALLEL_MIN)
    for (size_t n = 0; n < N; n++)
        duo_rows->rotate(x + n * H * D, table + positions[n] * D, direction, H, D);
    duo_span_end(span, "rope", 0, 0, 0);
}

/* (a, b) -> (a cos - b sin, a sin + b cos).  arXiv:2104.09864 */
void duo_rope_forward(float *x, const float *table, const uint32_t *positions, size_t N, size_t H,
                      size_t D)
{
    rotate_all(x, table, positions, 1.0f, N, H, D);
}

void duo_rope_backward(float *dx, const float *table, const uint32_t *positions, size_t N, size_t H,
                       size_t D)
{
    rotate_all(dx, table, positions, -1.0f, N, H, D);
}
