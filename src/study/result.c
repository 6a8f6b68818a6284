#include "duo/result.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sequences.h"

enum { ROUTES_VERSION = 2, NAME_BYTES = 128 };

/* ---------------------------------------------------------------- in memory */

static duo_status create_policies(duo_results *results, size_t n)
{
    results->policies = calloc(n, sizeof *results->policies);
    if (!results->policies) return duo_fail(DUO_ENOMEM, "no memory for %zu policies", n);
    results->n = n;
    duo_status status = DUO_OK;
    for (size_t i = 0; i < n && status == DUO_OK; i++)
        status = duo_trace_create(&results->policies[i].trace, results->sequences, results->L);
    return status;
}

duo_status duo_results_create(duo_results *results, const duo_sequences *sequences, size_t L,
                              size_t n, unsigned parts)
{
    const size_t tokens = sequences->R * sequences->T;
    const bool reference = parts & DUO_RESULTS_REFERENCE, drawn = parts & DUO_RESULTS_DRAWN,
               fixed = parts & DUO_RESULTS_FIXED, values = parts & DUO_RESULTS_VALUES;
    *results = (duo_results){.sequences = sequences, .L = L};
    duo_status status = create_policies(results, n);
    if (status != DUO_OK) goto done;
    if (reference) results->reference = calloc(1, sizeof *results->reference);
    if (drawn) results->drawn = calloc(tokens, sizeof *results->drawn);
    if (fixed) results->fixed = calloc(1, sizeof *results->fixed);
    if (values) results->values = calloc(tokens * L * DUO_MODULES, sizeof *results->values);
    if ((reference && !results->reference) || (drawn && !results->drawn) ||
        (fixed && !results->fixed) || (values && !results->values))
        status = duo_fail(DUO_ENOMEM, "no memory for the results of %zu tokens", tokens);
    else if (reference)
        status = duo_reference_create(results->reference, sequences, L);

done:
    if (status != DUO_OK) duo_results_free(results);
    return status;
}

void duo_results_free(duo_results *results)
{
    for (size_t i = 0; i < results->n; i++) duo_trace_free(&results->policies[i].trace);
    free(results->policies);
    if (results->reference) duo_reference_free(results->reference);
    free(results->reference);
    free(results->drawn);
    free(results->values);
    duo_fixed_free(results->fixed);
    free(results->fixed);
    *results = (duo_results){0};
}

const duo_trace *duo_results_find(const duo_results *results, const char *name)
{
    for (size_t i = 0; i < results->n; i++)
        if (strcmp(results->policies[i].name, name) == 0) return &results->policies[i].trace;
    return NULL;
}

/* ---------------------------------------------------------------- datasets */

/* A dataset whose first dimension is the sequences that are done. */
typedef struct row_array {
    char name[NAME_BYTES];
    duo_type type;
    duo_shape shape;
    void *data;
} row_array;

enum { POLICY_ARRAYS = 2, REFERENCE_ARRAYS = 8 };

static row_array of_policy(const duo_results *results, size_t i, bool loss)
{
    const duo_named_trace *p = &results->policies[i];
    const size_t T = results->sequences->T;
    row_array a = {.type = loss ? DUO_F32 : DUO_U8,
                   .shape = {loss ? 2 : 3, {results->done, T, loss ? 0 : results->L}},
                   .data = loss ? (void *)p->trace.loss : p->trace.routes};
    snprintf(a.name, sizeof a.name, "/policies/%s/%s", p->name, loss ? "loss" : "routes");
    return a;
}

static row_array of_reference(const duo_results *results, size_t i)
{
    const duo_reference *r = results->reference;
    const size_t R = results->done, T = results->sequences->T, L = results->L;
    const duo_shape routes = {4, {R, T, L + 1, L}}, loss = {3, {R, T, L + 1}};
    const row_array arrays[REFERENCE_ARRAYS] = {
        {"/reference/oracle/routes", DUO_U8, routes, r->oracle.routes},
        {"/reference/oracle/loss", DUO_F32, loss, r->oracle.loss},
        {"/reference/control/routes", DUO_U8, routes, r->control.routes},
        {"/reference/control/loss", DUO_F32, loss, r->control.loss},
        {"/reference/label_free/routes", DUO_U8, routes, r->label_free.routes},
        {"/reference/label_free/loss", DUO_F32, loss, r->label_free.loss},
        {"/reference/expected", DUO_F32, loss, r->expected},
        {"/reference/drawn", DUO_I32, {2, {R, T}}, r->drawn},
    };
    return arrays[i];
}

