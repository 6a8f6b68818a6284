/*
 * Files of strangers, sealed with the right hashes: one per line of the tables below.
 *
 *     hostile FILE FOLDER
 *
 * changes the good FILE in all ways that its kind knows and writes FOLDER/NAME.h5 each; prints
 * "NAME, commands that read it, what they must say", with tabs between. Commands are letters:
 *
 *     checkpoint   i inspect, r train --resume, n train from its weights, e eval, o oracle,
 *                  g generate, p probe, c calibrate, R report
 *     tokens       i inspect, n train, e eval, o oracle, p probe, c calibrate, h choices
 *     routes       i inspect, e eval, p probe, n train with it as a teacher, o oracle that goes on
 *                  with it, R report
 *     probe        i inspect
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hostile_file.h"

typedef enum change {
    DROP,     /* the dataset */
    TYPE,     /* of the dataset is `number`, as many bytes as there were fit */
    SHAPE,    /* its shape is `shape`, and its bytes are what they were or 0 */
    ELEMENT,  /* the last element of a float dataset, or of integers, is `real` or `number` */
    FIRST,    /* and the first one */
    BYTES,    /* what it holds is `text` */
    NAME,     /* its name is `text` */
    TWICE,    /* it is there a second time */
    EXTRA,    /* there is one more float dataset of this name, with `real` in it */
    OVERLAP,  /* it lies where the dataset before it lies */
    AT,       /* it lies at `number` */
    OVERFLOW, /* its shape has more elements than can be counted */
    STATED,   /* the header claims so many datasets */
    MANY,     /* and there are so many */
    ORDER,    /* the first two have changed places */
    KIND,     /* of the file */
    LACKS,    /* the attribute */
    INTEGER,  /* it is the integer `number` */
    REAL,     /* or the float `real` */
    TEXT      /* or `text` */
} change;

typedef struct hostile_case {
    const char *name, *readers;
    change change;
    const char *object, *attribute;
    const char *says;
    uint64_t number;
    double real;
    const char *text;
    duo_shape shape;
} hostile_case;

#define SHAPE1(a)                                                                                  \
    {                                                                                              \
        1,                                                                                         \
        {                                                                                          \
            a                                                                                      \
        }                                                                                          \
    }
#define SHAPE2(a, b)                                                                               \
    {                                                                                              \
        2,                                                                                         \
        {                                                                                          \
            a, b                                                                                   \
        }                                                                                          \
    }
#define SHAPE3(a, b, c)                                                                            \
    {                                                                                              \
        3,                                                                                         \
        {                                                                                          \
            a, b, c                                                                                \
        }                                                                                          \
    }

/* ---------------------------------------------------------------- any file */

/* The object is the kind's main dataset, the readers all. */
static const hostile_case of_index[] = {
    {"overlap", .change = OVERLAP, .says = "overlap"},
    {"misaligned", .change = AT, .number = 4096 + 8, .says = "it is not aligned"},
    {"outside", .change = AT, .number = (uint64_t)1 << 40, .says = "it leaves the file"},
    {"end-wraps", .change = AT, .number = UINT64_MAX - 4095, .says = "it leaves the file"},
    {"overflow", .change = OVERFLOW, .says = "its shape overflows"},
    {"stated", .change = STATED, .number = 5000, .says = "index: "},
    {"million-stated", .change = STATED, .number = 1000000, .says = "at most 65536 are read"},
    {"million", .change = MANY, .number = 1000000, .says = "at most 65536 are read"},
    {"no-slash", .change = NAME, .text = "tok_emb", .says = "its name is no path"},
    {"up", .change = NAME, .text = "/../../etc/passwd", .says = "its name is no path"},
    {"up-inside", .change = NAME, .text = "/model/../tok_emb", .says = "its name is no path"},
    {"no-name", .change = NAME, .text = "", .says = "its name is no path"},
    {"root", .change = NAME, .text = "/", .says = "its name is no path"},
    {"bell", .change = NAME, .text = "/model/\a\033[2J", .says = "its name is no path"},
    {"twice", .change = TWICE, .says = "it is out of order"},
    {"order", .change = ORDER, .says = "it is out of order"},
};

