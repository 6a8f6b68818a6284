#include "duo/recipe.h"

#include <assert.h>
#include <confuse.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duo/arena.h"
#include "recipe_keys.h"
#include "recipe_scan.h"

/*
 * libconfuse splits the file into sections and keys; every value stays text until the table of
 * keys reads it, so that a file, an override and a default go through the same parser and ranges.
 * libconfuse keeps its lexer in globals: recipes are read by one thread at a time.
 */

enum {
    FILE_MAX = 1 << 20,
    OPTIONS_MAX = 96 /* more than any section has */
};

/* A value as it was given. */
typedef struct given {
    int line; /* 0: by an override */
    char text[];
} given;

/* What libconfuse's callbacks cannot be handed: set while it works. */
static struct {
    const char *where;
    bool overriding, failed;
    duo_status status; /* of what failed */
} reading;

/* One section while it is resolved. */
typedef struct view {
    const char *where;
    cfg_t *section;
    int line;                     /* on which it opens; 0: unknown */
    char path[DUO_NAME_MAX + 16]; /* "stage.duo"; "" at the root */
} view;

/* ---------------------------------------------------------------- libconfuse */

static void report(cfg_t *cfg, const char *format, va_list args)
{
    char text[512];
    vsnprintf(text, sizeof text, format, args);
    if (!reading.failed) /* the first complaint is the cause of the later ones */
        duo_fail(reading.status, "%s:%d: %s%s%s%s%s", reading.where, cfg->line,
                 strcmp(cfg->name, "root") == 0 ? "" : cfg->name, cfg->title ? "." : "",
                 cfg->title ? cfg->title : "", strcmp(cfg->name, "root") == 0 ? "" : ": ", text);
    reading.failed = true;
}

static int keep_value(cfg_t *cfg, cfg_opt_t *opt, const char *text, void *result)
{
    /* libconfuse drops the old value before it calls; the number, which a pointer has no use for,
     * keeps the line. */
    if (opt->def.number > 0 && !reading.overriding) {
        cfg_error(cfg, "%s was given before, on line %ld", opt->name, opt->def.number);
        return -1;
    }
    opt->def.number = cfg->line;
    const size_t bytes = strlen(text) + 1;
    given *value = malloc(sizeof *value + bytes);
    if (!value) {
        reading.status = DUO_ENOMEM;
        cfg_error(cfg, "no memory for %s", opt->name);
        return -1;
    }
    value->line = reading.overriding ? 0 : cfg->line;
    memcpy(value->text, text, bytes);
    *(void **)result = value;
    return 0;
}

/* Options of one section from the table, with its subsections, ended; libconfuse copies them. */
static void fill_options(cfg_opt_t options[OPTIONS_MAX], recipe_section section,
                         const cfg_opt_t *subsections)
{
    size_t n = 0;
    for (size_t i = 0; i < recipe_n_keys; i++) {
        if (recipe_keys[i].section != section) continue;
        options[n++] =
            (cfg_opt_t)CFG_PTR_CB(recipe_keys[i].name, NULL, CFGF_NODEFAULT, keep_value, free);
    }
    while (subsections && subsections->name) options[n++] = *subsections++;
    assert(n < OPTIONS_MAX);
    options[n] = (cfg_opt_t)CFG_END();
}

static cfg_t *create_parser(void)
{
    cfg_opt_t domain[OPTIONS_MAX], data[OPTIONS_MAX], model[OPTIONS_MAX], stage[OPTIONS_MAX],
        root[OPTIONS_MAX];
    fill_options(domain, RECIPE_DOMAIN, NULL);
    fill_options(
        data, RECIPE_DATA,
        (const cfg_opt_t[]){CFG_SEC("domain", domain, CFGF_MULTI | CFGF_TITLE), CFG_END()});
    fill_options(model, RECIPE_MODEL, NULL);
    fill_options(stage, RECIPE_STAGE, NULL);
    fill_options(root, RECIPE_ROOT,
                 (const cfg_opt_t[]){CFG_SEC("model", model, CFGF_NONE),
                                     CFG_SEC("data", data, CFGF_NONE),
                                     CFG_SEC("stage", stage, CFGF_MULTI | CFGF_TITLE), CFG_END()});
    cfg_t *cfg = cfg_init(root, CFGF_NONE);
    if (cfg) cfg_set_error_function(cfg, report);
    return cfg;
}

