#ifndef DUO_KERNELS_H
#define DUO_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "duo/precision.h"
#include "duo/status.h"

/**
 * Arithmetic on float arrays, forward and backward, with nothing hidden: outputs first, then
 * const inputs, then sizes. A kernel allocates nothing, prints nothing and cannot fail; what it
 * requires is asserted. Arrays are row-major and do not overlap unless said otherwise.
 *
 * Letters: B rows of a batch, T positions, N = B*T tokens, C model width, F FFN width, H heads,
 * Hkv key/value heads (divides H), D head width, V vocabulary, M modules of a router.
 * dx is the gradient of x.
 *
 * Forward overwrites. Backward ADDS to the gradients of parameters and of inputs that several
 * consumers share; where it overwrites instead, its comment says so. A NULL gradient of a
 * parameter means "frozen": its work is not done.
 *
 * Determinism: an output element is summed by one thread in an order that depends on the sizes
 * alone, never on the number of threads or on the other rows of the call. The bits may differ
 * between instruction sets.
 */

/* ---------------------------------------------------------------- start */

/** In ascending order: each can do what those before it can. */
typedef enum duo_isa {
    DUO_ISA_PORTABLE,
    DUO_ISA_AVX2,
    DUO_ISA_AVX512,
    DUO_ISA_AVX512BF16, /**< and products of bf16 pairs */
    DUO_ISA_AMX         /**< and of tiles of bf16 pairs */
} duo_isa;

/**
 * Choose the instruction set and set aside the packing buffers for `threads` threads (0: what
 * OpenMP would use; at most DUO_MAX_THREADS). Call once before any kernel, outside parallel
 * regions; calling again changes the setting. The choice is the best that the processor has, or
 * what the environment variable DUO_ISA names (duo_isa_name): DUO_EINVAL when that is unknown or
 * not supported here. DUO_ENOMEM without memory for the buffers.
 *
 * From then on the team's threads, the caller among them, take subnormal numbers for 0 where the
 * processor can (x86).
 */
duo_status duo_kernels_start(int threads);
/** Release the buffers. */
void duo_kernels_stop(void);
enum { DUO_MAX_THREADS = 256 };

/** What duo_kernels_start chose; before it, portable code on one thread. */
duo_isa duo_kernels_isa(void);
int duo_kernels_threads(void);
/** "portable", "avx2", "avx512", "avx512bf16", "amx". */
const char *duo_isa_name(duo_isa isa);
/** Loops over fewer elements than this, and products and attention of fewer multiply-adds, run on
 *  one thread: waking the others costs more. */
enum { DUO_PARALLEL_MIN = 1 << 14, DUO_SERIAL_WORK = 1 << 16 };
/**
 * Multiply-add rate in FLOP/s that all threads together reach on operands in their first-level
 * caches: what a model FLOP utilisation is measured against. Takes about 50 ms.
 */
double duo_kernels_peak(duo_precision precision);

/* ---------------------------------------------------------------- linear layers */

/**
 * A weight matrix W (O, I) as the products read it. Operands of precision bf16 are rounded to
 * nearest, ties to even, in every product; products and sums are fp32. The packed forms are for
 * weights that many products read unchanged; without one, W is packed anew inside of every product.
 * Borrows w and the packed forms.
 */
typedef struct duo_weight {
    const float *w;
    size_t O, I;
    duo_precision precision;
    void *forward;  /**< W packed for y = x W^T, aligned to DUO_ALIGN, or NULL */
    void *backward; /**< W packed for dx = dy W, aligned to DUO_ALIGN, or NULL */
} duo_weight;

/** Bytes of W packed for one direction, for the instruction set and threads in use. */
size_t duo_pack_forward_bytes(const duo_weight *weight);
size_t duo_pack_backward_bytes(const duo_weight *weight);
/** Fill the packed forms that the weight has from w. */
void duo_weight_pack(const duo_weight *weight);

/**
 * The three products of a linear layer y = x W^T + b with W [O, I].
 *
 * Row index lists make them grouped products: row n of an operand is row rows[n] of its array,
 * or row n itself when the list is NULL. Rows are gathered while they are packed and scattered
 * while they are stored, so that a token that is not in the list costs nothing. The entries of an
 * output list are distinct. n_rows 0 is allowed.
 */

/** y[y_rows[n]] = (add ? y : 0) + x[x_rows[n]] W^T + bias.  x (., I), y (., O), bias (O) or NULL.
 */
void duo_linear_forward(float *y, const float *x, const duo_weight *weight, const float *bias,
                        size_t n_rows, const uint32_t *y_rows, const uint32_t *x_rows, bool add);

/** One of several products that read the same rows. */
typedef struct duo_linear_output {
    float *y; /**< (n_rows, weight->O) */
    const duo_weight *weight;
} duo_linear_output;
enum { DUO_MAX_LINEAR = 4 };
/**
 * y_i[n] = x[x_rows[n]] W_i^T for up to DUO_MAX_LINEAR weights of one precision, such as those of
 * queries, keys and values. One team of threads goes from one to the next without a pause. The
 * outputs do not overlap. The bits are those of duo_linear_forward.
 */