/* ---------------------------------------------------------------- checkpoints */

#define ALL_BUT_INSPECT "nreogpcR" /* which takes a file for what it says it is */
#define ALL "i" ALL_BUT_INSPECT
#define LOADS "inreogpc" /* the weights; a report wants none */
#define EMB "/model/tok_emb"
#define Q "/model/layers/00/attn/q/weight"

static const hostile_case of_checkpoint[] = {
    {"kind", ALL_BUT_INSPECT, KIND, .number = DUO_KIND_TOKENS, .says = "tok"},
    {"kind-told", "i", KIND, .number = DUO_KIND_TOKENS, .says = "vocab_size of / is missing"},
    {"no-emb", ALL, DROP, EMB, .says = "dataset " EMB " is missing"},
    {"no-query", ALL, DROP, Q, .says = "dataset " Q " is missing"},
    {"no-router", ALL, DROP, "/model/layers/01/router/bias",
     .says = "dataset /model/layers/01/router/bias is missing"},
    {"no-recipe", ALL, DROP, "/recipe", .says = "dataset /recipe is missing"},
    {"no-tokenizer", ALL, DROP, "/tokenizer", .says = "dataset /tokenizer is missing"},
    {"extra", ALL, EXTRA, "/model/layers/02/attn_norm/weight", .shape = SHAPE1(32),
     .says = "dataset /model/layers/02/attn_norm/weight does not belong"},
    {"integers", ALL, TYPE, EMB, .number = DUO_I32, .says = "dataset " EMB " is int32"},
    {"doubles", ALL, TYPE, Q, .number = DUO_F64, .says = "dataset " Q " is float64"},
    {"flat", ALL, SHAPE, Q, .shape = SHAPE1(1024), .says = "dataset " Q " is float32 [1024]"},
    {"turned", ALL, SHAPE, Q, .shape = SHAPE2(64, 16), .says = "dataset " Q " is float32 [64, 16]"},
    {"empty", ALL, SHAPE, EMB, .shape = SHAPE2(0, 32),
     .says = "dataset " EMB " is float32 [0, 32]"},
    {"nan", LOADS, ELEMENT, EMB, .real = NAN, .says = "dataset " EMB " is not finite"},
    {"inf", LOADS, ELEMENT, "/model/layers/01/router/weight", .real = INFINITY,
     .says = "dataset /model/layers/01/router/weight is not finite"},
    {"minus-inf", LOADS, FIRST, Q, .real = -INFINITY, .says = "dataset " Q " is not finite"},
    {"nan-threshold", LOADS, EXTRA, "/calibration/thresholds", .real = NAN, .shape = SHAPE2(1, 3),
     .says = "dataset /calibration/thresholds is not finite"},
    {"thresholds", LOADS, EXTRA, "/calibration/thresholds", .shape = SHAPE2(1, 2),
     .says = "dataset /calibration/thresholds is float32 [1, 2]"},
    {"nan-moment", "ir", ELEMENT, "/optimizer/v/layers/00/router/bias", .real = NAN,
     .says = "dataset /optimizer/v/layers/00/router/bias is not finite"},
    {"no-moment", "r", DROP, "/optimizer/m/layers/00/router/bias",
     .says = "dataset /optimizer/m/layers/00/router/bias is missing"},
    {"nan-losses", ALL, ELEMENT, "/train/losses", .real = NAN, .says = "/train/losses holds nan"},
    {"losses-type", ALL, TYPE, "/train/losses", .number = DUO_U64,
     .says = "dataset /train/losses is uint64"},
    {"version-0", ALL, INTEGER, "/", "format_version", .says = "checkpoint format 0"},
    {"version-9", ALL, INTEGER, "/", "format_version", .number = 9, .says = "checkpoint format 9"},
    {"no-version", ALL, LACKS, "/", "format_version", .says = "format_version of / is missing"},
    {"arch", ALL, TEXT, "/model", "arch", .text = "gpt9", .says = "arch of /model is 'gpt9'"},
    {"layers-many", ALL, INTEGER, "/model", "n_layers", .number = (uint64_t)1 << 31,
     .says = "n_layers is 2147483648, outside"},
    {"layers-most", ALL, INTEGER, "/model", "n_layers", .number = UINT64_MAX,
     .says = "n_layers is"},
    {"layers-0", ALL, INTEGER, "/model", "n_layers", .says = "n_layers is 0, outside"},
    {"layers-128", ALL, INTEGER, "/model", "n_layers", .number = 128,
     .says = "dataset /model/layers/02/"},
    {"layers-1", ALL, INTEGER, "/model", "n_layers", .number = 1, .says = "does not belong"},
    {"layers-text", ALL, TEXT, "/model", "n_layers", .text = "2",
     .says = "n_layers of /model is a"},
    {"layers-real", ALL, REAL, "/model", "n_layers", .real = 2, .says = "n_layers of /model is a"},
    {"width", ALL, INTEGER, "/model", "d_model", .number = 65536, .says = "d_"},
    {"big-most", ALL, INTEGER, "/model", "d_big", .number = 1 << 20, .says = "/big/"},
    {"big-0", ALL, INTEGER, "/model", "d_big", .says = "d_big is 0, outside"},
    {"vocabulary-0", ALL, INTEGER, "/model", "vocab_size", .says = "vocab_size is 0, outside"},
    {"vocabulary-most", ALL, INTEGER, "/model", "vocab_size", .number = (uint64_t)1 << 63,
     .says = "vocab_size is 9223372036854775808, outside"},
    {"vocabulary-16m", ALL, INTEGER, "/model", "vocab_size", .number = 1 << 24, .says = EMB},
    {"positions-0", ALL, INTEGER, "/model", "max_seq", .says = "max_seq is 0, outside"},
    {"positions-most", ALL, INTEGER, "/model", "max_seq", .number = (uint64_t)1 << 40,
     .says = "max_seq is 1099511627776, outside"},
    {"heads", ALL, INTEGER, "/model", "n_heads", .number = 3, .says = "n_heads 3 does not divide"},
    {"groups-0", ALL, INTEGER, "/model", "n_kv_heads", .says = "n_kv_heads is 0, outside"},
    {"head-width", ALL, INTEGER, "/model", "d_head", .number = 7, .says = "d_head is 7"},
    {"eps", ALL, REAL, "/model", "norm_eps", .real = NAN, .says = "norm_eps is"},
    {"theta", ALL, REAL, "/model", "rope_theta", .real = INFINITY, .says = "rope_theta is inf"},
    {"tied-7", ALL, INTEGER, "/model", "tied_embeddings", .number = 7, .says = "tied_embeddings"},
    {"untied", ALL, INTEGER, "/model", "tied_embeddings",
     .says = "dataset /model/lm_head is missing"},
    {"one-module", ALL, TEXT, "/model", "router_modules", .text = "big", .says = "router_modules"},
    {"module", ALL, TEXT, "/model", "router_modules", .text = "small,huge",
     .says = "router_modules of /model is 'small,huge'"},
    {"hidden", ALL, INTEGER, "/model", "router_hidden", .number = (uint64_t)1 << 31,
     .says = "router_hidden 2147483648"},
    {"input", ALL, TEXT, "/model", "router_inputs", .text = "moon",
     .says = "router_inputs of /model is 'moon'"},
    {"stage-step", ALL, INTEGER, "/train", "stage_step", .number = 99, .says = "stage_step 99"},
    {"step-most", ALL, INTEGER, "/train", "step", .number = UINT64_MAX,
     .says = "step of /train is"},
    {"sequences", ALL, INTEGER, "/train", "sequences", .number = UINT64_MAX,
     .says = "sequences of /train is"},
    {"best", ALL, REAL, "/train", "best_loss", .real = NAN, .says = "best_loss is"},
    {"multiplier", ALL, REAL, "/train", "multiplier_big", .real = INFINITY,
     .says = "multiplier_big is inf"},
    {"stage-type", ALL, INTEGER, "/train", "stage", .says = "stage of /train is an integer"},
    {"stage", "r", INTEGER, "/train", "stage_index", .number = UINT64_MAX,
     .says = "which the recipe does not have there"},
    {"recipe-nul", ALL, FIRST, "/recipe", .says = "dataset /recipe is no text"},
    {"recipe", "ieopc", BYTES, "/recipe", .text = "model {\n  n_layers = \"", .says = ".h5"},
    {"recipe-key", "ieopc", BYTES, "/recipe", .text = "data { moon = 1 }\n", .says = "moon"},
    {"recipe-path", "eopc", BYTES, "/recipe",
     .text = "name = other\nmodel { n_layers = 2 d_model = 32 n_heads = 2 d_big = 40 d_small = 8 "
             "max_seq = 24 }\n"
             "data { tokens = \"/etc/passwd\" }\n",
     .says = "/etc/passwd: not a sealed file"},
    {"tokenizer", "ig", BYTES, "/tokenizer", .text = "no model",
     .says = "not a SentencePiece model"},
    {"tokenizer-other", "nreopc", BYTES, "/tokenizer", .text = "no model",
     .says = "another tokenizer than that of"},
};

