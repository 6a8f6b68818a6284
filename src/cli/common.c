#include "common.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "duo/json.h"
#include "duo/recipe.h"
#include "duo/train.h"

/* ---------------------------------------------------------------- files */

bool duo_cli_is_folder(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

duo_status duo_cli_latest(const char **path, char latest[2 * DUO_PATH_MAX])
{
    if (!duo_cli_is_folder(*path)) return DUO_OK;
    const int n = snprintf(latest, 2 * DUO_PATH_MAX, "%s/latest", *path);
    if (n < 0 || n >= 2 * DUO_PATH_MAX)
        return duo_fail(DUO_EINVAL, "%s: the path is too long", *path);
    *path = latest;
    return DUO_OK;
}

duo_status duo_cli_open_checkpoint(const char *path, duo_checkpoint **checkpoint)
{
    char latest[2 * DUO_PATH_MAX];
    *checkpoint = NULL;
    const duo_status status = duo_cli_latest(&path, latest);
    return status == DUO_OK ? duo_checkpoint_open(checkpoint, path) : status;
}

duo_status duo_cli_precision(duo_precision *precision, const char *text)
{
    for (*precision = DUO_FP32; *precision <= DUO_BF16; ++*precision)
        if (strcmp(text, duo_precision_name(*precision)) == 0) return DUO_OK;
    return duo_fail(DUO_EUSAGE, "--precision: '%s' is neither fp32 nor bf16", text);
}

duo_status duo_cli_open_model(const char *path, duo_precision precision,
                              duo_checkpoint **checkpoint, duo_model **model)
{
    *model = NULL;
    duo_status status = duo_cli_open_checkpoint(path, checkpoint);
    if (status == DUO_OK) status = duo_checkpoint_model(*checkpoint, model);
    if (status == DUO_OK) status = duo_model_pack(*model, precision);
    if (status == DUO_OK) return DUO_OK;
    duo_model_free(*model);
    duo_checkpoint_close(*checkpoint);
    *model = NULL;
    *checkpoint = NULL;
    return status;
}

/* Whose ids the model knows, and means as they were meant. */
static duo_status check_vocabulary(const duo_tokens *tokens, const duo_checkpoint *checkpoint)
{
    const size_t V = duo_checkpoint_config(checkpoint)->vocab_size;
    size_t bytes = 0, trained_bytes = 0;
    if (duo_tokens_vocab_size(tokens) != V)
        return duo_fail(DUO_EINVAL, "%s: has a vocabulary of %zu, %s of %zu",
                        duo_tokens_path(tokens), duo_tokens_vocab_size(tokens),
                        duo_checkpoint_path(checkpoint), V);
    const void *model = duo_tokens_tokenizer(tokens, &bytes);
    const void *trained = duo_checkpoint_tokenizer(checkpoint, &trained_bytes);
    if (duo_hash_equal(duo_hash_bytes(model, bytes), duo_hash_bytes(trained, trained_bytes)))
        return DUO_OK;
    return duo_fail(DUO_EINVAL, "%s: was made with another tokenizer than that of %s",
                    duo_tokens_path(tokens), duo_checkpoint_path(checkpoint));
}

duo_status duo_cli_open_tokens(const char *path, const duo_checkpoint *checkpoint,
                               duo_tokens **tokens)
{
    duo_recipe *recipe = NULL;
    duo_status status = DUO_OK;
    *tokens = NULL;
    if (!path) {
        status = duo_recipe_parse(&recipe, duo_checkpoint_recipe(checkpoint),
                                  duo_checkpoint_path(checkpoint), NULL, 0);
        if (status != DUO_OK) return status;
        path = recipe->tokens;
        if (path[0] == '\0') {
            status = duo_fail(DUO_EINVAL, "%s: its recipe names no token file; give --tokens",
                              duo_checkpoint_path(checkpoint));
            goto done;
        }
    }
    status = duo_tokens_open(tokens, path);
    if (status == DUO_OK) status = check_vocabulary(*tokens, checkpoint);
    if (status != DUO_OK) {
        duo_tokens_close(*tokens);
        *tokens = NULL;
    }

done:
    duo_recipe_free(recipe);
    return status;
}

duo_status duo_cli_check_folder(const char *path)
{
    if (!path) return DUO_OK;
    if (duo_cli_is_folder(path)) return duo_fail(DUO_EIO, "%s: is a folder", path);
    const char *slash = strrchr(path, '/');
    const int n = slash == path ? 1 : slash ? (int)(slash - path) : 0;
    char folder[2 * DUO_PATH_MAX];
    const int written = snprintf(folder, sizeof folder, "%.*s", n > 0 ? n : 1, n > 0 ? path : ".");
    if (written < 0 || (size_t)written >= sizeof folder)
        return duo_fail(DUO_EINVAL, "%s: the path is too long", path);
    if (access(folder, W_OK | X_OK) == 0) return DUO_OK;
    return duo_fail(DUO_EIO, "%s: cannot be written: %s", path, strerror(errno));
}

static bool same_file(const struct stat *file, const char *path)
{
    struct stat other;
    return path && stat(path, &other) == 0 && other.st_dev == file->st_dev &&
           other.st_ino == file->st_ino;
}

duo_status duo_cli_check_output(const char *path, int kind, const char *input)
{
    static const char other[] = "give another output";
    struct stat file, link;
    const duo_status status = duo_cli_check_folder(path);
    if (status != DUO_OK || !path || stat(path, &file) != 0 || !S_ISREG(file.st_mode))
        return status;
    if (same_file(&file, input))
        return duo_fail(DUO_EINVAL, "%s: is what this command reads; %s", path, other);
    if (kind != DUO_CLI_TEXT && lstat(path, &link) == 0 && S_ISLNK(link.st_mode))
        return duo_fail(DUO_EINVAL, "%s: is a symbolic link; %s", path, other);
    const duo_kind is = duo_store_glance(path);
    const bool ours = is != DUO_KIND_ANY, fits = kind == DUO_KIND_ANY || kind == (int)is;
    if (file.st_size == 0 || (kind == DUO_CLI_TEXT && !ours)) return DUO_OK;
    if (!ours)
        return duo_fail(DUO_EINVAL, "%s: is there already, and no sealed file; %s", path, other);
    if (fits && is != DUO_KIND_CHECKPOINT) return DUO_OK;
    return duo_fail(DUO_EINVAL, "%s: is a %s file already; %s", path, duo_kind_name(is), other);
}

/* ---------------------------------------------------------------- time and progress */

double duo_cli_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

const char *duo_cli_duration(char text[16], double seconds)
{
    if (!(seconds >= 0 && seconds < 3.6e7)) {
        snprintf(text, 16, "unknown");
        return text;
    }
    const unsigned s = (unsigned)(seconds + 0.5);
    if (seconds < 9.95)
        snprintf(text, 16, "%.1f s", seconds);
    else if (s < 60)
        snprintf(text, 16, "%u s", s);
    else if (s < 3600)
        snprintf(text, 16, "%u:%02u min", s / 60, s % 60);
    else
        snprintf(text, 16, "%u:%02u:%02u h", s / 3600 % 10000, s / 60 % 60, s % 60);
    return text;
}

enum { PLAIN_SECONDS = 10 };
static const double live_seconds = 0.1;

static struct {
    double shown; /* seconds; 0: nothing yet */
    bool live;    /* a live line stands on the terminal */
} progress;

static size_t terminal_width(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

void duo_cli_progress(const char *text, bool matters)
{
    const double now = duo_cli_seconds();
    const bool terminal = isatty(STDERR_FILENO) == 1;
    const double pause = terminal ? live_seconds : PLAIN_SECONDS;
    if (!matters && progress.shown > 0 && now - progress.shown < pause) return;
    progress.shown = now;
    progress.live = terminal;
    if (terminal)
        fprintf(stderr, "\r%.*s\033[K", (int)terminal_width() - 1, text);
    else
        fprintf(stderr, "%s\n", text);
    fflush(stderr);
}

void duo_cli_progress_end(void)
{
    if (progress.live) fputs("\r\033[K", stderr);
    progress.live = false;
    progress.shown = 0;
}

void duo_cli_task_progress(void *task, uint64_t done, uint64_t total)
{
    const duo_cli_task *t = task;
    const double seconds = duo_cli_seconds() - t->started, rate = (double)done / seconds;
    if (seconds < PLAIN_SECONDS && !isatty(STDERR_FILENO)) return; /* its result is enough */
    char text[160], left[16];
    snprintf(text, sizeof text, "%s %" PRIu64 "/%" PRIu64 " %s  %.0f/s  ETA %s", t->name, done,
             total, t->unit, rate, duo_cli_duration(left, (double)(total - done) / rate));
    duo_cli_progress(text, false);
}

/* ---------------------------------------------------------------- numbers in JSON */

void duo_cli_json_number(FILE *out, const char *key, double value)
{
    fprintf(out, "\"%s\":", key);
    if (isfinite(value))
        fprintf(out, "%.9g", value);
    else
        fputs("null", out);
}

void duo_cli_json_text(FILE *out, const char *text)
{
    if (!text) {
        fputs("null", out);
        return;
    }
    duo_json_text(out, text, strlen(text));
}

void duo_cli_json_model(FILE *out, const duo_checkpoint *checkpoint, const duo_model *model)
{
    const size_t stage = duo_checkpoint_progress(checkpoint)->stage;
    duo_recipe *recipe = NULL;
    char hash[33], language[33];
    const bool known = duo_recipe_parse(&recipe, duo_checkpoint_recipe(checkpoint),
                                        duo_checkpoint_path(checkpoint), NULL, 0) == DUO_OK;
    fputs("\"run\":", out);
    duo_cli_json_text(out, known ? recipe->name : NULL);
    fprintf(out, ",\"trained\":%s", known ? "\"" : "null");
    for (size_t i = 0; known && i <= stage && i < recipe->n_stages; i++)
        fprintf(out, "%s%s", i > 0 ? ", " : "", duo_stage_kind_name(recipe->stages[i].kind));
    fprintf(out, "%s,\"model_hash\":\"%s\",\"language_hash\":\"%s\"", known ? "\"" : "",
            duo_hash_text(hash, duo_model_hash(model)),
            duo_hash_text(language, duo_model_hash_without_routers(model)));
    duo_recipe_free(recipe);
}
