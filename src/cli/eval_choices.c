#include "eval_choices.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "duo/choice.h"
#include "duo/file.h"

static const char *const rule_names[DUO_CHOICE_RULES] = {"summed", "per byte", "per token"};
static const char *const rule_keys[DUO_CHOICE_RULES] = {"accuracy", "accuracy_per_byte",
                                                        "accuracy_per_token"};

static const char *accuracy_text(char text[32], const duo_choice_result *r, duo_choice_rule rule)
{
    if (isnan(r->error[rule]))
        snprintf(text, 32, "%.1f %%", 100 * r->accuracy[rule]);
    else
        snprintf(text, 32, "%.1f +- %.1f %%", 100 * r->accuracy[rule], 100 * r->error[rule]);
    return text;
}

static void print_table(const duo_choice_set *set, const duo_choice_result *results,
                        const duo_policy *const *policies, size_t n)
{
    int width = (int)strlen("policy");
    for (size_t i = 0; i < n; i++)
        if ((int)strlen(policies[i]->name) > width) width = (int)strlen(policies[i]->name);
    printf("%zu items of %s, chance %.1f %%\n", set->n, set->name, 100 * results[0].chance);
    if (results[0].cut > 0)
        printf("%zu contexts are longer than the model sees: cut on the left\n", results[0].cut);
    printf("%-*s", width, "policy");
    for (duo_choice_rule rule = 0; rule < DUO_CHOICE_RULES; rule++)
        printf("  %-16s", rule_names[rule]);
    puts("     big");
    for (size_t i = 0; i < n; i++) {
        char text[32];
        printf("%-*s", width, policies[i]->name);
        for (duo_choice_rule rule = 0; rule < DUO_CHOICE_RULES; rule++)
            printf("  %-16s", accuracy_text(text, &results[i], rule));
        printf("  %5.1f%%\n", 100 * results[i].share[DUO_BIG]);
    }
    puts(
        "accuracy of the choice with the highest log-likelihood: summed, per byte of its text, per "
        "token");
}

/* What a token of these shares costs where the model sees as much as it can: on text of any length
 * the same number, which duo eval gives for windows of that length. */
static double flops_per_token(const duo_config *config, const duo_policy *policy,
                              const double share[DUO_MODULES])
{
    double flops = duo_flops_base(config, ((double)config->max_seq + 1) / 2);
    if (policy->kind == DUO_POLICY_ROUTER) flops += duo_flops_routers(config);
    for (duo_module m = 0; m < DUO_MODULES; m++)
        flops += (double)config->n_layers * share[m] * duo_flops_ffn(config, m);
    return flops;
}

static duo_status write_json(const char *path, const duo_checkpoint *checkpoint,
                             const duo_model *model, const duo_choice_set *set,
                             const duo_choice_result *results, const duo_policy *const *policies,
                             size_t n)
{
    duo_text_file file;
    const duo_status status = duo_text_file_begin(&file, path);
    if (status != DUO_OK) return status;
    FILE *out = file.out;
    for (size_t i = 0; i < n; i++) {
        const duo_choice_result *r = &results[i];
        fputs("{\"policy\":", out);
        duo_cli_json_text(out, policies[i]->name);
        putc(',', out);
        duo_cli_json_model(out, checkpoint, model);
        fputs(",\"choices\":", out);
        duo_cli_json_text(out, set->name);
        fprintf(out, ",\"items\":%zu,\"cut\":%zu,", set->n, r->cut);
        duo_cli_json_number(out, "chance", r->chance);
        for (duo_choice_rule rule = 0; rule < DUO_CHOICE_RULES; rule++) {
            char key[48];
            putc(',', out);
            duo_cli_json_number(out, rule_keys[rule], r->accuracy[rule]);
            snprintf(key, sizeof key, "%s_error", rule_keys[rule]);
            putc(',', out);
            duo_cli_json_number(out, key, r->error[rule]);
        }
        putc(',', out);
        duo_cli_json_number(out, "big_share", r->share[DUO_BIG]);
        putc(',', out);
        duo_cli_json_number(out, "flops_per_token",
                            flops_per_token(&model->params.config, policies[i], r->share));
        fputs("}\n", out);
    }
    return duo_text_file_end(&file, DUO_OK);
}

duo_status duo_cli_answer_choices(const char *path, const duo_checkpoint *checkpoint,
                                  const duo_model *model, const duo_policy *const *policies,
                                  size_t n, uint64_t seed, size_t rows, const char *json)
{
    duo_choice_set set = {0};
    duo_tokenizer *tokenizer = NULL;
    duo_choice_result *results = calloc(n, sizeof *results);
    if (!results) return duo_fail(DUO_ENOMEM, "no memory for %zu policies", n);
    duo_status status = duo_choices_read(&set, path);
    if (status == DUO_OK) status = duo_checkpoint_open_tokenizer(checkpoint, &tokenizer);
    for (size_t i = 0; i < n && status == DUO_OK; i++) {
        duo_cli_task task = {
            .name = policies[i]->name, .unit = "choices", .started = duo_cli_seconds()};
        status = duo_choices_score(&results[i], NULL, &set, model, tokenizer, policies[i], seed,
                                   rows, duo_cli_task_progress, &task);
        duo_cli_progress_end();
    }
    if (status == DUO_OK) print_table(&set, results, policies, n);
    if (status == DUO_OK && json)
        status = write_json(json, checkpoint, model, &set, results, policies, n);
    duo_tokenizer_free(tokenizer);
    duo_choices_free(&set);
    free(results);
    return status;
}
