#include "step_kernels.h"

#include <math.h>
#include <string.h>

#include "duo/arena.h"
#include "duo/model.h"

/* What the calls of one step need; activations are those of one layer, weights those of all. */
typedef struct step {
    duo_model *model;
    duo_tree gradient, m, v;
    duo_attention_shape attention;
    size_t N, C, KV, F, V, head_rows;
    float *x, *h, *q, *k, *v_heads, *att, *dq, *dk, *dv; /* (N, C) and (N, KV) */
    float *gate, *up, *act, *da, *dgate, *dup;           /* (N, F) */
    float *r, *lse, *loss, *logits, *logits_lse, *scratch;
    uint32_t *positions;
    int32_t *tokens;
} step;

static void lay_out(step *s, duo_precision precision, duo_arena *arena)
{
    const duo_params *params = &s->model->params;
    const size_t N = s->N;
    duo_tree_take(&s->gradient, params, DUO_ALL_GROUPS, arena);
    duo_tree_take(&s->m, params, DUO_ALL_GROUPS, arena);
    duo_tree_take(&s->v, params, DUO_ALL_GROUPS, arena);
    float **const hidden[] = {&s->x, &s->h, &s->q, &s->att, &s->dq};
    float **const keys[] = {&s->k, &s->v_heads, &s->dk, &s->dv};
    float **const wide[] = {&s->gate, &s->up, &s->act, &s->da, &s->dgate, &s->dup};
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        *hidden[i] = DUO_TAKE(arena, float, N * s->C);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        *keys[i] = DUO_TAKE(arena, float, N * s->KV);
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        *wide[i] = DUO_TAKE(arena, float, N * s->F);
    s->r = DUO_TAKE(arena, float, N);
    s->lse = DUO_TAKE(arena, float, N * s->attention.H);
    s->loss = DUO_TAKE(arena, float, N);
    s->logits = DUO_TAKE(arena, float, s->head_rows * s->V);
    s->logits_lse = DUO_TAKE(arena, float, s->head_rows);
    s->scratch = DUO_TAKE(arena, float, duo_attention_scratch(s->attention));
    s->positions = DUO_TAKE(arena, uint32_t, N);
    s->tokens = DUO_TAKE(arena, int32_t, N);
    duo_model_take_packs(s->model, params, precision, true, arena);
}

static void fill(step *s)
{
    const size_t hidden = s->N * s->C, keys = s->N * s->KV, wide = s->N * s->F;
    float *const of_hidden[] = {s->x, s->h, s->q, s->att, s->dq};
    float *const of_keys[] = {s->k, s->v_heads, s->dk, s->dv};
    float *const of_wide[] = {s->gate, s->up, s->act, s->da, s->dgate, s->dup};
    for (unsigned i = 0; i < 5; i++) bench_fill(of_hidden[i], hidden, i);
    for (unsigned i = 0; i < 4; i++) bench_fill(of_keys[i], keys, i);
    for (unsigned i = 0; i < 6; i++) bench_fill(of_wide[i], wide, i);
    bench_fill(s->gradient.block, s->gradient.count, 5);
    for (size_t n = 0; n < s->N; n++) {
        s->positions[n] = (uint32_t)(n % s->attention.T);
        s->tokens[n] = (int32_t)(n * 7919 % s->V);
        s->r[n] = 1.0f;
    }
}

static size_t layers(const step *s)
{
    return s->model->params.config.n_layers;
}

/* ---------------------------------------------------------------- products */

/* The matrices of a layer with what they read and write; y is also where dy stands. */
typedef struct linear_call {
    duo_slot slot;
    float *x, *y, *dx;
} linear_call;

typedef struct linear_calls {
    linear_call call[4];
    size_t n;
    size_t together; /* the first of them, which read the same rows in one call */
} linear_calls;

static linear_calls calls_of_attention(const step *s)
{
    return (linear_calls){{{DUO_P_Q, s->h, s->q, s->x},
                           {DUO_P_K, s->h, s->k, s->x},
                           {DUO_P_V, s->h, s->v_heads, s->x},
                           {DUO_P_O, s->att, s->x, s->dq}},
                          4,
                          3};
}

