#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench_internal.h"
#include "duo/arena.h"
#include "duo/rng.h"
#include "duo/sizes.h"

/* The three products of a linear layer. */
typedef enum direction { FORWARD, BACKWARD_INPUT, BACKWARD_WEIGHT } direction;

/* W is (O, I). A routed product takes every other row, as half of the tokens of a layer do. */
typedef struct linear_case {
    direction direction;
    size_t rows, O, I;
    bool packed, routed;
} linear_case;

typedef struct linear {
    linear_case is;
    duo_weight weight;
    float *w, *x, *y;          /* (O, I), (all rows, I), (all rows, O) */
    uint32_t *rows;            /* NULL: all */
    double *projected, *signs; /* of the check, for any dimension */
} linear;

static size_t all_rows(const linear_case *c)
{
    return c->routed ? 2 * c->rows : c->rows;
}

static void lay_out(linear *l, duo_arena *arena)
{
    const linear_case *c = &l->is;
    const size_t total = all_rows(c);
    l->w = DUO_TAKE(arena, float, c->O * c->I);
    l->x = DUO_TAKE(arena, float, total * c->I);
    l->y = DUO_TAKE(arena, float, total * c->O);
    l->rows = c->routed ? DUO_TAKE(arena, uint32_t, c->rows) : NULL;
    if (c->packed && c->direction == FORWARD)
        l->weight.forward = duo_arena_take(arena, duo_pack_forward_bytes(&l->weight), 1);
    if (c->packed && c->direction == BACKWARD_INPUT)
        l->weight.backward = duo_arena_take(arena, duo_pack_backward_bytes(&l->weight), 1);
    const size_t longest = duo_max(c->rows, duo_max(c->O, c->I));
    l->projected = DUO_TAKE(arena, double, longest);
    l->signs = DUO_TAKE(arena, double, longest);
}

static void run(void *context)
{
    linear *l = context;
    const linear_case *c = &l->is;
    switch (c->direction) {
    case FORWARD:
        duo_linear_forward(l->y, l->x, &l->weight, NULL, c->rows, l->rows, l->rows, false);
        break;
    case BACKWARD_INPUT:
        duo_linear_backward_input(l->x, l->y, &l->weight, c->rows, l->rows, l->rows, false);
        break;
    case BACKWARD_WEIGHT:
        duo_linear_backward_weight(l->w, NULL, l->y, l->x, c->rows, c->O, c->I, l->rows, l->rows,
                                   l->weight.precision);
        break;
    }
}

/* ---------------------------------------------------------------- error */

/* What a bf16 product reads: the nearest number with 8 bits of mantissa, ties to even. */
static double operand(float x, duo_precision precision)
{
    if (precision == DUO_FP32) return (double)x;
    uint32_t bits = 0;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return (double)x;
}

/* A matrix as the check walks over it; a list of rows stands for the tokens' dimension. */
typedef struct view {
    const float *data;
    size_t to_i, to_j; /* from an element to its neighbour */
    const uint32_t *rows_i, *rows_j;
} view;

static double at(const view *v, size_t i, size_t j, duo_precision precision)
{
    const size_t row = v->rows_i ? v->rows_i[i] : i, column = v->rows_j ? v->rows_j[j] : j;
    return operand(v->data[row * v->to_i + column * v->to_j], precision);
}

/*
 * With signs t of +-1, C = A B gives C t = A (B t): two products with a vector instead of one of
 * matrices, and an error in one element of C is not lost in them. A (M, K), B (K, N), C (M, N).
 */
static double projected_error(const linear *l, view c, view a, view b, size_t M, size_t N, size_t K)
{
    const duo_precision precision = l->weight.precision;
    double worst = 0, squares = 0;
    for (size_t k = 0; k < K; k++) {
        l->projected[k] = 0;
        for (size_t n = 0; n < N; n++) l->projected[k] += at(&b, k, n, precision) * l->signs[n];
    }
    for (size_t m = 0; m < M; m++) {
        double got = 0, want = 0;
        for (size_t n = 0; n < N; n++) got += at(&c, m, n, DUO_FP32) * l->signs[n];
        for (size_t k = 0; k < K; k++) want += at(&a, m, k, precision) * l->projected[k];
        worst = fmax(worst, fabs(got - want));
        squares += want * want;
    }
    return worst / sqrt(squares / (double)M);
}

static double error_of(linear *l)
{
    const size_t n = l->is.rows, O = l->is.O, I = l->is.I;
    const view x = {l->x, I, 1, l->rows, NULL}, y = {l->y, O, 1, l->rows, NULL};
    const view w = {l->w, I, 1, NULL, NULL}, w_turned = {l->w, 1, I, NULL, NULL};
    const view y_turned = {l->y, 1, O, NULL, l->rows};
    if (l->is.direction == FORWARD) {
        run(l);
        return projected_error(l, y, x, w_turned, n, O, I);
    }
    if (l->is.direction == BACKWARD_INPUT) {
        run(l);
        return projected_error(l, x, y, w, n, I, O);
    }
    memset(l->w, 0, O * I * sizeof *l->w); /* the product adds */
    run(l);
    return projected_error(l, w, y_turned, x, O, I, n);
}

/* ---------------------------------------------------------------- one product */

/* Up to which a weight is read for too few multiplications to be hidden under them. */
enum { MEMORY_BOUND_ROWS = 64 };

