#ifndef DUO_CLI_OPTIONS_H
#define DUO_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "duo/status.h"

/**
 * The command line of one command, as a table: parsing, checks and --help come from it.
 *
 *     static size_t windows = 32;
 *     ...
 *     const duo_option options[] = {
 *         {"--windows", "N", "held-out windows (default 32)", DUO_OPTION_SIZE, &windows, 1, 1e6},
 *         {"--quiet", NULL, "no progress", DUO_OPTION_FLAG, &quiet, 0, 0},
 *     };
 *
 * Both "--name value" and "--name=value" are read; "--" ends the options. Values point into argv.
 */
typedef enum duo_option_kind {
    DUO_OPTION_FLAG,     /**< bool: set to true */
    DUO_OPTION_TEXT,     /**< const char * */
    DUO_OPTION_SIZE,     /**< size_t */
    DUO_OPTION_U64,      /**< uint64_t */
    DUO_OPTION_REAL,     /**< double, finite */
    DUO_OPTION_LIST,     /**< duo_list: the arguments up to the next option */
    DUO_OPTION_REPEATED, /**< duo_list: one value each time the option is given */
    DUO_OPTION_LISTS     /**< duo_lists: a DUO_OPTION_LIST each time the option is given */
} duo_option_kind;

typedef struct duo_list {
    const char *const *text; /**< NULL while n is 0 */
    size_t n;
} duo_list;

typedef struct duo_lists {
    const duo_list *list; /**< NULL while n is 0 */
    size_t n;
} duo_lists;

typedef struct duo_option {
    const char *name;     /**< "--windows" */
    const char *argument; /**< as help shows it; NULL for a flag */
    const char *help;     /**< one line; says the default */
    duo_option_kind kind;
    void *value;        /**< of the type that kind names; left alone when the option is not given */
    double least, most; /**< range of a number, ends included; most 0: no upper end */
} duo_option;

/** Arguments that stand without a name, in order. */
typedef struct duo_positional {
    const char *name;   /**< as help and messages show it: "CHECKPOINT" */
    const char *help;   /**< one line */
    const char **value; /**< NULL: this is the last one and takes all that is left, into `rest` */
    duo_list *rest;
    bool optional;
} duo_positional;

typedef struct duo_option_pair {
    const char *name, *other;
} duo_option_pair;

typedef struct duo_command {
    const char *name;        /**< "eval" */
    const char *description; /**< what it does, one or more full lines without a final newline */
    const char *example;     /**< a complete command line */
    const duo_positional *positionals;
    size_t n_positionals;
    const duo_option *options;
    size_t n_options;
    const duo_option_pair *needs; /**< without `other`, `name` does nothing: it is refused */
    size_t n_needs;
    const duo_option_pair *excludes; /**< refused together */
    size_t n_excludes;
} duo_command;

/**
 * Read argv[1..argc-1] into the table's values. With --help among them the help is printed to
 * stdout and *help set: the command then returns DUO_OK at once. DUO_EUSAGE names the option.
 * The arrays behind DUO_OPTION_REPEATED, DUO_OPTION_LISTS and a positional's `rest` are allocated:
 * release them with duo_options_free, also after a failure. Those values must be zero before.
 */
duo_status duo_options_parse(const duo_command *command, int argc, char **argv, bool *help);
void duo_options_free(const duo_command *command);

#endif
