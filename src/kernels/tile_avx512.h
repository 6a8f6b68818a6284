/*
 * Tiles of 8 rows by 3 vectors of AVX-512, compiled for each precision by the file that includes
 * this. It defines TILE_PER_UNIT, k's in a unit; TILE_MULTIPLY_ADD(sum, value, right), the sum a
 * unit later; TILE_AHEAD, units of the panel to fetch ahead, or 0; and, where a unit holds two k's,
 * TILE_UNITS(a, b), the units of two rows, and TILE_LINE(a, b), those of a row that goes on from a
 * to b.
 */
#include "lanes_avx512.h"
#include "tile.h"
#include "unroll.h"

enum { ROWS = 8, VECTORS = 3, LANES = 16 };

/* What follows is inlined with constant rows and vectors, so that the sums stay in registers. */

/* Few rows wait for memory, which the processor then fetches faster by itself. */
static inline __attribute__((always_inline)) void
load_panel(const size_t rows, const size_t vectors, __m512 right[VECTORS], const float *panel)
{
    UNROLL(3)
    for (size_t j = 0; j < vectors; j++) {
        if (TILE_AHEAD > 0 && rows == ROWS)
            __builtin_prefetch(panel + TILE_AHEAD * vectors * LANES + j * LANES);
        right[j] = _mm512_load_ps(panel + j * LANES);
    }
}

/* One unit of each row, at left[i][at], by the panel's. */
static inline __attribute__((always_inline)) void
multiply_unit(const size_t rows, const size_t vectors, __m512 sum[ROWS][VECTORS],
              const float *const left[ROWS], size_t at, const float *panel)
{
    __m512 right[VECTORS];
    load_panel(rows, vectors, right, panel);
    UNROLL(8)
    for (size_t i = 0; i < rows; i++) {
        const __m512 value = _mm512_set1_ps(left[i][at]);
        UNROLL(3)
        for (size_t j = 0; j < vectors; j++)
            sum[i][j] = TILE_MULTIPLY_ADD(sum[i][j], value, right[j]);
    }
}

static inline __attribute__((always_inline)) void
clear_sums(const size_t rows, const size_t vectors, __m512 sum[ROWS][VECTORS])
{
    UNROLL(8)
    for (size_t i = 0; i < rows; i++) {
        UNROLL(3)
        for (size_t j = 0; j < vectors; j++) sum[i][j] = _mm512_setzero_ps();
    }
}

