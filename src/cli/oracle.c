#include <stdlib.h>

#include "commands.h"
#include "duo/kernels.h"
#include "oracle_study.h"

static duo_status print_and_write(const duo_oracle_study *study)
{
    const duo_sequences done = duo_oracle_study_done(study);
    const size_t L = study->results.L;
    duo_hindsight hindsight = {0};
    duo_oracle_row *rows = NULL;
    size_t n = 0;
    const bool measured = study->in_reference && duo_module_in(study->setting.modules, DUO_BIG);
    duo_status status = DUO_OK;
    if (measured) status = duo_hindsight_measure(&hindsight, study->results.reference, &done, L);
    if (status == DUO_OK) status = duo_oracle_rows(study, measured ? &hindsight : NULL, &rows, &n);
    if (status == DUO_OK) status = duo_oracle_print(study, measured ? &hindsight : NULL, rows, n);
    if (status == DUO_OK)
        status = duo_oracle_write_files(study, measured ? &hindsight : NULL, rows, n);
    free(rows);
    duo_hindsight_free(&hindsight);
    return status;
}

static duo_status run(const duo_oracle_options *options)
{
    duo_oracle_study study;
    duo_status status = duo_oracle_study_open(&study, options);
    if (status == DUO_OK) status = duo_oracle_study_run(&study);
    if (status == DUO_OK && !study.stopped) status = print_and_write(&study);
    duo_oracle_study_close(&study);
    return status;
}

