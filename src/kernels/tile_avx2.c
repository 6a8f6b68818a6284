#include "vec_avx2.h"

/* Four neighbouring floats of each of two rows, one row in each half of the register. */
static inline __m256 load_halves(const float *const *row, size_t k)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(row[0] + k)),
                                _mm_loadu_ps(row[4] + k), 1);
}

static void transpose(float *panel, const float *w, size_t stride, size_t cols, size_t K)
{
    const size_t width = (cols + WIDTH - 1) / WIDTH * WIDTH;
    for (size_t c = 0; c < cols; c += WIDTH) {
        const float *row[WIDTH];
        for (size_t i = 0; i < WIDTH; i++) /* lanes behind the end are computed, never stored */
            row[i] = w + (c + i < cols ? c + i : cols - 1) * stride;
        float *to = panel + c;
        size_t k = 0;
        for (; k + 4 <= K; k += 4, to += 4 * width) {
            const __m256 r0 = load_halves(row, k), r1 = load_halves(row + 1, k);
            const __m256 r2 = load_halves(row + 2, k), r3 = load_halves(row + 3, k);
            const __m256 low01 = _mm256_unpacklo_ps(r0, r1), high01 = _mm256_unpackhi_ps(r0, r1);
            const __m256 low23 = _mm256_unpacklo_ps(r2, r3), high23 = _mm256_unpackhi_ps(r2, r3);
            _mm256_store_ps(to, _mm256_shuffle_ps(low01, low23, 0x44));
            _mm256_store_ps(to + width, _mm256_shuffle_ps(low01, low23, 0xee));
            _mm256_store_ps(to + 2 * width, _mm256_shuffle_ps(high01, high23, 0x44));
            _mm256_store_ps(to + 3 * width, _mm256_shuffle_ps(high01, high23, 0xee));
        }
        for (; k < K; k++, to += width)
            for (size_t i = 0; i < WIDTH; i++) to[i] = row[i][k];
    }
}

#define TILE_NAME(suffix) duo_tile_avx2##suffix
#include "tile_vector.h"
