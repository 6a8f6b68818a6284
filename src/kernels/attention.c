#include <assert.h>
#include <omp.h>

#include "attention_blocks.h"
#include "duo/sizes.h"
#include "span.h"

enum {
    FETCH_MOST = 32 * 1024 /* floats of a head's array, of which the next head's fit beside it */
};

static const duo_attention_blocks *of_bf16 = &duo_attention_fp32;

void duo_attention_replace(const duo_attention_blocks *bf16)
{
    of_bf16 = bf16;
}

void duo_attention_select(duo_isa isa)
{
    of_bf16 = &duo_attention_fp32;
#ifdef __x86_64__
    if (isa == DUO_ISA_AVX512BF16) of_bf16 = &duo_attention_avx512bf16;
    if (isa == DUO_ISA_AMX) of_bf16 = &duo_attention_amx;
#else
    (void)isa;
#endif
}

static const duo_attention_blocks *blocks_of(duo_attention_shape shape)
{
    return shape.precision == DUO_BF16 ? of_bf16 : &duo_attention_fp32;
}

/* In whole lines. */
static size_t thread_scratch(duo_attention_shape shape)
{
    return duo_round_up(blocks_of(shape)->scratch(shape), 16);
}

size_t duo_attention_scratch(duo_attention_shape shape)
{
    return (size_t)duo_kernels_threads() * thread_scratch(shape);
}

/* Rows that are needed soon. They are short and far apart: no processor foresees them. */
static void fetch_rows(const float *x, size_t row, size_t n, size_t D)
{
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < D; d += 16) __builtin_prefetch(x + i * row + d, 0, 2);
}

/* Rows that are written soon. */
static void claim_rows(const float *x, size_t row, size_t n, size_t D)
{
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < D; d += 16) __builtin_prefetch(x + i * row + d, 1, 2);
}

/* Where in arrays (B, T, heads, D) the head of that number begins. */
static size_t head_at(size_t number, size_t heads, size_t T, size_t D)
{
    return (number / heads * T * heads + number % heads) * D;
}

/* Keys and values of the head behind query head `next` - 1, if it has others: rows from t on. */
static void fetch_keys(const float *k, const float *v, duo_attention_shape s, size_t next, size_t t,
                       size_t n)
{
    const size_t group = s.H / s.Hkv, row = s.Hkv * s.D;
    if (next % group != 0) return;
    const size_t at = head_at(next / group, s.Hkv, s.T, s.D) + t * row;
    fetch_rows(k + at, row, n, s.D);
    fetch_rows(v + at, row, n, s.D);
}

/* `products` times a multiply-add of D for every query and every key that it sees. */
static double attention_flops(duo_attention_shape s, double products)
{
    const double pairs = (double)(s.B * s.H * s.T) * (double)(s.T + 1) / 2;
    return products * 2 * pairs * (double)s.D;
}

