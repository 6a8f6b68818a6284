#include "vec_avx2.h"

#define SIMD_TABLE duo_simd_avx2
#include "simd_rows.h"
