#include "vec_avx512.h"

#define SIMD_TABLE duo_simd_avx512
#include "simd_rows.h"
