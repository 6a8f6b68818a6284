#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "budget_rule.h"
#include "duo/number.h"

/* ---------------------------------------------------------------- as text */

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* One end of a range: `length` characters of text. */
static bool read_bound(double *value, const char *text, size_t length, bool count)
{
    char number[32];
    uint64_t whole = 0;
    if (length >= sizeof number) return false;
    memcpy(number, text, length);
    number[length] = 0;
    if (!count) return duo_number_real(value, number) == DUO_NUMBER_OK && *value >= 0;
    if (duo_number_u64(&whole, number) != DUO_NUMBER_OK || whole >= STUDY_LEVELS) return false;
    *value = (double)whole;
    return true;
}

duo_status duo_budget_parse(duo_budget *budget, const char *text)
{
    *budget = (duo_budget){.kind = DUO_BUDGET_COUNT, .module = DUO_BIG};
    if (strcmp(text, "none") == 0) {
        *budget = (duo_budget){.kind = DUO_BUDGET_NONE};
        return DUO_OK;
    }
    const char *range = text;
    if (starts_with(text, "skip:")) {
        budget->module = DUO_SKIP;
        range += strlen("skip:");
    } else if (starts_with(text, "flops:")) {
        *budget = (duo_budget){.kind = DUO_BUDGET_FLOPS};
        range += strlen("flops:");
    }
    const bool count = budget->kind == DUO_BUDGET_COUNT;
    const char *dots = strstr(range, "..");
    const char *high = dots ? dots + strlen("..") : range;
    const size_t low_length = dots ? (size_t)(dots - range) : strlen(range);
    if ((!dots && !count) || !read_bound(&budget->low, range, low_length, count) ||
        !read_bound(&budget->high, high, strlen(high), count))
        return duo_fail(DUO_EINVAL,
                        "budget '%s' is not none, K, LOW..HIGH, skip:K, skip:LOW..HIGH or "
                        "flops:LOW..HIGH",
                        text);
    if (budget->high < budget->low)
        return duo_fail(DUO_EINVAL, "budget '%s' ends below its start", text);
    return DUO_OK;
}

