#ifndef DUO_BLOCK_H
#define DUO_BLOCK_H

#include "duo/kernels.h"
#include "duo/model.h"

/** The pieces of a layer that whole sequences and single positions share. */

/** Width of a module's FFN; 0 for skip. */
size_t duo_ffn_width(const duo_config *config, duo_module module);

/** Where a module's FFN stands in the parameter table. */
typedef struct duo_ffn_slots {
    duo_slot gate, up, down;
} duo_ffn_slots;
duo_ffn_slots duo_ffn_slots_of(duo_module module);

/** Rows of an FFN of width F that are computed at a time, of n, so that activations stay in caches.
 */
size_t duo_ffn_chunk(size_t F, size_t n);
/** Floats of the activations of such a chunk, of either FFN. */
size_t duo_ffn_floats(const duo_config *config, size_t n);

/** Rows from `first` on: of a list, or of an array of C columns that is read without one. */
typedef struct duo_rows_of {
    const uint32_t *rows;
    size_t skip; /**< floats */
} duo_rows_of;
static inline duo_rows_of duo_rows_from(const uint32_t *rows, size_t first, size_t C)
{
    return rows ? (duo_rows_of){rows + first, 0} : (duo_rows_of){NULL, first * C};
}

/** Activations of one FFN. */
typedef struct duo_ffn_state {
    float *gate, *up; /**< (n, F) when they are kept for backward, else (chunk, F) */
    bool keep;
    float *act; /**< (chunk, F); may be gate or up when those are not kept */
} duo_ffn_state;

/**
 * y[y_rows[i]] = (add ? y : 0) + down(silu(gate(h)) * up(h)) with h = h[h_rows[i]], i < n.
 */
void duo_ffn_forward(float *y, const uint32_t *y_rows, const float *h, const uint32_t *h_rows,
                     const duo_model *model, size_t layer, duo_module module,
                     const duo_ffn_state *state, size_t n, bool add);

/** q (N, C), k and v (N, Hkv, D) of the normed input h, rotated to `positions`. */
void duo_qkv_forward(float *q, float *k, float *v, const float *h, const uint32_t *positions,
                     const duo_model *model, size_t layer, size_t N);

/** Rows of logits that are computed at a time, so that (N, V) never exists. */
size_t duo_head_block(const duo_config *config, size_t N);

#endif