static linear_calls calls_of_ffn(const step *s)
{
    return (linear_calls){{{DUO_P_BIG_GATE, s->h, s->gate, s->x},
                           {DUO_P_BIG_UP, s->h, s->up, s->x},
                           {DUO_P_BIG_DOWN, s->act, s->x, s->dgate}},
                          3,
                          2};
}

static void linear_forward(step *s, linear_calls calls)
{
    for (size_t l = 0; l < layers(s); l++) {
        duo_linear_output outputs[DUO_MAX_LINEAR];
        for (size_t i = 0; i < calls.n; i++)
            outputs[i] = (duo_linear_output){calls.call[i].y,
                                             duo_model_weight(s->model, l, calls.call[i].slot)};
        duo_linear_forward_each(outputs, calls.together, calls.call[0].x, s->N, NULL);
        for (size_t i = calls.together; i < calls.n; i++)
            duo_linear_forward(outputs[i].y, calls.call[i].x, outputs[i].weight, NULL, s->N, NULL,
                               NULL, false);
    }
}

static void linear_backward_input(step *s, linear_calls calls)
{
    for (size_t l = layers(s); l-- > 0;)
        for (size_t i = 0; i < calls.n; i++)
            duo_linear_backward_input(calls.call[i].dx, calls.call[i].y,
                                      duo_model_weight(s->model, l, calls.call[i].slot), s->N, NULL,
                                      NULL, false);
}

static void linear_backward_weight(step *s, linear_calls calls)
{
    for (size_t l = layers(s); l-- > 0;) {
        duo_linear_gradient gradients[DUO_MAX_LINEAR];
        const duo_weight *weight = NULL;
        for (size_t i = 0; i < calls.n; i++) {
            const duo_slot slot = calls.call[i].slot;
            weight = duo_model_weight(s->model, l, slot);
            gradients[i] = (duo_linear_gradient){duo_tree_at(&s->gradient, l, slot),
                                                 calls.call[i].y, weight->O};
        }
        duo_linear_backward_weight_each(gradients, calls.together, calls.call[0].x, s->N, s->C,
                                        NULL, weight->precision);
        for (size_t i = calls.together; i < calls.n; i++) {
            weight = duo_model_weight(s->model, l, calls.call[i].slot);
            duo_linear_backward_weight(gradients[i].dw, NULL, calls.call[i].y, calls.call[i].x,
                                       s->N, weight->O, weight->I, NULL, NULL, weight->precision);
        }
    }
}

static void attention_linear_forward(void *s)
{
    linear_forward(s, calls_of_attention(s));
}

static void attention_linear_input(void *s)
{
    linear_backward_input(s, calls_of_attention(s));
}

static void attention_linear_weight(void *s)
{
    linear_backward_weight(s, calls_of_attention(s));
}

static void ffn_linear_forward(void *s)
{
    linear_forward(s, calls_of_ffn(s));
}

static void ffn_linear_input(void *s)
{
    linear_backward_input(s, calls_of_ffn(s));
}

static void ffn_linear_weight(void *s)
{
    linear_backward_weight(s, calls_of_ffn(s));
}

static size_t head_block(const step *s, size_t n)
{
    return s->N - n < s->head_rows ? s->N - n : s->head_rows;
}

static void head_forward(void *context)
{
    step *s = context;
    for (size_t n = 0; n < s->N; n += s->head_rows)
        duo_linear_forward(s->logits, s->h + n * s->C, duo_model_head(s->model), NULL,
                           head_block(s, n), NULL, NULL, false);
}

static void head_input(void *context)
{
    step *s = context;
    for (size_t n = 0; n < s->N; n += s->head_rows)
        duo_linear_backward_input(s->x + n * s->C, s->logits, duo_model_head(s->model),
                                  head_block(s, n), NULL, NULL, false);
}

static void head_weight(void *context)
{
    step *s = context;
    const duo_weight *head = duo_model_head(s->model);
    const bool tied = s->model->params.config.tied_embeddings;
    float *dw = duo_tree_at(&s->gradient, 0, tied ? DUO_P_TOK_EMB : DUO_P_LM_HEAD);
    for (size_t n = 0; n < s->N; n += s->head_rows)
        duo_linear_backward_weight(dw, NULL, s->logits, s->h + n * s->C, head_block(s, n), s->V,
                                   s->C, NULL, NULL, head->precision);
}

/* ---------------------------------------------------------------- the rest of a layer */

