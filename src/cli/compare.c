#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "compare_study.h"
#include "duo/kernels.h"
#include "duo/number.h"
#include "duo/sizes.h"
#include "options.h"
#include "windows.h"

typedef struct compare_options {
    const char *checkpoint, *oracle, *output, *by_layer, *against;
    duo_list budgets, rows;
    duo_cli_windows windows;
    size_t batch;
    uint64_t seed;
} compare_options;

/* A row as the user wrote it: NAME:BUDGET:SEED=CHECKPOINT[@POLICY]. */
typedef struct wanted_row {
    char name[64], checkpoint[1024], policy[96]; /* policy "": router, told the row's budget
                                                   where it reads one, or big without routers */
    size_t big;
    uint64_t seed;
} wanted_row;

typedef struct compare_run {
    const compare_options *options;
    wanted_row *rows; /* (options->rows.n) */
    duo_checkpoint *checkpoint;
    duo_model *model;
    duo_sequences sequences, there; /* the comparison's and the oracle's */
    duo_reference reference;
    duo_fixed patterns;
    uint8_t *oracle_routes; /* (there.R, there.T, L) scratch: of one number of big layers */
    double pace, pace_now;  /* tokens per second of all-big beside the first row, and at last */
    duo_comparison table;
} compare_run;

/* ---------------------------------------------------------------- options */

static duo_status not_a_row(const char *text)
{
    return duo_fail(DUO_EUSAGE, "--row: '%s' is not NAME:BUDGET:SEED=CHECKPOINT[@POLICY]", text);
}

/* The piece up to one of the delimiter, which is passed; false when it is empty or too long. */
static bool take_piece(char *piece, size_t room, const char **text, char delimiter)
{
    const char *end = strchr(*text, delimiter);
    const size_t n = end ? (size_t)(end - *text) : 0;
    if (n == 0 || n >= room) return false;
    memcpy(piece, *text, n);
    piece[n] = '\0';
    *text = end + 1;
    return true;
}

static duo_status read_row(wanted_row *row, const char *text, size_t L)
{
    char budget[32], seed[32];
    uint64_t big = 0;
    const char *rest = text;
    *row = (wanted_row){.policy = ""};
    if (!take_piece(row->name, sizeof row->name, &rest, ':') ||
        !take_piece(budget, sizeof budget, &rest, ':') ||
        !take_piece(seed, sizeof seed, &rest, '=') ||
        duo_number_u64(&big, budget) != DUO_NUMBER_OK || big > L ||
        duo_number_u64(&row->seed, seed) != DUO_NUMBER_OK || row->seed == 0)
        return not_a_row(text);
    row->big = (size_t)big;
    const char *policy = strrchr(rest, '@');
    const size_t n = policy ? (size_t)(policy - rest) : strlen(rest);
    if (n == 0 || n >= sizeof row->checkpoint || (policy && strlen(policy) > sizeof row->policy))
        return not_a_row(text);
    memcpy(row->checkpoint, rest, n);
    row->checkpoint[n] = '\0';
    if (policy) strcpy(row->policy, policy + 1);
    return DUO_OK;
}

static bool has_budget(const duo_comparison *table, size_t big)
{
    for (size_t i = 0; i < table->n_budgets; i++)
        if (table->budgets[i] == big) return true;
    return false;
}

static duo_status read_budgets(compare_run *c)
{
    const size_t L = c->table.L, n = c->options->budgets.n;
    if (n == 0 || n > L + 1)
        return duo_fail(DUO_EUSAGE, "--budget: 1 to %zu numbers of big layers are needed", L + 1);
    for (size_t i = 0; i < n; i++) {
        uint64_t big = 0;
        const char *text = c->options->budgets.text[i];
        if (duo_number_u64(&big, text) != DUO_NUMBER_OK || big > L)
            return duo_fail(DUO_EUSAGE, "--budget: '%s' is no number of big layers, 0..%zu", text,
                            L);
        if (has_budget(&c->table, (size_t)big))
            return duo_fail(DUO_EUSAGE, "--budget: %s is given twice", text);
        c->table.budgets[c->table.n_budgets++] = (size_t)big;
    }
    return DUO_OK;
}

