#ifndef DUO_BF16_H
#define DUO_BF16_H

#include <stdint.h>
#include <string.h>

/* The bits of the bf16 nearest to x, ties to even, in the upper half; a NaN stays one. */
static inline uint32_t duo_bf16_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t nearest = bits + 0x7fffu + (bits >> 16 & 1u);
    const uint32_t quiet = bits | 0x00400000u;
    return ((bits & 0x7fffffffu) > 0x7f800000u ? quiet : nearest) & 0xffff0000u;
}

static inline float duo_bf16_rounded(float x)
{
    const uint32_t bits = duo_bf16_bits(x);
    float rounded;
    memcpy(&rounded, &bits, sizeof rounded);
    return rounded;
}

#endif
