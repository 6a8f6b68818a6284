#ifndef DUO_AMX_EMULATED_H
#define DUO_AMX_EMULATED_H

/* The registers of AMX and what its instructions do, in AVX-512F. */
#include <stddef.h>

#include "bf16_emulated.h"

enum { REGISTERS = 8, LINES = 16, LINE = 16 };
static _Thread_local float registers[REGISTERS][LINES][LINE];

static void zero(int t)
{
    for (int i = 0; i < LINES; i++) _mm512_storeu_ps(registers[t][i], _mm512_setzero_ps());
}

static void load(int t, const float *from, size_t stride)
{
    for (size_t i = 0; i < LINES; i++)
        _mm512_storeu_ps(registers[t][i], _mm512_loadu_ps(from + i * stride));
}

static void store(int t, float *to, size_t stride)
{
    for (size_t i = 0; i < LINES; i++)
        _mm512_storeu_ps(to + i * stride, _mm512_loadu_ps(registers[t][i]));
}

/* Lower and upper products have sums of their own, from 0, that are added at the end. */
static void dot(int sum, int a, int b)
{
    for (int i = 0; i < LINES; i++) {
        __m512 low = _mm512_setzero_ps(), high = _mm512_setzero_ps();
        for (int u = 0; u < LINE; u++) {
            const __m512 left = _mm512_set1_ps(registers[a][i][u]),
                         right = _mm512_loadu_ps(registers[b][u]);
            low = flushed(_mm512_fmadd_ps(lower(left), lower(right), low));
            high = flushed(_mm512_fmadd_ps(upper(left), upper(right), high));
        }
        const __m512 before = flushed(_mm512_loadu_ps(registers[sum][i]));
        _mm512_storeu_ps(registers[sum][i],
                         flushed(_mm512_add_ps(before, flushed(_mm512_add_ps(low, high)))));
    }
}

#define DUO_AMX_CONFIGURE(shapes) ((void)(shapes))
#define DUO_AMX_RELEASE() ((void)0)
#define DUO_AMX_ZERO(t) zero(t)
#define DUO_AMX_LOAD(t, from, stride) load(t, from, stride)
#define DUO_AMX_STORE(t, to, stride) store(t, to, stride)
#define DUO_AMX_DOT(sum, a, b) dot(sum, a, b)

#endif