/* ---------------------------------------------------------------- one policy */

/* The fastest batch tells the speed: others were held up by what else the machine does. */
typedef struct stopwatch {
    duo_cli_task task;
    double last, best; /* seconds; tokens per second */
    uint64_t done;
} stopwatch;

static void tick(void *context, uint64_t done, uint64_t total)
{
    stopwatch *w = context;
    const double now = duo_cli_seconds(), rate = (double)(done - w->done) / (now - w->last);
    if (rate > w->best) w->best = rate;
    w->last = now;
    w->done = done;
    duo_cli_task_progress(&w->task, done, total);
}

static duo_status run_policy(const compare_run *c, const duo_model *model,
                             const duo_sequences *sequences, const char *text, duo_trace *trace,
                             bool *router, double *tokens_per_s)
{
    duo_policy policy;
    duo_status status = duo_policy_parse(&policy, text, model);
    if (status == DUO_OK && policy.kind == DUO_POLICY_FILE)
        status = duo_fail(DUO_EUSAGE, "--row: %s: routes of a file are no policy of a model", text);
    if (status == DUO_OK)
        status = duo_trace_create(trace, sequences, model->params.config.n_layers);
    if (status != DUO_OK) return status;
    stopwatch watch = {.task = {.name = text, .unit = "tokens"}};
    watch.last = watch.task.started = duo_cli_seconds();
    status = duo_evaluate(model, sequences, &policy, c->options->seed, c->options->batch, trace,
                          tick, &watch);
    duo_cli_progress_end();
    *router = policy.kind == DUO_POLICY_ROUTER;
    if (tokens_per_s) *tokens_per_s = watch.best;
    return status;
}

/* The speed of all-big now. */
static duo_status measure_pace(const compare_run *c, double *tokens_per_s)
{
    enum { BATCHES = 4 };
    const size_t R = duo_min(c->sequences.R, BATCHES * c->options->batch);
    const duo_sequences few = duo_sequences_rows(&c->sequences, 0, R);
    duo_trace trace = {0};
    bool router = false;
    const duo_status status = run_policy(c, c->model, &few, "big", &trace, &router, tokens_per_s);
    duo_trace_free(&trace);
    return status;
}

static duo_status measure_once(const compare_run *c, duo_compared *row, const duo_model *model,
                               const duo_sequences *sequences, const char *policy)
{
    duo_trace trace = {0};
    bool router = false;
    duo_status status =
        run_policy(c, model, sequences, policy, &trace, &router, &row->tokens_per_s);
    if (status == DUO_OK)
        status = duo_compared_measure(row, &trace, sequences, &model->params.config, router);
    duo_trace_free(&trace);
    return status;
}

/* A machine's speed changes from minute to minute, and rows are run one after another: a row's is
 * told for the time in which all-big ran as beside the first row. */
static duo_status measure(compare_run *c, duo_compared *row, const duo_model *model,
                          const duo_sequences *sequences, const char *policy)
{
    double before = c->pace_now;
    duo_status status = before > 0 ? DUO_OK : measure_pace(c, &before);
    if (status == DUO_OK) status = measure_once(c, row, model, sequences, policy);
    if (status == DUO_OK) status = measure_pace(c, &c->pace_now);
    if (status != DUO_OK) return status;
    const double beside = fmax(before, c->pace_now);
    if (c->pace == 0) c->pace = beside;
    row->tokens_per_s *= c->pace / beside;
    return DUO_OK;
}

/* How far choices on the oracle's sequences are its own at one number of big layers. */
static void hold_against_oracle(const compare_run *c, duo_compared *row, const uint8_t *routes)
{
    const size_t N = c->there.R * c->there.T, L = c->table.L;
    uint8_t *oracle = c->oracle_routes;
    for (size_t i = 0; i < N; i++)
        memcpy(oracle + i * L, c->reference.oracle.routes + (i * (L + 1) + row->big) * L, L);
    duo_agree(&row->agreement, routes, oracle, N, L);
}

