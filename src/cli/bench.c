#include "duo/bench.h"

#include <jansson.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "commands.h"
#include "common.h"
#include "duo/file.h"
#include "duo/kernels.h"
#include "duo/number.h"
#include "options.h"

/* The model that is measured without --recipe. */
static const char default_recipe[] =
    "name = bench\n"
    "model { n_layers = 8 d_model = 256 n_heads = 8 d_big = 1024 d_small = 64\n"
    "        vocab_size = 4096 max_seq = 256 }\n"
    "stage duo { steps = 1000000 batch_size = 16 }\n";

static const char quick_recipe[] =
    "name = bench\n"
    "model { n_layers = 2 d_model = 64 n_heads = 2 d_big = 128 d_small = 16\n"
    "        vocab_size = 300 max_seq = 64 }\n"
    "stage duo { steps = 1000000 batch_size = 2 }\n";

enum { MOST_THREADS = 16, PRECISIONS = 2 };
static const char *const precision_names[PRECISIONS] = {"fp32", "bf16"};

typedef struct bench_options {
    duo_list parts, threads, precisions, overrides;
    const char *recipe, *match, *json;
    size_t repeats;
    bool quick;
} bench_options;

/* ---------------------------------------------------------------- setting */

static duo_status read_threads(int threads[MOST_THREADS], size_t *n, const duo_list *list)
{
    const int all = omp_get_max_threads();
    threads[0] = 1;
    threads[1] = all;
    *n = all > 1 ? 2 : 1;
    if (list->n == 0) return DUO_OK;
    if (list->n > MOST_THREADS)
        return duo_fail(DUO_EUSAGE, "--threads: more than %d numbers", MOST_THREADS);
    *n = list->n;
    for (size_t i = 0; i < list->n; i++) {
        uint64_t value = 0;
        if (duo_number_u64(&value, list->text[i]) != DUO_NUMBER_OK || value < 1 ||
            value > DUO_MAX_THREADS)
            return duo_fail(DUO_EUSAGE, "--threads: '%s' is no number from 1 to %d", list->text[i],
                            DUO_MAX_THREADS);
        threads[i] = (int)value;
    }
    return DUO_OK;
}

static duo_status read_precisions(duo_precision precisions[PRECISIONS], size_t *n,
                                  const duo_list *list)
{
    precisions[0] = DUO_FP32;
    precisions[1] = DUO_BF16;
    *n = duo_kernels_isa() >= DUO_ISA_AVX512BF16 ? 2 : 1;
    if (list->n == 0) return DUO_OK;
    if (list->n > PRECISIONS) return duo_fail(DUO_EUSAGE, "--precision: there are only fp32, bf16");
    *n = list->n;
    for (size_t i = 0; i < list->n; i++) {
        size_t p = 0;
        while (p < PRECISIONS && strcmp(list->text[i], precision_names[p]) != 0) p++;
        if (p == PRECISIONS)
            return duo_fail(DUO_EUSAGE, "--precision: '%s' is none of fp32, bf16", list->text[i]);
        precisions[i] = (duo_precision)p;
    }
    return DUO_OK;
}

static duo_status read_parts(bool wanted[DUO_BENCH_PARTS], const duo_list *list)
{
    for (size_t p = 0; p < DUO_BENCH_PARTS; p++) wanted[p] = list->n == 0;
    for (size_t i = 0; i < list->n; i++) {
        size_t p = 0;
        while (p < DUO_BENCH_PARTS &&
               strcmp(list->text[i], duo_bench_part_name((duo_bench_part)p)) != 0)
            p++;
        if (p == DUO_BENCH_PARTS)
            return duo_fail(DUO_EUSAGE, "--only: '%s' is no part of the benchmark; see --help",
                            list->text[i]);
        wanted[p] = true;
    }
    return DUO_OK;
}

