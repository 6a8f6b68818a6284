#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sequences.h"

enum { ROUTES_VERSION = 1 };

/* ---------------------------------------------------------------- in memory */

duo_status duo_trace_create(duo_trace *trace, const duo_sequences *sequences, size_t L)
{
    const size_t N = sequences->R * sequences->T;
    size_t routes = 0;
    *trace = (duo_trace){0};
    if (duo_multiply(&routes, N, L)) {
        trace->routes = calloc(routes, sizeof *trace->routes);
        trace->loss = calloc(N, sizeof *trace->loss);
    }
    if (trace->routes && trace->loss) return DUO_OK;
    duo_trace_free(trace);
    return duo_fail(DUO_ENOMEM, "no memory for the routes of %zu tokens through %zu layers", N, L);
}

void duo_trace_free(duo_trace *trace)
{
    free(trace->routes);
    free(trace->loss);
    *trace = (duo_trace){0};
}

/* ---------------------------------------------------------------- means */

/* Mean loss, and its standard error from the means of the sequences: tokens of one sequence are
 * not independent. */
static void summarize_loss(duo_trace_summary *s, const float *loss, size_t R, size_t T)
{
    double sum = 0, squares = 0;
    for (size_t r = 0; r < R; r++)
        for (size_t t = 0; t < T; t++) sum += (double)loss[r * T + t];
    s->loss = sum / (double)(R * T);
    for (size_t r = 0; r < R; r++) {
        double mean = 0;
        for (size_t t = 0; t < T; t++) mean += (double)loss[r * T + t];
        mean = mean / (double)T - s->loss;
        squares += mean * mean;
    }
    s->loss_error = R > 1 ? sqrt(squares / (double)(R - 1) / (double)R) : NAN;
    s->perplexity = exp(s->loss);
}

duo_status duo_trace_summarize(duo_trace_summary *summary, const duo_trace *trace,
                               const duo_sequences *sequences, const duo_config *config,
                               bool with_router)
{
    const size_t R = sequences->R, T = sequences->T, L = config->n_layers;
    const double tokens = (double)(R * T);
    *summary = (duo_trace_summary){.bits_per_byte = NAN};
    summary->usage = calloc(L * DUO_MODULES, sizeof *summary->usage);
    if (!summary->usage) return duo_fail(DUO_ENOMEM, "no memory for a summary");
    summarize_loss(summary, trace->loss, R, T);
    if (sequences->bytes > 0)
        summary->bits_per_byte = summary->loss * tokens / log(2.0) / (double)sequences->bytes;

    duo_routes_count(summary->usage, trace->routes, R * T, L);
    summary->flops = duo_flops_base(config, ((double)T + 1) / 2);
    if (with_router) summary->flops += duo_flops_routers(config);
    for (duo_module m = 0; m < DUO_MODULES; m++) {
        uint64_t uses = 0;
        for (size_t l = 0; l < L; l++) uses += summary->usage[l * DUO_MODULES + m];
        summary->share[m] = (double)uses / (tokens * (double)L);
        summary->flops += duo_flops_ffn(config, m) * (double)uses / tokens;
    }
    return DUO_OK;
}

void duo_trace_summary_free(duo_trace_summary *summary)
{
    free(summary->usage);
    *summary = (duo_trace_summary){0};
}

/* ---------------------------------------------------------------- files */

static duo_status write_origin(duo_store_writer *file, const duo_routes_origin *origin)
{
    char hash[33], modules[16];
    const struct {
        const char *name, *value;
    } texts[] = {
        {"policy", origin->policy},
        {"budget", origin->budget},
        {"context", origin->context},
        {"modules", duo_module_set_text(modules, origin->modules)},
        {"model_hash", duo_hash_text(hash, origin->model)},
    };
    duo_status status = duo_store_set_u64(file, "/", "format_version", ROUTES_VERSION);
    for (size_t i = 0; i < sizeof texts / sizeof *texts && status == DUO_OK; i++)
        status = duo_store_set_text(file, "/", texts[i].name, texts[i].value);
    return status;
}

