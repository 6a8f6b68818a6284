#include "amx_emulated.h"

#define duo_attention_amx duo_attention_amx_emulated
#include "attention_amx.c"
