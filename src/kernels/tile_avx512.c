#include <immintrin.h>

#include "bf16.h"
#include "tile.h"
#include "unroll.h"

enum { ROWS = 8, VECTORS = 3, LANES = 16, AHEAD = 8 /* units of the panel */ };

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
            __m512 right[VECTORS];
            UNROLL(3)
            for (size_t j = 0; j < vectors; j++) {
                __builtin_prefetch(panel + AHEAD * vectors * LANES + j * LANES);
                right[j] = _mm512_load_ps(panel + j * LANES);
            }
            UNROLL(8)
            for (size_t i = 0; i < rows; i++) {
                const __m512 value = _mm512_set1_ps(left_row[i][at]);
                UNROLL(3)
                for (size_t j = 0; j < vectors; j++)
                    sum[i][j] = _mm512_fmadd_ps(value, right[j], sum[i][j]);
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

/* The same chains of multiply-adds, so the same bits. */
static inline __attribute__((always_inline)) void
multiply_sources(const size_t rows, const size_t vectors, float *const *y,
                 const duo_tile_source *left, const duo_tile_source *right, size_t units)
{
    const __mmask16 last = lanes_below(right->cols - (vectors - 1) * LANES);
    const __mmask32 left_lanes = (__mmask32)((1ull << left->cols) - 1);
    const __mmask16 line[2] = {(__mmask16)left_lanes, (__mmask16)(left_lanes >> LANES)};
    const float *const *left_rows = left->rows, *const *right_rows = right->rows;
    float *strip = left->packed, *panel = right->packed;
    __m512 sum[ROWS][VECTORS];
    UNROLL(8)
    for (size_t i = 0; i < rows; i++) {
        UNROLL(3)
        for (size_t j = 0; j < vectors; j++) sum[i][j] = _mm512_setzero_ps();
    }
    for (size_t row = 0, u = 0; row < rows; row++) {
        for (size_t j = 0; j < vectors; j++) __builtin_prefetch(y[row] + j * LANES, 1);
        const size_t end = row + 1 < rows ? u + units / (2 * ROWS) : units;
        for (; u < end; u++, strip += DUO_STRIP, panel += vectors * LANES) {
            const float *from = strip;
            if (left_rows) {
                from = left_rows[u] + left->first;
                const float *ahead = left_rows[u + DUO_FETCH] + left->first;
                UNROLL(2)
                for (size_t j = 0; j < 2; j++) {
                    __builtin_prefetch(ahead + j * LANES, 0, 2);
                    const __m512 strips = _mm512_maskz_loadu_ps(line[j], from + j * LANES);
                    float *to = strip + 2 * j * DUO_STRIP * units;
                    _mm256_store_ps(to, _mm512_castps512_ps256(strips));
                    _mm256_store_ps(to + DUO_STRIP * units, _mm512_extractf32x8_ps(strips, 1));
                }
            }
            __m512 column[VECTORS];
            if (right_rows) {
                const float *at = right_rows[u] + right->first;
                const float *ahead = right_rows[u + DUO_FETCH] + right->first;
                UNROLL(3)
                for (size_t j = 0; j < vectors; j++) {
                    const __mmask16 mask = j + 1 < vectors ? (__mmask16)0xffff : last;
                    __builtin_prefetch(ahead + j * LANES, 0, 2);
                    column[j] = _mm512_maskz_loadu_ps(mask, at + j * LANES);
                    _mm512_store_ps(panel + j * LANES, column[j]);
                }
            } else {
                UNROLL(3)
                for (size_t j = 0; j < vectors; j++) {
                    __builtin_prefetch(panel + AHEAD * vectors * LANES + j * LANES);
                    column[j] = _mm512_load_ps(panel + j * LANES);
                }
            }
            UNROLL(8)
            for (size_t i = 0; i < rows; i++) {
                const __m512 value = _mm512_set1_ps(from[i]);
                UNROLL(3)
                for (size_t j = 0; j < vectors; j++)
                    sum[i][j] = _mm512_fmadd_ps(value, column[j], sum[i][j]);
            }
        }
    }
    UNROLL(3)
    for (size_t j = 0; j < vectors; j++) {
        const __mmask16 mask = j + 1 < vectors ? (__mmask16)0xffff : last;
        UNROLL(8)
        for (size_t i = 0; i < rows; i++) {
            float *to = y[i] + j * LANES;
            const __m512 value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), sum[i][j]);
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
    }                                                                                              \
    static void sources_##rows##x##vectors(float *const *y, const duo_tile_source *left,           \
                                           const duo_tile_source *right, size_t units)             \
    {                                                                                              \
        multiply_sources(rows, vectors, y, left, right, units);                                    \
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

/* Four neighbouring floats of each of four rows, one row in each quarter of the register. */
static inline __m512 load_quarters(const float *const *row, size_t k)
{
    __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(row[0] + k));
    v = _mm512_insertf32x4(v, _mm_loadu_ps(row[4] + k), 1);
    v = _mm512_insertf32x4(v, _mm_loadu_ps(row[8] + k), 2);
    return _mm512_insertf32x4(v, _mm_loadu_ps(row[12] + k), 3);
}

