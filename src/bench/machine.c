#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench_internal.h"
#include "duo/arena.h"
#include "duo/sizes.h"
#include "stream.h"

/* ---------------------------------------------------------------- description */

/* A name alone does not tell generations apart: family and model do. */
static void read_processor(char *text, size_t size)
{
    char line[256], name[64] = "unknown processor", family[8] = "?", model[8] = "?";
    const struct {
        const char *key;
        char *value;
        size_t room;
    } wanted[] = {{"cpu family", family, sizeof family},
                  {"model", model, sizeof model},
                  {"model name", name, sizeof name}};
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file) && line[0] != '\n') {
        const char *colon = strchr(line, ':');
        if (!colon) continue;
        const size_t key = strcspn(line, "\t:");
        colon += 1 + strspn(colon + 1, " ");
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            if (strlen(wanted[i].key) == key && strncmp(line, wanted[i].key, key) == 0)
                snprintf(wanted[i].value, wanted[i].room, "%.*s", (int)strcspn(colon, "\n"), colon);
    }
    if (file) fclose(file);
    snprintf(text, size, "%s, family %s, model %s", name, family, model);
}

static size_t cache_size(int name)
{
    const long bytes = sysconf(name);
    return bytes > 0 ? (size_t)bytes : 0;
}

/* What a processor shares with its neighbours; the C library tells the sum over the socket. */
static size_t l3_size(void)
{
    size_t kibibytes = 0;
    FILE *file = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r");
    const bool known = file && fscanf(file, "%zuK", &kibibytes) == 1;
    if (file) fclose(file);
    return known ? kibibytes << 10 : cache_size(_SC_LEVEL3_CACHE_SIZE);
}

void duo_machine_describe(duo_machine *machine)
{
    *machine = (duo_machine){
        .l1 = cache_size(_SC_LEVEL1_DCACHE_SIZE),
        .l2 = cache_size(_SC_LEVEL2_CACHE_SIZE),
        .l3 = l3_size(),
        .load = NAN,
    };
    read_processor(machine->processor, sizeof machine->processor);
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0) machine->memory = (size_t)pages * (size_t)page;
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    machine->processors = processors > 0 ? (int)processors : 1;
    FILE *file = fopen("/proc/loadavg", "r");
    if (!file) return;
    if (fscanf(file, "%lf", &machine->load) != 1) machine->load = NAN;
    fclose(file);
}

/* ---------------------------------------------------------------- bandwidth */

enum { CHUNK = 4096, SKEW = 1040 }; /* floats: that a thread walks over at a time; between arrays */
enum { L2, L3, DRAM, LEVELS };

/* Bytes per second: median and range. */
typedef struct bench_rate {
    double median, least, most;
} bench_rate;

typedef struct walk {
    const bench_stream *stream;
    float *a, *b, *c;
    size_t n;                    /* floats of an array that is walked, a multiple of CHUNK */
    float sink[DUO_MAX_THREADS]; /* so that what is read is wanted */
} walk;

/* With a static schedule a thread keeps its share, so that the share stays in its caches. */
static void walk_read(void *context)
{
    walk *w = context;
    const size_t n = w->n;
#pragma omp parallel
    {
        float sum = 0;
#pragma omp for schedule(static)
        for (size_t i = 0; i < n; i += CHUNK) sum += w->stream->read(w->a + i, CHUNK);
        w->sink[omp_get_thread_num()] += sum;
    }
}

static void walk_write(void *context)
{
    walk *w = context;
    const size_t n = w->n;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += CHUNK) w->stream->write(w->a + i, 1.0f, CHUNK);
}

static void walk_triad(void *context)
{
    walk *w = context;
    const size_t n = w->n;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += CHUNK) w->stream->triad(w->a + i, w->b + i, w->c + i, CHUNK);
}

static const bench_stream *stream_of(duo_isa isa)
{
#ifdef __x86_64__
    if (isa >= DUO_ISA_AVX512) return &bench_stream_avx512;
    if (isa == DUO_ISA_AVX2) return &bench_stream_avx2;
#else
    (void)isa;
#endif
    return &bench_stream_portable;
}

/* Bytes that all threads walk over, well inside a level and well outside the one before it. */
static void working_sets(size_t bytes[LEVELS], const duo_bench *bench, int threads)
{
    const size_t mebibyte = (size_t)1 << 20;
    const duo_machine *m = &bench->machine;
    const size_t l2 = m->l2 * (size_t)threads;
    bytes[L2] = l2 * 3 / 8;
    bytes[L3] = duo_min(m->l3 * 3 / 8, duo_max(16 * mebibyte, 4 * l2));
    bytes[DRAM] = duo_min(m->memory / 8, duo_max(256 * mebibyte, 4 * m->l3));
    if (bench->setting.quick) bytes[DRAM] = 32 * mebibyte;
}

/* One array of all bytes that is read or written, or a third of them each for a, b and c, which do
 * not lie a power of two apart: they would share sets of the caches and banks of the memory. */
