#include "pattern.h"

#include <string.h>

#include "duo/rng.h"

double study_pattern_count(size_t L, size_t big)
{
    double count = 1;
    for (size_t i = 0; i < big; i++) count = count * (double)(L - i) / (double)(i + 1);
    return count;
}

duo_status study_pattern_other(duo_module *other, duo_module_set modules, const char *what)
{
    if (modules == (1u << DUO_SMALL | 1u << DUO_BIG))
        *other = DUO_SMALL;
    else if (modules == (1u << DUO_SKIP | 1u << DUO_BIG))
        *other = DUO_SKIP;
    else
        return duo_fail(DUO_EINVAL, "%s: patterns are of big and one other module", what);
    return DUO_OK;
}

void study_pattern_first(uint8_t *pattern, size_t L, size_t big, duo_module other)
{
    memset(pattern, (int)other, L - big);
    memset(pattern + L - big, DUO_BIG, big);
}

/* The next permutation: the last `other` in front of a big becomes big, and what stands behind it
 * takes its lowest code with one big less. */
bool study_pattern_next(uint8_t *pattern, size_t L, duo_module other)
{
    size_t big_behind = 0, l = L;
    while (l > 0 && !(pattern[l - 1] == other && big_behind > 0)) {
        l--;
        big_behind += pattern[l] == DUO_BIG;
    }
    if (l == 0) return false;
    pattern[l - 1] = DUO_BIG;
    study_pattern_first(pattern + l, L - l, big_behind - 1, other);
    return true;
}

/* Layer by layer, each big with the probability that the big ones still to place leave it. */
void study_pattern_draw(uint8_t *pattern, size_t L, size_t big, duo_module other, uint64_t seed,
                        uint64_t draw, size_t row, size_t position)
{
    for (size_t l = 0, left = big; l < L; l++) {
        const duo_place place = {.step = draw,
                                 .row = (uint32_t)row,
                                 .position = (uint32_t)position,
                                 .layer = (uint32_t)(big * DUO_MAX_LAYERS + l)};
        const double u = duo_uniform(duo_random(seed, DUO_RNG_PATTERN, place).word[0]);
        const bool is_big = u * (double)(L - l) < (double)left;
        pattern[l] = (uint8_t)(is_big ? DUO_BIG : other);
        left -= is_big;
    }
}
