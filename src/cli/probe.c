#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "duo/kernels.h"
#include "duo/number.h"
#include "duo/result.h"
#include "duo/rng.h"
#include "options.h"

enum { PROBE_VERSION = 1 };

typedef struct probe_options {
    const char *checkpoint, *output, *routes, *tokens;
    size_t rows, seq_len;
    uint64_t seed;
    bool random_tokens, gradients, logits, gumbel, hard;
    double tau, alpha, target[DUO_MODULES];
} probe_options;

/* One forward and, if wanted, backward pass over a few sequences, and all that it gives. */
typedef struct probe {
    const probe_options *options;
    const duo_model *model;
    size_t L, M;
    duo_sequences sequences;
    duo_trace given; /* routes of a file */
    duo_policy policy;
    duo_routing routing;
    duo_arena arena;
    duo_pass *pass;
    duo_tree gradient;
    uint8_t *routes;
    float *noise, *loss, *logits;
} probe;

/* ---------------------------------------------------------------- what to run */

/* "random:SKIP,SMALL,BIG": the shares of all three modules. */
static duo_status parse_shares(duo_policy *policy, const char *shares)
{
    char part[64];
    double sum = 0;
    *policy = (duo_policy){.name = "random", .kind = DUO_POLICY_RANDOM};
    for (size_t m = 0; m < DUO_MODULES; m++) {
        const size_t n = strcspn(shares, ",");
        const bool last = shares[n] == '\0';
        snprintf(part, sizeof part, "%.*s", (int)n, shares);
        if (n >= sizeof part || last != (m + 1 == DUO_MODULES) ||
            duo_number_real(&policy->p[m], part) != DUO_NUMBER_OK || policy->p[m] < 0)
            return duo_fail(DUO_EUSAGE, "--routes random: takes three shares, SKIP,SMALL,BIG");
        sum += policy->p[m];
        shares += n + 1;
    }
    if (fabs(sum - 1) < 1e-6) return DUO_OK;
    return duo_fail(DUO_EUSAGE, "--routes random: the shares sum to %g, not to 1", sum);
}

static bool chooses_tokens(const probe_options *o)
{
    return o->tokens || o->random_tokens || o->seq_len > 0;
}

static duo_status parse_routes(probe *p)
{
    const char *text = p->options->routes ? p->options->routes : "random:0.3,0.3,0.4";
    if (strncmp(text, "random:", 7) == 0 && strchr(text, ','))
        return parse_shares(&p->policy, text + 7);
    const duo_status status = duo_policy_parse(&p->policy, text, p->model);
    if (status == DUO_OK && p->policy.kind == DUO_POLICY_FILE && chooses_tokens(p->options))
        return duo_fail(DUO_EUSAGE, "--routes %s: has a text of its own, no other can be given",
                        text);
    return status;
}

static duo_status check_options(const probe_options *o, const duo_config *config)
{
    bool targets = false;
    if (o->gumbel && config->router_modules == 0)
        return duo_fail(DUO_EINVAL, "%s: has no routers, which --gumbel needs", o->checkpoint);
    for (duo_module m = 0; m < DUO_MODULES; m++) {
        if (o->target[m] < 0) continue;
        targets = true;
        if (o->gumbel && !duo_module_in(config->router_modules, m))
            return duo_fail(DUO_EUSAGE, "--target-%s: the routers of %s do not choose %s",
                            duo_module_name(m), o->checkpoint, duo_module_name(m));
    }
    if (!o->gumbel && (targets || o->hard))
        return duo_fail(DUO_EUSAGE, "--hard and --target-MODULE need --gumbel");
    if (o->seq_len > config->max_seq)
        return duo_fail(DUO_EINVAL, "%s: sees %zu positions, --seq-len is %zu", o->checkpoint,
                        config->max_seq, o->seq_len);
    return DUO_OK;
}

static duo_status random_sequences(probe *p)
{
    const probe_options *o = p->options;
    const size_t V = p->model->params.config.vocab_size, width = o->seq_len + 1;
    p->sequences = (duo_sequences){.R = o->rows, .T = o->seq_len};
    p->sequences.tokens = malloc(o->rows * width * sizeof *p->sequences.tokens);
    if (!p->sequences.tokens) return duo_fail(DUO_ENOMEM, "no memory for the tokens");
    for (size_t i = 0; i < o->rows * width; i++) {
        const duo_place place = {.row = (uint32_t)(i / width), .position = (uint32_t)(i % width)};
        p->sequences.tokens[i] = (int32_t)(duo_random(o->seed, DUO_RNG_SAMPLE, place).word[0] % V);
    }
    return DUO_OK;
}

