#include <stdlib.h>
#include <string.h>

#include "duo/recipe.h"
#include "fuzz.h"

/* What can be read is written as a text that means the same. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    duo_recipe *recipe = NULL, *again = NULL;
    char *text = calloc(size + 1, 1);
    if (!text) abort();
    memcpy(text, data, size);
    if (duo_recipe_parse(&recipe, text, "fuzz", NULL, 0) == DUO_OK) {
        char *first = duo_recipe_text(recipe), *second = NULL;
        if (!first || duo_recipe_parse(&again, first, "again", NULL, 0) != DUO_OK) abort();
        second = duo_recipe_text(again);
        if (!second || strcmp(first, second) != 0) abort();
        free(first);
        free(second);
    }
    duo_recipe_free(recipe);
    duo_recipe_free(again);
    free(text);
    return 0;
}
