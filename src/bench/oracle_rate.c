#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench_internal.h"
#include "duo/oracle.h"

/* Of POSITIONS tokens as many are searched as make about CALL_FLOPS, in so many sequences at most.
 */
enum { POSITIONS = 128, ROWS = 8 };
static const double CALL_FLOPS = 6e10;

/* What is searched: routes of these modules, with half of the layers big or any number of them. */
typedef struct search_case {
    size_t layers;
    bool skip, half_big, reference;
} search_case;

typedef struct search {
    duo_model *model;
    duo_sequences sequences;
    duo_search_setting setting;
    duo_budget *schedule; /* (T) */
    duo_trace trace;
    duo_reference reference;
    uint8_t pattern[DUO_MAX_LAYERS];
    double spent;
    bool in_reference;
    duo_status status;
} search;

static void run(void *context)
{
    search *s = context;
    if (s->status != DUO_OK) return;
    s->spent = 0;
    s->status = s->in_reference ? duo_search_reference(s->model, &s->sequences, &s->setting,
                                                       s->pattern, 1, 0, &s->reference, NULL, NULL)
                                : duo_search_committed(s->model, &s->sequences, &s->setting,
                                                       &s->trace, NULL, NULL);
}

static void close_search(search *s)
{
    free(s->schedule);
    duo_trace_free(&s->trace);
    duo_reference_free(&s->reference);
    duo_sequences_free(&s->sequences);
    duo_model_free(s->model);
}

static duo_budget budget_of(const search_case *c)
{
    const double half = (double)(c->layers / 2);
    if (!c->half_big) return (duo_budget){.kind = DUO_BUDGET_NONE};
    return (duo_budget){DUO_BUDGET_COUNT, DUO_BIG, half, half};
}

static double at_most(double value, size_t most)
{
    return value < 1 ? 1 : value > (double)most ? (double)most : floor(value);
}

/* In committed context the first positions take the all-big route, so that those that are searched
 * see as many positions as a long text has. Returns how many they are, of a sequence. */
static size_t plan(search *s, const search_case *c, size_t most)
{
    const double flops =
        duo_search_flops(&s->model->params.config, &s->setting, (double)most / 2 + 0.5);
    const double tokens = CALL_FLOPS / flops;
    s->sequences.R = c->reference ? 1 : (size_t)at_most(tokens, ROWS);
    const size_t searched = (size_t)at_most(tokens / (double)s->sequences.R, most);
    s->sequences.T = c->reference ? searched : most;
    return searched;
}

static duo_status open_search(search *s, const duo_bench *bench, const search_case *c,
                              duo_precision precision, size_t *searched)
{
    duo_config config = bench->setting.model;
    config.n_layers = c->layers;
    config.router_modules = 0;
    duo_status status = duo_model_create(&s->model, &config);
    if (status != DUO_OK) return status;
    duo_model_init(s->model, DUO_ALL_GROUPS, 1);
    if ((status = duo_model_pack(s->model, precision)) != DUO_OK) return status;
    s->in_reference = c->reference;
    s->setting = (duo_search_setting){
        .modules = 1u << DUO_SMALL | 1u << DUO_BIG, .budget = budget_of(c), .spent = &s->spent};
    if (c->skip) s->setting.modules |= 1u << DUO_SKIP;
    *searched = plan(s, c, config.max_seq < POSITIONS ? config.max_seq : POSITIONS);
    const size_t R = s->sequences.R, T = s->sequences.T;
    s->sequences.tokens = malloc(R * (T + 1) * sizeof *s->sequences.tokens);
    s->schedule = malloc(T * sizeof *s->schedule);
    if (!s->sequences.tokens || !s->schedule)
        return duo_fail(DUO_ENOMEM, "bench: no memory for sequences");
    bench_random_ids(s->sequences.tokens, R * (T + 1), config.vocab_size);
    const double all = (double)c->layers;
    for (size_t t = 0; t < T; t++)
        s->schedule[t] = t + *searched < T ? (duo_budget){DUO_BUDGET_COUNT, DUO_BIG, all, all}
                                           : s->setting.budget;
    duo_routes_fill(s->pattern, 1, c->layers, DUO_BIG);
    if (c->reference) return duo_reference_create(&s->reference, &s->sequences, c->layers);
    s->setting.schedule = s->schedule;
    return duo_trace_create(&s->trace, &s->sequences, c->layers);
}