/* ---------------------------------------------------------------- token files */

#define READ_BUT_INSPECT "neopch"
#define READ "i" READ_BUT_INSPECT

static const hostile_case of_tokens[] = {
    {"kind", READ_BUT_INSPECT, KIND, .number = DUO_KIND_ROUTES, .says = "routes"},
    {"kind-told", "i", KIND, .number = DUO_KIND_ROUTES, .says = "dataset /tokens is missing"},
    {"no-train", READ, DROP, "/train/tokens", .says = "dataset /train/tokens is missing"},
    {"no-val", READ, DROP, "/val/tokens", .says = "dataset /val/tokens is missing"},
    {"no-documents", READ, DROP, "/val/documents", .says = "dataset /val/documents is missing"},
    {"no-tokenizer", READ, DROP, "/tokenizer", .says = "dataset /tokenizer is missing"},
    {"bytes", READ, TYPE, "/train/tokens", .number = DUO_U8, .says = "/train/tokens is uint8"},
    {"floats", READ, TYPE, "/val/tokens", .number = DUO_F32, .says = "/val/tokens is float32"},
    {"square", READ, SHAPE, "/val/tokens", .shape = SHAPE2(8, 8),
     .says = "/val/tokens is uint16 [8"},
    {"empty-train", READ, SHAPE, "/train/tokens", .shape = SHAPE1(0),
     .says = "/train/tokens is empty"},
    {"empty-val", READ, SHAPE, "/val/tokens", .shape = SHAPE1(0), .says = "/val/tokens is empty"},
    {"id-train", READ, ELEMENT, "/train/tokens", .number = 320, .says = "/train/tokens: id 320 is"},
    {"id-val", READ, FIRST, "/val/tokens", .number = 65535, .says = "/val/tokens: id 65535 is"},
    {"no-vocabulary", READ, LACKS, "/", "vocab_size", .says = "vocab_size of / is missing"},
    {"vocabulary-0", READ, INTEGER, "/", "vocab_size", .says = "vocab_size is 0, outside"},
    {"vocabulary-2g", READ, INTEGER, "/", "vocab_size", .number = INT32_MAX,
     .says = "vocab_size is 2147483647, outside"},
    {"vocabulary-most", READ, INTEGER, "/", "vocab_size", .number = UINT64_MAX,
     .says = "vocab_size is 18446744073709551615, outside"},
    {"vocabulary-16m", "inh", INTEGER, "/", "vocab_size", .number = 1 << 24,
     .says = "/tokenizer has 320 pieces, the vocab_size is 16777216"},
    {"vocabulary-more", "eopc", INTEGER, "/", "vocab_size", .number = 1000,
     .says = "has a vocabulary of 1000"},
    {"vocabulary-less", READ, INTEGER, "/", "vocab_size", .number = 300, .says = "is not below"},
    {"documents", READ, FIRST, "/train/documents", .number = 3,
     .says = "/train/documents: offset 0 is out of order"},
    {"documents-end", READ, ELEMENT, "/val/documents", .number = (uint64_t)1 << 60,
     .says = "/val/documents: offset "},
    {"documents-type", READ, TYPE, "/train/documents", .number = DUO_I64,
     .says = "dataset /train/documents is int64"},
    {"domains", READ, ELEMENT, "/train/domains", .number = 1,
     .says = "/train/domains: offset 0 is out of order"},
    {"domains-end", READ, ELEMENT, "/val/domains", .number = UINT64_MAX,
     .says = "/val/domains: offset 0 is out of order"},
    {"domains-more", READ, SHAPE, "/train/domains", .shape = SHAPE1(2),
     .says = "/train/domains is"},
    {"domains-many", READ, TEXT, "/", "domains",
     .text =
         ",,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,"
         ",,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,"
         ",,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,",
     .says = "domains"},
    {"domains-number", READ, INTEGER, "/", "domains", .says = "domains of / is an integer"},
    {"bytes-more", READ, SHAPE, "/val/bytes", .shape = SHAPE1(2), .says = "dataset /val/bytes is"},
    {"version", READ, INTEGER, "/", "format_version", .number = 9, .says = "tokens of format 9"},
    {"tokenizer", "inh", BYTES, "/tokenizer", .text = "no model",
     .says = "not a SentencePiece model"},
    {"tokenizer-other", "eopc", BYTES, "/tokenizer", .text = "no model",
     .says = "another tokenizer"},
};