static duo_status choose_sequences(probe *p, const duo_checkpoint *checkpoint)
{
    const probe_options *o = p->options;
    if (p->policy.kind == DUO_POLICY_FILE) {
        const duo_status status = duo_routes_read(
            p->policy.path, p->model, duo_model_hash(p->model), &p->sequences, &p->given);
        if (p->sequences.R > o->rows) p->sequences.R = o->rows;
        return status;
    }
    if (o->random_tokens) return random_sequences(p);
    duo_tokens *tokens = NULL;
    duo_status status = duo_cli_open_tokens(o->tokens, checkpoint, &tokens);
    if (status == DUO_OK)
        status = duo_sequences_spread(&p->sequences, tokens, DUO_HELD_OUT, -1, o->rows, o->seq_len);
    duo_tokens_close(tokens);
    return status;
}

/* ---------------------------------------------------------------- running */

static void lay_out(probe *p, duo_arena *arena)
{
    const probe_options *o = p->options;
    const duo_params *params = &p->model->params;
    const size_t B = p->sequences.R, T = p->sequences.T, N = B * T;
    const duo_pass_shape shape = {.B = B, .T = T, .backward = o->gradients, .gumbel = o->gumbel};
    p->pass = duo_pass_take(params, shape, arena);
    if (o->gradients) duo_tree_take(&p->gradient, params, DUO_ALL_GROUPS, arena);
    p->routes = DUO_TAKE(arena, uint8_t, N * p->L);
    if (o->gumbel) p->noise = DUO_TAKE(arena, float, N * p->L * p->M);
    p->loss = DUO_TAKE(arena, float, N);
    if (o->logits) p->logits = DUO_TAKE(arena, float, N * params->config.vocab_size);
}

static void choose_routing(probe *p)
{
    const probe_options *o = p->options;
    const size_t B = p->sequences.R, T = p->sequences.T;
    p->routing = (duo_routing){.kind = DUO_ROUTING_GIVEN, .routes = p->routes};
    if (o->gumbel) {
        p->routing.kind = DUO_ROUTING_GUMBEL;
        p->routing.noise = p->noise;
        p->routing.tau = (float)o->tau;
        p->routing.straight_through = o->hard;
        p->routing.loss.alpha = o->alpha;
        memcpy(p->routing.loss.target, o->target, sizeof o->target);
        duo_gumbel_fill(p->noise, B, T, p->L, p->M, o->seed, 0, 0);
        return;
    }
    switch (p->policy.kind) {
    case DUO_POLICY_PATTERN:
        duo_routes_repeat(p->routes, B * T, p->L, p->policy.pattern);
        break;
    case DUO_POLICY_RANDOM:
        duo_routes_random(p->routes, B, T, p->L, p->policy.p, o->seed, 0, 0);
        break;
    case DUO_POLICY_ROUTER:
        p->routing.kind = DUO_ROUTING_ROUTER;
        p->routing.rule = &p->policy.rule;
        break;
    case DUO_POLICY_FILE:
        memcpy(p->routes, p->given.routes, B * T * p->L);
        break;
    }
}

static duo_status run(probe *p)
{
    const probe_options *o = p->options;
    const float B = (float)p->sequences.R, N = B * (float)p->sequences.T;
    duo_arena measure = DUO_ARENA_MEASURE;
    lay_out(p, &measure);
    const duo_status status = duo_arena_create(&p->arena, measure.used, "probe");
    if (status != DUO_OK) return status;
    lay_out(p, &p->arena);
    choose_routing(p);
    duo_pass_forward(p->pass, p->model, p->sequences.tokens, &p->routing);
    if (o->logits) duo_pass_logits(p->pass, p->model, p->logits);
    duo_pass_loss(p->pass, p->model, p->loss, o->gradients ? &p->gradient : NULL, 1 / N);
    if (o->gradients) duo_pass_backward(p->pass, p->model, &p->routing, &p->gradient, 1.0f / B);
    return DUO_OK;
}

/* ---------------------------------------------------------------- writing */

