#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench_internal.h"
#include "duo/arena.h"
#include "duo/model.h"
#include "profile.h"

enum { TOKENS = 16, MOST_SEQUENCES = 16 }; /* decoded by one call; at a time */

/* TOKENS steps of S sequences, each with routes of its own, from the same begin. */
typedef struct decoder {
    duo_model *model;
    duo_nodes *nodes;
    duo_cache cache;
    size_t S, L, begin; /* begin: positions that are cached already */
    int32_t *tokens;    /* (S) */
    uint8_t *routes;    /* (TOKENS, S, L) */
    float *logits;      /* (S, V) */
} decoder;

static void lay_out(decoder *d, duo_arena *arena)
{
    const duo_params *params = &d->model->params;
    const size_t max_T = d->begin + TOKENS;
    duo_cache_take(&d->cache, params, d->S, max_T, arena);
    d->tokens = DUO_TAKE(arena, int32_t, d->S);
    d->routes = DUO_TAKE(arena, uint8_t, TOKENS * d->S * d->L);
    d->logits = DUO_TAKE(arena, float, d->S * params->config.vocab_size);
    d->nodes = duo_nodes_take(params, d->S, max_T, arena);
}

static void run(void *context)
{
    decoder *d = context;
    for (size_t s = 0; s < d->S; s++) d->cache.lengths[s] = (uint32_t)d->begin;
    for (size_t t = 0; t < TOKENS; t++) {
        const duo_routing routing = {.kind = DUO_ROUTING_GIVEN,
                                     .routes = d->routes + t * d->S * d->L};
        duo_decode(d->nodes, d->model, &d->cache, d->tokens, &routing, d->logits);
    }
}

/* ---------------------------------------------------------------- the bound */

/* What one step of all sequences must read and compute. */
typedef struct demand {
    double bytes, flops;
} demand;

static void add_product(demand *sum, const duo_weight *weight, double rows)
{
    if (rows == 0) return;
    sum->bytes += (double)duo_pack_forward_bytes(weight);
    sum->flops += 2 * rows * (double)weight->O * (double)weight->I;
}

static demand demand_of(const decoder *d)
{
    const duo_config *c = &d->model->params.config;
    static const duo_slot attention[] = {DUO_P_Q, DUO_P_K, DUO_P_V, DUO_P_O};
    static const duo_slot ffn[DUO_MODULES][3] = {
        [DUO_SMALL] = {DUO_P_SMALL_GATE, DUO_P_SMALL_UP, DUO_P_SMALL_DOWN},
        [DUO_BIG] = {DUO_P_BIG_GATE, DUO_P_BIG_UP, DUO_P_BIG_DOWN}};
    const double S = (double)d->S, seen = (double)d->begin + (TOKENS + 1) / 2.0;
    demand sum = {0};
    for (size_t t = 0; t < TOKENS; t++) {
        for (size_t l = 0; l < d->L; l++) {
            double rows[DUO_MODULES] = {0};
            for (size_t s = 0; s < d->S; s++) rows[d->routes[(t * d->S + s) * d->L + l]]++;
            for (size_t i = 0; i < 4; i++)
                add_product(&sum, duo_model_weight(d->model, l, attention[i]), S);
            for (duo_module m = DUO_SMALL; m <= DUO_BIG; m++)
                for (size_t i = 0; i < 3; i++)
                    add_product(&sum, duo_model_weight(d->model, l, ffn[m][i]), rows[m]);
        }
        add_product(&sum, duo_model_head(d->model), S);
    }
    const double keys = 2 * (double)(duo_kv_width(c) * d->L) * sizeof(float);
    return (demand){sum.bytes / TOKENS + S * seen * keys, sum.flops / TOKENS};
}

/* ---------------------------------------------------------------- the part */

/* Where a token's time goes. */
static duo_status profile(const duo_bench *bench, decoder *d, const duo_bench_row *whole)
{
    const size_t repeats = bench_repeats(&bench->setting);
    bench_sample *samples = calloc(repeats, sizeof *samples);
    if (!samples) return duo_fail(DUO_ENOMEM, "bench: no memory for the times of kernels");
    for (size_t k = 0; k < repeats; k++) bench_sample_take(&samples[k], whole->precision, run, d);
    bench_emit_profile(bench, whole, samples, repeats, TOKENS);
    free(samples);
    return DUO_OK;
}