/* Array i of all that grow with the sequences; false behind the last. */
static bool array_at(const duo_results *results, size_t i, row_array *array)
{
    const size_t of_policies = POLICY_ARRAYS * results->n;
    if (i < of_policies) {
        *array = of_policy(results, i / POLICY_ARRAYS, i % POLICY_ARRAYS == 1);
        return true;
    }
    i -= of_policies;
    if (results->reference && i < REFERENCE_ARRAYS) {
        *array = of_reference(results, i);
        return true;
    }
    if (results->reference) i -= REFERENCE_ARRAYS;
    const size_t R = results->done, T = results->sequences->T;
    if (results->drawn && i-- == 0) {
        *array = (row_array){"/drawn", DUO_I32, {2, {R, T}}, results->drawn};
        return true;
    }
    if (!results->values || i > 0) return false;
    *array = (row_array){"/values", DUO_F32, {4, {R, T, results->L, DUO_MODULES}}, results->values};
    return true;
}

/* ---------------------------------------------------------------- attributes */

typedef struct setting_text {
    const char *name, *value;
} setting_text;

enum { MOST_SETTINGS = 15 };

typedef struct described {
    char hash[33], language[33], tokens[33], modules[16], seed[24], sequences[24];
    setting_text list[MOST_SETTINGS];
    size_t n;
} described;

/* NULL for the zero of what is not known. */
static const char *hash_text(char text[33], duo_hash hash)
{
    return hash.high != 0 || hash.low != 0 ? duo_hash_text(text, hash) : NULL;
}

static void describe(described *d, const duo_routes_origin *origin, const duo_sequences *sequences)
{
    snprintf(d->seed, sizeof d->seed, "%llu", (unsigned long long)origin->seed);
    snprintf(d->sequences, sizeof d->sequences, "%zu", sequences->R);
    const setting_text all[MOST_SETTINGS] = {
        {"model_hash", duo_hash_text(d->hash, origin->model)},
        {"language_hash", hash_text(d->language, origin->language)},
        {"tokens_hash", hash_text(d->tokens, origin->tokens)},
        {"policy", origin->policy},
        {"context", origin->context},
        {"reference", origin->reference},
        {"modules", duo_module_set_text(d->modules, origin->modules)},
        {"budget", origin->budget},
        {"method", origin->method},
        {"goal", origin->goal},
        {"baselines", origin->baselines},
        {"values", origin->values},
        {"split", sequences->split},
        {"seed", d->seed},
        {"sequences", d->sequences},
    };
    d->n = 0;
    for (size_t i = 0; i < MOST_SETTINGS; i++)
        if (all[i].value) d->list[d->n++] = all[i];
}

/* ---------------------------------------------------------------- writing */

static duo_status write_usage(duo_store_writer *file, const duo_results *results, size_t i)
{
    const size_t R = results->done, T = results->sequences->T, L = results->L;
    const uint8_t *routes = results->policies[i].trace.routes;
    char name[NAME_BYTES];
    uint32_t *usage = calloc(L * T * DUO_MODULES, sizeof *usage);
    if (!usage) return duo_fail(DUO_ENOMEM, "no memory for the usage of %zu layers", L);
    for (size_t n = 0; n < R * T; n++)
        for (size_t l = 0; l < L; l++) usage[(l * T + n % T) * DUO_MODULES + routes[n * L + l]]++;
    snprintf(name, sizeof name, "/policies/%s/usage", results->policies[i].name);
    const duo_status status =
        duo_store_write(file, name, DUO_U32, (duo_shape){3, {L, T, DUO_MODULES}}, usage);
    free(usage);
    return status;
}

