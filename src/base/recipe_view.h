#ifndef DUO_RECIPE_VIEW_H
#define DUO_RECIPE_VIEW_H

#include <confuse.h>

#include "recipe_keys.h"

/** A value as it was given. */
typedef struct recipe_given {
    int line; /**< 0: by an override */
    char text[];
} recipe_given;

/** One section while it is resolved. */
typedef struct recipe_view {
    const char *where;
    cfg_t *section;
    int line;                     /**< on which it opens; 0: unknown */
    char path[DUO_NAME_MAX + 16]; /**< "stage.duo"; "" at the root */
} recipe_view;

/** NULL: the default holds. */
const recipe_given *recipe_find_given(const recipe_view *v, const char *key);

/** Blame a key where it was given, else the section where it opens; key NULL: the section. */
duo_status recipe_fail(const recipe_view *v, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));

/** Into the key's own field. */
duo_status recipe_read_key(const recipe_view *v, const recipe_key *key, void *field);
/** All keys of a section into its struct. */
duo_status recipe_read_keys(const recipe_view *v, recipe_section section, void *object);
const recipe_key *recipe_find_key(recipe_section section, const char *name);

/** A stage with everything resolved that follows from its keys and the model. */
duo_status recipe_read_stage(const recipe_view *v, const duo_config *model,
                             duo_stage_recipe *stage);

#endif