static inline __attribute__((always_inline)) void store_sums(const size_t rows,
                                                             const size_t vectors, float *const *y,
                                                             __m512 sum[ROWS][VECTORS], size_t cols,
                                                             const float *bias, bool add)
{
    const __mmask16 last = lanes_below(cols - (vectors - 1) * LANES);
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

static inline __attribute__((always_inline)) void
multiply(const size_t rows, const size_t vectors, float *const *y, const float *const *left,
         size_t step, const float *panel, size_t units, size_t cols, const float *bias, bool add)
{
    const float *left_row[ROWS];
    __m512 sum[ROWS][VECTORS];
    clear_sums(rows, vectors, sum);
    UNROLL(8)
    for (size_t i = 0; i < rows; i++) left_row[i] = left[i];
    /* The output is fetched a row at a time along the sum: all at once, it would hold up the
     * panel, which comes from the second-level cache. */
    for (size_t row = 0, u = 0, at = 0; row < rows; row++) {
        for (size_t j = 0; j < vectors; j++) __builtin_prefetch(y[row] + j * LANES, 1);
        const size_t end = row + 1 < rows ? u + units / (2 * ROWS) : units;
        for (; u < end; u++, at += step, panel += vectors * LANES)
            multiply_unit(rows, vectors, sum, left_row, at, panel);
    }
    store_sums(rows, vectors, y, sum, cols, bias, add);
}

#ifdef TILE_LINE
/* The same chains of multiply-adds, so the same bits: a line of units of each row is converted,
 * then multiplied. */
static inline __attribute__((always_inline)) void
multiply_converting(const size_t rows, const size_t vectors, float *const *y,
                    const float *const *left, float *units, size_t row_size, const float *panel,
                    size_t depth, size_t cols, const float *bias, bool add)
{
    const size_t n_units = (depth + TILE_PER_UNIT - 1) / TILE_PER_UNIT;
    const float *left_row[ROWS];
    __m512 sum[ROWS][VECTORS];
    clear_sums(rows, vectors, sum);
    UNROLL(8)
    for (size_t i = 0; i < rows; i++) left_row[i] = units + i * row_size;
    for (size_t u = 0, row = 0; u < n_units; row++) {
        const size_t k = u * TILE_PER_UNIT, rest = depth - k;
        const __mmask16 first = lanes_below(rest);
        const __mmask16 second = lanes_below(rest < LANES ? 0 : rest - LANES);
        /* A row of the output with each line, what is left with the last one. */
        const size_t fetched = n_units - u <= LANES || row >= rows ? rows : row + 1;
        for (size_t i = row; i < fetched; i++)
            for (size_t j = 0; j < vectors; j++) __builtin_prefetch(y[i] + j * LANES, 1);
        UNROLL(8)
        for (size_t i = 0; i < rows; i++) {
            const float *from = left[i] + k;
            __builtin_prefetch(left[rows + i] + k, 0, 2);
            __builtin_prefetch(left[rows + i] + k + LANES, 0, 2);
            _mm512_store_ps(units + i * row_size + u,
                            TILE_LINE(_mm512_maskz_loadu_ps(first, from),
                                      _mm512_maskz_loadu_ps(second, from + LANES)));
        }
        const size_t end = n_units - u < LANES ? n_units : u + LANES;
        for (; u < end; u++, panel += vectors * LANES)
            multiply_unit(rows, vectors, sum, left_row, u, panel);
    }
    store_sums(rows, vectors, y, sum, cols, bias, add);
}
#endif

/* The unit u of some columns of rows by k, of which there are depth. */
static inline __attribute__((always_inline)) __m512
source_units(const float *const *rows, size_t u, size_t column, __mmask16 mask, size_t depth)
{
    const size_t first = u * TILE_PER_UNIT, second = first + TILE_PER_UNIT - 1;
    const __m512 a = _mm512_maskz_loadu_ps(mask, rows[first] + column);
    if (second == first) return a;
    const __mmask16 inside = second < depth ? mask : (__mmask16)0;
    return TILE_UNITS(a, _mm512_maskz_loadu_ps(inside, rows[second] + column));
}

static inline __attribute__((always_inline)) void fetch_units(const float *const *rows, size_t u,
                                                              size_t column)
{
    UNROLL(2)
    for (size_t i = 0; i < TILE_PER_UNIT; i++)
        __builtin_prefetch(rows[u * TILE_PER_UNIT + i + DUO_FETCH] + column, 0, 2);
}

/* The same chains of multiply-adds, so the same bits. */
static inline __attribute__((always_inline)) void
multiply_sources(const size_t rows, const size_t vectors, float *const *y,
                 const duo_tile_source *left, const duo_tile_source *right, size_t depth)
{
    const size_t units = (depth + TILE_PER_UNIT - 1) / TILE_PER_UNIT;
    const __mmask16 last = lanes_below(right->cols - (vectors - 1) * LANES);
    const __mmask32 left_lanes = (__mmask32)((1ull << left->cols) - 1);
    const __mmask16 line[2] = {(__mmask16)left_lanes, (__mmask16)(left_lanes >> LANES)};
    const float *const *left_rows = left->rows, *const *right_rows = right->rows;
    float *strip = left->packed, *panel = right->packed;
    __m512 sum[ROWS][VECTORS];
    clear_sums(rows, vectors, sum);
    for (size_t row = 0, u = 0; row < rows; row++) {
        for (size_t j = 0; j < vectors; j++) __builtin_prefetch(y[row] + j * LANES, 1);
        const size_t end = row + 1 < rows ? u + units / (2 * ROWS) : units;
        for (; u < end; u++, strip += DUO_STRIP, panel += vectors * LANES) {
            const float *from = strip;
            if (left_rows) {
                if (TILE_PER_UNIT == 1) from = left_rows[u] + left->first;
                UNROLL(2)
                for (size_t j = 0; j < 2; j++) {
                    const size_t column = left->first + j * LANES;
                    fetch_units(left_rows, u, column);
                    const __m512 strips = source_units(left_rows, u, column, line[j], depth);
                    float *to = strip + 2 * j * DUO_STRIP * units;
                    _mm256_store_ps(to, _mm512_castps512_ps256(strips));
                    _mm256_store_ps(to + DUO_STRIP * units, _mm512_extractf32x8_ps(strips, 1));
                }
            }
            __m512 column[VECTORS];
            if (right_rows) {
                UNROLL(3)
                for (size_t j = 0; j < vectors; j++) {
                    const __mmask16 mask = j + 1 < vectors ? (__mmask16)0xffff : last;
                    const size_t at = right->first + j * LANES;
                    fetch_units(right_rows, u, at);
                    column[j] = source_units(right_rows, u, at, mask, depth);
                    _mm512_store_ps(panel + j * LANES, column[j]);
                }
            } else {
                load_panel(rows, vectors, column, panel);
            }
            UNROLL(8)
            for (size_t i = 0; i < rows; i++) {
                const __m512 value = _mm512_set1_ps(from[i]);
                UNROLL(3)
                for (size_t j = 0; j < vectors; j++)
                    sum[i][j] = TILE_MULTIPLY_ADD(sum[i][j], value, column[j]);
            }
        }
    }
    store_sums(rows, vectors, y, sum, right->cols, NULL, true);
}

#ifdef TILE_LINE
#define TILE_CONVERTING(rows, vectors)                                                             \
    static void converting_##rows##x##vectors(                                                     \
        float *const *y, const float *const *left, float *units, size_t row_size,                  \
        const float *panel, size_t depth, size_t cols, const float *bias, bool add)                \
    {                                                                                              \
        multiply_converting(rows, vectors, y, left, units, row_size, panel, depth, cols, bias,     \
                            add);                                                                  \
    }
