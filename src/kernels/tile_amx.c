#include <string.h>

#include "amx.h"
#include "pairs_avx512.h"
#include "tile.h"
#include "unroll.h"

enum { SIDE = DUO_AMX_SIDE, LANES = 16, ROWS = 2 * SIDE, VECTORS = 2 };

#include "tile_pack_pairs_avx512.h"

/* Registers 0 to 3 are the sums, row after row of them; 4 and 5 the left rows; 6 and 7 the panel.
 */
static inline __attribute__((always_inline)) void
add_line(const bool low, const bool wide, const float *left, size_t stride, const float *panel)
{
    const size_t width = wide ? 2 * LANES : LANES;
    DUO_AMX_LOAD(4, left, stride);
    DUO_AMX_LOAD(6, panel, width);
    DUO_AMX_DOT(0, 4, 6);
    if (low) DUO_AMX_LOAD(5, left + SIDE * stride, stride);
    if (low) DUO_AMX_DOT(2, 5, 6);
    if (wide) DUO_AMX_LOAD(7, panel + LANES, width);
    if (wide) DUO_AMX_DOT(1, 4, 7);
    if (wide && low) DUO_AMX_DOT(3, 5, 7);
}

/* The sums of up to two by two registers, as rows `row` apart. The left rows are filled up with 0
 * to whole lines. */
static inline __attribute__((always_inline)) void
sum_units(const bool low, const bool wide, float *sums, size_t row, const float *left,
          size_t stride, const float *panel, size_t units, float *const *y, size_t rows)
{
    const size_t width = wide ? 2 * LANES : LANES;
    DUO_AMX_ZERO(0);
    if (wide) DUO_AMX_ZERO(1);
    if (low) DUO_AMX_ZERO(2);
    if (wide && low) DUO_AMX_ZERO(3);
    size_t u = 0;
    /* The output is fetched a few rows at a time along the sum: all at once, it would hold up the
     * operands. */
    const size_t rows_a_line = (rows * SIDE + units - 1) / units;
    for (size_t i = 0; u + SIDE <= units; u += SIDE, panel += SIDE * width) {
        add_line(low, wide, left + u, stride, panel);
        for (const size_t end = i + rows_a_line < rows ? i + rows_a_line : rows; i < end; i++) {
            __builtin_prefetch(y[i], 1);
            if (wide) __builtin_prefetch(y[i] + LANES, 1);
        }
    }
    if (u < units) {
        _Alignas(64) float last[SIDE * VECTORS * LANES] = {0};
        memcpy(last, panel, (units - u) * width * sizeof *last);
        DUO_AMX_STORED();
        add_line(low, wide, left + u, stride, last);
    }
    DUO_AMX_STORE(0, sums, row);
    if (wide) DUO_AMX_STORE(1, sums + LANES, row);
    if (low) DUO_AMX_STORE(2, sums + SIDE * row, row);
    if (wide && low) DUO_AMX_STORE(3, sums + SIDE * row + LANES, row);
    DUO_AMX_STORED();
}

/* The distance of the rows, if they are ROWS at equal ones, or 0. */
static size_t even_rows(float *const *y, size_t rows)
{
    if (rows != ROWS || y[1] < y[0]) return 0;
    const size_t row = (size_t)(y[1] - y[0]);
    for (size_t i = 2; i < ROWS; i++)
        if (y[i] != y[0] + i * row) return 0;
    return row;
}

