#ifndef DUO_TILE_H
#define DUO_TILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "duo/kernels.h"

/**
 * What one instruction set gives to the matrix products of one precision: register tiles and
 * packing.
 *
 * The operands of a tile are made of units of 32 bits, kept in floats: a unit is one k of the sum,
 * or per_unit k's side by side. A panel holds up to vectors * lanes columns of the right operand,
 * unit after unit, its width rounded up to whole vectors. A tile multiplies up to `rows` rows by
 * one panel. Every element of the output is a sum over k, starting at 0, in one order
 * in every variant of a tile: its bits do not depend on the tile it falls into.
 */

/* The largest of any instruction set. */
enum { DUO_TILE_ROWS = 32, DUO_TILE_PER_UNIT = 2 };

/* Columns of a packed left operand side by side: a multiple of the rows of a tile that reads
 * them. */
enum { DUO_STRIP = 8 };

/* Units in a cache line. */
enum { DUO_LINE = 16 };

/** Logical row r of an operand is row rows[r] of its array, or row r itself. */
typedef struct duo_operand {
    const float *data;
    size_t stride;
    const uint32_t *rows;
} duo_operand;

static inline const float *duo_operand_row(const duo_operand *from, size_t r)
{
    return from->data + (from->rows ? from->rows[r] : r) * from->stride;
}

/**
 * y[i][0..cols) = sum_u left[i][u * step] * panel[u] + bias, added to y if add. bias may be NULL.
 * A step of 1 reads rows, a larger one packed strips of that many rows. Rows that were converted
 * lie at equal distances, and as many can be read as make whole tiles, in whole lines.
 */
typedef void duo_tile_multiply(float *const *y, const float *const *left, size_t rows, size_t step,
                               const float *panel, size_t units, size_t cols, const float *bias,
                               bool add);

/**
 * The same of rows as they lie in memory: left[i][0..depth). They become converted rows from
 * `units` on, row_size units apart and in whole lines, under the first multiplications that read
 * them; left[rows + i] are the rows that the next tile is going to convert.
 */
typedef void duo_tile_multiply_converting(float *const *y, const float *const *left, size_t rows,
                                          float *units, size_t row_size, const float *panel,
                                          size_t depth, size_t cols, const float *bias, bool add);

/**
 * Columns of an operand whose rows are k. The first tile that reads them packs them meanwhile: what
 * lies far away then arrives under multiplications. Of the right operand a tile packs its panel. Of
 * the left one it packs DUO_STRIPS strips, one behind the other, since a row's cache lines arrive
 * in pairs; it multiplies by the first.
 */
typedef struct duo_tile_source {
    const float *const *rows; /**< by k, and DUO_ROWS_AHEAD more; NULL: packed already */
    size_t first, cols;
    float *packed;
} duo_tile_source;
enum { DUO_FETCH = 32, DUO_ROWS_AHEAD = DUO_FETCH + DUO_TILE_PER_UNIT - 1, DUO_STRIPS = 4 };

/** y[i][0..right->cols) += sum_k left[k][i] * right[k], of depth k's. */
typedef void duo_tile_multiply_sources(float *const *y, size_t rows, const duo_tile_source *left,
                                       const duo_tile_source *right, size_t depth);

/** A panel of `cols` columns: column c is w[c * stride], w[c * stride + 1], ... */
typedef void duo_tile_pack_rows(float *panel, const float *w, size_t stride, size_t cols, size_t K);

/**
 * Panels of `width` columns, panel_size floats apart, the last one rounded up to a multiple of
 * `lanes`: element (k, c) is row k0 + k, column first + c. Strips are such panels, of tiles that
 * ask for them.
 */
typedef void duo_tile_pack_columns(float *panels, size_t width, size_t lanes, size_t panel_size,
                                   const duo_operand *from, size_t first, size_t cols, size_t k0,
                                   size_t depth);

/** A row in units; in whole lines, the last one filled up with 0, where a tile asks for them. */
typedef void duo_tile_convert(float *to, const float *x, size_t K);

/** Columns of an operand whose rows are k as converted rows, row_size units apart; whole lines of
 * DUO_LINE columns are written. */
typedef void duo_tile_convert_columns(float *to, size_t row_size, const duo_operand *from,
                                      size_t first, size_t cols, size_t k0, size_t depth);

/**
 * `rounds` rounds of spin_flops FLOP, as multiply-adds on registers alone in chains enough to hide
 * their latency: what the processor can do at most. The sum of all chains, so that they are wanted.
 */
typedef float duo_tile_spin(size_t rounds);

typedef struct duo_tile {
    size_t rows, vectors, lanes, per_unit;
    duo_tile_multiply *multiply;
    duo_tile_multiply_converting *multiply_converting; /**< or NULL; not of tall tiles */
    duo_tile_multiply_sources *multiply_sources;       /**< the same of sources, or NULL */
    duo_tile_pack_rows *pack_rows;
    duo_tile_pack_columns *pack_columns;
    duo_tile_convert *convert;                 /**< NULL: a row is in units as it lies in memory, or
                                                  multiply_converting does it */
    duo_tile_convert_columns *convert_columns; /**< NULL: a left operand by k becomes strips */
    void (*enter)(void), (*leave)(void);       /**< of each thread around its products, or NULL */
    duo_tile_spin *spin;
    size_t spin_flops;
} duo_tile;

/* bf16 without its instruction is the fp32 tile over rounded numbers. */
extern const duo_tile duo_tile_portable, duo_tile_portable_rounded;
#ifdef __x86_64__
extern const duo_tile duo_tile_avx2, duo_tile_avx2_rounded;
extern const duo_tile duo_tile_avx512, duo_tile_avx512_rounded;
extern const duo_tile duo_tile_avx512bf16, duo_tile_amx;
#endif

/** The tile of the instruction set in use. */
const duo_tile *duo_tile_current(duo_precision precision);

/** Take the tiles and the packing buffers that the products use from now on. */
duo_status duo_matmul_start(const duo_tile *fp32, const duo_tile *bf16, int threads);
void duo_matmul_stop(void);

#endif