static duo_status write_noise(const probe *p, duo_store_writer *file)
{
    const probe_options *o = p->options;
    const duo_shape shape = {4, {p->sequences.R, p->sequences.T, p->L, p->M}};
    duo_status status = duo_store_write(file, "/gumbel", DUO_F32, shape, p->noise);
    if (status == DUO_OK)
        status = duo_store_set_f64(file, "/gumbel", "tau", (double)p->routing.tau);
    if (status == DUO_OK) status = duo_store_set_u64(file, "/gumbel", "hard", o->hard);
    if (status == DUO_OK) status = duo_store_set_f64(file, "/gumbel", "alpha", o->alpha);
    for (duo_module m = 0; m < DUO_MODULES && status == DUO_OK; m++) {
        char name[16];
        snprintf(name, sizeof name, "target_%s", duo_module_name(m));
        if (o->target[m] >= 0) status = duo_store_set_f64(file, "/gumbel", name, o->target[m]);
    }
    return status;
}

static duo_status write_gradients(const probe *p, duo_store_writer *file)
{
    const duo_params *params = &p->model->params;
    duo_status status = DUO_OK;
    for (size_t i = 0; i < params->n && status == DUO_OK; i++) {
        const duo_param *param = &params->table[i];
        if (param->group == DUO_GROUP_ROUTER && !p->options->gumbel) continue;
        char name[sizeof "/gradients/" + sizeof param->name];
        snprintf(name, sizeof name, "/gradients/%s", param->name);
        const duo_shape shape = {param->rank, {param->shape[0], param->shape[1]}};
        status = duo_store_write(file, name, DUO_F32, shape, p->gradient.tensors[i]);
    }
    return status;
}

static duo_status write_probe(const probe *p)
{
    const probe_options *o = p->options;
    const size_t B = p->sequences.R, T = p->sequences.T;
    const duo_shape of_tokens = {2, {B, T + 1}}, of_routes = {3, {B, T, p->L}},
                    of_loss = {2, {B, T}},
                    of_logits = {3, {B, T, p->model->params.config.vocab_size}};
    char hash[33];
    duo_store_writer *file = NULL;
    duo_status status = duo_store_create(&file, o->output, DUO_KIND_PROBE);
    if (status == DUO_OK) status = duo_store_set_u64(file, "/", "format_version", PROBE_VERSION);
    if (status == DUO_OK)
        status = duo_store_set_text(file, "/", "model_hash",
                                    duo_hash_text(hash, duo_model_hash(p->model)));
    if (status == DUO_OK)
        status = duo_store_write(file, "/tokens", DUO_I32, of_tokens, p->sequences.tokens);
    if (status == DUO_OK)
        status = o->gumbel ? write_noise(p, file)
                           : duo_store_write(file, "/routes", DUO_U8, of_routes, p->routes);
    if (status == DUO_OK) status = duo_store_write(file, "/loss", DUO_F32, of_loss, p->loss);
    if (status == DUO_OK && o->logits)
        status = duo_store_write(file, "/logits", DUO_F32, of_logits, p->logits);
    if (status == DUO_OK && o->gradients) status = write_gradients(p, file);
    if (status == DUO_OK) status = duo_store_commit(file);
    duo_store_writer_free(file);
    return status;
}

/* ---------------------------------------------------------------- command */

static duo_status probe_checkpoint(probe_options *o)
{
    probe p = {.options = o};
    duo_checkpoint *checkpoint = NULL;
    duo_model *model = NULL;
    duo_status status = duo_cli_check_output(o->output, DUO_KIND_PROBE, NULL);
    if (status == DUO_OK) status = duo_kernels_start(0);
    if (status == DUO_OK) status = duo_cli_open_model(o->checkpoint, DUO_FP32, &checkpoint, &model);
    if (status != DUO_OK) goto done;
    const duo_config *config = &model->params.config;
    p.model = model;
    p.L = config->n_layers;
    p.M = duo_module_count(config->router_modules);
    if ((status = check_options(o, config)) != DUO_OK) goto done;
    if ((status = parse_routes(&p)) != DUO_OK) goto done;
    if (o->seq_len == 0) o->seq_len = config->max_seq < 32 ? config->max_seq : 32;
    if ((status = choose_sequences(&p, checkpoint)) != DUO_OK) goto done;
    if ((status = run(&p)) != DUO_OK) goto done;
    if ((status = write_probe(&p)) != DUO_OK) goto done;
    double sum = 0;
    for (size_t n = 0; n < p.sequences.R * p.sequences.T; n++) sum += (double)p.loss[n];
    printf("%s: %zu sequences of %zu tokens, mean loss %.6f\n", o->output, p.sequences.R,
           p.sequences.T, sum / (double)(p.sequences.R * p.sequences.T));

done:
    duo_arena_free(&p.arena);
    duo_trace_free(&p.given);
    duo_sequences_free(&p.sequences);
    duo_model_free(model);
    duo_checkpoint_close(checkpoint);
    duo_kernels_stop();
    return status;
}

