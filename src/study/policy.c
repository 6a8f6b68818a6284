#include <math.h>
#include <stdio.h>
#include <string.h>

#include "duo/number.h"
#include "evaluator.h"

/* ---------------------------------------------------------------- names */

/* What follows `prefix` in text; NULL when text begins differently. */
static const char *behind(const char *text, const char *prefix)
{
    const size_t n = strlen(prefix);
    return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

static duo_status parse_random(duo_policy *policy, const char *share)
{
    double p = 0;
    policy->kind = DUO_POLICY_RANDOM;
    if (duo_number_real(&p, share) != DUO_NUMBER_OK || p < 0 || p > 1)
        return duo_fail(DUO_EINVAL, "policy random:%s: the share of big must be 0..1", share);
    policy->p[DUO_BIG] = p;
    policy->p[DUO_SMALL] = 1 - p;
    return DUO_OK;
}

static duo_status parse_count(double *count, const char *policy, const char *text, size_t L)
{
    if (duo_number_real(count, text) == DUO_NUMBER_OK && *count >= 0 && *count <= (double)L)
        return DUO_OK;
    return duo_fail(DUO_EINVAL, "policy %s: '%s' is no number of big layers, 0..%zu", policy, text,
                    L);
}

/* "", ":raw", ":K", ":raw:K" or ":exact:K". */
static duo_status parse_router(duo_policy *policy, const char *how, const duo_model *model)
{
    const duo_config *c = &model->params.config;
    double n_big = -1;
    const char *count = how[0] == ':' ? how + 1 : NULL, *argument = NULL;
    bool raw = false, exact = false;
    policy->kind = DUO_POLICY_ROUTER;
    policy->rule = model->rule;
    if (c->router_modules == 0)
        return duo_fail(DUO_EINVAL, "policy router: the model has no routers");
    if (count && (argument = behind(count, "raw")) != NULL &&
        (*argument == '\0' || *argument == ':')) {
        raw = true;
        count = argument[0] == ':' ? argument + 1 : NULL;
    } else if (count && (argument = behind(count, "exact:")) != NULL) {
        exact = true;
        count = argument;
    }
    if (count) {
        const duo_status status = parse_count(&n_big, policy->name, count, c->n_layers);
        if (status != DUO_OK) return status;
        if (!exact && !duo_router_reads(c->router_inputs, DUO_INPUT_BUDGET))
            return duo_fail(DUO_EINVAL, "policy %s: the model's routers are not told a budget",
                            policy->name);
        policy->rule = duo_model_rule(model, n_big);
    } else if (duo_router_reads(c->router_inputs, DUO_INPUT_BUDGET)) {
        snprintf(policy->name, sizeof policy->name, "router%s:%g", raw ? ":raw" : "",
                 (double)policy->rule.budget * (double)c->n_layers);
    }
    if (raw) memset(policy->rule.threshold, 0, sizeof policy->rule.threshold);
    policy->rule.exact = exact;
    policy->rule.n_big = exact ? (size_t)n_big : 0;
    if (!exact || (n_big == floor(n_big) && duo_module_in(c->router_modules, DUO_BIG)))
        return DUO_OK;
    return duo_fail(DUO_EINVAL, "policy %s: needs a whole number, and big among the modules",
                    policy->name);
}

duo_status duo_policy_parse(duo_policy *policy, const char *text, const duo_model *model)
{
    const size_t L = model->params.config.n_layers;
    const char *argument = NULL;
    *policy = (duo_policy){.kind = DUO_POLICY_PATTERN};
    snprintf(policy->name, sizeof policy->name, "%s", text);
    for (duo_module m = 0; m < DUO_MODULES; m++)
        if (strcmp(text, duo_module_name(m)) == 0) {
            duo_routes_fill(policy->pattern, 1, L, m);
            return DUO_OK;
        }
    if ((argument = behind(text, "pattern:")) != NULL)
        return duo_routes_pattern(policy->pattern, L, argument);
    if ((argument = behind(text, "random:")) != NULL) return parse_random(policy, argument);
    if ((argument = behind(text, "router")) != NULL && (*argument == '\0' || *argument == ':'))
        return parse_router(policy, argument, model);
    if ((argument = behind(text, "file:")) != NULL) {
        policy->kind = DUO_POLICY_FILE;
        policy->path = argument;
        if (*argument) return DUO_OK;
        return duo_fail(DUO_EINVAL, "policy file: the path of a routes file is missing");
    }
    return duo_fail(DUO_EINVAL,
                    "policy %s: is none of small, big, skip, random:P, pattern:BSBS, router, "
                    "router:K, router:raw[:K], router:exact:K, file:ROUTES or file:ROUTES#NAME",
                    text);
}

/* ---------------------------------------------------------------- evaluation */

/* Routes of n sequences from `first` on, for the policies that know them before the pass. */
static void choose_routes(const duo_policy *policy, uint8_t *routes, size_t first, size_t n,
                          size_t T, size_t L, uint64_t seed)
{
    if (policy->kind == DUO_POLICY_PATTERN)
        duo_routes_repeat(routes, n * T, L, policy->pattern);
    else if (policy->kind == DUO_POLICY_RANDOM)
        duo_routes_random(routes, n, T, L, policy->p, seed, 0, policy->first_row + first);
}

duo_status duo_evaluate(const duo_model *model, const duo_sequences *sequences,
                        const duo_policy *policy, uint64_t seed, size_t rows, duo_trace *trace,
                        duo_study_progress *progress, void *context)
{
    const size_t R = sequences->R, T = sequences->T, L = model->params.config.n_layers;
    study_evaluator evaluator;
    duo_status status = study_evaluator_open(&evaluator, model, sequences, rows);
    for (size_t first = 0, n = 0; first < R && status == DUO_OK; first += n) {
        n = R - first < evaluator.rows ? R - first : evaluator.rows;
        uint8_t *routes = trace->routes + first * T * L;
        float *loss = trace->loss + first * T;
        const duo_routing routing = {
            .kind = policy->kind == DUO_POLICY_ROUTER ? DUO_ROUTING_ROUTER : DUO_ROUTING_GIVEN,
            .routes = routes,
            .rule = &policy->rule,
        };
        choose_routes(policy, routes, first, n, T, L, seed);
        study_evaluator_run(&evaluator, sequences->tokens + first * (T + 1), n, &routing, loss);
        for (size_t i = 0; i < n * T && status == DUO_OK; i++)
            if (!isfinite(loss[i]))
                status = duo_fail(DUO_ENUMBER,
                                  "policy %s: the loss of position %zu of sequence %zu is not "
                                  "finite",
                                  policy->name, i % T, first + i / T);
        if (progress && status == DUO_OK) progress(context, (first + n) * T, R * T);
    }
    study_evaluator_close(&evaluator);
    return status;
}
