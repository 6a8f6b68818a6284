#include "attention_pairs_avx512.h"

enum { ROWS = 8 }; /* by two vectors: chains enough, and few loads for each product */

static inline void multiply(float *c, size_t c_row, const float *a, size_t a_row, const float *b,
                            size_t b_row, size_t lines, bool add)
{
    for (size_t r = 0; r < SQUARE; r += ROWS, a += ROWS * a_row, c += ROWS * c_row) {
        vec low[ROWS], high[ROWS];
        UNROLL(8)
        for (size_t i = 0; i < ROWS; i++) {
            low[i] = add ? vec_load(c + i * c_row) : vec_set(0.0f);
            high[i] = add ? vec_load(c + i * c_row + SIDE) : vec_set(0.0f);
        }
        for (size_t k = 0; k < lines * SIDE; k++) {
            const vec b_low = vec_load(b + k * b_row), b_high = vec_load(b + k * b_row + SIDE);
            UNROLL(8)
            for (size_t i = 0; i < ROWS; i++) {
                const vec pair = vec_set(a[i * a_row + k]);
                low[i] = DUO_DOT_PAIRS(low[i], pair, b_low);
                high[i] = DUO_DOT_PAIRS(high[i], pair, b_high);
            }
        }
        UNROLL(8)
        for (size_t i = 0; i < ROWS; i++) {
            vec_store(c + i * c_row, low[i]);
            vec_store(c + i * c_row + SIDE, high[i]);
        }
    }
}

const duo_attention_blocks duo_attention_avx512bf16 = {ATTENTION_BY_PAIRS};
