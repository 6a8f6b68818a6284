#include <omp.h>
#include <string.h>

#include "span.h"

static duo_stopwatch *in_use;

void duo_stopwatch_use(duo_stopwatch *watch)
{
    in_use = watch;
}

duo_span duo_span_begin(void)
{
    return (duo_span){in_use ? omp_get_wtime() : 0};
}

static duo_kernel_time *row_of(duo_stopwatch *watch, const char *kernel, size_t O, size_t I)
{
    for (size_t i = 0; i < watch->n; i++) {
        duo_kernel_time *row = &watch->rows[i];
        if (row->O == O && row->I == I && strcmp(row->kernel, kernel) == 0) return row;
    }
    if (watch->n == DUO_STOPWATCH_ROWS) return NULL;
    watch->rows[watch->n] = (duo_kernel_time){.kernel = kernel, .O = O, .I = I};
    return &watch->rows[watch->n++];
}

void duo_span_end(duo_span span, const char *kernel, size_t O, size_t I, double flops)
{
    if (!in_use) return;
    const double now = omp_get_wtime();
    duo_kernel_time *row = row_of(in_use, kernel, O, I);
    if (!row) return;
    row->calls++;
    row->seconds += now - span.begun;
    row->flops += flops;
}
