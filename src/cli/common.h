#ifndef DUO_CLI_COMMON_H
#define DUO_CLI_COMMON_H

#include <stdio.h>

#include "duo/checkpoint.h"
#include "duo/data.h"
#include "duo/study.h"

/** What several commands need. Results go to stdout, progress to stderr. */

/* ---------------------------------------------------------------- files */

bool duo_cli_is_folder(const char *path);

/** A file stays what it is, a run folder becomes its latest checkpoint, written to `latest`. */
duo_status duo_cli_latest(const char **path, char latest[2 * DUO_PATH_MAX]);

/** Open a checkpoint file, or the `latest` of a run folder. The caller closes *checkpoint, which is
 *  NULL on failure. */
duo_status duo_cli_open_checkpoint(const char *path, duo_checkpoint **checkpoint);

/** What --precision says: "fp32" or "bf16"; DUO_EUSAGE otherwise. */
duo_status duo_cli_precision(duo_precision *precision, const char *text);

/**
 * Open a checkpoint file, or the `latest` of a run folder, and the model in it, its weights packed
 * for forward passes. The kernels must have been started. The caller closes *checkpoint and frees
 * *model; both are NULL on failure.
 */
duo_status duo_cli_open_model(const char *path, duo_precision precision,
                              duo_checkpoint **checkpoint, duo_model **model);

/**
 * Open a token file, by default (path NULL) that of the checkpoint's recipe. DUO_EINVAL when it
 * was made with another tokenizer than the checkpoint's. The caller closes *tokens.
 */
duo_status duo_cli_open_tokens(const char *path, const duo_checkpoint *checkpoint,
                               duo_tokens **tokens);

/** Before long work: DUO_EIO when no file can be made at `path` later. NULL is no file: DUO_OK. */
duo_status duo_cli_check_folder(const char *path);

/**
 * The same of a file that is replaced without a question, hence DUO_EINVAL where that would lose
 * something else: a sealed file (of `kind`, or of any) replaces only what is of its kind, and no
 * checkpoint, and no symbolic link; a text (DUO_CLI_TEXT), which is written through links, no
 * sealed file; and nothing an `input` that the command reads (NULL: none).
 */
duo_status duo_cli_check_output(const char *path, int kind, const char *input);
enum { DUO_CLI_TEXT = -1 };

/* ---------------------------------------------------------------- time and progress */

/** Seconds of a clock that never goes back. */
double duo_cli_seconds(void);

/** "7.0 s", "2:05 min", "3:10:00 h". Returns text. */
const char *duo_cli_duration(char text[16], double seconds);

/**
 * Show how far the work is. On a terminal `text` replaces the live line. Elsewhere it becomes a
 * line of its own when it `matters`, or when the last one is ten seconds old.
 */
void duo_cli_progress(const char *text, bool matters);
/** Remove the live line, so that other output starts in an empty one. */
void duo_cli_progress_end(void);

/** A piece of work that reports how much of it is done. */
typedef struct duo_cli_task {
    const char *name, *unit; /**< "oracle", "tokens" */
    double started;          /**< duo_cli_seconds */
} duo_cli_task;

/** Shows rate and remaining time of a duo_cli_task; has the type of duo_study_progress. */
void duo_cli_task_progress(void *task, uint64_t done, uint64_t total);

/* ---------------------------------------------------------------- numbers in JSON */

/** `"key":value` in front of which the caller has written what belongs there; NaN is null. */
void duo_cli_json_number(FILE *out, const char *key, double value);
/** As duo_json_text; null for NULL. */
void duo_cli_json_text(FILE *out, const char *text);
/** `"run":"mine","trained":"dense, small","model_hash":"...","language_hash":"..."`: by which
 * models are told apart where they are compared: the recipe's name, and the kinds of its stages up
 * to the checkpoint's, null where the checkpoint holds no recipe that can be read; the hash of all
 *  weights, and of those without the routers. */
void duo_cli_json_model(FILE *out, const duo_checkpoint *checkpoint, const duo_model *model);

#endif
