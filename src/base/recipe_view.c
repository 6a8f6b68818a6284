#include "recipe_view.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const recipe_given *recipe_find_given(const recipe_view *v, const char *key)
{
    for (const cfg_opt_t *opt = v->section->opts; opt->name; opt++)
        if (strcmp(opt->name, key) == 0)
            return opt->type == CFGT_PTR && opt->nvalues > 0 ? opt->values[0]->ptr : NULL;
    return NULL;
}

duo_status recipe_fail(const recipe_view *v, const char *key, const char *format, ...)
{
    char text[512], place[16] = "";
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const recipe_given *value = key ? recipe_find_given(v, key) : NULL;
    const char *dot = key && v->path[0] ? "." : "";
    if (!key) key = "";
    if (value && value->line == 0)
        return duo_fail(DUO_EINVAL, "--set %s%s%s: %s", v->path, dot, key, text);
    const int line = value ? value->line : v->line;
    if (line > 0) snprintf(place, sizeof place, ":%d", line);
    return duo_fail(DUO_EINVAL, "%s%s: %s%s%s: %s", v->where, place, v->path, dot, key, text);
}

duo_status recipe_read_key(const recipe_view *v, const recipe_key *key, void *field)
{
    const recipe_given *value = recipe_find_given(v, key->name);
    const char *text = value ? value->text : key->preset;
    char why[RECIPE_WHY_MAX];
    if (!text) return key->required ? recipe_fail(v, key->name, "missing") : DUO_OK;
    if (!recipe_value_read(key, field, text, why)) return recipe_fail(v, key->name, "%s", why);
    return DUO_OK;
}

duo_status recipe_read_keys(const recipe_view *v, recipe_section section, void *object)
{
    for (size_t i = 0; i < recipe_n_keys; i++) {
        const recipe_key *key = &recipe_keys[i];
        if (key->section != section || key->offset == RECIPE_NO_FIELD) continue;
        const duo_status status = recipe_read_key(v, key, (char *)object + key->offset);
        if (status != DUO_OK) return status;
    }
    return DUO_OK;
}

const recipe_key *recipe_find_key(recipe_section section, const char *name)
{
    for (size_t i = 0; i < recipe_n_keys; i++)
        if (recipe_keys[i].section == section && strcmp(recipe_keys[i].name, name) == 0)
            return &recipe_keys[i];
    return NULL;
}