/* r[i] holds four k of the rows i, i+4, i+8, i+12: store them as sixteen rows for each k. */
static inline void store_four_k(float *panel, size_t width, const __m512 r[4])
{
    const __m512 low01 = _mm512_unpacklo_ps(r[0], r[1]), high01 = _mm512_unpackhi_ps(r[0], r[1]);
    const __m512 low23 = _mm512_unpacklo_ps(r[2], r[3]), high23 = _mm512_unpackhi_ps(r[2], r[3]);
    _mm512_store_ps(panel, _mm512_shuffle_ps(low01, low23, 0x44));
    _mm512_store_ps(panel + width, _mm512_shuffle_ps(low01, low23, 0xee));
    _mm512_store_ps(panel + 2 * width, _mm512_shuffle_ps(high01, high23, 0x44));
    _mm512_store_ps(panel + 3 * width, _mm512_shuffle_ps(high01, high23, 0xee));
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
        /* A whole cache line of a row at a time: with a stride of 4 KiB lines evict each other. */
        for (; k + LANES <= K; k += LANES, to += LANES * width) {
            __m512 r[4][4];
            UNROLL(4)
            for (size_t i = 0; i < 4; i++) {
                UNROLL(4)
                for (size_t quad = 0; quad < 4; quad++)
                    r[quad][i] = load_quarters(row + i, k + 4 * quad);
            }
            UNROLL(4)
            for (size_t quad = 0; quad < 4; quad++)
                store_four_k(to + 4 * quad * width, width, r[quad]);
        }
        for (; k < K; k++, to += width)
            for (size_t i = 0; i < LANES; i++) to[i] = row[i][k];
    }
}

#define PACK(name) name##_fp32
#define PACK_PER_UNIT 1
#define PACK_UNIT(a, b) ((void)(b), (a))
#define PACK_LANES LANES
#define PACK_TRANSPOSE transpose
#include "tile_pack.h"

#undef PACK
#undef PACK_UNIT
#define PACK(name) name##_rounded
#define PACK_UNIT(a, b) ((void)(b), duo_bf16_rounded(a))
#include "tile_pack.h"

/* A chain tends to 1: nothing overflows or becomes subnormal. */
enum { CHAINS = 24 };
static float spin(size_t rounds)
{
    const __m512 share = _mm512_set1_ps(0.5f);
    __m512 sum[CHAINS];
    UNROLL(24)
    for (size_t i = 0; i < CHAINS; i++) sum[i] = _mm512_set1_ps(0.5f + (float)i);
    for (size_t round = 0; round < rounds; round++) {
        UNROLL(24)
        for (size_t i = 0; i < CHAINS; i++) sum[i] = _mm512_fmadd_ps(sum[i], share, share);
    }
    UNROLL(24)
    for (size_t i = 1; i < CHAINS; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
    return _mm512_cvtss_f32(sum[0]);
}

#define ROW_OF_TILES(rows)                                                                         \
    {                                                                                              \
        multiply_##rows##x1, multiply_##rows##x2, multiply_##rows##x3                              \
    }
#define ROW_OF_SOURCES(rows)                                                                       \
    {                                                                                              \
        sources_##rows##x1, sources_##rows##x2, sources_##rows##x3                                 \
    }
#define SHAPE                                                                                      \
    .rows = ROWS, .vectors = VECTORS, .lanes = LANES, .per_unit = 1, .spin = spin,                 \
    .spin_flops = 2 * CHAINS * LANES,                                                              \
    .multiply = {ROW_OF_TILES(1), ROW_OF_TILES(2), ROW_OF_TILES(3), ROW_OF_TILES(4),               \
                 ROW_OF_TILES(5), ROW_OF_TILES(6), ROW_OF_TILES(7), ROW_OF_TILES(8)}
const duo_tile duo_tile_avx512 = {
    SHAPE,
    .multiply_sources = {ROW_OF_SOURCES(1), ROW_OF_SOURCES(2), ROW_OF_SOURCES(3), ROW_OF_SOURCES(4),
                         ROW_OF_SOURCES(5), ROW_OF_SOURCES(6), ROW_OF_SOURCES(7),
                         ROW_OF_SOURCES(8)},
    .pack_rows = transpose,
    .pack_columns = columns_fp32,
};
const duo_tile duo_tile_avx512_rounded = {
    SHAPE,
    .pack_rows = rows_rounded,
    .pack_columns = columns_rounded,
    .convert = convert_rounded,
};
