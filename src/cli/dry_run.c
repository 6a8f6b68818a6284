#include "dry_run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duo/train.h"

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

/* `grows`: the model gets routers, for which it is copied once, before the stage is set up. */
static void print_stage(const duo_stage_recipe *stage, const duo_params *params, bool grows,
                        int width)
{
    char tokens[16], trained[16];
    const size_t weights = duo_model_bytes(params), trainer = duo_trainer_bytes(params, stage);
    const size_t rest = grows && weights > trainer ? weights : trainer;
    printf("%-*s  %-6s %9" PRIu64 " %12zu %10s %10s %12.1f %9.1f %9.1f\n", width, stage->name,
           duo_stage_kind_name(stage->kind), stage->steps, stage->batch_size * stage->seq_len,
           quantity(tokens, (double)stage->steps * (double)(stage->batch_size * stage->seq_len)),
           quantity(trained, (double)duo_params_count(params, duo_stage_trains(stage))),
           mebibytes(weights + rest), mebibytes(weights), mebibytes(rest));
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
        const duo_stage_recipe *stage = &recipe->stages[i];
        const duo_config config = duo_stage_config(stage, &params->config);
        const bool grows = !duo_config_same_routers(&config, &params->config);
        if (grows) {
            duo_params_free(params);
            const duo_status status = duo_params_create(params, &config);
            if (status != DUO_OK) return status;
        }
        print_stage(stage, params, grows, width);
    }
    return DUO_OK;
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

done:
    duo_params_free(&params);
    free(text);
    return status;
}
