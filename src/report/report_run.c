#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "duo/file.h"
#include "duo/json.h"
#include "duo/train.h"
#include "report_internal.h"

enum { PATH_BYTES = 2 * DUO_PATH_MAX, LEAST_LINES = 100 };

static const char *in_folder(char path[PATH_BYTES], const report_run *run, const char *name)
{
    snprintf(path, PATH_BYTES, "%s/%s", run->folder, name);
    return path;
}

/* ---------------------------------------------------------------- opening */

/* *text is NULL when there is no such file or it cannot be read. */
static duo_status read_text(char **text, const char *path)
{
    const duo_status status = duo_file_read(text, NULL, path, SIZE_MAX);
    return status == DUO_ENOMEM ? status : DUO_OK;
}

/* On the page; but when memory is short there is none. */
static duo_status note_problem(report_run *run, duo_status status)
{
    if (status != DUO_OK && !run->problem[0])
        snprintf(run->problem, sizeof run->problem, "%s", duo_message());
    return status == DUO_ENOMEM ? status : DUO_OK;
}

static duo_status open_checkpoint(report_run *run)
{
    char path[PATH_BYTES];
    if (access(in_folder(path, run, "latest"), F_OK) != 0) return DUO_OK;
    duo_status status = duo_checkpoint_open(&run->checkpoint, path);
    if (status == DUO_OK) status = duo_checkpoint_open_tokenizer(run->checkpoint, &run->tokenizer);
    return note_problem(run, status);
}

static duo_status open_recipe(report_run *run)
{
    char path[PATH_BYTES];
    const duo_status status = read_text(&run->recipe_text, in_folder(path, run, "recipe.conf"));
    if (status != DUO_OK) return status;
    if (!run->recipe_text && run->checkpoint) {
        run->recipe_text = strdup(duo_checkpoint_recipe(run->checkpoint));
        if (!run->recipe_text) return duo_fail(DUO_ENOMEM, "no memory for a recipe");
    }
    if (!run->recipe_text) return DUO_OK;
    return note_problem(run, duo_recipe_parse(&run->recipe, run->recipe_text, path, NULL, 0));
}

duo_status report_run_open(report_run *run, const char *folder)
{
    char path[PATH_BYTES];
    *run = (report_run){.folder = folder};
    if (strlen(folder) >= DUO_PATH_MAX)
        return duo_fail(DUO_EINVAL, "%.60s...: too long a path", folder);
    duo_status status = open_checkpoint(run);
    if (status == DUO_OK) status = open_recipe(run);
    if (status != DUO_OK || run->recipe_text || run->checkpoint || run->problem[0]) return status;
    if (access(in_folder(path, run, "metrics.jsonl"), F_OK) == 0) return DUO_OK;
    if (access(folder, F_OK) != 0) return duo_fail(DUO_EIO, "%s: %s", folder, strerror(errno));
    return duo_fail(DUO_EINVAL, "%s: no run folder: neither metrics nor recipe nor checkpoint",
                    folder);
}

void report_run_free(report_run *run)
{
    duo_recipe_free(run->recipe);
    free(run->recipe_text);
    duo_tokenizer_free(run->tokenizer);
    duo_checkpoint_close(run->checkpoint);
    *run = (report_run){0};
}

/* ---------------------------------------------------------------- metrics */

static bool holds_held_out(const char *line)
{
    return strstr(line, "\"val_loss\"") != NULL;
}

/* Every so-manieth line of those with a held-out loss, and of the others. */
typedef struct thinning {
    size_t bytes, lines, held_out;
    size_t stride, held_out_stride;
} thinning;

static size_t stride_of(size_t lines, size_t most)
{
    return most == 0 || lines <= most ? 1 : (lines + most - 1) / most;
}

/* getline ends in -1 at the end of the file, and when memory is short. */
static duo_status check_read(const FILE *file)
{
    if (feof((FILE *)file) || ferror((FILE *)file)) return DUO_OK;
    return duo_fail(DUO_ENOMEM, "no memory for a line of metrics");
}

