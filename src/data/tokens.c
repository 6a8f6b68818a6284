#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data_internal.h"
#include "duo/config.h"

/* One split of an open token file; the arrays are mapped unless they say otherwise. */
typedef struct token_split {
    const void *ids;
    duo_type type; /* DUO_U16 or DUO_U32 */
    size_t n;
    const uint64_t *documents;
    size_t n_documents;
    uint64_t starts[DATA_MAX_DOMAINS + 1]; /* of the domains; copied, with the end behind them */
    const uint64_t *bytes;                 /* of text per domain; NULL: not recorded */
} token_split;

struct duo_tokens {
    duo_store *store;
    size_t vocab_size, n_domains;
    const duo_dataset *tokenizer;
    double unigram_entropy;
    char *names; /* of all domains, each with its NUL */
    const char *name[DATA_MAX_DOMAINS];
    token_split split[2];
};

static const char *const split_names[2] = {"train", "val"};

static int32_t id_at(const void *ids, duo_type type, size_t i)
{
    return type == DUO_U16 ? ((const uint16_t *)ids)[i] : (int32_t)((const uint32_t *)ids)[i];
}

duo_status data_unigram_entropy(double *entropy, const void *ids, duo_type type, size_t n,
                                size_t vocab_size)
{
    uint64_t *counts = calloc(vocab_size, sizeof *counts);
    if (!counts) return duo_fail(DUO_ENOMEM, "no memory for the counts of %zu ids", vocab_size);
    for (size_t i = 0; i < n; i++) counts[id_at(ids, type, i)]++;
    *entropy = 0.0;
    for (size_t id = 0; id < vocab_size; id++) {
        const double share = (double)counts[id] / (double)n;
        if (counts[id] > 0) *entropy -= share * log(share);
    }
    free(counts);
    return DUO_OK;
}

/* ---------------------------------------------------------------- checks */

static uint32_t largest_id(const token_split *split)
{
    uint32_t most = 0;
    if (split->type == DUO_U16) {
        const uint16_t *ids = split->ids;
        uint16_t narrow = 0;
        for (size_t i = 0; i < split->n; i++) narrow = ids[i] > narrow ? ids[i] : narrow;
        most = narrow;
    } else {
        const uint32_t *ids = split->ids;
        for (size_t i = 0; i < split->n; i++) most = ids[i] > most ? ids[i] : most;
    }
    return most;
}

/* Offsets begin at 0, never fall and stay below the number of tokens. */
static duo_status check_offsets(const duo_tokens *tokens, const duo_dataset *offsets, size_t n)
{
    const uint64_t *at = offsets->data;
    for (size_t i = 0; i < offsets->count; i++)
        if (at[i] >= n || (i == 0 ? at[i] != 0 : at[i] < at[i - 1]))
            return duo_fail(DUO_EDATA, "%s: %s: offset %zu is out of order or beyond the tokens",
                            duo_tokens_path(tokens), offsets->name, i);
    return DUO_OK;
}

static const char *dataset_name(char name[40], size_t split, const char *what)
{
    snprintf(name, 40, "/%s/%s", split_names[split], what);
    return name;
}

static duo_status open_ids(duo_tokens *tokens, size_t s)
{
    token_split *split = &tokens->split[s];
    char name[40];
    const duo_dataset *ids = duo_store_find(tokens->store, dataset_name(name, s, "tokens"));
    split->type = ids && ids->type == DUO_U32 ? DUO_U32 : DUO_U16;
    const duo_status status =
        duo_store_require(tokens->store, name, split->type, (duo_shape){.rank = 1}, &ids);
    if (status != DUO_OK) return status;
    split->ids = ids->data;
    split->n = ids->count;
    if (split->n == 0) return duo_fail(DUO_EDATA, "%s: %s is empty", duo_tokens_path(tokens), name);
    const uint32_t most = largest_id(split);
    if (most >= tokens->vocab_size)
        return duo_fail(DUO_EDATA, "%s: %s: id %u is not below the vocab_size of %zu",
                        duo_tokens_path(tokens), name, (unsigned)most, tokens->vocab_size);
    return DUO_OK;
}

static duo_status open_documents(duo_tokens *tokens, size_t s)
{
    token_split *split = &tokens->split[s];
    char name[40];
    const duo_dataset *documents = NULL;
    duo_status status = duo_store_require(tokens->store, dataset_name(name, s, "documents"),
                                          DUO_U64, (duo_shape){.rank = 1}, &documents);
    if (status == DUO_OK) status = check_offsets(tokens, documents, split->n);
    if (status != DUO_OK) return status;
    split->documents = documents->data;
    split->n_documents = documents->count;
    return DUO_OK;
}

