#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "document.h"
#include "duo/file.h"
#include "duo/kernels.h"
#include "duo/rng.h"
#include "duo/study.h"
#include "generate_text.h"
#include "options.h"
#include "sample.h"

typedef struct generate_options {
    const char *checkpoint, *prompt, *prompt_file, *policy, *precision;
    size_t max_tokens, count;
    duo_sampling sampling;
    uint64_t seed;
    bool show_routes;
} generate_options;

/* A pass over T tokens of every sequence, which fills the cache. */
typedef struct filling {
    size_t T;
    duo_pass *pass; /* NULL: T is 0 */
    int32_t *tokens;
    uint8_t *routes;
} filling;

/* S sequences that continue one prompt, side by side. What the model sees of them is a window: when
 * it is full, its older half is forgotten. */
typedef struct generation {
    const generate_options *options;
    const duo_model *model;
    const duo_tokenizer *tokenizer;
    duo_policy policy;
    size_t S, L, V;
    size_t prompt;   /* ids */
    size_t most;     /* ids that a sequence can have */
    size_t length;   /* ids so far, in every sequence */
    int32_t *ids;    /* (S, most) */
    size_t *lengths; /* (S) ids of a sequence up to its end mark */
    uint8_t *routes; /* (S, most, L), as each token was routed first */
    size_t capacity; /* positions of the window */
    size_t begin;    /* the id at its first position */
    duo_arena arena;
    filling read_prompt, refill; /* each of all ids that the window then has but the last */
    duo_cache cache;
    duo_nodes *nodes;
    int32_t *step_tokens; /* (S) */
    uint8_t *step_routes; /* (S, L) */
    float *logits;        /* (S, V) */
    duo_candidate *candidates;
    duo_text_stream stream;
} generation;

/* ---------------------------------------------------------------- setting up */

static filling take_filling(const generation *g, size_t T, duo_arena *arena)
{
    if (T == 0) return (filling){0};
    const duo_pass_shape shape = {.B = g->S, .T = T, .keep_kv = true};
    return (filling){.T = T,
                     .pass = duo_pass_take(&g->model->params, shape, arena),
                     .tokens = DUO_TAKE(arena, int32_t, g->S * (T + 1)),
                     .routes = DUO_TAKE(arena, uint8_t, g->S * T * g->L)};
}

static void lay_out(generation *g, duo_arena *arena)
{
    const duo_params *params = &g->model->params;
    const size_t S = g->S;
    g->ids = DUO_TAKE(arena, int32_t, S * g->most);
    g->lengths = DUO_TAKE(arena, size_t, S);
    g->routes = DUO_TAKE(arena, uint8_t, S * g->most * g->L);
    g->read_prompt = take_filling(g, g->prompt - 1, arena);
    if (g->most - 1 > g->capacity) g->refill = take_filling(g, g->capacity / 2, arena);
    duo_cache_take(&g->cache, params, S, g->capacity, arena);
    g->nodes = duo_nodes_take(params, S, g->capacity, arena);
    g->step_tokens = DUO_TAKE(arena, int32_t, S);
    g->step_routes = DUO_TAKE(arena, uint8_t, S * g->L);
    g->logits = DUO_TAKE(arena, float, S * g->V);
    g->candidates = DUO_TAKE(arena, duo_candidate, g->V);
}

static duo_status prepare(generation *g, const int32_t *prompt)
{
    const duo_config *config = &g->model->params.config;
    if (g->prompt > config->max_seq)
        return duo_fail(DUO_EINVAL, "the prompt is %zu tokens long, %s sees %zu positions",
                        g->prompt, g->options->checkpoint, config->max_seq);
    g->most = g->prompt + g->options->max_tokens;
    g->capacity = g->most < config->max_seq ? g->most : config->max_seq;
    duo_arena measure = DUO_ARENA_MEASURE;
    lay_out(g, &measure);
    const duo_status status = duo_arena_create(&g->arena, measure.used, "generation");
    if (status != DUO_OK) return status;
    lay_out(g, &g->arena);
    for (size_t s = 0; s < g->S; s++)
        memcpy(g->ids + s * g->most, prompt, g->prompt * sizeof *prompt);
    g->length = g->prompt;
    if (g->policy.kind == DUO_POLICY_PATTERN)
        duo_routes_repeat(g->routes, g->S * g->most, g->L, g->policy.pattern);
    else if (g->policy.kind == DUO_POLICY_RANDOM)
        duo_routes_random(g->routes, g->S, g->most, g->L, g->policy.p, g->options->seed, 0, 0);
    g->stream = (duo_text_stream){.tokenizer = g->tokenizer, .ids = g->ids};
    return DUO_OK;
}

