#include "training.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "duo/kernels.h"

/* ---------------------------------------------------------------- opening */

duo_status duo_training_open_tokens(duo_tokens **tokens, const duo_recipe *recipe)
{
    *tokens = NULL;
    if (recipe->tokens[0] == '\0')
        return duo_fail(DUO_EINVAL, "recipe %s: data.tokens names no token file", recipe->name);
    duo_status status = duo_tokens_open(tokens, recipe->tokens);
    if (status == DUO_OK) status = duo_tokens_check_tokenizer(*tokens);
    if (status != DUO_OK) return status;
    const size_t vocab = duo_tokens_vocab_size(*tokens);
    if (vocab != recipe->model.vocab_size)
        return duo_fail(DUO_EINVAL, "%s: has a vocabulary of %zu, the recipe's model of %zu",
                        recipe->tokens, vocab, recipe->model.vocab_size);
    for (size_t i = 0; i < recipe->n_domains; i++)
        if (duo_tokens_find_domain(*tokens, recipe->domains[i].name) < 0)
            return duo_fail(DUO_EINVAL, "%s: has no domain %s", recipe->tokens,
                            recipe->domains[i].name);
    return DUO_OK;
}

/* What has changed, for people to read, and whether the run may go on with it. */
typedef struct recipe_changes {
    size_t stages_over; /* the first ones of the recipe */
    size_t n, used;
    char text[1024];
    char over[256]; /* a key of a stage that is over, and its values */
} recipe_changes;

/* What says how a stage was watched, saved and fitted into memory, not what came of it. */
static bool is_harmless(const char *key)
{
    static const char *const keys[] = {"log_every",   "val_every",   "save_every",
                                       "val_windows", "micro_batch", "teacher"};
    const char *dot = strrchr(key, '.');
    for (size_t i = 0; dot && i < sizeof keys / sizeof *keys; i++)
        if (strcmp(dot + 1, keys[i]) == 0) return true;
    return false;
}

static void add_change(void *context, size_t stage, const char *key, const char *before,
                       const char *now)
{
    recipe_changes *c = context;
    char text[sizeof c->over];
    const bool both = before && now;
    const int length =
        both ? snprintf(text, sizeof text, "%s was %s and is %s", key, before, now)
             : snprintf(text, sizeof text, "%s is %s", key, before ? "not there any more" : "new");
    if (length >= (int)sizeof text) snprintf(text, sizeof text, "%s is another", key);
    if (stage < c->stages_over && !c->over[0] && !is_harmless(key))
        memcpy(c->over, text, sizeof text);
    const size_t room = sizeof c->text - c->used;
    const int n = snprintf(c->text + c->used, room, "%s%s", c->n > 0 ? "; " : "", text);
    c->used = n > 0 && (size_t)n < room ? c->used + (size_t)n : sizeof c->text - 1;
    c->n++;
}

/* A stage that has begun has moments of what it trains. */
static bool trains_the_same(const duo_stage_recipe *a, const duo_stage_recipe *b,
                            const duo_config *model)
{
    const duo_config routers = duo_stage_config(a, model), others = duo_stage_config(b, model);
    return duo_stage_trains(a) == duo_stage_trains(b) && duo_config_same_routers(&routers, &others);
}

