#ifndef DUO_STUDY_CONTROL_H
#define DUO_STUDY_CONTROL_H

#include <stddef.h>
#include <stdint.h>

/** The number in (0, 1) that draws the target of a token of the control: `row` counts the sequences
 *  of the whole study. */
double study_control_uniform(uint64_t seed, uint64_t row, size_t position);

#endif
