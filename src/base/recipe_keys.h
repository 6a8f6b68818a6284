#ifndef DUO_RECIPE_KEYS_H
#define DUO_RECIPE_KEYS_H

#include "duo/recipe.h"

/**
 * Every key of a recipe, in the order in which its text is written. Parsing, ranges, overrides,
 * the canonical text and the list of keys all follow this table.
 */
typedef enum recipe_section {
    RECIPE_ROOT,
    RECIPE_MODEL,
    RECIPE_DATA,
    RECIPE_DOMAIN, /**< inside data, with a title */
    RECIPE_STAGE,  /**< with a title */
    RECIPE_SECTIONS
} recipe_section;

typedef enum recipe_type {
    RECIPE_SIZE,    /**< size_t */
    RECIPE_U64,     /**< uint64_t */
    RECIPE_REAL,    /**< double */
    RECIPE_SHARE,   /**< double from 0 on, or `none`, kept as -1 */
    RECIPE_BOOL,    /**< bool */
    RECIPE_NAME,    /**< char[DUO_NAME_MAX], safe as the name of a folder */
    RECIPE_PATH,    /**< char[DUO_PATH_MAX] */
    RECIPE_CHOICE,  /**< an enum; the words stand in `choices` */
    RECIPE_MODULES, /**< duo_module_set */
    RECIPE_INPUTS,  /**< duo_router_inputs */
    RECIPE_TYPES
} recipe_type;

typedef struct recipe_key {
    recipe_section section;
    const char *name;
    recipe_type type;
    size_t offset;      /**< of the field in the section's struct, or RECIPE_NO_FIELD */
    const char *preset; /**< the default, written as in a recipe; NULL: none */
    bool required;
    double least, most;         /**< of a number, ends included */
    const char *const *choices; /**< words, indexed by value, `most` the last one's */
    unsigned stages;            /**< stage: bits 1 << kind of those that know the key */
    const char *meaning;
} recipe_key;

#define RECIPE_NO_FIELD SIZE_MAX

extern const recipe_key recipe_keys[];
extern const size_t recipe_n_keys;
extern const char *const recipe_section_names[RECIPE_SECTIONS];
extern const char *const recipe_stage_kinds[]; /**< indexed by duo_stage_kind; NULL at the end */

enum { RECIPE_VALUE_MAX = DUO_PATH_MAX + 8, RECIPE_WHY_MAX = 256 };

/** Letters, digits, - and _, shorter than DUO_NAME_MAX: titles of stages and domains. */
bool recipe_title_valid(const char *title);

/** Does a stage of this kind know the key? */
static inline bool recipe_key_in_stage(const recipe_key *key, duo_stage_kind kind)
{
    return (key->stages >> kind & 1u) != 0;
}

/** Read a value into *field; false puts the reason into why. */
bool recipe_value_read(const recipe_key *key, void *field, const char *text,
                       char why[RECIPE_WHY_MAX]);

/** Write *field so that reading it gives the same bits. Returns text. */
char *recipe_value_write(const recipe_key *key, const void *field, char text[RECIPE_VALUE_MAX]);

#endif
