/*
 * Packing of single k's, compiled for each instruction set and precision by the file that includes
 * this. It defines PACK(name), how its functions are called; PACK_VALUE(x), what becomes of a
 * number; and the number of its lanes and its transposition, PACK_LANES and PACK_TRANSPOSE.
 */

static inline void PACK(convert)(float *restrict to, const float *restrict x, size_t K)
{
    for (size_t k = 0; k < K; k++) to[k] = PACK_VALUE(x[k]);
}

/* Columns n to n + own of `count` rows. `next` are rows to fetch, NULL for none. */
__attribute__((always_inline)) static inline void PACK(piece)(float *to, const float *const *row,
                                                              const float *const *next, size_t n,
                                                              size_t own, size_t padded,
                                                              size_t count)
{
    for (size_t k = 0; k < count; k++, to += padded) {
        const float *from = row[k] + n;
        size_t c = 0;
        for (; c + DUO_STRIP <= own; c += DUO_STRIP) {
            float value[DUO_STRIP];
            __builtin_prefetch((next[k] ? next[k] + n : from) + c);
            for (size_t i = 0; i < DUO_STRIP; i++) value[i] = PACK_VALUE(from[c + i]);
            memcpy(to + c, value, sizeof value);
        }
        for (; c < own; c++) to[c] = PACK_VALUE(from[c]);
        for (; c < padded; c++) to[c] = 0.0f;
    }
}

static inline void PACK(columns)(float *panels, size_t width, size_t lanes, size_t panel_size,
                                 const duo_operand *from, size_t first, size_t cols, size_t k0,
                                 size_t depth)
{
    enum { TOGETHER = 8 };
    const float *row[TOGETHER], *next[TOGETHER];
    for (size_t i = 0; i < TOGETHER; i++)
        next[i] = i < depth ? duo_operand_row(from, k0 + i) + first : NULL;
    for (size_t k = 0; k < depth; k += TOGETHER) {
        const size_t count = depth - k < TOGETHER ? depth - k : TOGETHER;
        memcpy(row, next, sizeof row);
        for (size_t i = 0; i < TOGETHER && k + TOGETHER < depth; i++) {
            const size_t ahead = k + TOGETHER + i;
            next[i] = ahead < depth ? duo_operand_row(from, k0 + ahead) + first : NULL;
        }
        float *panel = panels;
        size_t n = 0;
        if (width == DUO_STRIP && count == TOGETHER) {
            float *to = panel + k * DUO_STRIP;
            for (; n + DUO_STRIP <= cols; n += DUO_STRIP, to += panel_size, panel += panel_size)
                PACK(piece)(to, row, next, n, DUO_STRIP, DUO_STRIP, TOGETHER);
        }
        for (; n < cols; n += width, panel += panel_size) {
            const size_t own = cols - n < width ? cols - n : width;
            const size_t padded = (own + lanes - 1) / lanes * lanes;
            PACK(piece)(panel + k * padded, row, next, n, own, padded, count);
        }
    }
}

/* Converted a piece at a time, then transposed. */
static inline void PACK(rows)(float *panel, const float *w, size_t stride, size_t cols, size_t K)
{
    enum { COLUMNS = 48, DEPTH = 64 };
    float piece[COLUMNS][DEPTH];
    const size_t width = (cols + PACK_LANES - 1) / PACK_LANES * PACK_LANES;
    for (size_t k = 0; k < K; k += DEPTH, panel += DEPTH * width) {
        const size_t depth = K - k < DEPTH ? K - k : DEPTH;
        for (size_t c = 0; c < cols; c++) PACK(convert)(piece[c], w + c * stride + k, depth);
        PACK_TRANSPOSE(panel, piece[0], DEPTH, cols, depth);
    }
}
