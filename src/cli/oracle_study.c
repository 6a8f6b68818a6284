#include "oracle_study.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "stop.h"

enum { SAVE_SECONDS = 20, MOST_ROWS_OF_UNIT = 64 };

duo_sequences duo_oracle_study_done(const duo_oracle_study *study)
{
    duo_sequences done = duo_sequences_rows(&study->sequences, 0, study->results.done);
    if (done.R == study->sequences.R) done.bytes = study->sequences.bytes;
    return done;
}

/* ---------------------------------------------------------------- progress */

/* Work on a unit of sequences as a share of all tokens: entry `part` of `parts` is running. */
typedef struct unit_progress {
    duo_cli_task task;
    uint64_t first, tokens, total; /* of this run */
    size_t part, parts;
} unit_progress;

static void show(void *context, uint64_t done, uint64_t total)
{
    unit_progress *p = context;
    const double part = ((double)p->part + (double)done / (double)total) / (double)p->parts;
    duo_cli_task_progress(&p->task, p->first + (uint64_t)(part * (double)p->tokens), p->total);
}

/* ---------------------------------------------------------------- read off the reference */

/* Numbers of big FFNs that meet a budget; false when it is no question of their number. */
static bool big_range(const duo_oracle_study *s, const duo_budget *budget, size_t *low,
                      size_t *high)
{
    const size_t L = s->results.L;
    *low = 0;
    *high = L;
    if (budget->kind == DUO_BUDGET_NONE) return true;
    if (budget->kind != DUO_BUDGET_COUNT) return false;
    const size_t from = (size_t)budget->low, to = (size_t)budget->high;
    if (budget->module == DUO_BIG) {
        *low = from;
        *high = to < L ? to : L;
        return true;
    }
    if (s->setting.modules != (1u << DUO_SKIP | 1u << DUO_BIG)) return false;
    *low = to < L ? L - to : 0;
    *high = L - from;
    return true;
}

static duo_status read_curve(duo_oracle_study *s, const duo_entry *e, size_t first, size_t n,
                             duo_trace *trace)
{
    const size_t T = s->sequences.T, L = s->results.L;
    const duo_reference *reference = s->results.reference;
    const bool label_free = e->goal == DUO_GOAL_LABEL_FREE;
    const duo_route_curve *curve = label_free ? &reference->label_free : &reference->oracle;
    const float *by = label_free ? reference->expected : curve->loss;
    for (size_t i = first * T; i < (first + n) * T; i++) {
        size_t low, high;
        big_range(s, e->schedule ? &e->schedule[i % T] : &e->budget, &low, &high);
        size_t best = low;
        for (size_t b = low; b <= high; b++)
            if (by[i * (L + 1) + b] < by[i * (L + 1) + best]) best = b;
        trace->loss[i] = curve->loss[i * (L + 1) + best];
        memcpy(trace->routes + i * L, curve->routes + (i * (L + 1) + best) * L, L);
    }
    return DUO_OK;
}

static duo_status check_curve(const duo_oracle_study *s, const duo_entry *e)
{
    size_t low, high;
    if (e->schedule || big_range(s, &e->budget, &low, &high)) return DUO_OK;
    return duo_fail(DUO_EINVAL, "--budget %s: in reference context a number of big layers is meant",
                    s->options->budget);
}

/* ---------------------------------------------------------------- one policy, some sequences */

static duo_status search(duo_oracle_study *s, const duo_entry *e, size_t first,
                         const duo_sequences *part, duo_trace *trace, unit_progress *progress)
{
    duo_search_setting setting = s->setting;
    setting.budget = e->budget;
    setting.schedule = e->schedule;
    setting.goal = e->goal;
    if (e != &s->entries[0]) setting.spent = NULL;
    if (e->drawn) setting.targets = s->results.drawn + first * part->T;
    return duo_search_committed(s->model, part, &setting, trace, show, progress);
}

static duo_status draw(duo_oracle_study *s, size_t first, const duo_sequences *part,
                       duo_trace *trace)
{
    duo_routes_fill(trace->routes, part->R * part->T, s->results.L, DUO_BIG);
    return duo_control_draw(s->model, part, s->options->seed, first,
                            s->results.drawn + first * part->T, trace->loss);
}

