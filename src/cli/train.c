#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "dry_run.h"
#include "duo/kernels.h"
#include "options.h"
#include "training.h"

/* A recipe may leave the vocabulary to the token file. */
static duo_status resolve_vocabulary(duo_recipe *recipe, const char *path)
{
    if (recipe->model.vocab_size > 0) return DUO_OK;
    if (recipe->tokens[0] == '\0')
        return duo_fail(DUO_EINVAL, "%s: give data.tokens or model.vocab_size", path);
    duo_tokens *tokens = NULL;
    const duo_status status = duo_tokens_open(&tokens, recipe->tokens);
    if (status == DUO_OK) recipe->model.vocab_size = duo_tokens_vocab_size(tokens);
    duo_tokens_close(tokens);
    return status;
}

/* Where a run is, and how it goes on. */
typedef struct run_place {
    char folder[2 * DUO_PATH_MAX], recipe[2 * DUO_PATH_MAX];
    duo_run_start start;
} run_place;

/* RECIPE may be the folder of a run, which then goes on with its own. */
static duo_status find_run(run_place *place, const char *path)
{
    const bool folder = duo_cli_is_folder(path);
    if (folder && place->start == DUO_RUN_BEGIN)
        return duo_fail(DUO_EINVAL, "%s: is a folder; --resume goes on with the run in it", path);
    const char *file = folder ? "/recipe.conf" : "";
    const int n = snprintf(place->recipe, sizeof place->recipe, "%s%s", path, file);
    if (folder) snprintf(place->folder, sizeof place->folder, "%s", path);
    return n > 0 && (size_t)n < sizeof place->recipe
               ? DUO_OK
               : duo_fail(DUO_EINVAL, "%s: the path is too long", path);
}

static duo_status train(duo_recipe *recipe, const char *folder, duo_run_start start,
                        bool detect_anomaly)
{
    duo_training training = {.detect_anomaly = detect_anomaly};
    bool interrupted = false;
    duo_status status = duo_training_open(&training, recipe, folder, start);
    if (status == DUO_OK && !duo_run_resumes(training.run)) status = duo_cli_foresee(recipe);
    if (status == DUO_OK) status = duo_training_run(&training, &interrupted);
    if (status == DUO_OK && interrupted && training.progress.step == 0)
        fputs("stopped before the first step: there is nothing to save\n", stderr);
    else if (status == DUO_OK && interrupted && training.progress.bad > 0)
        fprintf(stderr, "stopped after step %llu, in a row of bad ones, which is not saved; %s\n",
                (unsigned long long)training.progress.step,
                training.saved ? "--resume goes on from before it"
                               : "there is nothing to resume from");
    else if (status == DUO_OK && interrupted)
        fprintf(stderr, "stopped after step %llu, saved; the same command with --resume goes on\n",
                (unsigned long long)training.progress.step);
    else if (status == DUO_OK) {
        char hash[33];
        printf("%s: all stages done after %llu steps, model hash %s\n", folder,
               (unsigned long long)training.progress.step,
               duo_hash_text(hash, duo_model_hash(training.model)));
    }
    duo_training_close(&training);
    return status;
}

duo_status duo_cli_train(int argc, char **argv)
{
    const char *path = NULL, *checkpoints = NULL;
    duo_list overrides = {0};
    bool resume = false, either = false, detect_anomaly = false, dry_run = false, keys = false;
    bool help = false;
    run_place place = {.start = DUO_RUN_BEGIN};
    const duo_option options[] = {
        {"--set", "KEY=VALUE",
         "override a key of the recipe, as in stage.router.budget=4; repeatable",
         DUO_OPTION_REPEATED, &overrides, 0, 0},
        {"--resume", NULL, "continue from the newest checkpoint that verifies", DUO_OPTION_FLAG,
         &resume, 0, 0},
        {"--auto-resume", NULL, "so where there is a checkpoint, else begin: for scripts",
         DUO_OPTION_FLAG, &either, 0, 0},
        {"--detect-anomaly", NULL,
         "look at every kernel's output, and name the first that is not finite", DUO_OPTION_FLAG,
         &detect_anomaly, 0, 0},
        {"--dry-run", NULL, "print the resolved recipe, parameters, memory, FLOPs, and stop",
         DUO_OPTION_FLAG, &dry_run, 0, 0},
        {"--checkpoints", "DIR", "where run folders are made (default checkpoints)",
         DUO_OPTION_TEXT, &checkpoints, 0, 0},
        {"--keys", NULL, "print every key of a recipe with default and meaning, and stop",
         DUO_OPTION_FLAG, &keys, 0, 0},
    };
    const duo_positional positionals[] = {
        {"RECIPE", "the experiment, a .conf file; to resume, also a run's folder", &path, NULL,
         true},
    };
    const duo_option_pair excludes[] = {
        {"--resume", "--auto-resume"},
    };
    const duo_command command = {
        .name = "train",
        .description =
            "Run the stages of a recipe in order. The run folder checkpoints/NAME gets the\n"
            "checkpoints, the resolved recipe and metrics.jsonl. SIGINT and SIGTERM finish\n"
            "the step and save. OMP_NUM_THREADS sets the threads; results do not depend on it.",
        .example = "duo train recipes/quickstart.conf --set stage.duo.steps=500",
        .positionals = positionals,
        .n_positionals = sizeof positionals / sizeof *positionals,
        .options = options,
        .n_options = sizeof options / sizeof *options,
        .excludes = excludes,
        .n_excludes = sizeof excludes / sizeof *excludes,
    };
    duo_recipe *recipe = NULL;
    duo_status status = duo_options_parse(&command, argc, argv, &help);
    if (status != DUO_OK || help) goto done;
    if (keys) {
        duo_recipe_print_keys();
        goto done;
    }
    if (!path) {
        status = duo_fail(DUO_EUSAGE, "RECIPE is missing; see duo train --help");
        goto done;
    }
    if (checkpoints && duo_cli_is_folder(path)) {
        status = duo_fail(DUO_EUSAGE, "--checkpoints: %s is the run's folder already", path);
        goto done;
    }
    place.start = either ? DUO_RUN_EITHER : resume ? DUO_RUN_RESUME : DUO_RUN_BEGIN;
    if ((status = find_run(&place, path)) != DUO_OK) goto done;
    path = place.recipe;
    if ((status = duo_recipe_load(&recipe, path, overrides.text, overrides.n)) != DUO_OK) goto done;
    if ((status = resolve_vocabulary(recipe, path)) != DUO_OK) goto done;
    if ((status = duo_config_check(&recipe->model, path)) != DUO_OK) goto done;
    if ((status = duo_kernels_start(0)) != DUO_OK) goto done;
    if (dry_run) {
        status = duo_cli_dry_run(recipe);
        goto done;
    }
    if (!place.folder[0]) {
        const size_t room = sizeof place.folder;
        const int n = snprintf(place.folder, room, "%s/%s",
                               checkpoints ? checkpoints : "checkpoints", recipe->name);
        if (n < 0 || (size_t)n >= room) {
            status = duo_fail(DUO_EINVAL, "--checkpoints: a path of %zu bytes is too long",
                              strlen(checkpoints ? checkpoints : ""));
            goto done;
        }
    }
    status = train(recipe, place.folder, place.start, detect_anomaly);
    recipe = NULL; /* owned by the training */

done:
    duo_recipe_free(recipe);
    duo_kernels_stop();
    duo_options_free(&command);
    return status;
}
