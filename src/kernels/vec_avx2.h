#ifndef DUO_VEC_AVX2_H
#define DUO_VEC_AVX2_H

/* What simd_vector.h wants of AVX2. */
#include <immintrin.h>
#include <stddef.h>

enum { WIDTH = 8, TILE_ROWS = 4 };
typedef __m256 vec;
typedef __m256 vec_mask;

static inline __m256i lanes_below(size_t n)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane);
}

static inline vec vec_set(float x)
{
    return _mm256_set1_ps(x);
}

static inline vec vec_load(const float *x)
{
    return _mm256_loadu_ps(x);
}

static inline void vec_store(float *y, vec x)
{
    _mm256_storeu_ps(y, x);
}

static inline vec vec_load_part(const float *x, size_t n, float rest)
{
    const __m256i mask = lanes_below(n);
    return _mm256_blendv_ps(vec_set(rest), _mm256_maskload_ps(x, mask), _mm256_castsi256_ps(mask));
}

static inline void vec_store_part(float *y, vec x, size_t n)
{
    _mm256_maskstore_ps(y, lanes_below(n), x);
}

static inline vec vec_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vec vec_min(vec a, vec b)
{
    return _mm256_min_ps(a, b);
}

static inline vec vec_max(vec a, vec b)
{
    return _mm256_max_ps(a, b);
}

static inline vec_mask vec_not_below(vec x, float limit)
{
    return _mm256_cmp_ps(x, vec_set(limit), _CMP_NLT_UQ);
}

/* Two factors: 2^128 alone is not representable. Dropped lanes have k = 0, to underflow nowhere. */
static inline vec vec_power(vec x, vec shifted, float round_to_int, vec_mask keep)
{
    const __m256i zero = _mm256_castps_si256(vec_set(round_to_int));
    const __m256i k = _mm256_and_si256(_mm256_sub_epi32(_mm256_castps_si256(shifted), zero),
                                       _mm256_castps_si256(keep));
    const __m256i biased = _mm256_add_epi32(k, _mm256_set1_epi32(254));
    const __m256i half = _mm256_srli_epi32(biased, 1), rest = _mm256_sub_epi32(biased, half);
    const vec y = x * _mm256_castsi256_ps(_mm256_slli_epi32(half, 23)) *
                  _mm256_castsi256_ps(_mm256_slli_epi32(rest, 23));
    return _mm256_and_ps(keep, y);
}

#endif
