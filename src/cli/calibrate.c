#include <string.h>

#include "commands.h"
#include "common.h"
#include "duo/kernels.h"
#include "options.h"
#include "router_stage.h"

typedef struct calibrate_options {
    const char *checkpoint, *output, *tokens;
    double n_big, target[DUO_MODULES];
    size_t windows, seq_len, rows;
} calibrate_options;

static duo_status read_targets(duo_calibration *calibration, const calibrate_options *o,
                               const duo_config *config)
{
    const bool told = duo_router_reads(config->router_inputs, DUO_INPUT_BUDGET);
    bool any = false;
    if (o->n_big > (double)config->n_layers)
        return duo_fail(DUO_EUSAGE, "--budget: %s has %zu layers", o->checkpoint, config->n_layers);
    memcpy(calibration->target, o->target, sizeof calibration->target);
    if (o->n_big >= 0) calibration->target[DUO_BIG] = o->n_big / (double)config->n_layers;
    for (duo_module m = 0; m < DUO_MODULES; m++) {
        if (calibration->target[m] < 0) continue;
        any = true;
        if (calibration->target[m] > 1 || !duo_module_in(config->router_modules, m))
            return duo_fail(DUO_EUSAGE, "%s: its routers cannot give %s a share of %g",
                            o->checkpoint, duo_module_name(m), calibration->target[m]);
    }
    double sum = 0;
    bool all = true; /* modules have a target */
    for (duo_module m = 0; m < DUO_MODULES; m++) {
        if (!duo_module_in(config->router_modules, m)) continue;
        all = all && calibration->target[m] >= 0;
        sum += calibration->target[m] > 0 ? calibration->target[m] : 0;
    }
    if (sum > 1 + 1e-6 || (all && sum < 1 - 1e-6))
        return duo_fail(DUO_EUSAGE, "--target-MODULE: the shares sum to %g, not to 1", sum);
    calibration->budget_max = (double)config->n_layers;
    if (told && any)
        return duo_fail(DUO_EUSAGE,
                        "%s: its routers are told the budget: all budgets are set, give none",
                        o->checkpoint);
    if (told || any) return DUO_OK;
    return duo_fail(DUO_EUSAGE, "--budget or --target-MODULE is missing");
}

/* What the file held, with the model as it is now; without moments, since nothing goes on here. */
static duo_status save(const calibrate_options *o, const duo_checkpoint *from,
                       const duo_model *model)
{
    size_t bytes = 0;
    const void *tokenizer = duo_checkpoint_tokenizer(from, &bytes);
    const duo_checkpoint_state state = {.model = model,
                                        .recipe = duo_checkpoint_recipe(from),
                                        .tokenizer = tokenizer,
                                        .tokenizer_bytes = bytes,
                                        .seed = duo_checkpoint_seed(from),
                                        .progress = duo_checkpoint_progress(from),
                                        .stage = duo_checkpoint_stage(from)};
    return duo_checkpoint_save(o->output, &state);
}

static duo_status calibrate(const calibrate_options *o)
{
    duo_checkpoint *checkpoint = NULL;
    duo_model *model = NULL;
    duo_tokens *tokens = NULL;
    duo_calibrated calibrated;
    duo_status status = duo_cli_check_output(o->output, DUO_KIND_CHECKPOINT, NULL);
    if (status == DUO_OK) status = duo_cli_open_model(o->checkpoint, DUO_FP32, &checkpoint, &model);
    if (status != DUO_OK) return status;
    const duo_config *config = &model->params.config;
    duo_calibration calibration = {
        .windows = o->windows, .T = o->seq_len > 0 ? o->seq_len : config->max_seq, .rows = o->rows};
    if (config->router_modules == 0) {
        status = duo_fail(DUO_EINVAL, "%s: has no routers to calibrate", o->checkpoint);
        goto done;
    }
    if (calibration.T > config->max_seq) {
        status = duo_fail(DUO_EUSAGE, "--seq-len: %s sees %zu positions", o->checkpoint,
                          config->max_seq);
        goto done;
    }
    if ((status = read_targets(&calibration, o, config)) != DUO_OK) goto done;
    if ((status = duo_cli_open_tokens(o->tokens, checkpoint, &tokens)) != DUO_OK) goto done;
    calibration.tokens = tokens;
    if ((status = duo_calibrate(model, &calibration, &calibrated)) != DUO_OK) goto done;
    if ((status = save(o, checkpoint, model)) != DUO_OK) goto done;
    duo_cli_print_calibrated(o->output, &calibrated, config->router_modules,
                             duo_router_reads(config->router_inputs, DUO_INPUT_BUDGET));

done:
    duo_tokens_close(tokens);
    duo_model_free(model);
    duo_checkpoint_close(checkpoint);
    return status;
}

