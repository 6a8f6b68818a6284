#ifndef DUO_PAIRS_AVX512_H
#define DUO_PAIRS_AVX512_H

#include <immintrin.h>

/* The numbers of a, then of b, rounded to bf16. The tests define it for processors without the
 * instruction. */
#ifndef DUO_ROUND_TWO
#define DUO_ROUND_TWO(a, b) ((__m512i)_mm512_cvtne2ps_pbh(b, a))
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

#endif