static duo_status plan_thinning(thinning *t, FILE *file, size_t most_bytes)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    while ((n = getline(&line, &room, file)) > 0) {
        t->bytes += (size_t)n;
        t->lines++;
        t->held_out += holds_held_out(line);
    }
    free(line);
    const duo_status status = check_read(file);
    rewind(file);
    size_t most = t->lines == 0 ? LEAST_LINES : most_bytes / (t->bytes / t->lines + 1);
    if (most < LEAST_LINES) most = LEAST_LINES;
    t->held_out_stride = stride_of(t->held_out, most / 2);
    const size_t kept = t->held_out / t->held_out_stride;
    t->stride = stride_of(t->lines - t->held_out, most - kept);
    return status;
}

/* A line that is no JSON is the last one of a run that is writing it, or was torn by a crash. */
static duo_status write_lines(json_out *out, FILE *file, const thinning *t)
{
    json_error_t error = {0};
    duo_status status = DUO_OK;
    char *line = NULL;
    size_t room = 0, with = 0, without = 0;
    ssize_t n;
    json_key(out, "log");
    json_begin(out, '[');
    while (status != DUO_ENOMEM && (n = getline(&line, &room, file)) > 0) {
        const bool held_out = holds_held_out(line);
        if (held_out ? with++ % t->held_out_stride != 0 : without++ % t->stride != 0) continue;
        json_t *object = NULL;
        status = duo_json_parse(&object, line, (size_t)n, 0, &error);
        if (json_is_object(object)) json_value(out, object);
        json_decref(object);
    }
    json_end(out, ']');
    free(line);
    return status == DUO_ENOMEM ? status : check_read(file);
}

static duo_status write_metrics(json_out *out, const report_run *run, size_t bytes)
{
    char path[PATH_BYTES];
    thinning t = {0};
    FILE *file = fopen(in_folder(path, run, "metrics.jsonl"), "r");
    if (!file && errno == ENOENT) return DUO_OK;
    if (!file) return duo_fail(DUO_EIO, "%s: %s", path, strerror(errno));
    duo_status status = plan_thinning(&t, file, bytes);
    json_key_number(out, "log_stride", (double)t.stride);
    if (status == DUO_OK) status = write_lines(out, file, &t);
    const bool failed = ferror(file) != 0;
    fclose(file);
    if (status != DUO_OK) return duo_fail(status, "%s: %s", path, duo_message());
    return failed ? duo_fail(DUO_EIO, "%s: cannot be read", path) : DUO_OK;
}

static uint64_t recipe_steps(const duo_recipe *recipe)
{
    uint64_t steps = 0;
    for (size_t i = 0; i < recipe->n_stages; i++) steps += recipe->stages[i].steps;
    return steps;
}

static uint64_t last_step(const report_run *run)
{
    char path[PATH_BYTES];
    char *line = NULL;
    size_t room = 0;
    uint64_t last = 0;
    FILE *file = fopen(in_folder(path, run, "metrics.jsonl"), "r");
    if (!file) return 0;
    while (getline(&line, &room, file) > 0)
        if (strncmp(line, "{\"step\":", 8) == 0 && strchr(line, '\n'))
            last = strtoull(line + 8, NULL, 10);
    free(line);
    fclose(file);
    return last;
}

bool report_run_finished(const char *folder)
{
    report_run run = {.folder = folder};
    if (strlen(folder) >= DUO_PATH_MAX) return false;
    duo_status status = open_recipe(&run);
    if (status == DUO_OK && !run.recipe_text && (status = open_checkpoint(&run)) == DUO_OK)
        status = open_recipe(&run);
    const uint64_t last = last_step(&run);
    const bool finished = status == DUO_OK && run.recipe && last >= recipe_steps(run.recipe);
    report_run_free(&run);
    return finished;
}

/* ---------------------------------------------------------------- what it is */

