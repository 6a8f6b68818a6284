#include "report_results.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duo/file.h"
#include "duo/json.h"
#include "duo/result.h"

enum { PATH_BYTES = 2 * DUO_PATH_MAX };

const char *report_routes_text(const report_routes *routes, const char *name)
{
    const duo_attribute *a = duo_store_attribute(routes->store, "/", name);
    return a && a->type == DUO_ATTR_TEXT ? a->text : "";
}

/* ---------------------------------------------------------------- one routes file */

static duo_status add_policy(report_routes *r, const char *routes_name, const char *loss_name,
                             const char *name, size_t name_bytes)
{
    const duo_dataset *routes = NULL, *loss = NULL;
    duo_status status = duo_store_require(r->store, routes_name, DUO_U8,
                                          (duo_shape){3, {r->R, r->T, r->L}}, &routes);
    if (status == DUO_OK)
        status =
            duo_store_require(r->store, loss_name, DUO_F32, (duo_shape){2, {r->R, r->T}}, &loss);
    if (status != DUO_OK) return status;
    r->L = routes->shape.size[2];
    report_policy *grown = realloc(r->policies, (r->n + 1) * sizeof *grown);
    if (!grown) return duo_fail(DUO_ENOMEM, "no memory for %zu policies", r->n + 1);
    r->policies = grown;
    grown[r->n++] = (report_policy){name, name_bytes, routes->data, loss->data};
    return DUO_OK;
}

/* Files of one policy alone have no groups. */
static duo_status add_policies(report_routes *r)
{
    static const char prefix[] = "/policies/", suffix[] = "/routes";
    const duo_dataset *all = NULL;
    const size_t n = duo_store_datasets(r->store, &all), before = sizeof prefix - 1;
    duo_status status = DUO_OK;
    for (size_t i = 0; i < n && status == DUO_OK; i++) {
        const size_t length = strlen(all[i].name);
        if (length <= before + sizeof suffix || strncmp(all[i].name, prefix, before) != 0 ||
            strcmp(all[i].name + length - (sizeof suffix - 1), suffix) != 0)
            continue;
        const size_t name_bytes = length - before - (sizeof suffix - 1);
        char loss[256];
        snprintf(loss, sizeof loss, "/policies/%.*s/loss", (int)name_bytes, all[i].name + before);
        status = add_policy(r, all[i].name, loss, all[i].name + before, name_bytes);
    }
    if (status != DUO_OK || r->n > 0) return status;
    const char *name = report_routes_text(r, "policy");
    return add_policy(r, "/routes", "/loss", name, strlen(name));
}

static void close_routes(report_routes *r)
{
    free(r->policies);
    duo_store_close(r->store);
    *r = (report_routes){0};
}

static duo_status open_routes(report_routes *r, const char *path)
{
    *r = (report_routes){0};
    duo_status status = duo_routes_open(&r->store, path);
    if (status == DUO_OK)
        status =
            duo_store_require(r->store, "/tokens", DUO_I32, (duo_shape){2, {0, 0}}, &r->tokens);
    if (status == DUO_OK) {
        r->R = r->tokens->shape.size[0];
        r->T = r->tokens->shape.size[1] - 1;
        r->L = duo_store_find(r->store, "/routes")->shape.size[2];
        status = add_policies(r);
    }
    if (status != DUO_OK) close_routes(r);
    return status;
}

static duo_status add_routes(report_results *results, const char *path)
{
    report_routes *grown =
        realloc(results->routes, (results->n_routes + 1) * sizeof *results->routes);
    if (!grown) return duo_fail(DUO_ENOMEM, "no memory for %zu files", results->n_routes + 1);
    results->routes = grown;
    const duo_status status = open_routes(&grown[results->n_routes], path);
    if (status != DUO_OK) return status;
    const duo_hash hash = duo_store_hash(grown[results->n_routes].store);
    for (size_t i = 0; i < results->n_routes; i++)
        if (duo_hash_equal(hash, duo_store_hash(grown[i].store))) {
            close_routes(&grown[results->n_routes]); /* named twice, or a copy */
            return DUO_OK;
        }
    results->n_routes++;
    return DUO_OK;
}