duo_status duo_routes_write(const char *path, const duo_sequences *sequences,
                            const duo_trace *trace, size_t L, const duo_routes_origin *origin)
{
    const size_t R = sequences->R, T = sequences->T;
    duo_store_writer *file = NULL;
    duo_status status = duo_store_create(&file, path, DUO_KIND_ROUTES);
    if (status == DUO_OK)
        status = duo_store_write(file, "/tokens", DUO_I32, (duo_shape){2, {R, T + 1}},
                                 sequences->tokens);
    if (status == DUO_OK)
        status = duo_store_write(file, "/routes", DUO_U8, (duo_shape){3, {R, T, L}}, trace->routes);
    if (status == DUO_OK)
        status = duo_store_write(file, "/loss", DUO_F32, (duo_shape){2, {R, T}}, trace->loss);
    if (status == DUO_OK) status = write_origin(file, origin);
    if (status == DUO_OK) status = duo_store_commit(file);
    duo_store_writer_free(file);
    return status;
}

static duo_status check_origin(const duo_store *file, duo_hash model)
{
    uint64_t version = 0;
    const char *hash = NULL;
    char expected[33];
    duo_status status = duo_store_get_u64(file, "/", "format_version", &version);
    if (status == DUO_OK) status = duo_store_get_text(file, "/", "model_hash", &hash);
    if (status != DUO_OK) return status;
    if (version != ROUTES_VERSION)
        return duo_fail(DUO_EDATA, "%s: routes of format %llu, this program reads %d",
                        duo_store_path(file), (unsigned long long)version, ROUTES_VERSION);
    if (strcmp(hash, duo_hash_text(expected, model)) != 0)
        return duo_fail(DUO_EINVAL, "%s: was found for the model %s, this one is %s",
                        duo_store_path(file), hash, expected);
    return DUO_OK;
}

static duo_status check_values(const duo_store *file, const uint8_t *routes, const float *loss,
                               size_t N, size_t L)
{
    for (size_t i = 0; i < N * L; i++)
        if (routes[i] >= DUO_MODULES)
            return duo_fail(DUO_EDATA, "%s: /routes holds %d, which is no module",
                            duo_store_path(file), (int)routes[i]);
    for (size_t i = 0; i < N; i++)
        if (!isfinite(loss[i]))
            return duo_fail(DUO_EDATA, "%s: /loss holds what is not finite", duo_store_path(file));
    return DUO_OK;
}

static duo_status read_values(const duo_store *file, const duo_config *config,
                              duo_sequences *sequences, duo_trace *trace)
{
    const size_t L = config->n_layers;
    const duo_dataset *tokens = NULL, *routes = NULL, *loss = NULL;
    duo_status status =
        duo_store_require(file, "/tokens", DUO_I32, (duo_shape){2, {0, 0}}, &tokens);
    if (status != DUO_OK) return status;
    const size_t R = tokens->shape.size[0], columns = tokens->shape.size[1];
    if (R == 0 || columns < 2)
        return duo_fail(DUO_EDATA, "%s: /tokens holds no sequence", duo_store_path(file));
    const size_t T = columns - 1;
    status = duo_store_require(file, "/routes", DUO_U8, (duo_shape){3, {R, T, L}}, &routes);
    if (status == DUO_OK)
        status = duo_store_require(file, "/loss", DUO_F32, (duo_shape){2, {R, T}}, &loss);
    if (status == DUO_OK) status = check_values(file, routes->data, loss->data, R * T, L);
    if (status != DUO_OK) return status;

    *sequences = (duo_sequences){.R = R, .T = T, .tokens = malloc(R * columns * sizeof(int32_t))};
    if (!sequences->tokens)
        return duo_fail(DUO_ENOMEM, "%s: no memory for its tokens", duo_store_path(file));
    memcpy(sequences->tokens, tokens->data, R * columns * sizeof(int32_t));
    status = duo_sequences_check(sequences, config, DUO_EDATA, duo_store_path(file));
    if (status == DUO_OK) status = duo_trace_create(trace, sequences, L);
    if (status != DUO_OK) return status;
    memcpy(trace->routes, routes->data, R * T * L);
    memcpy(trace->loss, loss->data, R * T * sizeof(float));
    return DUO_OK;
}

duo_status duo_routes_read(const char *path, const duo_model *model, duo_hash model_hash,
                           duo_sequences *sequences, duo_trace *trace)
{
    duo_store *file = NULL;
    *sequences = (duo_sequences){0};
    *trace = (duo_trace){0};
    duo_status status = duo_store_open(&file, path, DUO_KIND_ROUTES);
    if (status == DUO_OK) status = check_origin(file, model_hash);
    if (status == DUO_OK) status = read_values(file, &model->params.config, sequences, trace);
    duo_store_close(file);
    if (status == DUO_OK) return DUO_OK;
    duo_sequences_free(sequences);
    duo_trace_free(trace);
    return status;
}
