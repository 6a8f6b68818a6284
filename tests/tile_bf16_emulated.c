#include "bf16_emulated.h"

#define duo_tile_avx512bf16 duo_tile_bf16_emulated
#include "tile_avx512bf16.c"
