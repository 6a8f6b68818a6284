#include <omp.h>

#include "simd.h"
#include "span.h"

void duo_swiglu_forward(float *a, const float *gate, const float *up, size_t n)
{
    const duo_span span = duo_span_begin();
#pragma omp parallel num_threads(duo_kernels_threads()) if (n > DUO_PARALLEL_MIN)
    {
        const duo_range own = duo_share(n, omp_get_thread_num(), omp_get_num_threads());
        duo_rows->swiglu(a + own.begin, gate + own.begin, up + own.begin, own.end - own.begin);
    }
    duo_span_end(span, "swiglu forward", 0, 0, 0);
}

void duo_swiglu_backward(float *dgate, float *dup, float *a, const float *da, const float *gate,
                         const float *up, size_t n)
{
    const duo_span span = duo_span_begin();
#pragma omp parallel num_threads(duo_kernels_threads()) if (n > DUO_PARALLEL_MIN)
    {
        const duo_range own = duo_share(n, omp_get_thread_num(), omp_get_num_threads());
        const size_t i = own.begin;
        duo_rows->swiglu_gradient(dgate + i, dup + i, a ? a + i : NULL, da + i, gate + i, up + i,
                                  own.end - i);
    }
    duo_span_end(span, "swiglu backward", 0, 0, 0);
}
