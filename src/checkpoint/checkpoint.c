#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "checkpoint_format.h"
#include "duo/kernels.h"
#include "duo/number.h"

/* A chain, so that nothing has to be held in memory and nothing can fail: each link is the hash of
 * the link before, of a name and of its values. */
static duo_hash hash_groups(const duo_model *model, duo_group_set groups)
{
    struct {
        duo_hash before, name, values;
    } link;
    duo_hash hash = {0};
    for (size_t i = 0; i < model->params.n; i++) {
        const duo_param *p = &model->params.table[i];
        if (!(groups & DUO_GROUP_BIT(p->group))) continue;
        link.before = hash;
        link.name = duo_hash_bytes(p->name, strlen(p->name));
        link.values = duo_hash_bytes(model->weights.tensors[i], p->count * sizeof(float));
        hash = duo_hash_bytes(&link, sizeof link);
    }
    return hash;
}

duo_hash duo_model_hash(const duo_model *model)
{
    return hash_groups(model, DUO_ALL_GROUPS);
}

duo_hash duo_model_hash_without_routers(const duo_model *model)
{
    return hash_groups(model, DUO_ALL_GROUPS & ~DUO_GROUP_BIT(DUO_GROUP_ROUTER));
}

/* ---------------------------------------------------------------- what may be saved */

static duo_status check_tree(const char *path, const char *group, const duo_tree *tree)
{
    if (!tree) return DUO_OK;
    for (size_t i = 0; i < tree->params->n; i++) {
        const duo_param *p = &tree->params->table[i];
        if (tree->tensors[i] && !duo_all_finite(tree->tensors[i], p->count))
            return duo_fail(DUO_ENUMBER, "%s: not saved: %s is not finite", path,
                            checkpoint_tensor(group, p).text);
    }
    return DUO_OK;
}

/* A checkpoint with a NaN in it could only be resumed into the same failure. */
static duo_status check_state(const char *path, const duo_checkpoint_state *state)
{
    const struct {
        const char *name;
        double value;
    } numbers[] = {
        {"loss", state->loss},
        {"best_loss", state->progress->best_loss},
        {"lr", state->lr},
        {"temperature", state->tau},
        {"multiplier_skip", state->progress->multiplier[DUO_SKIP]},
        {"multiplier_small", state->progress->multiplier[DUO_SMALL]},
        {"multiplier_big", state->progress->multiplier[DUO_BIG]},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!isfinite(numbers[i].value))
            return duo_fail(DUO_ENUMBER, "%s: not saved: %s is %g", path, numbers[i].name,
                            numbers[i].value);
    duo_status status = check_tree(path, CHECKPOINT_MODEL, &state->model->weights);
    if (status == DUO_OK) status = check_tree(path, CHECKPOINT_M, state->m);
    if (status == DUO_OK) status = check_tree(path, CHECKPOINT_V, state->v);
    return status;
}

/* ---------------------------------------------------------------- writing */

typedef struct created {
    char text[32];
} created;

/* The clock would make files of the same state differ. */
static created created_text(void)
{
    const uint64_t year_10000 = 253402300800;
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    uint64_t seconds = 0;
    if (!epoch || duo_number_u64(&seconds, epoch) != DUO_NUMBER_OK || seconds >= year_10000)
        seconds = 0;
    const time_t time = (time_t)seconds;
    struct tm date;
    created out;
    gmtime_r(&time, &date);
    strftime(out.text, sizeof out.text, "%Y-%m-%dT%H:%M:%SZ", &date);
    return out;
}

static duo_status write_root(duo_store_writer *file, const duo_model *model)
{
    char hash[33];
    duo_hash_text(hash, duo_model_hash(model));
    duo_status status = duo_store_set_u64(file, "/", "format_version", DUO_CHECKPOINT_VERSION);
    if (status == DUO_OK) status = duo_store_set_text(file, "/", "producer", "duo " DUO_VERSION);
    if (status == DUO_OK) status = duo_store_set_text(file, "/", "created", created_text().text);
    if (status == DUO_OK) status = duo_store_set_text(file, "/", "model_hash", hash);
    return status;
}

static duo_status write_bytes(duo_store_writer *file, const char *name, const void *data,
                              size_t bytes)
{
    const duo_shape shape = {.rank = 1, .size = {bytes}};
    return duo_store_write(file, name, DUO_U8, shape, data);
}

static duo_status write_recipe(duo_store_writer *file, const char *recipe)
{
    char hash[33];
    duo_hash_text(hash, duo_hash_bytes(recipe, strlen(recipe)));
    const duo_status status = write_bytes(file, CHECKPOINT_RECIPE, recipe, strlen(recipe));
    if (status != DUO_OK) return status;
    return duo_store_set_text(file, CHECKPOINT_RECIPE, "hash", hash);
}

