#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "duo/file.h"
#include "duo/kernels.h"
#include "duo/result.h"
#include "eval_choices.h"
#include "eval_routes.h"
#include "options.h"
#include "summary.h"
#include "windows.h"

typedef struct eval_options {
    const char *checkpoint, *routes_out, *usage, *json, *choices, *precision;
    duo_cli_windows windows;
    duo_list policies;
    size_t rows;
    uint64_t seed;
    bool layers, by_domain;
} eval_options;

/* One row of the table. */
typedef struct measured {
    duo_policy policy;
    duo_trace_summary summary;
    double tokens_per_s;
} measured;

typedef struct evaluation {
    const eval_options *options;
    duo_checkpoint *checkpoint;
    duo_model *model;
    duo_hash hash;           /* of the model */
    duo_cli_windows windows; /* the text of this table */
    duo_hash tokens;         /* the token file; zero: the sequences are not of one */
    duo_sequences sequences;
    size_t n, tables;   /* policies; tables that were made before this one */
    measured *measured; /* (n) */
    duo_results results;
    duo_text_file json;
} evaluation;

/* ---------------------------------------------------------------- policies and sequences */

/* The routes whose sequences are measured, and that all others are held against: those of the first
 * file; n when there is none. */
static size_t reference_of(const evaluation *e)
{
    size_t i = 0;
    while (i < e->n && e->measured[i].policy.kind != DUO_POLICY_FILE) i++;
    return i;
}

static bool chooses_text(const eval_options *o)
{
    return o->windows.text || o->windows.domain || o->by_domain;
}

/* Files of results tell policies apart by their names; nothing is measured twice. */
static duo_status check_names(const evaluation *e, const duo_list *wanted)
{
    const char *output = e->options->routes_out ? e->options->routes_out : e->options->usage;
    char name[64], other[64];
    for (size_t i = 0; i < e->n; i++)
        for (size_t k = 0; k < i; k++) {
            const duo_policy *a = &e->measured[i].policy, *b = &e->measured[k].policy;
            duo_cli_policy_group(name, a);
            duo_cli_policy_group(other, b);
            if (strcmp(wanted->text[i], wanted->text[k]) == 0)
                return duo_fail(DUO_EUSAGE, "--policy: %s is given twice", wanted->text[i]);
            if (a->kind == DUO_POLICY_ROUTER && strcmp(a->name, b->name) == 0)
                return duo_fail(DUO_EUSAGE, "--policy: %s and %s are both %s", wanted->text[k],
                                wanted->text[i], a->name);
            if (output && strcmp(name, other) == 0)
                return duo_fail(DUO_EUSAGE, "--policy: %s and %s would both be %s in %s",
                                wanted->text[k], wanted->text[i], name, output);
        }
    return DUO_OK;
}

static duo_status parse_policies(evaluation *e)
{
    const char *const otherwise[] = {"small", "random:0.5", "big", "router"};
    const bool routers = e->model->params.config.router_modules != 0;
    duo_list wanted = e->options->policies;
    if (wanted.n == 0) wanted = (duo_list){otherwise, routers ? 4 : 3};
    e->measured = calloc(wanted.n, sizeof *e->measured);
    if (!e->measured) return duo_fail(DUO_ENOMEM, "no memory for %zu policies", wanted.n);
    e->n = wanted.n;
    duo_status status = DUO_OK;
    for (size_t i = 0; i < e->n && status == DUO_OK; i++)
        status = duo_policy_parse(&e->measured[i].policy, wanted.text[i], e->model);
    if (status == DUO_OK) status = check_names(e, &wanted);
    if (status == DUO_OK && reference_of(e) < e->n && chooses_text(e->options))
        return duo_fail(DUO_EUSAGE, "--policy %s: has a text of its own, no other can be given",
                        e->measured[reference_of(e)].policy.name);
    return status;
}

/* Routes of the language model in this one before it got routers, on which what a route computes
 * does not depend, or of this model: whose message stands when it is neither. */
static duo_status read_routes(const evaluation *e, const char *path, duo_sequences *sequences,
                              duo_trace *trace)
{
    const duo_hash language = duo_model_hash_without_routers(e->model);
    if (e->model->params.config.router_modules != 0 &&
        duo_routes_read(path, e->model, language, sequences, trace) == DUO_OK)
        return DUO_OK;
    return duo_routes_read(path, e->model, e->hash, sequences, trace);
}