duo_status duo_cli_oracle(int argc, char **argv)
{
    duo_oracle_options o = {.precision = "fp32",
                            .budget = "none",
                            .method = "exact",
                            .goal = "target",
                            .modules = "small,big",
                            .windows.n = 16,
                            .training_windows = 16,
                            .draws = 100,
                            .rows = 8,
                            .seed = 1};
    bool help = false;
    const duo_positional positionals[] = {
        {"CHECKPOINT", "a checkpoint, or a run folder for its latest one", &o.checkpoint, NULL,
         false},
    };
    const duo_option options[] = {
        {"--budget", "K",
         "of a token: 4, 0..4 (big layers), skip:6, flops:2e6..3e6 or none (default none)",
         DUO_OPTION_TEXT, &o.budget, 0, 0},
        {"--schedule", "A:B",
         "from A big layers at the first position to B at the last; with "
         "--compare repeatable",
         DUO_OPTION_REPEATED, &o.schedules, 0, 0},
        {"--modules", "LIST", "what a route is made of (default small,big)", DUO_OPTION_TEXT,
         &o.modules, 0, 0},
        {"--skip", NULL, "add skip to the modules", DUO_OPTION_FLAG, &o.skip, 0, 0},
        {"--context", "C",
         "committed: tokens see the routes chosen before them; reference: see --reference "
         "(default committed; with --compare reference)",
         DUO_OPTION_TEXT, &o.context, 0, 0},
        {"--reference", "P", "pattern that earlier tokens took, as BSSB or a module (default big)",
         DUO_OPTION_TEXT, &o.reference, 0, 0},
        {"--method", "M", "exact, beam:W or greedy:W (default exact)", DUO_OPTION_TEXT, &o.method,
         0, 0},
        {"--goal", "G",
         "target, or label-free: the least expected loss under the all-big model (default target)",
         DUO_OPTION_TEXT, &o.goal, 0, 0},
        {"--control", NULL, "also search for targets drawn from the all-big model: its hindsight",
         DUO_OPTION_FLAG, &o.control, 0, 0},
        {"--values", "HOW",
         "also write what every choice along the routes is worth, for routers to learn from: best, "
         "by the best completion within the budget; same, by a change of one choice alone",
         DUO_OPTION_TEXT, &o.values, 0, 0},
        {"--along", "POLICY",
         "of the routes of this policy in place of the oracle's: router, router:exact:K, ...",
         DUO_OPTION_TEXT, &o.along, 0, 0},
        {"--compare", NULL, "hold it against fixed and random patterns at every number of big",
         DUO_OPTION_FLAG, &o.compare, 0, 0},
        {"--fixed", "HOW", "fixed patterns: all, or beam:W (default: all up to 10 layers, beam:8)",
         DUO_OPTION_TEXT, &o.fixed, 0, 0},
        {"--fixed-windows", "N",
         "training windows they are chosen on; 0: the text that is measured (default 16)",
         DUO_OPTION_SIZE, &o.training_windows, 0, 1e9},
        {"--random", "N", "random patterns to take the best of (default 100)", DUO_OPTION_SIZE,
         &o.draws, 1, 1e6},
        {"--tokens", "FILE", "token file (default: that of the checkpoint's recipe)",
         DUO_OPTION_TEXT, &o.windows.tokens, 0, 0},
        {"--domain", "NAME", "of the token file (default: all)", DUO_OPTION_TEXT, &o.windows.domain,
         0, 0},
        {"--text", "FILE", "a plain text instead of a token file", DUO_OPTION_TEXT, &o.windows.text,
         0, 0},
        {"--training", NULL, "take windows of training text, as for a teacher of routers",
         DUO_OPTION_FLAG, &o.training, 0, 0},
        {"--windows", "N", "windows, held out or of a text, spread evenly (default 16)",
         DUO_OPTION_SIZE, &o.windows.n, 1, 1e9},
        {"--seq-len", "T",
         "tokens of a window (default: all that the model sees; of a text, equal parts)",
         DUO_OPTION_SIZE, &o.windows.T, 1, 1e9},
        {"--max-tokens", "N", "fewer windows, one at least, so that there are no more tokens",
         DUO_OPTION_SIZE, &o.windows.max_tokens, 1, 1e12},
        {"--precision", "P", "of the operands of matrix products: fp32 or bf16 (default fp32)",
         DUO_OPTION_TEXT, &o.precision, 0, 0},
        {"--seed", "S", "of drawn targets and random patterns (default 1)", DUO_OPTION_U64, &o.seed,
         0, 0},
        {"--output", "ROUTES.h5",
         "write tokens, routes and losses; the same command goes on where it was stopped",
         DUO_OPTION_TEXT, &o.output, 0, 0},
        {"--difficulty", "FILE", "write the losses of every token: .jsonl, or tab-separated",
         DUO_OPTION_TEXT, &o.difficulty, 0, 0},
        {"--json", "FILE", "write the tables as JSON", DUO_OPTION_TEXT, &o.json, 0, 0},
        {"--tsv", "FILE", "write the losses tab-separated", DUO_OPTION_TEXT, &o.tsv, 0, 0},
        {"--max-nodes", "N", "states of a layer held at a time (default: what 512 MiB hold)",
         DUO_OPTION_SIZE, &o.max_nodes, 1, 1e7},
    };
    const duo_option_pair needs[] = {
        {"--values", "--output"},
        {"--fixed", "--compare"},
        {"--fixed-windows", "--compare"},
        {"--random", "--compare"},
    };
    const duo_option_pair excludes[] = {
        {"--text", "--tokens"},
        {"--text", "--domain"},
        {"--text", "--training"},
    };
    const duo_command command = {
        .name = "oracle",
        .description =
            "Find for every token of some held-out windows the route that predicts its successor\n"
            "best. In reference context one search answers every number of big layers, and tells\n"
            "how much of the gain is hindsight: the oracle sees the token that it predicts.",
        .example = "duo oracle checkpoints/quickstart --budget 4 --output oracle-4.h5",
        .positionals = positionals,
        .n_positionals = sizeof positionals / sizeof *positionals,
        .options = options,
        .n_options = sizeof options / sizeof *options,
        .excludes = excludes,
        .n_excludes = sizeof excludes / sizeof *excludes,
        .needs = needs,
        .n_needs = sizeof needs / sizeof *needs,
    };
    duo_status status = duo_options_parse(&command, argc, argv, &help);
    if (status == DUO_OK && !help) {
        status = duo_kernels_start(0);
        if (status == DUO_OK) status = run(&o);
        duo_kernels_stop();
    }
    duo_options_free(&command);
    return status;
}
