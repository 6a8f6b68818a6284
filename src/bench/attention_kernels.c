#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench_internal.h"
#include "duo/arena.h"
#include "plain.h"

typedef struct attention {
    duo_attention_shape shape;
    float *q, *k, *v, *y, *lse, *dy, *dq, *dk, *dv, *scratch;
} attention;

static void lay_out(attention *a, duo_arena *arena)
{
    const duo_attention_shape *s = &a->shape;
    const size_t N = s->B * s->T, queries = N * s->H * s->D, keys = N * s->Hkv * s->D;
    a->q = DUO_TAKE(arena, float, queries);
    a->k = DUO_TAKE(arena, float, keys);
    a->v = DUO_TAKE(arena, float, keys);
    a->y = DUO_TAKE(arena, float, queries);
    a->dy = DUO_TAKE(arena, float, queries);
    a->dq = DUO_TAKE(arena, float, queries);
    a->dk = DUO_TAKE(arena, float, keys);
    a->dv = DUO_TAKE(arena, float, keys);
    a->lse = DUO_TAKE(arena, float, N * s->H);
    a->scratch = DUO_TAKE(arena, float, duo_attention_scratch(*s));
}

static void run_forward(void *context)
{
    attention *a = context;
    duo_attention_forward(a->y, a->lse, a->q, a->k, a->v, a->shape, a->scratch);
}

static void run_backward(void *context)
{
    attention *a = context;
    duo_attention_backward(a->dq, a->dk, a->dv, a->dy, a->q, a->k, a->v, a->y, a->lse, a->shape,
                           a->scratch);
}

/* ---------------------------------------------------------------- the first query head, plainly */

typedef struct plain_head {
    const attention *a;
    double *p, *y, *dq, *dk, *dv; /* probabilities (T, T), the rest (T, D) */
} plain_head;

static const float *query_row(const attention *a, const float *x, size_t t)
{
    return x + t * a->shape.H * a->shape.D;
}

static const float *key_row(const attention *a, const float *x, size_t t)
{
    return x + t * a->shape.Hkv * a->shape.D;
}

static double dot(const float *x, const float *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)y[i];
    return sum;
}

static void plain_row_forward(plain_head *h, size_t t)
{
    const attention *a = h->a;
    const size_t T = a->shape.T, D = a->shape.D;
    double *p = h->p + t * T, sum = 0;
    for (size_t s = 0; s <= t; s++) {
        const double score = dot(query_row(a, a->q, t), key_row(a, a->k, s), D);
        sum += p[s] = exp(score / sqrt((double)D));
    }
    for (size_t s = 0; s <= t; s++) {
        p[s] /= sum;
        for (size_t d = 0; d < D; d++) h->y[t * D + d] += p[s] * (double)key_row(a, a->v, s)[d];
    }
}

/* dP = dy V^T, dS = P (dP - sum P dP), dq = dS K / sqrt(D), dk = dS^T q / sqrt(D), dv = P^T dy */
static void plain_row_backward(plain_head *h, size_t t)
{
    const attention *a = h->a;
    const size_t T = a->shape.T, D = a->shape.D;
    const float *dy = query_row(a, a->dy, t), *q = query_row(a, a->q, t);
    const double *p = h->p + t * T, scale = 1 / sqrt((double)D);
    double mean = 0;
    for (size_t d = 0; d < D; d++) mean += (double)dy[d] * h->y[t * D + d];
    for (size_t s = 0; s <= t; s++) {
        const double ds = scale * p[s] * (dot(dy, key_row(a, a->v, s), D) - mean);
        for (size_t d = 0; d < D; d++) {
            h->dq[t * D + d] += ds * (double)key_row(a, a->k, s)[d];
            h->dk[s * D + d] += ds * (double)q[d];
            h->dv[s * D + d] += p[s] * (double)dy[d];
        }
    }
}

/* Errors of forward and backward on the first sequence's first query head; its key head only when
 * no other query shares it. */