static duo_status run_against_oracle(const compare_run *c, duo_compared *row,
                                     const duo_model *model, const char *policy)
{
    duo_trace trace = {0};
    bool router = false;
    const duo_status status = run_policy(c, model, &c->there, policy, &trace, &router, NULL);
    if (status == DUO_OK) hold_against_oracle(c, row, trace.routes);
    duo_trace_free(&trace);
    return status;
}

/* ---------------------------------------------------------------- yardsticks */

/* What the oracle's search found at one number of big layers. */
static duo_status read_curve(const compare_run *c, duo_compared *row, const duo_route_curve *curve)
{
    const size_t N = c->there.R * c->there.T, L = c->table.L;
    duo_trace trace = {0};
    duo_status status = duo_trace_create(&trace, &c->there, L);
    for (size_t i = 0; i < N && status == DUO_OK; i++) {
        trace.loss[i] = curve->loss[i * (L + 1) + row->big];
        memcpy(trace.routes + i * L, curve->routes + (i * (L + 1) + row->big) * L, L);
        if (!isfinite(trace.loss[i]))
            status = duo_fail(DUO_EINVAL, "%s: has no route of %zu big layers", c->options->oracle,
                              row->big);
    }
    if (status == DUO_OK)
        status = duo_compared_measure(row, &trace, &c->there, &c->model->params.config, false);
    if (status == DUO_OK && curve != &c->reference.oracle)
        hold_against_oracle(c, row, trace.routes);
    duo_trace_free(&trace);
    return status;
}

/* The policy of the best fixed pattern. */
static void name_pattern(const compare_run *c, char policy[160], size_t big)
{
    const size_t L = c->table.L, length = strlen(strcpy(policy, "pattern:"));
    for (size_t l = 0; l < L; l++)
        policy[length + l] = duo_module_letter((duo_module)c->patterns.patterns[big * L + l]);
    policy[length + L] = '\0';
}

static duo_status measure_budget(compare_run *c, size_t big)
{
    duo_comparison *t = &c->table;
    char pattern[160], random[48];
    name_pattern(c, pattern, big);
    snprintf(random, sizeof random, "random:%.9g", (double)big / (double)t->L);
    t->fixed_there[big] = duo_compared_empty("best fixed", big, 0);
    t->oracle[big] = duo_compared_empty("oracle", big, 0);
    t->free[big] = duo_compared_empty("label-free", big, 0);
    duo_compared *draw = &t->rows[t->n++];
    *draw = duo_compared_empty("random", big, 0);
    duo_status status = measure(c, draw, c->model, &c->sequences, random);
    if (status == DUO_OK) status = run_against_oracle(c, draw, c->model, random);
    if (status == DUO_OK) status = run_against_oracle(c, &t->fixed[big], c->model, pattern);
    if (status == DUO_OK) status = measure(c, &t->fixed_there[big], c->model, &c->there, pattern);
    if (status == DUO_OK) status = read_curve(c, &t->oracle[big], &c->reference.oracle);
    if (status == DUO_OK) status = read_curve(c, &t->free[big], &c->reference.label_free);
    return status;
}

/* A router pays for itself and may miss its budget a little, so that it stands between two
 * patterns: all from just below the least budget on are measured. */
static duo_status measure_fixed(compare_run *c)
{
    duo_comparison *t = &c->table;
    size_t least = t->L;
    duo_status status = DUO_OK;
    for (size_t i = 0; i < t->n_budgets; i++)
        if (t->budgets[i] < least) least = t->budgets[i];
    if (least > 0) least--;
    for (size_t big = least; big <= t->L && status == DUO_OK; big++) {
        char pattern[160];
        if (big == t->L && !has_budget(t, big)) break; /* which is the row of all-big */
        name_pattern(c, pattern, big);
        t->fixed[big] = duo_compared_empty("best fixed", big, 0);
        status = measure(c, &t->fixed[big], c->model, &c->sequences, pattern);
    }
    return status;
}

