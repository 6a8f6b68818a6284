#ifndef DUO_UNROLL_H
#define DUO_UNROLL_H

/**
 * Before a loop whose number of rounds, at most n, is known once its function is inlined: repeat
 * its body instead, so that the elements of a small array are registers. Clang does so before it
 * gives arrays their place on the stack only when told to do it in full; gcc wants the number.
 */
#ifdef __clang__
#define UNROLL(n) _Pragma("clang loop unroll(full)")
#else
#define UNROLL_PRAGMA(text) _Pragma(#text)
#define UNROLL(n) UNROLL_PRAGMA(GCC unroll n)
#endif

#endif