static void attention_forward(void *context)
{
    step *s = context;
    for (size_t l = 0; l < layers(s); l++)
        duo_attention_forward(s->att, s->lse, s->q, s->k, s->v_heads, s->attention, s->scratch);
}

static void attention_backward(void *context)
{
    step *s = context;
    for (size_t l = 0; l < layers(s); l++)
        duo_attention_backward(s->dq, s->dk, s->dv, s->h, s->q, s->k, s->v_heads, s->att, s->lse,
                               s->attention, s->scratch);
}

static void swiglu_forward(void *context)
{
    step *s = context;
    for (size_t l = 0; l < layers(s); l++) duo_swiglu_forward(s->act, s->gate, s->up, s->N * s->F);
}

static void swiglu_backward(void *context)
{
    step *s = context;
    for (size_t l = 0; l < layers(s); l++)
        duo_swiglu_backward(s->dgate, s->dup, s->act, s->da, s->gate, s->up, s->N * s->F);
}

static void norms(void *context)
{
    step *s = context;
    const duo_tree *w = &s->model->weights;
    for (size_t i = 0; i < 2 * layers(s) + 1; i++) {
        const bool last = i == 2 * layers(s);
        const duo_slot slot = last        ? DUO_P_FINAL_NORM
                              : i % 2 > 0 ? DUO_P_FFN_NORM
                                          : DUO_P_ATTN_NORM;
        const size_t l = last ? 0 : i / 2;
        const float *g = duo_tree_at(w, l, slot);
        duo_rmsnorm_forward(s->att, s->r, s->x, g, s->N, s->C, 1e-5f);
        duo_rmsnorm_backward(s->dq, duo_tree_at(&s->gradient, l, slot), s->h, s->x, g, s->r, s->N,
                             s->C);
    }
}

static void rotations(void *context)
{
    step *s = context;
    const duo_attention_shape *a = &s->attention;
    for (size_t l = 0; l < layers(s); l++) {
        duo_rope_forward(s->q, s->model->rope, s->positions, s->N, a->H, a->D);
        duo_rope_forward(s->k, s->model->rope, s->positions, s->N, a->Hkv, a->D);
        duo_rope_backward(s->dq, s->model->rope, s->positions, s->N, a->H, a->D);
        duo_rope_backward(s->dk, s->model->rope, s->positions, s->N, a->Hkv, a->D);
    }
}

static void copies(void *context)
{
    step *s = context;
    for (size_t i = 0; i < 2 * layers(s); i++) duo_copy(s->x, s->dq, s->N * s->C);
    for (size_t l = 0; l < layers(s) + 1; l++) duo_clear(s->h, s->N * s->C);
}

/* ---------------------------------------------------------------- ends of the step */

static void cross_entropy(void *context)
{
    step *s = context;
    for (size_t n = 0; n < s->N; n += s->head_rows) {
        duo_cross_entropy_forward(s->loss + n, s->logits_lse, s->logits, s->tokens + n,
                                  head_block(s, n), s->V);
        duo_cross_entropy_backward(s->logits, s->logits_lse, s->tokens + n, 1e-3f, head_block(s, n),
                                   s->V);
    }
}

static void embedding(void *context)
{
    step *s = context;
    duo_embedding_forward(s->x, duo_tree_at(&s->model->weights, 0, DUO_P_TOK_EMB), s->tokens, s->N,
                          s->C);
    duo_embedding_backward(duo_tree_at(&s->gradient, 0, DUO_P_TOK_EMB), s->x, s->tokens, s->N,
                           s->C);
}

static void optimizer(void *context)
{
    step *s = context;
    const duo_adamw setting = {.lr = 1e-4f,
                               .beta1 = 0.9f,
                               .beta2 = 0.95f,
                               .eps = 1e-8f,
                               .decay = 0.1f,
                               .correction1 = 0.1f,
                               .correction2 = 0.05f};
    s->loss[0] = (float)duo_sum_squares(s->gradient.block, s->gradient.count);
    duo_adamw_step(s->model->weights.block, s->m.block, s->v.block, s->gradient.block,
                   s->gradient.count, &setting);
    duo_clear(s->gradient.block, s->gradient.count);
}

static void packing(void *context)
{
    step *s = context;
    duo_model_repack(s->model, DUO_ALL_GROUPS);
}