/* ---------------------------------------------------------------- routes */

#define RUN "inepoR"
#define FITS "nep" /* who holds it against a model */

static const hostile_case of_routes[] = {
    {"kind", RUN, KIND, .number = DUO_KIND_CHECKPOINT, .says = "checkpoint"},
    {"no-tokens", RUN, DROP, "/tokens", .says = "dataset /tokens is missing"},
    {"no-routes", RUN, DROP, "/routes", .says = "dataset /routes is missing"},
    {"no-loss", "ep", DROP, "/loss", .says = "dataset /loss is missing"},
    {"no-policy", "oR", DROP, "/policies/small/loss",
     .says = "dataset /policies/small/loss is missing"},
    {"code", RUN, ELEMENT, "/routes", .number = 3, .says = "/routes holds 3, which is no module"},
    {"code-255", RUN, FIRST, "/policies/small/routes", .number = 255,
     .says = "/policies/small/routes holds 255, which is no module"},
    {"pattern", RUN, FIRST, "/fixed/patterns", .number = 9,
     .says = "/fixed/patterns holds 9, which is no module"},
    {"reference", RUN, ELEMENT, "/reference/oracle/routes", .number = 77,
     .says = "/reference/oracle/routes holds 77, which is no module"},
    {"nan", RUN, ELEMENT, "/loss", .real = NAN, .says = "/loss holds what is not finite"},
    {"inf", RUN, FIRST, "/policies/big/loss", .real = INFINITY,
     .says = "/policies/big/loss holds what is not finite"},
    {"nan-fixed", RUN, FIRST, "/fixed/loss", .real = NAN,
     .says = "/fixed/loss holds what is not finite"},
    {"id", FITS, ELEMENT, "/tokens", .number = 320, .says = "outside the vocabulary"},
    {"id-negative", FITS, FIRST, "/tokens", .number = UINT32_MAX, .says = "outside the vocabulary"},
    {"id-other", "o", FIRST, "/tokens", .number = UINT32_MAX, .says = "holds results of other"},
    {"tokens-type", RUN, TYPE, "/tokens", .number = DUO_F32, .says = "dataset /tokens is float32"},
    {"tokens-flat", RUN, SHAPE, "/tokens", .shape = SHAPE1(50),
     .says = "dataset /tokens is int32 [50]"},
    {"tokens-empty", RUN, SHAPE, "/tokens", .shape = SHAPE2(0, 25),
     .says = "/tokens holds no sequence"},
    {"tokens-width-0", RUN, SHAPE, "/tokens", .shape = SHAPE2(1 << 30, 0),
     .says = "/tokens holds no sequence"},
    {"tokens-width-1", RUN, SHAPE, "/tokens", .shape = SHAPE2(2, 1),
     .says = "/tokens holds no sequence"},
    {"layers-0", RUN, SHAPE, "/routes", .shape = SHAPE3(2, 24, 0),
     .says = "/routes holds no layer"},
    {"layers-1", FITS, SHAPE, "/routes", .shape = SHAPE3(2, 24, 1),
     .says = "dataset /routes is uint8"},
    {"short", RUN, SHAPE, "/routes", .shape = SHAPE3(2, 12, 4), .says = "dataset /routes is uint8"},
    {"policy-layers-0", "oR", SHAPE, "/policies/big/routes", .shape = SHAPE3(2, 24, 0),
     .says = "dataset /policies/big/routes is uint8"},
    {"version-0", RUN, INTEGER, "/", "format_version", .says = "routes of format 0"},
    {"version-3", RUN, INTEGER, "/", "format_version", .number = 3, .says = "routes of format 3"},
    {"no-version", RUN, LACKS, "/", "format_version", .says = "format_version of / is missing"},
    {"model", "ep", TEXT, "/", "model_hash", .text = "0", .says = "was found for the model 0"},
    {"model-other", "o", TEXT, "/", "model_hash", .text = "0",
     .says = "holds results with model_hash"},
    {"model-number", "nep", INTEGER, "/", "model_hash", .says = "model_hash of / is an integer"},
    {"done-0", "o", INTEGER, "/", "sequences_done", .says = "0 of 2 sequences are done"},
    {"done-most", "o", INTEGER, "/", "sequences_done", .number = UINT64_MAX,
     .says = "of 2 sequences"},
    {"fixed-shape", "o", SHAPE, "/fixed/patterns", .shape = SHAPE2(1, 2),
     .says = "dataset /fixed/patterns is uint8"},
};

