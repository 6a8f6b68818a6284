#include <immintrin.h>

#include "bf16.h"

/* Each lane of sum, a pair of products later; and two rows as pairs. The tests compile this file
 * once more with other definitions, for processors without the instructions. */
#ifndef DUO_DOT_PAIRS
#define DUO_DOT_PAIRS(sum, a, b) _mm512_dpbf16_ps(sum, a, b)
#define DUO_PAIRS(a, b) pairs(a, b)
static inline __m512 pairs(__m512 a, __m512 b)
{
    const __m512i order =
        _mm512_setr_epi32(/* a word of a, a word of b */
                          0x100000, 0x110001, 0x120002, 0x130003, 0x140004, 0x150005, 0x160006,
                          0x170007, 0x180008, 0x190009, 0x1a000a, 0x1b000b, 0x1c000c, 0x1d000d,
                          0x1e000e, 0x1f000f);
    return (__m512)_mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(b, a));
}
#endif

#define TILE_PER_UNIT 2
#define TILE_MULTIPLY_ADD(sum, value, right)                                                       \
    DUO_DOT_PAIRS(sum, (__m512bh)(value), (__m512bh)(right))
#define TILE_UNITS(a, b) DUO_PAIRS(a, b)
#include "tile_avx512.h"

#define PACK(name) name##_pairs
#define PACK_PER_UNIT 2
#define PACK_UNIT(a, b) duo_bf16_pair(a, b)
#define PACK_LANES LANES
#define PACK_TRANSPOSE duo_tile_avx512.pack_rows
#include "tile_pack.h"

/* A chain grows by 2e-6 a round: nothing overflows or becomes subnormal. */
enum { CHAINS = 24 };
static float spin(size_t rounds)
{
    const __m512bh pair = (__m512bh)_mm512_set1_epi32(0x3a803a80); /* 2^-10 twice */
    __m512 sum[CHAINS];
    UNROLL(24)
    for (size_t i = 0; i < CHAINS; i++) sum[i] = _mm512_set1_ps(0.5f + (float)i);
    for (size_t round = 0; round < rounds; round++) {
        UNROLL(24)
        for (size_t i = 0; i < CHAINS; i++) sum[i] = DUO_DOT_PAIRS(sum[i], pair, pair);
    }
    UNROLL(24)
    for (size_t i = 1; i < CHAINS; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
    return _mm512_cvtss_f32(sum[0]);
}

const duo_tile duo_tile_avx512bf16 = {
    TILE_MULTIPLY,
    TILE_MULTIPLY_SOURCES,
    .pack_rows = rows_pairs,
    .pack_columns = columns_pairs,
    .convert = convert_pairs,
    .spin = spin,
    .spin_flops = 2 * CHAINS * LANES * 2,
};