/* The shortest text that reads back as the number, as in 2e6; a count without an exponent. */
static void put_number(char text[32], double value, bool count)
{
    if (count) {
        snprintf(text, 32, "%.0f", value);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, 32, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    char *exponent = strstr(text, "e+");
    if (!exponent) return;
    const char *figures = exponent + strlen("e+");
    figures += strspn(figures, "0");
    memmove(exponent + 1, figures, strlen(figures) + 1);
}

const char *duo_budget_text(char text[64], const duo_budget *budget)
{
    char low[32], high[32];
    const bool count = budget->kind == DUO_BUDGET_COUNT;
    put_number(low, budget->low, count);
    put_number(high, budget->high, count);
    const char *prefix = !count ? "flops:" : budget->module == DUO_SKIP ? "skip:" : "";
    if (budget->kind == DUO_BUDGET_NONE)
        snprintf(text, 64, "none");
    else if (count && budget->low == budget->high)
        snprintf(text, 64, "%s%s", prefix, low);
    else
        snprintf(text, 64, "%s%.24s..%.24s", prefix, low, high);
    return text;
}

/* ---------------------------------------------------------------- as a rule */

study_budget_rule study_budget_rule_of(const duo_budget *budget, duo_module_set modules,
                                       const duo_config *config)
{
    study_budget_rule rule = {.budget = *budget, .modules = modules, .L = config->n_layers};
    for (duo_module m = 0; m < DUO_MODULES; m++) rule.flops[m] = duo_flops_ffn(config, m);
    return rule;
}

static bool admits_count(const study_budget_rule *rule, size_t length, size_t counted)
{
    const bool growing = duo_module_in(rule->modules, rule->budget.module);
    const size_t most = counted + (growing ? rule->L - length : 0);
    return (double)counted <= rule->budget.high && (double)most >= rule->budget.low;
}

/* Whether `rest` more layers can bring `spent` FLOPs between low and high. */
static bool admits_flops(const study_budget_rule *rule, size_t rest, double spent)
{
    const bool has_small = duo_module_in(rule->modules, DUO_SMALL);
    const bool has_skip = duo_module_in(rule->modules, DUO_SKIP);
    const size_t most_big = duo_module_in(rule->modules, DUO_BIG) ? rest : 0;
    for (size_t big = 0; big <= most_big; big++) {
        const size_t others = rest - big;
        const double with_big = spent + (double)big * rule->flops[DUO_BIG];
        const double least = has_skip ? 0 : (double)others, most = has_small ? (double)others : 0;
        const double wanted = ceil((rule->budget.low - with_big) / rule->flops[DUO_SMALL]);
        const double small = fmax(least, wanted);
        if (small <= most && with_big + small * rule->flops[DUO_SMALL] <= rule->budget.high)
            return true;
    }
    return false;
}

bool study_budget_admits(const study_budget_rule *rule, size_t length, size_t big, size_t small)
{
    switch (rule->budget.kind) {
    case DUO_BUDGET_NONE:
        return true;
    case DUO_BUDGET_COUNT:
        return admits_count(rule, length,
                            rule->budget.module == DUO_BIG ? big : length - big - small);
    case DUO_BUDGET_FLOPS:
        return admits_flops(rule, rule->L - length,
                            (double)big * rule->flops[DUO_BIG] +
                                (double)small * rule->flops[DUO_SMALL]);
    }
    return false;
}

duo_status duo_budget_check(const duo_budget *budget, duo_module_set modules,
                            const duo_config *config)
{
    const study_budget_rule rule = study_budget_rule_of(budget, modules, config);
    if (study_budget_admits(&rule, 0, 0, 0)) return DUO_OK;
    char text[64], names[16];
    return duo_fail(DUO_EINVAL, "budget %s: no route of %s through %zu layers meets it",
                    duo_budget_text(text, budget), duo_module_set_text(names, modules),
                    config->n_layers);
}

void study_budget_count(study_prefix_counts *counts, const study_budget_rule *rule)
{
    double of[STUDY_LEVELS][STUDY_LEVELS] = {{1}}; /* prefixes by their big and small */
    *counts = (study_prefix_counts){.prefixes = {1}};
    for (size_t length = 1; length <= rule->L; length++)
        for (size_t big = length + 1; big-- > 0;)
            for (size_t small = length - big + 1; small-- > 0;) {
                const double shorter[DUO_MODULES] = {of[big][small],
                                                     small > 0 ? of[big][small - 1] : 0,
                                                     big > 0 ? of[big - 1][small] : 0};
                const bool admitted = study_budget_admits(rule, length, big, small);
                of[big][small] = 0;
                for (duo_module m = 0; m < DUO_MODULES && admitted; m++) {
                    if (!duo_module_in(rule->modules, m)) continue;
                    of[big][small] += shorter[m];
                    counts->ending[length][m] += shorter[m];
                    counts->prefixes[length] += shorter[m];
                }
            }
}

double duo_search_flops(const duo_config *config, const duo_search_setting *setting,
                        double context_length)
{
    const size_t L = config->n_layers;
    const double head = 2.0 * (double)(config->d_model * config->vocab_size);
    const double attention = (duo_flops_base(config, context_length) - head) / (double)L;
    const study_budget_rule rule = study_budget_rule_of(&setting->budget, setting->modules, config);
    study_prefix_counts counts;
    study_budget_count(&counts, &rule);
    double flops = counts.prefixes[L] * head;
    for (size_t l = 0; l < L; l++) {
        flops += counts.prefixes[l] * attention;
        for (duo_module m = 0; m < DUO_MODULES; m++)
            flops += counts.ending[l + 1][m] * duo_flops_ffn(config, m);
    }
    return flops;
}
