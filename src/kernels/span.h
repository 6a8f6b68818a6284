#ifndef DUO_SPAN_H
#define DUO_SPAN_H

#include "duo/stopwatch.h"

/** When a kernel began. */
typedef struct duo_span {
    double begun; /* seconds; meaningless where there is no stopwatch */
} duo_span;

duo_span duo_span_begin(void);
/** Book the time since then on the stopwatch that is in use. `kernel` is a constant; O and I as in
 * duo_kernel_time. */
void duo_span_end(duo_span span, const char *kernel, size_t O, size_t I, double flops);

#endif
