#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "choice_item.h"
#include "duo/rng.h"

enum { WINDOW = 4096, TRIES_PER_ITEM = 64, TRIES_PER_CHOICE = 32 };

/* A document that is long enough: ids begin .. begin+n-1 of the text, marks aside. */
typedef struct passage {
    size_t begin, n;
} passage;

typedef struct making {
    const duo_choice_making *wanted;
    const duo_tokens *tokens;
    duo_tokenizer *tokenizer;
    int32_t *ids; /* (n) of all domains that are looked at, one behind the other */
    size_t n;
    passage *documents; /* (n_documents) */
    size_t n_documents;
    duo_status status; /* what ends the making, other than a text that will not do */
    size_t *starts;    /* (choices) of the passages of one item; the first follows the context */
} making;

/* ---------------------------------------------------------------- the text */

static duo_status read_domain(making *m, int domain)
{
    int32_t window[WINDOW + 1];
    const size_t windows = duo_tokens_windows(m->tokens, DUO_HELD_OUT, domain, WINDOW);
    int32_t *ids = realloc(m->ids, (m->n + windows * WINDOW + 1) * sizeof *ids);
    if (!ids) return duo_fail(DUO_ENOMEM, "%s: no memory for its text", duo_tokens_path(m->tokens));
    m->ids = ids;
    for (size_t i = 0; i < windows; i++) {
        duo_tokens_window(m->tokens, DUO_HELD_OUT, domain, WINDOW, i, window);
        memcpy(m->ids + m->n, window, WINDOW * sizeof *ids);
        m->n += WINDOW;
    }
    return DUO_OK;
}

static bool is_mark(const making *m, int32_t id)
{
    return id == duo_tokenizer_bos(m->tokenizer) || id == duo_tokenizer_eos(m->tokenizer);
}

/* What stands between marks; the first and the last of the text may be parts of documents. */
static duo_status find_documents(making *m)
{
    const duo_choice_making *w = m->wanted;
    const size_t least = w->context + 2 * w->choices * w->continuation;
    m->documents = calloc(m->n / least + 1, sizeof *m->documents);
    if (!m->documents)
        return duo_fail(DUO_ENOMEM, "%s: no memory for its text", duo_tokens_path(m->tokens));
    for (size_t i = 0, begin = 0; i <= m->n; i++) {
        if (i < m->n && !is_mark(m, m->ids[i])) continue;
        if (i - begin >= least) m->documents[m->n_documents++] = (passage){begin, i - begin};
        begin = i + 1;
    }
    if (m->n_documents > 0) return DUO_OK;
    return duo_fail(DUO_EINVAL, "%s: no held-out document has %zu tokens, enough for %zu choices",
                    duo_tokens_path(m->tokens), least, w->choices);
}

/* ---------------------------------------------------------------- passages */

/* A number below n for draw `draw` of a try. */
static size_t below(const making *m, size_t n, uint64_t try, size_t draw)
{
    const duo_place place = {.step = try, .position = (uint32_t)draw};
    const duo_random4 r = duo_random(m->wanted->seed, DUO_RNG_CHOICE, place);
    const uint64_t wide = (uint64_t)r.word[0] << 32 | r.word[1];
    return (size_t)(wide % n);
}

static bool begins_word(const making *m, size_t at)
{
    return duo_tokenizer_piece(m->tokenizer, m->ids[at])[0] == ' ';
}

static bool apart(size_t a, size_t b, size_t length)
{
    return a + length <= b || b + length <= a;
}

/* A passage that begins with a word and shares nothing with those before it. */
static bool choose_other(making *m, const passage *document, size_t i, uint64_t try)
{
    const size_t length = m->wanted->continuation, context = m->starts[0] - m->wanted->context;
    for (size_t j = 0; j < TRIES_PER_CHOICE; j++) {
        const size_t at =
            document->begin + below(m, document->n - length, try, i * TRIES_PER_CHOICE + j);
        bool good = begins_word(m, at) && (at >= m->starts[0] || at + length <= context);
        for (size_t k = 0; k < i && good; k++) good = apart(at, m->starts[k], length);
        if (!good) continue;
        m->starts[i] = at;
        return true;
    }
    return false;
}

static bool choose_passages(making *m, uint64_t try)
{
    const duo_choice_making *w = m->wanted;
    const uint64_t round = try / m->n_documents;
    const passage *document = &m->documents[duo_permute(w->seed, DUO_RNG_CHOICE, round,
                                                        m->n_documents, try % m->n_documents)];
    const size_t room = document->n - w->context - w->continuation;
    m->starts[0] = document->begin + w->context + below(m, room, try, 0);
    if (!begins_word(m, m->starts[0])) return false;
    for (size_t i = 1; i < w->choices; i++)
        if (!choose_other(m, document, i, try)) return false;
    return true;
}

