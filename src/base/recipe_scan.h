#ifndef DUO_RECIPE_SCAN_H
#define DUO_RECIPE_SCAN_H

#include <stddef.h>

#include "duo/recipe.h"

/** Where a section opens. */
typedef struct recipe_opening {
    int line, depth;
    bool closed;
    char name[DUO_NAME_MAX], title[DUO_NAME_MAX]; /**< cut when longer; title may be "" */
} recipe_opening;

enum { RECIPE_OPENINGS_MAX = 256 };

typedef struct recipe_scan {
    char *plain; /**< the text with comments blanked out, line for line */
    size_t n;
    recipe_opening opening[RECIPE_OPENINGS_MAX];
} recipe_scan;

/**
 * Look over a recipe's text before libconfuse reads it, for what libconfuse takes silently or
 * trips over: sections, strings and comments that never close, sections opened twice, characters
 * that it skips, `${...}`, which it would replace from the environment. Comments (#, //, slash
 * star) are blanked out, since libconfuse loses count of lines in them. Free scan->plain.
 */
duo_status recipe_scan_text(recipe_scan *scan, const char *text, const char *where);

/** Line on which the section opened, 0 if it did not. */
int recipe_scan_line(const recipe_scan *scan, int depth, const char *name, const char *title);

#endif
