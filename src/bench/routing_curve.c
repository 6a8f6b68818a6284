#include <stdio.h>
#include <string.h>

#include "bench_internal.h"
#include "duo/arena.h"
#include "duo/model.h"
#include "duo/rng.h"

enum { SHARES = 5, OTHERS = 2, POINTS = SHARES * OTHERS - 1 };
static const double shares[SHARES] = {0, 0.25, 0.5, 0.75, 1};

/* A whole training step on given routes, of which one after the other is measured. */
typedef struct routing {
    duo_model *model;
    duo_tree gradient, m, v;
    duo_pass *pass;
    size_t B, T, L;
    int32_t *tokens;
    float *loss;
    double norm; /* so that it is wanted */
} routing;

typedef struct point {
    routing *routing;
    uint8_t *routes;
    double share, flops; /* of big; forward, of the whole batch */
    duo_module other;    /* what the rest takes */
} point;

static void lay_out(routing *r, point points[POINTS], duo_precision precision, duo_arena *arena)
{
    const duo_params *params = &r->model->params;
    const size_t N = r->B * r->T;
    duo_tree_take(&r->gradient, params, DUO_ALL_GROUPS, arena);
    duo_tree_take(&r->m, params, DUO_ALL_GROUPS, arena);
    duo_tree_take(&r->v, params, DUO_ALL_GROUPS, arena);
    r->tokens = DUO_TAKE(arena, int32_t, r->B * (r->T + 1));
    r->loss = DUO_TAKE(arena, float, N);
    for (size_t i = 0; i < POINTS; i++) points[i].routes = DUO_TAKE(arena, uint8_t, N * r->L);
    duo_model_take_packs(r->model, params, precision, true, arena);
    const duo_pass_shape shape = {.B = r->B, .T = r->T, .backward = true, .attention = precision};
    r->pass = duo_pass_take(params, shape, arena);
}

/* The all-big point is the last one of the first curve and ends the second, too. */
static void set_points(routing *r, point points[POINTS])
{
    const duo_config *c = &r->model->params.config;
    const size_t N = r->B * r->T;
    const double context = ((double)r->T + 1) / 2;
    for (size_t i = 0; i < POINTS; i++) {
        point *at = &points[i];
        double p[DUO_MODULES] = {0};
        uint64_t uses[DUO_MODULES] = {0};
        at->routing = r;
        at->share = shares[i % SHARES];
        at->other = i < SHARES ? DUO_SMALL : DUO_SKIP;
        p[at->other] = 1 - at->share;
        p[DUO_BIG] += at->share;
        duo_routes_random(at->routes, r->B, r->T, r->L, p, 1, i, 0);
        for (size_t n = 0; n < N * r->L; n++) uses[at->routes[n]]++;
        at->flops = (double)N * duo_flops_base(c, context);
        for (duo_module m = DUO_SMALL; m <= DUO_BIG; m++)
            at->flops += (double)uses[m] * duo_flops_ffn(c, m);
    }
}

static void run_forward(void *context)
{
    const point *at = context;
    routing *r = at->routing;
    const duo_routing routes = {.kind = DUO_ROUTING_GIVEN, .routes = at->routes};
    duo_pass_forward(r->pass, r->model, r->tokens, &routes);
    duo_pass_loss(r->pass, r->model, r->loss, NULL, 0);
}

/* What a trainer does in a step, every module trained. */
static void run_step(void *context)
{
    const point *at = context;
    routing *r = at->routing;
    const duo_routing routes = {.kind = DUO_ROUTING_GIVEN, .routes = at->routes};
    const duo_adamw setting = {.lr = 1e-5f,
                               .beta1 = 0.9f,
                               .beta2 = 0.95f,
                               .eps = 1e-8f,
                               .correction1 = 0.1f,
                               .correction2 = 0.05f,
                               .scale = 1.0f};
    memset(r->gradient.block, 0, r->gradient.count * sizeof(float));
    duo_pass_forward(r->pass, r->model, r->tokens, &routes);
    duo_pass_loss(r->pass, r->model, r->loss, &r->gradient, 1.0f / (float)(r->B * r->T));
    duo_pass_backward(r->pass, r->model, &routes, &r->gradient, 0);
    r->norm = duo_sum_squares(r->gradient.block, r->gradient.count);
    duo_adamw_step(r->model->weights.block, r->m.block, r->v.block, r->gradient.block,
                   r->gradient.count, &setting);
    duo_model_repack(r->model, DUO_ALL_GROUPS);
}