/* `rate`: bytes per second that can be read of so large a model. */
static duo_status measure_share(const duo_bench *bench, decoder *d, double share, double rate,
                                duo_precision precision, bool profiled)
{
    const double p[DUO_MODULES] = {[DUO_SMALL] = 1 - share, [DUO_BIG] = share};
    duo_routes_random(d->routes, TOKENS, d->S, d->L, p, 1, 0, 0);
    bench_random_ids(d->tokens, d->S, d->model->params.config.vocab_size);
    const bench_times times = bench_measure(&bench->setting, precision, run, d);
    const demand need = demand_of(d);
    const double by_bytes = need.bytes / rate;
    const double by_flops = need.flops * times.median / times.at_peak;

    char name[64];
    snprintf(name, sizeof name, "batch %zu, %.0f %% big", d->S, 100 * share);
    duo_bench_row row = bench_row(DUO_BENCH_GENERATE, name, precision);
    bench_row_rate(&row, times, (double)(TOKENS * d->S), "tok/s");
    row.seconds = times.median / TOKENS;
    row.limit = (double)d->S / fmax(by_bytes, by_flops);
    row.limit_name = by_bytes > by_flops ? "read" : "peak";
    bench_emit(bench, &row);
    return profiled ? profile(bench, d, &row) : DUO_OK;
}

static double packed_bytes(const duo_model *model)
{
    double bytes = (double)duo_pack_forward_bytes(duo_model_head(model));
    for (size_t l = 0; l < model->params.config.n_layers; l++)
        for (duo_slot slot = DUO_P_Q; slot <= DUO_P_SMALL_DOWN; slot++) {
            const duo_weight *weight = duo_model_weight(model, l, slot);
            if (weight->w) bytes += (double)duo_pack_forward_bytes(weight);
        }
    return bytes;
}

static duo_status measure_batch(const duo_bench *bench, duo_model *model, size_t S,
                                duo_precision precision)
{
    static const double shares[] = {0, 0.25, 0.5, 0.75, 1};
    const duo_config *c = &model->params.config;
    decoder d = {.model = model, .S = S, .L = c->n_layers};
    d.begin = c->max_seq > 2 * TOKENS ? c->max_seq / 2 - TOKENS : 0;
    if (d.begin + TOKENS > c->max_seq)
        return duo_fail(DUO_EINVAL, "bench: generation needs max_seq of at least %d", TOKENS);
    duo_arena arena, size = DUO_ARENA_MEASURE;
    lay_out(&d, &size);
    duo_status status = duo_arena_create(&arena, size.used, "generation");
    if (status != DUO_OK) return status;
    lay_out(&d, &arena);
    double rate = 0;
    status = bench_bandwidth(bench, true, packed_bytes(model), &rate);
    for (size_t i = 0; i < sizeof shares / sizeof *shares && status == DUO_OK; i++)
        status = measure_share(bench, &d, shares[i], rate, precision, shares[i] == 0.5);
    duo_arena_free(&arena);
    return status;
}

static duo_status measure(const duo_bench *bench, duo_precision precision)
{
    duo_model *model = NULL;
    duo_status status = duo_model_create(&model, &bench->setting.model);
    if (status != DUO_OK) return status;
    duo_model_init(model, DUO_ALL_GROUPS, 1);
    status = duo_model_pack(model, precision);
    if (status == DUO_OK) status = measure_batch(bench, model, 1, precision);
    if (status == DUO_OK) status = measure_batch(bench, model, MOST_SEQUENCES, precision);
    duo_model_free(model);
    return status;
}

duo_status bench_decode(duo_bench *bench)
{
    const duo_bench_setting *setting = &bench->setting;
    for (size_t p = 0; p < setting->n_precisions; p++)
        for (size_t i = 0; i < setting->n_threads; i++) {
            duo_status status = bench_start(bench, i);
            if (status == DUO_OK) status = measure(bench, setting->precisions[p]);
            if (status != DUO_OK) return status;
        }
    return DUO_OK;
}