#else
#define TILE_CONVERTING(rows, vectors)
#endif
#define TILE(rows, vectors)                                                                        \
    static void multiply_##rows##x##vectors(float *const *y, const float *const *left,             \
                                            size_t step, const float *panel, size_t units,         \
                                            size_t cols, const float *bias, bool add)              \
    {                                                                                              \
        multiply(rows, vectors, y, left, step, panel, units, cols, bias, add);                     \
    }                                                                                              \
    static void sources_##rows##x##vectors(float *const *y, const duo_tile_source *left,           \
                                           const duo_tile_source *right, size_t depth)             \
    {                                                                                              \
        multiply_sources(rows, vectors, y, left, right, depth);                                    \
    }                                                                                              \
    TILE_CONVERTING(rows, vectors)
#define TILES(rows) TILE(rows, 1) TILE(rows, 2) TILE(rows, 3)
TILES(1)
TILES(2)
TILES(3)
TILES(4)
TILES(5)
TILES(6)
TILES(7)
TILES(8)

#define ROW_OF(name, rows)                                                                         \
    {                                                                                              \
        name##_##rows##x1, name##_##rows##x2, name##_##rows##x3                                    \
    }
#define ALL_OF(name)                                                                               \
    {                                                                                              \
        ROW_OF(name, 1), ROW_OF(name, 2), ROW_OF(name, 3), ROW_OF(name, 4), ROW_OF(name, 5),       \
            ROW_OF(name, 6), ROW_OF(name, 7), ROW_OF(name, 8)                                      \
    }

static void multiply_any(float *const *y, const float *const *left, size_t rows, size_t step,
                         const float *panel, size_t units, size_t cols, const float *bias, bool add)
{
    static __typeof__(multiply_1x1) *const tiles[ROWS][VECTORS] = ALL_OF(multiply);
    tiles[rows - 1][(cols - 1) / LANES](y, left, step, panel, units, cols, bias, add);
}

#ifdef TILE_LINE
static void multiply_converting_any(float *const *y, const float *const *left, size_t rows,
                                    float *units, size_t row_size, const float *panel, size_t depth,
                                    size_t cols, const float *bias, bool add)
{
    static __typeof__(converting_1x1) *const tiles[ROWS][VECTORS] = ALL_OF(converting);
    tiles[rows - 1][(cols - 1) / LANES](y, left, units, row_size, panel, depth, cols, bias, add);
}
#endif

static void multiply_sources_any(float *const *y, size_t rows, const duo_tile_source *left,
                                 const duo_tile_source *right, size_t depth)
{
    static __typeof__(sources_1x1) *const tiles[ROWS][VECTORS] = ALL_OF(sources);
    tiles[rows - 1][(right->cols - 1) / LANES](y, left, right, depth);
}

#define TILE_MULTIPLY                                                                              \
    .rows = ROWS, .vectors = VECTORS, .lanes = LANES, .per_unit = TILE_PER_UNIT,                   \
    .multiply = multiply_any
