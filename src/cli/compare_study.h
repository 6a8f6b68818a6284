#ifndef DUO_CLI_COMPARE_STUDY_H
#define DUO_CLI_COMPARE_STUDY_H

#include "duo/compare.h"
#include "duo/result.h"

/** What `duo compare` works out: rows by budget, and what they are held against. */
typedef struct duo_comparison {
    size_t L;
    size_t n_budgets, budgets[DUO_MAX_LAYERS + 1];
    size_t n;
    duo_compared *rows; /**< (n) measured on the comparison's sequences */
    /* By number of big layers 0..L; rows without means where it is not among the budgets: */
    duo_compared *fixed;         /**< on the comparison's sequences; from the least budget on */
    duo_compared *oracle, *free; /**< on the oracle's: by true targets, label-free */
    duo_compared *fixed_there;   /**< on the oracle's */
    duo_compared big, small, big_there;
    duo_hindsight hindsight;
    const char *against; /**< name of the rows that all others are held against too */
} duo_comparison;

/** Print the table: rows of one name and budget as the mean of their seeds. */
duo_status duo_comparison_print(const duo_comparison *comparison);
/** Write every row and every mean, tab-separated, behind the command as comments; or their layers.
 */
duo_status duo_comparison_write(const duo_comparison *comparison, const char *path, bool by_layer,
                                int argc, char **argv);

#endif