static duo_status write_fixed(duo_store_writer *file, const duo_fixed *fixed)
{
    const size_t L = fixed->L;
    duo_status status = duo_store_write(file, "/fixed/patterns", DUO_U8, (duo_shape){2, {L + 1, L}},
                                        fixed->patterns);
    if (status == DUO_OK)
        status =
            duo_store_write(file, "/fixed/loss", DUO_F64, (duo_shape){1, {L + 1}}, fixed->loss);
    if (status == DUO_OK) status = duo_store_set_u64(file, "/fixed", "evaluated", fixed->evaluated);
    return status;
}

static duo_status write_datasets(duo_store_writer *file, const duo_results *results)
{
    const duo_trace *first = &results->policies[0].trace;
    const size_t R = results->done, T = results->sequences->T, L = results->L;
    duo_status status = duo_store_write(file, "/tokens", DUO_I32, (duo_shape){2, {R, T + 1}},
                                        results->sequences->tokens);
    if (status == DUO_OK)
        status = duo_store_write(file, "/routes", DUO_U8, (duo_shape){3, {R, T, L}}, first->routes);
    if (status == DUO_OK)
        status = duo_store_write(file, "/loss", DUO_F32, (duo_shape){2, {R, T}}, first->loss);
    row_array a;
    for (size_t i = 0; status == DUO_OK && array_at(results, i, &a); i++)
        status = duo_store_write(file, a.name, a.type, a.shape, a.data);
    for (size_t i = 0; i < results->n && status == DUO_OK; i++)
        status = write_usage(file, results, i);
    if (status == DUO_OK && results->fixed && results->fixed->patterns)
        status = write_fixed(file, results->fixed);
    return status;
}

duo_status duo_results_write(const char *path, const duo_results *results,
                             const duo_routes_origin *origin)
{
    described d;
    duo_store_writer *file = NULL;
    describe(&d, origin, results->sequences);
    duo_status status = duo_store_create(&file, path, DUO_KIND_ROUTES);
    if (status == DUO_OK) status = write_datasets(file, results);
    if (status == DUO_OK) status = duo_store_set_u64(file, "/", "format_version", ROUTES_VERSION);
    if (status == DUO_OK) status = duo_store_set_u64(file, "/", "sequences_done", results->done);
    for (size_t i = 0; i < d.n && status == DUO_OK; i++)
        status = duo_store_set_text(file, "/", d.list[i].name, d.list[i].value);
    if (status == DUO_OK) status = duo_store_commit(file);
    duo_store_writer_free(file);
    return status;
}

/* ---------------------------------------------------------------- going on */

static duo_status check_version(const duo_store *file, uint64_t least)
{
    uint64_t version = 0;
    const duo_status status = duo_store_get_u64(file, "/", "format_version", &version);
    if (status != DUO_OK) return status;
    if (version >= least && version <= ROUTES_VERSION) return DUO_OK;
    return duo_fail(DUO_EINVAL, "%s: routes of format %llu, this program %s %d",
                    duo_store_path(file), (unsigned long long)version,
                    version < least ? "goes on with" : "reads up to", ROUTES_VERSION);
}

static bool last_part_is(const char *name, const char *part)
{
    return strcmp(strrchr(name, '/') + 1, part) == 0;
}

static duo_status check_modules(const duo_store *file, const duo_dataset *routes)
{
    const uint8_t *modules = routes->data;
    for (size_t i = 0; i < routes->count; i++)
        if (modules[i] >= DUO_MODULES)
            return duo_fail(DUO_EDATA, "%s: %s holds %d, which is no module", duo_store_path(file),
                            routes->name, (int)modules[i]);
    return DUO_OK;
}

/* Policies measure every token; a curve is infinite where no route has its budget. */
static duo_status check_losses(const duo_store *file, const duo_dataset *loss)
{
    const bool curve =
        strncmp(loss->name, "/reference/", 11) == 0 || strncmp(loss->name, "/fixed/", 7) == 0;
    for (size_t i = 0; i < loss->count; i++) {
        const double value = loss->type == DUO_F32 ? (double)((const float *)loss->data)[i]
                                                   : ((const double *)loss->data)[i];
        if (isnan(value) || (isinf(value) && !curve))
            return duo_fail(DUO_EDATA, "%s: %s holds what is not finite", duo_store_path(file),
                            loss->name);
    }
    return DUO_OK;
}