static duo_status read_recipe(duo_recipe **recipe, const bench_options *o)
{
    const duo_status status =
        o->recipe ? duo_recipe_load(recipe, o->recipe, o->overrides.text, o->overrides.n)
                  : duo_recipe_parse(recipe, o->quick ? quick_recipe : default_recipe, "--set",
                                     o->overrides.text, o->overrides.n);
    const char *where = o->recipe ? o->recipe : "--set";
    if (status != DUO_OK) return status;
    if ((*recipe)->n_stages == 0) return duo_fail(DUO_EINVAL, "%s: has no stage", where);
    if ((*recipe)->model.vocab_size == 0)
        return duo_fail(DUO_EINVAL, "%s: give model.vocab_size, as --set model.vocab_size=4096",
                        where);
    return duo_config_check(&(*recipe)->model, where);
}

/* ---------------------------------------------------------------- output */

typedef struct report {
    duo_bench_part part; /* of the last row */
    int threads;
    duo_precision precision;
    bool started;
    json_t *rows; /* NULL: no file wanted */
    bool failed;
} report;

static void print_header(report *r, const duo_bench_row *row)
{
    const bool machine = row->part == DUO_BENCH_MACHINE; /* its rows name their precision */
    if (r->started && r->part == row->part && r->threads == row->threads &&
        (machine || r->precision == row->precision))
        return;
    char title[64];
    snprintf(title, sizeof title, "%s, %s%s%d thread%s", duo_bench_part_name(row->part),
             machine ? "" : precision_names[row->precision], machine ? "" : ", ", row->threads,
             row->threads == 1 ? "" : "s");
    printf("\n%-33s %9s %7s %8s %10s %11s\n", title, "ms", "median", "", "range",
           row->part == DUO_BENCH_ROUTING ? "off chord" : "");
    r->started = true;
    r->part = row->part;
    r->threads = row->threads;
    r->precision = row->precision;
}

static void print_row(const duo_bench_row *row)
{
    char ms[16] = "", value[16] = "", range[32] = "", more[32] = "", share[32] = "";
    const int digits = row->value < 10 ? 2 : row->value < 1000 ? 1 : 0;
    const int range_digits = row->value < 100 ? digits : 0;
    if (!isnan(row->seconds))
        snprintf(ms, sizeof ms, "%.*f", row->seconds < 1e-2 ? 4 : 1, 1e3 * row->seconds);
    if (!isnan(row->value)) snprintf(value, sizeof value, "%.*f", digits, row->value);
    if (!isnan(row->least))
        snprintf(range, sizeof range, "%.*f-%.*f", range_digits, row->least, range_digits,
                 row->most);
    if (!isnan(row->limit))
        snprintf(share, sizeof share, "%5.1f %% %s", 100 * row->value / row->limit,
                 row->limit_name);
    if (!isnan(row->error)) snprintf(more, sizeof more, "err %.0e", row->error);
    if (!isnan(row->tokens_per_s)) snprintf(more, sizeof more, "%.0f tok/s", row->tokens_per_s);
    if (!isnan(row->part_of_step))
        snprintf(more, sizeof more, "%.1f %% step", 100 * row->part_of_step);
    if (!isnan(row->off_chord)) snprintf(more, sizeof more, "%+.1f %%", 100 * row->off_chord);
    printf("%-33s %9s %7s %-8s %10s %11s %s\n", row->name, ms, value, row->unit, range, more,
           share);
    fflush(stdout);
}

static void add_number(json_t *object, const char *key, double value, bool *failed)
{
    if (isfinite(value) && json_object_set_new(object, key, json_real(value)) != 0) *failed = true;
}

