#include <omp.h>

#include "simd.h"

void duo_adamw_step(float *w, float *m, float *v, const float *gradient, size_t n,
                    const duo_adamw *setting)
{
#pragma omp parallel num_threads(duo_kernels_threads()) if (n > DUO_PARALLEL_MIN)
    {
        const duo_range own = duo_share(n, omp_get_thread_num(), omp_get_num_threads());
        const size_t i = own.begin;
        duo_rows->adamw(w + i, m + i, v + i, gradient + i, own.end - i, setting);
    }
}
