#ifndef DUO_BENCH_STREAM_H
#define DUO_BENCH_STREAM_H

#include <stddef.h>

/** Walks over memory, one implementation per instruction set: stream_loops.h compiled with
 *  different flags. n is a multiple of 64. */
typedef struct bench_stream {
    float (*read)(const float *a, size_t n);
    void (*write)(float *a, float value, size_t n);
    void (*triad)(float *a, const float *b, const float *c, size_t n); /* a = b + 3 c */
} bench_stream;

extern const bench_stream bench_stream_portable;
#ifdef __x86_64__
extern const bench_stream bench_stream_avx2, bench_stream_avx512;
#endif

#endif