/* What is over stays as it was; the rest may change. */
static duo_status check_changes(const duo_training *s, const duo_checkpoint *from)
{
    const char *path = duo_checkpoint_path(from);
    const duo_progress *progress = duo_checkpoint_progress(from);
    const duo_stage_recipe *stage = &s->recipe->stages[progress->stage];
    recipe_changes changes = {.stages_over = progress->stage};
    duo_recipe *before = NULL;
    const duo_status status = duo_recipe_parse(&before, duo_checkpoint_recipe(from), path, NULL, 0);
    if (status == DUO_ENOMEM) return status;
    /* The last stage may be made longer when it is at its end. */
    if (status == DUO_OK && progress->stage + 1 < s->recipe->n_stages &&
        progress->stage < before->n_stages &&
        progress->stage_step >= before->stages[progress->stage].steps)
        changes.stages_over++;
    bool same_weights = true;
    if (status == DUO_OK) {
        duo_recipe_changes(before, s->recipe, add_change, &changes);
        if (progress->stage < before->n_stages && progress->stage_step > 0)
            same_weights =
                trains_the_same(&before->stages[progress->stage], stage, &s->recipe->model);
    } else {
        duo_warn("%s", duo_message());
    }
    duo_recipe_free(before);
    if (changes.over[0])
        return duo_fail(DUO_EINVAL, "%s: %s, but that stage is over; resume with the run's recipe",
                        path, changes.over);
    if (!same_weights)
        return duo_fail(
            DUO_EINVAL,
            "%s: stage %s has begun, and would train other weights now: %s; resume with "
            "the run's recipe",
            path, stage->name, changes.text);
    if (progress->stage_step > stage->steps)
        return duo_fail(DUO_EINVAL,
                        "%s: stands at step %" PRIu64 " of stage %s, which has %" PRIu64
                        " in the recipe; resume with the run's recipe",
                        path, progress->stage_step, stage->name, stage->steps);
    if (changes.n > 0) duo_warn("the recipe has changed since %s: %s", path, changes.text);
    return DUO_OK;
}

static duo_status check_tokenizer(const duo_tokens *tokens, const duo_checkpoint *from)
{
    size_t bytes = 0, own_bytes = 0;
    const void *tokenizer = duo_checkpoint_tokenizer(from, &bytes);
    const void *own = duo_tokens_tokenizer(tokens, &own_bytes);
    if (bytes == own_bytes && memcmp(tokenizer, own, bytes) == 0) return DUO_OK;
    return duo_fail(DUO_EINVAL, "%s: was trained with another tokenizer than that of %s",
                    duo_checkpoint_path(from), duo_tokens_path(tokens));
}

/* A changed recipe may go on as long as it means the same model at the same stage. */
static duo_status check_resumable(const duo_training *s)
{
    const duo_checkpoint *from = s->resumed;
    const char *path = duo_checkpoint_path(from);
    const duo_progress *progress = duo_checkpoint_progress(from);
    const char *key = duo_config_difference(duo_checkpoint_config(from), &s->recipe->model);
    if (key)
        return duo_fail(DUO_EINVAL,
                        "%s: model.%s differs from the recipe's; resume with the recipe of the run",
                        path, key);
    if (progress->stage >= s->recipe->n_stages ||
        strcmp(s->recipe->stages[progress->stage].name, duo_checkpoint_stage(from)) != 0)
        return duo_fail(
            DUO_EINVAL,
            "%s: was saved in stage %s, number %zu, which the recipe does not have there", path,
            duo_checkpoint_stage(from), progress->stage + 1);
    duo_status status = check_tokenizer(s->tokens, from);
    if (status == DUO_OK) status = check_changes(s, from);
    if (status != DUO_OK) return status;
    const char *isa = duo_isa_name(duo_kernels_isa());
    if (strcmp(isa, duo_checkpoint_isa(from)) != 0)
        duo_warn("%s: was trained with %s kernels, this process uses %s: results may differ in the "
                 "last bits",
                 path, duo_checkpoint_isa(from), isa);
    return DUO_OK;
}

static duo_status restore(duo_training *s)
{
    duo_status status = duo_run_newest(s->run, &s->resumed);
    if (status == DUO_OK) status = check_resumable(s);
    if (status == DUO_OK) status = duo_checkpoint_model(s->resumed, &s->model);
    if (status != DUO_OK) return status;
    s->progress = *duo_checkpoint_progress(s->resumed);
    s->loss = duo_checkpoint_loss(s->resumed);
    s->saved = true;
    fprintf(stderr, "resuming from %s: stage %s, step %" PRIu64 "\n",
            duo_checkpoint_path(s->resumed), duo_checkpoint_stage(s->resumed), s->progress.step);
    return duo_run_rewind_log(s->run, s->progress.step);
}