static duo_status sequences_of_file(evaluation *e, const char *path)
{
    duo_trace recorded;
    duo_tokenizer *tokenizer = NULL;
    duo_status status = duo_checkpoint_open_tokenizer(e->checkpoint, &tokenizer);
    if (status == DUO_OK) status = read_routes(e, path, &e->sequences, &recorded);
    if (status == DUO_OK) {
        duo_sequences_count_bytes(&e->sequences, tokenizer);
        duo_trace_free(&recorded);
        printf("all policies run on the %zu sequences of %zu tokens of %s\n", e->sequences.R,
               e->sequences.T, path);
    }
    duo_tokenizer_free(tokenizer);
    return status;
}

static duo_status open_sequences(evaluation *e)
{
    const size_t first = reference_of(e);
    if (first < e->n) return sequences_of_file(e, e->measured[first].policy.path);
    return duo_cli_cut_windows(&e->sequences, &e->tokens, &e->windows, DUO_HELD_OUT, e->checkpoint);
}

/* ---------------------------------------------------------------- one policy */

/* The routes of a file, which must be those of the sequences that are measured. */
static duo_status read_trace(const evaluation *e, const char *path, duo_trace *trace)
{
    const duo_sequences *here = &e->sequences;
    duo_sequences there;
    duo_status status = read_routes(e, path, &there, trace);
    if (status != DUO_OK) return status;
    if (there.R != here->R || there.T != here->T ||
        memcmp(there.tokens, here->tokens, here->R * (here->T + 1) * sizeof *here->tokens) != 0)
        status = duo_fail(DUO_EINVAL, "%s: holds other sequences than the first routes file", path);
    duo_sequences_free(&there);
    return status;
}

static duo_status measure(evaluation *e, size_t i)
{
    const duo_config *config = &e->model->params.config;
    measured *m = &e->measured[i];
    duo_named_trace *named = &e->results.policies[i];
    duo_cli_task task = {.name = m->policy.name, .unit = "tokens"};
    duo_status status = DUO_OK;
    duo_cli_policy_group(named->name, &m->policy);
    if (m->policy.kind == DUO_POLICY_FILE) {
        duo_trace_free(&named->trace);
        status = read_trace(e, m->policy.path, &named->trace);
    }
    if (status != DUO_OK) return status;
    task.started = duo_cli_seconds();
    status = duo_evaluate(e->model, &e->sequences, &m->policy, e->options->seed, e->options->rows,
                          &named->trace, duo_cli_task_progress, &task);
    duo_cli_progress_end();
    if (status != DUO_OK) return status;
    m->tokens_per_s =
        (double)(e->sequences.R * e->sequences.T) / (duo_cli_seconds() - task.started);
    return duo_trace_summarize(&m->summary, &named->trace, &e->sequences, config,
                               m->policy.kind == DUO_POLICY_ROUTER);
}

static duo_status measure_all(evaluation *e)
{
    duo_status status =
        duo_results_create(&e->results, &e->sequences, e->model->params.config.n_layers, e->n, 0);
    for (size_t i = 0; i < e->n && status == DUO_OK; i++) status = measure(e, i);
    e->results.done = e->sequences.R;
    return status;
}

static duo_status write_routes(const evaluation *e)
{
    duo_module_set modules = 0;
    for (size_t i = 0; i < e->n; i++)
        for (duo_module m = 0; m < DUO_MODULES; m++)
            if (e->measured[i].summary.share[m] > 0) modules |= 1u << m;
    duo_routes_origin origin = {.policy = e->results.policies[0].name,
                                .budget = "none",
                                .context = "committed",
                                .modules = modules,
                                .model = e->hash,
                                .tokens = e->tokens,
                                .seed = e->options->seed};
    if (e->model->params.config.router_modules != 0)
        origin.language = duo_model_hash_without_routers(e->model);
    return duo_results_write(e->options->routes_out, &e->results, &origin);
}

/* ---------------------------------------------------------------- results */