static duo_status write_config(duo_store_writer *file, duo_config config)
{
    const char *const model = CHECKPOINT_MODEL;
    checkpoint_size sizes[CHECKPOINT_SIZES];
    checkpoint_sizes(sizes, &config);
    duo_status status = duo_store_set_text(file, model, "arch", checkpoint_archs[config.arch]);
    for (size_t i = 0; i < CHECKPOINT_SIZES && status == DUO_OK; i++)
        status = duo_store_set_u64(file, model, sizes[i].name, *sizes[i].value);
    if (status == DUO_OK)
        status = duo_store_set_u64(file, model, "d_head", duo_head_width(&config));
    if (status == DUO_OK) status = duo_store_set_f64(file, model, "norm_eps", config.norm_eps);
    if (status == DUO_OK) status = duo_store_set_f64(file, model, "rope_theta", config.rope_theta);
    if (status == DUO_OK)
        status = duo_store_set_u64(file, model, "tied_embeddings", config.tied_embeddings);
    if (status != DUO_OK || config.router_modules == 0) return status;
    char modules[16], inputs[32];
    status = duo_store_set_text(file, model, "router_modules",
                                duo_module_set_text(modules, config.router_modules));
    if (status == DUO_OK && config.router_hidden > 0)
        status = duo_store_set_u64(file, model, "router_hidden", config.router_hidden);
    if (status == DUO_OK && config.router_inputs != 0)
        status = duo_store_set_text(file, model, "router_inputs",
                                    duo_router_inputs_text(inputs, config.router_inputs));
    return status;
}

static duo_status write_thresholds(duo_store_writer *file, const duo_model *model)
{
    const duo_shape shape = {2, {duo_threshold_rows(&model->params.config), DUO_MODULES}};
    if (!model->calibrated) return DUO_OK;
    return duo_store_write(file, DUO_CHECKPOINT_THRESHOLDS, DUO_F32, shape, model->thresholds);
}

static duo_status write_tree(duo_store_writer *file, const char *group, const duo_tree *tree)
{
    duo_status status = DUO_OK;
    if (!tree) return status;
    for (size_t i = 0; i < tree->params->n && status == DUO_OK; i++) {
        const duo_param *p = &tree->params->table[i];
        if (tree->tensors[i])
            status = duo_store_write(file, checkpoint_tensor(group, p).text, DUO_F32,
                                     checkpoint_shape(p), tree->tensors[i]);
    }
    return status;
}

static duo_status write_train(duo_store_writer *file, const duo_checkpoint_state *state)
{
    const char *const train = CHECKPOINT_TRAIN, *isa = duo_isa_name(duo_kernels_isa());
    duo_progress progress = *state->progress;
    checkpoint_count counts[CHECKPOINT_COUNTS];
    checkpoint_counts(counts, &progress);
    duo_status status = duo_store_set_text(file, train, "stage", state->stage);
    if (status == DUO_OK) status = duo_store_set_u64(file, train, "stage_index", progress.stage);
    for (size_t i = 0; i < CHECKPOINT_COUNTS && status == DUO_OK; i++)
        status = duo_store_set_u64(file, train, counts[i].name, *counts[i].value);
    if (status == DUO_OK) status = duo_store_set_u64(file, train, "seed", state->seed);
    if (status == DUO_OK) status = duo_store_set_text(file, train, "isa", isa);
    if (status == DUO_OK) status = duo_store_set_f64(file, train, "lr", state->lr);
    if (status == DUO_OK) status = duo_store_set_f64(file, train, "temperature", state->tau);
    if (status == DUO_OK) status = duo_store_set_f64(file, train, "loss", state->loss);
    if (status == DUO_OK) status = duo_store_set_f64(file, train, "best_loss", progress.best_loss);
    for (duo_module m = 0; m < DUO_MODULES && status == DUO_OK; m++)
        if (progress.multiplier[m] != 0)
            status = duo_store_set_f64(file, train, checkpoint_multiplier(m).text,
                                       progress.multiplier[m]);
    return status;
}

static duo_status write_bad(duo_store_writer *file, const duo_checkpoint_state *state)
{
    const duo_losses *losses = state->losses;
    duo_progress progress = *state->progress;
    checkpoint_count counts[CHECKPOINT_BAD_COUNTS];
    checkpoint_bad_counts(counts, &progress);
    duo_status status = DUO_OK;
    for (size_t i = 0; i < CHECKPOINT_BAD_COUNTS && status == DUO_OK; i++)
        if (*counts[i].value > 0)
            status = duo_store_set_u64(file, CHECKPOINT_TRAIN, counts[i].name, *counts[i].value);
    if (status != DUO_OK || !losses || losses->n == 0) return status;
    return duo_store_write(file, CHECKPOINT_LOSSES, DUO_F64, (duo_shape){1, {losses->n}},
                           losses->loss);
}

duo_status duo_checkpoint_save(const char *path, const duo_checkpoint_state *state)
{
    duo_status status = check_state(path, state);
    if (status != DUO_OK) return status;

    duo_store_writer *file = NULL;
    status = duo_store_create(&file, path, DUO_KIND_CHECKPOINT);
    if (status != DUO_OK) goto done;
    if ((status = write_root(file, state->model)) != DUO_OK) goto done;
    if ((status = write_recipe(file, state->recipe)) != DUO_OK) goto done;
    if ((status = write_config(file, state->model->params.config)) != DUO_OK) goto done;
    if ((status = write_tree(file, CHECKPOINT_MODEL, &state->model->weights)) != DUO_OK) goto done;
    if ((status = write_thresholds(file, state->model)) != DUO_OK) goto done;
    if ((status = write_tree(file, CHECKPOINT_M, state->m)) != DUO_OK) goto done;
    if ((status = write_tree(file, CHECKPOINT_V, state->v)) != DUO_OK) goto done;
    if ((status = write_train(file, state)) != DUO_OK) goto done;
    if ((status = write_bad(file, state)) != DUO_OK) goto done;
    status = write_bytes(file, CHECKPOINT_TOKENIZER, state->tokenizer, state->tokenizer_bytes);
    if (status != DUO_OK) goto done;
    status = duo_store_commit(file);

done:
    duo_store_writer_free(file); /* drops the temporary file unless it was committed */
    return status;
}