/* ---------------------------------------------------------------- running */

static duo_routing routing_over(const generation *g, uint8_t *routes)
{
    return (duo_routing){.kind = g->policy.kind == DUO_POLICY_ROUTER ? DUO_ROUTING_ROUTER
                                                                     : DUO_ROUTING_GIVEN,
                         .routes = routes,
                         .rule = &g->policy.rule};
}

/* Routes of positions [from, from + n) between the table of all and a pass of its own. */
static void copy_routes(generation *g, uint8_t *own, size_t from, size_t n, bool out)
{
    for (size_t s = 0; s < g->S; s++) {
        uint8_t *all = g->routes + (s * g->most + from) * g->L, *part = own + s * n * g->L;
        if (out)
            memcpy(part, all, n * g->L);
        else
            memcpy(all, part, n * g->L);
    }
}

/* Fill the cache with T ids from where the window begins; theirs are the window's first positions.
 */
static void fill(generation *g, const filling *f)
{
    memset(g->cache.lengths, 0, g->S * sizeof *g->cache.lengths);
    if (f->T == 0) return;
    for (size_t s = 0; s < g->S; s++)
        memcpy(f->tokens + s * (f->T + 1), g->ids + s * g->most + g->begin,
               (f->T + 1) * sizeof *g->ids);
    const duo_routing routing = routing_over(g, f->routes);
    copy_routes(g, f->routes, g->begin, f->T, true);
    duo_pass_forward(f->pass, g->model, f->tokens, &routing);
    if (g->begin == 0) copy_routes(g, f->routes, 0, f->T, false);
    duo_cache_fill(&g->cache, f->pass, f->T);
}

/* The last id of every sequence through the model. */
static void run_last(generation *g)
{
    const size_t t = g->length - 1;
    if (t - g->begin == g->capacity) {
        g->begin = t - g->refill.T;
        fill(g, &g->refill);
    }
    for (size_t s = 0; s < g->S; s++) g->step_tokens[s] = g->ids[s * g->most + t];
    const duo_routing routing = routing_over(g, g->step_routes);
    copy_routes(g, g->step_routes, t, 1, true);
    duo_decode(g->nodes, g->model, &g->cache, g->step_tokens, &routing, g->logits);
    copy_routes(g, g->step_routes, t, 1, false);
}

/* One more id for every sequence; *open: sequences that have not ended. */
static duo_status append(generation *g, size_t *open)
{
    const int32_t eos = duo_tokenizer_eos(g->tokenizer);
    *open = 0;
    for (size_t s = 0; s < g->S; s++) {
        int32_t *next = g->ids + s * g->most + g->length;
        if (g->lengths[s] > 0) { /* runs on beside the others, unseen */
            *next = eos;
            continue;
        }
        const duo_place place = {.step = g->length, .row = (uint32_t)s};
        const double u = duo_uniform(duo_random(g->options->seed, DUO_RNG_SAMPLE, place).word[0]);
        *next = duo_sample(&g->options->sampling, g->logits + s * g->V, g->V, u, g->candidates);
        if (*next < 0)
            return duo_fail(DUO_ENUMBER, "%s: the logits behind token %zu are not finite",
                            g->options->checkpoint, g->length - 1);
        if (*next == eos)
            g->lengths[s] = g->length;
        else
            ++*open;
    }
    g->length++;
    return DUO_OK;
}

static duo_status generate(generation *g)
{
    size_t open = g->S;
    duo_status status = DUO_OK;
    fill(g, &g->read_prompt);
    if (g->S == 1) status = duo_text_stream_print(&g->stream, g->length, false);
    while (status == DUO_OK && open > 0 && g->length < g->most) {
        run_last(g);
        status = append(g, &open);
        if (status == DUO_OK && g->S == 1 && open > 0)
            status = duo_text_stream_print(&g->stream, g->length, false);
    }
    for (size_t s = 0; s < g->S; s++)
        if (g->lengths[s] == 0) g->lengths[s] = g->length;
    return status;
}