static void multiply(float *const *y, const float *const *left, size_t rows, size_t step,
                     const float *panel, size_t units, size_t cols, const float *bias, bool add)
{
    (void)step; /* left rows are always converted ones */
    _Alignas(64) float sums[ROWS * VECTORS * LANES];
    enum { ROW = VECTORS * LANES };
    const bool low = rows > SIDE, wide = cols > LANES;
    const size_t stride = rows > 1 ? (size_t)(left[1] - left[0]) : units;
    const size_t even = !bias && !add && cols == ROW ? even_rows(y, rows) : 0;
    DUO_AMX_STORED();
    if (even) { /* the registers are the output */
        sum_units(true, true, y[0], even, left[0], stride, panel, units, y, rows);
        return;
    }
    if (low && wide)
        sum_units(true, true, sums, ROW, left[0], stride, panel, units, y, rows);
    else if (wide)
        sum_units(false, true, sums, ROW, left[0], stride, panel, units, y, rows);
    else if (low)
        sum_units(true, false, sums, ROW, left[0], stride, panel, units, y, rows);
    else
        sum_units(false, false, sums, ROW, left[0], stride, panel, units, y, rows);
    for (size_t j = 0; j < cols; j += LANES) {
        const __mmask16 mask = lanes_below(cols - j);
        for (size_t i = 0; i < rows; i++) {
            __m512 value = _mm512_load_ps(sums + i * ROW + j);
            if (bias) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, bias + j));
            if (add) value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y[i] + j), value);
            _mm512_mask_storeu_ps(y[i] + j, mask, value);
        }
    }
}

/* A line of k's at a time: its rows are read along, since only then they are fetched ahead. */
static void convert_columns(float *to, size_t row_size, const duo_operand *from, size_t first,
                            size_t cols, size_t k0, size_t depth)
{
    enum { MOST = 256 };
    _Alignas(64) float units[SIDE][MOST];
    for (size_t k = 0; k < depth; k += 2 * SIDE, to += SIDE)
        for (size_t n = 0; n < cols; n += MOST) {
            const size_t own = cols - n < MOST ? cols - n : MOST;
            for (size_t u = 0; u < SIDE; u++)
                for (size_t c = 0; c < own; c += LANES)
                    _mm512_store_ps(units[u] + c,
                                    k + 2 * u < depth
                                        ? unit_of_columns(from, k0 + k + 2 * u, k0 + depth,
                                                          first + n + c, lanes_below(own - c))
                                        : _mm512_setzero_ps());
            for (size_t c = 0; c < own; c += LANES) {
                __m512 column[SIDE];
                UNROLL(16)
                for (size_t u = 0; u < SIDE; u++) column[u] = _mm512_load_ps(units[u] + c);
                duo_store_transposed(to + (n + c) * row_size, row_size, column);
            }
        }
}

/* The sums grow by 3e-5 a round: nothing overflows or becomes subnormal. */
static float spin(size_t rounds)
{
    _Alignas(64) float pairs[SIDE * LANES], sums[SIDE * LANES];
    for (size_t i = 0; i < SIDE * LANES; i += LANES)
        _mm512_store_ps(pairs + i, (__m512)_mm512_set1_epi32(0x3a803a80)); /* 2^-10 twice */
    duo_amx_enter();
    DUO_AMX_STORED();
    DUO_AMX_LOAD(6, pairs, LANES);
    DUO_AMX_LOAD(7, pairs, LANES);
    DUO_AMX_ZERO(0);
    DUO_AMX_ZERO(1);
    DUO_AMX_ZERO(2);
    DUO_AMX_ZERO(3);
    for (size_t round = 0; round < rounds; round++) {
        DUO_AMX_DOT(0, 6, 7);
        DUO_AMX_DOT(1, 6, 7);
        DUO_AMX_DOT(2, 6, 7);
        DUO_AMX_DOT(3, 6, 7);
    }
    DUO_AMX_STORE(3, sums, LANES);
    duo_amx_leave();
    DUO_AMX_STORED();
    return sums[0];
}

const duo_tile duo_tile_amx = {
    .rows = ROWS,
    .vectors = VECTORS,
    .lanes = LANES,
    .per_unit = 2,
    .multiply = multiply,
    .pack_rows = pack_rows_of_pairs,
    .pack_columns = pack_columns_of_pairs,
    .convert = convert_to_pairs,
    .convert_columns = convert_columns,
    .enter = duo_amx_enter,
    .leave = duo_amx_leave,
    .spin = spin,
    .spin_flops = 4 * 2 * 2 * SIDE * SIDE * SIDE,
};