/* The FLOP model's line goes through the all-big point: time in proportion to FLOPs. The chord goes
 * through both ends of the curve, and so leaves out what every token costs. */
static void emit_points(const duo_bench *bench, const point points[POINTS],
                        const bench_times times[POINTS], const char *what, duo_precision precision)
{
    const size_t all_big = SHARES - 1;
    const double tokens = (double)(points->routing->B * points->routing->T);
    for (size_t i = 0; i < POINTS; i++) {
        const point *at = &points[i];
        const size_t begin = i < SHARES ? 0 : SHARES;
        const double t0 = times[begin].median, t1 = times[all_big].median;
        char name[64];
        snprintf(name, sizeof name, "%s, %3.0f %% big, rest %s", what, 100 * at->share,
                 duo_module_name(at->other));
        duo_bench_row row = bench_row(DUO_BENCH_ROUTING, name, precision);
        bench_row_rate(&row, times[i], tokens, "tok/s");
        row.limit = tokens / (t1 * at->flops / points[all_big].flops);
        row.limit_name = "FLOP line";
        row.off_chord = times[i].median / (t0 + (t1 - t0) * at->share) - 1;
        bench_emit(bench, &row);
    }
}

static void measure(const duo_bench *bench, point points[POINTS], duo_precision precision)
{
    static const struct {
        const char *name;
        bench_work *run;
    } works[] = {{"forward", run_forward}, {"step", run_step}};
    for (size_t w = 0; w < sizeof works / sizeof *works; w++) {
        bench_work *work[POINTS];
        void *contexts[POINTS];
        bench_times times[POINTS];
        for (size_t i = 0; i < POINTS; i++) {
            work[i] = works[w].run;
            contexts[i] = &points[i];
        }
        bench_measure_in_turns(&bench->setting, precision, POINTS, work, contexts, times);
        emit_points(bench, points, times, works[w].name, precision);
    }
}

static duo_status measure_curve(const duo_bench *bench, duo_precision precision)
{
    const duo_bench_setting *setting = &bench->setting;
    routing r = {
        .B = setting->stage.micro_batch, .T = setting->stage.seq_len, .L = setting->model.n_layers};
    point points[POINTS];
    duo_arena arena = {0}, size = DUO_ARENA_MEASURE;
    duo_status status = duo_model_create(&r.model, &setting->model);
    if (status != DUO_OK) return status;
    duo_model_init(r.model, DUO_ALL_GROUPS, 1);
    lay_out(&r, points, precision, &size);
    status = duo_arena_create(&arena, size.used, "routed step");
    if (status != DUO_OK) goto done;
    lay_out(&r, points, precision, &arena);
    duo_model_repack(r.model, DUO_ALL_GROUPS);
    set_points(&r, points);
    bench_random_ids(r.tokens, r.B * (r.T + 1), setting->model.vocab_size);
    measure(bench, points, precision);

done:
    duo_model_drop_packs(r.model);
    duo_model_free(r.model);
    duo_arena_free(&arena);
    return status;
}

duo_status bench_routing(duo_bench *bench)
{
    const duo_bench_setting *setting = &bench->setting;
    for (size_t p = 0; p < setting->n_precisions; p++)
        for (size_t i = 0; i < setting->n_threads; i++) {
            duo_status status = bench_start(bench, i);
            if (status == DUO_OK) status = measure_curve(bench, setting->precisions[p]);
            if (status != DUO_OK) return status;
        }
    return DUO_OK;
}