void duo_linear_forward_each(const duo_linear_output *outputs, size_t n_outputs, const float *x,
                             size_t n_rows, const uint32_t *x_rows);

/** dx[dx_rows[n]] = (add ? dx : 0) + dy[dy_rows[n]] W.  dx (., I), dy (., O). */
void duo_linear_backward_input(float *dx, const float *dy, const duo_weight *weight, size_t n_rows,
                               const uint32_t *dx_rows, const uint32_t *dy_rows, bool add);

/** dW += sum_n dy[dy_rows[n]]^T x[x_rows[n]],  dbias += sum_n dy[dy_rows[n]] unless dbias is NULL;
 * precision is that of dy and x in the first sum. */
void duo_linear_backward_weight(float *dw, float *dbias, const float *dy, const float *x,
                                size_t n_rows, size_t O, size_t I, const uint32_t *dy_rows,
                                const uint32_t *x_rows, duo_precision precision);

/** One of several gradients of weights that read the same rows. */
typedef struct duo_linear_gradient {
    float *dw;       /**< (O, I); NULL: frozen */
    const float *dy; /**< (n_rows, O) */
    size_t O;
} duo_linear_gradient;
/** dW_i += sum_n dy_i[n]^T x[x_rows[n]] for up to DUO_MAX_LINEAR weights, with the bits of
 * duo_linear_backward_weight. */
void duo_linear_backward_weight_each(const duo_linear_gradient *gradients, size_t n_gradients,
                                     const float *x, size_t n_rows, size_t I,
                                     const uint32_t *x_rows, duo_precision precision);

/* ---------------------------------------------------------------- embedding */

/** x_n = table[tokens[n]].  x (N, C), table (V, C), 0 <= tokens[n] < V. */
void duo_embedding_forward(float *x, const float *table, const int32_t *tokens, size_t N, size_t C);
/** dtable[tokens[n]] += dx_n, in the order of n. */
void duo_embedding_backward(float *dtable, const float *dx, const int32_t *tokens, size_t N,
                            size_t C);

/* ---------------------------------------------------------------- RMSNorm, arXiv:1910.07467 */

/** y = g * x * r,  r_n = 1 / sqrt(mean_c(x_nc^2) + eps).  x, y (N, C), g (C), r (N). */
void duo_rmsnorm_forward(float *y, float *r, const float *x, const float *g, size_t N, size_t C,
                         float eps);
/** dx += ..., dg += ... (dg NULL: frozen).  r is forward's. */
void duo_rmsnorm_backward(float *dx, float *dg, const float *dy, const float *x, const float *g,
                          const float *r, size_t N, size_t C);

/* ---------------------------------------------------------------- rotary positions,
 * arXiv:2104.09864 */

/** table (T, D/2, 2): cos and sin of t * theta^(-2i/D), rounded from double. D even. */
void duo_rope_table(float *table, size_t T, size_t D, double theta);
/** In place: rotate the pairs (0,1), (2,3), ... of every head of x (N, H, D) by the angle of
 *  positions[n] < T. */
void duo_rope_forward(float *x, const float *table, const uint32_t *positions, size_t N, size_t H,
                      size_t D);
/** In place: dx becomes the gradient before the rotation (the inverse rotation). */
void duo_rope_backward(float *dx, const float *table, const uint32_t *positions, size_t N, size_t H,
                       size_t D);

/* ---------------------------------------------------------------- attention */

/**
 * Causal softmax attention with scale 1/sqrt(D). Head h of the queries uses head h*Hkv/H of keys
 * and values. q, y (B, T, H, D); k, v (B, T, Hkv, D); lse (B, T, H): the log-sum-exp of a query's
 * scores, all that backward needs of the softmax. Nothing of size T*T is stored.
 * scratch: duo_attention_scratch floats. arXiv:1706.03762; recomputing from lse: arXiv:2205.14135.
 */
typedef struct duo_attention_shape {
    size_t B, T, H, Hkv, D;
    duo_precision precision; /**< bf16 allows products to round their operands, the weights of the
                              * softmax among them, and does so where that is faster: on AMX
                              * and AVX-512-BF16 */
} duo_attention_shape;

size_t duo_attention_scratch(duo_attention_shape shape);
void duo_attention_forward(float *y, float *lse, const float *q, const float *k, const float *v,
                           duo_attention_shape shape, float *scratch);
/** OVERWRITES dq, dk and dv. Recomputes the scores from q, k and lse. */
void duo_attention_backward(float *dq, float *dk, float *dv, const float *dy, const float *q,
                            const float *k, const float *v, const float *y, const float *lse,
                            duo_attention_shape shape, float *scratch);

