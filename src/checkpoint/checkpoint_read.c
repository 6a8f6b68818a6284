#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint_format.h"
#include "duo/kernels.h"

struct duo_checkpoint {
    duo_store *store;
    duo_params params;
    char *recipe;
    const duo_dataset *tokenizer, *losses; /* losses NULL: none */
    const char *stage, *isa;               /* the store's */
    duo_progress progress;
    uint64_t seed;
    double lr, tau, loss;
};

/* ---------------------------------------------------------------- opening */

/* A newer file is not damaged: it has a code of its own, so that nobody puts it aside. */
static duo_status read_version(const duo_store *store)
{
    uint64_t version = 0;
    const duo_status status = duo_store_get_u64(store, "/", "format_version", &version);
    if (status != DUO_OK) return status;
    if (version > DUO_CHECKPOINT_VERSION)
        return duo_fail(DUO_EINVAL,
                        "%s: checkpoint format %" PRIu64 "; this program reads up to %d",
                        duo_store_path(store), version, DUO_CHECKPOINT_VERSION);
    if (version == 0)
        return duo_fail(DUO_EDATA, "%s: checkpoint format 0 does not exist", duo_store_path(store));
    return DUO_OK;
}

static duo_status read_arch(const duo_store *store, duo_arch *arch)
{
    const char *text = NULL;
    const duo_status status = duo_store_get_text(store, CHECKPOINT_MODEL, "arch", &text);
    if (status != DUO_OK) return status;
    for (size_t i = 0; i < sizeof checkpoint_archs / sizeof *checkpoint_archs; i++) {
        *arch = (duo_arch)i;
        if (strcmp(text, checkpoint_archs[i]) == 0) return DUO_OK;
    }
    return duo_fail(DUO_EDATA, "%s: attribute arch of /model is '%s', which is unknown",
                    duo_store_path(store), text);
}

static duo_status read_tied(const duo_store *store, bool *tied)
{
    uint64_t value = 0;
    const duo_status status = duo_store_get_u64(store, CHECKPOINT_MODEL, "tied_embeddings", &value);
    if (status != DUO_OK) return status;
    if (value > 1)
        return duo_fail(DUO_EDATA,
                        "%s: attribute tied_embeddings of /model is %" PRIu64 ", neither 0 nor 1",
                        duo_store_path(store), value);
    *tied = value == 1;
    return DUO_OK;
}

/* Absent before there are routers. */
static duo_status read_modules(const duo_store *store, duo_module_set *modules)
{
    const char *text = NULL;
    *modules = 0;
    if (!duo_store_attribute(store, CHECKPOINT_MODEL, "router_modules")) return DUO_OK;
    const duo_status status = duo_store_get_text(store, CHECKPOINT_MODEL, "router_modules", &text);
    if (status != DUO_OK) return status;
    if (!duo_module_set_parse(modules, text))
        return duo_fail(DUO_EDATA, "%s: attribute router_modules of /model is '%s'",
                        duo_store_path(store), text);
    return DUO_OK;
}

/* Absent where routers are linear and read the hidden state alone. */
static duo_status read_routers(const duo_store *store, duo_config *config)
{
    const char *text = NULL;
    uint64_t hidden = 0;
    duo_status status = DUO_OK;
    if (duo_store_attribute(store, CHECKPOINT_MODEL, "router_hidden"))
        status = duo_store_get_u64(store, CHECKPOINT_MODEL, "router_hidden", &hidden);
    config->router_hidden = (size_t)hidden;
    if (status != DUO_OK || !duo_store_attribute(store, CHECKPOINT_MODEL, "router_inputs"))
        return status;
    status = duo_store_get_text(store, CHECKPOINT_MODEL, "router_inputs", &text);
    if (status == DUO_OK && !duo_router_inputs_parse(&config->router_inputs, text))
        return duo_fail(DUO_EDATA, "%s: attribute router_inputs of /model is '%s'",
                        duo_store_path(store), text);
    return status;
}

