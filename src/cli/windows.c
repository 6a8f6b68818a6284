#include "windows.h"

#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "document.h"
#include "duo/file.h"

duo_status duo_cli_find_domain(int *domain, const duo_tokens *tokens, const char *name)
{
    *domain = -1;
    if (!name) return DUO_OK;
    *domain = duo_tokens_find_domain(tokens, name);
    if (*domain >= 0) return DUO_OK;
    char names[256] = "";
    for (size_t i = 0, used = 0; i < duo_tokens_domains(tokens) && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "",
                                 duo_tokens_domain_name(tokens, i));
    return duo_fail(DUO_EINVAL, "%s: has no domain %s, only %s", duo_tokens_path(tokens), name,
                    names);
}

/* ---------------------------------------------------------------- windows of a token file */

static duo_status cut_tokens(duo_sequences *sequences, duo_hash *file,
                             const duo_cli_windows *windows, duo_split split,
                             const duo_checkpoint *checkpoint)
{
    duo_tokens *tokens = NULL;
    int domain = -1;
    duo_status status = duo_cli_open_tokens(windows->tokens, checkpoint, &tokens);
    if (status == DUO_OK) status = duo_cli_find_domain(&domain, tokens, windows->domain);
    if (status == DUO_OK)
        status = duo_sequences_spread(sequences, tokens, split, domain, windows->n, windows->T);
    if (status == DUO_OK)
        printf("%zu x %zu %s tokens of %s%s%s\n", sequences->R, sequences->T, sequences->split,
               duo_tokens_path(tokens), windows->domain ? ", domain " : "",
               windows->domain ? windows->domain : "");
    if (status == DUO_OK && file) *file = duo_tokens_hash(tokens);
    duo_tokens_close(tokens);
    return status;
}

/* ---------------------------------------------------------------- windows of a text */

/* BOS, the tokens of the text, EOS: as training saw a document. */
static duo_status encode_file(const duo_tokenizer *tokenizer, const char *path, int32_t **ids,
                              size_t *n)
{
    char *text = NULL;
    size_t bytes = 0;
    duo_status status = duo_file_read(&text, &bytes, path, SIZE_MAX);
    if (status != DUO_OK) return status;
    if (bytes == 0)
        status = duo_fail(DUO_EINVAL, "%s: is empty", path);
    else if ((status = duo_document_encode(tokenizer, text, bytes, ids, n)) != DUO_OK)
        duo_fail(status, "%s: %s", path, duo_message());
    free(text);
    const int32_t eos = duo_tokenizer_eos(tokenizer);
    if (status != DUO_OK || eos < 0) return status;
    int32_t *longer = realloc(*ids, (*n + 1) * sizeof **ids);
    if (!longer) return duo_fail(DUO_ENOMEM, "no memory for the tokens of %s", path);
    *ids = longer;
    (*ids)[(*n)++] = eos;
    return DUO_OK;
}

static duo_status spread_over(duo_sequences *sequences, const duo_cli_windows *windows, bool free_T,
                              const int32_t *ids, size_t n)
{
    const size_t targets = n - 1;
    size_t T = windows->T;
    if (targets == 0)
        return duo_fail(DUO_EINVAL, "%s: is a single token, with none to predict", windows->text);
    if (free_T) T = targets / ((targets + T - 1) / T);
    if (targets < T)
        return duo_fail(DUO_EINVAL, "%s: its %zu tokens are less than --seq-len %zu", windows->text,
                        targets, T);
    const size_t held = targets / T, R = windows->n < held ? windows->n : held;
    *sequences = (duo_sequences){.R = R, .T = T, .split = "text"};
    sequences->tokens = malloc(R * (T + 1) * sizeof *sequences->tokens);
    if (!sequences->tokens)
        return duo_fail(DUO_ENOMEM, "no memory for %zu sequences of %zu tokens", R, T + 1);
    for (size_t r = 0; r < R; r++)
        memcpy(sequences->tokens + r * (T + 1), ids + r * held / R * T,
               (T + 1) * sizeof *sequences->tokens);
    printf("%zu x %zu of the %zu tokens of %s\n", R, T, targets, windows->text);
    return DUO_OK;
}

static duo_status cut_text(duo_sequences *sequences, const duo_cli_windows *windows, bool free_T,
                           const duo_checkpoint *checkpoint)
{
    duo_tokenizer *tokenizer = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    duo_status status = duo_checkpoint_open_tokenizer(checkpoint, &tokenizer);
    if (status == DUO_OK) status = encode_file(tokenizer, windows->text, &ids, &n);
    if (status == DUO_OK) status = spread_over(sequences, windows, free_T, ids, n);
    if (status == DUO_OK) duo_sequences_count_bytes(sequences, tokenizer);
    free(ids);
    duo_tokenizer_free(tokenizer);
    return status;
}

/* ---------------------------------------------------------------- either */

duo_status duo_cli_cut_windows(duo_sequences *sequences, duo_hash *file,
                               const duo_cli_windows *windows, duo_split split,
                               const duo_checkpoint *checkpoint)
{
    const size_t most = duo_checkpoint_config(checkpoint)->max_seq;
    const bool free_T = windows->T == 0;
    duo_cli_windows cut = *windows;
    if (free_T) cut.T = most;
    if (cut.T > most)
        return duo_fail(DUO_EINVAL, "--seq-len %zu: %s sees %zu positions", cut.T,
                        duo_checkpoint_path(checkpoint), most);
    if (cut.max_tokens > 0 && cut.n > cut.max_tokens / cut.T) cut.n = cut.max_tokens / cut.T;
    if (cut.n == 0) cut.n = 1;
    if (!cut.text) return cut_tokens(sequences, file, &cut, split, checkpoint);
    if (file) *file = (duo_hash){0};
    return cut_text(sequences, &cut, free_T, checkpoint);
}