static void add_row(report *r, const duo_bench_row *row)
{
    json_t *object =
        json_pack("{s:s, s:s, s:i, s:s}", "part", duo_bench_part_name(row->part), "name", row->name,
                  "threads", row->threads, "precision", precision_names[row->precision]);
    if (!object || json_array_append_new(r->rows, object) != 0) {
        r->failed = true;
        return;
    }
    if (*row->of) json_object_set_new(object, "of", json_string(row->of));
    if (*row->unit) json_object_set_new(object, "unit", json_string(row->unit));
    add_number(object, "value", row->value, &r->failed);
    add_number(object, "least", row->least, &r->failed);
    add_number(object, "most", row->most, &r->failed);
    add_number(object, "limit", row->limit, &r->failed);
    if (row->limit_name) json_object_set_new(object, "limit_name", json_string(row->limit_name));
    add_number(object, "seconds", row->seconds, &r->failed);
    add_number(object, "error", row->error, &r->failed);
    add_number(object, "tokens_per_s", row->tokens_per_s, &r->failed);
    add_number(object, "part_of_step", row->part_of_step, &r->failed);
    add_number(object, "off_chord", row->off_chord, &r->failed);
}

static void take_row(void *context, const duo_bench_row *row)
{
    report *r = context;
    print_header(r, row);
    print_row(row);
    if (r->rows) add_row(r, row);
}

static void print_machine(const duo_machine *m)
{
    const double mebibyte = 1 << 20;
    printf("%s, %d processors, %s\n", m->processor, m->processors, duo_isa_name(duo_kernels_isa()));
    printf("caches: L1 %.0f KiB, L2 %.1f MiB, L3 %.0f MiB; memory %.1f GiB\n", (double)m->l1 / 1024,
           (double)m->l2 / mebibyte, (double)m->l3 / mebibyte, (double)m->memory / mebibyte / 1024);
    if (m->load > 0.5)
        duo_warn("the load average is %.2f: the figures mean nothing unless the machine is idle",
                 m->load);
}

static duo_status write_json(const char *path, const duo_machine *m, const report *r)
{
    time_t now = time(NULL);
    struct tm utc;
    char date[32] = "";
    if (gmtime_r(&now, &utc)) strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    json_t *root =
        json_pack("{s:s, s:s, s:{s:s, s:i, s:s, s:I, s:I, s:I, s:I}, s:O}", "duo", DUO_VERSION,
                  "date", date, "machine", "processor", m->processor, "processors", m->processors,
                  "isa", duo_isa_name(duo_kernels_isa()), "l1_bytes", (json_int_t)m->l1, "l2_bytes",
                  (json_int_t)m->l2, "l3_bytes", (json_int_t)m->l3, "memory_bytes",
                  (json_int_t)m->memory, "rows", r->rows);
    if (!root || r->failed) {
        json_decref(root);
        return duo_fail(DUO_ENOMEM, "%s: no memory for the figures", path);
    }
    if (!isnan(m->load))
        json_object_set_new(json_object_get(root, "machine"), "load", json_real(m->load));
    duo_text_file file;
    duo_status status = duo_text_file_begin(&file, path);
    if (status == DUO_OK) {
        if (json_dumpf(root, file.out, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) != 0)
            status = duo_fail(DUO_EIO, "%s: cannot be written", path);
        status = duo_text_file_end(&file, status);
    }
    json_decref(root);
    return status;
}

/* ---------------------------------------------------------------- the command */

static duo_status run(const duo_bench_setting *setting, const bool wanted[DUO_BENCH_PARTS],
                      report *r, const char *json)
{
    duo_machine machine;
    duo_bench *bench = NULL;
    duo_status status = duo_cli_check_output(json, DUO_CLI_TEXT, NULL);
    if (status == DUO_OK) status = duo_bench_create(&bench, setting);
    if (status != DUO_OK) return status;
    duo_machine_describe(&machine);
    print_machine(&machine);
    for (size_t p = 0; p < DUO_BENCH_PARTS && status == DUO_OK; p++)
        if (wanted[p]) status = duo_bench_run(bench, (duo_bench_part)p);
    duo_bench_free(bench);
    if (status == DUO_OK && setting->match && !r->started)
        status = duo_fail(DUO_EINVAL, "--match: nothing that was asked for has '%s' in its name",
                          setting->match);
    if (status == DUO_OK && json) status = write_json(json, &machine, r);
    return status;
}

