#ifndef DUO_STOPWATCH_H
#define DUO_STOPWATCH_H

#include <stddef.h>

/**
 * Where the time of a step or of a generated token goes: while a stopwatch is in use, kernels on
 * whole arrays book their calls on it, at two readings of the clock each. What routers decide and
 * what lies between kernels is not booked.
 */
typedef struct duo_kernel_time {
    const char *kernel; /**< "y = x W^T", "attention forward" */
    size_t O, I;        /**< of a product, its W (O, I); of several at once, one below the other;
                             0 of other kernels */
    size_t calls;
    double seconds;
    double flops; /**< done, in multiplications and additions; 0: a matter of memory */
} duo_kernel_time;

enum { DUO_STOPWATCH_ROWS = 96 };

/** Kernels in the order of their first call. What finds no room is not booked. */
typedef struct duo_stopwatch {
    duo_kernel_time rows[DUO_STOPWATCH_ROWS];
    size_t n;
} duo_stopwatch;

/** From now on kernels book on it, which the caller has zeroed and keeps; NULL: on none. Not
 * between calls of kernels on several threads. */
void duo_stopwatch_use(duo_stopwatch *watch);

#endif
