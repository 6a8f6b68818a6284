#include "amx.h"
#include "attention_pairs_avx512.h"

_Static_assert((int)SIDE == (int)DUO_AMX_SIDE, "a square is two by two registers");

static inline void multiply(float *c, size_t c_row, const float *a, size_t a_row, const float *b,
                            size_t b_row, size_t lines, bool add)
{
    DUO_AMX_STORED();
    if (add) {
        DUO_AMX_LOAD(0, c, c_row);
        DUO_AMX_LOAD(1, c + SIDE, c_row);
        DUO_AMX_LOAD(2, c + SIDE * c_row, c_row);
        DUO_AMX_LOAD(3, c + SIDE * c_row + SIDE, c_row);
    } else {
        DUO_AMX_ZERO(0);
        DUO_AMX_ZERO(1);
        DUO_AMX_ZERO(2);
        DUO_AMX_ZERO(3);
    }
    for (size_t i = 0; i < lines; i++, a += SIDE, b += SIDE * b_row) {
        DUO_AMX_LOAD(4, a, a_row);
        DUO_AMX_LOAD(6, b, b_row);
        DUO_AMX_DOT(0, 4, 6);
        DUO_AMX_LOAD(5, a + SIDE * a_row, a_row);
        DUO_AMX_DOT(2, 5, 6);
        DUO_AMX_LOAD(7, b + SIDE, b_row);
        DUO_AMX_DOT(1, 4, 7);
        DUO_AMX_DOT(3, 5, 7);
    }
    DUO_AMX_STORE(0, c, c_row);
    DUO_AMX_STORE(1, c + SIDE, c_row);
    DUO_AMX_STORE(2, c + SIDE * c_row, c_row);
    DUO_AMX_STORE(3, c + SIDE * c_row + SIDE, c_row);
    DUO_AMX_STORED();
}

const duo_attention_blocks duo_attention_amx = {
    ATTENTION_BY_PAIRS,
    .enter = duo_amx_enter,
    .leave = duo_amx_leave,
};
