#include "recipe_keys.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duo/number.h"

const char *const recipe_section_names[RECIPE_SECTIONS] = {"", "model", "data", "domain", "stage"};
const char *const recipe_stage_kinds[] = {"dense", "duo", "small", "router", NULL};
static const char *const arches[] = {"llama"};
static const char *const precisions[] = {"fp32", "bf16"};
static const char *const trains[] = {"router", "router+small", "all"};
static const char *const penalties[] = {"squared", "hinge", "flops", "lagrangian"};
static const char *const lessons[] = {"routes", "labels", "gaps"};
static const char *const curves[] = {"constant", "linear", "cosine", "exponential"};

static_assert(sizeof(duo_stage_kind) == sizeof(unsigned) && sizeof(duo_curve) == sizeof(unsigned) &&
                  sizeof(duo_arch) == sizeof(unsigned) &&
                  sizeof(duo_precision) == sizeof(unsigned) &&
                  sizeof(duo_router_trains) == sizeof(unsigned) &&
                  sizeof(duo_penalty) == sizeof(unsigned) && sizeof(duo_lesson) == sizeof(unsigned),
              "RECIPE_CHOICE copies an enum as an unsigned int");

enum {
    ROUTER = 1 << DUO_STAGE_ROUTER,
    RANDOM = 1 << DUO_STAGE_DUO | 1 << DUO_STAGE_SMALL,
    ALL = 1 << DUO_STAGE_DENSE | RANDOM | ROUTER
};

#define KEY(struct_type, in, key_type, key, field)                                                 \
    .section = RECIPE_##in, .name = key, .type = RECIPE_##key_type,                                \
    .offset = offsetof(struct_type, field)
#define TOP(type, key) KEY(duo_recipe, ROOT, type, #key, key)
#define MODEL(type, key) KEY(duo_config, MODEL, type, #key, key)
#define STAGE(type, key) KEY(duo_stage_recipe, STAGE, type, #key, key)
#define CHOOSE(words, last) .choices = (words), .most = (last)
#define RANGE(from, to) .least = (from), .most = (to)

