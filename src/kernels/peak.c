#include <omp.h>

#include "tile.h"

enum { SPINS = 20000, ROUNDS = 12 };

double duo_kernels_peak(duo_precision precision)
{
    const duo_tile *tile = duo_tile_current(precision);
    const int threads = duo_kernels_threads();
    const double flops = (double)tile->spin_flops * SPINS;
    float sinks[DUO_MAX_THREADS] = {0}; /* so that what is summed is wanted */
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double start = 0, end = 0;
#pragma omp parallel num_threads(threads)
        {
            float sum = tile->spin(SPINS); /* wakes the vector units up */
#pragma omp barrier
#pragma omp master
            start = omp_get_wtime();
            sum += tile->spin(SPINS);
            sinks[omp_get_thread_num()] += sum;
#pragma omp barrier
#pragma omp master
            end = omp_get_wtime();
        }
        const double rate = flops * threads / (end - start);
        if (rate > best) best = rate;
    }
    for (int t = 0; t < threads; t++)
        if (sinks[t] == 0) best = 0; /* no chain ends at 0 */
    return best;
}