duo_status duo_training_open_init(duo_checkpoint **from, const duo_recipe *recipe,
                                  const duo_tokens *tokens)
{
    duo_status status = duo_cli_open_checkpoint(recipe->init, from);
    if (status != DUO_OK) return status;
    const char *key = duo_config_difference(duo_checkpoint_config(*from), &recipe->model);
    if (key)
        return duo_fail(DUO_EINVAL, "%s: model.%s differs from the recipe's",
                        duo_checkpoint_path(*from), key);
    return tokens ? check_tokenizer(tokens, *from) : DUO_OK;
}

/* Weights of another run, routers included; its progress and moments stay behind. */
static duo_status begin_from_init(duo_training *s)
{
    duo_checkpoint *from = NULL;
    duo_status status = duo_training_open_init(&from, s->recipe, s->tokens);
    if (status == DUO_OK) status = duo_checkpoint_model(from, &s->model);
    if (status == DUO_OK)
        fprintf(stderr, "starting from the weights of %s\n", duo_checkpoint_path(from));
    duo_checkpoint_close(from);
    return status;
}

static duo_status begin(duo_training *s)
{
    if (s->recipe->init[0] != '\0') return begin_from_init(s);
    const duo_status status = duo_model_create(&s->model, &s->recipe->model);
    if (status == DUO_OK) duo_model_init(s->model, DUO_ALL_GROUPS, s->recipe->seed);
    return status;
}

duo_status duo_training_open(duo_training *s, duo_recipe *recipe, const char *folder,
                             duo_run_start start)
{
    s->recipe = recipe;
    s->started = duo_cli_seconds();
    if (recipe->n_stages == 0)
        return duo_fail(DUO_EINVAL, "recipe %s: has no stage to run", recipe->name);
    s->recipe_text = duo_recipe_text(recipe);
    if (!s->recipe_text) return duo_fail(DUO_ENOMEM, "no memory for the recipe's text");
    duo_status status = duo_training_open_tokens(&s->tokens, recipe);
    if (status == DUO_OK) status = duo_run_open(&s->run, folder, recipe->keep, start);
    if (status == DUO_OK) status = duo_run_resumes(s->run) ? restore(s) : begin(s);
    /* For people: each checkpoint holds its own. */
    if (status == DUO_OK) status = duo_run_write(s->run, "recipe.conf", s->recipe_text);
    if (status == DUO_OK) s->peak = duo_kernels_peak(DUO_FP32);
    return status;
}

void duo_training_next_stage(duo_training *s)
{
    duo_progress *progress = &s->progress;
    progress->stage++;
    progress->stage_step = 0;
    progress->best_loss = 0;
    progress->bad = progress->rollbacks = 0;
    memset(progress->multiplier, 0, sizeof progress->multiplier);
}

duo_status duo_training_roll_back(duo_training *s)
{
    const size_t stage = s->progress.stage;
    const uint64_t rollbacks = s->progress.rollbacks + 1;
    duo_model_free(s->model);
    s->model = NULL;
    s->progress = (duo_progress){0};
    duo_status status = s->saved ? restore(s) : begin(s);
    if (status == DUO_OK && !s->saved) status = duo_run_rewind_log(s->run, 0);
    if (status != DUO_OK) return status;
    if (s->progress.stage < stage &&
        s->progress.stage_step >= s->recipe->stages[s->progress.stage].steps)
        duo_training_next_stage(s);
    if (s->progress.stage == stage) s->progress.rollbacks = rollbacks;
    return DUO_OK;
}

void duo_training_close(duo_training *s)
{
    duo_trainer_free(s->trainer);
    duo_cli_teacher_close(&s->teacher);
    duo_sampler_free(s->sampler);
    duo_model_free(s->model);
    duo_checkpoint_close(s->resumed);
    duo_tokens_close(s->tokens);
    duo_run_close(s->run);
    duo_recipe_free(s->recipe);
    free(s->recipe_text);
    *s = (duo_training){0};
}
