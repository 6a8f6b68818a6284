#ifndef DUO_PRODUCT_H
#define DUO_PRODUCT_H

#include "tile.h"

/**
 * y (M, N) = (add ? y : 0) + left (M, K) right (K, N) + bias, in blocks of block_K of the sum.
 *
 * An element is the tile's sum over the k of a block, in the tile's order, block after block, each
 * block's sum added to y. Only K decides where blocks begin, so neither the other rows of the call
 * nor the threads nor the choice between the walks of matmul.c can be seen in its bits.
 */
typedef struct duo_product {
    const duo_tile *tile;
    size_t M, N, K, block_K;
    float *y;
    const uint32_t *y_rows;
    const float *bias;
    bool add;
    duo_operand left;
    bool left_by_k; /* left's rows are k: it is packed; else they are m */
    duo_operand right;
    bool right_by_k; /* right's rows are k; else they are n, as in W of y = x W^T */
    float *packed;   /* all panels of the right operand, or NULL */
} duo_product;

/** The tile and the blocks of the sum, of which a left operand by k has others; the caller sets the
 * operands, M and the output. */
duo_product duo_product_new(duo_precision precision, size_t N, size_t K, bool left_by_k);

/** n products of one tile, no two with a common output, by one team. */
void duo_products_multiply(const duo_product *products, size_t n);

/** Bytes of all panels of a right operand (K, N). */
size_t duo_product_packed_bytes(duo_precision precision, size_t N, size_t K);
/** p->packed becomes the panels of p->right. */
void duo_product_pack(const duo_product *p);

#endif
