#ifndef DUO_NUMBER_H
#define DUO_NUMBER_H

#include <stdint.h>

/** Numbers in recipes and on command lines: the whole text is the number, in decimal. */
typedef enum duo_number {
    DUO_NUMBER_OK,
    DUO_NUMBER_MALFORMED, /**< not a number, or something behind it */
    DUO_NUMBER_RANGE      /**< a number that the type cannot hold */
} duo_number;

/** "12"; a negative whole number is DUO_NUMBER_RANGE. */
duo_number duo_number_u64(uint64_t *value, const char *text);

/** "-1.5e-3"; neither nan, infinities nor hexadecimal. -0 becomes 0. */
duo_number duo_number_real(double *value, const char *text);

#endif