/**
 * One new position of each of N nodes: node n stands at positions[n] of sequence sequences[n]: it
 * sees the cached positions before that, and then itself. q, y (N, H, D); k, v (N, Hkv, D) the
 * nodes' own; k_cache, v_cache (S, max_T, Hkv, D). Nodes of one place should be neighbours. Used by
 * generation (one node a sequence) and by the oracle (many).
 */
void duo_attention_step(float *y, const float *q, const float *k, const float *v,
                        const float *k_cache, const float *v_cache, const uint32_t *sequences,
                        const uint32_t *positions, size_t N, size_t max_T, size_t H, size_t Hkv,
                        size_t D, float *scratch);
/** Floats of scratch for that. */
size_t duo_attention_step_scratch(size_t max_T, size_t D);

/* ---------------------------------------------------------------- activations */

/** a = silu(gate) * up,  silu(z) = z / (1 + exp(-z)).  arXiv:2002.05202. n elements. a may be gate
 * or up. */
void duo_swiglu_forward(float *a, const float *gate, const float *up, size_t n);
/** OVERWRITES dgate and dup (each has one consumer); dup or dgate may be da. Also overwrites a with
 * the activation, recomputed, unless a is NULL. */
void duo_swiglu_backward(float *dgate, float *dup, float *a, const float *da, const float *gate,
                         const float *up, size_t n);

/* ---------------------------------------------------------------- cross-entropy */

/** loss_n = lse_n - z[n, targets[n]],  lse_n = log sum_v exp(z_nv).  z (N, V). */
void duo_cross_entropy_forward(float *loss, float *lse, const float *z, const int32_t *targets,
                               size_t N, size_t V);
/** loss_n = lse_n - sum_v q_v z_nv with q = q[q_rows[n]], which sums to 1: the expected loss of
 * targets that are drawn from q. z (N, V), q (., V); lse is forward's. */
void duo_cross_entropy_expected(float *loss, const float *lse, const float *z, const float *q,
                                const uint32_t *q_rows, size_t N, size_t V);
/** In place: z becomes its gradient, dloss * (exp(z - lse) - onehot(target)). */
void duo_cross_entropy_backward(float *z, const float *lse, const int32_t *targets, float dloss,
                                size_t N, size_t V);

/* ---------------------------------------------------------------- routing */

/** Index of the largest of n >= 1 floats, the lower one winning a tie. */
size_t duo_argmax(const float *x, size_t n);
/** p_n = softmax(h_n), (N, M). p may be h. */
void duo_softmax_forward(float *p, const float *h, size_t N, size_t M);

/**
 * Gumbel-softmax, arXiv:1611.01144 and 1611.00712: soft_n = softmax((h_n + noise_n) / tau).
 * weight is soft, or with hard (straight-through) the one-hot of its largest entry, the lower
 * module winning a tie. All (N, M); noise NULL: none.
 */
void duo_gumbel_softmax_forward(float *weight, float *soft, const float *h, const float *noise,
                                float tau, bool hard, size_t N, size_t M);
/** dh += (1/tau) soft * (dweight - sum_m soft_m dweight_m); straight-through passes dweight to
 * soft. */
void duo_gumbel_softmax_backward(float *dh, const float *dweight, const float *soft, float tau,
                                 size_t N, size_t M);

/** x_n += weight_n * y_n, weight_n = weights[n * stride].  x, y (N, C). */
void duo_mix_forward(float *x, const float *y, const float *weights, size_t stride, size_t N,
                     size_t C);
/** dweights[n*stride] += sum_c dx_nc y_nc; OVERWRITES dy_n = weight_n * dx_n (dy may be y).
 * dweights may be NULL. */
void duo_mix_backward(float *dy, float *dweights, const float *dx, const float *y,
                      const float *weights, size_t stride, size_t N, size_t C);

/* ---------------------------------------------------------------- optimizer */

/** Sum of squares in double, over fixed blocks and in their order. A NaN anywhere makes it NaN. */
double duo_sum_squares(const float *x, size_t n);

/** No NaN and no infinity among n floats. */
bool duo_all_finite(const float *x, size_t n);

/** a += b, n elements. */
void duo_add(float *a, const float *b, size_t n);
/** to = from, n elements that do not overlap; x = 0: memcpy and memset by all threads. */
void duo_copy(float *to, const float *from, size_t n);
void duo_clear(float *x, size_t n);

typedef struct duo_adamw {
    float lr, beta1, beta2, eps, decay; /**< decay: decoupled weight decay, times lr */
    float correction1, correction2;     /**< 1 - beta1^t, 1 - beta2^t */
    float scale;                        /**< of the gradient: the clipping factor */
} duo_adamw;

/**
 * One step of AdamW, arXiv:1711.05101, in one pass: with g = scale * gradient,
 * m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2,
 * w -= lr * (m / c1 / (sqrt(v / c2) + eps) + decay * w).
 */
void duo_adamw_step(float *w, float *m, float *v, const float *gradient, size_t n,
                    const duo_adamw *setting);

#endif
