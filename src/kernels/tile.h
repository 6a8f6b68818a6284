#ifndef DUO_TILE_H
#define DUO_TILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "duo/kernels.h"

/**
 * What one instruction set gives to the matrix products: register tiles and packing.
 *
 * A panel holds up to vectors * lanes columns of the right operand, k after k, its width rounded
 * up to whole vectors. A tile multiplies up to `rows` rows by one panel. Every element of the
 * output is one chain of multiply-adds over k, starting at 0, in every variant of a tile: its
 * bits do not depend on the tile it falls into.
 */

enum { DUO_TILE_ROWS = 8, DUO_TILE_VECTORS = 3 }; /* the largest of any instruction set */

/**
 * y[i][0..cols) = sum_k left[i][k * step] * panel[k] + bias, added to y if add. bias may be NULL.
 * A step of 1 reads the left operand where it lies, a larger one in packed strips of that many
 * rows.
 */
typedef void duo_tile_multiply(float *const *y, const float *const *left, size_t step,
                               const float *panel, size_t K, size_t cols, const float *bias,
                               bool add);

/** panel[k * width + c] = w[c * stride + k] for the columns c < cols, width = cols in whole
 * vectors. */
typedef void duo_tile_transpose(float *panel, const float *w, size_t stride, size_t cols, size_t K);

typedef struct duo_tile {
    size_t rows, vectors, lanes;
    duo_tile_multiply *multiply[DUO_TILE_ROWS][DUO_TILE_VECTORS]; /**< [rows - 1][vectors - 1] */
    duo_tile_transpose *transpose;
} duo_tile;

extern const duo_tile duo_tile_portable;
#ifdef __x86_64__
extern const duo_tile duo_tile_avx2;
extern const duo_tile duo_tile_avx512;
#endif

/** The tile of the instruction set in use. */
const duo_tile *duo_tile_current(void);

/** Take the tile and the packing buffers that the products use from now on. */
duo_status duo_matmul_start(const duo_tile *tile, int threads);
void duo_matmul_stop(void);

#endif
