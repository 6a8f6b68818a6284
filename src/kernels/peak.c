#include <omp.h>

#include "tile.h"

enum { DEPTH = 128, PANEL_WIDTH = 64, CALLS = 256, ROUNDS = 12 };

/* Multiply a panel that stays in the first-level cache, CALLS times. */
static void run_tiles(const duo_tile *tile)
{
    _Alignas(64) float panel[DEPTH * PANEL_WIDTH], y[DUO_TILE_ROWS][PANEL_WIDTH];
    float x[DUO_TILE_ROWS][DEPTH];
    const float *left[DUO_TILE_ROWS];
    float *out[DUO_TILE_ROWS];
    for (size_t i = 0; i < sizeof panel / sizeof *panel; i++) panel[i] = 0.5f;
    for (size_t r = 0; r < DUO_TILE_ROWS; r++) {
        for (size_t k = 0; k < DEPTH; k++) x[r][k] = 0.25f;
        left[r] = x[r];
        out[r] = y[r];
    }
    for (size_t i = 0; i < CALLS; i++)
        tile->multiply[tile->rows - 1][tile->vectors - 1](out, left, 1, panel, DEPTH,
                                                          tile->vectors * tile->lanes, NULL, false);
}

double duo_kernels_peak(duo_precision precision)
{
    const duo_tile *tile = duo_tile_current(precision);
    const int threads = duo_kernels_threads();
    const size_t multiply_adds = tile->rows * tile->vectors * tile->lanes * tile->per_unit;
    const double flops = 2.0 * (double)multiply_adds * DEPTH * CALLS;
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double start = 0, end = 0;
#pragma omp parallel num_threads(threads)
        {
            run_tiles(tile); /* wakes the vector units up */
#pragma omp barrier
#pragma omp master
            start = omp_get_wtime();
            run_tiles(tile);
#pragma omp barrier
#pragma omp master
            end = omp_get_wtime();
        }
        const double rate = flops * threads / (end - start);
        if (rate > best) best = rate;
    }
    return best;
}
