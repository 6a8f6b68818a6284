#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "duo/study.h"
#include "report_results.h"

enum { MOST_SEQUENCES = 24, MAP_CELLS = 4096, ALL_MAP_CELLS = 160000 };

/* Files on the same tokens and of the same model. */
typedef struct study {
    const report_routes **files; /* (n) */
    size_t n, policies;
    const report_routes *first;
    const report_run *run; /* whose model it is, or one that at least has the vocabulary; or NULL */
    bool same_model;
    size_t map_cells; /* of one policy */
} study;

/* ---------------------------------------------------------------- grouping */

/* Routers choose among routes of one language model: theirs belong with the oracle's. */
static const char *language_of(const report_routes *routes)
{
    const char *hash = report_routes_text(routes, "language_hash");
    return hash[0] ? hash : report_routes_text(routes, "model_hash");
}

static bool belong_together(const report_routes *a, const report_routes *b)
{
    return duo_hash_equal(a->tokens->hash, b->tokens->hash) && a->L == b->L &&
           strcmp(language_of(a), language_of(b)) == 0;
}

static bool knows_tokens(const report_run *run, const duo_dataset *tokens)
{
    if (!run->tokenizer) return false;
    const int32_t *ids = tokens->data;
    const int64_t V = (int64_t)duo_tokenizer_vocab_size(run->tokenizer);
    for (size_t i = 0; i < tokens->count; i++)
        if (ids[i] < 0 || ids[i] >= V) return false;
    return true;
}

/* The model may be an earlier checkpoint of a run; its tokenizer is the run's in any case. */
static void find_run(study *s, const report_run *runs, size_t n_runs)
{
    const char *hash = report_routes_text(s->first, "model_hash");
    for (size_t i = 0; i < n_runs && !s->same_model; i++) {
        if (!knows_tokens(&runs[i], s->first->tokens)) continue;
        if (duo_checkpoint_config(runs[i].checkpoint)->n_layers != s->first->L) continue;
        s->same_model = strcmp(duo_checkpoint_model_hash(runs[i].checkpoint), hash) == 0;
        if (!s->run || s->same_model) s->run = &runs[i];
    }
}

static bool leads(const report_results *results, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (belong_together(&results->routes[j], &results->routes[i])) return false;
    return true;
}

static void gather(study *s, const report_results *results, size_t first)
{
    s->first = &results->routes[first];
    for (size_t i = first; i < results->n_routes; i++)
        if (belong_together(s->first, &results->routes[i])) {
            s->files[s->n++] = &results->routes[i];
            s->policies += results->routes[i].n;
        }
}

/* ---------------------------------------------------------------- maps */

duo_status report_map_write(json_out *out, const uint8_t *routes, size_t stride, size_t R, size_t T,
                            size_t L, size_t most_cells)
{
    const size_t most = most_cells / L > 16 ? most_cells / L : 16, per = (T + most - 1) / most;
    const size_t columns = (T + per - 1) / per, cells = L * columns;
    uint32_t *counts = calloc(cells * DUO_MODULES, sizeof *counts);
    if (!counts) return duo_fail(DUO_ENOMEM, "no memory for a map of %zu layers", L);
    for (size_t n = 0; n < R * T; n++)
        for (size_t l = 0; l < L; l++)
            counts[(l * columns + n % T / per) * DUO_MODULES + routes[n * stride + l]]++;

    json_key_number(out, "per", (double)per);
    for (duo_module m = 0; m < DUO_MODULES; m++) {
        uint64_t uses = 0;
        for (size_t i = 0; i < cells; i++) uses += counts[i * DUO_MODULES + m];
        if (uses == 0 && m != DUO_BIG) continue;
        json_key(out, duo_module_name(m));
        json_begin(out, '[');
        for (size_t l = 0; l < L; l++) {
            json_begin(out, '[');
            for (size_t c = 0; c < columns; c++) {
                const uint32_t *u = counts + (l * columns + c) * DUO_MODULES;
                json_number(out, (double)u[m] / (double)(u[DUO_SKIP] + u[DUO_SMALL] + u[DUO_BIG]),
                            3);
            }
            json_end(out, ']');
        }
        json_end(out, ']');
    }
    free(counts);
    return DUO_OK;
}

/* ---------------------------------------------------------------- policies */

