#ifndef DUO_REPORT_H
#define DUO_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "duo/status.h"

/**
 * One HTML page that shows runs and studies: curves, maps, text, tables. It needs nothing besides
 * itself: data, styles, scripts and Chart.js stand in it, and it opens from disk without network.
 *
 * A part that is not there yet leaves its figures out, so that the page of a run that is going on
 * shows what there is. The same input gives the same bytes on one machine.
 */
typedef struct duo_report_input {
    const char *const *runs; /**< (n_runs) run folders; what they hold of results is shown too */
    size_t n_runs;
    const char *const *results; /**< (n_results) routes files, and .json files of eval and oracle */
    size_t n_results;
    const char *chart_js; /**< Chart.js, NULL: where the system has it */
    unsigned reload;      /**< the page loads itself anew after so many seconds; 0: never */
} duo_report_input;

/**
 * Write the page; readers of `path` see the old one or the new one. DUO_EIO and DUO_EDATA name the
 * file; what is damaged in a run folder is told on the page instead.
 */
duo_status duo_report_write(const char *path, const duo_report_input *input);

/** Whether the metrics of all runs have come to the last step of their recipes. False where a run
 *  cannot be read: duo_report_write says why. */
bool duo_report_finished(const duo_report_input *input);

/**
 * Render each figure of a page to FOLDER/NAME.png with headless Chromium, `browser` or, when it is
 * NULL, the first of the usual names that is found. *n: figures written. Where `stop`, unless it is
 * NULL, becomes true the browser is ended and nothing of it is left: DUO_EIO.
 */
duo_status duo_report_figures(const char *page, const char *folder, const char *browser,
                              bool (*stop)(void), size_t *n);

#endif
