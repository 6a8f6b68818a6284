#include <stdlib.h>
#include <string.h>

#include "data_internal.h"
#include "duo/rng.h"

/* Which documents are trained on and which are held out. */
typedef struct splitting {
    const duo_prepare *prepare;
    data_corpus *corpus;
    const char *text;
} splitting;

/* ---------------------------------------------------------------- copies */

typedef struct content {
    duo_hash hash;
    size_t document;
} content;

/* Equal ones together, in their order. */
static int by_content(const void *a, const void *b)
{
    const content *x = a, *y = b;
    if (x->hash.high != y->hash.high) return x->hash.high < y->hash.high ? -1 : 1;
    if (x->hash.low != y->hash.low) return x->hash.low < y->hash.low ? -1 : 1;
    return x->document < y->document ? -1 : 1;
}

/* A document that is trained on tells nothing when it is held out, hence one of equal ones stays:
 * one that is given as held out, if there is one. */
static duo_status drop_copies(const splitting *j)
{
    data_corpus *corpus = j->corpus;
    const size_t n = corpus->n_documents;
    size_t copies = 0, leaks = 0, kept = 0;
    content *contents = malloc((n ? n : 1) * sizeof *contents);
    bool *dropped = calloc(n ? n : 1, sizeof *dropped);
    if (!contents || !dropped) {
        free(contents);
        free(dropped);
        return duo_fail(DUO_ENOMEM, "%s: no memory for %zu documents", j->prepare->output, n);
    }
    for (size_t i = 0; i < n; i++) {
        const data_document *d = &corpus->documents[i];
        contents[i] = (content){duo_hash_bytes(j->text + d->start, (size_t)d->bytes), i};
    }
    qsort(contents, n, sizeof *contents, by_content);
    for (size_t first = 0, end; first < n; first = end) {
        size_t stays = first;
        end = first + 1;
        while (end < n && duo_hash_equal(contents[end].hash, contents[first].hash)) end++;
        while (stays < end && corpus->documents[contents[stays].document].split == DUO_TRAIN)
            stays++;
        const bool held_out = stays < end;
        if (!held_out) stays = first;
        for (size_t i = first; i < end; i++) {
            if (i == stays) continue;
            dropped[contents[i].document] = true;
            if (held_out && corpus->documents[contents[i].document].split == DUO_TRAIN)
                leaks++;
            else
                copies++;
        }
    }
    for (size_t i = 0; i < n; i++)
        if (!dropped[i]) corpus->documents[kept++] = corpus->documents[i];
    corpus->n_documents = kept;
    free(contents);
    free(dropped);
    if (leaks > 0)
        duo_warn("%s: %zu of the documents to train on %s held out too: left out of training",
                 j->prepare->output, leaks, leaks == 1 ? "is" : "are");
    if (copies > 0)
        duo_warn("%s: %zu document%s of others: left out", j->prepare->output, copies,
                 copies == 1 ? " is a copy" : "s are copies");
    return DUO_OK;
}

/* ---------------------------------------------------------------- what is held out */

size_t data_find_cut(const char *text, size_t least, size_t most)
{
    static const char *const ends[] = {"\n\n", "\n", " "};
    for (size_t e = 0; e < sizeof ends / sizeof *ends; e++) {
        const size_t length = strlen(ends[e]);
        for (size_t at = most; at > least && at >= length; at--)
            if (memcmp(text + at - length, ends[e], length) == 0) return at;
    }
    while (most > 0 && ((unsigned char)text[most] & 0xC0) == 0x80) most--;
    return most;
}

static duo_status cut_document(const splitting *j, size_t i, const char *domain)
{
    const data_document *document = &j->corpus->documents[i];
    const double fraction = j->prepare->held_out_fraction, bytes = (double)document->bytes;
    const size_t least = fraction < 0.5 ? (size_t)(bytes * (1.0 - 2.0 * fraction)) : 0;
    const size_t at =
        data_find_cut(j->text + document->start, least, (size_t)(bytes * (1.0 - fraction)));
    if (at == 0)
        return duo_fail(DUO_EINVAL, "domain %s: too little text to hold any of it out", domain);
    duo_warn("domain %s is a single document: its last %.1f %% are held out", domain,
             100.0 * (1.0 - (double)at / bytes));
    const duo_status status = data_corpus_cut(j->corpus, i, at);
    if (status == DUO_OK) j->corpus->documents[i + 1].split = DUO_HELD_OUT;
    return status;
}

/* Each document by its own draw, but at least one on either side. */
static void draw_documents(const splitting *j, size_t first, size_t n)
{
    double least = 2.0, most = -1.0;
    data_document *documents = j->corpus->documents + first, *lowest = documents,
                  *highest = documents;
    for (size_t i = 0; i < n; i++) {
        const double u = duo_uniform(
            duo_random(j->prepare->seed, DUO_RNG_SPLIT, (duo_place){.step = i}).word[0]);
        if (u < j->prepare->held_out_fraction) documents[i].split = DUO_HELD_OUT;
        if (u < least) {
            least = u;
            lowest = &documents[i];
        }
        if (u > most) {
            most = u;
            highest = &documents[i];
        }
    }
    lowest->split = DUO_HELD_OUT;
    highest->split = DUO_TRAIN;
}

/* Whole documents are drawn: few or unequal ones may be far from the fraction. */
static void warn_of_share(const splitting *j, size_t first, size_t n, const char *domain)
{
    const double wanted = j->prepare->held_out_fraction;
    double all = 0, held = 0;
    for (size_t i = first; i < first + n; i++) {
        const data_document *document = &j->corpus->documents[i];
        all += (double)document->bytes;
        if (document->split == DUO_HELD_OUT) held += (double)document->bytes;
    }
    const double share = all > 0 ? held / all : wanted;
    if (share <= 2 * wanted && share >= wanted / 2) return;
    duo_warn("domain %s: %.1f %% of its text are held out, wanted are %.1f %%: its documents are "
             "few or unequal; --held-out names others",
             domain, 100 * share, 100 * wanted);
}

/* Every domain has text on both sides: copies may have been all that it had. */
static duo_status check_sides(const splitting *j)
{
    static const char *const missing[] = {"to train on", "to hold out"};
    for (size_t d = 0; d < j->prepare->n_domains; d++) {
        bool there[2] = {false};
        for (size_t i = 0; i < j->corpus->n_documents; i++)
            if (j->corpus->documents[i].domain == d) there[j->corpus->documents[i].split] = true;
        for (duo_split split = DUO_TRAIN; split <= DUO_HELD_OUT; split++)
            if (!there[split])
                return duo_fail(DUO_EINVAL,
                                "domain %s: nothing is left %s: the rest are copies of documents "
                                "that are elsewhere",
                                j->prepare->domains[d].name, missing[split]);
    }
    return DUO_OK;
}

duo_status data_split(data_corpus *corpus, const char *text, const duo_prepare *prepare)
{
    const splitting j = {prepare, corpus, text};
    duo_status status = drop_copies(&j);
    for (size_t first = 0, n = 0; first < corpus->n_documents && status == DUO_OK; first += n) {
        const size_t d = corpus->documents[first].domain;
        const duo_source_domain *domain = &prepare->domains[d];
        n = 1;
        while (first + n < corpus->n_documents && corpus->documents[first + n].domain == d) n++;
        if (domain->n_held_out > 0) continue;
        if (n > 1) {
            draw_documents(&j, first, n);
            warn_of_share(&j, first, n, domain->name);
        } else if ((status = cut_document(&j, first, domain->name)) == DUO_OK) {
            n = 2;
        }
    }
    return status == DUO_OK ? check_sides(&j) : status;
}