static duo_status check_config(const duo_store *store, const duo_config *config)
{
    uint64_t head = 0;
    if (duo_config_check(config, duo_store_path(store)) != DUO_OK)
        return duo_fail(DUO_EDATA, "%s", duo_message());
    const duo_status status = duo_store_get_u64(store, CHECKPOINT_MODEL, "d_head", &head);
    if (status != DUO_OK) return status;
    if (head != duo_head_width(config))
        return duo_fail(DUO_EDATA, "%s: d_head is %" PRIu64 ", not d_model / n_heads = %zu",
                        duo_store_path(store), head, duo_head_width(config));
    return DUO_OK;
}

static duo_status read_config(const duo_store *store, duo_config *config)
{
    const char *const model = CHECKPOINT_MODEL;
    checkpoint_size sizes[CHECKPOINT_SIZES];
    checkpoint_sizes(sizes, config);
    duo_status status = read_arch(store, &config->arch);
    for (size_t i = 0; i < CHECKPOINT_SIZES && status == DUO_OK; i++) {
        uint64_t value = 0;
        status = duo_store_get_u64(store, model, sizes[i].name, &value);
        *sizes[i].value = (size_t)value;
    }
    if (status == DUO_OK) status = duo_store_get_f64(store, model, "norm_eps", &config->norm_eps);
    if (status == DUO_OK)
        status = duo_store_get_f64(store, model, "rope_theta", &config->rope_theta);
    if (status == DUO_OK) status = read_tied(store, &config->tied_embeddings);
    if (status == DUO_OK) status = read_modules(store, &config->router_modules);
    if (status == DUO_OK) status = read_routers(store, config);
    if (status == DUO_OK) status = check_config(store, config);
    return status;
}

static bool in_table(const duo_params *params, const char *name)
{
    for (size_t i = 0; i < params->n; i++)
        if (strcmp(params->table[i].name, name) == 0) return true;
    return false;
}

/* Every tensor of the table, and no other: a bias that is left out would be a wrong result. */
static duo_status check_tensors(const duo_store *store, const duo_params *params)
{
    static const char prefix[] = CHECKPOINT_MODEL "/";
    const duo_dataset *datasets = NULL;
    for (size_t i = 0; i < params->n; i++) {
        const duo_param *p = &params->table[i];
        const duo_dataset *found = NULL;
        const duo_status status =
            duo_store_require(store, checkpoint_tensor(CHECKPOINT_MODEL, p).text, DUO_F32,
                              checkpoint_shape(p), &found);
        if (status != DUO_OK) return status;
    }
    const size_t n = duo_store_datasets(store, &datasets);
    for (size_t i = 0; i < n; i++)
        if (strncmp(datasets[i].name, prefix, sizeof prefix - 1) == 0 &&
            !in_table(params, datasets[i].name + sizeof prefix - 1))
            return duo_fail(DUO_EDATA, "%s: dataset %s does not belong to such a model",
                            duo_store_path(store), datasets[i].name);
    return DUO_OK;
}

static duo_status read_multipliers(duo_checkpoint *c)
{
    const char *const path = duo_store_path(c->store);
    for (duo_module m = 0; m < DUO_MODULES; m++) {
        const checkpoint_attribute name = checkpoint_multiplier(m);
        double *value = &c->progress.multiplier[m];
        if (!duo_store_attribute(c->store, CHECKPOINT_TRAIN, name.text)) continue;
        const duo_status status = duo_store_get_f64(c->store, CHECKPOINT_TRAIN, name.text, value);
        if (status != DUO_OK) return status;
        if (!isfinite(*value)) return duo_fail(DUO_EDATA, "%s: %s is %g", path, name.text, *value);
    }
    return DUO_OK;
}

/* Absent where nothing was bad. */
static duo_status read_bad_counts(duo_checkpoint *c)
{
    checkpoint_count counts[CHECKPOINT_BAD_COUNTS];
    checkpoint_bad_counts(counts, &c->progress);
    duo_status status = DUO_OK;
    for (size_t i = 0; i < CHECKPOINT_BAD_COUNTS && status == DUO_OK; i++)
        if (duo_store_attribute(c->store, CHECKPOINT_TRAIN, counts[i].name))
            status = duo_store_get_u64(c->store, CHECKPOINT_TRAIN, counts[i].name, counts[i].value);
    return status;
}

