#include "dry_run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "duo/result.h"
#include "duo/train.h"
#include "training.h"

/* "1.399 B", "59.0 M", "12.3 k" */
static const char *quantity(char text[16], double value)
{
    if (value >= 1e9)
        snprintf(text, 16, "%.3f B", value / 1e9);
    else if (value >= 1e6)
        snprintf(text, 16, "%.1f M", value / 1e6);
    else
        snprintf(text, 16, "%.1f k", value / 1e3);
    return text;
}

static void print_parameters(const duo_params *params)
{
    char text[16];
    const size_t all = duo_params_count(params, DUO_ALL_GROUPS);
    printf("parameters %s\n", quantity(text, (double)all));
    for (duo_group g = 0; g < DUO_GROUPS; g++) {
        const size_t count = duo_params_count(params, DUO_GROUP_BIT(g));
        if (count > 0)
            printf("  %-10s %9s  %5.1f %%  (%zu)\n", duo_group_name(g),
                   quantity(text, (double)count), 100.0 * (double)count / (double)all, count);
    }
}

static void print_flops(const duo_config *c)
{
    const double context = ((double)c->max_seq + 1) / 2, L = (double)c->n_layers;
    printf("forward MFLOP per token, %zu positions: ", c->max_seq);
    for (duo_module m = DUO_SKIP; m <= DUO_BIG; m++)
        printf("%sall %s %.3f", m == DUO_SKIP ? "" : ", ", duo_module_name(m),
               (duo_flops_base(c, context) + L * duo_flops_ffn(c, m)) / 1e6);
    puts("");
}

static double mebibytes(size_t bytes)
{
    return (double)bytes / (double)(1 << 20);
}

/* What a stage needs beside the model's weights. `grows`: the model gets routers, for which it is
 * copied once, before the stage is set up. */
static size_t bytes_beside(const duo_stage_recipe *stage, const duo_params *params, bool grows)
{
    const size_t weights = duo_model_bytes(params), rest = duo_stage_bytes(params, stage);
    return grows && weights > rest ? weights : rest;
}

static void print_stage(const duo_stage_recipe *stage, const duo_params *params, bool grows,
                        int width)
{
    char tokens[16], trained[16];
    const size_t weights = duo_model_bytes(params), rest = bytes_beside(stage, params, grows);
    printf("%-*s  %-6s %9" PRIu64 " %12zu %10s %10s %12.1f %9.1f %9.1f\n", width, stage->name,
           duo_stage_kind_name(stage->kind), stage->steps, stage->batch_size * stage->seq_len,
           quantity(tokens, (double)stage->steps * (double)(stage->batch_size * stage->seq_len)),
           quantity(trained, (double)duo_params_count(params, duo_stage_trains(stage))),
           mebibytes(weights + rest), mebibytes(weights), mebibytes(rest));
}

/* The model as stage i has it. *grows: it gets other routers than it had before. */
static duo_status enter_stage(duo_params *params, const duo_stage_recipe *stage, bool *grows)
{
    const duo_config config = duo_stage_config(stage, &params->config);
    *grows = !duo_config_same_routers(&config, &params->config);
    if (!*grows) return DUO_OK;
    duo_params_free(params);
    return duo_params_create(params, &config);
}

static duo_status print_stages(const duo_recipe *recipe, duo_params *params)
{
    int width = (int)strlen("stage");
    for (size_t i = 0; i < recipe->n_stages; i++) {
        const int length = (int)strlen(recipe->stages[i].name);
        if (length > width) width = length;
    }
    printf("%-*s  %-6s %9s %12s %10s %10s %12s %9s %9s\n", width, "stage", "kind", "steps",
           "tokens/step", "tokens", "trains", "memory, MiB", "weights", "rest");
    for (size_t i = 0; i < recipe->n_stages; i++) {
        bool grows = false;
        const duo_status status = enter_stage(params, &recipe->stages[i], &grows);
        if (status != DUO_OK) return status;
        print_stage(&recipe->stages[i], params, grows, width);
    }
    return DUO_OK;
}

/* ---------------------------------------------------------------- what will go wrong */

static void warn_of_teacher(const duo_stage_recipe *stage)
{
    duo_store *file = NULL;
    if (!stage->teacher[0]) return;
    if (duo_routes_open(&file, stage->teacher) != DUO_OK)
        duo_warn("stage %s: its teacher cannot be read yet: %s", stage->name, duo_message());
    duo_store_close(file);
}

static void warn_of_untrained(const duo_stage_recipe *first)
{
    if (duo_stage_trains(first) & DUO_GROUP_BIT(DUO_GROUP_BIG)) return;
    duo_warn("stage %s: nothing has trained the model before it; `init` starts from the weights of "
             "another run",
             first->name);
}

duo_status duo_cli_foresee(const duo_recipe *recipe)
{
    const double machine = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    duo_params params = {0};
    duo_status status = duo_params_create(&params, &recipe->model);
    for (size_t i = 0; i < recipe->n_stages && status == DUO_OK; i++) {
        const duo_stage_recipe *stage = &recipe->stages[i];
        bool grows = false;
        warn_of_teacher(stage);
        status = enter_stage(&params, stage, &grows);
        if (status != DUO_OK) break;
        const double bytes =
            (double)duo_model_bytes(&params) + (double)bytes_beside(stage, &params, grows);
        if (machine > 0 && bytes > machine)
            duo_warn("stage %s: needs %.0f MiB, this machine has %.0f; a smaller micro_batch needs "
                     "less",
                     stage->name, bytes / 0x1p20, machine / 0x1p20);
    }
    if (recipe->n_stages > 0 && !recipe->init[0]) warn_of_untrained(&recipe->stages[0]);
    duo_params_free(&params);
    return status;
}

/* The files that are there already fit. */
static duo_status check_files(const duo_recipe *recipe)
{
    duo_tokens *tokens = NULL;
    duo_checkpoint *from = NULL;
    duo_status status = DUO_OK;
    if (recipe->tokens[0] && access(recipe->tokens, F_OK) == 0)
        status = duo_training_open_tokens(&tokens, recipe);
    if (status == DUO_OK && recipe->init[0] && access(recipe->init, F_OK) != 0)
        duo_warn("its init cannot be read yet: %s: %s", recipe->init, strerror(errno));
    else if (status == DUO_OK && recipe->init[0])
        status = duo_training_open_init(&from, recipe, tokens);
    duo_checkpoint_close(from);
    duo_tokens_close(tokens);
    return status;
}

duo_status duo_cli_dry_run(const duo_recipe *recipe)
{
    duo_params params = {0};
    char *text = duo_recipe_text(recipe);
    duo_status status = text ? duo_params_create(&params, &recipe->model)
                             : duo_fail(DUO_ENOMEM, "no memory for the recipe's text");
    if (status != DUO_OK) goto done;
    printf("%s\n", text);
    print_parameters(&params);
    print_flops(&recipe->model);
    status = print_stages(recipe, &params);
    if (status == DUO_OK) status = duo_cli_foresee(recipe);
    if (status == DUO_OK) status = check_files(recipe);

done:
    duo_params_free(&params);
    free(text);
    return status;
}
