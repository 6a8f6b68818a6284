#include "teacher.h"

#include <string.h>

#include "duo/checkpoint.h"
#include "duo/result.h"

static duo_status check_tokens(const duo_cli_teacher *t, const duo_config *config)
{
    const char *path = duo_store_path(t->file);
    const size_t R = t->routes.R, T = t->routes.T;
    for (size_t i = 0; i < R * (T + 1); i++)
        if (t->routes.tokens[i] < 0 || (size_t)t->routes.tokens[i] >= config->vocab_size)
            return duo_fail(DUO_EDATA, "%s: token %d of sequence %zu is outside the vocabulary",
                            path, (int)t->routes.tokens[i], i / (T + 1));
    return DUO_OK;
}

static duo_status open_values(duo_cli_teacher *t, const duo_config *config)
{
    const size_t R = t->routes.R, T = t->routes.T, L = config->n_layers;
    const duo_dataset *values = NULL;
    const duo_status status = duo_store_require(t->file, "/values", DUO_F32,
                                                (duo_shape){4, {R, T, L, DUO_MODULES}}, &values);
    if (status != DUO_OK) return status;
    t->routes.values = values->data;
    t->routes.unit = duo_teacher_unit(t->routes.values, R * T * L, config->router_modules);
    return DUO_OK;
}

static duo_status check_origin(const duo_cli_teacher *t, const duo_model *model)
{
    const char *found = NULL;
    char whole[33], language[33];
    const duo_status status = duo_store_get_text(t->file, "/", "model_hash", &found);
    if (status != DUO_OK) return status;
    duo_hash_text(whole, duo_model_hash(model));
    duo_hash_text(language, duo_model_hash_without_routers(model));
    const duo_attribute *of = duo_store_attribute(t->file, "/", "language_hash");
    const bool same = of && of->type == DUO_ATTR_TEXT && strcmp(of->text, language) == 0;
    if (!same && strcmp(found, whole) != 0 && strcmp(found, language) != 0)
        duo_warn("%s: its routes were found for another model", duo_store_path(t->file));
    return DUO_OK;
}

/* Routers that were shown held-out successors are measured on what they were taught. */
static void warn_of_held_out(const duo_cli_teacher *t)
{
    const duo_attribute *split = duo_store_attribute(t->file, "/", "split");
    if (split && split->type == DUO_ATTR_TEXT && strcmp(split->text, "held-out") == 0)
        duo_warn("%s: its routes are of held-out text: held-out losses of what it teaches say "
                 "nothing; duo oracle --training finds others",
                 duo_store_path(t->file));
}

duo_status duo_cli_teacher_open(duo_cli_teacher *t, const char *path, const duo_model *model,
                                bool fresh)
{
    const duo_config *config = &model->params.config;
    const duo_dataset *tokens = NULL, *routes = NULL;
    *t = (duo_cli_teacher){0};
    duo_status status = duo_routes_open(&t->file, path);
    if (status == DUO_OK)
        status = duo_store_require(t->file, "/tokens", DUO_I32, (duo_shape){.rank = 2}, &tokens);
    if (status != DUO_OK) return status;
    t->routes.R = tokens->shape.size[0];
    t->routes.T = tokens->shape.size[1] - 1;
    const duo_shape of_routes = {3, {t->routes.R, t->routes.T, config->n_layers}};
    status = duo_store_require(t->file, "/routes", DUO_U8, of_routes, &routes);
    if (status != DUO_OK) return status;
    t->routes.tokens = tokens->data;
    t->routes.routes = routes->data;
    status = check_tokens(t, config);
    if (status == DUO_OK && duo_store_find(t->file, "/values")) status = open_values(t, config);
    if (status == DUO_OK) warn_of_held_out(t);
    return status == DUO_OK && fresh ? check_origin(t, model) : status;
}

void duo_cli_teacher_close(duo_cli_teacher *t)
{
    duo_store_close(t->file);
    *t = (duo_cli_teacher){0};
}
