#include "bf16.h"
#include "tile.h"
#include "unroll.h"

enum { ROWS = 4, VECTORS = 2, LANES = 4 };

/* Four floats that any compiler keeps in one register where the processor has such. */
typedef float vector __attribute__((vector_size(LANES * sizeof(float))));

static inline vector load(const float *x)
{
    vector v;
    memcpy(&v, x, sizeof v);
    return v;
}

/* Inlined with constant rows and vectors, so that the sums stay in registers. */
static inline __attribute__((always_inline)) void
multiply(const size_t rows, const size_t vectors, float *const *y, const float *const *left,
         size_t step, const float *panel, size_t units, size_t cols, const float *bias, bool add)
{
    const float *left_row[ROWS];
    vector sum[ROWS][VECTORS];
    UNROLL(4)
    for (size_t i = 0; i < rows; i++) {
        left_row[i] = left[i];
        UNROLL(2)
        for (size_t j = 0; j < vectors; j++) sum[i][j] = (vector){0.0f};
    }
    for (size_t u = 0, at = 0; u < units; u++, at += step, panel += vectors * LANES) {
        vector right[VECTORS];
        UNROLL(2)
        for (size_t j = 0; j < vectors; j++) right[j] = load(panel + j * LANES);
        UNROLL(4)
        for (size_t i = 0; i < rows; i++) {
            const float value = left_row[i][at];
            UNROLL(2)
            for (size_t j = 0; j < vectors; j++) sum[i][j] += value * right[j];
        }
    }
    for (size_t i = 0; i < rows; i++) {
        float product[VECTORS * LANES] = {0.0f};
        memcpy(product, sum[i], vectors * sizeof(vector));
        for (size_t j = 0; j < cols; j++) {
            const float value = product[j] + (bias ? bias[j] : 0.0f);
            y[i][j] = add ? y[i][j] + value : value;
        }
    }
}

#define TILE(rows, vectors)                                                                        \
    static void multiply_##rows##x##vectors(float *const *y, const float *const *left,             \
                                            size_t step, const float *panel, size_t units,         \
                                            size_t cols, const float *bias, bool add)              \
    {                                                                                              \
        multiply(rows, vectors, y, left, step, panel, units, cols, bias, add);                     \
    }
#define TILES(rows) TILE(rows, 1) TILE(rows, 2)
TILES(1)
TILES(2)
TILES(3)
TILES(4)

static void transpose(float *panel, const float *w, size_t stride, size_t cols, size_t K)
{
    const size_t width = (cols + LANES - 1) / LANES * LANES;
    for (size_t k = 0; k < K; k++)
        for (size_t c = 0; c < width; c++)
            panel[k * width + c] = c < cols ? w[c * stride + k] : 0.0f;
}

#define PACK(name) name##_fp32
#define PACK_VALUE(x) (x)
#define PACK_LANES LANES
#define PACK_TRANSPOSE transpose
#include "tile_pack.h"

#undef PACK
#undef PACK_VALUE
#define PACK(name) name##_rounded
#define PACK_VALUE(x) duo_bf16_rounded(x)
#include "tile_pack.h"

/* A chain tends to 1: nothing overflows or becomes subnormal. */
enum { CHAINS = 12 };
static float spin(size_t rounds)
{
    vector sum[CHAINS];
    UNROLL(12)
    for (size_t i = 0; i < CHAINS; i++) sum[i] = (vector){0.5f + (float)i, 1, 1, 1};
    for (size_t round = 0; round < rounds; round++) {
        UNROLL(12)
        for (size_t i = 0; i < CHAINS; i++) sum[i] = 0.5f * sum[i] + 0.5f;
    }
    UNROLL(12)
    for (size_t i = 1; i < CHAINS; i++) sum[0] += sum[i];
    return sum[0][0];
}

#define ROW_OF_TILES(rows)                                                                         \
    {                                                                                              \
        multiply_##rows##x1, multiply_##rows##x2                                                   \
    }

static void multiply_any(float *const *y, const float *const *left, size_t rows, size_t step,
                         const float *panel, size_t units, size_t cols, const float *bias, bool add)
{
    static __typeof__(multiply_1x1) *const tiles[ROWS][VECTORS] = {
        ROW_OF_TILES(1), ROW_OF_TILES(2), ROW_OF_TILES(3), ROW_OF_TILES(4)};
    tiles[rows - 1][(cols - 1) / LANES](y, left, step, panel, units, cols, bias, add);
}

#define SHAPE                                                                                      \
    .rows = ROWS, .vectors = VECTORS, .lanes = LANES, .per_unit = 1, .spin = spin,                 \
    .spin_flops = 2 * CHAINS * LANES, .multiply = multiply_any
const duo_tile duo_tile_portable = {
    SHAPE,
    .pack_rows = transpose,
    .pack_columns = columns_fp32,
};
const duo_tile duo_tile_portable_rounded = {
    SHAPE,
    .pack_rows = rows_rounded,
    .pack_columns = columns_rounded,
    .convert = convert_rounded,
};
