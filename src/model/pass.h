#ifndef DUO_PASS_H
#define DUO_PASS_H

#include "block.h"
#include "router.h"

/** What backward needs of one layer; N = B*T rows. */
typedef struct duo_layer_state {
    float *x_in, *r_attn, *h_attn;  /* residual stream before attention; its norm */
    float *q, *k, *v, *lse, *att;   /* rotated; the softmax's statistics; the heads' outputs */
    float *x_mid, *r_ffn, *h_ffn;   /* residual stream before the FFNs; its norm */
    duo_row_groups groups;          /* rows of each module */
    float *gate, *up;               /* of all FFNs */
    duo_ffn_state ffn[DUO_MODULES]; /* parts of them */
    /* Of routers, (N, M) and (N, H): logits, their softmax, the hidden layer. */
    float *logits, *clean, *hidden;
    /* Gumbel routing only, (N, M) and (N, C): */
    float *soft, *weight;
    float *output[DUO_MODULES];
} duo_layer_state;

struct duo_pass {
    duo_pass_shape shape;
    size_t N, n_layers, head_block;
    duo_config config;
    duo_attention_shape attention;
    duo_layer_state *layers;
    float *x_out, *r_final, *h_final; /* after the last layer; normed */
    int32_t *inputs, *targets;
    uint32_t *positions; /* of row n: n % T */
    double *shares;      /* (B, L, M): mean of `clean` over a sequence */
    float *logits;       /* (head_block, V) */
    float *lse;          /* (head_block) */
    float *act;          /* of a chunk of an FFN */
    float *noise;        /* (N, M): Gumbel noise of one layer */
    float *attention_scratch;
    /* backward only */
    float *dx, *dh, *datt, *dq, *dk, *dv, *dgate, *dup, *dy;
    float *dweight, *drouter, *dhidden; /* (N, M), (N, M), (N, H) */
    duo_anomaly *anomaly;               /* of whom looks for one, or NULL */
};

enum { DUO_NO_LAYER = 0xffff };

/** Look at n floats, the output `what` of a layer or of DUO_NO_LAYER, if anybody wants it. */
void duo_pass_check(const duo_pass *pass, size_t layer, const char *what, const float *x, size_t n);

/** What the router of layer l reads of all rows. */
duo_router_rows duo_pass_router_rows(const duo_pass *pass, const duo_model *model,
                                     const duo_routing *routing, size_t l);

#endif
