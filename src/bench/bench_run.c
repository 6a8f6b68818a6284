#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_internal.h"
#include "duo/rng.h"

const char *duo_bench_part_name(duo_bench_part part)
{
    static const char *const names[] = {"machine", "kernels",  "step",  "routing",
                                        "oracle",  "generate", "memory"};
    return names[part];
}

/* ---------------------------------------------------------------- rows */

duo_bench_row bench_row(duo_bench_part part, const char *name, duo_precision precision)
{
    duo_bench_row row = {.part = part,
                         .threads = duo_kernels_threads(),
                         .precision = precision,
                         .unit = "",
                         .value = NAN,
                         .least = NAN,
                         .most = NAN,
                         .limit = NAN,
                         .seconds = NAN,
                         .error = NAN,
                         .tokens_per_s = NAN,
                         .part_of_step = NAN,
                         .off_chord = NAN};
    snprintf(row.name, sizeof row.name, "%s", name);
    return row;
}

void bench_row_rate(duo_bench_row *row, bench_times times, double work, const char *unit)
{
    row->unit = unit;
    row->seconds = times.median;
    row->value = work / times.median;
    row->least = work / times.most;
    row->most = work / times.least;
}

void bench_row_flops(duo_bench_row *row, bench_times times, double flops)
{
    bench_row_rate(row, times, flops / 1e9, "GFLOP/s");
    row->limit = times.at_peak / times.median / 1e9;
    row->limit_name = "peak";
}

void bench_row_roofline(duo_bench_row *row, bench_times times, double flops, double bytes,
                        double rate)
{
    bench_row_flops(row, times, flops);
    const double by_bytes = flops / bytes * rate / 1e9;
    if (by_bytes >= row->limit) return;
    row->limit = by_bytes;
    row->limit_name = "read";
}

void bench_row_bytes(duo_bench_row *row, bench_times times, double bytes, bool reads_only,
                     double rate)
{
    bench_row_rate(row, times, bytes / 1e9, "GB/s");
    row->limit = rate / 1e9;
    row->limit_name = reads_only ? "read" : "triad";
}

bool bench_wanted(const duo_bench *bench, const char *name)
{
    return !bench->setting.match || strstr(name, bench->setting.match) != NULL;
}

void bench_emit(const duo_bench *bench, const duo_bench_row *row)
{
    bench->setting.sink(bench->setting.context, row);
}

void bench_fill(float *x, size_t n, unsigned stream)
{
    for (size_t i = 0; i < n; i += 4) {
        const duo_random4 r = duo_random(1, DUO_RNG_TEST, (duo_place){.step = i, .row = stream});
        for (size_t k = 0; k < 4 && i + k < n; k++)
            x[i + k] = (float)(2 * duo_uniform(r.word[k]) - 1);
    }
}

void bench_random_ids(int32_t *ids, size_t n, size_t vocab_size)
{
    for (size_t i = 0; i < n; i++)
        ids[i] =
            (int32_t)(duo_random(1, DUO_RNG_TEST, (duo_place){.step = i}).word[0] % vocab_size);
}

/* ---------------------------------------------------------------- a run */

duo_status duo_bench_create(duo_bench **out, const duo_bench_setting *setting)
{
    *out = NULL;
    if (setting->repeats < 1 || setting->n_threads < 1 || setting->n_precisions < 1)
        return duo_fail(DUO_EINVAL, "bench: repeats, threads and precisions must not be empty");
    duo_bench *bench = calloc(1, sizeof *bench);
    if (!bench) return duo_fail(DUO_ENOMEM, "bench: no memory");
    bench->setting = *setting;
    bench->peaks = calloc(setting->n_threads, sizeof *bench->peaks);
    if (!bench->peaks) {
        duo_bench_free(bench);
        return duo_fail(DUO_ENOMEM, "bench: no memory");
    }
    duo_machine_describe(&bench->machine);
    *out = bench;
    return DUO_OK;
}

void duo_bench_free(duo_bench *bench)
{
    if (!bench) return;
    free(bench->peaks);
    free(bench);
}

static duo_status bench_kernels(duo_bench *bench)
{
    duo_status status = DUO_OK;
    for (size_t i = 0; i < bench->setting.n_threads && status == DUO_OK; i++) {
        status = bench_start(bench, i);
        if (status == DUO_OK) status = bench_products(bench);
        if (status == DUO_OK) status = bench_attention(bench);
        if (status == DUO_OK) status = bench_rows_kernels(bench);
    }
    return status;
}

duo_status duo_bench_run(duo_bench *bench, duo_bench_part part)
{
    static duo_status (*const parts[DUO_BENCH_PARTS])(duo_bench *) = {
        [DUO_BENCH_MACHINE] = bench_machine, [DUO_BENCH_KERNELS] = bench_kernels,
        [DUO_BENCH_STEP] = bench_step,       [DUO_BENCH_ROUTING] = bench_routing,
        [DUO_BENCH_ORACLE] = bench_oracle,   [DUO_BENCH_GENERATE] = bench_decode,
        [DUO_BENCH_MEMORY] = bench_memory};
    const duo_status status = parts[part](bench);
    duo_kernels_stop();
    return status;
}