static duo_status read_losses(duo_checkpoint *c)
{
    if (!duo_store_find(c->store, CHECKPOINT_LOSSES)) return DUO_OK;
    const duo_status status =
        duo_store_require(c->store, CHECKPOINT_LOSSES, DUO_F64, (duo_shape){.rank = 1}, &c->losses);
    if (status != DUO_OK) return status;
    const double *loss = c->losses->data;
    for (size_t i = 0; i < c->losses->count; i++)
        if (!isfinite(loss[i]))
            return duo_fail(DUO_EDATA, "%s: dataset %s holds %g", duo_store_path(c->store),
                            CHECKPOINT_LOSSES, loss[i]);
    return DUO_OK;
}

/* For information. */
static double number_or_0(const duo_store *store, const char *name)
{
    const duo_attribute *number = duo_store_attribute(store, CHECKPOINT_TRAIN, name);
    return number && number->type == DUO_ATTR_F64 ? number->f64 : 0;
}

static duo_status read_progress(duo_checkpoint *c)
{
    const char *const train = CHECKPOINT_TRAIN, *const path = duo_store_path(c->store);
    duo_progress *progress = &c->progress;
    checkpoint_count counts[CHECKPOINT_COUNTS];
    uint64_t stage = 0;
    checkpoint_counts(counts, progress);
    duo_status status = duo_store_get_u64(c->store, train, "stage_index", &stage);
    for (size_t i = 0; i < CHECKPOINT_COUNTS && status == DUO_OK; i++)
        status = duo_store_get_u64(c->store, train, counts[i].name, counts[i].value);
    if (status == DUO_OK)
        status = duo_store_get_f64(c->store, train, "best_loss", &progress->best_loss);
    if (status == DUO_OK) status = duo_store_get_f64(c->store, train, "loss", &c->loss);
    if (status == DUO_OK) status = duo_store_get_u64(c->store, train, "seed", &c->seed);
    if (status == DUO_OK) status = duo_store_get_text(c->store, train, "stage", &c->stage);
    if (status == DUO_OK) status = duo_store_get_text(c->store, train, "isa", &c->isa);
    for (size_t i = 0; i < CHECKPOINT_COUNTS && status == DUO_OK; i++)
        if (*counts[i].value > CHECKPOINT_COUNT_MAX)
            status = duo_fail(DUO_EDATA, "%s: %s of %s is %" PRIu64 ", more than any run takes",
                              path, counts[i].name, train, *counts[i].value);
    if (status != DUO_OK) return status;
    c->lr = number_or_0(c->store, "lr");
    c->tau = number_or_0(c->store, "temperature");
    progress->stage = (size_t)stage;
    if (progress->stage_step > progress->step)
        return duo_fail(DUO_EDATA, "%s: stage_step %" PRIu64 " is beyond step %" PRIu64, path,
                        progress->stage_step, progress->step);
    if (!isfinite(progress->best_loss))
        return duo_fail(DUO_EDATA, "%s: best_loss is %g", path, progress->best_loss);
    status = read_multipliers(c);
    if (status == DUO_OK) status = read_bad_counts(c);
    return status == DUO_OK ? read_losses(c) : status;
}

static duo_status require_bytes(const duo_store *store, const char *name,
                                const duo_dataset **dataset)
{
    return duo_store_require(store, name, DUO_U8, (duo_shape){.rank = 1}, dataset);
}

