#define SIMD_TABLE duo_simd_avx512
#define SIMD_WIDTH 16 /* floats in a register */
#define SIMD_ROWS 8   /* rows of a register tile, each two registers wide */
#include "simd_rows.h"