static duo_status random_patterns(duo_oracle_study *s, const duo_entry *e, size_t first,
                                  const duo_sequences *part, duo_trace *trace,
                                  unit_progress *progress)
{
    const duo_random_setting setting = {.modules = s->setting.modules,
                                        .big = (size_t)e->big,
                                        .draws = s->options->draws,
                                        .seed = s->options->seed,
                                        .first_row = first,
                                        .rows = s->options->rows};
    if (e->kind == DUO_ENTRY_PER_SEQUENCE)
        return duo_random_per_sequence(s->model, part, &setting, trace, show, progress);
    return duo_random_per_token(s->model, part, &setting, s->reference, trace, show, progress);
}

static duo_status run_entry(duo_oracle_study *s, size_t i, size_t first, size_t n,
                            unit_progress *progress)
{
    const duo_entry *e = &s->entries[i];
    const size_t T = s->sequences.T, L = s->results.L;
    const duo_sequences part = duo_sequences_rows(&s->sequences, first, n);
    duo_trace *whole = &s->results.policies[i].trace, trace = duo_trace_rows(whole, first, T, L);
    duo_policy policy = e->policy;
    switch (e->kind) {
    case DUO_ENTRY_SEARCH:
        return search(s, e, first, &part, &trace, progress);
    case DUO_ENTRY_CURVE:
        return read_curve(s, e, first, n, whole);
    case DUO_ENTRY_DRAW:
        return draw(s, first, &part, &trace);
    case DUO_ENTRY_PER_SEQUENCE:
    case DUO_ENTRY_PER_TOKEN:
        return random_patterns(s, e, first, &part, &trace, progress);
    case DUO_ENTRY_FIXED:
        memcpy(policy.pattern, s->results.fixed->patterns + (size_t)e->big * L, L);
        break;
    case DUO_ENTRY_POLICY:
        break;
    }
    policy.first_row = first;
    return duo_evaluate(s->model, &part, &policy, s->options->seed, s->options->rows, &trace, show,
                        progress);
}

/* What each choice along the first policy's routes is worth. */
static duo_status run_values(duo_oracle_study *s, size_t first, size_t n, unit_progress *progress)
{
    const size_t choices = first * s->sequences.T * s->results.L;
    const duo_sequences part = duo_sequences_rows(&s->sequences, first, n);
    duo_search_setting setting = s->setting;
    setting.spent = NULL; /* counts the oracle's own search */
    return duo_search_values(s->model, &part, &setting, s->completion,
                             s->results.policies[0].trace.routes + choices,
                             s->results.values + choices * DUO_MODULES, show, progress);
}

/* All positions of some sequences, into their place of the whole. */
static duo_status run_reference(duo_oracle_study *s, size_t first, size_t n,
                                unit_progress *progress)
{
    const size_t T = s->sequences.T, L = s->results.L;
    const size_t cells = first * T * (L + 1);
    const duo_sequences part = duo_sequences_rows(&s->sequences, first, n);
    const duo_reference *all = s->results.reference;
    duo_reference view = {
        .oracle = {all->oracle.routes + cells * L, all->oracle.loss + cells},
        .control = {all->control.routes + cells * L, all->control.loss + cells},
        .label_free = {all->label_free.routes + cells * L, all->label_free.loss + cells},
        .expected = all->expected + cells,
        .drawn = all->drawn + first * T,
    };
    return duo_search_reference(s->model, &part, &s->setting, s->reference, s->options->seed, first,
                                &view, show, progress);
}

/* ---------------------------------------------------------------- all of them */

static duo_status run_unit(duo_oracle_study *s, size_t n, unit_progress *progress)
{
    const size_t first = s->results.done, T = s->sequences.T;
    duo_status status = DUO_OK;
    progress->first = (first - s->resumed) * T;
    progress->tokens = n * T;
    progress->part = 0;
    progress->parts = s->n + s->in_reference + (s->results.values != NULL);
    if (s->in_reference) {
        status = run_reference(s, first, n, progress);
        progress->part++;
    }
    for (size_t i = 0; i < s->n && status == DUO_OK; i++, progress->part++)
        status = run_entry(s, i, first, n, progress);
    if (s->results.values && status == DUO_OK) status = run_values(s, first, n, progress);
    if (status == DUO_OK) s->results.done += n;
    return status;
}

