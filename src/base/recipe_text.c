#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipe_keys.h"

static void write_keys(FILE *out, recipe_section section, const void *object, const char *indent,
                       unsigned stage_kind)
{
    char text[RECIPE_VALUE_MAX];
    for (size_t i = 0; i < recipe_n_keys; i++) {
        const recipe_key *key = &recipe_keys[i];
        if (key->section != section || key->offset == RECIPE_NO_FIELD) continue;
        if (section == RECIPE_STAGE && !recipe_key_in_stage(key, (duo_stage_kind)stage_kind))
            continue;
        fprintf(out, "%s%s = %s\n", indent, key->name,
                recipe_value_write(key, (const char *)object + key->offset, text));
    }
}

char *duo_recipe_text(const duo_recipe *recipe)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out) return NULL;
    write_keys(out, RECIPE_ROOT, recipe, "", 0);
    fputs("\nmodel {\n", out);
    write_keys(out, RECIPE_MODEL, &recipe->model, "    ", 0);
    fputs("}\n\ndata {\n", out);
    write_keys(out, RECIPE_DATA, recipe, "    ", 0);
    for (size_t i = 0; i < recipe->n_domains; i++) {
        fprintf(out, "    domain %s {\n", recipe->domains[i].name);
        write_keys(out, RECIPE_DOMAIN, &recipe->domains[i], "        ", 0);
        fputs("    }\n", out);
    }
    fputs("}\n", out);
    for (size_t i = 0; i < recipe->n_stages; i++) {
        const duo_stage_recipe *stage = &recipe->stages[i];
        fprintf(out, "\nstage %s {\n", stage->name);
        write_keys(out, RECIPE_STAGE, stage, "    ", stage->kind);
        fputs("}\n", out);
    }
    const bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---------------------------------------------------------------- differences */

typedef struct comparison {
    duo_recipe_change *tell;
    void *context;
    size_t stage;
} comparison;

static void compare_keys(const comparison *c, recipe_section section, const char *path,
                         const void *before, const void *now, unsigned stage_kind)
{
    char name[2 * DUO_NAME_MAX + 32], old[RECIPE_VALUE_MAX], new[RECIPE_VALUE_MAX];
    for (size_t i = 0; i < recipe_n_keys; i++) {
        const recipe_key *key = &recipe_keys[i];
        if (key->section != section || key->offset == RECIPE_NO_FIELD) continue;
        if (section == RECIPE_STAGE && !recipe_key_in_stage(key, (duo_stage_kind)stage_kind))
            continue;
        recipe_value_write(key, (const char *)before + key->offset, old);
        recipe_value_write(key, (const char *)now + key->offset, new);
        if (strcmp(old, new) == 0) continue;
        snprintf(name, sizeof name, "%s%s%s", path, *path ? "." : "", key->name);
        c->tell(c->context, c->stage, name, old, new);
    }
}

/* A section with a title that may be another's or only in one recipe. True: they are to be
 * compared.
 */
static bool same_section(const comparison *c, const char *kind, const char *before, const char *now,
                         char path[DUO_NAME_MAX + 16])
{
    const char *const titles[] = {before, now};
    if (before && now && strcmp(before, now) == 0) {
        snprintf(path, DUO_NAME_MAX + 16, "%s.%s", kind, now);
        return true;
    }
    for (size_t i = 0; i < 2; i++) {
        if (!titles[i]) continue;
        snprintf(path, DUO_NAME_MAX + 16, "%s.%s", kind, titles[i]);
        c->tell(c->context, c->stage, path, i == 0 ? "there" : NULL, i == 1 ? "there" : NULL);
    }
    return false;
}

void duo_recipe_changes(const duo_recipe *before, const duo_recipe *now, duo_recipe_change *tell,
                        void *context)
{
    char path[DUO_NAME_MAX + 16];
    comparison c = {.tell = tell, .context = context, .stage = SIZE_MAX};
    compare_keys(&c, RECIPE_ROOT, "", before, now, 0);
    compare_keys(&c, RECIPE_MODEL, "model", &before->model, &now->model, 0);
    compare_keys(&c, RECIPE_DATA, "data", before, now, 0);
    for (size_t i = 0; i < before->n_domains || i < now->n_domains; i++) {
        const duo_domain_recipe *b = i < before->n_domains ? &before->domains[i] : NULL;
        const duo_domain_recipe *n = i < now->n_domains ? &now->domains[i] : NULL;
        if (same_section(&c, "data.domain", b ? b->name : NULL, n ? n->name : NULL, path))
            compare_keys(&c, RECIPE_DOMAIN, path, b, n, 0);
    }
    for (c.stage = 0; c.stage < before->n_stages || c.stage < now->n_stages; c.stage++) {
        const duo_stage_recipe *b = c.stage < before->n_stages ? &before->stages[c.stage] : NULL;
        const duo_stage_recipe *n = c.stage < now->n_stages ? &now->stages[c.stage] : NULL;
        if (same_section(&c, "stage", b ? b->name : NULL, n ? n->name : NULL, path))
            compare_keys(&c, RECIPE_STAGE, path, b, n, n->kind);
    }
}

/* ---------------------------------------------------------------- the list of keys */

/* "1..128", "cosine|linear", ... */
static void describe_values(const recipe_key *key, char text[80])
{
    static const char *const names[RECIPE_TYPES] = {
        [RECIPE_BOOL] = "true|false", [RECIPE_NAME] = "name",     [RECIPE_PATH] = "path",
        [RECIPE_MODULES] = "modules", [RECIPE_INPUTS] = "inputs",
    };
    const char *number = key->type == RECIPE_SIZE || key->type == RECIPE_U64 ? "integer" : "number";
    if (key->type == RECIPE_CHOICE) {
        size_t used = 0;
        for (size_t i = 0; i <= (size_t)key->most && used < 80; i++)
            used +=
                (size_t)snprintf(text + used, 80 - used, "%s%s", i > 0 ? "|" : "", key->choices[i]);
    } else if (names[key->type]) {
        snprintf(text, 80, "%s", names[key->type]);
    } else if (isfinite(key->most)) {
        snprintf(text, 80, "%s %.8g..%.8g%s", number, key->least, key->most,
                 key->type == RECIPE_SHARE ? "|none" : "");
    } else {
        snprintf(text, 80, "%s", number);
    }
}

void duo_recipe_print_keys(void)
{
    static const char *const headings[RECIPE_SECTIONS] = {
        "At the top", "\nmodel { ... }", "\ndata { ... }", "\ndata { domain NAME { ... } }",
        "\nstage NAME { ... }"};
    for (recipe_section section = 0; section < RECIPE_SECTIONS; section++) {
        printf("%s\n", headings[section]);
        for (size_t i = 0; i < recipe_n_keys; i++) {
            const recipe_key *key = &recipe_keys[i];
            if (key->section != section) continue;
            char values[80], preset[64] = "";
            describe_values(key, values);
            if (key->required)
                snprintf(preset, sizeof preset, " (required)");
            else if (key->preset && key->preset[0])
                snprintf(preset, sizeof preset, " (%s)", key->preset);
            printf("  %-16s %-34s %s%s\n", key->name, values, key->meaning, preset);
        }
    }
}