/* Files of other tools may know nothing of domains: all of it is one. */
static duo_status open_domains(duo_tokens *tokens, size_t s)
{
    token_split *split = &tokens->split[s];
    const duo_shape one_each = {.rank = 1, .size = {tokens->n_domains}};
    char name[40];
    const duo_dataset *starts = NULL, *bytes = NULL;
    split->starts[tokens->n_domains] = split->n;
    duo_status status = DUO_OK;
    if (duo_store_find(tokens->store, dataset_name(name, s, "domains")) || tokens->n_domains > 1) {
        status = duo_store_require(tokens->store, name, DUO_U64, one_each, &starts);
        if (status == DUO_OK) status = check_offsets(tokens, starts, split->n);
        if (status != DUO_OK) return status;
        memcpy(split->starts, starts->data, tokens->n_domains * sizeof *split->starts);
    }
    if (duo_store_find(tokens->store, dataset_name(name, s, "bytes"))) {
        status = duo_store_require(tokens->store, name, DUO_U64, one_each, &bytes);
        if (status == DUO_OK) split->bytes = bytes->data;
    }
    return status;
}

static duo_status read_names(duo_tokens *tokens)
{
    const char *text = "text";
    if (duo_store_attribute(tokens->store, "/", "domains")) {
        const duo_status status = duo_store_get_text(tokens->store, "/", "domains", &text);
        if (status != DUO_OK) return status;
    }
    tokens->names = strdup(text);
    if (!tokens->names)
        return duo_fail(DUO_ENOMEM, "%s: no memory to open it", duo_tokens_path(tokens));
    for (char *name = tokens->names; name; tokens->n_domains++) {
        if (tokens->n_domains == DATA_MAX_DOMAINS)
            return duo_fail(DUO_EDATA, "%s: more than %d domains", duo_tokens_path(tokens),
                            DATA_MAX_DOMAINS);
        tokens->name[tokens->n_domains] = name;
        name = strchr(name, ',');
        if (name) *name++ = '\0';
    }
    return DUO_OK;
}

/* Files of other tools may not state it. */
static duo_status check_version(const duo_tokens *tokens)
{
    uint64_t version = DATA_TOKENS_VERSION;
    if (!duo_store_attribute(tokens->store, "/", "format_version")) return DUO_OK;
    const duo_status status = duo_store_get_u64(tokens->store, "/", "format_version", &version);
    if (status != DUO_OK || version == DATA_TOKENS_VERSION) return status;
    return duo_fail(DUO_EINVAL, "%s: tokens of format %" PRIu64 ", this program reads %d",
                    duo_tokens_path(tokens), version, DATA_TOKENS_VERSION);
}

static duo_status read_vocab_size(duo_tokens *tokens)
{
    uint64_t vocab_size = 0;
    const duo_status status = duo_store_get_u64(tokens->store, "/", "vocab_size", &vocab_size);
    if (status != DUO_OK) return status;
    if (vocab_size < 1 || vocab_size > DUO_VOCAB_MAX)
        return duo_fail(DUO_EDATA, "%s: vocab_size is %" PRIu64 ", outside 1..%d",
                        duo_tokens_path(tokens), vocab_size, DUO_VOCAB_MAX);
    tokens->vocab_size = (size_t)vocab_size;
    return DUO_OK;
}

/* ---------------------------------------------------------------- open */

duo_status duo_tokens_open(duo_tokens **out, const char *path)
{
    *out = NULL;
    duo_tokens *tokens = calloc(1, sizeof *tokens);
    if (!tokens) return duo_fail(DUO_ENOMEM, "%s: no memory to open it", path);
    duo_status status = duo_store_open(&tokens->store, path, DUO_KIND_TOKENS);
    if (status == DUO_OK) status = check_version(tokens);
    if (status == DUO_OK) status = read_vocab_size(tokens);
    if (status == DUO_OK) status = read_names(tokens);
    if (status == DUO_OK)
        status = duo_store_require(tokens->store, "/tokenizer", DUO_U8, (duo_shape){.rank = 1},
                                   &tokens->tokenizer);
    for (size_t s = 0; s < 2 && status == DUO_OK; s++) {
        status = open_ids(tokens, s);
        if (status == DUO_OK) status = open_documents(tokens, s);
        if (status == DUO_OK) status = open_domains(tokens, s);
    }
    if (status == DUO_OK) {
        const token_split *held = &tokens->split[DUO_HELD_OUT];
        status = data_unigram_entropy(&tokens->unigram_entropy, held->ids, held->type, held->n,
                                      tokens->vocab_size);
    }
    if (status == DUO_OK)
        *out = tokens;
    else
        duo_tokens_close(tokens);
    return status;
}

void duo_tokens_close(duo_tokens *tokens)
{
    if (!tokens) return;
    duo_store_close(tokens->store);
    free(tokens->names);
    free(tokens);
}

/* ---------------------------------------------------------------- contents */

const char *duo_tokens_path(const duo_tokens *tokens)
{
    return duo_store_path(tokens->store);
}

duo_hash duo_tokens_hash(const duo_tokens *tokens)
{
    return duo_store_hash(tokens->store);
}