/* What no reader can use, whichever part of the file it wants. */
static duo_status check_contents(const duo_store *file)
{
    const duo_dataset *tokens = NULL, *routes = NULL, *all = NULL;
    duo_status status =
        duo_store_require(file, "/tokens", DUO_I32, (duo_shape){.rank = 2}, &tokens);
    if (status != DUO_OK) return status;
    const size_t R = tokens->shape.size[0], columns = tokens->shape.size[1];
    if (R == 0 || columns < 2)
        return duo_fail(DUO_EDATA, "%s: /tokens holds no sequence", duo_store_path(file));
    status =
        duo_store_require(file, "/routes", DUO_U8, (duo_shape){3, {R, columns - 1, 0}}, &routes);
    if (status == DUO_OK && routes->count == 0)
        status = duo_fail(DUO_EDATA, "%s: /routes holds no layer", duo_store_path(file));
    const size_t n = duo_store_datasets(file, &all);
    for (size_t i = 0; i < n && status == DUO_OK; i++) {
        const duo_dataset *d = &all[i];
        if (d->type == DUO_U8 &&
            (last_part_is(d->name, "routes") || last_part_is(d->name, "patterns")))
            status = check_modules(file, d);
        else if ((d->type == DUO_F32 || d->type == DUO_F64) &&
                 (last_part_is(d->name, "loss") || last_part_is(d->name, "expected")))
            status = check_losses(file, d);
    }
    return status;
}

duo_status duo_routes_open(duo_store **file, const char *path)
{
    duo_status status = duo_store_open(file, path, DUO_KIND_ROUTES);
    if (status == DUO_OK) status = check_version(*file, 1);
    if (status == DUO_OK) status = check_contents(*file);
    if (status == DUO_OK) return DUO_OK;
    duo_store_close(*file);
    *file = NULL;
    return status;
}

static duo_status check_settings(const duo_store *file, const duo_routes_origin *origin,
                                 const duo_sequences *sequences)
{
    described d;
    describe(&d, origin, sequences);
    for (size_t i = 0; i < d.n; i++) {
        const duo_attribute *has = duo_store_attribute(file, "/", d.list[i].name);
        /* Older files do not tell it; the sequences themselves are compared, too. */
        if (!has && strcmp(d.list[i].name, "split") == 0) continue;
        const char *text = has && has->type == DUO_ATTR_TEXT ? has->text : "none";
        if (strcmp(text, d.list[i].value) != 0)
            return duo_fail(DUO_EINVAL,
                            "%s: holds results with %s %s, wanted is %s; give another output",
                            duo_store_path(file), d.list[i].name, text, d.list[i].value);
    }
    return DUO_OK;
}

static duo_status resume_fixed(duo_fixed *fixed, const duo_store *file, size_t L)
{
    const duo_dataset *patterns = NULL, *loss = NULL;
    uint64_t evaluated = 0;
    duo_status status =
        duo_store_require(file, "/fixed/patterns", DUO_U8, (duo_shape){2, {L + 1, L}}, &patterns);
    if (status == DUO_OK)
        status = duo_store_require(file, "/fixed/loss", DUO_F64, (duo_shape){1, {L + 1}}, &loss);
    if (status == DUO_OK) status = duo_store_get_u64(file, "/fixed", "evaluated", &evaluated);
    if (status != DUO_OK) return status;
    *fixed = (duo_fixed){.L = L, .evaluated = (size_t)evaluated};
    fixed->patterns = malloc(patterns->count);
    fixed->loss = malloc(loss->count * sizeof *fixed->loss);
    if (!fixed->patterns || !fixed->loss)
        return duo_fail(DUO_ENOMEM, "%s: no memory for its patterns", duo_store_path(file));
    memcpy(fixed->patterns, patterns->data, patterns->count);
    memcpy(fixed->loss, loss->data, loss->count * sizeof *fixed->loss);
    return DUO_OK;
}

