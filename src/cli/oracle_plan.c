#include <stdlib.h>
#include <string.h>

#include "duo/number.h"
#include "oracle_study.h"
#include "summary.h"

enum { EXHAUSTIVE_LAYERS = 10, DEFAULT_BEAM = 8 };

/* ---------------------------------------------------------------- options */

/* "NAME:W" with W >= 1; false for anything else. */
static bool read_width(const char *text, const char *name, size_t *width)
{
    const size_t n = strlen(name);
    uint64_t value = 0;
    if (strncmp(text, name, n) != 0 || text[n] != ':' ||
        duo_number_u64(&value, text + n + 1) != DUO_NUMBER_OK || value == 0 || value > 1u << 20)
        return false;
    *width = (size_t)value;
    return true;
}

static duo_status read_modules(duo_oracle_study *s)
{
    const duo_oracle_options *o = s->options;
    if (!duo_module_set_parse(&s->setting.modules, o->modules))
        return duo_fail(DUO_EUSAGE, "--modules: '%s' is no list of skip, small, big", o->modules);
    if (o->skip) s->setting.modules |= 1u << DUO_SKIP;
    if (duo_module_count(s->setting.modules) < 2)
        return duo_fail(DUO_EUSAGE, "--modules: the oracle needs two to choose among, '%s' is one",
                        o->modules);
    return DUO_OK;
}

static duo_status read_method(duo_oracle_study *s)
{
    const duo_oracle_options *o = s->options;
    duo_search_setting *setting = &s->setting;
    if (strcmp(o->method, "exact") == 0)
        setting->method = DUO_SEARCH_EXACT;
    else if (read_width(o->method, "beam", &setting->width))
        setting->method = DUO_SEARCH_BEAM;
    else if (read_width(o->method, "greedy", &setting->width))
        setting->method = DUO_SEARCH_GREEDY;
    else
        return duo_fail(DUO_EUSAGE, "--method: '%s' is none of exact, beam:W, greedy:W", o->method);
    if (strcmp(o->goal, "label-free") == 0)
        setting->goal = DUO_GOAL_LABEL_FREE;
    else if (strcmp(o->goal, "target") != 0)
        return duo_fail(DUO_EUSAGE, "--goal: '%s' is neither target nor label-free", o->goal);
    return DUO_OK;
}

static duo_status read_context(duo_oracle_study *s)
{
    const duo_oracle_options *o = s->options;
    const char *context = o->context ? o->context : o->compare ? "reference" : "committed";
    s->in_reference = strcmp(context, "reference") == 0;
    if (!s->in_reference && strcmp(context, "committed") != 0)
        return duo_fail(DUO_EUSAGE, "--context: '%s' is neither committed nor reference", context);
    if (o->reference && !s->in_reference && !o->compare)
        return duo_fail(DUO_EUSAGE, "--reference: does nothing without --context reference");
    s->reference_text = o->reference ? o->reference : "big";
    if (o->control && (s->in_reference || o->compare))
        return duo_fail(DUO_EUSAGE, "--control: is for one committed search; a reference search "
                                    "has it always");
    if (!o->compare && o->schedules.n > 1)
        return duo_fail(DUO_EUSAGE, "--schedule: several are for --compare");
    if (!o->compare && o->schedules.n == 1 && strcmp(o->budget, "none") != 0)
        return duo_fail(DUO_EUSAGE, "--schedule and --budget exclude each other");
    return DUO_OK;
}

static duo_status read_values(duo_oracle_study *s)
{
    const duo_oracle_options *o = s->options;
    if (o->along && !o->values)
        return duo_fail(DUO_EUSAGE, "--along: names the routes whose --values are wanted");
    if (!o->values) return DUO_OK;
    if (strcmp(o->values, "same") == 0)
        s->completion = DUO_COMPLETE_SAME;
    else if (strcmp(o->values, "best") != 0)
        return duo_fail(DUO_EUSAGE, "--values: '%s' is neither best nor same", o->values);
    if (s->in_reference || o->compare || o->control || o->schedules.n > 0)
        return duo_fail(DUO_EUSAGE,
                        "--values: are of one search in committed context, without --control");
    if (s->setting.method != DUO_SEARCH_EXACT)
        return duo_fail(DUO_EUSAGE, "--values: need the exact method");
    return DUO_OK;
}

