#define SIMD_TABLE duo_simd_avx2
#define SIMD_WIDTH 8 /* floats in a register */
#define SIMD_ROWS 6  /* rows of a register tile, each two registers wide */
#include "simd_rows.h"