/* ---------------------------------------------------------------- changes */

static void set_element(duo_dataset *d, size_t i, const hostile_case *c)
{
    unsigned char *at = (unsigned char *)d->data + i * duo_type_size(d->type);
    const float narrow = (float)c->real;
    if (d->type == DUO_F32)
        memcpy(at, &narrow, sizeof narrow);
    else if (d->type == DUO_F64)
        memcpy(at, &c->real, sizeof c->real);
    else
        memcpy(at, &c->number, duo_type_size(d->type)); /* little-endian, as everything here */
}

/* Of the same bytes or of zeros. */
static void reshape(hostile_file *file, store_dataset *d, duo_type type, duo_shape shape)
{
    size_t count = 0, bytes = 0;
    if (!store_shape_bytes(type, shape, &count, &bytes)) abort();
    char *name = strdup(d->is.name);
    void *data = calloc(bytes + 1, 1);
    const size_t had = d->is.count * duo_type_size(d->is.type);
    if (!name || !data) abort();
    memcpy(data, d->is.data, bytes < had ? bytes : had);
    hostile_drop(file, name);
    hostile_add(file, name, type, shape, data);
    free(name);
    free(data);
}

static void retype(hostile_file *file, store_dataset *d, duo_type type)
{
    const size_t had = d->is.count * duo_type_size(d->is.type);
    reshape(file, d, type, (duo_shape){1, {had / duo_type_size(type)}});
}

