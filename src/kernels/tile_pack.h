/*
 * Packing into units, compiled for each instruction set and precision by the file that includes
 * this. It defines PACK(name), how its functions are called; PACK_PER_UNIT, k's in a unit;
 * PACK_UNIT(a, b), the unit of two neighbouring k's, which ignores b where a unit holds one; and
 * the number of its lanes and its transposition of units, PACK_LANES and PACK_TRANSPOSE.
 */

static inline void PACK(convert)(float *restrict to, const float *restrict x, size_t K)
{
    const size_t units = K / PACK_PER_UNIT;
    for (size_t u = 0; u < units; u++)
        to[u] = PACK_UNIT(x[u * PACK_PER_UNIT], x[u * PACK_PER_UNIT + PACK_PER_UNIT - 1]);
    if (units * PACK_PER_UNIT < K) to[units] = PACK_UNIT(x[K - 1], 0.0f);
}

/* `count` units of some columns: row u at row[u * PACK_PER_UNIT] + n. `next` are rows to fetch. */
__attribute__((always_inline)) static inline void PACK(piece)(float *to, const float *const *row,
                                                              const float *const *next, size_t n,
                                                              size_t own, size_t padded,
                                                              size_t count)
{
    static const float zeros[DUO_STRIP];
    for (size_t u = 0; u < count; u++, to += padded) {
        const float *a = row[u * PACK_PER_UNIT] + n;
        const float *second = row[u * PACK_PER_UNIT + PACK_PER_UNIT - 1];
        size_t c = 0;
        for (; c + DUO_STRIP <= own; c += DUO_STRIP) {
            const float *b = second ? second + n + c : zeros;
            float unit[DUO_STRIP];
            for (size_t i = 0; i < PACK_PER_UNIT; i++) {
                const float *ahead = next[u * PACK_PER_UNIT + i];
                __builtin_prefetch(ahead ? ahead + n + c : a + c);
            }
            for (size_t i = 0; i < DUO_STRIP; i++) unit[i] = PACK_UNIT(a[c + i], b[i]);
            memcpy(to + c, unit, sizeof unit);
        }
        for (; c < own; c++) to[c] = PACK_UNIT(a[c], second ? second[n + c] : 0.0f);
        for (; c < padded; c++) to[c] = 0.0f;
    }
}

static inline void PACK(columns)(float *panels, size_t width, size_t lanes, size_t panel_size,
                                 const duo_operand *from, size_t first, size_t cols, size_t k0,
                                 size_t depth)
{
    enum { TOGETHER = 8, MOST_K = TOGETHER * PACK_PER_UNIT };
    const float *row[MOST_K], *next[MOST_K];
    for (size_t k = 0; k < MOST_K; k++)
        next[k] = k < depth ? duo_operand_row(from, k0 + k) + first : NULL;
    for (size_t k = 0; k < depth; k += MOST_K) {
        const size_t left = depth - k < MOST_K ? depth - k : MOST_K;
        const size_t count = (left + PACK_PER_UNIT - 1) / PACK_PER_UNIT;
        memcpy(row, next, sizeof row);
        for (size_t i = 0; i < MOST_K && k + MOST_K < depth; i++) {
            const size_t ahead = k + MOST_K + i;
            next[i] = ahead < depth ? duo_operand_row(from, k0 + ahead) + first : NULL;
        }
        float *panel = panels;
        size_t n = 0;
        if (width == DUO_STRIP && count == TOGETHER) {
            float *to = panel + k / PACK_PER_UNIT * DUO_STRIP;
            for (; n + DUO_STRIP <= cols; n += DUO_STRIP, to += panel_size, panel += panel_size)
                PACK(piece)(to, row, next, n, DUO_STRIP, DUO_STRIP, TOGETHER);
        }
        for (; n < cols; n += width, panel += panel_size) {
            const size_t own = cols - n < width ? cols - n : width;
            const size_t padded = (own + lanes - 1) / lanes * lanes;
            PACK(piece)(panel + k / PACK_PER_UNIT * padded, row, next, n, own, padded, count);
        }
    }
}

/* Converted a piece at a time, then transposed. */
static inline void PACK(rows)(float *panel, const float *w, size_t stride, size_t cols, size_t K)
{
    enum { COLUMNS = 48, UNITS = 64 };
    float piece[COLUMNS][UNITS];
    const size_t width = (cols + PACK_LANES - 1) / PACK_LANES * PACK_LANES;
    for (size_t k = 0; k < K; k += UNITS * PACK_PER_UNIT, panel += UNITS * width) {
        const size_t depth = K - k < UNITS * PACK_PER_UNIT ? K - k : UNITS * PACK_PER_UNIT;
        for (size_t c = 0; c < cols; c++) PACK(convert)(piece[c], w + c * stride + k, depth);
        PACK_TRANSPOSE(panel, piece[0], UNITS, cols, (depth + PACK_PER_UNIT - 1) / PACK_PER_UNIT);
    }
}
