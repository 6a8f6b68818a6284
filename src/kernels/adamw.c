#include <omp.h>

#include "simd.h"
#include "span.h"

void duo_adamw_step(float *w, float *m, float *v, const float *gradient, size_t n,
                    const duo_adamw *setting)
{
    const duo_span span = duo_span_begin();
#pragma omp parallel num_threads(duo_kernels_threads()) if (n > DUO_PARALLEL_MIN)
    {
        const duo_range own = duo_share(n, omp_get_thread_num(), omp_get_num_threads());
        const size_t i = own.begin;
        duo_rows->adamw(w + i, m + i, v + i, gradient + i, own.end - i, setting);
    }
    duo_span_end(span, "adamw", 0, 0, 0);
}
