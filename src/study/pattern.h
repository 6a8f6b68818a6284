#ifndef DUO_STUDY_PATTERN_H
#define DUO_STUDY_PATTERN_H

#include "duo/study.h"

/** Patterns with so many layers of `other` and `big` modules: C(L, big) of them. */
double study_pattern_count(size_t L, size_t big);

/** The module beside big in a set of two. DUO_EINVAL for any other set; `what` begins the line. */
duo_status study_pattern_other(duo_module *other, duo_module_set modules, const char *what);

/** The pattern of the lowest route code: its big layers come last. */
void study_pattern_first(uint8_t *pattern, size_t L, size_t big, duo_module other);
/** The one of the next code with as many big; false behind the last. */
bool study_pattern_next(uint8_t *pattern, size_t L, duo_module other);

/** One of them at random, all equally likely: draw number `draw` for a place in the work. */
void study_pattern_draw(uint8_t *pattern, size_t L, size_t big, duo_module other, uint64_t seed,
                        uint64_t draw, size_t row, size_t position);

#endif
