#ifndef DUO_ATTENTION_FIXTURE_H
#define DUO_ATTENTION_FIXTURE_H

#include "gradcheck.h"
#include "kernel_fixture.h"

/* Inputs of attention, a random upstream gradient w, and what forward makes of them. */
typedef struct fixture {
    duo_attention_shape s;
    size_t n_q, n_kv, n_lse;
    float *q, *k, *v, *w, *y, *lse, *scratch;
} fixture;

static inline fixture setup(duo_attention_shape s)
{
    fixture f = {.s = s, .n_q = s.B * s.T * s.H * s.D, .n_kv = s.B * s.T * s.Hkv * s.D};
    f.n_lse = s.B * s.T * s.H;
    f.q = gradcheck_numbers(f.n_q, 1);
    f.k = gradcheck_numbers(f.n_kv, 2);
    f.v = gradcheck_numbers(f.n_kv, 3);
    f.w = gradcheck_numbers(f.n_q, 4);
    f.y = gradcheck_numbers(f.n_q, 5);
    f.lse = gradcheck_numbers(f.n_lse, 6);
    f.scratch = gradcheck_numbers(duo_attention_scratch(s), 7);
    /* Scores with a spread of several units, so that the softmax is far from uniform. */
    for (size_t i = 0; i < f.n_q; i++) f.q[i] *= 3.0f;
    return f;
}

static inline void teardown(fixture *f)
{
    float *all[] = {f->q, f->k, f->v, f->w, f->y, f->lse, f->scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static inline void forward(fixture *f)
{
    duo_attention_forward(f->y, f->lse, f->q, f->k, f->v, f->s, f->scratch);
}

#endif