/* A copy, since the file has no NUL behind the text. */
static duo_status read_recipe(duo_checkpoint *c)
{
    const char *const path = duo_store_path(c->store);
    const duo_dataset *text = NULL;
    const duo_status status = require_bytes(c->store, CHECKPOINT_RECIPE, &text);
    if (status != DUO_OK) return status;
    if (text->count > 0 && memchr(text->data, '\0', text->count))
        return duo_fail(DUO_EDATA, "%s: dataset %s is no text", path, text->name);
    c->recipe = calloc(text->count + 1, 1);
    if (!c->recipe) return duo_fail(DUO_ENOMEM, "%s: no memory for its recipe", path);
    if (text->count > 0) memcpy(c->recipe, text->data, text->count);
    return DUO_OK;
}

duo_status duo_checkpoint_open(duo_checkpoint **out, const char *path)
{
    duo_config config = {0};
    *out = NULL;
    duo_checkpoint *c = calloc(1, sizeof *c);
    if (!c) return duo_fail(DUO_ENOMEM, "%s: no memory to open it", path);
    duo_status status = duo_store_open(&c->store, path, DUO_KIND_CHECKPOINT);
    if (status != DUO_OK) goto done;
    if ((status = read_version(c->store)) != DUO_OK) goto done;
    if ((status = read_config(c->store, &config)) != DUO_OK) goto done;
    if ((status = duo_params_create(&c->params, &config)) != DUO_OK) goto done;
    if ((status = check_tensors(c->store, &c->params)) != DUO_OK) goto done;
    if ((status = read_progress(c)) != DUO_OK) goto done;
    if ((status = read_recipe(c)) != DUO_OK) goto done;
    if ((status = require_bytes(c->store, CHECKPOINT_TOKENIZER, &c->tokenizer)) != DUO_OK)
        goto done;
    *out = c;
    c = NULL;

done:
    duo_checkpoint_close(c);
    return status;
}

void duo_checkpoint_close(duo_checkpoint *c)
{
    if (!c) return;
    free(c->recipe);
    duo_params_free(&c->params);
    duo_store_close(c->store);
    free(c);
}

/* ---------------------------------------------------------------- what it says */

const char *duo_checkpoint_path(const duo_checkpoint *c)
{
    return duo_store_path(c->store);
}

const char *duo_checkpoint_recipe(const duo_checkpoint *c)
{
    return c->recipe;
}

const char *duo_checkpoint_stage(const duo_checkpoint *c)
{
    return c->stage;
}

const void *duo_checkpoint_tokenizer(const duo_checkpoint *c, size_t *bytes)
{
    *bytes = c->tokenizer->count;
    return c->tokenizer->data;
}

duo_status duo_checkpoint_open_tokenizer(const duo_checkpoint *c, duo_tokenizer **tokenizer)
{
    return duo_tokenizer_create_for(tokenizer, c->tokenizer->data, c->tokenizer->count,
                                    c->params.config.vocab_size, duo_checkpoint_path(c));
}

const duo_config *duo_checkpoint_config(const duo_checkpoint *c)
{
    return &c->params.config;
}

const duo_progress *duo_checkpoint_progress(const duo_checkpoint *c)
{
    return &c->progress;
}

double duo_checkpoint_lr(const duo_checkpoint *c)
{
    return c->lr;
}

double duo_checkpoint_tau(const duo_checkpoint *c)
{
    return c->tau;
}

double duo_checkpoint_loss(const duo_checkpoint *c)
{
    return c->loss;
}

const double *duo_checkpoint_losses(const duo_checkpoint *c, size_t *n)
{
    *n = c->losses ? c->losses->count : 0;
    return c->losses ? c->losses->data : NULL;
}

uint64_t duo_checkpoint_seed(const duo_checkpoint *c)
{
    return c->seed;
}

const char *duo_checkpoint_isa(const duo_checkpoint *c)
{
    return c->isa;
}

const char *duo_checkpoint_model_hash(const duo_checkpoint *c)
{
    const duo_attribute *hash = duo_store_attribute(c->store, "/", "model_hash");
    return hash && hash->type == DUO_ATTR_TEXT ? hash->text : "";
}

/* ---------------------------------------------------------------- weights and moments */

