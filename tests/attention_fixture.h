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

/* Both release the fixture. */

/* Other keys from position t on: the queries before it have the same bits. */
static inline void check_future_is_unseen(fixture *f)
{
    const duo_attention_shape s = f->s;
    const size_t t = 40, kv_row = s.Hkv * s.D, q_row = s.H * s.D;
    float *before = malloc(f->n_q * sizeof *before);
    ck_assert_ptr_nonnull(before);
    forward(f);
    memcpy(before, f->y, f->n_q * sizeof *before);
    for (size_t i = t * kv_row; i < s.T * kv_row; i++) f->k[i] = f->v[i] = 100.0f;
    forward(f);
    ck_assert_mem_eq(before, f->y, t * q_row * sizeof *before);
    ck_assert_mem_ne(before + t * q_row, f->y + t * q_row, q_row * sizeof *before);
    free(before);
    teardown(f);
}

/* A far larger score than the rest must neither overflow nor lose the softmax: a mean of values
 * below 1 is at most 1, and what weights are rounded to. */
static inline void check_large_scores(fixture *f, float rounding)
{
    for (size_t i = 0; i < f->n_q; i++) f->q[i] *= 1e4f;
    forward(f);
    for (size_t i = 0; i < f->n_q; i++) ck_assert(fabsf(f->y[i]) <= 1.0f + rounding);
    for (size_t i = 0; i < f->n_lse; i++) ck_assert(isfinite(f->lse[i]));
    teardown(f);
}

#endif
