#include "tile.h"

enum { ROWS = 4, LANES = 8 };

/* Inlined with a constant number of rows. */
static inline __attribute__((always_inline)) void multiply(const size_t rows, float *const *y,
                                                           const float *const *left, size_t step,
                                                           const float *panel, size_t K,
                                                           size_t cols, const float *bias, bool add)
{
    float sum[ROWS][LANES] = {{0.0f}};
    for (size_t k = 0; k < K; k++)
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < LANES; j++)
                sum[i][j] += left[i][k * step] * panel[k * LANES + j];
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < cols; j++) {
            const float value = sum[i][j] + (bias ? bias[j] : 0.0f);
            y[i][j] = add ? y[i][j] + value : value;
        }
    }
}

#define TILE(rows)                                                                                 \
    static void multiply_##rows(float *const *y, const float *const *left, size_t step,            \
                                const float *panel, size_t K, size_t cols, const float *bias,      \
                                bool add)                                                          \
    {                                                                                              \
        multiply(rows, y, left, step, panel, K, cols, bias, add);                                  \
    }
TILE(1)
TILE(2)
TILE(3)
TILE(4)

static void transpose(float *panel, const float *w, size_t stride, size_t cols, size_t K)
{
    for (size_t k = 0; k < K; k++)
        for (size_t c = 0; c < LANES; c++)
            panel[k * LANES + c] = c < cols ? w[c * stride + k] : 0.0f;
}

const duo_tile duo_tile_portable = {
    .rows = ROWS,
    .vectors = 1,
    .lanes = LANES,
    .multiply = {{multiply_1}, {multiply_2}, {multiply_3}, {multiply_4}},
    .transpose = transpose,
};
