#ifndef DUO_CONFIG_H
#define DUO_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "duo/status.h"

/** What a token does at a layer's FFN; one byte per (row, position, layer) in every file. */
typedef enum duo_module { DUO_SKIP = 0, DUO_SMALL = 1, DUO_BIG = 2, DUO_MODULES = 3 } duo_module;

/** "skip", "small", "big". */
const char *duo_module_name(duo_module module);

/** A set of modules: bit 1 << code. */
typedef unsigned duo_module_set;

static inline bool duo_module_in(duo_module_set set, duo_module module)
{
    return (set >> module & 1u) != 0;
}
size_t duo_module_count(duo_module_set set);
/** The modules of a set in ascending code, which is the order of a router's rows. Returns their
 *  number. */
size_t duo_module_codes(duo_module codes[DUO_MODULES], duo_module_set set);
/** B or b: big, S or s: small, -: skip; false for any other letter. */
bool duo_module_of_letter(duo_module *module, char letter);
/** B, S or -. */
char duo_module_letter(duo_module module);
/** "small,big": names in ascending code, at most 16 bytes with the NUL. Returns text. */
char *duo_module_set_text(char text[16], duo_module_set set);
/** Reads that form; false for an unknown or repeated name. */
bool duo_module_set_parse(duo_module_set *set, const char *text);

/** What routers read besides the hidden state. */
typedef enum duo_router_input {
    DUO_INPUT_BUDGET,   /**< the wanted share of big */
    DUO_INPUT_PREVIOUS, /**< the module that the token took in the layer below */
    DUO_INPUT_POSITION, /**< the token's place in its sequence */
    DUO_ROUTER_INPUTS
} duo_router_input;

typedef unsigned duo_router_inputs; /**< a set: bit 1 << input */

static inline bool duo_router_reads(duo_router_inputs set, duo_router_input input)
{
    return (set >> input & 1u) != 0;
}
/** "budget,position", "none": at most 32 bytes with the NUL. Returns text. */
char *duo_router_inputs_text(char text[32], duo_router_inputs set);
/** Reads that form; false for an unknown or repeated name. */
bool duo_router_inputs_parse(duo_router_inputs *set, const char *text);

/** How shares of modules that are off their target are charged; the formulas stand in model.h. */
typedef enum duo_penalty {
    DUO_PENALTY_SQUARED,
    DUO_PENALTY_HINGE,
    DUO_PENALTY_FLOPS,
    DUO_PENALTY_LAGRANGIAN
} duo_penalty;

/** At most: ids of a vocabulary, in a model and in a file, and layers. */
enum { DUO_VOCAB_MAX = 1 << 24, DUO_MAX_LAYERS = 128 };

typedef enum duo_arch { DUO_ARCH_LLAMA } duo_arch;

/** The sizes of a model: everything that its parameters' shapes and its arithmetic depend on. */
typedef struct duo_config {
    duo_arch arch;
    size_t n_layers, d_model, n_heads, n_kv_heads, d_big, d_small;
    size_t vocab_size; /**< 0 in a recipe: the tokenizer's */
    size_t max_seq;    /**< positions that the model can see */
    double norm_eps, rope_theta;
    bool tied_embeddings;
    duo_module_set router_modules; /**< what the routers choose among; 0: no routers yet */
    size_t router_hidden;          /**< width of their hidden layer; 0: they are linear */
    duo_router_inputs router_inputs;
} duo_config;

/** Width of a head. */
static inline size_t duo_head_width(const duo_config *config)
{
    return config->d_model / config->n_heads;
}

/** Width of the keys of a token, and of its values. */
static inline size_t duo_kv_width(const duo_config *config)
{
    return config->n_kv_heads * duo_head_width(config);
}

/**
 * Check that the sizes fit together and stay within what Duo handles. DUO_EINVAL names `where`
 * (a file, or a recipe's section) and the key.
 */
duo_status duo_config_check(const duo_config *config, const char *where);

/** Have two configs the same routers? */
bool duo_config_same_routers(const duo_config *a, const duo_config *b);

/** The key of the first size in which two configs differ, routers aside; NULL when they agree. */
const char *duo_config_difference(const duo_config *a, const duo_config *b);

#endif
