#include <math.h>
#include <string.h>

#include "bench_internal.h"
#include "duo/arena.h"
#include "duo/model.h"
#include "plain.h"

enum { MODULES = 2, CHECKED = 16 }; /* rows that are held against the plain loop */

static const float norm_eps = 1e-5f, tau = 0.7f, dloss = 1e-3f;

/* Operands of the kernels that work row by row, in the sizes of the model's training step. */
typedef struct operands {
    size_t N, C, F, H, D, V, head_rows, parameters, room;
    double theta;
    float *out[3], *in[3]; /* (room) each */
    float *r;              /* (N) */
    float *rope;           /* (T, D/2, 2) */
    uint32_t *positions;   /* (N) */
    int32_t *targets;      /* (N) */
    double sum;            /* so that it is wanted */
} operands;

/* A kernel: `run` is timed; `prepare` puts the inputs of what `error` checks after one run. */
typedef struct rows_case {
    const char *name;
    void (*prepare)(operands *o);
    bench_work *run;
    double (*error)(operands *o);
    double bytes; /* moved by one call */
    double holds; /* bytes of the operands: less when one is read and written */
    bool reads_only;
} rows_case;

static size_t checked(const operands *o)
{
    return o->N < CHECKED ? o->N : CHECKED;
}

/* ---------------------------------------------------------------- activations, norms, rotation */

static void run_swiglu(void *context)
{
    operands *o = context;
    duo_swiglu_forward(o->out[0], o->in[0], o->in[1], o->N * o->F);
}

static double error_swiglu(operands *o)
{
    return plain_swiglu(o->out[0], o->in[0], o->in[1], checked(o) * o->F);
}

static void run_swiglu_backward(void *context)
{
    operands *o = context;
    duo_swiglu_backward(o->out[0], o->out[1], o->out[2], o->in[2], o->in[0], o->in[1], o->N * o->F);
}

static double error_swiglu_backward(operands *o)
{
    return plain_swiglu_gradient(o->out[0], o->out[1], o->in[2], o->in[0], o->in[1],
                                 checked(o) * o->F);
}

static void run_rmsnorm(void *context)
{
    operands *o = context;
    duo_rmsnorm_forward(o->out[0], o->r, o->in[0], o->in[1], o->N, o->C, norm_eps);
}

static double error_rmsnorm(operands *o)
{
    return plain_rmsnorm(o->out[0], o->in[0], o->in[1], checked(o), o->C, (double)norm_eps);
}

static void clear_output(operands *o)
{
    run_rmsnorm(o); /* for r */
    memset(o->out[0], 0, o->N * o->C * sizeof(float));
}

static void run_rmsnorm_backward(void *context)
{
    operands *o = context;
    duo_rmsnorm_backward(o->out[0], o->out[1], o->in[2], o->in[0], o->in[1], o->r, o->N, o->C);
}

static double error_rmsnorm_backward(operands *o)
{
    return plain_rmsnorm_gradient(o->out[0], o->in[2], o->in[0], o->in[1], checked(o), o->C,
                                  (double)norm_eps);
}

static void copy_hidden(operands *o)
{
    memcpy(o->out[0], o->in[0], o->N * o->C * sizeof(float));
}

static void run_rope(void *context)
{
    operands *o = context;
    duo_rope_forward(o->out[0], o->rope, o->positions, o->N, o->H, o->D);
}

static double error_rope(operands *o)
{
    return plain_rope(o->out[0], o->in[0], o->positions, checked(o), o->H, o->D, o->theta);
}

/* ---------------------------------------------------------------- losses and routing */

static void copy_logits(operands *o)
{
    memcpy(o->out[0], o->in[0], o->head_rows * o->V * sizeof(float));
    duo_cross_entropy_forward(o->out[1], o->r, o->out[0], o->targets, o->head_rows, o->V);
}

static void run_cross_entropy(void *context)
{
    operands *o = context;
    duo_cross_entropy_forward(o->out[1], o->r, o->in[0], o->targets, o->head_rows, o->V);
}