duo_status duo_cli_calibrate(int argc, char **argv)
{
    calibrate_options o = {.n_big = -1, .target = {-1, -1, -1}, .windows = 512, .rows = 8};
    bool help = false;
    const duo_positional positionals[] = {
        {"CHECKPOINT", "a checkpoint, or a run folder for its latest one", &o.checkpoint, NULL,
         false},
    };
    const duo_option options[] = {
        {"--output", "FILE", "where the calibrated checkpoint goes; a file that is not there yet",
         DUO_OPTION_TEXT, &o.output, 0, 0},
        {"--budget", "K", "big layers per token, on average", DUO_OPTION_REAL, &o.n_big, 0,
         DUO_MAX_LAYERS},
        {"--target-skip", "X", "wanted share of skip (default none)", DUO_OPTION_REAL,
         &o.target[DUO_SKIP], 0, 1},
        {"--target-small", "X", "wanted share of small (default none)", DUO_OPTION_REAL,
         &o.target[DUO_SMALL], 0, 1},
        {"--target-big", "X", "wanted share of big: another way to write the budget",
         DUO_OPTION_REAL, &o.target[DUO_BIG], 0, 1},
        {"--tokens", "FILE", "token file (default: that of the checkpoint's recipe)",
         DUO_OPTION_TEXT, &o.tokens, 0, 0},
        {"--windows", "N", "windows of training text, spread evenly (default 512)", DUO_OPTION_SIZE,
         &o.windows, 1, 1e9},
        {"--seq-len", "T", "tokens of a window (default: all that the model sees)", DUO_OPTION_SIZE,
         &o.seq_len, 1, 1e9},
        {"--rows", "N", "windows run at a time (default 8)", DUO_OPTION_SIZE, &o.rows, 1, 1e6},
    };
    const duo_option_pair excludes[] = {
        {"--budget", "--target-skip"},
        {"--budget", "--target-small"},
        {"--budget", "--target-big"},
    };
    const duo_command command = {
        .name = "calibrate",
        .description =
            "Set the thresholds of a model's routers so that their choices meet a budget, "
            "whichever\n"
            "they were trained for, on training text. Routers that are told the budget get\n"
            "thresholds for every one.",
        .example = "duo calibrate checkpoints/quickstart --budget 3 --output three.h5",
        .positionals = positionals,
        .n_positionals = sizeof positionals / sizeof *positionals,
        .options = options,
        .n_options = sizeof options / sizeof *options,
        .excludes = excludes,
        .n_excludes = sizeof excludes / sizeof *excludes,
    };
    duo_status status = duo_options_parse(&command, argc, argv, &help);
    if (status == DUO_OK && !help && !o.output)
        status = duo_fail(DUO_EUSAGE, "--output is missing; see duo calibrate --help");
    if (status == DUO_OK && !help) {
        status = duo_kernels_start(0);
        if (status == DUO_OK) status = calibrate(&o);
        duo_kernels_stop();
    }
    duo_options_free(&command);
    return status;
}