const recipe_key recipe_keys[] = {
    {TOP(NAME, name), .required = true, .meaning = "the run folder is checkpoints/NAME"},
    {TOP(U64, seed), .preset = "1", RANGE(0, INFINITY), .meaning = "of every random number"},
    {TOP(SIZE, keep), .preset = "3", RANGE(1, 1e6),
     .meaning = "checkpoints kept besides the ends of stages and the best"},
    {TOP(PATH, init), .preset = "",
     .meaning = "checkpoint or run folder whose weights a new run starts from"},

    {MODEL(CHOICE, arch), .preset = "llama", CHOOSE(arches, DUO_ARCH_LLAMA), .meaning = "family"},
    {MODEL(SIZE, n_layers), .required = true, RANGE(1, DUO_MAX_LAYERS), .meaning = "layers"},
    {MODEL(SIZE, d_model), .required = true, RANGE(1, 65536),
     .meaning = "width of the residual stream"},
    {MODEL(SIZE, n_heads), .required = true, RANGE(1, 1024), .meaning = "attention heads"},
    {MODEL(SIZE, n_kv_heads), .preset = "0", RANGE(0, 1024),
     .meaning = "heads of keys and values; 0: n_heads"},
    {MODEL(SIZE, d_big), .required = true, RANGE(1, 1 << 20), .meaning = "width of the big FFN"},
    {MODEL(SIZE, d_small), .required = true, RANGE(1, 1 << 20),
     .meaning = "width of the small FFN"},
    {MODEL(SIZE, vocab_size), .preset = "0", RANGE(0, 1 << 24),
     .meaning = "tokens known; 0: the token file's"},
    {MODEL(SIZE, max_seq), .required = true, RANGE(1, 1 << 20),
     .meaning = "positions that the model can see"},
    {MODEL(REAL, norm_eps), .preset = "1e-5", RANGE(1e-12, 0.1),
     .meaning = "added to the mean square in RMSNorm"},
    {MODEL(REAL, rope_theta), .preset = "10000", RANGE(1, 1e12), .meaning = "base of RoPE"},
    {MODEL(BOOL, tied_embeddings), .preset = "true",
     .meaning = "the head uses the embedding's weights"},

    {KEY(duo_recipe, DATA, PATH, "tokens", tokens), .preset = "", .meaning = "token file"},

    {KEY(duo_domain_recipe, DOMAIN, REAL, "weight", weight), .preset = "1", RANGE(0, 1e9),
     .meaning = "how often the domain is drawn, relative to the others"},

    {STAGE(CHOICE, kind), CHOOSE(recipe_stage_kinds, DUO_STAGE_ROUTER), .stages = ALL,
     .meaning = "what is trained and how tokens are routed; by default the title"},
    {STAGE(U64, steps), .required = true, RANGE(1, 1e12), .stages = ALL,
     .meaning = "optimizer steps"},
    {STAGE(SIZE, batch_size), .preset = "32", RANGE(1, 1 << 20), .stages = ALL,
     .meaning = "sequences per step"},
    {STAGE(SIZE, micro_batch), .preset = "0", RANGE(0, 1 << 20), .stages = ALL,
     .meaning = "sequences per forward and backward; 0: batch_size"},
    {STAGE(SIZE, seq_len), .preset = "0", RANGE(0, 1 << 20), .stages = ALL,
     .meaning = "tokens per sequence; 0: max_seq"},
    {STAGE(CHOICE, precision), .preset = "fp32", CHOOSE(precisions, DUO_BF16), .stages = ALL,
     .meaning = "operands of matrix products; weights, moments, gradients and sums stay fp32"},
    {STAGE(REAL, lr), .preset = "6e-4", RANGE(1e-12, 10), .stages = ALL,
     .meaning = "peak learning rate"},
    {STAGE(REAL, min_lr), .preset = "0.1", RANGE(0, 1), .stages = ALL,
     .meaning = "end of the decay, as a share of lr"},
    {STAGE(U64, warmup), .preset = "100", RANGE(0, 1e12), .stages = ALL,
     .meaning = "steps of linear warm-up; the default is at most a tenth of steps"},
    {STAGE(CHOICE, schedule), .preset = "cosine", CHOOSE(curves, DUO_CURVE_COSINE), .stages = ALL,
     .meaning = "of the learning rate"},
    {STAGE(U64, decay_steps), .preset = "0", RANGE(0, 1e12), .stages = ALL,
     .meaning = "constant schedule: steps of a linear tail"},
    {STAGE(REAL, beta1), .preset = "0.9", RANGE(0, 0.999999), .stages = ALL,
     .meaning = "AdamW, mean of the gradient"},
    {STAGE(REAL, beta2), .preset = "0.95", RANGE(0, 0.999999), .stages = ALL,
     .meaning = "AdamW, mean of its square"},
    {STAGE(REAL, eps), .preset = "1e-8", RANGE(1e-20, 1), .stages = ALL,
     .meaning = "AdamW, added to the root"},
    {STAGE(REAL, weight_decay), .preset = "0.1", RANGE(0, 10), .stages = ALL,
     .meaning = "AdamW, of weights that are matrices"},
    {STAGE(REAL, clip), .preset = "1", RANGE(0, 1e9), .stages = ALL,
     .meaning = "largest norm of the gradient; 0: no clipping"},
    {STAGE(U64, bad_steps), .preset = "5", RANGE(0, 1e12), .stages = ALL,
     .meaning = "steps in a row that may be skipped because a number is not finite"},
    {STAGE(SHARE, rollback_lr), .preset = "none", RANGE(0.01, 0.9), .stages = ALL,
     .meaning = "after more: back to the last checkpoint with so many times the lr; none: stop"},
    {STAGE(SIZE, spike_window), .preset = "100", RANGE(0, 4096), .stages = ALL,
     .meaning = "steps whose losses the next one is held against; 0: none is"},
    {STAGE(REAL, spike_sigma), .preset = "8", RANGE(1, 1e6), .stages = ALL,
     .meaning = "standard deviations above their mean from which a loss is a spike: a warning"},

    {KEY(duo_stage_recipe, STAGE, REAL, "p_skip", p[DUO_SKIP]), .preset = "0", RANGE(0, 1),
     .stages = RANDOM, .meaning = "random routing: probability of skip"},
    {KEY(duo_stage_recipe, STAGE, REAL, "p_small", p[DUO_SMALL]), .preset = "0.5", RANGE(0, 1),
     .stages = RANDOM, .meaning = "random routing: probability of small"},
    {KEY(duo_stage_recipe, STAGE, REAL, "p_big", p[DUO_BIG]), .preset = "0.5", RANGE(0, 1),
     .stages = RANDOM, .meaning = "random routing: probability of big"},

    {STAGE(MODULES, modules), .preset = "small,big", .stages = ROUTER,
     .meaning = "what routers choose among"},
    {.section = RECIPE_STAGE,
     .name = "budget",
     .type = RECIPE_REAL,
     .offset = RECIPE_NO_FIELD,
     RANGE(0, DUO_MAX_LAYERS),
     .stages = ROUTER,
     .meaning = "big layers per token: another way to write target_big"},
    {KEY(duo_stage_recipe, STAGE, SHARE, "target_skip", target[DUO_SKIP]), .preset = "none",
     RANGE(0, 1), .stages = ROUTER, .meaning = "wanted share of skip"},
    {KEY(duo_stage_recipe, STAGE, SHARE, "target_small", target[DUO_SMALL]), .preset = "none",
     RANGE(0, 1), .stages = ROUTER, .meaning = "wanted share of small"},
    {KEY(duo_stage_recipe, STAGE, SHARE, "target_big", target[DUO_BIG]), .preset = "none",
     RANGE(0, 1), .stages = ROUTER, .meaning = "wanted share of big"},
    {STAGE(SIZE, router_hidden), .preset = "0", RANGE(0, 65536), .stages = ROUTER,
     .meaning = "width of the routers' hidden layer; 0: linear"},
    {STAGE(INPUTS, router_inputs), .preset = "none", .stages = ROUTER,
     .meaning = "what routers read besides the hidden state: budget, previous, position"},
    {STAGE(SHARE, budget_min), .preset = "none", RANGE(0, DUO_MAX_LAYERS), .stages = ROUTER,
     .meaning = "budget as an input: least big layers per token in training; none: 0"},
    {STAGE(SHARE, budget_max), .preset = "none", RANGE(0, DUO_MAX_LAYERS), .stages = ROUTER,
     .meaning = "and the most; none: n_layers"},
    {STAGE(PATH, start), .preset = "", .stages = ROUTER,
     .meaning =
         "pattern that new routers lean to, such as the best fixed one: B, S or - per layer"},
    {STAGE(REAL, lean), .preset = "2", RANGE(0, 100), .stages = ROUTER,
     .meaning = "by how much the logits of its modules begin above the others"},
    {STAGE(CHOICE, train), .preset = "router", CHOOSE(trains, DUO_TRAIN_ALL), .stages = ROUTER,
     .meaning = "what is trained"},
    {STAGE(REAL, router_lr), .preset = "0", RANGE(0, 10), .stages = ROUTER,
     .meaning = "peak learning rate of the routers; 0: lr"},
    {STAGE(CHOICE, penalty), .preset = "squared", CHOOSE(penalties, DUO_PENALTY_LAGRANGIAN),
     .stages = ROUTER, .meaning = "how shares off their target are charged"},
    {STAGE(REAL, alpha), .preset = "10", RANGE(0, 1e6), .stages = ROUTER,
     .meaning = "weight of the penalty"},
    {STAGE(REAL, target_flops), .preset = "0", RANGE(0, 1e18), .stages = ROUTER,
     .meaning = "penalty flops: FLOPs per token; 0: what budget and targets mean"},
    {STAGE(REAL, dual_lr), .preset = "0.05", RANGE(0, 1e6), .stages = ROUTER,
     .meaning = "penalty lagrangian: step of the multipliers"},
    {STAGE(REAL, balance), .preset = "0", RANGE(0, 1e6), .stages = ROUTER,
     .meaning = "weight of the squared loss of each layer's own shares"},
    {STAGE(REAL, z_loss), .preset = "0", RANGE(0, 1e6), .stages = ROUTER,
     .meaning = "weight of the logits' squared log-sum-exp"},
    {STAGE(REAL, tau_start), .preset = "1", RANGE(1e-4, 1e4), .stages = ROUTER,
     .meaning = "temperature at the first step"},
    {STAGE(REAL, tau_end), .preset = "0.1", RANGE(1e-4, 1e4), .stages = ROUTER,
     .meaning = "temperature at the last step"},
    {STAGE(CHOICE, tau_schedule), .preset = "exponential", CHOOSE(curves, DUO_CURVE_EXPONENTIAL),
     .stages = ROUTER, .meaning = "of the temperature"},
    {STAGE(U64, tau_tail), .preset = "0", RANGE(0, 1e12), .stages = ROUTER,
     .meaning = "last steps, at tau_end"},
    {STAGE(U64, hard_tail), .preset = "0", RANGE(0, 1e12), .stages = ROUTER,
     .meaning = "last steps, with hard choices forward"},
    {STAGE(BOOL, straight_through), .preset = "false", .stages = ROUTER,
     .meaning = "hard choices forward, soft ones backward"},
    {STAGE(BOOL, noise), .preset = "true", .stages = ROUTER,
     .meaning = "Gumbel noise on the logits"},
    {STAGE(SIZE, calibrate), .preset = "512", RANGE(0, 1e9), .stages = ROUTER,
     .meaning = "windows of training text that set the thresholds at the end; 0: none"},
    {STAGE(PATH, teacher), .preset = "", .stages = ROUTER,
     .meaning = "routes file of an oracle to learn from, in place of the sampler's text"},
    {STAGE(CHOICE, learn), .preset = "routes", CHOOSE(lessons, DUO_LEARN_GAPS), .stages = ROUTER,
     .meaning = "from the teacher: its routes, or of what choices along them are worth the best "
                "(labels) or how much it is (gaps); these need duo oracle --values"},
    {STAGE(REAL, huber), .preset = "0", RANGE(0, 1e6), .stages = ROUTER,
     .meaning = "gaps: errors beyond so many root mean squares count linearly; 0: none do"},
    {STAGE(REAL, teach), .preset = "1", RANGE(0, 1e6), .stages = ROUTER,
     .meaning = "weight of the teacher's loss"},
    {STAGE(REAL, focal), .preset = "0", RANGE(0, 16), .stages = ROUTER,
     .meaning = "exponent of the focal loss; 0: cross-entropy"},
    {STAGE(REAL, language), .preset = "0", RANGE(0, 1e6), .stages = ROUTER,
     .meaning = "teacher: weight of the language model's loss; 0: the pass follows its routes"},

    {STAGE(U64, log_every), .preset = "10", RANGE(0, 1e12), .stages = ALL,
     .meaning = "steps per line of metrics; 0: never"},
    {STAGE(U64, val_every), .preset = "100", RANGE(0, 1e12), .stages = ALL,
     .meaning = "steps per validation; 0: never"},
    {STAGE(U64, save_every), .preset = "250", RANGE(0, 1e12), .stages = ALL,
     .meaning = "steps per checkpoint; 0: only at the end, and a step before thresholds are set"},
    {STAGE(SIZE, val_windows), .preset = "32", RANGE(1, 1e9), .stages = ALL,
     .meaning = "held-out windows per validation"},
};