static duo_status run_parser(cfg_t *cfg, const char *text, const char *where)
{
    if (*text == '\0') return DUO_OK;
    FILE *stream = fmemopen((void *)text, strlen(text), "r");
    if (!stream) return duo_fail(DUO_ENOMEM, "%s: no memory for the recipe", where);
    reading.where = where;
    reading.overriding = reading.failed = false;
    reading.status = DUO_EINVAL;
    const int outcome = cfg_parse_fp(cfg, stream);
    fclose(stream);
    if (reading.failed) return reading.status;
    if (outcome != CFG_SUCCESS) return duo_fail(DUO_EINVAL, "%s: not a recipe", where);
    return DUO_OK;
}

/* ---------------------------------------------------------------- overrides */

/* The section that `path` begins with, and the key behind it; NULL when there is none. */
static cfg_t *find_section(cfg_t *cfg, char *path, char **key)
{
    char *dot = strchr(path, '.');
    *key = path;
    if (!dot) return cfg;
    *dot = '\0';
    *key = dot + 1;
    if (strcmp(path, "model") == 0) return cfg_getsec(cfg, path);
    if (strcmp(path, "data") == 0) {
        cfg = cfg_getsec(cfg, path);
        if (strncmp(*key, "domain.", 7) != 0) return cfg;
        path = *key;
        *key = path + 7;
        path[6] = '\0';
    } else if (strcmp(path, "stage") != 0) {
        return NULL;
    }
    char *title = *key;
    if ((dot = strchr(title, '.')) == NULL) return NULL;
    *dot = '\0';
    *key = dot + 1;
    for (unsigned i = 0; i < cfg_size(cfg, path); i++) {
        cfg_t *section = cfg_getnsec(cfg, path, i);
        if (strcmp(cfg_title(section), title) == 0) return section;
    }
    return NULL;
}

static duo_status apply_override(cfg_t *cfg, const char *override)
{
    const char *equals = strchr(override, '=');
    if (!equals) return duo_fail(DUO_EINVAL, "--set %s: a key is set as key=value", override);
    char path[256], *key = NULL;
    const size_t length = (size_t)(equals - override);
    if (length >= sizeof path) return duo_fail(DUO_EINVAL, "--set %.80s...: no such key", override);
    memcpy(path, override, length);
    path[length] = '\0';
    cfg_t *section = find_section(cfg, path, &key);
    if (!section) return duo_fail(DUO_EINVAL, "--set %.*s: no such section", (int)length, override);
    for (cfg_opt_t *opt = section->opts; opt->name; opt++) {
        if (opt->type != CFGT_PTR || strcmp(opt->name, key) != 0) continue;
        reading.where = "--set";
        reading.overriding = true;
        if (cfg_setopt(section, opt, equals + 1) == NULL)
            return duo_fail(DUO_ENOMEM, "--set %s: no memory", override);
        return DUO_OK;
    }
    return duo_fail(DUO_EINVAL, "--set %.*s: no such key", (int)length, override);
}

/* ---------------------------------------------------------------- values */

static const given *find_given(const view *v, const char *key)
{
    for (const cfg_opt_t *opt = v->section->opts; opt->name; opt++)
        if (strcmp(opt->name, key) == 0)
            return opt->type == CFGT_PTR && opt->nvalues > 0 ? opt->values[0]->ptr : NULL;
    return NULL;
}

/* Blame a key where it was given, else the section where it opens; key NULL: the section. */
static duo_status __attribute__((format(printf, 3, 4)))
fail(const view *v, const char *key, const char *format, ...)
{
    char text[512], place[16] = "";
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const given *value = key ? find_given(v, key) : NULL;
    const char *dot = key && v->path[0] ? "." : "";
    if (!key) key = "";
    if (value && value->line == 0)
        return duo_fail(DUO_EINVAL, "--set %s%s%s: %s", v->path, dot, key, text);
    const int line = value ? value->line : v->line;
    if (line > 0) snprintf(place, sizeof place, ":%d", line);
    return duo_fail(DUO_EINVAL, "%s%s: %s%s%s: %s", v->where, place, v->path, dot, key, text);
}

static duo_status read_key(const view *v, const recipe_key *key, void *field)
{
    const given *value = find_given(v, key->name);
    const char *text = value ? value->text : key->preset;
    char why[RECIPE_WHY_MAX];
    if (!text) return key->required ? fail(v, key->name, "missing") : DUO_OK;
    if (!recipe_value_read(key, field, text, why)) return fail(v, key->name, "%s", why);
    return DUO_OK;
}

