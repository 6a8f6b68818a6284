#include "simd.h"

const duo_simd *duo_rows = &duo_simd_portable;

void duo_simd_select(duo_isa isa)
{
    duo_rows = &duo_simd_portable;
#ifdef __x86_64__
    if (isa == DUO_ISA_AVX2) duo_rows = &duo_simd_avx2;
    if (isa >= DUO_ISA_AVX512) duo_rows = &duo_simd_avx512;
#else
    (void)isa;
#endif
}
