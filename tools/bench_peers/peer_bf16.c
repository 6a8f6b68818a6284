/* y = x W^T by oneDNN with operands in bf16 and y in fp32: what its matmul primitive makes of
 * weights in a layout of its choice. The number of threads is the environment's. */
#include <dnnl.h>
#include <stdint.h>
#include <string.h>

#include "peer.h"

static void check(dnnl_status_t status)
{
    if (status == dnnl_success) return;
    fprintf(stderr, "oneDNN: status %d\n", (int)status);
    exit(1);
}

static uint16_t *random_bf16(size_t n)
{
    float *x = random_floats(n);
    uint16_t *rounded = aligned_alloc(64, (n * sizeof *rounded + 63) / 64 * 64);
    if (!rounded) exit(1);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = 0;
        memcpy(&bits, &x[i], sizeof bits);
        rounded[i] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
    free(x);
    return rounded;
}

typedef struct product {
    dnnl_primitive_t primitive;
    dnnl_stream_t stream;
    dnnl_exec_arg_t arguments[3];
} product;

static void run(void *context)
{
    product *p = context;
    check(dnnl_primitive_execute(p->primitive, p->stream, 3, p->arguments));
    check(dnnl_stream_wait(p->stream));
}

static dnnl_memory_t memory_of(const dnnl_memory_desc_t *about, dnnl_engine_t engine, void *data)
{
    dnnl_memory_t memory;
    check(dnnl_memory_create(&memory, about, engine, data));
    return memory;
}

/* The weights in the layout that the primitive chose. */
static dnnl_memory_t reordered(dnnl_memory_t plain, const dnnl_memory_desc_t *from,
                               const dnnl_memory_desc_t *to, dnnl_engine_t engine,
                               dnnl_stream_t stream)
{
    dnnl_primitive_desc_t about;
    dnnl_primitive_t reorder;
    const dnnl_memory_t memory = memory_of(to, engine, DNNL_MEMORY_ALLOCATE);
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, plain}, {DNNL_ARG_TO, memory}};
    check(dnnl_reorder_primitive_desc_create(&about, from, engine, to, engine, NULL));
    check(dnnl_primitive_create(&reorder, about));
    check(dnnl_primitive_execute(reorder, stream, 2, arguments));
    check(dnnl_stream_wait(stream));
    return memory;
}

static void measure(layer l, dnnl_engine_t engine, dnnl_stream_t stream)
{
    const dnnl_dims_t x = {(dnnl_dim_t)l.rows, (dnnl_dim_t)l.I},
                      w = {(dnnl_dim_t)l.I, (dnnl_dim_t)l.O},
                      y = {(dnnl_dim_t)l.rows, (dnnl_dim_t)l.O};
    dnnl_memory_desc_t of_x, of_w, any_w, of_y;
    check(dnnl_memory_desc_init_by_tag(&of_x, 2, x, dnnl_bf16, dnnl_ab));
    check(dnnl_memory_desc_init_by_tag(&of_w, 2, w, dnnl_bf16, dnnl_ba));
    check(dnnl_memory_desc_init_by_tag(&any_w, 2, w, dnnl_bf16, dnnl_format_tag_any));
    check(dnnl_memory_desc_init_by_tag(&of_y, 2, y, dnnl_f32, dnnl_ab));
    dnnl_matmul_desc_t matmul;
    dnnl_primitive_desc_t about;
    check(dnnl_matmul_desc_init(&matmul, &of_x, &any_w, NULL, &of_y));
    check(dnnl_primitive_desc_create(&about, &matmul, NULL, engine, NULL));
    uint16_t *x_data = random_bf16(l.rows * l.I), *w_data = random_bf16(l.O * l.I);
    float *y_data = random_floats(l.rows * l.O);
    const dnnl_memory_t weights =
        reordered(memory_of(&of_w, engine, w_data), &of_w,
                  dnnl_primitive_desc_query_md(about, dnnl_query_weights_md, 0), engine, stream);
    product p = {.stream = stream,
                 .arguments = {{DNNL_ARG_SRC, memory_of(&of_x, engine, x_data)},
                               {DNNL_ARG_WEIGHTS, weights},
                               {DNNL_ARG_DST, memory_of(&of_y, engine, y_data)}}};
    check(dnnl_primitive_create(&p.primitive, about));
    print_rate(FORWARD, l, "bf16", median_seconds(run, &p));
    free(x_data);
    free(w_data);
    free(y_data);
}

int main(void)
{
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    check(dnnl_engine_create(&engine, dnnl_cpu, 0));
    check(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
    for (size_t i = 0; i < TRAINING; i++) measure(training[i], engine, stream);
    for (size_t i = 0; i < FEW; i++) measure(few_rows[i], engine, stream);
    return 0;
}