static duo_status read_tree(const duo_store *store, const char *group, duo_tree *tree)
{
    for (size_t i = 0; i < tree->params->n; i++) {
        const duo_param *p = &tree->params->table[i];
        if (!tree->tensors[i]) continue;
        const checkpoint_name name = checkpoint_tensor(group, p);
        const duo_dataset *dataset = NULL;
        const duo_status status =
            duo_store_require(store, name.text, DUO_F32, checkpoint_shape(p), &dataset);
        if (status != DUO_OK) return status;
        memcpy(tree->tensors[i], dataset->data, p->count * sizeof(float));
        duo_store_release(store, dataset);
        if (!duo_all_finite(tree->tensors[i], p->count))
            return duo_fail(DUO_EDATA, "%s: dataset %s is not finite", duo_store_path(store),
                            name.text);
    }
    return DUO_OK;
}

bool duo_checkpoint_calibrated(const duo_checkpoint *c)
{
    return duo_store_find(c->store, DUO_CHECKPOINT_THRESHOLDS) != NULL;
}

/* NULL before a calibration. */
static duo_status find_thresholds(const duo_checkpoint *c, const duo_dataset **thresholds)
{
    *thresholds = NULL;
    if (!duo_store_find(c->store, DUO_CHECKPOINT_THRESHOLDS)) return DUO_OK;
    const duo_shape shape = {2, {duo_threshold_rows(&c->params.config), DUO_MODULES}};
    return duo_store_require(c->store, DUO_CHECKPOINT_THRESHOLDS, DUO_F32, shape, thresholds);
}

static duo_status read_thresholds(const duo_checkpoint *c, duo_model *model)
{
    const duo_dataset *dataset = NULL;
    const duo_status status = find_thresholds(c, &dataset);
    if (status != DUO_OK || !dataset) return status;
    memcpy(model->thresholds, dataset->data, dataset->count * sizeof(float));
    if (!duo_all_finite(model->thresholds, dataset->count))
        return duo_fail(DUO_EDATA, "%s: dataset %s is not finite", duo_checkpoint_path(c),
                        DUO_CHECKPOINT_THRESHOLDS);
    model->calibrated = true;
    model->rule = duo_model_rule(model, (double)model->params.config.n_layers / 2);
    return DUO_OK;
}

duo_status duo_checkpoint_check_values(const duo_checkpoint *c)
{
    const duo_dataset *all = NULL, *thresholds = NULL;
    const size_t n = duo_store_datasets(c->store, &all);
    duo_status status = find_thresholds(c, &thresholds);
    for (size_t i = 0; i < n && status == DUO_OK; i++) {
        if (all[i].type != DUO_F32) continue;
        if (!duo_all_finite(all[i].data, all[i].count))
            status = duo_fail(DUO_EDATA, "%s: dataset %s is not finite", duo_store_path(c->store),
                              all[i].name);
        duo_store_release(c->store, &all[i]);
    }
    duo_recipe *recipe = NULL;
    if (status == DUO_OK)
        status = duo_recipe_parse(&recipe, c->recipe, duo_store_path(c->store), NULL, 0);
    duo_recipe_free(recipe);
    if (status == DUO_OK)
        status = duo_tokenizer_check_for(c->tokenizer->data, c->tokenizer->count,
                                         c->params.config.vocab_size, duo_checkpoint_path(c));
    return status;
}

duo_status duo_checkpoint_model(const duo_checkpoint *c, duo_model **out)
{
    duo_model *model = NULL;
    *out = NULL;
    duo_status status = duo_model_create(&model, &c->params.config);
    if (status != DUO_OK) goto done;
    if ((status = read_tree(c->store, CHECKPOINT_MODEL, &model->weights)) != DUO_OK) goto done;
    if ((status = read_thresholds(c, model)) != DUO_OK) goto done;
    *out = model;
    model = NULL;

done:
    duo_model_free(model);
    return status;
}

duo_status duo_checkpoint_moments(const duo_checkpoint *c, duo_tree *m, duo_tree *v)
{
    const duo_status status = read_tree(c->store, CHECKPOINT_M, m);
    return status == DUO_OK ? read_tree(c->store, CHECKPOINT_V, v) : status;
}