void duo_attention_forward(float *y, float *lse, const float *q, const float *k, const float *v,
                           duo_attention_shape shape, float *scratch)
{
    const duo_attention_shape s = shape;
    assert(s.H % s.Hkv == 0);
    const duo_attention_blocks *kernel = blocks_of(s);
    const size_t group = s.H / s.Hkv, q_row = s.H * s.D, step = kernel->queries;
    const size_t blocks = (s.T + step - 1) / step;
    const bool serial = s.B * s.H * s.T * s.T * s.D < DUO_SERIAL_WORK;
    /* A part is every parts-th block of a head: as many as keep all threads busy to the end. */
    const size_t wanted = (size_t)duo_kernels_threads() * 4 / (s.B * s.H) + 1;
    const size_t parts = wanted < blocks ? wanted : blocks;
    const duo_span span = duo_span_begin();
#pragma omp parallel num_threads(duo_kernels_threads()) if (!serial)
    {
        float *own = scratch + (size_t)omp_get_thread_num() * thread_scratch(s);
        if (kernel->enter) kernel->enter();
#pragma omp for collapse(3) schedule(static) nowait
        for (size_t b = 0; b < s.B; b++)
            for (size_t h = 0; h < s.H; h++)
                for (size_t part = 0; part < parts; part++) {
                    const size_t lse_at = b * s.T * s.H + h, at = lse_at * s.D;
                    const size_t next = b * s.H + h + 1, next_at = head_at(next, s.H, s.T, s.D);
                    const size_t kv_at = head_at((next - 1) / group, s.Hkv, s.T, s.D);
                    const bool fetch = next < s.B * s.H && parts == 1 && s.T * s.D <= FETCH_MOST;
                    kernel->take_head(own, k + kv_at, v + kv_at, s, false);
                    for (size_t t = part * step; t < s.T; t += parts * step) {
                        const size_t n = s.T - t < step ? s.T - t : step;
                        claim_rows(y + at + t * q_row, q_row, n, s.D);
                        if (fetch) fetch_rows(q + next_at + t * q_row, q_row, n, s.D);
                        if (fetch) fetch_keys(k, v, s, next, t, n);
                        kernel->forward(y + at, lse + lse_at, q + at, s, t, own);
                    }
                }
        if (kernel->leave) kernel->leave();
    }
    duo_span_end(span, "attention forward", 0, 0, attention_flops(s, 2));
}

/* A thread owns a head of keys and values, hence all that is added to its dk and dv, in order. */
void duo_attention_backward(float *dq, float *dk, float *dv, const float *dy, const float *q,
                            const float *k, const float *v, const float *y, const float *lse,
                            duo_attention_shape shape, float *scratch)
{
    const duo_attention_shape s = shape;
    assert(s.H % s.Hkv == 0);
    const duo_attention_blocks *kernel = blocks_of(s);
    const size_t group = s.H / s.Hkv, q_row = s.H * s.D, kv_row = s.Hkv * s.D;
    const size_t step = kernel->queries;
    const bool serial = s.B * s.H * s.T * s.T * s.D < DUO_SERIAL_WORK;
    const duo_span span = duo_span_begin();
#pragma omp parallel num_threads(duo_kernels_threads()) if (!serial)
    {
        float *own = scratch + (size_t)omp_get_thread_num() * thread_scratch(s);
        if (kernel->enter) kernel->enter();
#pragma omp for collapse(2) schedule(static) nowait
        for (size_t b = 0; b < s.B; b++)
            for (size_t kv = 0; kv < s.Hkv; kv++) {
                const size_t kv_at = (b * s.T * s.Hkv + kv) * s.D;
                kernel->take_head(own, k + kv_at, v + kv_at, s, true);
                for (size_t h = kv * group; h < (kv + 1) * group; h++) {
                    const size_t lse_at = b * s.T * s.H + h, at = lse_at * s.D;
                    const size_t next = b * s.H + h + 1, next_at = head_at(next, s.H, s.T, s.D);
                    const bool fetch = next < s.B * s.H && s.T * s.D <= FETCH_MOST;
                    for (size_t t = 0; t < s.T; t += step) {
                        const size_t n = s.T - t < step ? s.T - t : step;
                        const size_t rows_at = next_at + t * q_row;
                        claim_rows(dq + at + t * q_row, q_row, n, s.D);
                        claim_rows(dk + kv_at + t * kv_row, kv_row, n, s.D);
                        claim_rows(dv + kv_at + t * kv_row, kv_row, n, s.D);
                        if (fetch) {
                            fetch_rows(q + rows_at, q_row, n, s.D);
                            fetch_rows(dy + rows_at, q_row, n, s.D);
                            fetch_rows(y + rows_at, q_row, n, s.D);
                            fetch_keys(k, v, s, next, t, n);
                        }
                        kernel->backward(dq + at, dy + at, q + at, y + at, lse + lse_at, s, t, own);
                    }
                }
                kernel->give_gradients(dk + kv_at, dv + kv_at, s, own);
            }
        if (kernel->leave) kernel->leave();
    }
    duo_span_end(span, "attention backward", 0, 0, attention_flops(s, 5));
}
