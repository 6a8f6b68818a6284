#include "sequences.h"

#include <stdlib.h>
#include <string.h>

void duo_sequences_count_bytes(duo_sequences *sequences, const duo_tokenizer *tokenizer)
{
    const size_t T = sequences->T;
    sequences->bytes = 0;
    for (size_t r = 0; r < sequences->R; r++)
        for (size_t t = 1; t <= T; t++)
            sequences->bytes +=
                duo_tokenizer_piece_bytes(tokenizer, sequences->tokens[r * (T + 1) + t]);
}

static duo_status count_bytes(duo_sequences *sequences, const duo_tokens *tokens)
{
    duo_tokenizer *tokenizer = NULL;
    const duo_status status = duo_tokens_open_tokenizer(tokens, &tokenizer);
    if (status == DUO_OK) duo_sequences_count_bytes(sequences, tokenizer);
    duo_tokenizer_free(tokenizer);
    return status;
}

duo_status duo_sequences_spread(duo_sequences *sequences, const duo_tokens *tokens, duo_split split,
                                int domain, size_t R, size_t T)
{
    const size_t there = duo_tokens_windows(tokens, split, domain, T);
    *sequences = (duo_sequences){.R = R < there ? R : there,
                                 .T = T,
                                 .split = split == DUO_HELD_OUT ? "held-out" : "training"};
    if (there == 0)
        return duo_fail(DUO_EINVAL, "%s: %s%s holds no %s window of %zu tokens",
                        duo_tokens_path(tokens), domain < 0 ? "it" : "domain ",
                        domain < 0 ? "" : duo_tokens_domain_name(tokens, (size_t)domain),
                        sequences->split, T + 1);
    if (sequences->R == 0)
        return duo_fail(DUO_EINVAL, "%s: no window was asked for", duo_tokens_path(tokens));
    sequences->tokens = malloc(sequences->R * (T + 1) * sizeof *sequences->tokens);
    if (!sequences->tokens)
        return duo_fail(DUO_ENOMEM, "no memory for %zu sequences of %zu tokens", R, T + 1);
    duo_tokens_spread(tokens, split, domain, T, sequences->R, 0, sequences->R, sequences->tokens);
    const duo_status status = count_bytes(sequences, tokens);
    if (status != DUO_OK) duo_sequences_free(sequences);
    return status;
}

void duo_sequences_free(duo_sequences *sequences)
{
    free(sequences->tokens);
    *sequences = (duo_sequences){0};
}

duo_status study_sequences_check(const duo_sequences *sequences, const duo_config *config,
                                 duo_status code, const char *where)
{
    const size_t R = sequences->R, T = sequences->T;
    if (R == 0 || T == 0) return duo_fail(code, "%s: there are no tokens", where);
    if (T > config->max_seq)
        return duo_fail(code, "%s: sequences of %zu tokens, the model sees %zu", where, T,
                        config->max_seq);
    for (size_t i = 0; i < R * (T + 1); i++) {
        const int32_t id = sequences->tokens[i];
        if (id < 0 || (size_t)id >= config->vocab_size)
            return duo_fail(code,
                            "%s: token %zu of sequence %zu is %d, outside the vocabulary of %zu",
                            where, i % (T + 1), i / (T + 1), (int)id, config->vocab_size);
    }
    return DUO_OK;
}