static void print_table(const evaluation *e)
{
    int width = (int)strlen("policy");
    for (size_t i = 0; i < e->n; i++) {
        const int length = (int)strlen(e->measured[i].policy.name);
        if (length > width) width = length;
    }
    printf("%-*s  %-18s %10s %9s %6s %6s %6s %12s %9s\n", width, "policy", "loss, nats",
           "perplexity", "bits/byte", "big", "small", "skip", "MFLOP/token", "tokens/s");
    for (size_t i = 0; i < e->n; i++) {
        const measured *r = &e->measured[i];
        const duo_trace_summary *s = &r->summary;
        char loss[48], bits[16] = "unknown";
        if (!isnan(s->bits_per_byte)) snprintf(bits, sizeof bits, "%.4f", s->bits_per_byte);
        printf("%-*s  %-18s %10.3f %9s %5.1f%% %5.1f%% %5.1f%% %12.3f %9.0f\n", width,
               r->policy.name, duo_cli_loss_text(loss, s), s->perplexity, bits,
               100 * s->share[DUO_BIG], 100 * s->share[DUO_SMALL], 100 * s->share[DUO_SKIP],
               s->flops / 1e6, r->tokens_per_s);
    }
}

static bool agree(const evaluation *e, size_t i, duo_agreement *agreement)
{
    const size_t reference = reference_of(e);
    if (reference == e->n || i == reference) return false;
    duo_agree(agreement, e->results.policies[i].trace.routes,
              e->results.policies[reference].trace.routes, e->sequences.R * e->sequences.T,
              e->results.L);
    return true;
}

static void print_agreement(const evaluation *e)
{
    duo_agreement agreement;
    for (size_t i = 0; i < e->n; i++)
        if (agree(e, i, &agreement))
            printf("%s agrees with %s in %.1f%% of its choices, macro-F1 by layer %.3f\n",
                   e->measured[i].policy.name, e->measured[reference_of(e)].policy.name,
                   100 * agreement.accuracy, agreement.macro_f1);
}

static void write_object(FILE *out, const evaluation *e, size_t i)
{
    const measured *r = &e->measured[i];
    const duo_trace_summary *s = &r->summary;
    duo_agreement agreement;
    char hash[33];
    fputs("{\"policy\":", out);
    duo_cli_json_text(out, r->policy.name);
    putc(',', out);
    duo_cli_json_model(out, e->checkpoint, e->model);
    fprintf(out, ",\"tokens_hash\":\"%s\",\"domain\":", duo_hash_text(hash, e->tokens));
    duo_cli_json_text(out, e->windows.domain);
    fputs(",\"text\":", out);
    duo_cli_json_text(out, e->windows.text);
    fprintf(out, ",\"sequences\":%zu,\"positions\":%zu", e->sequences.R, e->sequences.T);
    const struct {
        const char *key;
        double value;
    } numbers[] = {
        {"loss", s->loss},
        {"loss_error", s->loss_error},
        {"perplexity", s->perplexity},
        {"bits_per_byte", s->bits_per_byte},
        {"flops_per_token", s->flops},
        {"tokens_per_s", r->tokens_per_s},
    };
    for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++) {
        putc(',', out);
        duo_cli_json_number(out, numbers[k].key, numbers[k].value);
    }
    duo_cli_json_usage(out, s, e->model->params.config.n_layers);
    if (agree(e, i, &agreement)) duo_cli_json_agreement(out, &agreement, e->results.L);
    fputs("}\n", out);
}

/* Table after table; the file is there when all are. */
static duo_status write_json(evaluation *e)
{
    if (e->tables == 0) {
        const duo_status status = duo_text_file_begin(&e->json, e->options->json);
        if (status != DUO_OK) return status;
    }
    for (size_t i = 0; i < e->n; i++) write_object(e->json.out, e, i);
    return DUO_OK;
}

static duo_status answer_choices(const evaluation *e)
{
    const eval_options *o = e->options;
    const duo_policy **policies = calloc(e->n, sizeof *policies);
    if (!policies) return duo_fail(DUO_ENOMEM, "no memory for %zu policies", e->n);
    for (size_t i = 0; i < e->n; i++) policies[i] = &e->measured[i].policy;
    const duo_status status = duo_cli_answer_choices(o->choices, e->checkpoint, e->model, policies,
                                                     e->n, o->seed, o->rows, o->json);
    free(policies);
    return status;
}