static duo_status take_over(duo_results *results, const duo_store *file)
{
    const duo_sequences *all = results->sequences;
    const duo_dataset *tokens = NULL, *data = NULL;
    uint64_t done = 0;
    duo_status status = duo_store_get_u64(file, "/", "sequences_done", &done);
    if (status != DUO_OK) return status;
    if (done == 0 || done > all->R)
        return duo_fail(DUO_EDATA, "%s: %llu of %zu sequences are done", duo_store_path(file),
                        (unsigned long long)done, all->R);
    const duo_shape shape = {2, {(size_t)done, all->T + 1}};
    status = duo_store_require(file, "/tokens", DUO_I32, shape, &tokens);
    if (status != DUO_OK) return status;
    if (memcmp(tokens->data, all->tokens, tokens->count * sizeof *all->tokens) != 0)
        return duo_fail(DUO_EINVAL, "%s: holds results of other sequences; give another output",
                        duo_store_path(file));
    results->done = (size_t)done;
    row_array a;
    for (size_t i = 0; array_at(results, i, &a); i++) {
        status = duo_store_require(file, a.name, a.type, a.shape, &data);
        if (status != DUO_OK) return status;
        memcpy(a.data, data->data, data->count * duo_type_size(a.type));
    }
    return results->fixed ? resume_fixed(results->fixed, file, results->L) : DUO_OK;
}

duo_status duo_results_resume(duo_results *results, const char *path,
                              const duo_routes_origin *origin)
{
    duo_store *file = NULL;
    results->done = 0;
    if (access(path, F_OK) != 0 && errno == ENOENT) return DUO_OK;
    duo_status status = duo_routes_open(&file, path);
    if (status == DUO_OK) status = check_version(file, ROUTES_VERSION);
    if (status == DUO_OK) status = check_settings(file, origin, results->sequences);
    if (status == DUO_OK) status = take_over(results, file);
    duo_store_close(file);
    if (status != DUO_OK) results->done = 0;
    return status;
}

/* ---------------------------------------------------------------- one policy of a file */

static duo_status check_model(const duo_store *file, duo_hash model)
{
    const char *hash = NULL;
    char expected[33];
    const duo_status status = duo_store_get_text(file, "/", "model_hash", &hash);
    if (status != DUO_OK) return status;
    if (strcmp(hash, duo_hash_text(expected, model)) == 0) return DUO_OK;
    return duo_fail(DUO_EINVAL, "%s: was found for the model %s, this one is %s",
                    duo_store_path(file), hash, expected);
}

static const char *read_split(const duo_store *file)
{
    static const char *const splits[] = {"training", "held-out", "text"};
    const duo_attribute *is = duo_store_attribute(file, "/", "split");
    for (size_t i = 0; is && is->type == DUO_ATTR_TEXT && i < sizeof splits / sizeof *splits; i++)
        if (strcmp(is->text, splits[i]) == 0) return splits[i];
    return NULL;
}

static duo_status read_sequences(const duo_store *file, const duo_config *config,
                                 duo_sequences *sequences)
{
    const duo_dataset *tokens = NULL;
    const duo_status status =
        duo_store_require(file, "/tokens", DUO_I32, (duo_shape){2, {0, 0}}, &tokens);
    if (status != DUO_OK) return status;
    const size_t R = tokens->shape.size[0], columns = tokens->shape.size[1];
    *sequences = (duo_sequences){.R = R,
                                 .T = columns - 1,
                                 .tokens = malloc(R * columns * sizeof(int32_t)),
                                 .split = read_split(file)};
    if (!sequences->tokens)
        return duo_fail(DUO_ENOMEM, "%s: no memory for its tokens", duo_store_path(file));
    memcpy(sequences->tokens, tokens->data, R * columns * sizeof(int32_t));
    return study_sequences_check(sequences, config, DUO_EDATA, duo_store_path(file));
}