const size_t recipe_n_keys = sizeof recipe_keys / sizeof *recipe_keys;

/* ---------------------------------------------------------------- reading */

bool recipe_title_valid(const char *title)
{
    const size_t length = strlen(title);
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)title[i]) && title[i] != '-' && title[i] != '_') return false;
    return length > 0 && length < DUO_NAME_MAX;
}

static bool folder_name_valid(const char *name)
{
    const size_t length = strlen(name);
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)name[i]) && (i == 0 || !strchr("-_.", name[i]))) return false;
    return length > 0 && length < DUO_NAME_MAX;
}

/* A path is written between quotes without escapes. */
static bool path_valid(const char *path)
{
    for (const char *c = path; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f || strchr("\"\\$", *c)) return false;
    return strlen(path) < DUO_PATH_MAX;
}

static bool out_of_range(const recipe_key *key, const char *text, char why[RECIPE_WHY_MAX])
{
    if (isfinite(key->most))
        snprintf(why, RECIPE_WHY_MAX, "%.40s is outside %.15g..%.15g", text, key->least, key->most);
    else
        snprintf(why, RECIPE_WHY_MAX, "%.40s is outside 0..%" PRIu64, text, UINT64_MAX);
    return false;
}

static bool read_whole(const recipe_key *key, uint64_t *value, const char *text,
                       char why[RECIPE_WHY_MAX])
{
    const duo_number outcome = duo_number_u64(value, text);
    if (outcome == DUO_NUMBER_MALFORMED) {
        snprintf(why, RECIPE_WHY_MAX, "'%.80s' is not a whole number", text);
        return false;
    }
    if (outcome == DUO_NUMBER_RANGE || !((double)*value >= key->least) ||
        !((double)*value <= key->most))
        return out_of_range(key, text, why);
    return true;
}