/* What the searched positions take: of a committed search the first positions' time and FLOPs,
 * which are measured in turns with the whole, are subtracted. */
static bench_times measure_searched(const duo_bench *bench, search *s, size_t searched,
                                    duo_precision precision, double *flops)
{
    if (s->in_reference || searched == s->sequences.T) {
        const bench_times times = bench_measure(&bench->setting, precision, run, s);
        *flops = s->spent;
        return times;
    }
    search first = *s;
    first.sequences.T -= searched;
    first.setting.spent = &first.spent;
    bench_work *const work[] = {run, run};
    void *const contexts[] = {s, &first};
    bench_times t[2];
    bench_measure_in_turns(&bench->setting, precision, 2, work, contexts, t);
    if (s->status == DUO_OK) s->status = first.status;
    *flops = s->spent - first.spent;
    const double median = t[0].median - t[1].median;
    return (bench_times){median, t[0].least - t[1].median, t[0].most - t[1].median,
                         t[0].at_peak * median / t[0].median};
}

static duo_status measure(const duo_bench *bench, const search_case *c, duo_precision precision)
{
    search s = {0};
    size_t searched = 0;
    double flops = 0;
    char name[64], budget[24] = "any big";
    if (c->half_big) snprintf(budget, sizeof budget, "%zu big", c->layers / 2);
    if (c->skip) snprintf(budget, sizeof budget, "with skip");
    snprintf(name, sizeof name, "%zu layers, %s, %s", c->layers, budget,
             c->reference ? "reference" : "committed");
    if (!bench_wanted(bench, name)) return DUO_OK;
    duo_status status = open_search(&s, bench, c, precision, &searched);
    if (status != DUO_OK) goto done;
    const bench_times times = measure_searched(bench, &s, searched, precision, &flops);
    if ((status = s.status) != DUO_OK) goto done;
    duo_bench_row row = bench_row(DUO_BENCH_ORACLE, name, precision);
    bench_row_flops(&row, times, flops);
    row.seconds = times.median / (double)(s.sequences.R * searched);
    row.tokens_per_s = 1 / row.seconds;
    bench_emit(bench, &row);

done:
    close_search(&s);
    return status;
}

static const search_case cases[] = {
    {.layers = 6, .half_big = true},  {.layers = 8, .half_big = true},
    {.layers = 12, .half_big = true}, {.layers = 16, .half_big = true},
    {.layers = 6, .skip = true},      {.layers = 8, .skip = true},
    {.layers = 10, .skip = true},     {.layers = 6, .reference = true},
    {.layers = 8, .reference = true}, {.layers = 12, .reference = true},
};
static const search_case quick_cases[] = {
    {.layers = 2, .half_big = true}, {.layers = 2, .skip = true}, {.layers = 3, .reference = true}};

duo_status bench_oracle(duo_bench *bench)
{
    const duo_bench_setting *setting = &bench->setting;
    const search_case *list = setting->quick ? quick_cases : cases;
    const size_t n =
        setting->quick ? sizeof quick_cases / sizeof *quick_cases : sizeof cases / sizeof *cases;
    for (size_t p = 0; p < setting->n_precisions; p++)
        for (size_t i = 0; i < setting->n_threads; i++)
            for (size_t k = 0; k < n; k++) {
                duo_status status = bench_start(bench, i);
                if (status == DUO_OK) status = measure(bench, &list[k], setting->precisions[p]);
                if (status != DUO_OK) return status;
            }
    return DUO_OK;
}