/* Routes that are read are not replaced. */
static duo_status spare_inputs(const evaluation *e)
{
    duo_status status = DUO_OK;
    for (size_t i = 0; i < e->n && status == DUO_OK; i++) {
        const duo_policy *policy = &e->measured[i].policy;
        char path[2 * DUO_PATH_MAX];
        if (policy->kind != DUO_POLICY_FILE) continue;
        snprintf(path, sizeof path, "%.*s", (int)duo_routes_path_length(policy->path),
                 policy->path);
        status = duo_cli_check_output(e->options->routes_out, DUO_KIND_ROUTES, path);
    }
    return status;
}

/* ---------------------------------------------------------------- texts */

/* Measure e->windows under all policies: a table. */
static duo_status measure_text(evaluation *e)
{
    duo_status status = open_sequences(e);
    if (status == DUO_OK) status = measure_all(e);
    if (status != DUO_OK) return status;
    print_table(e);
    for (size_t i = 0; i < e->n && e->options->layers; i++) {
        printf("%s\n", e->measured[i].policy.name);
        duo_cli_print_layers(&e->measured[i].summary, e->model->params.config.n_layers);
    }
    print_agreement(e);
    return e->options->json ? write_json(e) : DUO_OK;
}

static void forget_text(evaluation *e)
{
    for (size_t i = 0; i < e->n; i++) duo_trace_summary_free(&e->measured[i].summary);
    duo_results_free(&e->results);
    duo_sequences_free(&e->sequences);
}

static duo_status measure_domains(evaluation *e)
{
    duo_tokens *tokens = NULL;
    duo_status status = duo_cli_open_tokens(e->windows.tokens, e->checkpoint, &tokens);
    const size_t T = e->windows.T > 0 ? e->windows.T : e->model->params.config.max_seq;
    for (size_t i = 0; status == DUO_OK && i < duo_tokens_domains(tokens); i++) /* before output */
        if (duo_tokens_windows(tokens, DUO_HELD_OUT, (int)i, T) == 0)
            status = duo_fail(DUO_EINVAL, "%s: domain %s holds no held-out window of %zu tokens",
                              duo_tokens_path(tokens), duo_tokens_domain_name(tokens, i), T + 1);
    for (size_t i = 0; status == DUO_OK && i < duo_tokens_domains(tokens); i++) {
        forget_text(e);
        if (e->tables > 0) putchar('\n');
        e->windows.domain = duo_tokens_domain_name(tokens, i);
        status = measure_text(e);
        e->tables++;
    }
    duo_tokens_close(tokens);
    return status;
}

static duo_status evaluate(const eval_options *options)
{
    evaluation e = {.options = options, .windows = options->windows};
    duo_precision precision = DUO_FP32;
    duo_status status = duo_cli_precision(&precision, options->precision);
    if (status == DUO_OK)
        status = duo_cli_check_output(options->json, DUO_CLI_TEXT,
                                      options->choices ? options->choices : options->windows.text);
    if (status == DUO_OK) status = duo_cli_check_output(options->routes_out, DUO_KIND_ROUTES, NULL);
    if (status == DUO_OK)
        status = duo_cli_check_output(options->usage, DUO_CLI_TEXT, options->windows.text);
    if (status == DUO_OK)
        status = duo_cli_open_model(options->checkpoint, precision, &e.checkpoint, &e.model);
    if (status != DUO_OK) return status;
    e.hash = duo_model_hash(e.model);
    if ((status = parse_policies(&e)) != DUO_OK) goto done;
    if ((status = spare_inputs(&e)) != DUO_OK) goto done;
    if (options->choices) {
        status = answer_choices(&e);
        goto done;
    }
    status =
        duo_text_file_end(&e.json, options->by_domain ? measure_domains(&e) : measure_text(&e));
    if (status == DUO_OK && options->usage)
        status = duo_cli_write_usage(options->usage, &e.results);
    if (status == DUO_OK && options->routes_out) status = write_routes(&e);

done:
    forget_text(&e);
    free(e.measured);
    duo_model_free(e.model);
    duo_checkpoint_close(e.checkpoint);
    return status;
}

