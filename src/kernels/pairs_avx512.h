#ifndef DUO_PAIRS_AVX512_H
#define DUO_PAIRS_AVX512_H

#include <immintrin.h>
#include <stddef.h>

#include "unroll.h"

/* The numbers of a, then of b, rounded to bf16. The tests define it for processors without the
 * instruction. */
#ifndef DUO_ROUND_TWO
#define DUO_ROUND_TWO(a, b) ((__m512i)_mm512_cvtne2ps_pbh(b, a))
#endif

/* Each lane of sum, a pair of products later; defined by the tests as well. */
#ifndef DUO_DOT_PAIRS
#define DUO_DOT_PAIRS(sum, a, b) _mm512_dpbf16_ps(sum, (__m512bh)(a), (__m512bh)(b))
#endif

/* Pairs of neighbours in a row that goes on from a to b. */
static inline __m512 duo_neighbour_pairs(__m512 a, __m512 b)
{
    return (__m512)DUO_ROUND_TWO(a, b);
}

/* Each number of the row a beside the one below it in the row b. */
static inline __m512 duo_row_pairs(__m512 a, __m512 b)
{
    const __m512i order =
        _mm512_setr_epi32(/* a word of a, a word of b */
                          0x100000, 0x110001, 0x120002, 0x130003, 0x140004, 0x150005, 0x160006,
                          0x170007, 0x180008, 0x190009, 0x1a000a, 0x1b000b, 0x1c000c, 0x1d000d,
                          0x1e000e, 0x1f000f);
    return (__m512)_mm512_permutexvar_epi16(order, DUO_ROUND_TWO(a, b));
}

/* to[c][u] = r[u][c], 16 by 16; rows of `to` are row_size apart and aligned. */
static inline void duo_store_transposed(float *to, size_t row_size, __m512 r[16])
{
    __m512 quads[16]; /* quads[4 * g + c]: of the columns c, c + 4, ... the units 4 * g and on */
    UNROLL(4)
    for (size_t g = 0; g < 16; g += 4) {
        const __m512d low01 = (__m512d)_mm512_unpacklo_ps(r[g], r[g + 1]),
                      high01 = (__m512d)_mm512_unpackhi_ps(r[g], r[g + 1]),
                      low23 = (__m512d)_mm512_unpacklo_ps(r[g + 2], r[g + 3]),
                      high23 = (__m512d)_mm512_unpackhi_ps(r[g + 2], r[g + 3]);
        quads[g] = (__m512)_mm512_unpacklo_pd(low01, low23);
        quads[g + 1] = (__m512)_mm512_unpackhi_pd(low01, low23);
        quads[g + 2] = (__m512)_mm512_unpacklo_pd(high01, high23);
        quads[g + 3] = (__m512)_mm512_unpackhi_pd(high01, high23);
    }
    UNROLL(4)
    for (size_t c = 0; c < 4; c++) {
        const __m512 even_low = _mm512_shuffle_f32x4(quads[c], quads[c + 4], 0x88),
                     even_high = _mm512_shuffle_f32x4(quads[c + 8], quads[c + 12], 0x88),
                     odd_low = _mm512_shuffle_f32x4(quads[c], quads[c + 4], 0xdd),
                     odd_high = _mm512_shuffle_f32x4(quads[c + 8], quads[c + 12], 0xdd);
        float *row = to + c * row_size;
        _mm512_store_ps(row, _mm512_shuffle_f32x4(even_low, even_high, 0x88));
        _mm512_store_ps(row + 4 * row_size, _mm512_shuffle_f32x4(odd_low, odd_high, 0x88));
        _mm512_store_ps(row + 8 * row_size, _mm512_shuffle_f32x4(even_low, even_high, 0xdd));
        _mm512_store_ps(row + 12 * row_size, _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd));
    }
}

#endif