/* After the model is known. */
static duo_status read_along(duo_oracle_study *s)
{
    const duo_oracle_options *o = s->options;
    if (!o->along) return DUO_OK;
    const duo_status status = duo_policy_parse(&s->along, o->along, s->model);
    if (status == DUO_OK && s->along.kind == DUO_POLICY_FILE)
        return duo_fail(DUO_EUSAGE, "--along: routes of a policy, not of a file");
    return status;
}

/* Likewise. 4:2 and 04:2 are one. */
static duo_status read_schedules(const duo_oracle_study *s)
{
    enum { ENDS = 2 };
    const size_t L = s->model->params.config.n_layers;
    const duo_list *schedules = &s->options->schedules;
    size_t ends[ENDS], others[ENDS];
    for (size_t i = 0; i < schedules->n; i++) {
        const duo_status status = duo_schedule_parse(ends, ENDS, L, schedules->text[i]);
        if (status != DUO_OK) return status;
        for (size_t k = 0; k < i; k++) {
            duo_schedule_parse(others, ENDS, L, schedules->text[k]); /* which it did before */
            if (memcmp(ends, others, sizeof ends) == 0)
                return duo_fail(DUO_EUSAGE, "--schedule: %s is given twice", schedules->text[i]);
        }
    }
    return DUO_OK;
}

/* Likewise. */
static duo_status read_fixed(duo_oracle_study *s)
{
    const duo_oracle_options *o = s->options;
    const size_t L = s->model->params.config.n_layers;
    if (!o->fixed)
        s->beam = L <= EXHAUSTIVE_LAYERS ? 0 : DEFAULT_BEAM;
    else if (strcmp(o->fixed, "all") != 0 && !read_width(o->fixed, "beam", &s->beam))
        return duo_fail(DUO_EUSAGE, "--fixed: '%s' is neither all nor beam:W", o->fixed);
    return DUO_OK;
}

static duo_status read_reference(duo_oracle_study *s)
{
    const size_t L = s->model->params.config.n_layers;
    const char *text = s->reference_text;
    for (duo_module m = 0; m < DUO_MODULES; m++)
        if (strcmp(text, duo_module_name(m)) == 0) {
            duo_routes_fill(s->reference, 1, L, m);
            return DUO_OK;
        }
    return duo_routes_pattern(s->reference, L, text);
}

static duo_status read_options(duo_oracle_study *s)
{
    const duo_oracle_options *o = s->options;
    duo_status status = read_modules(s);
    if (status == DUO_OK) status = read_method(s);
    if (status == DUO_OK) status = read_context(s);
    if (status == DUO_OK) status = read_values(s);
    if (status == DUO_OK && duo_budget_parse(&s->setting.budget, o->budget) != DUO_OK)
        status = DUO_EUSAGE;
    s->setting.max_nodes = o->max_nodes;
    s->setting.spent = &s->spent;
    return status;
}

/* ---------------------------------------------------------------- policies */

static duo_entry *add(duo_oracle_study *s, duo_entry_kind kind, const char *label, int big)
{
    duo_entry *e = &s->entries[s->n++];
    *e = (duo_entry){.kind = kind, .big = big};
    snprintf(e->label, sizeof e->label, "%s", label);
    return e;
}

static void add_policy(duo_oracle_study *s, const char *text)
{
    if (s->n > 0 && strcmp(s->entries[0].label, text) == 0) return;
    duo_entry *e = add(s, DUO_ENTRY_POLICY, text, DUO_ANY_BIG);
    duo_policy_parse(&e->policy, text, s->model); /* a name that every model has, or its routers */
}

static duo_status set_schedule(const duo_oracle_study *s, duo_entry *e, const char *text)
{
    const size_t T = s->sequences.T;
    size_t *counts = calloc(T, sizeof *counts);
    e->schedule = calloc(T, sizeof *e->schedule);
    duo_status status = DUO_OK;
    if (counts && e->schedule)
        status = duo_schedule_parse(counts, T, s->model->params.config.n_layers, text);
    else
        status = duo_fail(DUO_ENOMEM, "no memory for a schedule of %zu positions", T);
    for (size_t t = 0; t < T && status == DUO_OK; t++)
        e->schedule[t] =
            (duo_budget){DUO_BUDGET_COUNT, DUO_BIG, (double)counts[t], (double)counts[t]};
    free(counts);
    return status;
}

