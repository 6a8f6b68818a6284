/* Single-precision products by a library: compiled once with -DPEER_CBLAS, once without for oneDNN.
 * The number of threads is the environment's. */
#include "peer.h"

#ifdef PEER_CBLAS
#include <cblas.h>
#undef I /* which <complex.h> defines; here it is a layer's input width */

static void multiply(int turn_a, int turn_b, size_t M, size_t N, size_t K, const float *a,
                     size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    cblas_sgemm(CblasRowMajor, turn_a ? CblasTrans : CblasNoTrans,
                turn_b ? CblasTrans : CblasNoTrans, (int)M, (int)N, (int)K, 1.0f, a, (int)lda, b,
                (int)ldb, beta, c, (int)ldc);
}
#else
#include <dnnl.h>

static void multiply(int turn_a, int turn_b, size_t M, size_t N, size_t K, const float *a,
                     size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    if (dnnl_sgemm(turn_a ? 'T' : 'N', turn_b ? 'T' : 'N', (dnnl_dim_t)M, (dnnl_dim_t)N,
                   (dnnl_dim_t)K, 1.0f, a, (dnnl_dim_t)lda, b, (dnnl_dim_t)ldb, beta, c,
                   (dnnl_dim_t)ldc) != dnnl_success)
        exit(1);
}
#endif

typedef struct product {
    direction direction;
    layer layer;
    float *w, *x, *y;
} product;

static void run(void *context)
{
    const product *p = context;
    const size_t n = p->layer.rows, O = p->layer.O, I = p->layer.I;
    switch (p->direction) {
    case FORWARD:
        multiply(0, 1, n, O, I, p->x, I, p->w, I, 0.0f, p->y, O);
        break;
    case BACKWARD_INPUT:
        multiply(0, 0, n, I, O, p->y, O, p->w, I, 0.0f, p->x, I);
        break;
    case BACKWARD_WEIGHT:
        multiply(1, 0, O, I, n, p->y, O, p->x, I, 1.0f, p->w, I);
        break;
    }
}

static void measure(direction d, layer l)
{
    product p = {d, l, random_floats(l.O * l.I), random_floats(l.rows * l.I),
                 random_floats(l.rows * l.O)};
    print_rate(d, l, "fp32", median_seconds(run, &p));
    free(p.w);
    free(p.x);
    free(p.y);
}

/* With any argument it only loads the library, which says its choice of kernels on request. */
int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) return 0;
    for (direction d = FORWARD; d <= BACKWARD_WEIGHT; d++)
        for (size_t i = 0; i < TRAINING; i++) measure(d, training[i]);
    for (size_t i = 0; i < FEW; i++) measure(FORWARD, few_rows[i]);
    return 0;
}
