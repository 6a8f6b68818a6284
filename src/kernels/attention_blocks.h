#ifndef DUO_ATTENTION_BLOCKS_H
#define DUO_ATTENTION_BLOCKS_H

#include <math.h>
#include <string.h>

#include "simd.h"

/**
 * Attention of whole sequences by blocks of queries of one head, in one precision: what
 * attention.c shares out among threads. Rows of a head of queries are H * D apart, those of a head
 * of keys Hkv * D, its lse H. All scratch belongs to the thread.
 */
typedef struct duo_attention_blocks {
    size_t queries;                               /**< of a block */
    size_t (*scratch)(duo_attention_shape shape); /**< floats of a thread */
    void (*enter)(void), (*leave)(void);          /**< of each thread around its blocks, or NULL */
    /** Keys and values of a head; with `backward` their gradients become 0. */
    void (*take_head)(float *scratch, const float *k, const float *v, duo_attention_shape shape,
                      bool backward);
    /** y_t = sum_j p_tj v_j,  p_tj = exp(scale q_t k_j - lse_t), for the block's queries from t0
     * on; y, lse and q begin at the head's first row. */
    void (*forward)(float *y, float *lse, const float *q, duo_attention_shape shape, size_t t0,
                    float *scratch);
    /** With dp_tj = dy_t v_j and delta_t = sum_j p_tj dp_tj = dy_t y_t:
     * ds_tj = scale p_tj (dp_tj - delta_t),  dq_t = sum_j ds_tj k_j,  dk_j += ds_tj q_t,
     * dv_j += p_tj dy_t, for the same queries. */
    void (*backward)(float *dq, const float *dy, const float *q, const float *y, const float *lse,
                     duo_attention_shape shape, size_t t0, float *scratch);
    /** What has been added since take_head. */
    void (*give_gradients)(float *dk, float *dv, duo_attention_shape shape, const float *scratch);
} duo_attention_blocks;

extern const duo_attention_blocks duo_attention_fp32;
#ifdef __x86_64__
extern const duo_attention_blocks duo_attention_avx512bf16, duo_attention_amx;
#endif

/** Take these for shapes of precision bf16 from now on: those of the instruction set, or others. */
void duo_attention_select(duo_isa isa);
/** For tests: an emulation in the place of instructions that this processor does not have. */
void duo_attention_replace(const duo_attention_blocks *bf16);

static inline float duo_attention_scale(size_t D)
{
    return 1.0f / sqrtf((float)D);
}

/** Rows of a strided array as the lanes of a block. */
static inline void duo_fill_lanes(float *lanes, const float *x, size_t row, size_t n, size_t D)
{
    const float *rows[DUO_LANES]; /* all set, though n are read: compilers cannot know that */
    for (size_t l = 0; l < DUO_LANES; l++) rows[l] = x + (l < n ? l : 0) * row;
    duo_rows->set_lanes(lanes, rows, n, D);
}

/** to_n = from_n. A head's rows are neighbours in scratch: a row's distance in an array of all
 * heads is often a power of two, whose multiples share few places of a cache. */
static inline void duo_copy_rows(float *to, size_t to_row, const float *from, size_t from_row,
                                 size_t n, size_t D)
{
    for (size_t i = 0; i < n; i++) memcpy(to + i * to_row, from + i * from_row, D * sizeof *to);
}

#endif