/* ---------------------------------------------------------------- JSON */

/* One object after another: a line each, as eval writes them, or over several lines. */
static duo_status add_objects(report_results *results, const char *path, const char *text,
                              size_t bytes)
{
    static const char blank[] = " \n\r\t";
    duo_status status = DUO_OK;
    for (size_t at = strspn(text, blank); at < bytes && status == DUO_OK;) {
        json_error_t error;
        json_t *object = NULL;
        status = duo_json_parse(&object, text + at, bytes - at, JSON_DISABLE_EOF_CHECK, &error);
        if (status == DUO_EINVAL)
            status = duo_fail(DUO_EDATA, "%s: not JSON: %s at byte %zu", path, error.text,
                              at + (size_t)error.position);
        else if (status != DUO_OK)
            status = duo_fail(status, "%s: %s", path, duo_message());
        else if (!json_is_object(object))
            status = duo_fail(DUO_EDATA, "%s: holds JSON that is no object", path);
        else if (json_object_set_new(object, "file", duo_json_string(path)) != 0 ||
                 json_array_append(results->measured, object) != 0)
            status = duo_fail(DUO_ENOMEM, "%s: no memory to keep it", path);
        else
            at += (size_t)error.position;
        json_decref(object);
        at += strspn(text + at, blank);
    }
    return status;
}

static duo_status add_json(report_results *results, const char *path)
{
    char *text = NULL;
    size_t bytes = 0;
    duo_status status = duo_file_read(&text, &bytes, path, SIZE_MAX);
    if (status == DUO_OK) status = add_objects(results, path, text, bytes);
    free(text);
    return status;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

static duo_status add_file(report_results *results, const char *path)
{
    if (ends_with(path, ".json")) return add_json(results, path);
    return add_routes(results, path);
}

/* ---------------------------------------------------------------- those in run folders */

static bool starts_with(const char *text, const char *begin)
{
    return strncmp(text, begin, strlen(begin)) == 0;
}

/* Checkpoints are known by their names, so that none of them is read through to see its kind. */
static bool may_be_results(const char *name)
{
    if (ends_with(name, ".json")) return true;
    return ends_with(name, ".h5") && !starts_with(name, "step-") && !starts_with(name, "stage-") &&
           strcmp(name, "best.h5") != 0 && strcmp(name, "next.h5") != 0;
}

static int wanted_entry(const struct dirent *entry)
{
    return may_be_results(entry->d_name);
}

/* What lies there unasked and cannot be read is noted, no failure. */
static duo_status add_folder(report_results *results, const char *folder)
{
    struct dirent **entries = NULL;
    const int n = scandir(folder, &entries, wanted_entry, alphasort);
    if (n < 0) return duo_fail(DUO_EIO, "%s: %s", folder, strerror(errno));
    duo_status status = DUO_OK;
    for (int i = 0; i < n; i++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        if (status == DUO_OK) status = add_file(results, path);
        if (status != DUO_OK && status != DUO_ENOMEM) {
            json_array_append_new(results->notes, duo_json_string(duo_message()));
            status = DUO_OK;
        }
        free(entries[i]);
    }
    free(entries);
    return status;
}

duo_status report_results_open(report_results *results, const char *const *given, size_t n_given,
                               const report_run *runs, size_t n_runs)
{
    *results = (report_results){.measured = json_array(), .notes = json_array()};
    if (!results->measured || !results->notes) return duo_fail(DUO_ENOMEM, "no memory for results");
    duo_status status = DUO_OK;
    for (size_t i = 0; i < n_given && status == DUO_OK; i++) status = add_file(results, given[i]);
    for (size_t i = 0; i < n_runs && status == DUO_OK; i++)
        status = add_folder(results, runs[i].folder);
    return status;
}

void report_results_free(report_results *results)
{
    for (size_t i = 0; i < results->n_routes; i++) close_routes(&results->routes[i]);
    free(results->routes);
    json_decref(results->measured);
    json_decref(results->notes);
    *results = (report_results){0};
}