static const duo_config *config_of(const study *s)
{
    return s->run ? duo_checkpoint_config(s->run->checkpoint) : NULL;
}

/* The windows' bytes are known by their pieces. */
static duo_sequences sequences_of(const study *s)
{
    duo_sequences sequences = {
        .R = s->first->R, .T = s->first->T, .tokens = (int32_t *)s->first->tokens->data};
    if (s->run) duo_sequences_count_bytes(&sequences, s->run->tokenizer);
    return sequences;
}

static duo_status write_summary(json_out *out, const study *s, const report_policy *policy)
{
    const duo_sequences sequences = sequences_of(s);
    const duo_config only_layers = {.n_layers = s->first->L, .n_heads = 1, .n_kv_heads = 1};
    const duo_config *config = config_of(s);
    const duo_trace trace = {(uint8_t *)policy->routes, (float *)policy->loss};
    const bool routed = policy->name_bytes >= 6 && strncmp(policy->name, "router", 6) == 0;
    duo_trace_summary summary;
    const duo_status status =
        duo_trace_summarize(&summary, &trace, &sequences, config ? config : &only_layers, routed);
    if (status != DUO_OK) return status;
    json_key_number(out, "loss", summary.loss);
    json_key_number(out, "loss_error", summary.loss_error);
    json_key_number(out, "perplexity", summary.perplexity);
    json_key_number(out, "bits_per_byte", summary.bits_per_byte);
    json_key_number(out, "flops_per_token", config ? summary.flops : NAN);
    json_key(out, "share");
    json_begin(out, '{');
    for (duo_module m = 0; m < DUO_MODULES; m++)
        json_key_number(out, duo_module_name(m), summary.share[m]);
    json_end(out, '}');
    duo_trace_summary_free(&summary);
    return DUO_OK;
}

static duo_status write_policies(json_out *out, const study *s)
{
    const size_t R = s->first->R, T = s->first->T, L = s->first->L;
    duo_status status = DUO_OK;
    json_key(out, "policies");
    json_begin(out, '[');
    for (size_t f = 0; f < s->n; f++)
        for (size_t i = 0; i < s->files[f]->n && status == DUO_OK; i++) {
            const report_policy *policy = &s->files[f]->policies[i];
            json_begin(out, '{');
            json_key(out, "name");
            json_text(out, policy->name, policy->name_bytes);
            json_key_number(out, "file", (double)f);
            status = write_summary(out, s, policy);
            json_key(out, "map");
            json_begin(out, '{');
            if (status == DUO_OK)
                status = report_map_write(out, policy->routes, L, R, T, L, s->map_cells);
            json_end(out, '}');
            json_end(out, '}');
        }
    json_end(out, ']');
    return status;
}

static duo_status write_files(json_out *out, const study *s)
{
    duo_status status = DUO_OK;
    json_key(out, "files");
    json_begin(out, '[');
    for (size_t f = 0; f < s->n && status == DUO_OK; f++) {
        const duo_attribute *attributes = NULL;
        const size_t n = duo_store_attributes(s->files[f]->store, &attributes);
        char hash[33];
        json_begin(out, '{');
        json_key_text(out, "path", duo_store_path(s->files[f]->store));
        json_key_text(out, "hash", duo_hash_text(hash, duo_store_hash(s->files[f]->store)));
        for (size_t i = 0; i < n; i++)
            if (strcmp(attributes[i].object, "/") == 0 && attributes[i].type == DUO_ATTR_TEXT)
                json_key_text(out, attributes[i].name, attributes[i].text);
        status = report_curves_write(out, s->files[f]);
        json_end(out, '}');
    }
    json_end(out, ']');
    return status;
}

/* ---------------------------------------------------------------- texts */

static void write_pieces(json_out *out, const study *s, size_t r)
{
    const size_t columns = s->first->T + 1;
    const int32_t *ids = (const int32_t *)s->first->tokens->data + r * columns;
    json_key(out, "tokens");
    json_begin(out, '[');
    for (size_t t = 0; t < columns; t++) {
        char number[16];
        const char *piece = number;
        if (s->run)
            piece = duo_tokenizer_piece(s->run->tokenizer, ids[t]);
        else
            snprintf(number, sizeof number, "%d ", (int)ids[t]);
        json_text(out, piece, strlen(piece));
    }
    json_end(out, ']');
}

