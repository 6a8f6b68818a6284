#ifndef DUO_VMATH_H
#define DUO_VMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/*
 * log as straight-line code that the compiler can vectorise, because calls of libm cannot be.
 * Every operation rounds alike in a vector and in a scalar, so that an element's bits do not
 * depend on its place in a row. Within 2 units in the last place; infinities, zeros, subnormals
 * and NaN as in <math.h>. The coefficients are minimax fits of the relative error of the result.
 * exp is vec_exp in simd_vector.h.
 */

/* a * b + c, fused wherever the processor this file is compiled for can do it. */
#if defined(__FMA__) || defined(__AVX512F__)
#define DUO_FMA(a, b, c) fmaf((a), (b), (c))
#else
#define DUO_FMA(a, b, c) ((a) * (b) + (c))
#endif

static inline uint32_t duo_float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float duo_bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* log(x) = e log 2 + log(1 + f), sqrt(1/2) <= 1 + f < sqrt(2), log(1 + f) = f - f^2/2 + f^3 p(f).
 */
static inline float duo_logf(float x)
{
    const float tiny = 0x1p-126f;
    const float normal = x < tiny ? x * 0x1p23f : x;
    const uint32_t sqrt_half = 0x3f3504f3u;
    const uint32_t above = duo_float_bits(normal) - sqrt_half;
    const int32_t exponent = (int32_t)((above + 0x40000000u) >> 23) - 128;
    const float f = duo_bits_float((above & 0x007fffffu) + sqrt_half) - 1.0f;
    const float e = (float)exponent - (x < tiny ? 23.0f : 0.0f);
    float p = -0.0763438866f;
    p = DUO_FMA(p, f, 0.127654284f);
    p = DUO_FMA(p, f, -0.131620035f);
    p = DUO_FMA(p, f, 0.142013684f);
    p = DUO_FMA(p, f, -0.166231439f);
    p = DUO_FMA(p, f, 0.200012356f);
    p = DUO_FMA(p, f, -0.250008255f);
    p = DUO_FMA(p, f, 0.333333313f);
    const float f2 = f * f;
    float y = DUO_FMA(e, -0x1.bd0106p-13f, f2 * f * p);
    y = f + DUO_FMA(-0.5f, f2, y);
    y = DUO_FMA(e, 0x1.63p-1f, y);
    y = x > 3.40282347e38f ? x : y;
    y = x == 0.0f ? -INFINITY : y;
    y = x < 0.0f ? NAN : y;
    return x != x ? x : y;
}

#endif