size_t duo_tokens_vocab_size(const duo_tokens *tokens)
{
    return tokens->vocab_size;
}

const void *duo_tokens_tokenizer(const duo_tokens *tokens, size_t *bytes)
{
    *bytes = tokens->tokenizer->count;
    return tokens->tokenizer->data;
}

duo_status duo_tokens_open_tokenizer(const duo_tokens *tokens, duo_tokenizer **tokenizer)
{
    const duo_dataset *model = tokens->tokenizer;
    return duo_tokenizer_create_for(tokenizer, model->data, model->count, tokens->vocab_size,
                                    duo_tokens_path(tokens));
}

duo_status duo_tokens_check_tokenizer(const duo_tokens *tokens)
{
    const duo_dataset *model = tokens->tokenizer;
    return duo_tokenizer_check_for(model->data, model->count, tokens->vocab_size,
                                   duo_tokens_path(tokens));
}

double duo_tokens_unigram_entropy(const duo_tokens *tokens)
{
    return tokens->unigram_entropy;
}

size_t duo_tokens_domains(const duo_tokens *tokens)
{
    return tokens->n_domains;
}

const char *duo_tokens_domain_name(const duo_tokens *tokens, size_t domain)
{
    assert(domain < tokens->n_domains);
    return tokens->name[domain];
}

int duo_tokens_find_domain(const duo_tokens *tokens, const char *name)
{
    for (size_t i = 0; i < tokens->n_domains; i++)
        if (strcmp(tokens->name[i], name) == 0) return (int)i;
    return -1;
}

static uint64_t begin_of(const duo_tokens *tokens, duo_split split, int domain)
{
    return tokens->split[split].starts[domain < 0 ? 0 : domain];
}

static uint64_t end_of(const duo_tokens *tokens, duo_split split, int domain)
{
    assert(domain < (int)tokens->n_domains);
    return tokens->split[split].starts[domain < 0 ? (int)tokens->n_domains : domain + 1];
}

size_t duo_tokens_count(const duo_tokens *tokens, duo_split split, int domain)
{
    return (size_t)(end_of(tokens, split, domain) - begin_of(tokens, split, domain));
}

size_t duo_tokens_documents(const duo_tokens *tokens, duo_split split, int domain)
{
    const token_split *s = &tokens->split[split];
    const uint64_t begin = begin_of(tokens, split, domain), end = end_of(tokens, split, domain);
    size_t count = 0;
    for (size_t i = 0; i < s->n_documents; i++)
        count += s->documents[i] >= begin && s->documents[i] < end;
    return count;
}

uint64_t duo_tokens_bytes(const duo_tokens *tokens, duo_split split, int domain)
{
    const uint64_t *bytes = tokens->split[split].bytes;
    if (!bytes) return 0;
    if (domain >= 0) return bytes[domain];
    uint64_t sum = 0;
    for (size_t i = 0; i < tokens->n_domains; i++) sum += bytes[i];
    return sum;
}

void data_copy_tokens(const duo_tokens *tokens, duo_split split, uint64_t start, size_t n,
                      int32_t *out)
{
    const token_split *s = &tokens->split[split];
    assert(start <= s->n && n <= s->n - start);
    for (size_t i = 0; i < n; i++) out[i] = id_at(s->ids, s->type, (size_t)start + i);
}

/* ---------------------------------------------------------------- windows */

size_t duo_tokens_windows(const duo_tokens *tokens, duo_split split, int domain, size_t T)
{
    assert(T > 0);
    if (domain >= 0) {
        const size_t n = duo_tokens_count(tokens, split, domain);
        return n == 0 ? 0 : (n - 1) / T;
    }
    size_t sum = 0;
    for (size_t i = 0; i < tokens->n_domains; i++)
        sum += duo_tokens_windows(tokens, split, (int)i, T);
    return sum;
}

void duo_tokens_window(const duo_tokens *tokens, duo_split split, int domain, size_t T, size_t i,
                       int32_t *out)
{
    if (domain < 0) {
        domain = 0;
        for (size_t windows; i >= (windows = duo_tokens_windows(tokens, split, domain, T));
             domain++)
            i -= windows;
    }
    assert(i < duo_tokens_windows(tokens, split, domain, T));
    data_copy_tokens(tokens, split, begin_of(tokens, split, domain) + (uint64_t)i * T, T + 1, out);
}

void duo_tokens_spread(const duo_tokens *tokens, duo_split split, int domain, size_t T, size_t n,
                       size_t first, size_t rows, int32_t *out)
{
    const size_t there = duo_tokens_windows(tokens, split, domain, T);
    assert(first < n && n <= there);
    for (size_t r = 0; r < rows; r++) {
        const size_t i = first + r < n ? first + r : n - 1;
        duo_tokens_window(tokens, split, domain, T, i * there / n, out + r * (T + 1));
    }
}
