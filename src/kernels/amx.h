#ifndef DUO_AMX_H
#define DUO_AMX_H

#include <immintrin.h>
#include <stdint.h>

/*
 * AMX: eight registers of DUO_AMX_SIDE rows of a line each. One instruction adds to each element of
 * a register the products of two lines of pairs: all lower ones in one chain from 0, all upper ones
 * in another, the sum of both (Intel's manual, TDPBF16PS). The tests compile the files that use it
 * once more with other definitions, for processors without the instructions.
 */
#ifndef DUO_AMX_DOT
#define DUO_AMX_CONFIGURE(shapes) _tile_loadconfig(shapes)
#define DUO_AMX_RELEASE() _tile_release()
#define DUO_AMX_ZERO(t) _tile_zero(t)
#define DUO_AMX_LOAD(t, from, stride) _tile_loadd(t, from, (stride) * sizeof(float))
#define DUO_AMX_STORE(t, to, stride) _tile_stored(t, to, (stride) * sizeof(float))
#define DUO_AMX_DOT(sum, a, b) _tile_dpbf16ps(sum, a, b)
#endif
/* The compiler does not know that a load of a register reads what was stored before it. */
#define DUO_AMX_STORED() __asm__ volatile("" ::: "memory")

enum { DUO_AMX_SIDE = 16 };

/* Of each thread, around what it does with the registers. */
static inline void duo_amx_enter(void)
{
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shapes = {.palette = 1,
                .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                .rows = {DUO_AMX_SIDE, DUO_AMX_SIDE, DUO_AMX_SIDE, DUO_AMX_SIDE, DUO_AMX_SIDE,
                         DUO_AMX_SIDE, DUO_AMX_SIDE, DUO_AMX_SIDE}};
    DUO_AMX_CONFIGURE(&shapes);
}

static inline void duo_amx_leave(void)
{
    DUO_AMX_RELEASE();
}

#endif