/* Sequences of the first unit: enough for large products, few enough to lose little. */
static size_t first_unit(const duo_oracle_study *s)
{
    enum { LEAST = 4 };
    const size_t rows = duo_search_rows(s->model, &s->sequences, &s->setting);
    return rows < LEAST ? rows : LEAST;
}

static duo_status save(duo_oracle_study *s, double *saved)
{
    *saved = duo_cli_seconds();
    if (!s->options->output) return DUO_OK;
    return duo_results_write(s->options->output, &s->results, &s->origin);
}

static duo_status run_units(duo_oracle_study *s)
{
    const size_t R = s->sequences.R;
    unit_progress progress = {.task = {.name = "oracle", .unit = "tokens"},
                              .total = (R - s->resumed) * s->sequences.T};
    size_t unit = first_unit(s);
    duo_status status = DUO_OK;
    double saved = progress.task.started = duo_cli_seconds();
    while (s->results.done < R && status == DUO_OK && !duo_cli_stop_wanted()) {
        const double began = duo_cli_seconds();
        const size_t left = R - s->results.done;
        status = run_unit(s, unit < left ? unit : left, &progress);
        const double now = duo_cli_seconds();
        /* Units of some seconds: a signal is heard between two of them. */
        if (now - began > SAVE_SECONDS && unit > 1) unit /= 2;
        if (now - began < SAVE_SECONDS / 4.0 && unit < MOST_ROWS_OF_UNIT) unit *= 2;
        if (status == DUO_OK && now - saved >= SAVE_SECONDS && s->results.done < R)
            status = save(s, &saved);
    }
    duo_cli_progress_end();
    if (status != DUO_OK) return status;
    s->stopped = s->results.done < R;
    s->seconds = duo_cli_seconds() - progress.task.started;
    if (s->results.done > s->resumed) status = save(s, &saved);
    return status;
}

static bool show_patterns(void *task, uint64_t done, uint64_t total)
{
    duo_cli_task_progress(task, done, total);
    return !duo_cli_stop_wanted();
}

/* The best fixed patterns, chosen on text that is not measured. */
static duo_status choose_fixed(duo_oracle_study *s)
{
    const duo_oracle_options *o = s->options;
    duo_cli_windows windows = o->windows;
    duo_sequences training = {0};
    duo_cli_task task = {.name = "fixed patterns", .unit = "patterns"};
    const bool on_same = o->training_windows == 0;
    windows.text = NULL;
    windows.n = o->training_windows;
    windows.max_tokens = 0;
    printf("fixed patterns are chosen on %s", on_same ? "the text that is measured\n" : "");
    duo_status status =
        on_same ? DUO_OK : duo_cli_cut_windows(&training, NULL, &windows, DUO_TRAIN, s->checkpoint);
    if (status != DUO_OK) return status;
    task.started = duo_cli_seconds();
    status = duo_fixed_search(s->results.fixed, s->model, on_same ? &s->sequences : &training,
                              s->setting.modules, s->beam, o->rows, show_patterns, &task);
    duo_cli_progress_end();
    duo_sequences_free(&training);
    s->stopped = !s->results.fixed->patterns;
    return status;
}

duo_status duo_oracle_study_run(duo_oracle_study *s)
{
    const duo_oracle_options *o = s->options;
    duo_status status = DUO_OK;
    for (size_t i = 0; i < s->n && status == DUO_OK; i++)
        if (s->entries[i].kind == DUO_ENTRY_CURVE) status = check_curve(s, &s->entries[i]);
    if (o->output) duo_cli_catch_stop();
    if (status == DUO_OK && o->output)
        status = duo_results_resume(&s->results, o->output, &s->origin);
    if (status != DUO_OK) return status;
    s->resumed = s->results.done;
    if (s->resumed > 0)
        printf("%s: %zu of %zu sequences are there already\n", o->output, s->resumed,
               s->sequences.R);
    if (s->results.fixed && !s->results.fixed->patterns) status = choose_fixed(s);
    if (status == DUO_OK && !s->stopped && s->resumed < s->sequences.R) status = run_units(s);
    if (status != DUO_OK || !s->stopped) return status;
    if (s->results.done > 0)
        printf("stopped: %zu of %zu sequences are in %s; the same command goes on\n",
               s->results.done, s->sequences.R, o->output);
    else
        printf("stopped before the first of %zu sequences: nothing is saved\n", s->sequences.R);
    return status;
}
