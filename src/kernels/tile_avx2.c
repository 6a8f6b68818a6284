#include <immintrin.h>

#include "bf16.h"
#include "tile.h"
#include "unroll.h"

enum { ROWS = 4, VECTORS = 3, LANES = 8 };

static inline __m256i lanes_below(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* Inlined with constant rows and vectors, so that the sums stay in registers. */
static inline __attribute__((always_inline)) void
multiply(const size_t rows, const size_t vectors, float *const *y, const float *const *left,
         size_t step, const float *panel, size_t units, size_t cols, const float *bias, bool add)
{
    const float *left_row[ROWS];
    __m256 sum[ROWS][VECTORS];
    UNROLL(4)
    for (size_t i = 0; i < rows; i++) {
        left_row[i] = left[i];
        UNROLL(3)
        for (size_t j = 0; j < vectors; j++) {
            sum[i][j] = _mm256_setzero_ps();
            __builtin_prefetch(y[i] + j * LANES, 1);
        }
    }
    for (size_t u = 0, at = 0; u < units; u++, at += step, panel += vectors * LANES) {
        __m256 right[VECTORS];
        UNROLL(3)
        for (size_t j = 0; j < vectors; j++) right[j] = _mm256_load_ps(panel + j * LANES);
        UNROLL(4)
        for (size_t i = 0; i < rows; i++) {
            const __m256 value = _mm256_set1_ps(left_row[i][at]);
            UNROLL(3)
            for (size_t j = 0; j < vectors; j++)
                sum[i][j] = _mm256_fmadd_ps(value, right[j], sum[i][j]);
        }
    }
    UNROLL(3)
    for (size_t j = 0; j < vectors; j++) {
        const bool whole = cols >= (j + 1) * LANES;
        const __m256i mask = lanes_below(whole ? LANES : cols - j * LANES);
        const __m256 offset =
            bias ? _mm256_maskload_ps(bias + j * LANES, mask) : _mm256_setzero_ps();
        UNROLL(4)
        for (size_t i = 0; i < rows; i++) {
            float *to = y[i] + j * LANES;
            __m256 value = _mm256_add_ps(sum[i][j], offset);
            if (add) value = _mm256_add_ps(_mm256_maskload_ps(to, mask), value);
            if (whole)
                _mm256_storeu_ps(to, value);
            else
                _mm256_maskstore_ps(to, mask, value);
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
#define TILES(rows) TILE(rows, 1) TILE(rows, 2) TILE(rows, 3)
TILES(1)
TILES(2)
TILES(3)
TILES(4)

/* Four neighbouring floats of each of two rows, one row in each half of the register. */
static inline __m256 load_halves(const float *const *row, size_t k)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(row[0] + k)),
                                _mm_loadu_ps(row[4] + k), 1);
}

static void transpose(float *panel, const float *w, size_t stride, size_t cols, size_t K)
{
    const size_t width = (cols + LANES - 1) / LANES * LANES;
    for (size_t c = 0; c < cols; c += LANES) {
        const float *row[LANES];
        for (size_t i = 0; i < LANES; i++) /* lanes behind the end are computed, never stored */
            row[i] = w + (c + i < cols ? c + i : cols - 1) * stride;
        float *to = panel + c;
        size_t k = 0;
        for (; k + 4 <= K; k += 4, to += 4 * width) {
            const __m256 r0 = load_halves(row, k), r1 = load_halves(row + 1, k);
            const __m256 r2 = load_halves(row + 2, k), r3 = load_halves(row + 3, k);
            const __m256 low01 = _mm256_unpacklo_ps(r0, r1), high01 = _mm256_unpackhi_ps(r0, r1);
            const __m256 low23 = _mm256_unpacklo_ps(r2, r3), high23 = _mm256_unpackhi_ps(r2, r3);
            _mm256_store_ps(to, _mm256_shuffle_ps(low01, low23, 0x44));
            _mm256_store_ps(to + width, _mm256_shuffle_ps(low01, low23, 0xee));
            _mm256_store_ps(to + 2 * width, _mm256_shuffle_ps(high01, high23, 0x44));
            _mm256_store_ps(to + 3 * width, _mm256_shuffle_ps(high01, high23, 0xee));
        }
        for (; k < K; k++, to += width)
            for (size_t i = 0; i < LANES; i++) to[i] = row[i][k];
    }
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
    const __m256 share = _mm256_set1_ps(0.5f);
    __m256 sum[CHAINS];
    UNROLL(12)
    for (size_t i = 0; i < CHAINS; i++) sum[i] = _mm256_set1_ps(0.5f + (float)i);
    for (size_t round = 0; round < rounds; round++) {
        UNROLL(12)
        for (size_t i = 0; i < CHAINS; i++) sum[i] = _mm256_fmadd_ps(sum[i], share, share);
    }
    UNROLL(12)
    for (size_t i = 1; i < CHAINS; i++) sum[0] = _mm256_add_ps(sum[0], sum[i]);
    return _mm256_cvtss_f32(sum[0]);
}

#define ROW_OF_TILES(rows)                                                                         \
    {                                                                                              \
        multiply_##rows##x1, multiply_##rows##x2, multiply_##rows##x3                              \
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
const duo_tile duo_tile_avx2 = {
    SHAPE,
    .pack_rows = transpose,
    .pack_columns = columns_fp32,
};
const duo_tile duo_tile_avx2_rounded = {
    SHAPE,
    .pack_rows = rows_rounded,
    .pack_columns = columns_rounded,
    .convert = convert_rounded,
};
