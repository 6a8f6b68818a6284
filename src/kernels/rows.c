#include <assert.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include "simd.h"
#include "span.h"

void duo_embedding_forward(float *x, const float *table, const int32_t *tokens, size_t N, size_t C)
{
    const duo_span span = duo_span_begin();
#pragma omp parallel for num_threads(duo_kernels_threads()) if (N * C > DUO_PARALLEL_MIN)
    for (size_t n = 0; n < N; n++) {
        assert(tokens[n] >= 0);
        memcpy(x + n * C, table + (size_t)tokens[n] * C, C * sizeof *x);
    }
    duo_span_end(span, "embedding forward", 0, 0, 0);
}

void duo_embedding_backward(float *dtable, const float *dx, const int32_t *tokens, size_t N,
                            size_t C)
{
    const duo_span span = duo_span_begin();
#pragma omp parallel num_threads(duo_kernels_threads()) if (N * C > DUO_PARALLEL_MIN)
    {
        /* Columns, not tokens: shares are equal however often a token occurs. */
        const duo_range own = duo_share(C, omp_get_thread_num(), omp_get_num_threads());
        for (size_t n = 0; n < N; n++)
            duo_rows->add_scaled(dtable + (size_t)tokens[n] * C + own.begin, dx + n * C + own.begin,
                                 1.0f, own.end - own.begin);
    }
    duo_span_end(span, "embedding backward", 0, 0, 0);
}

void duo_add(float *a, const float *b, size_t n)
{
    const duo_span span = duo_span_begin();
#pragma omp parallel num_threads(duo_kernels_threads()) if (n > DUO_PARALLEL_MIN)
    {
        const duo_range own = duo_share(n, omp_get_thread_num(), omp_get_num_threads());
        duo_rows->add_scaled(a + own.begin, b + own.begin, 1.0f, own.end - own.begin);
    }
    duo_span_end(span, "add", 0, 0, 0);
}

void duo_copy(float *to, const float *from, size_t n)
{
    const duo_span span = duo_span_begin();
#pragma omp parallel num_threads(duo_kernels_threads()) if (n > DUO_PARALLEL_MIN)
    {
        const duo_range own = duo_share(n, omp_get_thread_num(), omp_get_num_threads());
        memcpy(to + own.begin, from + own.begin, (own.end - own.begin) * sizeof *to);
    }
    duo_span_end(span, "copy", 0, 0, 0);
}

void duo_clear(float *x, size_t n)
{
    const duo_span span = duo_span_begin();
#pragma omp parallel num_threads(duo_kernels_threads()) if (n > DUO_PARALLEL_MIN)
    {
        const duo_range own = duo_share(n, omp_get_thread_num(), omp_get_num_threads());
        memset(x + own.begin, 0, (own.end - own.begin) * sizeof *x);
    }
    duo_span_end(span, "clear", 0, 0, 0);
}

bool duo_all_finite(const float *x, size_t n)
{
    int bad = 0; /* no early exit: the loop is vectorized */
    for (size_t i = 0; i < n; i++) bad |= !isfinite(x[i]);
    return bad == 0;
}

double duo_sum_squares(const float *x, size_t n)
{
    enum { BLOCKS = 256 };
    double partial[BLOCKS], sum = 0.0;
    const duo_span span = duo_span_begin();
#pragma omp parallel for num_threads(duo_kernels_threads()) if (n > DUO_PARALLEL_MIN)
    for (int block = 0; block < BLOCKS; block++) {
        const duo_range own = duo_share(n, block, BLOCKS);
        partial[block] = duo_rows->sum_squares(x + own.begin, own.end - own.begin);
    }
    for (size_t block = 0; block < BLOCKS; block++) sum += partial[block];
    duo_span_end(span, "sum of squares", 0, 0, 0);
    return sum;
}
