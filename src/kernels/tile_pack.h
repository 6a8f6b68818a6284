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

static inline void PACK(columns)(float *panels, size_t width, size_t lanes, size_t panel_size,
                                 const duo_operand *from, size_t first, size_t cols, size_t k0,
                                 size_t depth)
{
    static const float zeros[DUO_STRIP];
    enum { TOGETHER = 8 }; /* read side by side: a panel's share of one row alone is a short walk */
    const size_t units = (depth + PACK_PER_UNIT - 1) / PACK_PER_UNIT;
    for (size_t u0 = 0; u0 < units; u0 += TOGETHER) {
        const size_t u_end = u0 + TOGETHER < units ? u0 + TOGETHER : units;
        const float *row[TOGETHER * PACK_PER_UNIT];
        for (size_t k = u0 * PACK_PER_UNIT; k < u_end * PACK_PER_UNIT; k++)
            row[k - u0 * PACK_PER_UNIT] = k < depth ? duo_operand_row(from, k0 + k) + first : NULL;
        for (size_t n = 0; n < cols; n += width) {
            const size_t own = cols - n < width ? cols - n : width;
            const size_t padded = (own + lanes - 1) / lanes * lanes;
            float *to = panels + n / width * panel_size + u0 * padded;
            for (size_t u = u0; u < u_end; u++, to += padded) {
                const float *a = row[(u - u0) * PACK_PER_UNIT] + n;
                const float *next = row[(u - u0) * PACK_PER_UNIT + PACK_PER_UNIT - 1];
                const float *b = next ? next + n : zeros;
                const size_t b_step = next ? DUO_STRIP : 0;
                size_t c = 0;
                for (; c + DUO_STRIP <= own; c += DUO_STRIP, b += b_step) {
                    float unit[DUO_STRIP];
                    for (size_t i = 0; i < DUO_STRIP; i++) unit[i] = PACK_UNIT(a[c + i], b[i]);
                    memcpy(to + c, unit, sizeof unit);
                }
                for (size_t i = 0; c < own; c++, i++) to[c] = PACK_UNIT(a[c], b[i]);
                for (; c < padded; c++) to[c] = 0.0f;
            }
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
