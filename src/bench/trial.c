#include "trial.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "duo/rng.h"
#include "duo/store.h"

/* ---------------------------------------------------------------- tokens */

enum { SEQUENCES = 64, HELD_OUT = 4 }; /* in a token file */

/* uint32_t ids, or uint16_t where they are enough. */
static void *random_ids(size_t n, size_t vocab_size, duo_type type)
{
    void *ids = malloc(n * duo_type_size(type));
    for (size_t i = 0; ids && i < n; i++) {
        const uint32_t id =
            (uint32_t)(duo_random(1, DUO_RNG_TEST, (duo_place){.step = i}).word[0] % vocab_size);
        if (type == DUO_U16)
            ((uint16_t *)ids)[i] = (uint16_t)id;
        else
            ((uint32_t *)ids)[i] = id;
    }
    return ids;
}

duo_status bench_tokens_write(const char *path, size_t vocab_size, size_t T)
{
    const duo_type type = vocab_size <= 65536 ? DUO_U16 : DUO_U32;
    const size_t n[2] = {SEQUENCES * (T + 1), HELD_OUT * (T + 1)};
    const uint64_t start = 0;
    const duo_shape one = {1, {1}};
    duo_store_writer *file = NULL;
    void *ids = random_ids(n[0], vocab_size, type);
    duo_status status = ids ? duo_store_create(&file, path, DUO_KIND_TOKENS)
                            : duo_fail(DUO_ENOMEM, "bench: no memory for tokens");
    for (int split = 0; split < 2 && status == DUO_OK; split++) {
        const char *tokens[] = {"/train/tokens", "/val/tokens"};
        const char *documents[] = {"/train/documents", "/val/documents"};
        status = duo_store_write(file, tokens[split], type, (duo_shape){1, {n[split]}}, ids);
        if (status == DUO_OK)
            status = duo_store_write(file, documents[split], DUO_U64, one, &start);
    }
    if (status == DUO_OK) status = duo_store_write(file, "/tokenizer", DUO_U8, one, "");
    if (status == DUO_OK) status = duo_store_set_u64(file, "/", "vocab_size", vocab_size);
    if (status == DUO_OK) status = duo_store_commit(file);
    duo_store_writer_free(file);
    free(ids);
    return status;
}

duo_status bench_folder_create(char path[DUO_PATH_MAX])
{
    const char *parent = getenv("TMPDIR");
    const int length =
        snprintf(path, DUO_PATH_MAX, "%s/duo-bench-XXXXXX", parent && *parent ? parent : "/tmp");
    if (length < 0 || length >= DUO_PATH_MAX)
        return duo_fail(DUO_EINVAL, "TMPDIR: the path is too long");
    if (mkdtemp(path)) return DUO_OK;
    return duo_fail(DUO_EIO, "%s: cannot create the folder: %s", path, strerror(errno));
}

/* The file is mapped: its name is not needed any more. */
static duo_status open_tokens(bench_trial *trial, size_t vocab_size, size_t T)
{
    char folder[DUO_PATH_MAX], path[DUO_PATH_MAX + 16];
    duo_status status = bench_folder_create(folder);
    if (status != DUO_OK) return status;
    snprintf(path, sizeof path, "%s/tokens.h5", folder);
    status = bench_tokens_write(path, vocab_size, T);
    if (status == DUO_OK) status = duo_tokens_open(&trial->tokens, path);
    unlink(path);
    rmdir(folder);
    return status;
}

/* ---------------------------------------------------------------- training */

duo_status bench_trial_open(bench_trial *trial, const duo_config *config,
                            const duo_stage_recipe *stage)
{
    *trial = (bench_trial){0};
    duo_status status = open_tokens(trial, config->vocab_size, stage->seq_len);
    if (status == DUO_OK) status = duo_model_create(&trial->model, config);
    if (status != DUO_OK) return status;
    duo_model_init(trial->model, DUO_ALL_GROUPS, 1);
    status = duo_sampler_create(&trial->sampler, trial->tokens, stage->seq_len, 1, NULL);
    if (status != DUO_OK) return status;
    return duo_trainer_create(&trial->trainer, trial->model, stage, 1, trial->sampler);
}

void bench_trial_close(bench_trial *trial)
{
    duo_trainer_free(trial->trainer);
    duo_sampler_free(trial->sampler);
    duo_model_free(trial->model);
    duo_tokens_close(trial->tokens);
    *trial = (bench_trial){0};
}

void bench_trial_step(void *context)
{
    bench_trial *trial = context;
    if (trial->status == DUO_OK)
        trial->status = duo_trainer_step(trial->trainer, &trial->progress, &trial->report);
}
