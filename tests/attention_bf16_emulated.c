#include "bf16_emulated.h"

#define duo_attention_avx512bf16 duo_attention_bf16_emulated
#include "attention_avx512bf16.c"
