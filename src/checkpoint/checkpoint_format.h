#ifndef DUO_CHECKPOINT_FORMAT_H
#define DUO_CHECKPOINT_FORMAT_H

#include <stdio.h>

#include "duo/checkpoint.h"

/* Names in a checkpoint that its writer and its reader share. */

#define CHECKPOINT_MODEL "/model"
#define CHECKPOINT_M "/optimizer/m"
#define CHECKPOINT_V "/optimizer/v"
#define CHECKPOINT_TRAIN "/train"
#define CHECKPOINT_LOSSES "/train/losses"
#define CHECKPOINT_RECIPE "/recipe"
#define CHECKPOINT_TOKENIZER "/tokenizer"

static const char *const checkpoint_archs[] = {[DUO_ARCH_LLAMA] = "llama"};

/** The dataset of a parameter under one of the groups above. */
typedef struct checkpoint_name {
    char text[sizeof CHECKPOINT_M + sizeof((duo_param *)0)->name];
} checkpoint_name;

static inline checkpoint_name checkpoint_tensor(const char *group, const duo_param *param)
{
    checkpoint_name name;
    snprintf(name.text, sizeof name.text, "%s/%s", group, param->name);
    return name;
}

static inline duo_shape checkpoint_shape(const duo_param *param)
{
    return (duo_shape){.rank = param->rank, .size = {param->shape[0], param->shape[1]}};
}

/** The attribute of /train for a module's multiplier, absent where it is 0. */
typedef struct checkpoint_attribute {
    char text[24];
} checkpoint_attribute;

static inline checkpoint_attribute checkpoint_multiplier(duo_module module)
{
    checkpoint_attribute name;
    snprintf(name.text, sizeof name.text, "multiplier_%s", duo_module_name(module));
    return name;
}

/** The sizes of a model, each listed once for writing and reading. */
typedef struct checkpoint_size {
    const char *name; /* attribute of /model */
    size_t *value;
} checkpoint_size;

enum { CHECKPOINT_SIZES = 8 };

static inline void checkpoint_sizes(checkpoint_size sizes[CHECKPOINT_SIZES], duo_config *config)
{
    const checkpoint_size all[CHECKPOINT_SIZES] = {
        {"n_layers", &config->n_layers},     {"d_model", &config->d_model},
        {"n_heads", &config->n_heads},       {"n_kv_heads", &config->n_kv_heads},
        {"d_big", &config->d_big},           {"d_small", &config->d_small},
        {"vocab_size", &config->vocab_size}, {"max_seq", &config->max_seq},
    };
    for (size_t i = 0; i < CHECKPOINT_SIZES; i++) sizes[i] = all[i];
}

/** And the counts of a run's progress. */
typedef struct checkpoint_count {
    const char *name; /* attribute of /train */
    uint64_t *value;
} checkpoint_count;

enum { CHECKPOINT_COUNTS = 4, CHECKPOINT_BAD_COUNTS = 2 };
#define CHECKPOINT_COUNT_MAX ((uint64_t)1 << 56) /* far from where a sum of them wraps */

static inline void checkpoint_counts(checkpoint_count counts[CHECKPOINT_COUNTS],
                                     duo_progress *progress)
{
    const checkpoint_count all[CHECKPOINT_COUNTS] = {
        {"stage_step", &progress->stage_step},
        {"step", &progress->step},
        {"tokens_seen", &progress->tokens},
        {"sequences", &progress->sequences}, /* the next batch begins with this one */
    };
    for (size_t i = 0; i < CHECKPOINT_COUNTS; i++) counts[i] = all[i];
}

/** Those that are absent where they are 0. */
static inline void checkpoint_bad_counts(checkpoint_count counts[CHECKPOINT_BAD_COUNTS],
                                         duo_progress *progress)
{
    const checkpoint_count all[CHECKPOINT_BAD_COUNTS] = {
        {"skipped_steps", &progress->skipped},
        {"rollbacks", &progress->rollbacks},
    };
    for (size_t i = 0; i < CHECKPOINT_BAD_COUNTS; i++) counts[i] = all[i];
}

#endif
