#include "recipe_scan.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct cursor {
    recipe_scan *scan;
    const char *where;
    char *at; /* in scan->plain */
    int line, depth;
    bool value_next;            /* the next word is a key's value */
    char word[2][DUO_NAME_MAX]; /* the last two words since the last brace or value */
} cursor;

int recipe_scan_line(const recipe_scan *scan, int depth, const char *name, const char *title)
{
    for (size_t i = 0; i < scan->n; i++) {
        const recipe_opening *o = &scan->opening[i];
        if (o->depth == depth && strcmp(o->name, name) == 0 && strcmp(o->title, title) == 0)
            return o->line;
    }
    return 0;
}

static void forget_words(cursor *c)
{
    c->word[0][0] = c->word[1][0] = '\0';
}

static void keep_word(cursor *c, const char *word, size_t length)
{
    if (c->value_next) {
        c->value_next = false;
        return;
    }
    if (c->word[0][0] != '\0' && c->word[1][0] != '\0')
        memcpy(c->word[0], c->word[1], sizeof c->word[0]);
    char *slot = c->word[c->word[0][0] != '\0'];
    if (length > DUO_NAME_MAX - 1) length = DUO_NAME_MAX - 1;
    memcpy(slot, word, length);
    slot[length] = '\0';
}

/* Everything that libconfuse takes as part of an unquoted value, of what a recipe needs. */
static bool bare(char c)
{
    return isalnum((unsigned char)c) || (c != '\0' && strchr("_-./:~@", c) != NULL);
}

static void blank_line_comment(cursor *c)
{
    while (*c->at != '\0' && *c->at != '\n') *c->at++ = ' ';
}

static duo_status blank_block_comment(cursor *c)
{
    const int opened = c->line;
    for (*c->at++ = ' '; c->at[0] != '\0'; c->at++) {
        if (c->at[0] == '*' && c->at[1] == '/') {
            c->at[0] = c->at[1] = ' ';
            c->at += 2;
            return DUO_OK;
        }
        if (*c->at == '\n')
            c->line++;
        else
            *c->at = ' ';
    }
    return duo_fail(DUO_EINVAL, "%s:%d: this comment is never closed", c->where, opened);
}

static duo_status pass_string(cursor *c)
{
    const char quote = *c->at++;
    const char *begin = c->at;
    for (; *c->at != quote; c->at++) {
        if (*c->at == '\0' || *c->at == '\n')
            return duo_fail(DUO_EINVAL, "%s:%d: this string is not closed on its line", c->where,
                            c->line);
        if ((unsigned char)*c->at < 0x20 || strchr("\\$", *c->at))
            return duo_fail(DUO_EINVAL,
                            "%s:%d: a string holds '%c'; escapes and variables are not expanded",
                            c->where, c->line, *c->at);
    }
    keep_word(c, begin, (size_t)(c->at - begin));
    c->at++;
    return DUO_OK;
}

static duo_status open_section(cursor *c)
{
    recipe_scan *scan = c->scan;
    if (c->word[0][0] == '\0')
        return duo_fail(DUO_EINVAL, "%s:%d: '{' without the name of a section", c->where, c->line);
    const int before = recipe_scan_line(scan, c->depth, c->word[0], c->word[1]);
    if (before > 0)
        return duo_fail(DUO_EINVAL, "%s:%d: section %s%s%s was opened before, on line %d", c->where,
                        c->line, c->word[0], c->word[1][0] ? " " : "", c->word[1], before);
    if (scan->n == RECIPE_OPENINGS_MAX)
        return duo_fail(DUO_EINVAL, "%s:%d: more than %d sections", c->where, c->line,
                        RECIPE_OPENINGS_MAX);
    recipe_opening *o = &scan->opening[scan->n++];
    *o = (recipe_opening){.line = c->line, .depth = c->depth++};
    memcpy(o->name, c->word[0], sizeof o->name);
    memcpy(o->title, c->word[1], sizeof o->title);
    forget_words(c);
    c->at++;
    return DUO_OK;
}

static duo_status close_section(cursor *c)
{
    size_t i = c->scan->n;
    while (i > 0 && c->scan->opening[i - 1].closed) i--;
    if (i == 0) return duo_fail(DUO_EINVAL, "%s:%d: '}' without a section", c->where, c->line);
    c->scan->opening[i - 1].closed = true;
    c->depth--;
    forget_words(c);
    c->at++;
    return DUO_OK;
}

static duo_status step(cursor *c)
{
    switch (*c->at) {
    case '\n':
        c->line++;
        c->at++;
        return DUO_OK;
    case ' ':
    case '\t':
        c->at++;
        return DUO_OK;
    case '\r': /* line ends of another system */
        *c->at++ = ' ';
        return DUO_OK;
    case '=':
        forget_words(c);
        c->value_next = true;
        c->at++;
        return DUO_OK;
    case '#':
        blank_line_comment(c);
        return DUO_OK;
    case '"':
    case '\'':
        return pass_string(c);
    case '{':
        return open_section(c);
    case '}':
        return close_section(c);
    default:
        break;
    }
    if (c->at[0] == '/' && c->at[1] == '/') {
        blank_line_comment(c);
        return DUO_OK;
    }
    if (c->at[0] == '/' && c->at[1] == '*') return blank_block_comment(c);
    const char *begin = c->at;
    while (bare(*c->at) && !(c->at[0] == '/' && (c->at[1] == '/' || c->at[1] == '*'))) c->at++;
    if (c->at == begin)
        return duo_fail(DUO_EINVAL, "%s:%d: character '%c' outside quotes", c->where, c->line,
                        *c->at);
    keep_word(c, begin, (size_t)(c->at - begin));
    return DUO_OK;
}

duo_status recipe_scan_text(recipe_scan *scan, const char *text, const char *where)
{
    *scan = (recipe_scan){.plain = strdup(text)};
    if (!scan->plain) return duo_fail(DUO_ENOMEM, "%s: no memory for the recipe", where);
    cursor c = {.scan = scan, .where = where, .at = scan->plain, .line = 1};
    while (*c.at != '\0') {
        const duo_status status = step(&c);
        if (status != DUO_OK) return status;
    }
    for (size_t i = scan->n; i-- > 0;) {
        const recipe_opening *o = &scan->opening[i];
        if (!o->closed)
            return duo_fail(DUO_EINVAL, "%s:%d: section %s%s%s is never closed", where, o->line,
                            o->name, o->title[0] ? " " : "", o->title);
    }
    return DUO_OK;
}