static duo_status errors_of(const attention *a, double *forward, double *backward)
{
    const size_t T = a->shape.T, D = a->shape.D;
    double *room = calloc(T * T + 4 * T * D, sizeof *room);
    if (!room) return duo_fail(DUO_ENOMEM, "bench: no memory for %zu attention scores", T * T);
    plain_head h = {.a = a, .p = room, .y = room + T * T};
    h.dq = h.y + T * D;
    h.dk = h.dq + T * D;
    h.dv = h.dk + T * D;
    for (size_t t = 0; t < T; t++) plain_row_forward(&h, t);
    for (size_t t = 0; t < T; t++) plain_row_backward(&h, t);

    plain_error y = {0}, dx = {0};
    for (size_t t = 0; t < T; t++)
        for (size_t d = 0; d < D; d++) {
            const size_t i = t * D + d;
            plain_compare(&y, (double)query_row(a, a->y, t)[d], h.y[i]);
            plain_compare(&dx, (double)query_row(a, a->dq, t)[d], h.dq[i]);
            if (a->shape.H != a->shape.Hkv) continue;
            plain_compare(&dx, (double)key_row(a, a->dk, t)[d], h.dk[i]);
            plain_compare(&dx, (double)key_row(a, a->dv, t)[d], h.dv[i]);
        }
    *forward = plain_error_value(&y);
    *backward = plain_error_value(&dx);
    free(room);
    return DUO_OK;
}

/* ---------------------------------------------------------------- the part */

static const char *const names[] = {"attention forward", "attention backward"};

static duo_status measure(duo_bench *bench, duo_precision precision)
{
    const duo_config *c = &bench->setting.model;
    const duo_stage_recipe *stage = &bench->setting.stage;
    attention a = {.shape = {stage->micro_batch, stage->seq_len, c->n_heads, c->n_kv_heads,
                             duo_head_width(c), precision}};
    const duo_attention_shape *s = &a.shape;
    duo_arena arena, size = DUO_ARENA_MEASURE;
    lay_out(&a, &size);
    duo_status status = duo_arena_create(&arena, size.used, "operands of attention");
    if (status != DUO_OK) return status;
    lay_out(&a, &arena);
    const size_t N = s->B * s->T;
    bench_fill(a.q, N * s->H * s->D, 1);
    bench_fill(a.k, N * s->Hkv * s->D, 2);
    bench_fill(a.v, N * s->Hkv * s->D, 3);
    bench_fill(a.dy, N * s->H * s->D, 4);

    duo_bench_row forward = bench_row(DUO_BENCH_KERNELS, names[0], precision);
    duo_bench_row backward = bench_row(DUO_BENCH_KERNELS, names[1], precision);
    run_forward(&a);
    run_backward(&a);
    status = errors_of(&a, &forward.error, &backward.error);
    if (status == DUO_OK) {
        /* One product of the causal half: 2 D multiply-adds for each pair; two of them forward,
         * five backward. */
        const double pairs = (double)(s->B * s->H * s->T) * (double)(s->T + 1) / 2;
        const double product = 2 * pairs * (double)s->D;
        const bench_times f = bench_measure(&bench->setting, precision, run_forward, &a);
        const bench_times b = bench_measure(&bench->setting, precision, run_backward, &a);
        bench_row_flops(&forward, f, 2 * product);
        bench_row_flops(&backward, b, 5 * product);
        bench_emit(bench, &forward);
        bench_emit(bench, &backward);
    }
    duo_arena_free(&arena);
    return status;
}

duo_status bench_attention(duo_bench *bench)
{
    const duo_bench_setting *setting = &bench->setting;
    duo_status status = DUO_OK;
    if (!bench_wanted(bench, names[0]) && !bench_wanted(bench, names[1])) return DUO_OK;
    for (size_t p = 0; p < setting->n_precisions && status == DUO_OK; p++)
        status = measure(bench, setting->precisions[p]);
    return status;
}
