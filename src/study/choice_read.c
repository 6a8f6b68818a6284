#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "choice_item.h"
#include "duo/json.h"
#include "duo/number.h"

/* ---------------------------------------------------------------- building an item */

typedef struct reading {
    const char *path;
    size_t line;
    duo_choice_item item;
} reading;

static duo_status wrong(const reading *r, const char *what)
{
    return duo_fail(DUO_EINVAL, "%s:%zu: %s", r->path, r->line, what);
}

void study_choice_item_free(duo_choice_item *item)
{
    for (size_t i = 0; i < item->n; i++) free(item->choices[i]);
    free(item->choices);
    free(item->context);
    *item = (duo_choice_item){0};
}

static char *joined(const char *a, const char *b, const char *c)
{
    const size_t n = strlen(a) + strlen(b) + strlen(c) + 1;
    char *text = malloc(n);
    if (text) snprintf(text, n, "%s%s%s", a, b, c);
    return text;
}

static duo_status set_context(reading *r, const char *before, const char *text, const char *behind)
{
    r->item.context = joined(before, text, behind);
    return r->item.context ? DUO_OK : duo_fail(DUO_ENOMEM, "%s: no memory", r->path);
}

static duo_status start_choices(reading *r, const json_t *array)
{
    if (!json_is_array(array) || json_array_size(array) < 2)
        return wrong(r, "needs an array of two or more choices");
    r->item.choices = calloc(json_array_size(array), sizeof *r->item.choices);
    return r->item.choices ? DUO_OK : duo_fail(DUO_ENOMEM, "%s: no memory", r->path);
}

static duo_status add_choice(reading *r, const char *space, const json_t *value)
{
    if (!json_is_string(value) || json_string_length(value) == 0)
        return wrong(r, "a choice is not a text, or empty");
    char *text = joined(space, json_string_value(value), "");
    if (!text) return duo_fail(DUO_ENOMEM, "%s: no memory", r->path);
    r->item.choices[r->item.n++] = text;
    return DUO_OK;
}

/* A whole number from 0 on, also as a text. */
static duo_status set_answer(reading *r, const json_t *value, const char *key)
{
    uint64_t answer = 0;
    bool good = false;
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        answer = (uint64_t)json_integer_value(value);
        good = true;
    } else if (json_is_string(value)) {
        good = duo_number_u64(&answer, json_string_value(value)) == DUO_NUMBER_OK;
    }
    if (!good || answer >= r->item.n)
        return duo_fail(DUO_EINVAL, "%s:%zu: \"%s\" is no number below the %zu choices", r->path,
                        r->line, key, r->item.n);
    r->item.answer = (size_t)answer;
    return DUO_OK;
}

/* ---------------------------------------------------------------- the forms of a line */

static duo_status read_texts(reading *r, const json_t *array, const char *space)
{
    duo_status status = start_choices(r, array);
    for (size_t i = 0; status == DUO_OK && i < json_array_size(array); i++)
        status = add_choice(r, space, json_array_get(array, i));
    return status;
}

static duo_status read_plain(reading *r, const json_t *object)
{
    const json_t *context = json_object_get(object, "context");
    if (!json_is_string(context)) return wrong(r, "\"context\" is not a text");
    duo_status status = set_context(r, "", json_string_value(context), "");
    if (status == DUO_OK) status = read_texts(r, json_object_get(object, "choices"), "");
    if (status == DUO_OK) status = set_answer(r, json_object_get(object, "answer"), "answer");
    return status;
}

static duo_status read_hellaswag(reading *r, const json_t *object)
{
    const json_t *context = json_object_get(object, "ctx");
    if (!json_is_string(context)) return wrong(r, "\"ctx\" is missing or not a text");
    duo_status status = set_context(r, "", json_string_value(context), "");
    if (status == DUO_OK) status = read_texts(r, json_object_get(object, "endings"), " ");
    if (status == DUO_OK) status = set_answer(r, json_object_get(object, "label"), "label");
    return status;
}

/* The label of choice i, in either form. */
static const char *label_of(const json_t *choices, size_t i)
{
    const json_t *label = json_is_array(choices)
                              ? json_object_get(json_array_get(choices, i), "label")
                              : json_array_get(json_object_get(choices, "label"), i);
    return json_string_value(label);
}

