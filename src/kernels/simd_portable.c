#define SIMD_TABLE duo_simd_portable
#define SIMD_WIDTH 4 /* floats in a register */
#define SIMD_ROWS 4  /* rows of a register tile, each two registers wide */
#include "simd_rows.h"