static bool read_real(const recipe_key *key, double *value, const char *text,
                      char why[RECIPE_WHY_MAX])
{
    const duo_number outcome = duo_number_real(value, text);
    if (outcome == DUO_NUMBER_MALFORMED) {
        snprintf(why, RECIPE_WHY_MAX, "'%.80s' is not a number", text);
        return false;
    }
    if (outcome == DUO_NUMBER_RANGE || !(*value >= key->least && *value <= key->most))
        return out_of_range(key, text, why);
    return true;
}

static bool read_choice(const recipe_key *key, unsigned *value, const char *text,
                        char why[RECIPE_WHY_MAX])
{
    const unsigned last = (unsigned)key->most;
    for (*value = 0; *value <= last; ++*value)
        if (strcmp(key->choices[*value], text) == 0) return true;
    int used = snprintf(why, RECIPE_WHY_MAX, "'%.80s' is not one of", text);
    for (unsigned i = 0; i <= last; i++)
        used += snprintf(why + used, RECIPE_WHY_MAX - (size_t)used, "%s %s", i > 0 ? "," : "",
                         key->choices[i]);
    return false;
}

static bool read_bool(bool *value, const char *text, char why[RECIPE_WHY_MAX])
{
    *value = strcmp(text, "true") == 0;
    if (*value || strcmp(text, "false") == 0) return true;
    snprintf(why, RECIPE_WHY_MAX, "'%.80s' is neither true nor false", text);
    return false;
}

