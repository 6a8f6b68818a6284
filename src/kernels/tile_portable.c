#include "vec_portable.h"

static void transpose(float *panel, const float *w, size_t stride, size_t cols, size_t K)
{
    const size_t width = (cols + WIDTH - 1) / WIDTH * WIDTH;
    for (size_t k = 0; k < K; k++)
        for (size_t c = 0; c < width; c++)
            panel[k * width + c] = c < cols ? w[c * stride + k] : 0.0f;
}

#define TILE_NAME(suffix) duo_tile_portable##suffix
#include "tile_vector.h"
