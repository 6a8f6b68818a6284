#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "duo/kernels.h"
#include "duo/oracle.h"
#include "options.h"
#include "summary.h"

typedef struct oracle_options {
    const char *checkpoint, *budget, *modules, *output;
    duo_cli_windows windows;
    size_t max_nodes;
    bool skip;
} oracle_options;

static duo_status read_setting(duo_search_setting *setting, const oracle_options *o)
{
    *setting = (duo_search_setting){.max_nodes = o->max_nodes};
    if (!duo_module_set_parse(&setting->modules, o->modules))
        return duo_fail(DUO_EUSAGE, "--modules: '%s' is no list of skip, small, big", o->modules);
    if (o->skip) setting->modules |= 1u << DUO_SKIP;
    if (duo_module_count(setting->modules) < 2)
        return duo_fail(DUO_EUSAGE, "--modules: the oracle needs two to choose among, '%s' is one",
                        o->modules);
    return duo_budget_parse(&setting->budget, o->budget) == DUO_OK ? DUO_OK : DUO_EUSAGE;
}

static void print_result(const duo_search_setting *setting, const duo_trace_summary *s,
                         const duo_config *config, double tokens, double seconds)
{
    char modules[16], loss[48], budget[64], took[16];
    printf("oracle over %s, budget %s, %zu layers\n",
           duo_module_set_text(modules, setting->modules), duo_budget_text(budget, &setting->budget),
           config->n_layers);
    printf("loss %s nats, perplexity %.3f", duo_cli_loss_text(loss, s), s->perplexity);
    if (!isnan(s->bits_per_byte)) printf(", %.4f bits per byte", s->bits_per_byte);
    printf(
        "\nbig %.1f %%, small %.1f %%, skip %.1f %%, %.3f MFLOP per token on the chosen routes\n",
        100 * s->share[DUO_BIG], 100 * s->share[DUO_SMALL], 100 * s->share[DUO_SKIP],
        s->flops / 1e6);
    duo_cli_print_layers(s, config->n_layers);
    printf("%.3f ms per token, %.0f tokens in %s\n", 1e3 * seconds / tokens, tokens,
           duo_cli_duration(took, seconds));
}

static duo_status run(const oracle_options *o, const duo_search_setting *setting)
{
    duo_checkpoint *checkpoint = NULL;
    duo_model *model = NULL;
    duo_sequences sequences = {0};
    duo_trace trace = {0};
    duo_trace_summary summary = {0};
    duo_cli_task task = {.name = "oracle", .unit = "tokens"};
    duo_status status = duo_cli_check_output(o->output);
    if (status == DUO_OK) status = duo_cli_open_model(o->checkpoint, DUO_FP32, &checkpoint, &model);
    if (status != DUO_OK) return status;
    const duo_config *config = &model->params.config;
    status = duo_budget_check(&setting->budget, setting->modules, config);
    if (status != DUO_OK) goto done;
    if ((status = duo_cli_held_out(&sequences, &o->windows, checkpoint)) != DUO_OK) goto done;
    if ((status = duo_trace_create(&trace, &sequences, config->n_layers)) != DUO_OK) goto done;

    task.started = duo_cli_seconds();
    status = duo_search_committed(model, &sequences, setting, &trace, duo_cli_task_progress, &task);
    duo_cli_progress_end();
    if (status != DUO_OK) goto done;
    const double seconds = duo_cli_seconds() - task.started;
    status = duo_trace_summarize(&summary, &trace, &sequences, config, false);
    if (status != DUO_OK) goto done;
    print_result(setting, &summary, config, (double)(sequences.R * sequences.T), seconds);
    if (!o->output) goto done;
    const duo_routes_origin origin = {.policy = "oracle",
                                      .budget = o->budget,
                                      .context = "committed",
                                      .modules = setting->modules,
                                      .model = duo_model_hash(model)};
    status = duo_routes_write(o->output, &sequences, &trace, config->n_layers, &origin);
    if (status == DUO_OK)
        printf("wrote %s; measure others on it: duo eval %s --policy file:%s --policy big\n",
               o->output, o->checkpoint, o->output);

done:
    duo_trace_summary_free(&summary);
    duo_trace_free(&trace);
    duo_sequences_free(&sequences);
    duo_model_free(model);
    duo_checkpoint_close(checkpoint);
    return status;
}

duo_status duo_cli_oracle(int argc, char **argv)
{
    oracle_options o = {.budget = "none", .modules = "small,big", .windows.n = 16};
    duo_search_setting setting;
    bool help = false;
    const duo_positional positionals[] = {
        {"CHECKPOINT", "a checkpoint, or a run folder for its latest one", &o.checkpoint, NULL,
         false},
    };
    const duo_option options[] = {
        {"--budget", "K", "big layers of a token: 4, 0..4, skip:6, flops:2e6..3e6 or none (default none)",
         DUO_OPTION_TEXT, &o.budget, 0, 0},
        {"--modules", "LIST", "what a route is made of (default small,big)", DUO_OPTION_TEXT,
         &o.modules, 0, 0},
        {"--skip", NULL, "add skip to the modules", DUO_OPTION_FLAG, &o.skip, 0, 0},
        {"--tokens", "FILE", "token file (default: that of the checkpoint's recipe)",
         DUO_OPTION_TEXT, &o.windows.tokens, 0, 0},
        {"--domain", "NAME", "of the token file (default: all)", DUO_OPTION_TEXT, &o.windows.domain,
         0, 0},
        {"--windows", "N", "held-out windows, spread evenly (default 16)", DUO_OPTION_SIZE,
         &o.windows.n, 1, 1e9},
        {"--seq-len", "T", "tokens of a window (default: all that the model sees)", DUO_OPTION_SIZE,
         &o.windows.T, 1, 1e9},
        {"--output", "ROUTES.h5", "write tokens, routes and losses", DUO_OPTION_TEXT, &o.output, 0,
         0},
        {"--max-nodes", "N", "states of a layer held at a time (default: what 512 MiB hold)",
         DUO_OPTION_SIZE, &o.max_nodes, 1, 1e7},
    };
    const duo_command command = {
        .name = "oracle",
        .description =
            "Find for every token of some held-out windows the route that predicts its successor\n"
            "best, by trying all routes, left to right: a token sees the keys and values of the\n"
            "routes chosen before it.",
        .example = "duo oracle checkpoints/quickstart --budget 4 --output oracle-4.h5",
        .positionals = positionals,
        .n_positionals = sizeof positionals / sizeof *positionals,
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    duo_status status = duo_options_parse(&command, argc, argv, &help);
    if (status == DUO_OK && !help) {
        status = read_setting(&setting, &o);
        if (status == DUO_OK) status = duo_kernels_start(0);
        if (status == DUO_OK) status = run(&o, &setting);
        duo_kernels_stop();
    }
    duo_options_free(&command);
    return status;
}