static bool read_modules(duo_module_set *set, const char *text, char why[RECIPE_WHY_MAX])
{
    if (duo_module_set_parse(set, text) && duo_module_count(*set) >= 2) return true;
    snprintf(why, RECIPE_WHY_MAX, "'%.80s' does not name two or three of skip, small, big", text);
    return false;
}

bool recipe_value_read(const recipe_key *key, void *field, const char *text,
                       char why[RECIPE_WHY_MAX])
{
    uint64_t whole = 0;
    switch (key->type) {
    case RECIPE_SIZE:
        if (!read_whole(key, &whole, text, why)) return false;
        *(size_t *)field = (size_t)whole;
        return true;
    case RECIPE_U64:
        return read_whole(key, field, text, why);
    case RECIPE_REAL:
        return read_real(key, field, text, why);
    case RECIPE_SHARE:
        if (strcmp(text, "none") != 0) return read_real(key, field, text, why);
        *(double *)field = -1;
        return true;
    case RECIPE_BOOL:
        return read_bool(field, text, why);
    case RECIPE_CHOICE:
        return read_choice(key, field, text, why);
    case RECIPE_MODULES:
        return read_modules(field, text, why);
    case RECIPE_INPUTS:
        if (duo_router_inputs_parse(field, text)) return true;
        snprintf(why, RECIPE_WHY_MAX,
                 "'%.80s' is neither none nor some of budget, previous, position", text);
        return false;
    case RECIPE_NAME:
        if (folder_name_valid(text)) {
            strcpy(field, text);
            return true;
        }
        snprintf(why, RECIPE_WHY_MAX,
                 "'%.80s' is not a name of letters, digits, '-', '_' and '.' that starts with a "
                 "letter or digit and is shorter than %d",
                 text, DUO_NAME_MAX);
        return false;
    case RECIPE_PATH:
        if (path_valid(text)) {
            strcpy(field, text);
            return true;
        }
        snprintf(why, RECIPE_WHY_MAX,
                 "'%.80s' is not a path without \", \\, $ and control characters, shorter than %d",
                 text, DUO_PATH_MAX);
        return false;
    case RECIPE_TYPES:
        break;
    }
    assert(false && "unknown type of key");
    return false;
}

