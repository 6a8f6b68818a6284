#include <immintrin.h>

#include "bf16.h"
#include "tile.h"
#include "unroll.h"

enum { ROWS = 8, VECTORS = 3, LANES = 16, AHEAD = 8 /* units of the panel */ };

/* Each lane of sum, a pair of products later. The tests compile this file once more with another
 * definition, for processors without the instruction. */
#ifndef DUO_DOT_PAIRS
#define DUO_DOT_PAIRS(sum, a, b) _mm512_dpbf16_ps(sum, a, b)
#endif

static inline __mmask16 lanes_below(size_t n)
{
    return (__mmask16)((1u << n) - 1);
}

/* Inlined with constant rows and vectors, so that the sums stay in registers. */
static inline __attribute__((always_inline)) void
multiply(const size_t rows, const size_t vectors, float *const *y, const float *const *left,
         size_t step, const float *panel, size_t units, size_t cols, const float *bias, bool add)
{
    const __mmask16 last = lanes_below(cols - (vectors - 1) * LANES);
    const float *left_row[ROWS];
    __m512 sum[ROWS][VECTORS];
    UNROLL(8)
    for (size_t i = 0; i < rows; i++) {
        left_row[i] = left[i];
        UNROLL(3)
        for (size_t j = 0; j < vectors; j++) sum[i][j] = _mm512_setzero_ps();
    }
    /* The output is fetched a row at a time along the sum: all at once, it would hold up the
     * panel, which comes from the second-level cache. */
    for (size_t row = 0, u = 0, at = 0; row < rows; row++) {
        for (size_t j = 0; j < vectors; j++) __builtin_prefetch(y[row] + j * LANES, 1);
        const size_t end = row + 1 < rows ? u + units / (2 * ROWS) : units;
        for (; u < end; u++, at += step, panel += vectors * LANES) {
            __m512bh right[VECTORS];
            UNROLL(3)
            for (size_t j = 0; j < vectors; j++) {
                __builtin_prefetch(panel + AHEAD * vectors * LANES + j * LANES);
                right[j] = (__m512bh)_mm512_load_ps(panel + j * LANES);
            }
            UNROLL(8)
            for (size_t i = 0; i < rows; i++) {
                const __m512bh value = (__m512bh)_mm512_set1_ps(left_row[i][at]);
                UNROLL(3)
                for (size_t j = 0; j < vectors; j++)
                    sum[i][j] = DUO_DOT_PAIRS(sum[i][j], value, right[j]);
            }
        }
    }
    UNROLL(3)
    for (size_t j = 0; j < vectors; j++) {
        const __mmask16 mask = j + 1 < vectors ? (__mmask16)0xffff : last;
        const __m512 offset =
            bias ? _mm512_maskz_loadu_ps(mask, bias + j * LANES) : _mm512_setzero_ps();
        UNROLL(8)
        for (size_t i = 0; i < rows; i++) {
            float *to = y[i] + j * LANES;
            __m512 value = _mm512_add_ps(sum[i][j], offset);
            if (add) value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), value);
            _mm512_mask_storeu_ps(to, mask, value);
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
TILES(5)
TILES(6)
TILES(7)
TILES(8)

#define PACK(name) name##_pairs
#define PACK_PER_UNIT 2
#define PACK_UNIT(a, b) duo_bf16_pair(a, b)
#define PACK_LANES LANES
#define PACK_TRANSPOSE duo_tile_avx512.pack_rows
#include "tile_pack.h"

/* A chain grows by 2e-6 a round: nothing overflows or becomes subnormal. */
enum { CHAINS = 24 };
static float spin(size_t rounds)
{
    const __m512bh pair = (__m512bh)_mm512_set1_epi32(0x3a803a80); /* 2^-10 twice */
    __m512 sum[CHAINS];
    UNROLL(24)
    for (size_t i = 0; i < CHAINS; i++) sum[i] = _mm512_set1_ps(0.5f + (float)i);
    for (size_t round = 0; round < rounds; round++) {
        UNROLL(24)
        for (size_t i = 0; i < CHAINS; i++) sum[i] = DUO_DOT_PAIRS(sum[i], pair, pair);
    }
    UNROLL(24)
    for (size_t i = 1; i < CHAINS; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
    return _mm512_cvtss_f32(sum[0]);
}

#define ROW_OF_TILES(rows)                                                                         \
    {                                                                                              \
        multiply_##rows##x1, multiply_##rows##x2, multiply_##rows##x3                              \
    }
#define SHAPE                                                                                      \
    .rows = ROWS, .vectors = VECTORS, .lanes = LANES, .per_unit = 2,                               \
    .multiply = {ROW_OF_TILES(1), ROW_OF_TILES(2), ROW_OF_TILES(3), ROW_OF_TILES(4),               \
                 ROW_OF_TILES(5), ROW_OF_TILES(6), ROW_OF_TILES(7), ROW_OF_TILES(8)}
const duo_tile duo_tile_avx512bf16 = {
    SHAPE,
    .pack_rows = rows_pairs,
    .pack_columns = columns_pairs,
    .convert = convert_pairs,
    .spin = spin,
    .spin_flops = 2 * CHAINS * LANES * 2,
};