/* name NULL: the file's first policy. */
static duo_status read_policy(const duo_store *file, const char *name, const duo_config *config,
                              duo_sequences *sequences, duo_trace *trace)
{
    const size_t L = config->n_layers;
    const duo_dataset *routes = NULL, *loss = NULL;
    char path[2][NAME_BYTES] = {"/routes", "/loss"};
    if (name) {
        const int a = snprintf(path[0], NAME_BYTES, "/policies/%s/routes", name);
        const int b = snprintf(path[1], NAME_BYTES, "/policies/%s/loss", name);
        if (a >= NAME_BYTES || b >= NAME_BYTES || !duo_store_find(file, path[0]))
            return duo_fail(DUO_EINVAL, "%s: holds no policy %s; duo inspect lists them",
                            duo_store_path(file), name);
    }
    duo_status status = read_sequences(file, config, sequences);
    if (status != DUO_OK) return status;
    const size_t R = sequences->R, T = sequences->T;
    status = duo_store_require(file, path[0], DUO_U8, (duo_shape){3, {R, T, L}}, &routes);
    if (status == DUO_OK)
        status = duo_store_require(file, path[1], DUO_F32, (duo_shape){2, {R, T}}, &loss);
    if (status == DUO_OK) status = duo_trace_create(trace, sequences, L);
    if (status != DUO_OK) return status;
    memcpy(trace->routes, routes->data, R * T * L);
    memcpy(trace->loss, loss->data, R * T * sizeof(float));
    return DUO_OK;
}

size_t duo_routes_path_length(const char *path_and_name)
{
    const char *mark = strrchr(path_and_name, '#');
    return mark && access(path_and_name, F_OK) != 0 ? (size_t)(mark - path_and_name)
                                                    : strlen(path_and_name);
}

duo_status duo_routes_read(const char *path_and_name, const duo_model *model, duo_hash model_hash,
                           duo_sequences *sequences, duo_trace *trace)
{
    duo_store *file = NULL;
    *sequences = (duo_sequences){0};
    *trace = (duo_trace){0};
    char *path = strdup(path_and_name);
    if (!path) return duo_fail(DUO_ENOMEM, "%s: no memory", path_and_name);
    const size_t length = duo_routes_path_length(path);
    const char *name = path[length] ? path + length + 1 : NULL;
    path[length] = '\0';
    duo_status status = duo_routes_open(&file, path);
    if (status == DUO_OK) status = check_model(file, model_hash);
    if (status == DUO_OK) status = read_policy(file, name, &model->params.config, sequences, trace);
    duo_store_close(file);
    free(path);
    if (status == DUO_OK) return DUO_OK;
    duo_sequences_free(sequences);
    duo_trace_free(trace);
    return status;
}

/* ---------------------------------------------------------------- a reference search of a file */

static duo_status read_reference(const duo_store *file, const duo_config *config,
                                 duo_sequences *sequences, duo_reference *reference)
{
    const size_t L = config->n_layers;
    const duo_dataset *data = NULL;
    duo_status status = read_sequences(file, config, sequences);
    if (status == DUO_OK) status = duo_reference_create(reference, sequences, L);
    duo_results view = {.sequences = sequences, .L = L, .done = sequences->R};
    view.reference = reference;
    row_array a;
    for (size_t i = 0; status == DUO_OK && array_at(&view, i, &a); i++) {
        status = duo_store_require(file, a.name, a.type, a.shape, &data);
        if (status == DUO_OK) memcpy(a.data, data->data, data->count * duo_type_size(a.type));
    }
    return status;
}

duo_status duo_reference_read(const char *path, const duo_model *model, duo_hash model_hash,
                              duo_sequences *sequences, duo_reference *reference, duo_fixed *fixed)
{
    duo_store *file = NULL;
    *fixed = (duo_fixed){0};
    *sequences = (duo_sequences){0};
    *reference = (duo_reference){0};
    duo_status status = duo_routes_open(&file, path);
    if (status == DUO_OK) status = check_model(file, model_hash);
    if (status == DUO_OK)
        status = read_reference(file, &model->params.config, sequences, reference);
    if (status == DUO_OK) status = resume_fixed(fixed, file, model->params.config.n_layers);
    duo_store_close(file);
    if (status == DUO_OK) return DUO_OK;
    duo_fixed_free(fixed);
    duo_sequences_free(sequences);
    duo_reference_free(reference);
    return status;
}
