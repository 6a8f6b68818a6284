#include "options.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duo/number.h"

/* ---------------------------------------------------------------- help */

static void print_row(int width, const char *left, const char *argument, const char *help)
{
    const int used = printf("  %s%s%s", left, argument ? " " : "", argument ? argument : "");
    printf("%*s%s\n", used < width ? width - used : 2, "", help);
}

static void print_help(const duo_command *command)
{
    printf("usage: duo %s", command->name);
    int width = (int)strlen("  --help  ");
    for (size_t i = 0; i < command->n_positionals; i++) {
        const duo_positional *p = &command->positionals[i];
        printf(" %s%s%s%s", p->optional ? "[" : "", p->name, p->value ? "" : "...",
               p->optional ? "]" : "");
        const int wanted = (int)strlen(p->name) + 4;
        if (wanted > width) width = wanted;
    }
    printf(" [OPTION]...\n%s\n\n", command->description);
    for (size_t i = 0; i < command->n_options; i++) {
        const duo_option *o = &command->options[i];
        const int wanted = (int)(strlen(o->name) + (o->argument ? strlen(o->argument) + 1 : 0)) + 4;
        if (wanted > width) width = wanted;
    }
    for (size_t i = 0; i < command->n_positionals; i++)
        print_row(width, command->positionals[i].name, NULL, command->positionals[i].help);
    if (command->n_positionals > 0) putchar('\n');
    for (size_t i = 0; i < command->n_options; i++)
        print_row(width, command->options[i].name, command->options[i].argument,
                  command->options[i].help);
    print_row(width, "--help", NULL, "show this and stop");
    printf("\nexample:\n  %s\n", command->example);
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
    return false;
}

/* ---------------------------------------------------------------- values */

static duo_status outside(const duo_option *option, const char *text)
{
    if (option->most != 0)
        return duo_fail(DUO_EUSAGE, "%s: %s is outside %.15g..%.15g", option->name, text,
                        option->least, option->most);
    return duo_fail(DUO_EUSAGE, "%s: %s is %s", option->name, text,
                    *text == '-' ? "too small" : "out of range");
}

static bool in_range(const duo_option *option, double value)
{
    return value >= option->least && (option->most == 0 || value <= option->most);
}

static duo_status set_whole(const duo_option *option, const char *text)
{
    uint64_t value = 0;
    const duo_number outcome = duo_number_u64(&value, text);
    if (outcome == DUO_NUMBER_MALFORMED)
        return duo_fail(DUO_EUSAGE, "%s: '%s' is not a whole number", option->name, text);
    if (outcome == DUO_NUMBER_RANGE || !in_range(option, (double)value) ||
        (option->kind == DUO_OPTION_SIZE && value > SIZE_MAX))
        return outside(option, text);
    if (option->kind == DUO_OPTION_SIZE)
        *(size_t *)option->value = (size_t)value;
    else
        *(uint64_t *)option->value = value;
    return DUO_OK;
}

static duo_status set_real(const duo_option *option, const char *text)
{
    double value = 0;
    const duo_number outcome = duo_number_real(&value, text);
    if (outcome == DUO_NUMBER_MALFORMED)
        return duo_fail(DUO_EUSAGE, "%s: '%s' is not a number", option->name, text);
    if (outcome == DUO_NUMBER_RANGE || !in_range(option, value)) return outside(option, text);
    *(double *)option->value = value;
    return DUO_OK;
}

/* No list is longer than the command line. */
static duo_status add_text(duo_list *list, const char *text, int argc)
{
    const char **room = (const char **)(uintptr_t)list->text;
    if (!room && !(room = calloc((size_t)argc, sizeof *room)))
        return duo_fail(DUO_ENOMEM, "%s: no memory", text);
    room[list->n++] = text;
    list->text = room;
    return DUO_OK;
}

static duo_status add_list(const duo_option *option, duo_list added, int argc)
{
    duo_lists *lists = option->value;
    duo_list *room = (duo_list *)(uintptr_t)lists->list;
    if (!room && !(room = calloc((size_t)argc, sizeof *room)))
        return duo_fail(DUO_ENOMEM, "%s: no memory", option->name);
    room[lists->n++] = added;
    lists->list = room;
    return DUO_OK;
}

static bool names_option(const char *text)
{
    return strncmp(text, "--", 2) == 0;
}

/* The values of a list stand in argv from *i on; *i moves to the last of them. */
static duo_status set_list(const duo_option *option, int argc, char **argv, int *i)
{
    duo_list list = {.text = (const char *const *)(argv + *i)};
    while (*i < argc && (list.n == 0 || !names_option(argv[*i]))) {
        list.n++;
        ++*i;
    }
    --*i;
    if (option->kind == DUO_OPTION_LISTS) return add_list(option, list, argc);
    duo_list *value = option->value;
    if (value->n > 0) return duo_fail(DUO_EUSAGE, "%s: given twice", option->name);
    *value = list;
    return DUO_OK;
}

static const duo_option *find_option(const duo_command *command, const char *text, size_t length)
{
    for (size_t i = 0; i < command->n_options; i++)
        if (strlen(command->options[i].name) == length &&
            strncmp(command->options[i].name, text, length) == 0)
            return &command->options[i];
    return NULL;
}