/* ---------------------------------------------------------------- showing */

static void print_routes(const generation *g, size_t s)
{
    const size_t ran = g->lengths[s] < g->length ? g->lengths[s] : g->length - 1;
    uint64_t usage[DUO_MODULES] = {0};
    puts("\nposition  route by layer (B big, S small, - skip)  token");
    for (size_t t = 0; t < g->lengths[s]; t++) {
        const int32_t id = g->ids[s * g->most + t];
        printf("%8zu  ", t);
        for (size_t l = 0; l < g->L; l++) {
            if (t >= ran) { /* the last id was drawn but not read */
                putchar(' ');
                continue;
            }
            const uint8_t route = g->routes[(s * g->most + t) * g->L + l];
            usage[route]++;
            putchar(duo_module_letter((duo_module)route));
        }
        fputs("  ", stdout);
        duo_piece_print(duo_tokenizer_piece(g->tokenizer, id));
        putchar('\n');
    }
    const double all = (double)(ran * g->L);
    fputs("shares:", stdout);
    for (duo_module m = DUO_MODULES; m-- > 0;)
        if (all > 0)
            printf(" %s %.1f %%%s", duo_module_name(m), 100.0 * (double)usage[m] / all,
                   m > 0 ? "," : "\n");
}

static duo_status show(generation *g)
{
    duo_status status = DUO_OK;
    for (size_t s = 0; s < g->S && status == DUO_OK; s++) {
        if (g->S > 1) {
            printf("%ssample %zu of %zu\n", s > 0 ? "\n" : "", s + 1, g->S);
            g->stream = (duo_text_stream){.tokenizer = g->tokenizer, .ids = g->ids + s * g->most};
        }
        status = duo_text_stream_print(&g->stream, g->lengths[s], true);
        putchar('\n');
        if (status == DUO_OK && g->options->show_routes) print_routes(g, s);
    }
    return status;
}

static void say_how_it_ended(const generation *g, double seconds)
{
    const size_t drawn = g->length - g->prompt;
    if (g->begin > 0)
        fprintf(stderr, "the model sees %zu positions: it went on from the last half of them\n",
                g->capacity);
    if (g->options->show_routes)
        fprintf(stderr, "%zu tokens of prompt, %zu x %zu generated in %.2f s, %.1f tokens/s\n",
                g->prompt, g->S, drawn, seconds, (double)(g->S * drawn) / seconds);
}

/* ---------------------------------------------------------------- command */

static duo_status read_prompt(const generate_options *o, const duo_tokenizer *tokenizer,
                              int32_t **ids, size_t *n)
{
    char *text = NULL;
    size_t bytes = 0;
    if (!o->prompt_file)
        return duo_document_encode(tokenizer, o->prompt ? o->prompt : "",
                                   o->prompt ? strlen(o->prompt) : 0, ids, n);
    duo_status status = duo_file_read(&text, &bytes, o->prompt_file, SIZE_MAX);
    if (status == DUO_OK) {
        status = duo_document_encode(tokenizer, text, bytes, ids, n);
        if (status != DUO_OK) duo_fail(status, "%s: %s", o->prompt_file, duo_message());
    }
    free(text);
    return status;
}

static duo_status choose_policy(generation *g)
{
    const char *text = g->options->policy;
    if (!text) text = g->model->params.config.router_modules != 0 ? "router" : "big";
    const duo_status status = duo_policy_parse(&g->policy, text, g->model);
    if (status == DUO_OK && g->policy.kind == DUO_POLICY_FILE)
        return duo_fail(DUO_EUSAGE, "--policy file: has routes for its own text only");
    return status;
}