duo_status duo_cli_eval(int argc, char **argv)
{
    eval_options o = {.precision = "fp32", .windows.n = 64, .rows = 8, .seed = 1};
    bool help = false;
    const duo_positional positionals[] = {
        {"CHECKPOINT", "a checkpoint, or a run folder for its latest one", &o.checkpoint, NULL,
         false},
    };
    const duo_option options[] = {
        {"--policy", "P",
         "small, big, skip, random:SHARE, pattern:BSB-, router, file:ROUTES[#NAME]; routers also "
         "router:K (told a budget; else half of the layers), router:raw[:K] (not calibrated), "
         "router:exact:K (K big layers for every token, by the thresholds of K where routers are "
         "told it, else by those that duo calibrate --budget has set); repeatable",
         DUO_OPTION_REPEATED, &o.policies, 0, 0},
        {"--tokens", "FILE", "token file (default: that of the checkpoint's recipe)",
         DUO_OPTION_TEXT, &o.windows.tokens, 0, 0},
        {"--domain", "NAME", "of the token file (default: all)", DUO_OPTION_TEXT, &o.windows.domain,
         0, 0},
        {"--by-domain", NULL, "a table for every domain", DUO_OPTION_FLAG, &o.by_domain, 0, 0},
        {"--text", "FILE", "a plain text instead of a token file", DUO_OPTION_TEXT, &o.windows.text,
         0, 0},
        {"--windows", "N", "windows, held out or of a text, spread evenly (default 64)",
         DUO_OPTION_SIZE, &o.windows.n, 1, 1e9},
        {"--seq-len", "T",
         "tokens of a window (default: all that the model sees; of a text, equal parts)",
         DUO_OPTION_SIZE, &o.windows.T, 1, 1e9},
        {"--precision", "P", "of the operands of matrix products: fp32 or bf16 (default fp32)",
         DUO_OPTION_TEXT, &o.precision, 0, 0},
        {"--seed", "S", "of random policies (default 1)", DUO_OPTION_U64, &o.seed, 0, 0},
        {"--rows", "N", "windows run at a time (default 8)", DUO_OPTION_SIZE, &o.rows, 1, 1e6},
        {"--choices", "FILE", "answer the multiple choices of this JSONL file instead",
         DUO_OPTION_TEXT, &o.choices, 0, 0},
        {"--layers", NULL, "also print the share of each module per layer", DUO_OPTION_FLAG,
         &o.layers, 0, 0},
        {"--routes-out", "FILE", "write routes and losses of all policies", DUO_OPTION_TEXT,
         &o.routes_out, 0, 0},
        {"--usage", "FILE", "write the share of each module by layer and position, tab-separated",
         DUO_OPTION_TEXT, &o.usage, 0, 0},
        {"--json", "FILE", "write the results as JSON, a line per policy", DUO_OPTION_TEXT, &o.json,
         0, 0},
    };
    const duo_option_pair excludes[] = {
        {"--text", "--tokens"},        {"--text", "--domain"},     {"--text", "--by-domain"},
        {"--choices", "--text"},       {"--choices", "--tokens"},  {"--choices", "--domain"},
        {"--choices", "--by-domain"},  {"--choices", "--windows"}, {"--choices", "--seq-len"},
        {"--choices", "--routes-out"}, {"--choices", "--usage"},   {"--choices", "--layers"},
        {"--by-domain", "--domain"},   {"--by-domain", "--usage"}, {"--by-domain", "--routes-out"},
    };
    const duo_command command = {
        .name = "eval",
        .description =
            "Measure a model on held-out text under routing policies: loss, perplexity, shares,\n"
            "FLOPs. Without --policy: small, random:0.5, big, and router where there is one. With\n"
            "a file:ROUTES all policies run on the sequences of that file, and their choices are\n"
            "held against it. --choices takes lines of\n"
            "{\"context\":C,\"choices\":[S,..],\"answer\":0}, of HellaSwag and of ARC.",
        .example = "duo eval checkpoints/quickstart --policy big --policy pattern:BSSSSSSB",
        .positionals = positionals,
        .n_positionals = sizeof positionals / sizeof *positionals,
        .options = options,
        .n_options = sizeof options / sizeof *options,
        .excludes = excludes,
        .n_excludes = sizeof excludes / sizeof *excludes,
    };
    duo_status status = duo_options_parse(&command, argc, argv, &help);
    if (status == DUO_OK && !help) {
        status = duo_kernels_start(0);
        if (status == DUO_OK) status = evaluate(&o);
        duo_kernels_stop();
    }
    duo_options_free(&command);
    return status;
}