/* Where values are wanted along the routes of a policy, that takes the oracle's place. */
static void add_along(duo_oracle_study *s)
{
    char name[64];
    duo_cli_policy_group(name, &s->along);
    add(s, DUO_ENTRY_POLICY, name, DUO_ANY_BIG)->policy = s->along;
}

/* The oracle itself: what the budget or the one schedule asks for. */
static duo_status add_oracle(duo_oracle_study *s, duo_entry_kind kind)
{
    const duo_oracle_options *o = s->options;
    const bool label_free = s->setting.goal == DUO_GOAL_LABEL_FREE;
    duo_entry *e = add(s, kind, label_free ? "label-free" : "oracle", DUO_ANY_BIG);
    e->goal = s->setting.goal;
    e->budget = s->setting.budget;
    if (o->schedules.n == 0 || o->compare)
        return duo_budget_check(&e->budget, s->setting.modules, &s->model->params.config);
    return set_schedule(s, e, o->schedules.text[0]);
}

static duo_status add_control(duo_oracle_study *s)
{
    const duo_entry *oracle = &s->entries[0];
    add(s, DUO_ENTRY_DRAW, "big-drawn", DUO_ANY_BIG);
    duo_entry *e = add(s, DUO_ENTRY_SEARCH, "control", DUO_ANY_BIG);
    e->goal = oracle->goal;
    e->budget = oracle->budget;
    e->drawn = true;
    return oracle->schedule ? set_schedule(s, e, s->options->schedules.text[0]) : DUO_OK;
}

static void add_search(duo_oracle_study *s, const char *label, int big, duo_search_goal goal)
{
    duo_entry *e = add(s, DUO_ENTRY_SEARCH, label, big);
    e->goal = goal;
    e->budget = (duo_budget){DUO_BUDGET_COUNT, DUO_BIG, big, big};
}

static duo_status add_comparison(duo_oracle_study *s)
{
    const duo_oracle_options *o = s->options;
    const int L = (int)s->model->params.config.n_layers;
    duo_status status = DUO_OK;
    for (int big = 0; big <= L; big++) {
        if (!s->in_reference) {
            add_search(s, "oracle", big, DUO_GOAL_TARGET);
            add_search(s, "label-free", big, DUO_GOAL_LABEL_FREE);
        }
        add(s, DUO_ENTRY_FIXED, "fixed", big);
        add(s, DUO_ENTRY_PER_TOKEN, "random-per-token", big);
        add(s, DUO_ENTRY_PER_SEQUENCE, "random-per-sequence", big);
    }
    for (size_t i = 0; i < o->schedules.n && status == DUO_OK; i++) {
        char label[48];
        snprintf(label, sizeof label, "schedule %s", o->schedules.text[i]);
        duo_entry *e =
            add(s, s->in_reference ? DUO_ENTRY_CURVE : DUO_ENTRY_SEARCH, label, DUO_ANY_BIG);
        status = set_schedule(s, e, o->schedules.text[i]);
    }
    return status;
}

static duo_status list_policies(duo_oracle_study *s)
{
    enum { AROUND = 8, PER_BUDGET = 5 };
    const duo_config *config = &s->model->params.config;
    const duo_oracle_options *o = s->options;
    const bool patterns = s->setting.modules == (1u << DUO_SMALL | 1u << DUO_BIG) ||
                          s->setting.modules == (1u << DUO_SKIP | 1u << DUO_BIG);
    if (o->compare && !patterns)
        return duo_fail(DUO_EINVAL, "--compare: patterns are of big and one other module");
    s->entries =
        calloc(AROUND + o->schedules.n + PER_BUDGET * (config->n_layers + 1), sizeof *s->entries);
    if (!s->entries) return duo_fail(DUO_ENOMEM, "no memory for the policies");
    duo_status status = DUO_OK;
    if (o->along)
        add_along(s);
    else
        status = add_oracle(s, s->in_reference ? DUO_ENTRY_CURVE : DUO_ENTRY_SEARCH);
    if (status == DUO_OK && o->control) status = add_control(s);
    add_policy(s, "small");
    add_policy(s, "big");
    if (config->router_modules != 0) add_policy(s, "router");
    if (status == DUO_OK && o->compare) status = add_comparison(s);
    return status;
}