static duo_status measure_yardsticks(compare_run *c)
{
    duo_comparison *t = &c->table;
    t->big = t->big_there = duo_compared_empty("all-big", t->L, 0);
    t->small = duo_compared_empty("all-small", 0, 0);
    duo_status status = duo_hindsight_measure(&t->hindsight, &c->reference, &c->there, t->L);
    if (status == DUO_OK) status = measure(c, &t->big, c->model, &c->sequences, "big");
    if (status == DUO_OK) status = measure(c, &t->big_there, c->model, &c->there, "big");
    if (status == DUO_OK) status = measure(c, &t->small, c->model, &c->sequences, "small");
    if (status == DUO_OK) status = measure_fixed(c);
    for (size_t i = 0; i < t->n_budgets && status == DUO_OK; i++)
        status = measure_budget(c, t->budgets[i]);
    return status;
}

/* ---------------------------------------------------------------- rows */

/* The policy without thresholds, if it is a router's and has any. */
static bool without_thresholds(char raw[96], const char *policy)
{
    const size_t n = strlen("router");
    if (strncmp(policy, "router", n) != 0 || strstr(policy, ":exact") || strstr(policy, ":raw"))
        return false;
    return snprintf(raw, 96, "router:raw%.80s", policy + n) < 96;
}

static duo_status measure_row(compare_run *c, const wanted_row *wanted)
{
    duo_checkpoint *checkpoint = NULL;
    duo_model *model = NULL;
    char raw[96];
    duo_compared *row = &c->table.rows[c->table.n++],
                 without = duo_compared_empty("raw", wanted->big, 1);
    *row = duo_compared_empty(wanted->name, wanted->big, wanted->seed);
    duo_status status = duo_cli_open_model(wanted->checkpoint, DUO_FP32, &checkpoint, &model);
    if (status != DUO_OK) return status;
    const duo_config *config = &model->params.config;
    const bool routers = config->router_modules != 0;
    char told[32];
    snprintf(told, sizeof told, "router:%zu", wanted->big);
    const char *policy = wanted->policy[0] ? wanted->policy
                         : duo_router_reads(config->router_inputs, DUO_INPUT_BUDGET) ? told
                         : routers                                                   ? "router"
                                                                                     : "big";
    if (config->vocab_size != c->model->params.config.vocab_size)
        status = duo_fail(DUO_EINVAL, "%s: has another vocabulary than %s", wanted->checkpoint,
                          c->options->checkpoint);
    if (status == DUO_OK) status = measure(c, row, model, &c->sequences, policy);
    if (status == DUO_OK && without_thresholds(raw, policy)) {
        status = measure_once(c, &without, model, &c->sequences, raw);
        row->raw = without.share;
    }
    if (status == DUO_OK && routers && config->n_layers == c->table.L)
        status = run_against_oracle(c, row, model, policy);
    duo_compared_free(&without);
    duo_model_free(model);
    duo_checkpoint_close(checkpoint);
    return status;
}

static duo_status check_against(const compare_run *c)
{
    const char *against = c->options->against;
    if (!against) return DUO_OK;
    for (size_t i = 0; i < c->options->rows.n; i++)
        if (strcmp(c->rows[i].name, against) == 0) return DUO_OK;
    return duo_fail(DUO_EUSAGE, "--against: no --row has the name '%s'", against);
}

/* Row i has a name, budget and seed of its own. */
static duo_status check_name(const compare_run *c, size_t i)
{
    static const char *const taken[] = {"random",     "best fixed", "oracle",
                                        "label-free", "all-big",    "all-small"};
    const wanted_row *row = &c->rows[i];
    for (size_t k = 0; k < sizeof taken / sizeof *taken; k++)
        if (strcmp(row->name, taken[k]) == 0)
            return duo_fail(DUO_EUSAGE, "--row: %s: the table has a row '%s' of its own",
                            c->options->rows.text[i], row->name);
    for (size_t k = 0; k < i; k++)
        if (strcmp(row->name, c->rows[k].name) == 0 && row->big == c->rows[k].big &&
            row->seed == c->rows[k].seed)
            return duo_fail(DUO_EUSAGE, "--row: %s:%zu:%llu is given twice", row->name, row->big,
                            (unsigned long long)row->seed);
    return DUO_OK;
}

