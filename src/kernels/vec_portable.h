#ifndef DUO_VEC_PORTABLE_H
#define DUO_VEC_PORTABLE_H

/* What simd_vector.h wants, of vectors of the compiler: registers where the processor has them,
 * plain floats elsewhere. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { WIDTH = 4, TILE_ROWS = 4 };
typedef float vec __attribute__((vector_size(16)));
typedef uint32_t vec_mask __attribute__((vector_size(16)));

static inline vec vec_set(float x)
{
    return (vec){x, x, x, x};
}

static inline vec vec_load(const float *x)
{
    vec y;
    memcpy(&y, x, sizeof y);
    return y;
}

static inline void vec_store(float *y, vec x)
{
    memcpy(y, &x, sizeof x);
}

static inline vec vec_load_part(const float *x, size_t n, float rest)
{
    vec y = vec_set(rest);
    for (size_t i = 0; i < n; i++) y[i] = x[i];
    return y;
}

static inline void vec_store_part(float *y, vec x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = x[i];
}

static inline vec vec_fma(vec a, vec b, vec c)
{
    return a * b + c;
}

static inline vec vec_choose(vec_mask mask, vec a, vec b)
{
    return (vec)(((vec_mask)a & mask) | ((vec_mask)b & ~mask));
}

static inline vec vec_min(vec a, vec b)
{
    return vec_choose((vec_mask)(a < b), a, b);
}

static inline vec vec_max(vec a, vec b)
{
    return vec_choose((vec_mask)(a > b), a, b);
}

static inline vec_mask vec_not_below(vec x, float limit)
{
    return ~(vec_mask)(x < vec_set(limit));
}

/* Two factors: 2^128 alone is not representable. Dropped lanes have k = 0, to underflow nowhere. */
static inline vec vec_power(vec x, vec shifted, float round_to_int, vec_mask keep)
{
    const vec_mask k = ((vec_mask)shifted - (vec_mask)vec_set(round_to_int)) & keep;
    const vec_mask biased = k + 254u, half = biased >> 1;
    const vec y = x * (vec)(half << 23) * (vec)((biased - half) << 23);
    return (vec)((vec_mask)y & keep);
}

#endif