static double error_cross_entropy(operands *o)
{
    return plain_cross_entropy(o->out[1], o->in[0], o->targets, checked(o), o->V);
}

static void run_cross_entropy_backward(void *context)
{
    operands *o = context;
    duo_cross_entropy_backward(o->out[0], o->r, o->targets, dloss, o->head_rows, o->V);
}

static double error_cross_entropy_backward(operands *o)
{
    return plain_cross_entropy_gradient(o->out[0], o->in[0], o->targets, (double)dloss, checked(o),
                                        o->V);
}

static void run_gumbel(void *context)
{
    operands *o = context;
    duo_gumbel_softmax_forward(o->out[0], o->out[1], o->in[0], o->in[1], tau, false, o->N, MODULES);
}

static double error_gumbel(operands *o)
{
    return plain_gumbel_softmax(o->out[0], o->in[0], o->in[1], (double)tau, checked(o), MODULES);
}

/* ---------------------------------------------------------------- optimizer */

static const duo_adamw adamw = {.lr = 1e-3f,
                                .beta1 = 0.9f,
                                .beta2 = 0.95f,
                                .eps = 1e-8f,
                                .decay = 0.1f,
                                .correction1 = 0.1f,
                                .correction2 = 0.05f,
                                .scale = 0.5f};

static void first_step(operands *o)
{
    memcpy(o->out[0], o->in[0], o->parameters * sizeof(float));
    memset(o->out[1], 0, o->parameters * sizeof(float));
    memset(o->out[2], 0, o->parameters * sizeof(float));
}

static void run_adamw(void *context)
{
    operands *o = context;
    duo_adamw_step(o->out[0], o->out[1], o->out[2], o->in[1], o->parameters, &adamw);
}

/* From moments of zero and with their corrections, one step is a sign with a soft corner. */
static double error_adamw(operands *o)
{
    plain_error error = {0};
    for (size_t i = 0; i < checked(o) * o->C && i < o->parameters; i++) {
        const double g = (double)adamw.scale * (double)o->in[1][i], w = (double)o->in[0][i];
        const double m = (1 - (double)adamw.beta1) * g / (double)adamw.correction1;
        const double v = (1 - (double)adamw.beta2) * g * g / (double)adamw.correction2;
        const double step = m / (sqrt(v) + (double)adamw.eps) + (double)adamw.decay * w;
        plain_compare(&error, (double)o->out[0][i], w - (double)adamw.lr * step);
    }
    return plain_error_value(&error);
}

static void run_sum_squares(void *context)
{
    operands *o = context;
    o->sum = duo_sum_squares(o->in[0], o->parameters);
}

static double error_sum_squares(operands *o)
{
    plain_error error = {0};
    double sum = 0;
    for (size_t i = 0; i < o->parameters; i++) sum += (double)o->in[0][i] * (double)o->in[0][i];
    plain_compare(&error, o->sum, sum);
    return plain_error_value(&error);
}

/* ---------------------------------------------------------------- all of them */

static void lay_out(operands *o, size_t T, duo_arena *arena)
{
    for (int i = 0; i < 3; i++) o->out[i] = DUO_TAKE(arena, float, o->room);
    for (int i = 0; i < 3; i++) o->in[i] = DUO_TAKE(arena, float, o->room);
    o->r = DUO_TAKE(arena, float, o->N);
    o->rope = DUO_TAKE(arena, float, T * o->D);
    o->positions = DUO_TAKE(arena, uint32_t, o->N);
    o->targets = DUO_TAKE(arena, int32_t, o->N);
}