static void fill(linear *l)
{
    const linear_case *c = &l->is;
    const size_t total = all_rows(c);
    bench_fill(l->w, c->O * c->I, 1);
    bench_fill(l->x, total * c->I, 2);
    bench_fill(l->y, total * c->O, 3);
    for (size_t i = 0; l->rows && i < c->rows; i++) {
        const duo_random4 r = duo_random(1, DUO_RNG_TEST, (duo_place){.step = i, .row = 4});
        l->rows[i] = (uint32_t)(2 * i + r.word[0] % 2);
    }
    for (size_t i = 0; i < duo_max(c->O, c->I); i++) {
        const duo_random4 r = duo_random(1, DUO_RNG_TEST, (duo_place){.step = i, .row = 5});
        l->signs[i] = r.word[0] % 2 ? 1.0 : -1.0;
    }
    duo_weight_pack(&l->weight);
}

static double bytes_of(const linear *l)
{
    const linear_case *c = &l->is;
    const double rows = (double)c->rows, activations = rows * (double)(c->O + c->I);
    const size_t weight = l->weight.forward    ? duo_pack_forward_bytes(&l->weight)
                          : l->weight.backward ? duo_pack_backward_bytes(&l->weight)
                                               : c->O * c->I * sizeof(float);
    return (double)weight + activations * sizeof(float);
}

static duo_status measure(duo_bench *bench, const linear_case *is, duo_precision precision)
{
    static const char *const names[] = {"y = x W^T", "dx = dy W", "dW += dy^T x"};
    char name[64];
    snprintf(name, sizeof name, "%s %zux%zux%zu%s%s", names[is->direction], is->rows, is->O, is->I,
             is->packed && !is->routed ? " packed" : "", is->routed ? " routed" : "");
    if (!bench_wanted(bench, name)) return DUO_OK;
    linear l = {.is = *is, .weight = {.O = is->O, .I = is->I, .precision = precision}};
    duo_arena arena, size = DUO_ARENA_MEASURE;
    lay_out(&l, &size);
    duo_status status = duo_arena_create(&arena, size.used, "operands of a product");
    if (status != DUO_OK) return status;
    lay_out(&l, &arena);
    l.weight.w = l.w;
    fill(&l);

    duo_bench_row row = bench_row(DUO_BENCH_KERNELS, name, precision);
    row.error = error_of(&l);
    const double flops = 2.0 * (double)is->rows * (double)is->O * (double)is->I;
    const bench_times times = bench_measure(&bench->setting, precision, run, &l);
    bench_row_flops(&row, times, flops);
    if (is->rows <= MEMORY_BOUND_ROWS) {
        double rate = 0;
        status = bench_bandwidth(bench, true, bytes_of(&l), &rate);
        if (status == DUO_OK) bench_row_roofline(&row, times, flops, bytes_of(&l), rate);
    }
    if (status == DUO_OK) bench_emit(bench, &row);
    duo_arena_free(&arena);
    return status;
}

/* ---------------------------------------------------------------- all of them */

static const size_t shapes[][3] = {
    {2048, 2048, 2048}, {4096, 2560, 2560}, {4096, 256, 256},
    {4096, 1024, 256},  {4096, 256, 1024},  {4096, 4096, 256},
};
enum { SHAPES = sizeof shapes / sizeof *shapes, FIRST_OF_A_STEP = 2, ROUTED_SHAPE = 3 };

static linear_case scaled(const duo_bench *bench, linear_case c)
{
    if (!bench->setting.quick) return c;
    c.O /= 16;
    c.I /= 16;
    if (c.rows > 64) c.rows /= 16;
    return c;
}

static duo_status training_shapes(duo_bench *bench, duo_precision precision, direction d)
{
    duo_status status = DUO_OK;
    for (size_t i = 0; i < SHAPES; i++)
        for (int variant = 0; variant < 3 && status == DUO_OK; variant++) {
            const bool packed = variant == 1, routed = variant == 2;
            if (packed && (d == BACKWARD_WEIGHT || i < FIRST_OF_A_STEP)) continue;
            if (routed && i != ROUTED_SHAPE) continue;
            const linear_case c =
                scaled(bench, (linear_case){d, shapes[i][0], shapes[i][1], shapes[i][2],
                                            packed || (routed && d != BACKWARD_WEIGHT), routed});
            status = measure(bench, &c, precision);
        }
    return status;
}

/* As in generation and in the upper tree of the oracle. */
static duo_status few_rows(duo_bench *bench, duo_precision precision)
{
    static const size_t rows[] = {1, 4, 16, 64}, widths[][2] = {{1024, 256}, {2560, 2560}};
    duo_status status = DUO_OK;
    for (size_t w = 0; w < 2; w++)
        for (size_t i = 0; i < 4 && status == DUO_OK; i++) {
            const linear_case c = scaled(
                bench, (linear_case){FORWARD, rows[i], widths[w][0], widths[w][1], true, false});
            status = measure(bench, &c, precision);
        }
    return status;
}

duo_status bench_products(duo_bench *bench)
{
    duo_status status = DUO_OK;
    for (size_t p = 0; p < bench->setting.n_precisions && status == DUO_OK; p++) {
        const duo_precision precision = bench->setting.precisions[p];
        for (direction d = FORWARD; d <= BACKWARD_WEIGHT && status == DUO_OK; d++)
            status = training_shapes(bench, precision, d);
        if (status == DUO_OK) status = few_rows(bench, precision);
    }
    return status;
}
