#ifndef DUO_PASS_H
#define DUO_PASS_H

#include "block.h"

/** What backward needs of one layer; N = B*T rows. */
typedef struct duo_layer_state {
    float *x_in, *r_attn, *h_attn;  /* residual stream before attention; its norm */
    float *q, *k, *v, *lse, *att;   /* rotated; the softmax's statistics; the heads' outputs */
    float *x_mid, *r_ffn, *h_ffn;   /* residual stream before the FFNs; its norm */
    duo_row_groups groups;          /* rows of each module */
    float *gate, *up;               /* of all FFNs */
    duo_ffn_state ffn[DUO_MODULES]; /* parts of them */
    /* Gumbel routing only, (N, M) and (N, C): */
    float *soft, *weight, *clean;
    float *output[DUO_MODULES];
} duo_layer_state;

struct duo_pass {
    duo_pass_shape shape;
    size_t N, n_layers, head_block;
    duo_module_set router_modules;
    duo_attention_shape attention;
    duo_layer_state *layers;
    float *x_out, *r_final, *h_final; /* after the last layer; normed */
    int32_t *inputs, *targets;
    uint32_t *positions; /* of row n: n % T */
    float *shares;       /* (B, M): mean clean probability of a sequence */
    float *logits;       /* (head_block, V) */
    float *lse;          /* (head_block) */
    float *act;          /* (chunk, F): activation of one FFN */
    float *router;       /* (N, M): logits of one layer */
    float *noise;        /* (N, M): Gumbel noise of one layer */
    float *attention_scratch;
    /* backward only */
    float *dx, *dh, *datt, *dq, *dk, *dv, *dgate, *dup, *dy;
    float *dweight, *drouter; /* (N, M) */
};

#endif