static duo_status read_labelled(reading *r, const json_t *choices)
{
    duo_status status = DUO_OK;
    if (!json_is_array(choices)) return read_texts(r, json_object_get(choices, "text"), " ");
    status = start_choices(r, choices);
    for (size_t i = 0; status == DUO_OK && i < json_array_size(choices); i++)
        status = add_choice(r, " ", json_object_get(json_array_get(choices, i), "text"));
    return status;
}

static duo_status read_arc(reading *r, const json_t *object)
{
    const json_t *question = json_object_get(object, "question"), *stem = question;
    const json_t *choices = json_object_get(object, "choices");
    const char *key = json_string_value(json_object_get(object, "answerKey"));
    if (json_is_object(question)) {
        stem = json_object_get(question, "stem");
        choices = json_object_get(question, "choices");
    }
    if (!json_is_string(stem)) return wrong(r, "the question's text is missing");
    if (!key) return wrong(r, "\"answerKey\" is missing or not a text");
    duo_status status = set_context(r, "Question: ", json_string_value(stem), "\nAnswer:");
    if (status == DUO_OK) status = read_labelled(r, choices);
    if (status != DUO_OK) return status;
    for (size_t i = 0; i < r->item.n; i++) {
        const char *label = label_of(choices, i);
        if (!label) return wrong(r, "a choice has no label");
        if (strcmp(label, key) == 0) {
            r->item.answer = i;
            return DUO_OK;
        }
    }
    return wrong(r, "\"answerKey\" is the label of no choice");
}

static duo_status read_line(reading *r, const char *line, size_t length)
{
    json_error_t error;
    json_t *object = NULL;
    duo_status status = duo_json_parse(&object, line, length, JSON_REJECT_DUPLICATES, &error);
    if (status != DUO_OK) return duo_fail(status, "%s:%zu: %s", r->path, r->line, duo_message());
    if (json_object_get(object, "endings"))
        status = read_hellaswag(r, object);
    else if (json_object_get(object, "question"))
        status = read_arc(r, object);
    else if (json_object_get(object, "context"))
        status = read_plain(r, object);
    else
        status = wrong(r, "has neither \"context\" nor \"endings\" nor \"question\"");
    json_decref(object);
    return status;
}

/* ---------------------------------------------------------------- files */

static bool is_blank(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!isspace((unsigned char)line[i])) return false;
    return true;
}

static duo_status add_item(duo_choice_set *set, size_t *room, const duo_choice_item *item)
{
    if (set->n == *room) {
        const size_t wanted = *room == 0 ? 64 : 2 * *room;
        duo_choice_item *items = realloc(set->items, wanted * sizeof *items);
        if (!items) return duo_fail(DUO_ENOMEM, "no memory for %zu items", wanted);
        set->items = items;
        *room = wanted;
    }
    set->items[set->n++] = *item;
    return DUO_OK;
}

duo_status duo_choices_read(duo_choice_set *set, const char *path)
{
    size_t room = 0, capacity = 0;
    char *line = NULL;
    *set = (duo_choice_set){.name = strdup(path)};
    if (!set->name) return duo_fail(DUO_ENOMEM, "%s: no memory", path);
    duo_status status = DUO_OK;
    FILE *file = fopen(path, "r");
    if (!file) {
        status = duo_fail(DUO_EIO, "%s: cannot open: %s", path, strerror(errno));
        goto done;
    }
    reading r = {.path = path};
    while (status == DUO_OK) {
        errno = 0;
        const ssize_t length = getline(&line, &capacity, file);
        if (length < 0) break;
        r.line++;
        if (is_blank(line, (size_t)length)) continue;
        r.item = (duo_choice_item){.line = r.line};
        status = read_line(&r, line, (size_t)length);
        if (status == DUO_OK) status = add_item(set, &room, &r.item);
        if (status != DUO_OK) study_choice_item_free(&r.item);
    }
    if (status == DUO_OK && !feof(file))
        status = duo_fail(DUO_EIO, "%s: cannot read: %s", path, strerror(errno));
    if (status == DUO_OK && set->n == 0) status = duo_fail(DUO_EINVAL, "%s: holds no item", path);

done:
    if (file) fclose(file);
    free(line);
    if (status != DUO_OK) duo_choices_free(set);
    return status;
}

void duo_choices_free(duo_choice_set *set)
{
    for (size_t i = 0; i < set->n; i++) study_choice_item_free(&set->items[i]);
    free(set->items);
    free(set->name);
    *set = (duo_choice_set){0};
}
