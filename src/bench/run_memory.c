#define _XOPEN_SOURCE 700
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "trial.h"

extern char **environ;

enum { STEPS = 3 };

/* ---------------------------------------------------------------- a run in a folder of its own */

static int remove_entry(const char *path, const struct stat *about, int kind, struct FTW *place)
{
    (void)about, (void)kind, (void)place;
    return remove(path);
}

static duo_status write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (!file) return duo_fail(DUO_EIO, "%s: cannot be written: %s", path, strerror(errno));
    const bool written = fputs(text, file) >= 0;
    if (fclose(file) == 0 && written) return DUO_OK;
    return duo_fail(DUO_EIO, "%s: cannot be written: %s", path, strerror(errno));
}

/* A recipe of a few steps of the stage, and the tokens that it names. */
static duo_status write_run(const char *folder, const char *path, const duo_bench_setting *setting,
                            const duo_stage_recipe *stage)
{
    duo_recipe recipe = {.name = "run",
                         .seed = 1,
                         .keep = 1,
                         .model = setting->model,
                         .n_stages = 1,
                         .stages = (duo_stage_recipe[]){*stage}};
    const int length = snprintf(recipe.tokens, sizeof recipe.tokens, "%s/tokens.h5", folder);
    if (length < 0 || (size_t)length >= sizeof recipe.tokens)
        return duo_fail(DUO_EINVAL, "TMPDIR: the path is too long");
    duo_status status =
        bench_tokens_write(recipe.tokens, setting->model.vocab_size, stage->seq_len);
    if (status != DUO_OK) return status;
    char *text = duo_recipe_text(&recipe);
    status = text ? write_text(path, text) : duo_fail(DUO_ENOMEM, "bench: no memory for a recipe");
    free(text);
    return status;
}

/* ---------------------------------------------------------------- its peak */

/* The system keeps the peak of a process; what it tells a parent of children that have ended
 * includes the parent's own. So the child is asked while it lives. */
static double peak_of(pid_t child)
{
    char path[64], line[128];
    double kibibytes = 0;
    snprintf(path, sizeof path, "/proc/%ld/status", (long)child);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "VmHWM: %lf", &kibibytes) == 1) break;
    fclose(file);
    return 1024 * kibibytes;
}

static duo_status watch(pid_t child, const char *errors, double *peak)
{
    const struct timespec pause = {.tv_nsec = 2000000};
    int outcome = 0;
    pid_t ended = 0;
    *peak = 0;
    while ((ended = waitpid(child, &outcome, WNOHANG)) == 0) {
        const double now = peak_of(child);
        if (now > *peak) *peak = now;
        nanosleep(&pause, NULL);
    }
    if (ended == child && WIFEXITED(outcome) && WEXITSTATUS(outcome) == 0) return DUO_OK;
    char line[256] = "";
    FILE *file = fopen(errors, "r");
    while (file && fgets(line, sizeof line, file)) {
    }
    if (file) fclose(file);
    return duo_fail(DUO_EIO, "bench: the run whose memory is measured failed: %.*s",
                    (int)strcspn(line, "\n"), line);
}

static duo_status run_and_watch(const char *program, const char *recipe, const char *folder,
                                double *peak)
{
    char errors[DUO_PATH_MAX + 16];
    snprintf(errors, sizeof errors, "%s/errors", folder);
    const char *const argv[] = {program, "train", recipe, "--checkpoints", folder, NULL};
    posix_spawn_file_actions_t files;
    pid_t child = 0;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&files, 2, errors, O_WRONLY | O_CREAT, 0600);
    const int failure = posix_spawn(&child, program, &files, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&files);
    if (failure != 0)
        return duo_fail(DUO_EIO, "%s: cannot be started: %s", program, strerror(failure));
    return watch(child, errors, peak);
}

/* ---------------------------------------------------------------- the part */

static duo_status measure(const duo_bench *bench, const duo_stage_recipe *stage, const char *folder)
{
    const duo_bench_setting *setting = &bench->setting;
    char recipe[DUO_PATH_MAX + 16];
    double peak = 0;
    duo_params params;
    snprintf(recipe, sizeof recipe, "%s/run.conf", folder);
    duo_status status = write_run(folder, recipe, setting, stage);
    if (status == DUO_OK) status = run_and_watch(setting->program, recipe, folder, &peak);
    if (status == DUO_OK) status = duo_params_create(&params, &setting->model);
    if (status != DUO_OK) return status;
    const double mebibyte = 1 << 20;
    duo_bench_row row = bench_row(DUO_BENCH_MEMORY, "peak of duo train", stage->precision);
    row.unit = "MiB";
    row.value = peak / mebibyte;
    row.limit = (double)(duo_model_bytes(&params) + duo_trainer_bytes(&params, stage)) / mebibyte;
    row.limit_name = "predicted";
    bench_emit(bench, &row);
    duo_params_free(&params);
    return DUO_OK;
}

duo_status bench_memory(duo_bench *bench)
{
    const duo_bench_setting *setting = &bench->setting;
    const int threads = setting->threads[setting->n_threads - 1];
    if (!setting->program) return DUO_OK;
    char text[16];
    snprintf(text, sizeof text, "%d", threads);
    duo_status status = duo_kernels_start(threads); /* sizes depend on them */
    for (size_t p = 0; p < setting->n_precisions && status == DUO_OK; p++) {
        char folder[DUO_PATH_MAX];
        duo_stage_recipe stage = setting->stage;
        stage.precision = setting->precisions[p];
        stage.steps = STEPS;
        stage.warmup = stage.decay_steps = stage.save_every = 0;
        if ((status = bench_folder_create(folder)) != DUO_OK) break;
        if (setenv("OMP_NUM_THREADS", text, 1) != 0)
            status = duo_fail(DUO_ENOMEM, "bench: no memory for the environment");
        if (status == DUO_OK) status = measure(bench, &stage, folder);
        nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    }
    return status;
}