/* Options that stand on the line: a bit each. */
typedef uint64_t option_set;
enum { MOST_OPTIONS = 64 };

static bool has(const duo_command *command, option_set given, const char *name)
{
    const duo_option *option = find_option(command, name, strlen(name));
    assert(option);
    return (given >> (option - command->options) & 1) != 0;
}

static duo_status check_pairs(const duo_command *command, option_set given)
{
    for (size_t i = 0; i < command->n_excludes; i++) {
        const duo_option_pair *pair = &command->excludes[i];
        if (has(command, given, pair->name) && has(command, given, pair->other))
            return duo_fail(DUO_EUSAGE, "%s and %s exclude each other", pair->name, pair->other);
    }
    for (size_t i = 0; i < command->n_needs; i++) {
        const duo_option_pair *pair = &command->needs[i];
        if (has(command, given, pair->name) && !has(command, given, pair->other))
            return duo_fail(DUO_EUSAGE, "%s: does nothing without %s", pair->name, pair->other);
    }
    return DUO_OK;
}

/* Read the option at argv[*i] and its value; *i moves to the last argument used. */
static duo_status take_option(const duo_command *command, int argc, char **argv, int *i,
                              option_set *given)
{
    char *text = argv[*i];
    const size_t length = strcspn(text, "=");
    const duo_option *option = find_option(command, text, length);
    if (!option)
        return duo_fail(DUO_EUSAGE, "%.*s: no such option; see duo %s --help", (int)length, text,
                        command->name);
    *given |= (option_set)1 << (option - command->options);
    const bool inlined = text[length] == '=';
    if (option->kind == DUO_OPTION_FLAG) {
        if (inlined) return duo_fail(DUO_EUSAGE, "%s: takes no value", option->name);
        *(bool *)option->value = true;
        return DUO_OK;
    }
    if (inlined) {
        argv[*i] = text + length + 1;
    } else if (++*i >= argc || names_option(argv[*i])) {
        return duo_fail(DUO_EUSAGE, "%s: %s is missing", option->name, option->argument);
    }
    switch (option->kind) {
    case DUO_OPTION_TEXT:
        *(const char **)option->value = argv[*i];
        return DUO_OK;
    case DUO_OPTION_SIZE:
    case DUO_OPTION_U64:
        return set_whole(option, argv[*i]);
    case DUO_OPTION_REAL:
        return set_real(option, argv[*i]);
    case DUO_OPTION_REPEATED:
        return add_text(option->value, argv[*i], argc);
    case DUO_OPTION_LIST:
    case DUO_OPTION_LISTS:
        return set_list(option, argc, argv, i);
    case DUO_OPTION_FLAG:
        break;
    }
    return DUO_OK;
}

/* ---------------------------------------------------------------- the line */

static duo_status take_positional(const duo_command *command, size_t *taken, const char *text,
                                  int argc)
{
    if (*taken == command->n_positionals)
        return duo_fail(DUO_EUSAGE, "%s: one argument too many; see duo %s --help", text,
                        command->name);
    const duo_positional *p = &command->positionals[*taken];
    if (!p->value) return add_text(p->rest, text, argc);
    *p->value = text;
    ++*taken;
    return DUO_OK;
}

duo_status duo_options_parse(const duo_command *command, int argc, char **argv, bool *help)
{
    *help = wants_help(argc, argv);
    if (*help) {
        print_help(command);
        return DUO_OK;
    }
    assert(command->n_options <= MOST_OPTIONS);
    size_t taken = 0; /* positionals that have their value */
    option_set given = 0;
    bool options_end = false;
    for (int i = 1; i < argc; i++) {
        duo_status status = DUO_OK;
        if (!options_end && strcmp(argv[i], "--") == 0)
            options_end = true;
        else if (!options_end && argv[i][0] == '-' && argv[i][1] != '\0')
            status = take_option(command, argc, argv, &i, &given);
        else
            status = take_positional(command, &taken, argv[i], argc);
        if (status != DUO_OK) return status;
    }
    const duo_status status = check_pairs(command, given);
    if (status != DUO_OK || taken == command->n_positionals) return status;
    const duo_positional *next = &command->positionals[taken];
    if (next->optional || (!next->value && next->rest->n > 0)) return DUO_OK;
    return duo_fail(DUO_EUSAGE, "%s is missing; see duo %s --help", next->name, command->name);
}

static void free_texts(duo_list *list)
{
    free((void *)(uintptr_t)list->text);
    *list = (duo_list){0};
}

void duo_options_free(const duo_command *command)
{
    for (size_t i = 0; i < command->n_positionals; i++)
        if (!command->positionals[i].value) free_texts(command->positionals[i].rest);
    for (size_t i = 0; i < command->n_options; i++) {
        const duo_option *o = &command->options[i];
        if (o->kind == DUO_OPTION_REPEATED) free_texts(o->value);
        if (o->kind == DUO_OPTION_LISTS) {
            duo_lists *lists = o->value;
            free((void *)(uintptr_t)lists->list);
            *lists = (duo_lists){0};
        }
    }
}
