#include "vec_portable.h"

#define SIMD_TABLE duo_simd_portable
#include "simd_rows.h"
