#include "amx_emulated.h"

#define duo_tile_amx duo_tile_amx_emulated
#include "tile_amx.c"
