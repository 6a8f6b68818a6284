#define _GNU_SOURCE /* syscall */
#include <assert.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "attention_blocks.h"
#include "tile.h"

static duo_isa current = DUO_ISA_PORTABLE;
static int team = 1;

static const char *const names[] = {[DUO_ISA_PORTABLE] = "portable",
                                    [DUO_ISA_AVX2] = "avx2",
                                    [DUO_ISA_AVX512] = "avx512",
                                    [DUO_ISA_AVX512BF16] = "avx512bf16",
                                    [DUO_ISA_AMX] = "amx"};
enum { ISAS = sizeof names / sizeof names[0] };

#ifdef __x86_64__
/* Whether there are tiles of bf16, and the kernel lets this process use them: their registers
 * are so large that it wants to be asked. */
static bool tiles_granted(void)
{
#ifdef __linux__
    enum { LEAF = 7, AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24, REQUEST = 0x1023, TILE_DATA = 18 };
    unsigned a, b, c, features;
    if (!__get_cpuid_count(LEAF, 0, &a, &b, &c, &features)) return false;
    const bool present = (features & AMX_BF16) && (features & AMX_TILE);
    return present && syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
#else
    return false;
#endif
}
#endif

static bool supported(duo_isa isa)
{
#ifdef __x86_64__
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (isa == DUO_ISA_AVX2) return avx2;
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
    if (isa == DUO_ISA_AVX512) return avx512;
    const bool pairs = avx512 && __builtin_cpu_supports("avx512bf16");
    if (isa == DUO_ISA_AVX512BF16) return pairs;
    if (isa == DUO_ISA_AMX) return pairs && tiles_granted();
#endif
    return isa == DUO_ISA_PORTABLE;
}

static const duo_tile *tile_of(duo_isa isa, duo_precision precision)
{
    const bool bf16 = precision == DUO_BF16;
#ifdef __x86_64__
    if (isa == DUO_ISA_AMX && bf16) return &duo_tile_amx;
    if (isa == DUO_ISA_AVX512BF16 && bf16) return &duo_tile_avx512bf16;
    if (isa >= DUO_ISA_AVX512) return bf16 ? &duo_tile_avx512_rounded : &duo_tile_avx512;
    if (isa == DUO_ISA_AVX2) return bf16 ? &duo_tile_avx2_rounded : &duo_tile_avx2;
#endif
    assert(isa == DUO_ISA_PORTABLE);
    return bf16 ? &duo_tile_portable_rounded : &duo_tile_portable;
}

const duo_tile *duo_tile_current(duo_precision precision)
{
    return tile_of(current, precision);
}

static duo_status choose(duo_isa *isa)
{
    const char *wanted = getenv("DUO_ISA");
    if (!wanted || !*wanted) {
        *isa = DUO_ISA_AMX;
        while (!supported(*isa)) (*isa)--;
        return DUO_OK;
    }
    for (size_t i = 0; i < ISAS; i++) {
        if (strcmp(wanted, names[i]) != 0) continue;
        *isa = (duo_isa)i;
        if (supported(*isa)) return DUO_OK;
        return duo_fail(DUO_EINVAL, "DUO_ISA: this processor does not support %s", wanted);
    }
    return duo_fail(DUO_EINVAL, "DUO_ISA: '%s' is none of portable, avx2, avx512, avx512bf16, amx",
                    wanted);
}

/* Mixture weights at low temperatures, and all that is multiplied by them, are far below what a
 * float can hold in full; processors take a hundred times longer over such numbers. Every thread
 * has a setting of its own: libgomp's keep theirs, libomp's take the caller's at each region. */
static void flush_subnormals(int threads)
{
#ifdef __x86_64__
    const unsigned flush_to_zero = 0x8000, denormals_are_zero = 0x0040;
    const unsigned mode = __builtin_ia32_stmxcsr() | flush_to_zero | denormals_are_zero;
    __builtin_ia32_ldmxcsr(mode);
#pragma omp parallel num_threads(threads)
    __builtin_ia32_ldmxcsr(mode);
#else
    (void)threads;
#endif
}

duo_status duo_kernels_start(int threads)
{
    if (threads < 0 || threads > DUO_MAX_THREADS)
        return duo_fail(DUO_EINVAL, "threads: %d is not between 0 and %d", threads,
                        DUO_MAX_THREADS);
    duo_isa isa = DUO_ISA_PORTABLE;
    duo_status status = choose(&isa);
    if (status != DUO_OK) return status;
    if (threads == 0) threads = omp_get_max_threads();
    if (threads > DUO_MAX_THREADS) threads = DUO_MAX_THREADS;
    status = duo_matmul_start(tile_of(isa, DUO_FP32), tile_of(isa, DUO_BF16), threads);
    if (status != DUO_OK) return status;
    duo_simd_select(isa);
    duo_attention_select(isa);
    omp_set_num_threads(threads);
    flush_subnormals(threads);
    current = isa;
    team = threads;
    return DUO_OK;
}

void duo_kernels_stop(void)
{
    duo_matmul_stop();
}

duo_isa duo_kernels_isa(void)
{
    return current;
}

const char *duo_isa_name(duo_isa isa)
{
    return names[isa];
}

int duo_kernels_threads(void)
{
    return team;
}