static duo_status read_keys(const view *v, recipe_section section, void *object)
{
    for (size_t i = 0; i < recipe_n_keys; i++) {
        const recipe_key *key = &recipe_keys[i];
        if (key->section != section || key->offset == RECIPE_NO_FIELD) continue;
        const duo_status status = read_key(v, key, (char *)object + key->offset);
        if (status != DUO_OK) return status;
    }
    return DUO_OK;
}

static const recipe_key *find_key(recipe_section section, const char *name)
{
    for (size_t i = 0; i < recipe_n_keys; i++)
        if (recipe_keys[i].section == section && strcmp(recipe_keys[i].name, name) == 0)
            return &recipe_keys[i];
    return NULL;
}

/* ---------------------------------------------------------------- stages */

static duo_status read_stage_kind(const view *v, duo_stage_recipe *stage)
{
    const recipe_key *key = find_key(RECIPE_STAGE, "kind");
    if (find_given(v, key->name)) return read_key(v, key, &stage->kind);
    for (unsigned kind = 0; recipe_stage_kinds[kind]; kind++)
        if (strcmp(stage->name, recipe_stage_kinds[kind]) == 0) {
            stage->kind = (duo_stage_kind)kind;
            return DUO_OK;
        }
    return fail(v, key->name,
                "missing; only the titles dense, duo, small and router say the kind themselves");
}

static duo_status read_stage_keys(const view *v, duo_stage_recipe *stage)
{
    for (size_t i = 0; i < recipe_n_keys; i++) {
        const recipe_key *key = &recipe_keys[i];
        if (key->section != RECIPE_STAGE || strcmp(key->name, "kind") == 0) continue;
        if (!recipe_key_in_stage(key, stage->kind)) {
            if (find_given(v, key->name))
                return fail(v, key->name, "a %s stage has no use for it",
                            recipe_stage_kinds[stage->kind]);
        } else if (key->offset != RECIPE_NO_FIELD) {
            const duo_status status = read_key(v, key, (char *)stage + key->offset);
            if (status != DUO_OK) return status;
        }
    }
    return DUO_OK;
}

static duo_status resolve_steps(const view *v, const duo_config *model, duo_stage_recipe *stage)
{
    if (stage->micro_batch == 0) stage->micro_batch = stage->batch_size;
    if (stage->batch_size % stage->micro_batch != 0)
        return fail(v, "micro_batch", "%zu does not divide batch_size %zu", stage->micro_batch,
                    stage->batch_size);
    if (stage->seq_len == 0) stage->seq_len = model->max_seq;
    if (stage->seq_len > model->max_seq)
        return fail(v, "seq_len", "%zu is more than model.max_seq, %zu", stage->seq_len,
                    model->max_seq);
    if (stage->seq_len > UINT32_MAX / stage->micro_batch)
        return fail(v, "micro_batch", "%zu sequences of %zu tokens are more than %u rows",
                    stage->micro_batch, stage->seq_len, UINT32_MAX);
    if (!find_given(v, "warmup") && stage->warmup > stage->steps / 10)
        stage->warmup = stage->steps / 10;
    const unsigned long long steps = stage->steps, warmup = stage->warmup,
                             decay = stage->decay_steps;
    if (warmup > steps) return fail(v, "warmup", "%llu is more than steps, %llu", warmup, steps);
    if (decay > 0 && stage->schedule != DUO_CURVE_CONSTANT)
        return fail(v, "decay_steps", "only a constant schedule has a tail");
    if (decay > steps - warmup)
        return fail(v, "decay_steps", "%llu is more than the %llu steps after the warm-up", decay,
                    steps - warmup);
    return DUO_OK;
}

static duo_status resolve_random_routing(const view *v, duo_stage_recipe *stage)
{
    const double sum = stage->p[DUO_SKIP] + stage->p[DUO_SMALL] + stage->p[DUO_BIG];
    if (!(fabs(sum - 1) <= 1e-6))
        return fail(v, find_given(v, "p_big") ? "p_big" : "p_small",
                    "p_skip, p_small and p_big sum to %g, not to 1", sum);
    if (stage->kind == DUO_STAGE_SMALL && stage->p[DUO_SMALL] == 0)
        return fail(v, "p_small", "0 leaves a small stage nothing to train");
    return DUO_OK;
}

