#ifndef DUO_SIZES_H
#define DUO_SIZES_H

#include <stddef.h>

/** Arithmetic on sizes. */

static inline size_t duo_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t duo_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

static inline size_t duo_divide_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit;
}

static inline size_t duo_round_up(size_t n, size_t unit)
{
    return duo_divide_up(n, unit) * unit;
}

#endif