static duo_status read_rows(compare_run *c)
{
    const duo_list *rows = &c->options->rows;
    duo_status status = DUO_OK;
    for (size_t i = 0; i < rows->n && status == DUO_OK; i++) {
        status = read_row(&c->rows[i], rows->text[i], c->table.L);
        if (status == DUO_OK && !has_budget(&c->table, c->rows[i].big))
            status = duo_fail(DUO_EUSAGE, "--row: %s: there is no --budget %zu", rows->text[i],
                              c->rows[i].big);
        if (status == DUO_OK) status = check_name(c, i);
    }
    return status == DUO_OK ? check_against(c) : status;
}

static duo_status measure_rows(compare_run *c)
{
    duo_status status = measure_yardsticks(c);
    for (size_t i = 0; i < c->options->rows.n && status == DUO_OK; i++)
        status = measure_row(c, &c->rows[i]);
    return status;
}

/* ---------------------------------------------------------------- all */

static duo_status create_table(compare_run *c)
{
    duo_comparison *t = &c->table;
    t->against = c->options->against ? c->options->against : "plain";
    t->rows = calloc(t->n_budgets + c->options->rows.n, sizeof *t->rows);
    t->fixed = calloc(4 * (t->L + 1), sizeof *t->fixed);
    c->rows = calloc(c->options->rows.n + 1, sizeof *c->rows);
    if (!t->rows || !t->fixed || !c->rows) return duo_fail(DUO_ENOMEM, "no memory for the table");
    t->fixed_there = t->fixed + t->L + 1;
    t->oracle = t->fixed + 2 * (t->L + 1);
    t->free = t->fixed + 3 * (t->L + 1);
    return DUO_OK;
}

static duo_status open_all(compare_run *c)
{
    const compare_options *o = c->options;
    duo_status status = duo_cli_check_output(o->output, DUO_CLI_TEXT, NULL);
    if (status == DUO_OK) status = duo_cli_check_output(o->by_layer, DUO_CLI_TEXT, NULL);
    if (status == DUO_OK)
        status = duo_cli_open_model(o->checkpoint, DUO_FP32, &c->checkpoint, &c->model);
    if (status != DUO_OK) return status;
    c->table.L = c->model->params.config.n_layers;
    status = read_budgets(c);
    if (status == DUO_OK) status = create_table(c);
    if (status == DUO_OK) status = read_rows(c);
    if (status == DUO_OK)
        status = duo_reference_read(o->oracle, c->model, duo_model_hash(c->model), &c->there,
                                    &c->reference, &c->patterns);
    if (status == DUO_OK) {
        c->oracle_routes = malloc(c->there.R * c->there.T * c->table.L);
        if (!c->oracle_routes) status = duo_fail(DUO_ENOMEM, "no memory for the oracle's routes");
    }
    if (status == DUO_OK)
        status = duo_cli_cut_windows(&c->sequences, NULL, &o->windows, DUO_HELD_OUT, c->checkpoint);
    return status;
}

static void close_all(compare_run *c)
{
    duo_comparison *t = &c->table;
    for (size_t i = 0; i < t->n; i++) duo_compared_free(&t->rows[i]);
    for (size_t i = 0; t->fixed && i < 4 * (t->L + 1); i++) duo_compared_free(&t->fixed[i]);
    duo_compared_free(&t->big);
    duo_compared_free(&t->big_there);
    duo_compared_free(&t->small);
    duo_hindsight_free(&t->hindsight);
    free(t->rows);
    free(t->fixed);
    free(c->rows);
    free(c->oracle_routes);
    duo_fixed_free(&c->patterns);
    duo_reference_free(&c->reference);
    duo_sequences_free(&c->there);
    duo_sequences_free(&c->sequences);
    duo_model_free(c->model);
    duo_checkpoint_close(c->checkpoint);
}

