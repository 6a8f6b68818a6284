#ifndef DUO_REPORT_INTERNAL_H
#define DUO_REPORT_INTERNAL_H

#include "duo/checkpoint.h"
#include "duo/data.h"
#include "duo/recipe.h"
#include "json_out.h"

/* ---------------------------------------------------------------- runs */

/** What is known of a run besides its metrics. Missing parts are NULL. */
typedef struct report_run {
    const char *folder; /* borrowed */
    duo_recipe *recipe;
    char *recipe_text;
    duo_checkpoint *checkpoint; /* the newest */
    duo_tokenizer *tokenizer;   /* of the checkpoint */
    char problem[512];          /* why a part is missing that should be there; or empty */
} report_run;

/** DUO_EINVAL when there is nothing of a run in the folder. The caller frees in any case. */
duo_status report_run_open(report_run *run, const char *folder);
void report_run_free(report_run *run);

/** One object: name, recipe, sizes, checkpoint, and lines of metrics of about `bytes` at most. */
duo_status report_run_write(json_out *out, const report_run *run, size_t bytes);

/** The metrics in the folder have come to the last step of its recipe: asked again and again, so
 * that the checkpoint is read only where no recipe lies beside it. */
bool report_run_finished(const char *folder);

/* ---------------------------------------------------------------- results */

/** All result files. */
typedef struct report_results {
    struct report_routes *routes; /* (n_routes) */
    size_t n_routes;
    json_t *measured; /* an array of objects: what eval and oracle wrote */
    json_t *notes;    /* texts: files in the run folders that could not be read */
} report_results;

/** Those given, and those in the run folders. The caller frees in any case. */
duo_status report_results_open(report_results *results, const char *const *given, size_t n_given,
                               const report_run *runs, size_t n_runs);
void report_results_free(report_results *results);

/** An array of studies: files on the same tokens and of the same model belong together. Texts take
 *  about `bytes` at most. */
duo_status report_studies_write(json_out *out, const report_results *results,
                                const report_run *runs, size_t n_runs, size_t bytes);

/* ---------------------------------------------------------------- the page's sources */

extern const unsigned char report_page[], report_style[], report_script[]; /* end in a NUL */

#endif
