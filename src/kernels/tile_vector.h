/*
 * The tiles of instruction sets that are nothing but vectors: TILE_ROWS rows by VECTORS of them.
 * The file that includes this has the vectors, as simd_vector.h wants them, and transpose, a
 * duo_tile_pack_rows; and defines TILE_NAME(suffix), how its tiles are called.
 */
#include "bf16.h"
#include "tile.h"
#include "unroll.h"

enum { VECTORS = 3 };

/* What follows is inlined with constant rows and vectors, so that the sums stay in registers. */

/* Of a column of vectors the first n floats, a constant where that is all of them. */
static inline __attribute__((always_inline)) void
store_column(const size_t rows, float *const *y, size_t at, vec sum[TILE_ROWS][VECTORS],
             const size_t j, const size_t n, const float *bias, bool add)
{
    const vec offset = !bias       ? vec_set(0.0f)
                       : n < WIDTH ? vec_load_part(bias + at, n, 0.0f)
                                   : vec_load(bias + at);
    UNROLL(4)
    for (size_t i = 0; i < rows; i++) {
        float *to = y[i] + at;
        vec value = sum[i][j] + offset;
        if (add) value = (n < WIDTH ? vec_load_part(to, n, 0.0f) : vec_load(to)) + value;
        if (n < WIDTH)
            vec_store_part(to, value, n);
        else
            vec_store(to, value);
    }
}

static inline __attribute__((always_inline)) void
multiply(const size_t rows, const size_t vectors, float *const *y, const float *const *left,
         size_t step, const float *panel, size_t units, size_t cols, const float *bias, bool add)
{
    const float *left_row[TILE_ROWS];
    vec sum[TILE_ROWS][VECTORS];
    UNROLL(4)
    for (size_t i = 0; i < rows; i++) {
        left_row[i] = left[i];
        UNROLL(3)
        for (size_t j = 0; j < vectors; j++) {
            sum[i][j] = vec_set(0.0f);
            __builtin_prefetch(y[i] + j * WIDTH, 1);
        }
    }
    for (size_t u = 0, at = 0; u < units; u++, at += step, panel += vectors * WIDTH) {
        vec right[VECTORS];
        UNROLL(3)
        for (size_t j = 0; j < vectors; j++) right[j] = vec_load(panel + j * WIDTH);
        UNROLL(4)
        for (size_t i = 0; i < rows; i++) {
            const vec value = vec_set(left_row[i][at]);
            UNROLL(3)
            for (size_t j = 0; j < vectors; j++) sum[i][j] = vec_fma(value, right[j], sum[i][j]);
        }
    }
    UNROLL(3)
    for (size_t j = 0; j < vectors; j++) {
        const size_t at = j * WIDTH;
        if (cols - at >= WIDTH)
            store_column(rows, y, at, sum, j, WIDTH, bias, add);
        else
            store_column(rows, y, at, sum, j, cols - at, bias, add);
    }
}

#define TILE(rows, vectors)                                                                        \
    static void multiply_##rows##x##vectors(float *const *y, const float *const *left,             \
                                            size_t step, const float *panel, size_t units,         \
                                            size_t cols, const float *bias, bool add)              \
    {                                                                                              \
        multiply(rows, vectors, y, left, step, panel, units, cols, bias, add);                     \
    }
#define TILES(rows) TILE(rows, 1) TILE(rows, 2) TILE(rows, 3)
TILES(1)
TILES(2)
TILES(3)
TILES(4)

#define ROW_OF_TILES(rows)                                                                         \
    {                                                                                              \
        multiply_##rows##x1, multiply_##rows##x2, multiply_##rows##x3                              \
    }

static void multiply_any(float *const *y, const float *const *left, size_t rows, size_t step,
                         const float *panel, size_t units, size_t cols, const float *bias, bool add)
{
    static __typeof__(multiply_1x1) *const tiles[TILE_ROWS][VECTORS] = {
        ROW_OF_TILES(1), ROW_OF_TILES(2), ROW_OF_TILES(3), ROW_OF_TILES(4)};
    tiles[rows - 1][(cols - 1) / WIDTH](y, left, step, panel, units, cols, bias, add);
}

#define PACK(name) name##_fp32
#define PACK_VALUE(x) (x)
#define PACK_LANES WIDTH
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
    const vec share = vec_set(0.5f);
    vec sum[CHAINS];
    UNROLL(12)
    for (size_t i = 0; i < CHAINS; i++) sum[i] = vec_set(0.5f + (float)i);
    for (size_t round = 0; round < rounds; round++) {
        UNROLL(12)
        for (size_t i = 0; i < CHAINS; i++) sum[i] = vec_fma(sum[i], share, share);
    }
    UNROLL(12)
    for (size_t i = 1; i < CHAINS; i++) sum[0] = sum[0] + sum[i];
    float lanes[WIDTH];
    vec_store(lanes, sum[0]);
    return lanes[0];
}

#define SHAPE                                                                                      \
    .rows = TILE_ROWS, .vectors = VECTORS, .lanes = WIDTH, .per_unit = 1, .spin = spin,            \
    .spin_flops = 2 * CHAINS * WIDTH, .multiply = multiply_any
const duo_tile TILE_NAME() = {
    SHAPE,
    .pack_rows = transpose,
    .pack_columns = columns_fp32,
};
const duo_tile TILE_NAME(_rounded) = {
    SHAPE,
    .pack_rows = rows_rounded,
    .pack_columns = columns_rounded,
    .convert = convert_rounded,
};
