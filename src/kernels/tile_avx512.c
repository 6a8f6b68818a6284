#include "bf16.h"

#define TILE_PER_UNIT 1
#define TILE_MULTIPLY_ADD(sum, value, right) _mm512_fmadd_ps(value, right, sum)
#define TILE_UNITS(a, b) ((void)(b), (a))
#define TILE_AHEAD 8
#include "tile_avx512.h"

/* Four neighbouring floats of each of four rows, one row in each quarter of the register. */
static inline __m512 load_quarters(const float *const *row, size_t k)
{
    __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(row[0] + k));
    v = _mm512_insertf32x4(v, _mm_loadu_ps(row[4] + k), 1);
    v = _mm512_insertf32x4(v, _mm_loadu_ps(row[8] + k), 2);
    return _mm512_insertf32x4(v, _mm_loadu_ps(row[12] + k), 3);
}

/* r[i] holds four k of the rows i, i+4, i+8, i+12: store them as sixteen rows for each k. */
static inline void store_four_k(float *panel, size_t width, const __m512 r[4])
{
    const __m512 low01 = _mm512_unpacklo_ps(r[0], r[1]), high01 = _mm512_unpackhi_ps(r[0], r[1]);
    const __m512 low23 = _mm512_unpacklo_ps(r[2], r[3]), high23 = _mm512_unpackhi_ps(r[2], r[3]);
    _mm512_store_ps(panel, _mm512_shuffle_ps(low01, low23, 0x44));
    _mm512_store_ps(panel + width, _mm512_shuffle_ps(low01, low23, 0xee));
    _mm512_store_ps(panel + 2 * width, _mm512_shuffle_ps(high01, high23, 0x44));
    _mm512_store_ps(panel + 3 * width, _mm512_shuffle_ps(high01, high23, 0xee));
}

static void transpose(float *panel, const float *w, size_t stride, size_t cols, size_t K)
{
    const size_t width = (cols + LANES - 1) / LANES * LANES;
    for (size_t c = 0; c < cols; c += LANES) {
        const float *row[LANES];
        for (size_t i = 0; i < LANES; i++) /* lanes behind the end are computed, never stored */
            row[i] = w + (c + i < cols ? c + i : cols - 1) * stride;
        float *to = panel + c;
        size_t k = 0;
        /* A whole cache line of a row at a time: with a stride of 4 KiB lines evict each other. */
        for (; k + LANES <= K; k += LANES, to += LANES * width) {
            __m512 r[4][4];
            UNROLL(4)
            for (size_t i = 0; i < 4; i++) {
                UNROLL(4)
                for (size_t quad = 0; quad < 4; quad++)
                    r[quad][i] = load_quarters(row + i, k + 4 * quad);
            }
            UNROLL(4)
            for (size_t quad = 0; quad < 4; quad++)
                store_four_k(to + 4 * quad * width, width, r[quad]);
        }
        for (; k < K; k++, to += width)
            for (size_t i = 0; i < LANES; i++) to[i] = row[i][k];
    }
}

#define PACK(name) name##_fp32
#define PACK_VALUE(x) (x)
#define PACK_LANES LANES
#define PACK_TRANSPOSE transpose
#include "tile_pack.h"

#undef PACK
#undef PACK_VALUE
#define PACK(name) name##_rounded
#define PACK_VALUE(x) duo_bf16_rounded(x)
#include "tile_pack.h"

/* A chain tends to 1: nothing overflows or becomes subnormal. */
enum { CHAINS = 24 };
static float spin(size_t rounds)
{
    const __m512 share = _mm512_set1_ps(0.5f);
    __m512 sum[CHAINS];
    UNROLL(24)
    for (size_t i = 0; i < CHAINS; i++) sum[i] = _mm512_set1_ps(0.5f + (float)i);
    for (size_t round = 0; round < rounds; round++) {
        UNROLL(24)
        for (size_t i = 0; i < CHAINS; i++) sum[i] = _mm512_fmadd_ps(sum[i], share, share);
    }
    UNROLL(24)
    for (size_t i = 1; i < CHAINS; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
    return _mm512_cvtss_f32(sum[0]);
}

const duo_tile duo_tile_avx512 = {
    TILE_MULTIPLY,          .multiply_sources = multiply_sources_any,
    .pack_rows = transpose, .pack_columns = columns_fp32,
    .spin = spin,           .spin_flops = 2 * CHAINS * LANES,
};
const duo_tile duo_tile_avx512_rounded = {
    TILE_MULTIPLY,
    .pack_rows = rows_rounded,
    .pack_columns = columns_rounded,
    .convert = convert_rounded,
    .spin = spin,
    .spin_flops = 2 * CHAINS * LANES,
};