static void add_floats(hostile_file *file, const hostile_case *c)
{
    float values[64];
    for (size_t i = 0; i < 64; i++) values[i] = (float)c->real;
    hostile_add(file, c->object, DUO_F32, c->shape, values);
}

static void add_many(hostile_file *file, size_t n)
{
    for (size_t i = file->n_datasets; i < n; i++) {
        char name[24];
        snprintf(name, sizeof name, "/many/%07zu", i);
        hostile_add(file, name, DUO_U8, (duo_shape)SHAPE1(0), NULL);
    }
}

/* What a file of this shape would have, so that only one thing is wrong. */
static void keep_all_places(hostile_file *file)
{
    size_t end = STORE_ALIGN;
    for (size_t i = 0; i < file->n_datasets; i++) {
        store_dataset *d = &file->datasets[i];
        const size_t bytes = d->is.count * duo_type_size(d->is.type);
        d->offset = bytes ? end : 0;
        end = (end + bytes + STORE_ALIGN - 1) / STORE_ALIGN * STORE_ALIGN;
    }
    file->keep_places = true;
}

static void forget_data(store_dataset *d)
{
    free((void *)d->is.data);
    d->is.data = NULL;
}

static void change_dataset(hostile_file *file, const hostile_case *c)
{
    store_dataset *d = hostile_dataset(file, c->object);
    if (!d && c->change != EXTRA) {
        fprintf(stderr, "hostile: %s: there is no %s\n", c->name, c->object);
        exit(2);
    }
    const duo_shape overflowing = SHAPE3((size_t)1 << 32, (size_t)1 << 31, 7);
    switch (c->change) {
    case DROP:
        hostile_drop(file, c->object);
        break;
    case TYPE:
        retype(file, d, (duo_type)c->number);
        break;
    case SHAPE:
        reshape(file, d, d->is.type, c->shape);
        break;
    case ELEMENT:
        set_element(&d->is, d->is.count - 1, c);
        break;
    case FIRST:
        set_element(&d->is, 0, c);
        break;
    case BYTES:
        hostile_drop(file, c->object);
        hostile_add(file, c->object, DUO_U8, (duo_shape)SHAPE1(strlen(c->text)), c->text);
        break;
    case NAME:
        free((void *)d->is.name);
        d->is.name = strdup(c->text);
        break;
    case TWICE:
        hostile_add(file, c->object, d->is.type, d->is.shape, d->is.data);
        break;
    case EXTRA:
        add_floats(file, c);
        break;
    case OVERLAP:
        keep_all_places(file);
        d->offset = d == file->datasets ? d[1].offset : d[-1].offset;
        break;
    case AT:
        keep_all_places(file);
        d->offset = c->number;
        forget_data(d);
        break;
    case OVERFLOW:
        d->is.shape = overflowing;
        break;
    default:
        abort();
    }
}