static duo_status set_sizes(operands *o, const duo_bench_setting *setting)
{
    const duo_config *c = &setting->model;
    duo_params params;
    const duo_status status = duo_params_create(&params, c);
    if (status != DUO_OK) return status;
    *o = (operands){.N = setting->stage.micro_batch * setting->stage.seq_len,
                    .C = c->d_model,
                    .F = c->d_big,
                    .H = c->n_heads,
                    .D = duo_head_width(c),
                    .V = c->vocab_size,
                    .parameters = duo_params_count(&params, DUO_ALL_GROUPS),
                    .theta = c->rope_theta};
    duo_params_free(&params);
    o->head_rows = o->N < 1024 ? o->N : 1024;
    o->room = o->N * (o->C > o->F ? o->C : o->F);
    if (o->room < o->head_rows * o->V) o->room = o->head_rows * o->V;
    if (o->room < o->parameters) o->room = o->parameters;
    return DUO_OK;
}

static duo_status measure(const duo_bench *bench, operands *o, const rows_case *kernel)
{
    if (!bench_wanted(bench, kernel->name)) return DUO_OK;
    duo_bench_row row = bench_row(DUO_BENCH_KERNELS, kernel->name, DUO_FP32);
    if (kernel->prepare) kernel->prepare(o);
    kernel->run(o);
    row.error = kernel->error(o);
    const bench_times times = bench_measure(&bench->setting, DUO_FP32, kernel->run, o);
    double rate = 0;
    const duo_status status = bench_bandwidth(bench, kernel->reads_only, kernel->holds, &rate);
    if (status != DUO_OK) return status;
    bench_row_bytes(&row, times, kernel->bytes, kernel->reads_only, rate);
    bench_emit(bench, &row);
    return DUO_OK;
}

duo_status bench_rows_kernels(duo_bench *bench)
{
    const size_t T = bench->setting.stage.seq_len;
    operands o;
    duo_status status = set_sizes(&o, &bench->setting);
    if (status != DUO_OK) return status;
    duo_arena arena, size = DUO_ARENA_MEASURE;
    lay_out(&o, T, &size);
    status = duo_arena_create(&arena, size.used, "operands of row kernels");
    if (status != DUO_OK) return status;
    lay_out(&o, T, &arena);
    for (unsigned i = 0; i < 3; i++) bench_fill(o.in[i], o.room, i);
    duo_rope_table(o.rope, T, o.D, o.theta);
    for (size_t n = 0; n < o.N; n++) {
        o.positions[n] = (uint32_t)(n % T);
        o.targets[n] = (int32_t)(n * 7919 % o.V);
    }

    const double hidden = 4.0 * (double)(o.N * o.C), wide = 4.0 * (double)(o.N * o.F);
    const double logits = 4.0 * (double)(o.head_rows * o.V), all = 4.0 * (double)o.parameters;
    const double gumbel = 4.0 * (double)(o.N * MODULES);
    const rows_case kernels[] = {
        {"swiglu forward", NULL, run_swiglu, error_swiglu, 3 * wide, 3 * wide, false},
        {"swiglu backward", NULL, run_swiglu_backward, error_swiglu_backward, 6 * wide, 6 * wide,
         false},
        {"rmsnorm forward", NULL, run_rmsnorm, error_rmsnorm, 2 * hidden, 2 * hidden, false},
        {"rmsnorm backward", clear_output, run_rmsnorm_backward, error_rmsnorm_backward, 4 * hidden,
         3 * hidden, false},
        {"rope", copy_hidden, run_rope, error_rope, 2 * hidden, hidden, false},
        {"cross-entropy forward", NULL, run_cross_entropy, error_cross_entropy, logits, logits,
         true},
        {"cross-entropy backward", copy_logits, run_cross_entropy_backward,
         error_cross_entropy_backward, 2 * logits, logits, false},
        {"gumbel-softmax forward", NULL, run_gumbel, error_gumbel, 4 * gumbel, 4 * gumbel, false},
        {"adamw", first_step, run_adamw, error_adamw, 7 * all, 4 * all, false},
        {"sum of squares", NULL, run_sum_squares, error_sum_squares, all, all, true},
    };
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels && status == DUO_OK; i++)
        status = measure(bench, &o, &kernels[i]);
    duo_arena_free(&arena);
    return status;
}