static duo_status take_walk(walk *w, duo_arena *arena, double bytes)
{
    const size_t third = duo_max(1, (size_t)(bytes / 3 / sizeof(float) / CHUNK)) * CHUNK;
    const size_t room = 3 * third + 2 * SKEW;
    const duo_status status = duo_arena_create(arena, room * sizeof(float), "bandwidth");
    if (status != DUO_OK) return status;
    *w = (walk){.stream = stream_of(duo_kernels_isa()), .n = third};
    w->a = DUO_TAKE(arena, float, room);
    w->b = w->a + third + SKEW;
    w->c = w->b + third + SKEW;
    return DUO_OK;
}

static bench_rate rate_of(const duo_bench_setting *setting, bench_work *work, walk w)
{
    if (work != walk_triad) w.n *= 3;
    const bench_times times = bench_measure(setting, DUO_FP32, work, &w);
    const double bytes = (double)w.n * sizeof(float) * (work == walk_triad ? 3 : 1);
    return (bench_rate){bytes / times.median, bytes / times.most, bytes / times.least};
}

duo_status bench_bandwidth(const duo_bench *bench, bool reads_only, double bytes, double *rate)
{
    walk w;
    duo_arena arena;
    size_t most[LEVELS]; /* beyond it is all the same */
    working_sets(most, bench, duo_kernels_threads());
    const duo_status status = take_walk(&w, &arena, fmin(bytes, (double)most[DRAM]));
    if (status != DUO_OK) return status;
    *rate = rate_of(&bench->setting, reads_only ? walk_read : walk_triad, w).median;
    duo_arena_free(&arena);
    return DUO_OK;
}

/* ---------------------------------------------------------------- threads */

/* Threads that have just begun may share a processor for some milliseconds. */
static const double settling_seconds = 0.05;

duo_status bench_start(duo_bench *bench, size_t i)
{
    const int threads = bench->setting.threads[i];
    const duo_status status = duo_kernels_start(threads);
    if (status != DUO_OK) return status;
    const double before = bench->peaks[i], end = bench_seconds() + settling_seconds;
    double peak = 0;
    while (bench_seconds() < end) peak = fmax(peak, duo_kernels_peak(DUO_FP32));
    if (fabs(peak / before - 1) > 0.1 && before > 0)
        duo_warn("the multiply-add peak on %d threads went from %.0f to %.0f GFLOP/s: the machine "
                 "is not idle, or its clock drifts",
                 threads, before / 1e9, peak / 1e9);
    bench->peaks[i] = peak;
    return DUO_OK;
}

/* ---------------------------------------------------------------- the part */

static void emit_peak(const duo_bench *bench, duo_precision precision)
{
    const char *name =
        precision == DUO_BF16 ? "multiply-add peak, bf16" : "multiply-add peak, fp32";
    duo_bench_row row = bench_row(DUO_BENCH_MACHINE, name, precision);
    double rates[3] = {0};
    for (int i = 0; i < 3; i++) {
        const double rate = duo_kernels_peak(precision);
        int at = i;
        for (; at > 0 && rates[at - 1] > rate; at--) rates[at] = rates[at - 1];
        rates[at] = rate;
    }
    row.unit = "GFLOP/s";
    row.least = rates[0] / 1e9;
    row.value = rates[1] / 1e9;
    row.most = rates[2] / 1e9;
    bench_emit(bench, &row);
}

static void emit_rate(const duo_bench *bench, const char *level, const char *what, bench_rate rate)
{
    char name[32];
    snprintf(name, sizeof name, "%s %s", level, what);
    duo_bench_row row = bench_row(DUO_BENCH_MACHINE, name, DUO_FP32);
    row.unit = "GB/s";
    row.value = rate.median / 1e9;
    row.least = rate.least / 1e9;
    row.most = rate.most / 1e9;
    bench_emit(bench, &row);
}

static duo_status emit_bandwidths(const duo_bench *bench)
{
    static const char *const names[LEVELS] = {"L2", "L3", "DRAM"};
    size_t bytes[LEVELS];
    working_sets(bytes, bench, duo_kernels_threads());
    for (int level = 0; level < LEVELS; level++) {
        walk w;
        duo_arena arena;
        const duo_status status = take_walk(&w, &arena, (double)bytes[level]);
        if (status != DUO_OK) return status;
        emit_rate(bench, names[level], "read", rate_of(&bench->setting, walk_read, w));
        emit_rate(bench, names[level], "write", rate_of(&bench->setting, walk_write, w));
        emit_rate(bench, names[level], "triad", rate_of(&bench->setting, walk_triad, w));
        duo_arena_free(&arena);
    }
    return DUO_OK;
}

duo_status bench_machine(duo_bench *bench)
{
    for (size_t i = 0; i < bench->setting.n_threads; i++) {
        duo_status status = bench_start(bench, i);
        if (status != DUO_OK) return status;
        for (size_t p = 0; p < bench->setting.n_precisions; p++)
            emit_peak(bench, bench->setting.precisions[p]);
        status = emit_bandwidths(bench);
        if (status != DUO_OK) return status;
    }
    return DUO_OK;
}
