#include "duo/report.h"

#include <stdio.h>
#include <time.h>

#include "commands.h"
#include "common.h"
#include "options.h"
#include "stop.h"

typedef struct report_options {
    duo_list runs, routes;
    const char *output, *png, *browser, *chart_js;
    size_t every;
    bool follow;
} report_options;

/* A page of long runs takes a while to make: the training that it follows must not feel it. */
static double pause_after(const report_options *o, double took)
{
    enum { SHARE_OF_TIME = 20 };
    const double least = SHARE_OF_TIME * took;
    return least > (double)o->every ? least : (double)o->every;
}

static void wait_seconds(double seconds)
{
    const struct timespec tick = {.tv_nsec = 100000000};
    const double end = duo_cli_seconds() + seconds;
    while (!duo_cli_stop_wanted() && duo_cli_seconds() < end) nanosleep(&tick, NULL);
}

/* The last page, which no longer loads itself anew, is written by the caller. */
static duo_status follow(const report_options *o, duo_report_input input)
{
    duo_status status = DUO_OK;
    size_t pages = 0;
    char text[200];
    duo_cli_catch_stop();
    while (status == DUO_OK && !duo_cli_stop_wanted() && !duo_report_finished(&input)) {
        const double before = duo_cli_seconds();
        input.reload = (unsigned)o->every;
        status = duo_report_write(o->output, &input);
        if (status != DUO_OK) break;
        snprintf(text, sizeof text, "%.120s: written %zu times; ends with the run, or by Ctrl-C",
                 o->output, ++pages);
        duo_cli_progress(text, pages == 1);
        wait_seconds(pause_after(o, duo_cli_seconds() - before));
    }
    duo_cli_progress_end();
    return status;
}

static duo_status report(const report_options *o)
{
    const duo_report_input input = {.runs = o->runs.text,
                                    .n_runs = o->runs.n,
                                    .results = o->routes.text,
                                    .n_results = o->routes.n,
                                    .chart_js = o->chart_js};
    size_t figures = 0;
    duo_status status = duo_cli_check_output(o->output, DUO_CLI_TEXT, NULL);
    if (status == DUO_OK && o->follow) status = follow(o, input);
    if (status == DUO_OK) status = duo_report_write(o->output, &input);
    if (status != DUO_OK) return status;
    printf("wrote %s\n", o->output);
    if (!o->png) return DUO_OK;
    const bool stopped = duo_cli_stop_wanted(); /* which has ended --follow */
    duo_cli_catch_stop();
    status = duo_report_figures(o->output, o->png, o->browser, stopped ? NULL : duo_cli_stop_wanted,
                                &figures);
    if (status == DUO_OK) printf("wrote %zu figures to %s\n", figures, o->png);
    return status;
}

duo_status duo_cli_report(int argc, char **argv)
{
    report_options o = {.output = "report.html", .every = 5};
    bool help = false;
    const duo_positional positionals[] = {
        {"RUN", "run folders; results that lie in them are shown too", NULL, &o.runs, true},
    };
    const duo_option options[] = {
        {"--routes", "FILE...", "routes files, and .json files that eval and oracle wrote",
         DUO_OPTION_LIST, &o.routes, 0, 0},
        {"--output", "FILE", "the page (default report.html)", DUO_OPTION_TEXT, &o.output, 0, 0},
        {"--png", "DIR", "also render each figure to DIR/NAME.png, with headless Chromium",
         DUO_OPTION_TEXT, &o.png, 0, 0},
        {"--browser", "PROGRAM", "that renders them (default: chromium, wherever it is)",
         DUO_OPTION_TEXT, &o.browser, 0, 0},
        {"--follow", NULL, "rewrite the page while the runs go on; an open browser tab follows",
         DUO_OPTION_FLAG, &o.follow, 0, 0},
        {"--every", "SECONDS", "between two pages of --follow (default 5)", DUO_OPTION_SIZE,
         &o.every, 1, 86400},
        {"--chart-js", "FILE", "Chart.js 3, which is put into the page (default: the system's)",
         DUO_OPTION_TEXT, &o.chart_js, 0, 0},
    };
    const duo_command command = {
        .name = "report",
        .description =
            "Write one HTML page that shows runs and studies: losses and speed over steps,\n"
            "perplexity against budget, where compute goes, routes and losses token by token.\n"
            "It opens from disk, without network. A run that is going on shows what there is.",
        .example = "duo report checkpoints/quickstart --routes oracle-4.h5 eval.json",
        .positionals = positionals,
        .n_positionals = sizeof positionals / sizeof *positionals,
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    duo_status status = duo_options_parse(&command, argc, argv, &help);
    if (status == DUO_OK && !help)
        status = o.runs.n + o.routes.n > 0
                     ? report(&o)
                     : duo_fail(DUO_EUSAGE, "RUN or --routes is missing; see duo report --help");
    duo_options_free(&command);
    return status;
}
