/* The three products of a linear layer. */
#include <assert.h>

#include "duo/sizes.h"
#include "product.h"
#include "span.h"

static duo_product forward_product(const duo_weight *weight)
{
    duo_product p = duo_product_new(weight->precision, weight->O, weight->I, false);
    p.right = (duo_operand){weight->w, weight->I, NULL};
    p.packed = weight->forward;
    return p;
}

static duo_product backward_product(const duo_weight *weight)
{
    duo_product p = duo_product_new(weight->precision, weight->I, weight->O, false);
    p.right = (duo_operand){weight->w, weight->I, NULL};
    p.right_by_k = true;
    p.packed = weight->backward;
    return p;
}

size_t duo_pack_forward_bytes(const duo_weight *weight)
{
    return duo_product_packed_bytes(weight->precision, weight->O, weight->I);
}

size_t duo_pack_backward_bytes(const duo_weight *weight)
{
    return duo_product_packed_bytes(weight->precision, weight->I, weight->O);
}

void duo_weight_pack(const duo_weight *weight)
{
    const duo_product forward = forward_product(weight), backward = backward_product(weight);
    if (forward.packed) duo_product_pack(&forward);
    if (backward.packed) duo_product_pack(&backward);
}

void duo_linear_forward(float *y, const float *x, const duo_weight *weight, const float *bias,
                        size_t n_rows, const uint32_t *y_rows, const uint32_t *x_rows, bool add)
{
    if (n_rows == 0) return;
    duo_product p = forward_product(weight);
    p.M = n_rows;
    p.y = y;
    p.y_rows = y_rows;
    p.bias = bias;
    p.add = add;
    p.left = (duo_operand){x, weight->I, x_rows};
    duo_products_multiply(&p, 1);
}

void duo_linear_forward_each(const duo_linear_output *outputs, size_t n_outputs, const float *x,
                             size_t n_rows, const uint32_t *x_rows)
{
    assert(n_outputs <= DUO_MAX_LINEAR);
    if (n_rows == 0) return;
    duo_product products[DUO_MAX_LINEAR];
    for (size_t i = 0; i < n_outputs; i++) {
        const duo_weight *weight = outputs[i].weight;
        products[i] = forward_product(weight);
        products[i].M = n_rows;
        products[i].y = outputs[i].y;
        products[i].left = (duo_operand){x, weight->I, x_rows};
    }
    duo_products_multiply(products, n_outputs);
}

void duo_linear_backward_input(float *dx, const float *dy, const duo_weight *weight, size_t n_rows,
                               const uint32_t *dx_rows, const uint32_t *dy_rows, bool add)
{
    if (n_rows == 0) return;
    duo_product p = backward_product(weight);
    p.M = n_rows;
    p.y = dx;
    p.y_rows = dx_rows;
    p.add = add;
    p.left = (duo_operand){dy, weight->O, dy_rows};
    duo_products_multiply(&p, 1);
}

enum { COLUMNS = 48 }; /* that a thread adds up at once */

/* dbias += sum_n dy_n. A thread owns whole columns and adds their rows in order. */
static void sum_rows(float *dbias, const duo_operand *dy, size_t n_rows, size_t O)
{
    const bool serial = n_rows * O < DUO_SERIAL_WORK;
    const duo_span span = duo_span_begin();
#pragma omp parallel for num_threads(duo_kernels_threads()) schedule(static) if (!serial)
    for (size_t first = 0; first < O; first += COLUMNS) {
        const size_t cols = duo_min(COLUMNS, O - first);
        float sum[COLUMNS] = {0.0f};
        for (size_t n = 0; n < n_rows; n++) {
            const float *row = duo_operand_row(dy, n) + first;
            for (size_t c = 0; c < cols; c++) sum[c] += row[c];
        }
        for (size_t c = 0; c < cols; c++) dbias[first + c] += sum[c];
    }
    duo_span_end(span, "dbias += sum dy", 0, 0, 0);
}

static duo_product weight_product(float *dw, duo_operand dy, duo_operand x, size_t n_rows,
                                  duo_precision precision)
{
    duo_product p = duo_product_new(precision, x.stride, n_rows, true);
    p.M = dy.stride;
    p.y = dw;
    p.add = true;
    p.left = dy;
    p.right = x;
    p.right_by_k = true;
    return p;
}

void duo_linear_backward_weight(float *dw, float *dbias, const float *dy, const float *x,
                                size_t n_rows, size_t O, size_t I, const uint32_t *dy_rows,
                                const uint32_t *x_rows, duo_precision precision)
{
    if (n_rows == 0) return;
    const duo_operand left = {dy, O, dy_rows}, right = {x, I, x_rows};
    const duo_product p = weight_product(dw, left, right, n_rows, precision);
    duo_products_multiply(&p, 1);
    if (dbias) sum_rows(dbias, &left, n_rows, O);
}

void duo_linear_backward_weight_each(const duo_linear_gradient *gradients, size_t n_gradients,
                                     const float *x, size_t n_rows, size_t I,
                                     const uint32_t *x_rows, duo_precision precision)
{
    assert(n_gradients <= DUO_MAX_LINEAR);
    if (n_rows == 0) return;
    duo_product products[DUO_MAX_LINEAR];
    size_t n = 0;
    for (size_t i = 0; i < n_gradients; i++) {
        const duo_linear_gradient *g = &gradients[i];
        const duo_operand dy = {g->dy, g->O, NULL}, right = {x, I, x_rows};
        if (g->dw) products[n++] = weight_product(g->dw, dy, right, n_rows, precision);
    }
    duo_products_multiply(products, n);
}
