#include "duo/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "duo/file.h"
#include "report_internal.h"

/* What the page may grow to: the rest is maps, curves and scripts, below 2 MB. */
enum { LOG_BYTES = 1500000, TEXT_BYTES = 1500000 };

/* ---------------------------------------------------------------- data */

/* Of where the page is made, which need not be where the run was. */
static void write_machine(json_out *out)
{
    char line[512];
    FILE *file = fopen("/proc/cpuinfo", "r");
    json_key(out, "machine");
    json_begin(out, '{');
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (!colon || strncmp(line, "model name", 10) != 0) continue;
        json_key(out, "processor");
        json_text(out, colon + 2, strcspn(colon + 2, "\n"));
        break;
    }
    if (file) fclose(file);
    json_key_number(out, "cores", (double)sysconf(_SC_NPROCESSORS_ONLN));
    json_end(out, '}');
}

static duo_status write_data(FILE *file, const report_run *runs, const report_results *results,
                             const duo_report_input *input)
{
    json_out out = {.file = file};
    duo_status status = DUO_OK;
    json_begin(&out, '{');
    json_key_text(&out, "version", DUO_VERSION);
    json_key_number(&out, "reload", input->reload);
    write_machine(&out);
    json_key(&out, "runs");
    json_begin(&out, '[');
    for (size_t i = 0; i < input->n_runs && status == DUO_OK; i++)
        status = report_run_write(&out, &runs[i], LOG_BYTES / input->n_runs);
    json_end(&out, ']');
    json_key(&out, "studies");
    if (status == DUO_OK)
        status = report_studies_write(&out, results, runs, input->n_runs, TEXT_BYTES);
    json_key(&out, "measured");
    json_value(&out, results->measured);
    json_key(&out, "notes");
    json_value(&out, results->notes);
    json_end(&out, '}');
    return status;
}

/* ---------------------------------------------------------------- page */

static duo_status copy_chart_js(FILE *out, const char *path)
{
    char *text = NULL;
    duo_status status = duo_file_read(&text, NULL, path, SIZE_MAX);
    if (status == DUO_EIO)
        return duo_fail(status,
                        "%s; Chart.js draws the curves: apt-get install libjs-chart.js, or "
                        "--chart-js FILE",
                        duo_message());
    if (status != DUO_OK) return status;
    if (!*text)
        status = duo_fail(DUO_EDATA, "%s: is empty", path);
    else if (strstr(text, "</script"))
        status = duo_fail(DUO_EDATA, "%s: would end the script element that it stands in", path);
    else
        fputs(text, out);
    free(text);
    return status;
}

typedef struct page_parts {
    const duo_report_input *input;
    const report_run *runs;
    const report_results *results;
} page_parts;

static duo_status write_part(FILE *out, const char *name, const page_parts *parts)
{
    const char *chart_js = parts->input->chart_js ? parts->input->chart_js : DUO_CHART_JS;
    if (strncmp(name, "STYLE", 5) == 0) fputs((const char *)report_style, out);
    if (strncmp(name, "SCRIPT", 6) == 0) fputs((const char *)report_script, out);
    if (strncmp(name, "CHART", 5) == 0) return copy_chart_js(out, chart_js);
    if (strncmp(name, "DATA", 4) == 0)
        return write_data(out, parts->runs, parts->results, parts->input);
    return DUO_OK;
}

/* The page is a text with places for its parts: @STYLE@, @DATA@, @CHART@, @SCRIPT@. */
static duo_status write_page(FILE *out, const page_parts *parts)
{
    const char *rest = (const char *)report_page, *at;
    duo_status status = DUO_OK;
    while (status == DUO_OK && (at = strchr(rest, '@'))) {
        fwrite(rest, 1, (size_t)(at - rest), out);
        status = write_part(out, at + 1, parts);
        rest = strchr(at + 1, '@') + 1;
    }
    fputs(rest, out);
    return status;
}

static duo_status write_file(const char *path, const page_parts *parts)
{
    duo_text_file file;
    const duo_status status = duo_text_file_begin(&file, path);
    if (status != DUO_OK) return status;
    return duo_text_file_end(&file, write_page(file.out, parts));
}

/* ---------------------------------------------------------------- runs */

static void close_runs(report_run *runs, size_t n)
{
    for (size_t i = 0; runs && i < n; i++) report_run_free(&runs[i]);
    free(runs);
}

static duo_status open_runs(report_run **runs, const duo_report_input *input)
{
    *runs = calloc(input->n_runs + 1, sizeof **runs);
    if (!*runs) return duo_fail(DUO_ENOMEM, "no memory for %zu runs", input->n_runs);
    duo_status status = DUO_OK;
    for (size_t i = 0; i < input->n_runs && status == DUO_OK; i++)
        status = report_run_open(&(*runs)[i], input->runs[i]);
    return status;
}

duo_status duo_report_write(const char *path, const duo_report_input *input)
{
    report_run *runs = NULL;
    report_results results = {0};
    duo_status status = open_runs(&runs, input);
    if (status == DUO_OK)
        status =
            report_results_open(&results, input->results, input->n_results, runs, input->n_runs);
    if (status == DUO_OK) status = write_file(path, &(page_parts){input, runs, &results});
    report_results_free(&results);
    close_runs(runs, input->n_runs);
    return status;
}

bool duo_report_finished(const duo_report_input *input)
{
    bool finished = true;
    for (size_t i = 0; i < input->n_runs && finished; i++)
        finished = report_run_finished(input->runs[i]);
    return finished;
}
