#ifndef DUO_VEC_AVX512_H
#define DUO_VEC_AVX512_H

/* What simd_vector.h wants of AVX-512. */
#include "lanes_avx512.h"

enum { WIDTH = 16, TILE_ROWS = 8 };
typedef __m512 vec;
typedef __mmask16 vec_mask;

static inline vec vec_set(float x)
{
    return _mm512_set1_ps(x);
}

static inline vec vec_load(const float *x)
{
    return _mm512_loadu_ps(x);
}

static inline void vec_store(float *y, vec x)
{
    _mm512_storeu_ps(y, x);
}

static inline vec vec_load_part(const float *x, size_t n, float rest)
{
    return _mm512_mask_loadu_ps(vec_set(rest), lanes_below(n), x);
}

static inline void vec_store_part(float *y, vec x, size_t n)
{
    _mm512_mask_storeu_ps(y, lanes_below(n), x);
}

static inline vec vec_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vec vec_min(vec a, vec b)
{
    return _mm512_min_ps(a, b);
}

static inline vec vec_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}

static inline vec_mask vec_not_below(vec x, float limit)
{
    return _mm512_cmp_ps_mask(x, vec_set(limit), _CMP_NLT_UQ);
}

static inline vec vec_power(vec x, vec shifted, float round_to_int, vec_mask keep)
{
    return _mm512_maskz_scalef_ps(keep, x, shifted - vec_set(round_to_int));
}

#endif
