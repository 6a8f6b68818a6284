#include "bf16_emulated.h"

/* The upper products first, each added with one rounding. */
static inline __m512 dot_pairs(__m512 sum, __m512 a, __m512 b)
{
    sum = flushed(_mm512_fmadd_ps(upper(a), upper(b), flushed(sum)));
    return flushed(_mm512_fmadd_ps(lower(a), lower(b), sum));
}

#define DUO_DOT_PAIRS(sum, a, b) dot_pairs(sum, a, b)
#define duo_tile_avx512bf16 duo_tile_bf16_emulated
#include "tile_avx512bf16.c"