/* A token's route is as many letters as there are layers: B, S and -. */
static void write_routes(json_out *out, const uint8_t *routes, char *letters, size_t n)
{
    for (size_t i = 0; i < n; i++) letters[i] = duo_module_letter((duo_module)routes[i]);
    json_text(out, letters, n);
}

static void write_losses(json_out *out, const float *loss, size_t T)
{
    json_begin(out, '[');
    for (size_t t = 0; t < T; t++) json_number(out, (double)loss[t], 4);
    json_end(out, ']');
}

/* letters (T * L) is scratch. */
static void write_sequence(json_out *out, const study *s, size_t r, char *letters)
{
    const size_t T = s->first->T, L = s->first->L;
    json_begin(out, '{');
    json_key_number(out, "row", (double)r);
    write_pieces(out, s, r);
    json_key(out, "loss");
    json_begin(out, '[');
    for (size_t f = 0; f < s->n; f++)
        for (size_t i = 0; i < s->files[f]->n; i++)
            write_losses(out, s->files[f]->policies[i].loss + r * T, T);
    json_end(out, ']');
    json_key(out, "routes");
    json_begin(out, '[');
    for (size_t f = 0; f < s->n; f++)
        for (size_t i = 0; i < s->files[f]->n; i++)
            write_routes(out, s->files[f]->policies[i].routes + r * T * L, letters, T * L);
    json_end(out, ']');
    json_end(out, '}');
}

/* Spread over all, so that every domain of the text is seen. */
static duo_status write_sequences(json_out *out, const study *s, size_t bytes)
{
    char *letters = malloc(s->first->T * s->first->L);
    if (!letters) return duo_fail(DUO_ENOMEM, "no memory for routes");
    const size_t each = s->first->T * (12 + s->policies * (6 + s->first->L));
    size_t n = bytes / each;
    if (n < 1) n = 1;
    if (n > MOST_SEQUENCES) n = MOST_SEQUENCES;
    if (n > s->first->R) n = s->first->R;
    json_key(out, "sequences");
    json_begin(out, '[');
    for (size_t i = 0; i < n; i++) write_sequence(out, s, i * s->first->R / n, letters);
    json_end(out, ']');
    free(letters);
    return DUO_OK;
}

/* ---------------------------------------------------------------- all */

static duo_status write_study(json_out *out, const study *s, size_t bytes)
{
    const duo_config *config = config_of(s);
    json_begin(out, '{');
    json_key_text(out, "model_hash", report_routes_text(s->first, "model_hash"));
    json_key_text(out, "language_hash", language_of(s->first));
    if (s->run) json_key_text(out, "run", s->run->folder);
    json_key_number(out, "same_model", s->same_model);
    json_key_number(out, "R", (double)s->first->R);
    json_key_number(out, "T", (double)s->first->T);
    json_key_number(out, "L", (double)s->first->L);
    if (config) json_key_number(out, "vocabulary", (double)config->vocab_size);
    duo_status status = write_files(out, s);
    if (status == DUO_OK) status = write_policies(out, s);
    if (status == DUO_OK) status = write_sequences(out, s, bytes);
    json_end(out, '}');
    return status;
}

duo_status report_studies_write(json_out *out, const report_results *results,
                                const report_run *runs, size_t n_runs, size_t bytes)
{
    size_t studies = 0, policies = 0;
    const report_routes **files = calloc(results->n_routes + 1, sizeof *files);
    if (!files) return duo_fail(DUO_ENOMEM, "no memory for %zu files", results->n_routes);
    for (size_t i = 0; i < results->n_routes; i++) {
        studies += leads(results, i);
        policies += results->routes[i].n;
    }
    duo_status status = DUO_OK;
    json_begin(out, '[');
    for (size_t i = 0; i < results->n_routes && status == DUO_OK; i++) {
        if (!leads(results, i)) continue;
        study s = {.files = files, .map_cells = ALL_MAP_CELLS / policies};
        if (s.map_cells > MAP_CELLS) s.map_cells = MAP_CELLS;
        gather(&s, results, i);
        find_run(&s, runs, n_runs);
        status = write_study(out, &s, bytes / studies);
    }
    json_end(out, ']');
    free(files);
    return status;
}