/* ---------------------------------------------------------------- writing */

/* The fewest digits, from nine on, that read back as the same bits. */
static void write_real(double value, char text[RECIPE_VALUE_MAX])
{
    char number[32];
    for (int digits = 9; digits <= 17; digits++) {
        snprintf(number, sizeof number, "%.*g", digits, value);
        if (strtod(number, NULL) == value) break;
    }
    /* "1e+06": no plus sign outside quotes. */
    char *plus = strchr(number, '+');
    if (plus) memmove(plus, plus + 1, strlen(plus));
    strcpy(text, number);
}

char *recipe_value_write(const recipe_key *key, const void *field, char text[RECIPE_VALUE_MAX])
{
    char set[32];
    switch (key->type) {
    case RECIPE_SIZE:
        snprintf(text, RECIPE_VALUE_MAX, "%zu", *(const size_t *)field);
        break;
    case RECIPE_U64:
        snprintf(text, RECIPE_VALUE_MAX, "%" PRIu64, *(const uint64_t *)field);
        break;
    case RECIPE_SHARE:
        if (*(const double *)field < 0) {
            strcpy(text, "none");
            break;
        }
        write_real(*(const double *)field, text);
        break;
    case RECIPE_REAL:
        write_real(*(const double *)field, text);
        break;
    case RECIPE_BOOL:
        strcpy(text, *(const bool *)field ? "true" : "false");
        break;
    case RECIPE_CHOICE:
        /* A plus sign stands outside quotes nowhere in a recipe. */
        snprintf(text, RECIPE_VALUE_MAX,
                 strchr(key->choices[*(const unsigned *)field], '+') ? "\"%s\"" : "%s",
                 key->choices[*(const unsigned *)field]);
        break;
    case RECIPE_INPUTS:
        snprintf(text, RECIPE_VALUE_MAX, "\"%s\"",
                 duo_router_inputs_text(set, *(const duo_router_inputs *)field));
        break;
    case RECIPE_MODULES:
        snprintf(text, RECIPE_VALUE_MAX, "\"%s\"",
                 duo_module_set_text(set, *(const duo_module_set *)field));
        break;
    case RECIPE_NAME:
    case RECIPE_PATH:
        snprintf(text, RECIPE_VALUE_MAX, "\"%s\"", (const char *)field);
        break;
    case RECIPE_TYPES:
        assert(false && "unknown type of key");
    }
    return text;
}
