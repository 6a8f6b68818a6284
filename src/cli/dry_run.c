#include "dry_run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

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

static const char *mebibytes(char text[16], size_t bytes)
{
    snprintf(text, 16, "%.1f MiB", (double)bytes / (double)(1 << 20));
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

/* `grows`: the model gets routers, for which it is copied once, before the stage is set up. */
static void print_stage(const duo_stage_recipe *stage, const duo_params *params, bool grows)
{
    const size_t trainer = duo_trainer_bytes(params, stage), copy = duo_model_bytes(params);
    char size[16], tokens[16], trained[16];
    printf("stage %s (%s): %" PRIu64 " steps of %zu x %zu tokens, %s tokens in all; trains %s; "
           "memory beside the weights %s\n",
           stage->name, duo_stage_kind_name(stage->kind), stage->steps, stage->batch_size,
           stage->seq_len,
           quantity(tokens, (double)stage->steps * (double)(stage->batch_size * stage->seq_len)),
           quantity(trained, (double)duo_params_count(params, duo_stage_trains(stage))),
           mebibytes(size, grows && copy > trainer ? copy : trainer));
}

duo_status duo_cli_dry_run(const duo_recipe *recipe)
{
    char size[16];
    duo_params params = {0};
    char *text = duo_recipe_text(recipe);
    duo_status status = text ? duo_params_create(&params, &recipe->model)
                             : duo_fail(DUO_ENOMEM, "no memory for the recipe's text");
    if (status != DUO_OK) goto done;
    printf("%s\n", text);
    print_parameters(&params);
    print_flops(&recipe->model);
    printf("weights %s\n", mebibytes(size, duo_model_bytes(&params)));
    for (size_t i = 0; i < recipe->n_stages; i++) {
        const duo_stage_recipe *stage = &recipe->stages[i];
        duo_config config = params.config;
        const bool grows =
            stage->kind == DUO_STAGE_ROUTER && config.router_modules != stage->modules;
        if (grows) {
            config.router_modules = stage->modules;
            duo_params_free(&params);
            if ((status = duo_params_create(&params, &config)) != DUO_OK) goto done;
        }
        print_stage(stage, &params, grows);
    }

done:
    duo_params_free(&params);
    free(text);
    return status;
}