/* ---------------------------------------------------------------- texts */

/* The text of ids; NULL when it would not become the same ids again, or holds a NUL. */
static char *text_of(making *m, size_t at, size_t n)
{
    char *text = NULL;
    int32_t *again = NULL;
    size_t bytes = 0, n_again = 0;
    bool same = false;
    duo_status status = duo_tokenizer_decode(m->tokenizer, m->ids + at, n, &text, &bytes);
    const bool whole = status == DUO_OK && strlen(text) == bytes;
    if (whole) status = duo_tokenizer_encode(m->tokenizer, text, bytes, &again, &n_again);
    if (status == DUO_ENOMEM) m->status = status;
    if (whole && status == DUO_OK)
        same = n_again == n && memcmp(again, m->ids + at, n * sizeof *again) == 0;
    free(again);
    if (same) return text;
    free(text);
    return NULL;
}

/* False, with nothing in the item, when some text will not do. */
static bool make_item(making *m, duo_choice_item *item, uint64_t try)
{
    const duo_choice_making *w = m->wanted;
    if (!choose_passages(m, try)) return false;
    *item = (duo_choice_item){.answer = below(m, w->choices, try, w->choices * TRIES_PER_CHOICE)};
    item->choices = calloc(w->choices, sizeof *item->choices);
    if (!item->choices) {
        m->status = duo_fail(DUO_ENOMEM, "no memory for %zu choices", w->choices);
        return false;
    }
    item->context = text_of(m, m->starts[0] - w->context, w->context);
    bool good = item->context != NULL;
    for (size_t i = 0; i < w->choices && good; i++) {
        const size_t from = i == item->answer ? 0 : i < item->answer ? i + 1 : i;
        item->choices[i] = text_of(m, m->starts[from], w->continuation);
        good = item->choices[i] != NULL;
        item->n += good;
        for (size_t j = 0; j < i && good; j++)
            good = strcmp(item->choices[i], item->choices[j]) != 0;
    }
    if (!good) study_choice_item_free(item);
    return good;
}

/* ---------------------------------------------------------------- the set */

static duo_status make_items(making *m, duo_choice_set *set)
{
    const uint64_t tries = (uint64_t)m->wanted->items * TRIES_PER_ITEM;
    set->items = calloc(m->wanted->items, sizeof *set->items);
    if (!set->items) return duo_fail(DUO_ENOMEM, "no memory for %zu items", m->wanted->items);
    for (uint64_t try = 0; try < tries && set->n < m->wanted->items && m->status == DUO_OK; try++)
        set->n += make_item(m, &set->items[set->n], try);
    if (m->status != DUO_OK) return m->status;
    if (set->n == m->wanted->items) return DUO_OK;
    return duo_fail(DUO_EINVAL, "%s: its held-out text gave %zu of %zu items; ask for shorter ones",
                    duo_tokens_path(m->tokens), set->n, m->wanted->items);
}

duo_status duo_choices_make(duo_choice_set *set, const duo_tokens *tokens,
                            const duo_choice_making *wanted)
{
    making m = {.wanted = wanted, .tokens = tokens};
    *set = (duo_choice_set){.name = strdup(duo_tokens_path(tokens))};
    duo_status status = DUO_OK;
    m.starts = calloc(wanted->choices, sizeof *m.starts);
    if (!set->name || !m.starts) {
        status = duo_fail(DUO_ENOMEM, "no memory for %zu choices", wanted->choices);
        goto done;
    }
    status = duo_tokens_open_tokenizer(tokens, &m.tokenizer);
    const int first = wanted->domain < 0 ? 0 : wanted->domain;
    const int last = wanted->domain < 0 ? (int)duo_tokens_domains(tokens) - 1 : wanted->domain;
    for (int d = first; d <= last && status == DUO_OK; d++) status = read_domain(&m, d);
    if (status == DUO_OK) status = find_documents(&m);
    if (status == DUO_OK) status = make_items(&m, set);
    set->documents = m.n_documents;
    for (size_t i = 0; i < m.n_documents; i++) set->tokens += m.documents[i].n;

done:
    duo_tokenizer_free(m.tokenizer);
    free(m.ids);
    free(m.documents);
    free(m.starts);
    if (status != DUO_OK) duo_choices_free(set);
    return status;
}
