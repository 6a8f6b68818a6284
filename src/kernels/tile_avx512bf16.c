#include "pairs_avx512.h"

#define TILE_PER_UNIT 2
#define TILE_MULTIPLY_ADD(sum, value, right) DUO_DOT_PAIRS(sum, value, right)
#define TILE_UNITS(a, b) duo_row_pairs(a, b)
#define TILE_LINE(a, b) duo_neighbour_pairs(a, b)
#define TILE_AHEAD 0 /* Zen 5 fetches them by itself, and loses 4 to 10 % to being told */
#include "tile_avx512.h"

#include "tile_pack_pairs_avx512.h"

/* A chain grows by 2e-6 a round: nothing overflows or becomes subnormal. */
enum { CHAINS = 24 };
static float spin(size_t rounds)
{
    const __m512 pair = (__m512)_mm512_set1_epi32(0x3a803a80); /* 2^-10 twice */
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
    .multiply_sources = multiply_sources_any,
    .pack_rows = pack_rows_of_pairs,
    .pack_columns = pack_columns_of_pairs,
    .multiply_converting = multiply_converting_any,
    .spin = spin,
    .spin_flops = 2 * CHAINS * LANES * 2,
};