/* ---------------------------------------------------------------- all of them */

typedef struct step_part {
    const char *name;
    bench_work *run;
    double flops; /* 0: a matter of memory */
    bool once;    /* in a step, however many micro-batches it has */
} step_part;

static void measure(duo_bench *bench, step *s, duo_precision precision, double step_seconds)
{
    const double L = (double)layers(s), N = (double)s->N, C = (double)s->C;
    const double attention = 4 * L * N * C * (C + (double)s->KV),
                 ffn = 6 * L * N * C * (double)s->F;
    const double head = 2 * N * C * (double)s->V;
    const double pairs = (double)(s->attention.B * s->attention.H * s->attention.T) *
                         ((double)s->attention.T + 1) / 2;
    const double scores = 2 * L * pairs * (double)s->attention.D;
    const step_part parts[] = {
        {"  ffn, y = x W^T", ffn_linear_forward, ffn, false},
        {"  ffn, dx = dy W", ffn_linear_input, ffn, false},
        {"  ffn, dW += dy^T x", ffn_linear_weight, ffn, false},
        {"  attention, y = x W^T", attention_linear_forward, attention, false},
        {"  attention, dx = dy W", attention_linear_input, attention, false},
        {"  attention, dW += dy^T x", attention_linear_weight, attention, false},
        {"  head, y = x W^T", head_forward, head, false},
        {"  head, dx = dy W", head_input, head, false},
        {"  head, dW += dy^T x", head_weight, head, false},
        {"  attention forward", attention_forward, 2 * scores, false},
        {"  attention backward", attention_backward, 5 * scores, false},
        {"  swiglu forward", swiglu_forward, 0, false},
        {"  swiglu backward", swiglu_backward, 0, false},
        {"  cross-entropy", cross_entropy, 0, false},
        {"  norms", norms, 0, false},
        {"  rotations", rotations, 0, false},
        {"  embedding", embedding, 0, false},
        {"  copies and zeros", copies, 0, false},
        {"  optimizer", optimizer, 0, true},
        {"  packing weights", packing, 0, true},
    };
    const duo_stage_recipe *stage = &bench->setting.stage;
    const double micro_batches = (double)(stage->batch_size / stage->micro_batch);
    double sum = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        duo_bench_row row = bench_row(DUO_BENCH_STEP, parts[i].name, precision);
        const bench_times times = bench_measure(&bench->setting, precision, parts[i].run, s);
        if (parts[i].flops > 0) bench_row_flops(&row, times, parts[i].flops);
        row.seconds = times.median * (parts[i].once ? 1 : micro_batches);
        row.part_of_step = row.seconds / step_seconds;
        sum += row.seconds;
        bench_emit(bench, &row);
    }
    duo_bench_row rest = bench_row(DUO_BENCH_STEP, "  the rest of the step", precision);
    rest.seconds = step_seconds - sum;
    rest.part_of_step = rest.seconds / step_seconds;
    bench_emit(bench, &rest);
}

duo_status bench_step_kernels(duo_bench *bench, duo_precision precision, double step_seconds)
{
    const duo_config *c = &bench->setting.model;
    const duo_stage_recipe *stage = &bench->setting.stage;
    const size_t B = stage->micro_batch, T = stage->seq_len, D = duo_head_width(c), N = B * T;
    step s = {.N = N,
              .C = c->d_model,
              .KV = c->n_kv_heads * D,
              .F = c->d_big,
              .V = c->vocab_size,
              .head_rows = N < 1024 ? N : 1024,
              .attention = {B, T, c->n_heads, c->n_kv_heads, D, precision}};
    duo_arena arena = {0}, size = DUO_ARENA_MEASURE;
    duo_status status = duo_model_create(&s.model, c);
    if (status != DUO_OK) return status;
    duo_model_init(s.model, DUO_ALL_GROUPS, 1);
    lay_out(&s, precision, &size);
    status = duo_arena_create(&arena, size.used, "kernels of a step");
    if (status != DUO_OK) goto done;
    lay_out(&s, precision, &arena);
    duo_model_repack(s.model, DUO_ALL_GROUPS);
    fill(&s);
    measure(bench, &s, precision, step_seconds);

done:
    duo_model_drop_packs(s.model);
    duo_model_free(s.model);
    duo_arena_free(&arena);
    return status;
}