static duo_status generate_from(const generate_options *o)
{
    generation g = {.options = o, .S = o->count};
    duo_checkpoint *checkpoint = NULL;
    duo_model *model = NULL;
    duo_tokenizer *tokenizer = NULL;
    int32_t *prompt = NULL;
    duo_precision precision = DUO_FP32;
    duo_status status = duo_cli_precision(&precision, o->precision);
    if (status == DUO_OK) status = duo_kernels_start(0);
    if (status == DUO_OK)
        status = duo_cli_open_model(o->checkpoint, precision, &checkpoint, &model);
    if (status != DUO_OK) goto done;
    if ((status = duo_checkpoint_open_tokenizer(checkpoint, &tokenizer)) != DUO_OK) goto done;
    g.model = model;
    g.tokenizer = tokenizer;
    g.L = model->params.config.n_layers;
    g.V = model->params.config.vocab_size;
    if ((status = choose_policy(&g)) != DUO_OK) goto done;
    if ((status = read_prompt(o, tokenizer, &prompt, &g.prompt)) != DUO_OK) goto done;
    if ((status = prepare(&g, prompt)) != DUO_OK) goto done;
    const double start = duo_cli_seconds();
    status = generate(&g);
    const double seconds = duo_cli_seconds() - start;
    if (status == DUO_OK) status = show(&g);
    if (status == DUO_OK) say_how_it_ended(&g, seconds);

done:
    free(prompt);
    duo_arena_free(&g.arena);
    duo_tokenizer_free(tokenizer);
    duo_model_free(model);
    duo_checkpoint_close(checkpoint);
    duo_kernels_stop();
    return status;
}

duo_status duo_cli_generate(int argc, char **argv)
{
    generate_options o = {.precision = "fp32",
                          .max_tokens = 200,
                          .count = 1,
                          .seed = 1,
                          .sampling = {.temperature = 0.8, .top_p = 1}};
    const duo_option options[] = {
        {"--prompt", "TEXT", "text to continue (default: none, a new document)", DUO_OPTION_TEXT,
         &o.prompt, 0, 0},
        {"--prompt-file", "FILE", "the same from a file", DUO_OPTION_TEXT, &o.prompt_file, 0, 0},
        {"--max-tokens", "N", "stop after so many (default 200)", DUO_OPTION_SIZE, &o.max_tokens, 1,
         1 << 20},
        {"--temperature", "X", "of the softmax; 0: always the best token (default 0.8)",
         DUO_OPTION_REAL, &o.sampling.temperature, 0, 1000},
        {"--top-k", "N", "draw from the N best tokens only; 0: all (default)", DUO_OPTION_SIZE,
         &o.sampling.top_k, 0, 0},
        {"--top-p", "X", "draw from the fewest tokens that hold this share (default 1)",
         DUO_OPTION_REAL, &o.sampling.top_p, 0, 1},
        {"--precision", "P", "of the operands of matrix products: fp32 or bf16 (default fp32)",
         DUO_OPTION_TEXT, &o.precision, 0, 0},
        {"--seed", "N", "of the draws (default 1)", DUO_OPTION_U64, &o.seed, 0, 0},
        {"--policy", "POLICY",
         "router, router:K (told a budget; else half of the layers), router:exact:K, small, big, "
         "skip, random:P (share of big), pattern:BSBS "
         "(default: router if the model has routers, else big)",
         DUO_OPTION_TEXT, &o.policy, 0, 0},
        {"--show-routes", NULL, "then print every token with its route", DUO_OPTION_FLAG,
         &o.show_routes, 0, 0},
        {"--count", "N", "samples, run together and printed at the end (default 1)",
         DUO_OPTION_SIZE, &o.count, 1, 4096},
    };
    const duo_positional positionals[] = {
        {"CHECKPOINT", "a checkpoint, or a run folder for its latest", &o.checkpoint, NULL, false},
    };
    const duo_option_pair excludes[] = {
        {"--prompt", "--prompt-file"},
    };
    const duo_command command = {
        .name = "generate",
        .description =
            "Print a prompt and how the model continues it, until the model ends the text. The\n"
            "same seed gives the same text. When it has as many tokens as the model sees, it\n"
            "goes on from their last half.",
        .example = "duo generate checkpoints/quickstart --prompt 'Once upon a time' --show-routes",
        .positionals = positionals,
        .n_positionals = sizeof positionals / sizeof *positionals,
        .options = options,
        .n_options = sizeof options / sizeof *options,
        .excludes = excludes,
        .n_excludes = sizeof excludes / sizeof *excludes,
    };
    bool help = false;
    const duo_status status = duo_options_parse(&command, argc, argv, &help);
    if (status != DUO_OK || help) return status;
    return generate_from(&o);
}
