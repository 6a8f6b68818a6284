#include "duo/rng.h"

#include <assert.h>
#include <math.h>

/* Ten rounds of the Philox S-box; constants from the paper. */
static duo_random4 philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0,
                          uint32_t k1)
{
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (duo_random4){{c0, c1, c2, c3}};
}

duo_random4 duo_random(uint64_t seed, duo_purpose purpose, duo_place place)
{
    assert(place.step >> 48 == 0 && place.layer >> 16 == 0);
    /* The purpose goes into the key, times an odd constant: of one seed, no two purposes share a
     * stream, and of one purpose, no two seeds. */
    const uint64_t key = seed ^ ((uint64_t)purpose * UINT64_C(0x9E3779B97F4A7C15));
    return philox(place.position, place.row, (uint32_t)place.step,
                  (uint32_t)(place.step >> 32) << 16 | place.layer, (uint32_t)key,
                  (uint32_t)(key >> 32));
}

double duo_uniform(uint32_t word)
{
    return ((double)word + 0.5) * 0x1p-32;
}

double duo_normal(uint32_t a, uint32_t b)
{
    return sqrt(-2.0 * log(duo_uniform(a))) * cos(6.283185307179586 * duo_uniform(b));
}

double duo_gumbel(uint32_t word)
{
    return -log(-log(duo_uniform(word)));
}

uint64_t duo_permute(uint64_t seed, duo_purpose purpose, uint64_t epoch, uint64_t n, uint64_t i)
{
    assert(i < n);
    unsigned half = 1;
    while (half < 31 && (uint64_t)1 << (2 * half) < n) half++;
    const uint32_t mask = (uint32_t)(((uint64_t)1 << half) - 1);
    do { /* at most 4 times too many points, so this ends after a few turns */
        uint32_t left = (uint32_t)(i >> half), right = (uint32_t)i & mask;
        for (uint32_t round = 0; round < 6; round++) {
            const duo_random4 f =
                duo_random(seed, purpose, (duo_place){.step = epoch, .row = right, .layer = round});
            const uint32_t next = left ^ (f.word[0] & mask);
            left = right;
            right = next;
        }
        i = (uint64_t)left << half | right;
    } while (i >= n);
    return i;
}