/* With the budget as an input each sequence has its own; what `budget` says is for validation. */
static duo_status resolve_budgets(const view *v, const duo_config *model, duo_stage_recipe *stage)
{
    const bool input = duo_router_reads(stage->router_inputs, DUO_INPUT_BUDGET);
    const char *const keys[] = {"budget_min", "budget_max", "target_skip", "target_small"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (find_given(v, keys[i]) && (i < 2) != input &&
            strcmp(find_given(v, keys[i])->text, "none") != 0)
            return fail(v, keys[i],
                        input ? "with the budget as an input only big has a target"
                              : "only routers with the budget among their inputs use it");
    if (!input) return DUO_OK;
    if (stage->budget_min < 0) stage->budget_min = 0;
    if (stage->budget_max < 0) stage->budget_max = (double)model->n_layers;
    if (stage->budget_max > (double)model->n_layers || stage->budget_max < stage->budget_min)
        return fail(v, "budget_max", "%g is not in budget_min..n_layers, %g..%zu",
                    stage->budget_max, stage->budget_min, model->n_layers);
    if (!duo_module_in(stage->modules, DUO_BIG))
        return fail(v, "router_inputs", "big is not among the modules");
    if (stage->penalty == DUO_PENALTY_LAGRANGIAN)
        return fail(v, "penalty", "lagrangian has one multiplier, which is no use to many budgets");
    if (stage->target[DUO_BIG] < 0)
        stage->target[DUO_BIG] =
            (stage->budget_min + stage->budget_max) / 2 / (double)model->n_layers;
    return DUO_OK;
}

static duo_status resolve_start(const view *v, const duo_config *model,
                                const duo_stage_recipe *stage)
{
    static const char letters[] = "-SsBb";
    const size_t length = strlen(stage->start);
    if (length == 0) return DUO_OK;
    if (length != model->n_layers)
        return fail(v, "start", "'%s' has %zu letters, the model %zu layers", stage->start, length,
                    model->n_layers);
    for (size_t l = 0; l < length; l++) {
        const char *at = strchr(letters, stage->start[l]);
        const duo_module module = at ? (duo_module)((at - letters + 1) / 2) : DUO_MODULES;
        if (!at || !duo_module_in(stage->modules, module))
            return fail(v, "start", "'%c' of layer %zu is none of the modules", stage->start[l], l);
    }
    return DUO_OK;
}

static duo_status resolve_router(const view *v, duo_stage_recipe *stage)
{
    const unsigned long long steps = stage->steps, tau = stage->tau_tail, hard = stage->hard_tail;
    if (tau > steps) return fail(v, "tau_tail", "%llu is more than steps, %llu", tau, steps);
    if (hard > steps) return fail(v, "hard_tail", "%llu is more than steps, %llu", hard, steps);
    if (stage->tau_end > stage->tau_start)
        return fail(v, "tau_end", "%g is above tau_start, %g", stage->tau_end, stage->tau_start);
    if (stage->target_flops > 0 && stage->penalty != DUO_PENALTY_FLOPS)
        return fail(v, "target_flops", "only the penalty flops has use for it");
    if (stage->train == DUO_TRAIN_ROUTER_SMALL && !duo_module_in(stage->modules, DUO_SMALL))
        return fail(v, "train", "small is not among the modules");
    if (stage->teacher[0] && stage->language == 0 && stage->train != DUO_TRAIN_ROUTER)
        return fail(v, "train", "a teacher with language = 0 trains routers alone");
    if (stage->learn != DUO_LEARN_ROUTES && !stage->teacher[0])
        return fail(v, "learn", "there is no teacher");
    return DUO_OK;
}

static duo_status resolve_targets(const view *v, const duo_config *model, duo_stage_recipe *stage)
{
    static const char *const keys[DUO_MODULES] = {"target_skip", "target_small", "target_big"};
    const recipe_key *budget_key = find_key(RECIPE_STAGE, "budget");
    double budget = -1, sum = 0;
    const duo_status status = read_key(v, budget_key, &budget);
    if (status != DUO_OK) return status;
    if (budget >= 0 && stage->target[DUO_BIG] >= 0) {
        const bool budget_set = find_given(v, "budget")->line == 0,
                   target_set = find_given(v, "target_big")->line == 0;
        if (budget_set == target_set)
            return fail(v, budget_key->name, "target_big says the same; give one of them");
        if (target_set) budget = -1; /* the override wins over the file */
    }
    if (budget >= 0) {
        if (budget > (double)model->n_layers)
            return fail(v, budget_key->name, "%g is more than model.n_layers, %zu", budget,
                        model->n_layers);
        stage->target[DUO_BIG] = budget / (double)model->n_layers;
    }
    const duo_status budgets = resolve_budgets(v, model, stage);
    if (budgets != DUO_OK) return budgets;
    for (duo_module m = 0; m < DUO_MODULES; m++) {
        if (stage->target[m] < 0) continue;
        if (!duo_module_in(stage->modules, m))
            return fail(v, m == DUO_BIG && budget >= 0 ? budget_key->name : keys[m],
                        "%s is not among the modules", duo_module_name(m));
        sum += stage->target[m];
    }
    if (stage->target[DUO_SKIP] < 0 && stage->target[DUO_SMALL] < 0 && stage->target[DUO_BIG] < 0)
        return fail(v, budget_key->name, "missing; a router needs a budget or a target");
    if (!(sum <= 1 + 1e-6)) return fail(v, "target_big", "the targets sum to %g, above 1", sum);
    const duo_status routers = resolve_router(v, stage);
    return routers == DUO_OK ? resolve_start(v, model, stage) : routers;
}

static duo_status read_stage(const view *v, const duo_config *model, duo_stage_recipe *stage)
{
    snprintf(stage->name, sizeof stage->name, "%s", cfg_title(v->section));
    for (duo_module m = 0; m < DUO_MODULES; m++) stage->target[m] = -1;
    duo_status status = read_stage_kind(v, stage);
    if (status == DUO_OK) status = read_stage_keys(v, stage);
    if (status == DUO_OK) status = resolve_steps(v, model, stage);
    if (status != DUO_OK) return status;
    switch (stage->kind) {
    case DUO_STAGE_DENSE:
        stage->p[DUO_BIG] = 1;
        return DUO_OK;
    case DUO_STAGE_DUO:
    case DUO_STAGE_SMALL:
        return resolve_random_routing(v, stage);
    case DUO_STAGE_ROUTER:
        return resolve_targets(v, model, stage);
    }
    return DUO_OK;
}

/* ---------------------------------------------------------------- the whole recipe */

typedef struct source {
    const char *where;
    cfg_t *cfg;
    recipe_scan scan;
} source;

static view view_single(const source *s, recipe_section section)
{
    const char *name = recipe_section_names[section];
    view v = {.where = s->where, .section = s->cfg};
    if (section == RECIPE_ROOT) return v;
    v.section = cfg_getsec(s->cfg, name);
    v.line = recipe_scan_line(&s->scan, 0, name, "");
    snprintf(v.path, sizeof v.path, "%s", name);
    return v;
}

/* Section i of those of one name that carry titles. */
static duo_status view_titled(view *v, const source *s, cfg_t *parent, recipe_section section,
                              unsigned i)
{
    const char *name = recipe_section_names[section];
    *v = (view){.where = s->where, .section = cfg_getnsec(parent, name, i)};
    const char *title = cfg_title(v->section);
    v->line = recipe_scan_line(&s->scan, section == RECIPE_DOMAIN, name, title);
    if (!recipe_title_valid(title)) {
        snprintf(v->path, sizeof v->path, "%s", name);
        return fail(v, NULL,
                    "'%.80s' is not a title of letters, digits, '-' and '_' shorter than %d", title,
                    DUO_NAME_MAX);
    }
    snprintf(v->path, sizeof v->path, "%s%s.%s", section == RECIPE_DOMAIN ? "data." : "", name,
             title);
    return DUO_OK;
}

static duo_status read_model(const source *s, duo_config *model)
{
    const view v = view_single(s, RECIPE_MODEL);
    const duo_status status = read_keys(&v, RECIPE_MODEL, model);
    if (status != DUO_OK) return status;
    if (model->n_kv_heads == 0) model->n_kv_heads = model->n_heads;
    duo_config sized = *model;
    if (sized.vocab_size == 0) sized.vocab_size = 1;
    char where[DUO_PATH_MAX];
    if (v.line > 0)
        snprintf(where, sizeof where, "%s:%d: model", s->where, v.line);
    else
        snprintf(where, sizeof where, "%s: model", s->where);
    return duo_config_check(&sized, where);
}

static duo_status read_data(const source *s, duo_recipe *recipe)
{
    const view v = view_single(s, RECIPE_DATA);
    const duo_status status = read_keys(&v, RECIPE_DATA, recipe);
    if (status != DUO_OK) return status;
    const unsigned n = cfg_size(v.section, "domain");
    if (n == 0) return DUO_OK;
    recipe->domains = calloc(n, sizeof *recipe->domains);
    if (!recipe->domains) return duo_fail(DUO_ENOMEM, "%s: no memory for the recipe", s->where);
    recipe->n_domains = n;
    double sum = 0;
    for (unsigned i = 0; i < n; i++) {
        view domain;
        duo_status titled = view_titled(&domain, s, v.section, RECIPE_DOMAIN, i);
        if (titled != DUO_OK) return titled;
        strcpy(recipe->domains[i].name, cfg_title(domain.section));
        titled = read_keys(&domain, RECIPE_DOMAIN, &recipe->domains[i]);
        if (titled != DUO_OK) return titled;
        sum += recipe->domains[i].weight;
    }
    if (sum > 0) return DUO_OK;
    return fail(&v, "domain", "every weight is 0");
}

static duo_status read_stages(const source *s, duo_recipe *recipe)
{
    const unsigned n = cfg_size(s->cfg, "stage");
    if (n == 0) return DUO_OK;
    recipe->stages = calloc(n, sizeof *recipe->stages);
    if (!recipe->stages) return duo_fail(DUO_ENOMEM, "%s: no memory for the recipe", s->where);
    recipe->n_stages = n;
    for (unsigned i = 0; i < n; i++) {
        view v;
        duo_status status = view_titled(&v, s, s->cfg, RECIPE_STAGE, i);
        if (status == DUO_OK) status = read_stage(&v, &recipe->model, &recipe->stages[i]);
        if (status != DUO_OK) return status;
    }
    return DUO_OK;
}

static duo_status read_recipe(const source *s, duo_recipe *recipe)
{
    const view root = view_single(s, RECIPE_ROOT);
    duo_status status = read_keys(&root, RECIPE_ROOT, recipe);
    if (status == DUO_OK) status = read_model(s, &recipe->model);
    if (status == DUO_OK) status = read_data(s, recipe);
    if (status == DUO_OK) status = read_stages(s, recipe);
    return status;
}

duo_status duo_recipe_parse(duo_recipe **recipe, const char *text, const char *where,
                            const char *const *overrides, size_t n_overrides)
{
    source s = {.where = where};
    duo_recipe *made = NULL;
    *recipe = NULL;
    duo_status status = recipe_scan_text(&s.scan, text, where);
    /* libconfuse does not look at what malloc gives it: there must be more than it takes. */
    if (status == DUO_OK) status = duo_memory_check(((size_t)1 << 20) + 64 * strlen(text), where);
    if (status != DUO_OK) goto done;
    s.cfg = create_parser();
    made = calloc(1, sizeof *made);
    if (!s.cfg || !made) {
        status = duo_fail(DUO_ENOMEM, "%s: no memory for the recipe", where);
        goto done;
    }
    status = run_parser(s.cfg, s.scan.plain, where);
    for (size_t i = 0; i < n_overrides && status == DUO_OK; i++)
        status = apply_override(s.cfg, overrides[i]);
    if (status == DUO_OK) status = read_recipe(&s, made);
    if (status != DUO_OK) goto done;
    *recipe = made;
    made = NULL;

done:
    duo_recipe_free(made);
    if (s.cfg) cfg_free(s.cfg);
    free(s.scan.plain);
    return status;
}

duo_status duo_recipe_load(duo_recipe **recipe, const char *path, const char *const *overrides,
                           size_t n_overrides)
{
    char *text = NULL;
    duo_status status = DUO_OK;
    *recipe = NULL;
    FILE *file = fopen(path, "rb");
    if (!file) return duo_fail(DUO_EIO, "%s: %s", path, strerror(errno));
    text = malloc(FILE_MAX + 1);
    if (!text) {
        status = duo_fail(DUO_ENOMEM, "%s: no memory for the recipe", path);
        goto done;
    }
    errno = 0;
    const size_t bytes = fread(text, 1, FILE_MAX + 1, file);
    if (ferror(file)) {
        status = duo_fail(DUO_EIO, "%s: %s", path, strerror(errno));
        goto done;
    }
    if (bytes > FILE_MAX || memchr(text, '\0', bytes)) {
        status = duo_fail(DUO_EINVAL, "%s: not a recipe: %s", path,
                          bytes > FILE_MAX ? "too long" : "not text");
        goto done;
    }
    text[bytes] = '\0';
    status = duo_recipe_parse(recipe, text, path, overrides, n_overrides);

done:
    free(text);
    fclose(file);
    return status;
}

void duo_recipe_free(duo_recipe *recipe)
{
    if (!recipe) return;
    free(recipe->domains);
    free(recipe->stages);
    free(recipe);
}