static duo_status compare(const compare_options *options, int argc, char **argv)
{
    compare_run c = {.options = options};
    duo_status status = open_all(&c);
    if (status == DUO_OK) status = measure_rows(&c);
    if (status == DUO_OK) status = duo_comparison_print(&c.table);
    if (status == DUO_OK && options->output)
        status = duo_comparison_write(&c.table, options->output, false, argc, argv);
    if (status == DUO_OK && options->by_layer)
        status = duo_comparison_write(&c.table, options->by_layer, true, argc, argv);
    close_all(&c);
    return status;
}

duo_status duo_cli_compare(int argc, char **argv)
{
    compare_options o = {.windows.n = 256, .batch = 8, .seed = 1};
    bool help = false;
    const duo_positional positionals[] = {
        {"CHECKPOINT", "the model whose routers are compared, without them", &o.checkpoint, NULL,
         false},
    };
    const duo_option options[] = {
        {"--oracle", "FILE", "what duo oracle CHECKPOINT --compare --output FILE wrote (needed)",
         DUO_OPTION_TEXT, &o.oracle, 0, 0},
        {"--budget", "K", "big layers per token; repeatable (needed)", DUO_OPTION_REPEATED,
         &o.budgets, 0, 0},
        {"--row", "NAME:BUDGET:SEED=CHECKPOINT[@POLICY]",
         "a checkpoint under a policy (default: its router, told BUDGET where it reads one, or "
         "big), trained for the budget K; "
         "rows of one name and budget are seeds of one another; repeatable",
         DUO_OPTION_REPEATED, &o.rows, 0, 0},
        {"--against", "NAME", "rows that all others are held against (default plain)",
         DUO_OPTION_TEXT, &o.against, 0, 0},
        {"--windows", "N", "held-out windows, spread evenly (default 256)", DUO_OPTION_SIZE,
         &o.windows.n, 2, 1e9},
        {"--seq-len", "T", "tokens of a window (default: all that the model sees)", DUO_OPTION_SIZE,
         &o.windows.T, 1, 1e9},
        {"--tokens", "FILE", "token file (default: that of the checkpoint's recipe)",
         DUO_OPTION_TEXT, &o.windows.tokens, 0, 0},
        {"--domain", "NAME", "of the token file (default: all)", DUO_OPTION_TEXT, &o.windows.domain,
         0, 0},
        {"--rows", "N", "windows run at a time (default 8)", DUO_OPTION_SIZE, &o.batch, 1, 1e6},
        {"--seed", "S", "of random policies (default 1)", DUO_OPTION_U64, &o.seed, 0, 0},
        {"--output", "FILE", "write all rows tab-separated", DUO_OPTION_TEXT, &o.output, 0, 0},
        {"--by-layer", "FILE",
         "the same by layer: share of big, agreement with the oracle's choices, macro-F1",
         DUO_OPTION_TEXT, &o.by_layer, 0, 0},
    };
    const duo_command command = {
        .name = "compare",
        .description =
            "Hold routers against each other, against fixed and random routes, and against an\n"
            "oracle with and without its hindsight: losses on the same held-out text, differences\n"
            "at equal budgets and at equal FLOPs with standard errors over sequences and seeds,\n"
            "shares, FLOPs and speed, in one table.",
        .example = "duo compare checkpoints/paper-mini/stage-duo.h5 --oracle oracle.h5 --budget 6 "
                   "--row plain:6:1=checkpoints/plain-6/stage-router.h5",
        .positionals = positionals,
        .n_positionals = sizeof positionals / sizeof *positionals,
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    duo_status status = duo_options_parse(&command, argc, argv, &help);
    if (status == DUO_OK && !help) {
        if (!o.oracle) {
            status = duo_fail(DUO_EUSAGE, "--oracle is missing; see duo compare --help");
        } else if (o.output && o.by_layer && strcmp(o.output, o.by_layer) == 0) {
            status = duo_fail(DUO_EUSAGE, "--output and --by-layer name one file");
        } else {
            status = duo_kernels_start(0);
            if (status == DUO_OK) status = compare(&o, argc, argv);
            duo_kernels_stop();
        }
    }
    duo_options_free(&command);
    return status;
}
