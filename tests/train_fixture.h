#ifndef DUO_TRAIN_FIXTURE_H
#define DUO_TRAIN_FIXTURE_H

#include <math.h>

#include "duo/store.h"
#include "duo/train.h"
#include "model_fixture.h"

/* ---------------------------------------------------------------- a run in memory */

enum { TWO = 1 << DUO_SMALL | 1 << DUO_BIG };
enum { T = 12, VOCAB = 29, N_TRAIN = 3000, N_HELD = 400 };

/* Mostly v -> 3 v + 1, so that there is something to learn. */
static inline void fill_tokens(uint16_t *ids, size_t n, uint32_t stream)
{
    ids[0] = 1;
    for (size_t i = 1; i < n; i++) {
        const duo_place place = {.step = i, .row = stream};
        const uint32_t r = duo_random(1, DUO_RNG_TEST, place).word[0];
        ids[i] = (uint16_t)((r % 8 == 0 ? r / 8 : 3u * ids[i - 1] + 1u) % VOCAB);
    }
}

static inline void write_tokens(const char *path, size_t n_held)
{
    static uint16_t train[N_TRAIN], held[N_HELD];
    const uint64_t start = 0;
    duo_store_writer *file = NULL;
    fill_tokens(train, N_TRAIN, 0);
    fill_tokens(held, N_HELD, 1);
    ok(duo_store_create(&file, path, DUO_KIND_TOKENS));
    ok(duo_store_write(file, "/train/tokens", DUO_U16, (duo_shape){1, {N_TRAIN}}, train));
    ok(duo_store_write(file, "/train/documents", DUO_U64, (duo_shape){1, {1}}, &start));
    ok(duo_store_write(file, "/val/tokens", DUO_U16, (duo_shape){1, {n_held}}, held));
    ok(duo_store_write(file, "/val/documents", DUO_U64, (duo_shape){1, {1}}, &start));
    ok(duo_store_write(file, "/tokenizer", DUO_U8, (duo_shape){1, {4}}, "none"));
    ok(duo_store_set_u64(file, "/", "vocab_size", VOCAB));
    ok(duo_store_commit(file));
    duo_store_writer_free(file);
}

typedef struct run {
    duo_tokens *tokens;
    duo_sampler *sampler;
    duo_model *model;
    duo_trainer *trainer;
    duo_progress progress;
    duo_step_report report;
} run;

static inline duo_stage_recipe stage_of(duo_stage_kind kind)
{
    return (duo_stage_recipe){.name = "test",
                              .kind = kind,
                              .steps = 100,
                              .batch_size = 6,
                              .micro_batch = 2,
                              .seq_len = T,
                              .lr = 0.01,
                              .min_lr = 0.1,
                              .schedule = DUO_CURVE_COSINE,
                              .beta1 = 0.9,
                              .beta2 = 0.95,
                              .eps = 1e-8,
                              .clip = 1.0,
                              .weight_decay = 0.1,
                              .p = {0.2, 0.4, 0.4},
                              .modules = ALL_MODULES,
                              .target = {-1, -1, 0.3},
                              .alpha = 2.0,
                              .tau_start = 2.0,
                              .tau_end = 0.5,
                              .tau_schedule = DUO_CURVE_LINEAR,
                              .noise = true,
                              .val_windows = 7};
}

static inline run start_with(const duo_stage_recipe *stage, int threads, size_t n_held)
{
    const char *const path = "tokens.h5";
    duo_config config = tiny_config();
    run r = {0};
    if (stage->kind == DUO_STAGE_ROUTER) config = duo_stage_config(stage, &config);
    write_tokens(path, n_held);
    ok(duo_kernels_start(threads));
    ok(duo_tokens_open(&r.tokens, path));
    ok(duo_sampler_create(&r.sampler, r.tokens, stage->seq_len, 5, NULL));
    ok(duo_model_create(&r.model, &config));
    duo_model_init(r.model, DUO_ALL_GROUPS, 2);
    ok(duo_trainer_create(&r.trainer, r.model, stage, 5, r.sampler));
    return r;
}

static inline run start(const duo_stage_recipe *stage, int threads)
{
    return start_with(stage, threads, N_HELD);
}

static inline void stop(run *r)
{
    duo_trainer_free(r->trainer);
    duo_model_free(r->model);
    duo_sampler_free(r->sampler);
    duo_tokens_close(r->tokens);
    duo_kernels_stop();
}

static inline void step(run *r, size_t n)
{
    for (size_t i = 0; i < n; i++) ok(duo_trainer_step(r->trainer, &r->progress, &r->report));
}

static inline float *copy_of(const duo_tree *tree)
{
    float *copy = malloc(tree->count * sizeof *copy);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, tree->block, tree->count * sizeof *copy);
    return copy;
}

static inline bool same_bits(const duo_tree *a, const duo_tree *b)
{
    return a->count == b->count && memcmp(a->block, b->block, a->count * sizeof *a->block) == 0;
}

/* ||a - b|| / ||b|| */
static inline double distance(const duo_tree *a, const duo_tree *b)
{
    double off = 0, all = 0;
    for (size_t i = 0; i < a->count; i++) {
        off += pow((double)a->block[i] - (double)b->block[i], 2);
        all += pow((double)b->block[i], 2);
    }
    return sqrt(off / all);
}

/* Mean loss of windows spread over the held-out split, one by one. */
static inline double loss_by_hand(run *r, size_t windows, duo_routing_kind kind, uint64_t *usage)
{
    const size_t held = duo_tokens_windows(r->tokens, DUO_HELD_OUT, -1, T);
    fixture f = {.model = r->model, .B = 1, .T = T, .forward_only = true};
    setup_fixture(&f, 0);
    duo_routes_fill(f.routes, T, f.L, DUO_BIG);
    f.routing.kind = kind;
    double sum = 0;
    memset(usage, 0, f.L * DUO_MODULES * sizeof *usage);
    for (size_t i = 0; i < windows; i++) {
        duo_tokens_window(r->tokens, DUO_HELD_OUT, -1, T, i * held / windows, f.tokens);
        sum += forward(&f);
        duo_routes_count(usage, f.routes, T, f.L);
    }
    duo_arena_free(&f.arena);
    return sum / (double)(windows * T);
}

#endif