duo_status duo_cli_probe(int argc, char **argv)
{
    probe_options o = {.rows = 2, .seed = 1, .tau = 1, .alpha = 1, .target = {-1, -1, -1}};
    const duo_option options[] = {
        {"--output", "FILE", "where the probe goes", DUO_OPTION_TEXT, &o.output, 0, 0},
        {"--routes", "ROUTES",
         "random:SKIP,SMALL,BIG (default 0.3,0.3,0.4), small, big, skip, pattern:BS-B, router, "
         "file:ROUTES.h5 (with its tokens)",
         DUO_OPTION_TEXT, &o.routes, 0, 0},
        {"--rows", "N", "sequences, run together (default 2)", DUO_OPTION_SIZE, &o.rows, 1, 4096},
        {"--seq-len", "N", "tokens of a sequence (default 32, or max_seq if that is less)",
         DUO_OPTION_SIZE, &o.seq_len, 1, 1 << 20},
        {"--tokens", "FILE", "take held-out windows of this token file (default the recipe's)",
         DUO_OPTION_TEXT, &o.tokens, 0, 0},
        {"--random-tokens", NULL, "take random ids instead", DUO_OPTION_FLAG, &o.random_tokens, 0,
         0},
        {"--gradients", NULL, "write the gradient of the mean loss by every parameter",
         DUO_OPTION_FLAG, &o.gradients, 0, 0},
        {"--logits", NULL, "write the logits", DUO_OPTION_FLAG, &o.logits, 0, 0},
        {"--gumbel", NULL,
         "mix the modules by Gumbel-softmax; gradients are of mean loss + alpha * budget loss",
         DUO_OPTION_FLAG, &o.gumbel, 0, 0},
        {"--tau", "X", "temperature of --gumbel (default 1)", DUO_OPTION_REAL, &o.tau, 1e-3, 1e6},
        {"--hard", NULL, "one-hot choices forward, straight-through", DUO_OPTION_FLAG, &o.hard, 0,
         0},
        {"--alpha", "X", "weight of the budget loss (default 1)", DUO_OPTION_REAL, &o.alpha, 0,
         1e6},
        {"--target-skip", "X", "wanted share of skip (default none)", DUO_OPTION_REAL,
         &o.target[DUO_SKIP], 0, 1},
        {"--target-small", "X", "wanted share of small (default none)", DUO_OPTION_REAL,
         &o.target[DUO_SMALL], 0, 1},
        {"--target-big", "X", "wanted share of big (default none)", DUO_OPTION_REAL,
         &o.target[DUO_BIG], 0, 1},
        {"--seed", "N", "of tokens, routes and noise (default 1)", DUO_OPTION_U64, &o.seed, 0, 0},
    };
    const duo_positional positionals[] = {
        {"CHECKPOINT", "a checkpoint, or a run folder for its latest", &o.checkpoint, NULL, false},
    };
    const duo_option_pair needs[] = {
        {"--tau", "--gumbel"},
        {"--alpha", "--gumbel"},
        {"--hard", "--gumbel"},
    };
    const duo_option_pair excludes[] = {
        {"--gumbel", "--routes"},
        {"--tokens", "--random-tokens"},
    };
    const duo_command command = {
        .name = "probe",
        .description =
            "Write down what the model computes for a few sequences: tokens, routes, loss per\n"
            "token and, on request, logits and gradients, so that another implementation can be\n"
            "held against it.",
        .example = "duo probe checkpoints/quickstart --output probe.h5 --gradients",
        .positionals = positionals,
        .n_positionals = sizeof positionals / sizeof *positionals,
        .options = options,
        .n_options = sizeof options / sizeof *options,
        .excludes = excludes,
        .n_excludes = sizeof excludes / sizeof *excludes,
        .needs = needs,
        .n_needs = sizeof needs / sizeof *needs,
    };
    bool help = false;
    const duo_status status = duo_options_parse(&command, argc, argv, &help);
    if (status != DUO_OK || help) return status;
    if (!o.output) return duo_fail(DUO_EUSAGE, "--output is missing; see duo probe --help");
    return probe_checkpoint(&o);
}