static duo_status create_results(duo_oracle_study *s)
{
    const duo_oracle_options *o = s->options;
    const unsigned parts =
        (s->in_reference ? DUO_RESULTS_REFERENCE : 0u) | (o->control ? DUO_RESULTS_DRAWN : 0u) |
        (o->compare ? DUO_RESULTS_FIXED : 0u) | (o->values ? DUO_RESULTS_VALUES : 0u);
    const duo_status status = duo_results_create(&s->results, &s->sequences,
                                                 s->model->params.config.n_layers, s->n, parts);
    for (size_t i = 0; i < s->n && status == DUO_OK; i++) {
        const duo_entry *e = &s->entries[i];
        duo_named_trace *p = &s->results.policies[i];
        if (e->big == DUO_ANY_BIG)
            snprintf(p->name, sizeof p->name, "%s", e->label);
        else
            snprintf(p->name, sizeof p->name, "%.50s-%d", e->label, e->big);
    }
    return status;
}

/* What must be the same for a file to be gone on with. */
static void describe(duo_oracle_study *s, duo_hash tokens)
{
    const duo_oracle_options *o = s->options;
    char *text = s->baselines;
    const size_t room = sizeof s->baselines;
    size_t used = 0;
    if (o->schedules.n == 1 && !o->compare)
        snprintf(s->budget, sizeof s->budget, "schedule %s", o->schedules.text[0]);
    else
        duo_budget_text(s->budget, &s->setting.budget);
    const bool rounded = strcmp(o->precision, duo_precision_name(DUO_FP32)) != 0;
    snprintf(s->method, sizeof s->method, "%s%s%s", o->method, rounded ? " in " : "",
             rounded ? o->precision : "");
    if (o->control) snprintf(text, room, "control");
    if (o->compare) {
        used =
            (size_t)snprintf(text, room, "fixed by %s%.0zu on %zu windows, random of %zu",
                             s->beam > 0 ? "beam:" : "all", s->beam, o->training_windows, o->draws);
        for (size_t i = 0; i < o->schedules.n && used < room; i++)
            used += (size_t)snprintf(text + used, room - used, ", %s", o->schedules.text[i]);
    }
    s->origin = (duo_routes_origin){
        .policy = s->results.policies[0].name,
        .budget = s->budget,
        .context = s->in_reference ? "reference" : "committed",
        .reference = s->in_reference || o->compare ? s->reference_text : NULL,
        .method = s->method,
        .goal = o->goal,
        .baselines = text[0] ? text : NULL,
        .values = o->values,
        .modules = s->setting.modules,
        .model = duo_model_hash(s->model),
        .tokens = tokens,
        .seed = o->seed,
    };
    if (s->model->params.config.router_modules != 0)
        s->origin.language = duo_model_hash_without_routers(s->model);
}

duo_status duo_oracle_study_open(duo_oracle_study *s, const duo_oracle_options *o)
{
    duo_hash tokens = {0};
    duo_precision precision = DUO_FP32;
    *s = (duo_oracle_study){.options = o};
    duo_status status = duo_cli_precision(&precision, o->precision);
    if (status == DUO_OK) status = read_options(s);
    const char *const texts[] = {o->difficulty, o->json, o->tsv};
    for (size_t i = 0; i < sizeof texts / sizeof *texts && status == DUO_OK; i++)
        status = duo_cli_check_output(texts[i], DUO_CLI_TEXT, o->windows.text);
    if (status == DUO_OK) status = duo_cli_check_folder(o->output);
    if (status == DUO_OK)
        status = duo_cli_open_model(o->checkpoint, precision, &s->checkpoint, &s->model);
    if (status == DUO_OK) status = read_schedules(s);
    if (status == DUO_OK) status = read_fixed(s);
    if (status == DUO_OK) status = read_reference(s);
    if (status == DUO_OK) status = read_along(s);
    if (status == DUO_OK)
        status = duo_budget_check(&s->setting.budget, s->setting.modules, &s->model->params.config);
    if (status == DUO_OK)
        status = duo_cli_cut_windows(&s->sequences, &tokens, &o->windows,
                                     o->training ? DUO_TRAIN : DUO_HELD_OUT, s->checkpoint);
    if (status == DUO_OK) status = list_policies(s);
    if (status == DUO_OK) status = create_results(s);
    if (status == DUO_OK) describe(s, tokens);
    return status;
}

void duo_oracle_study_close(duo_oracle_study *s)
{
    duo_results_free(&s->results);
    for (size_t i = 0; i < s->n; i++) free(s->entries[i].schedule);
    free(s->entries);
    duo_sequences_free(&s->sequences);
    duo_model_free(s->model);
    duo_checkpoint_close(s->checkpoint);
}
