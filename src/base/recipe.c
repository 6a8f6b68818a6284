#include "duo/recipe.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duo/arena.h"
#include "duo/file.h"
#include "recipe_scan.h"
#include "recipe_view.h"

/*
 * libconfuse splits the file into sections and keys; every value stays text until the table of
 * keys reads it, so that a file, an override and a default go through the same parser and ranges.
 * libconfuse keeps its lexer in globals: recipes are read by one thread at a time.
 */

enum {
    FILE_MAX = 1 << 20,
    OPTIONS_MAX = 96 /* more than any section has */
};

/* What libconfuse's callbacks cannot be handed: set while it works. */
static struct {
    const char *where;
    bool overriding, failed;
    duo_status status; /* of what failed */
} reading;

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
    recipe_given *value = malloc(sizeof *value + bytes);
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

/* ---------------------------------------------------------------- the whole recipe */

typedef struct source {
    const char *where;
    cfg_t *cfg;
    recipe_scan scan;
} source;

static recipe_view view_single(const source *s, recipe_section section)
{
    const char *name = recipe_section_names[section];
    recipe_view v = {.where = s->where, .section = s->cfg};
    if (section == RECIPE_ROOT) return v;
    v.section = cfg_getsec(s->cfg, name);
    v.line = recipe_scan_line(&s->scan, 0, name, "");
    snprintf(v.path, sizeof v.path, "%s", name);
    return v;
}

/* Section i of those of one name that carry titles. */
static duo_status view_titled(recipe_view *v, const source *s, cfg_t *parent,
                              recipe_section section, unsigned i)
{
    const char *name = recipe_section_names[section];
    *v = (recipe_view){.where = s->where, .section = cfg_getnsec(parent, name, i)};
    const char *title = cfg_title(v->section);
    v->line = recipe_scan_line(&s->scan, section == RECIPE_DOMAIN, name, title);
    if (!recipe_title_valid(title)) {
        snprintf(v->path, sizeof v->path, "%s", name);
        return recipe_fail(v, NULL,
                           "'%.80s' is not a title of letters, digits, '-' and '_' shorter than %d",
                           title, DUO_NAME_MAX);
    }
    snprintf(v->path, sizeof v->path, "%s%s.%s", section == RECIPE_DOMAIN ? "data." : "", name,
             title);
    return DUO_OK;
}

static duo_status read_model(const source *s, duo_config *model)
{
    const recipe_view v = view_single(s, RECIPE_MODEL);
    const duo_status status = recipe_read_keys(&v, RECIPE_MODEL, model);
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
    const recipe_view v = view_single(s, RECIPE_DATA);
    const duo_status status = recipe_read_keys(&v, RECIPE_DATA, recipe);
    if (status != DUO_OK) return status;
    const unsigned n = cfg_size(v.section, "domain");
    if (n == 0) return DUO_OK;
    recipe->domains = calloc(n, sizeof *recipe->domains);
    if (!recipe->domains) return duo_fail(DUO_ENOMEM, "%s: no memory for the recipe", s->where);
    recipe->n_domains = n;
    double sum = 0;
    for (unsigned i = 0; i < n; i++) {
        recipe_view domain;
        duo_status titled = view_titled(&domain, s, v.section, RECIPE_DOMAIN, i);
        if (titled != DUO_OK) return titled;
        strcpy(recipe->domains[i].name, cfg_title(domain.section));
        titled = recipe_read_keys(&domain, RECIPE_DOMAIN, &recipe->domains[i]);
        if (titled != DUO_OK) return titled;
        sum += recipe->domains[i].weight;
    }
    if (sum > 0) return DUO_OK;
    return recipe_fail(&v, "domain", "every weight is 0");
}

static duo_status read_stages(const source *s, duo_recipe *recipe)
{
    const unsigned n = cfg_size(s->cfg, "stage");
    if (n == 0) return DUO_OK;
    recipe->stages = calloc(n, sizeof *recipe->stages);
    if (!recipe->stages) return duo_fail(DUO_ENOMEM, "%s: no memory for the recipe", s->where);
    recipe->n_stages = n;
    for (unsigned i = 0; i < n; i++) {
        recipe_view v;
        duo_status status = view_titled(&v, s, s->cfg, RECIPE_STAGE, i);
        if (status == DUO_OK) status = recipe_read_stage(&v, &recipe->model, &recipe->stages[i]);
        if (status != DUO_OK) return status;
    }
    return DUO_OK;
}

static duo_status read_recipe(const source *s, duo_recipe *recipe)
{
    const recipe_view root = view_single(s, RECIPE_ROOT);
    duo_status status = recipe_read_keys(&root, RECIPE_ROOT, recipe);
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
    size_t bytes = 0;
    *recipe = NULL;
    duo_status status = duo_file_read(&text, &bytes, path, FILE_MAX + 1);
    if (status != DUO_OK) return status;
    if (bytes > FILE_MAX || memchr(text, '\0', bytes))
        status = duo_fail(DUO_EINVAL, "%s: not a recipe: %s", path,
                          bytes > FILE_MAX ? "too long" : "not text");
    else
        status = duo_recipe_parse(recipe, text, path, overrides, n_overrides);
    free(text);
    return status;
}

void duo_recipe_free(duo_recipe *recipe)
{
    if (!recipe) return;
    free(recipe->domains);
    free(recipe->stages);
    free(recipe);
}