static void write_stages(json_out *out, const duo_recipe *recipe)
{
    json_key(out, "stages");
    json_begin(out, '[');
    for (size_t i = 0; i < recipe->n_stages; i++) {
        const duo_stage_recipe *stage = &recipe->stages[i];
        json_begin(out, '{');
        json_key_text(out, "name", stage->name);
        json_key_text(out, "kind", duo_stage_kind_name(stage->kind));
        json_key_number(out, "steps", (double)stage->steps);
        if (stage->kind == DUO_STAGE_ROUTER) {
            json_key(out, "target");
            json_begin(out, '[');
            for (duo_module m = 0; m < DUO_MODULES; m++)
                json_number(out, stage->target[m] < 0 ? NAN : stage->target[m], 6);
            json_end(out, ']');
        }
        json_end(out, '}');
    }
    json_end(out, ']');
}

static duo_status write_model(json_out *out, const duo_config *config)
{
    duo_params params;
    const struct {
        const char *key;
        size_t value;
    } sizes[] = {
        {"layers", config->n_layers}, {"d_model", config->d_model},
        {"heads", config->n_heads},   {"d_big", config->d_big},
        {"d_small", config->d_small}, {"vocabulary", config->vocab_size},
        {"max_seq", config->max_seq},
    };
    json_key(out, "model");
    json_begin(out, '{');
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        json_key_number(out, sizes[i].key, (double)sizes[i].value);
    json_end(out, '}');

    if (config->vocab_size == 0) return DUO_OK;
    const duo_status status = duo_params_create(&params, config);
    if (status != DUO_OK) return status;
    json_key(out, "parameters");
    json_begin(out, '{');
    for (duo_group g = 0; g < DUO_GROUPS; g++)
        json_key_number(out, duo_group_name(g), (double)duo_params_count(&params, 1u << g));
    json_end(out, '}');
    duo_params_free(&params);

    const double L = (double)config->n_layers;
    json_key(out, "flops"); /* per token, at half of the longest context */
    json_begin(out, '{');
    json_key_number(out, "base", duo_flops_base(config, ((double)config->max_seq + 1) / 2));
    json_key_number(out, "all_small_ffns", L * duo_flops_ffn(config, DUO_SMALL));
    json_key_number(out, "all_big_ffns", L * duo_flops_ffn(config, DUO_BIG));
    json_key_number(out, "routers", duo_flops_routers(config));
    json_end(out, '}');
    return DUO_OK;
}

static void write_checkpoint(json_out *out, const duo_checkpoint *checkpoint)
{
    const duo_progress *progress = duo_checkpoint_progress(checkpoint);
    json_key(out, "checkpoint");
    json_begin(out, '{');
    json_key_text(out, "path", duo_checkpoint_path(checkpoint));
    json_key_text(out, "stage", duo_checkpoint_stage(checkpoint));
    json_key_number(out, "step", (double)progress->step);
    json_key_number(out, "tokens", (double)progress->tokens);
    json_key_text(out, "isa", duo_checkpoint_isa(checkpoint));
    json_key_text(out, "model_hash", duo_checkpoint_model_hash(checkpoint));
    json_end(out, '}');
}

static const char *name_of(const report_run *run)
{
    if (run->recipe && run->recipe->name[0]) return run->recipe->name;
    const char *slash = strrchr(run->folder, '/');
    return slash && slash[1] ? slash + 1 : run->folder;
}

duo_status report_run_write(json_out *out, const report_run *run, size_t bytes)
{
    const duo_config *config = run->checkpoint ? duo_checkpoint_config(run->checkpoint)
                               : run->recipe   ? &run->recipe->model
                                               : NULL;
    json_begin(out, '{');
    json_key_text(out, "name", name_of(run));
    json_key_text(out, "folder", run->folder);
    if (run->problem[0]) json_key_text(out, "problem", run->problem);
    if (run->recipe_text) {
        char hash[33];
        const size_t length = strlen(run->recipe_text);
        json_key_text(out, "recipe", run->recipe_text);
        json_key_text(out, "recipe_hash",
                      duo_hash_text(hash, duo_hash_bytes(run->recipe_text, length)));
    }
    if (run->recipe) write_stages(out, run->recipe);
    duo_status status = config ? write_model(out, config) : DUO_OK;
    if (run->checkpoint) write_checkpoint(out, run->checkpoint);
    if (status == DUO_OK) status = write_metrics(out, run, bytes);
    json_end(out, '}');
    return status;
}