static void change_attribute(hostile_file *file, const hostile_case *c)
{
    if (hostile_attribute(file, c->object, c->attribute))
        hostile_drop_attribute(file, c->object, c->attribute);
    if (c->change == LACKS) return;
    hostile_add_attribute(file, c->object, c->attribute, c->number, c->text);
    if (c->change != REAL) return;
    duo_attribute *a = hostile_attribute(file, c->object, c->attribute);
    a->type = DUO_ATTR_F64;
    a->f64 = c->real;
}

static void apply(hostile_file *file, const hostile_case *c)
{
    switch (c->change) {
    case KIND:
        file->kind = (duo_kind)c->number;
        return;
    case STATED:
        file->stated = c->number;
        return;
    case MANY:
        add_many(file, c->number);
        return;
    case ORDER: {
        const store_dataset first = file->datasets[0];
        file->datasets[0] = file->datasets[1];
        file->datasets[1] = first;
        file->keep_order = true;
        return;
    }
    case LACKS:
    case INTEGER:
    case REAL:
    case TEXT:
        change_attribute(file, c);
        return;
    default:
        change_dataset(file, c);
    }
}

/* ---------------------------------------------------------------- all of them */

typedef struct hostile_kind {
    const char *main, *readers;
    const hostile_case *cases;
    size_t n;
} hostile_kind;

#define CASES(list) list, sizeof list / sizeof *list

static const hostile_kind kinds[] = {
    [DUO_KIND_CHECKPOINT] = {EMB, ALL, CASES(of_checkpoint)},
    [DUO_KIND_TOKENS] = {"/train/tokens", READ, CASES(of_tokens)},
    [DUO_KIND_ROUTES] = {"/routes", RUN, CASES(of_routes)},
    [DUO_KIND_PROBE] = {"/tokens", "i", NULL, 0},
};

static void make(const char *from, const char *folder, const hostile_case *c)
{
    char path[4096];
    hostile_file file = hostile_read(from);
    apply(&file, c);
    snprintf(path, sizeof path, "%s/%s.h5", folder, c->name);
    hostile_write(&file, path);
    printf("%s\t%s\t%s\n", c->name, c->readers, c->says);
    hostile_free(&file);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fputs("usage: hostile FILE FOLDER\n", stderr);
        return 2;
    }
    hostile_file good = hostile_read(argv[1]);
    const hostile_kind *kind = &kinds[good.kind];
    hostile_free(&good);
    for (size_t i = 0; i < sizeof of_index / sizeof *of_index; i++) {
        hostile_case c = of_index[i];
        c.object = kind->main;
        c.readers = kind->readers;
        make(argv[1], argv[2], &c);
    }
    for (size_t i = 0; i < kind->n; i++) make(argv[1], argv[2], &kind->cases[i]);
    return 0;
}
