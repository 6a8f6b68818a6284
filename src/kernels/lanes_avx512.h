#ifndef DUO_LANES_AVX512_H
#define DUO_LANES_AVX512_H

#include <immintrin.h>
#include <stddef.h>

/* The mask of the first n lanes, of all where n is more. */
static inline __mmask16 lanes_below(size_t n)
{
    return (__mmask16)(n < 16 ? (1u << n) - 1 : 0xffffu);
}

#endif