static duo_status set_up_and_run(const bench_options *o)
{
    int threads[MOST_THREADS];
    duo_precision precisions[PRECISIONS];
    bool wanted[DUO_BENCH_PARTS];
    duo_recipe *recipe = NULL;
    report r = {0};
    duo_bench_setting setting = {.repeats = o->quick ? 1 : o->repeats,
                                 .sample_seconds = o->quick ? 0 : 5e-3,
                                 .quick = o->quick,
                                 .match = o->match,
                                 .threads = threads,
                                 .precisions = precisions,
                                 .program = "/proc/self/exe",
                                 .sink = take_row,
                                 .context = &r};
    duo_status status = read_parts(wanted, &o->parts);
    if (status == DUO_OK) status = read_threads(threads, &setting.n_threads, &o->threads);
    if (status == DUO_OK) status = duo_kernels_start(threads[0]);
    if (status == DUO_OK)
        status = read_precisions(precisions, &setting.n_precisions, &o->precisions);
    if (status == DUO_OK) status = read_recipe(&recipe, o);
    if (status != DUO_OK) goto done;
    setting.model = recipe->model;
    setting.stage = recipe->stages[0];
    if (o->json && !(r.rows = json_array())) {
        status = duo_fail(DUO_ENOMEM, "no memory for the figures");
        goto done;
    }
    status = run(&setting, wanted, &r, o->json);

done:
    duo_kernels_stop();
    json_decref(r.rows);
    duo_recipe_free(recipe);
    return status;
}

duo_status duo_cli_bench(int argc, char **argv)
{
    bench_options o = {.repeats = 7};
    bool help = false;
    const duo_option options[] = {
        {"--only", "PART...", "machine, kernels, step, routing, oracle, generate, memory",
         DUO_OPTION_LIST, &o.parts, 0, 0},
        {"--match", "TEXT", "of kernels, steps and oracles, only those whose name holds TEXT",
         DUO_OPTION_TEXT, &o.match, 0, 0},
        {"--threads", "N...", "numbers of threads to measure with (default 1 and all)",
         DUO_OPTION_LIST, &o.threads, 0, 0},
        {"--precision", "P...",
         "fp32, bf16: operands of matrix products (default those in hardware)", DUO_OPTION_LIST,
         &o.precisions, 0, 0},
        {"--repeats", "N", "samples of a figure, of which the median counts (default 7)",
         DUO_OPTION_SIZE, &o.repeats, 1, 999},
        {"--recipe", "FILE", "model and batch of this recipe's first stage (default below)",
         DUO_OPTION_TEXT, &o.recipe, 0, 0},
        {"--set", "KEY=VALUE", "override a key of the recipe, as model.d_model=768; repeatable",
         DUO_OPTION_REPEATED, &o.overrides, 0, 0},
        {"--quick", NULL, "small operands, once: to see that everything works, not how fast",
         DUO_OPTION_FLAG, &o.quick, 0, 0},
        {"--json", "FILE", "write all figures there", DUO_OPTION_TEXT, &o.json, 0, 0},
    };
    const duo_command command = {
        .name = "bench",
        .description =
            "What this machine can do, and how near Duo comes to it: median and range of every\n"
            "figure, its share of the limit that applies (the multiply-add peak; or the "
            "bandwidth,\n"
            "in reading or in a triad, of a working set of that size), and the error against a\n"
            "plain loop in double. The kernels of a step are timed inside of it. The model is by\n"
            "default 8 layers of width 256, FFNs 1024 and 64, a vocabulary of 4096, in batches of\n"
            "16 x 256 tokens. Nothing else should be running.",
        .example = "duo bench --only step --threads 1 2 --precision fp32 bf16 --json bench.json",
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    duo_status status = duo_options_parse(&command, argc, argv, &help);
    if (status == DUO_OK && !help) status = set_up_and_run(&o);
    duo_options_free(&command);
    return status;
}
