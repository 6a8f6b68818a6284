#ifndef DUO_BF16_EMULATED_H
#define DUO_BF16_EMULATED_H

/* What the instructions for bf16 do, in AVX-512F: what uses them is then tested on any processor
 * that has that. */
#include <immintrin.h>

/* Subnormal numbers are zero for the instructions. */
static inline __m512 flushed(__m512 x)
{
    const __m512i exponent = _mm512_set1_epi32(0x7f800000),
                  sign = _mm512_set1_epi32((int)(1u << 31));
    const __mmask16 tiny = _mm512_testn_epi32_mask(_mm512_castps_si512(x), exponent);
    return _mm512_castsi512_ps(
        _mm512_mask_and_epi32(_mm512_castps_si512(x), tiny, _mm512_castps_si512(x), sign));
}

static inline __m512 upper(__m512 pairs)
{
    const __m512i high = _mm512_set1_epi32((int)0xffff0000u);
    return flushed(_mm512_castsi512_ps(_mm512_and_si512((__m512i)pairs, high)));
}

static inline __m512 lower(__m512 pairs)
{
    return flushed(_mm512_castsi512_ps(_mm512_slli_epi32((__m512i)pairs, 16)));
}

/* The nearest bf16, ties to even; a NaN stays one. */
static inline __m256i rounded(__m512 x)
{
    const __m512i bits = _mm512_castps_si512(flushed(x));
    const __m512i even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i nearest =
        _mm512_add_epi32(bits, _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x00400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(nearest, nan, quiet), 16));
}

static inline __m512i rounded_two(__m512 a, __m512 b)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(rounded(a)), rounded(b), 1);
}

/* The upper products first, each added with one rounding. */
static inline __m512 dot_pairs(__m512 sum, __m512 a, __m512 b)
{
    sum = flushed(_mm512_fmadd_ps(upper(a), upper(b), flushed(sum)));
    return flushed(_mm512_fmadd_ps(lower(a), lower(b), sum));
}

#define DUO_ROUND_TWO(a, b) rounded_two(a, b)
#define DUO_DOT_PAIRS(sum, a, b) dot_pairs(sum, a, b)

#endif
