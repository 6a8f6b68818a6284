/*
 * Packing into pairs of bf16 with the instructions for them. The file that includes this defines
 * VECTORS and LANES of its tile.
 */
#include <assert.h>

#include "lanes_avx512.h"
#include "pairs_avx512.h"
#include "tile.h"

/* A row, in whole lines. */
static inline void convert_to_pairs(float *to, const float *x, size_t K)
{
    for (size_t k = 0; k < K; k += 2 * LANES, x += 2 * LANES, to += DUO_LINE) {
        const __mmask16 first = lanes_below(K - k),
                        second = K - k > LANES ? lanes_below(K - k - LANES) : 0;
        const __m512 a = _mm512_maskz_loadu_ps(first, x);
        const __m512 b = _mm512_maskz_loadu_ps(second, x + LANES);
        _mm512_store_ps(to, duo_neighbour_pairs(a, b));
    }
}

/* Converted a piece at a time, then transposed. */
static inline void pack_rows_of_pairs(float *panel, const float *w, size_t stride, size_t cols,
                                      size_t K)
{
    enum { UNITS = 64, DEPTH = 2 * UNITS };
    _Alignas(64) float piece[VECTORS * LANES][UNITS];
    const size_t width = (cols + LANES - 1) / LANES * LANES;
    for (size_t k = 0; k < K; k += DEPTH, panel += UNITS * width) {
        const size_t depth = K - k < DEPTH ? K - k : DEPTH;
        for (size_t c = 0; c < cols; c++) convert_to_pairs(piece[c], w + c * stride + k, depth);
        duo_tile_avx512.pack_rows(panel, piece[0], UNITS, cols, (depth + 1) / 2);
    }
}

/* Rows k and k + 1 of the operand in pairs, 0 for what is not below k_end: LANES columns. */
static inline __m512 unit_of_columns(const duo_operand *from, size_t k, size_t k_end, size_t column,
                                     __mmask16 mask)
{
    const __m512 a = _mm512_maskz_loadu_ps(mask, duo_operand_row(from, k) + column);
    if (k + 1 == k_end) return duo_row_pairs(a, _mm512_setzero_ps());
    return duo_row_pairs(a, _mm512_maskz_loadu_ps(mask, duo_operand_row(from, k + 1) + column));
}

static inline void pack_columns_of_pairs(float *panels, size_t width, size_t lanes,
                                         size_t panel_size, const duo_operand *from, size_t first,
                                         size_t cols, size_t k0, size_t depth)
{
    assert(lanes % LANES == 0);
    for (size_t k = 0, u = 0; k < depth; k += 2, u++) {
        float *panel = panels;
        for (size_t n = 0; n < cols; n += width, panel += panel_size) {
            const size_t own = cols - n < width ? cols - n : width;
            const size_t padded = (own + lanes - 1) / lanes * lanes;
            for (size_t c = 0; c < padded; c += LANES)
                _mm512_store_ps(panel + u * padded + c,
                                unit_of_columns(from, k0 + k, k0 + depth, first + n + c,
                                                c < own ? lanes_below(own - c) : 0));
        }
    }
}
