#include <stdio.h>
#include <stdlib.h>

#include "bench_internal.h"
#include "duo/oracle.h"

enum { ROWS = 8, POSITIONS = 8 };

typedef struct search {
    duo_model *model;
    duo_sequences sequences;
    duo_search_setting setting;
    duo_trace trace;
    duo_status status;
} search;

static void run(void *context)
{
    search *s = context;
    if (s->status == DUO_OK)
        s->status =
            duo_search_committed(s->model, &s->sequences, &s->setting, &s->trace, NULL, NULL);
}

static duo_status measure(const duo_bench *bench, size_t layers, duo_precision precision)
{
    duo_config config = bench->setting.model;
    config.n_layers = layers;
    const size_t T = config.max_seq < POSITIONS ? config.max_seq : POSITIONS;
    const double half = (double)(layers / 2);
    const duo_budget budget = {DUO_BUDGET_COUNT, DUO_BIG, half, half};
    search s = {.sequences = {.R = ROWS, .T = T},
                .setting = {.modules = 1u << DUO_SMALL | 1u << DUO_BIG, .budget = budget}};
    duo_status status = duo_model_create(&s.model, &config);
    if (status != DUO_OK) return status;
    duo_model_init(s.model, DUO_ALL_GROUPS, 1);
    status = duo_model_pack(s.model, precision);
    if (status != DUO_OK) goto done;
    s.sequences.tokens = malloc(ROWS * (T + 1) * sizeof *s.sequences.tokens);
    if (!s.sequences.tokens) {
        status = duo_fail(DUO_ENOMEM, "bench: no memory for sequences");
        goto done;
    }
    bench_random_ids(s.sequences.tokens, ROWS * (T + 1), config.vocab_size);
    if ((status = duo_trace_create(&s.trace, &s.sequences, layers)) != DUO_OK) goto done;
    const bench_times times = bench_measure(&bench->setting, precision, run, &s);
    if ((status = s.status) != DUO_OK) goto done;
    char name[64];
    snprintf(name, sizeof name, "%zu layers, exactly %zu big", layers, layers / 2);
    duo_bench_row row = bench_row(DUO_BENCH_ORACLE, name, precision);
    const double tokens = (double)(ROWS * T);
    bench_row_rate(&row, times, tokens, "tok/s");
    row.seconds = times.median / tokens;
    bench_emit(bench, &row);

done:
    duo_trace_free(&s.trace);
    duo_sequences_free(&s.sequences);
    duo_model_free(s.model);
    return status;
}

duo_status bench_oracle(duo_bench *bench)
{
    const duo_bench_setting *setting = &bench->setting;
    const size_t layers[] = {setting->quick ? 2 : 6, setting->quick ? 3 : 8};
    for (size_t p = 0; p < setting->n_precisions; p++)
        for (size_t i = 0; i < setting->n_threads; i++)
            for (size_t l = 0; l < 2; l++) {
                const bench_limits *limits = NULL;
                duo_status status = bench_start(bench, i, &limits);
                if (status == DUO_OK) status = measure(bench, layers[l], setting->precisions[p]);
                if (status != DUO_OK) return status;
            }
    return DUO_OK;
}
