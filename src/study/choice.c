#include "duo/choice.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One choice as tokens: a begin mark where there is one, the context, the continuation. */
typedef struct request {
    int32_t *ids; /* (n) */
    size_t n, scored_from;
    size_t index; /* among all choices of the set */
} request;

typedef struct scoring {
    const duo_choice_set *set;
    const duo_model *model;
    const duo_tokenizer *tokenizer;
    const duo_policy *policy;
    uint64_t seed;
    size_t rows, n;
    request *requests; /* (n) */
    double *scores;    /* (n) */
    size_t *tokens;    /* (n) that were scored */
    uint64_t taken[DUO_MODULES];
    size_t cut;
} scoring;

/* ---------------------------------------------------------------- texts to tokens */

static duo_status encode(const scoring *s, const char *a, const char *b, int32_t **ids, size_t *n)
{
    const size_t length = strlen(a) + strlen(b);
    char *text = malloc(length + 1);
    if (!text) return duo_fail(DUO_ENOMEM, "%s: no memory", s->set->name);
    memcpy(text, a, strlen(a));
    memcpy(text + strlen(a), b, strlen(b) + 1);
    const duo_status status = duo_tokenizer_encode(s->tokenizer, text, length, ids, n);
    free(text);
    return status;
}

static size_t common_prefix(const int32_t *a, size_t n_a, const int32_t *b, size_t n_b)
{
    size_t n = 0;
    while (n < n_a && n < n_b && a[n] == b[n]) n++;
    return n;
}

/* Put the begin mark in front; what the model does not see falls off on the left. */
static duo_status fit(scoring *s, request *r, const duo_choice_item *item, bool *cut)
{
    const int32_t bos = duo_tokenizer_bos(s->tokenizer);
    const size_t most = s->model->params.config.max_seq + 1;
    if (bos >= 0) {
        int32_t *longer = realloc(r->ids, (r->n + 1) * sizeof *longer);
        if (!longer) return duo_fail(DUO_ENOMEM, "%s: no memory", s->set->name);
        memmove(longer + 1, longer, r->n * sizeof *longer);
        longer[0] = bos;
        r->ids = longer;
        r->n++;
        r->scored_from++;
    }
    if (r->scored_from == 0 || r->scored_from >= r->n)
        return duo_fail(DUO_EINVAL, "%s:%zu: a choice has no tokens behind some context",
                        s->set->name, item->line);
    if (r->n <= most) return DUO_OK;
    const size_t excess = r->n - most;
    if (excess >= r->scored_from)
        return duo_fail(DUO_EINVAL, "%s:%zu: a choice of %zu tokens, the model sees %zu",
                        s->set->name, item->line, r->n - r->scored_from, most - 1);
    memmove(r->ids, r->ids + excess, most * sizeof *r->ids);
    r->n = most;
    r->scored_from -= excess;
    *cut = true;
    return DUO_OK;
}

/* All choices of an item are scored from the same token of the context on. */
static duo_status prepare_item(scoring *s, const duo_choice_item *item, request *requests)
{
    int32_t *context = NULL;
    size_t n_context = 0;
    bool cut = false;
    duo_status status = encode(s, item->context, "", &context, &n_context);
    size_t shared = n_context;
    for (size_t i = 0; i < item->n && status == DUO_OK; i++) {
        request *r = &requests[i];
        status = encode(s, item->context, item->choices[i], &r->ids, &r->n);
        if (status != DUO_OK) break;
        const size_t same = common_prefix(context, n_context, r->ids, r->n);
        if (same < shared) shared = same;
    }
    for (size_t i = 0; i < item->n && status == DUO_OK; i++) {
        requests[i].scored_from = shared;
        status = fit(s, &requests[i], item, &cut);
    }
    s->cut += cut;
    free(context);
    return status;
}

static int by_length(const void *a, const void *b)
{
    const request *x = a, *y = b;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static duo_status prepare(scoring *s)
{
    duo_status status = DUO_OK;
    size_t index = 0;
    for (size_t i = 0; i < s->set->n && status == DUO_OK; i++) {
        status = prepare_item(s, &s->set->items[i], s->requests + index);
        index += s->set->items[i].n;
    }
    for (size_t i = 0; i < s->n; i++) s->requests[i].index = i;
    /* neighbours of a batch are of similar length, so that little is spent on padding */
    if (status == DUO_OK) qsort(s->requests, s->n, sizeof *s->requests, by_length);
    return status;
}

/* ---------------------------------------------------------------- scores */

static void take_scores(scoring *s, const request *r, const uint8_t *routes, const float *loss)
{
    const size_t L = s->model->params.config.n_layers;
    double sum = 0;
    for (size_t t = r->scored_from; t < r->n; t++) sum -= (double)loss[t - 1];
    s->scores[r->index] = sum;
    s->tokens[r->index] = r->n - r->scored_from;
    for (size_t i = 0; i < (r->n - 1) * L; i++) s->taken[routes[i]]++;
}

/* Requests first .. first+n-1, the last of which is the longest. */
static duo_status score_batch(scoring *s, size_t first, size_t n)
{
    const size_t L = s->model->params.config.n_layers, T = s->requests[first + n - 1].n - 1;
    const request *batch = s->requests + first;
    duo_policy policy = *s->policy;
    duo_sequences sequences = {.R = n, .T = T, .tokens = calloc(n * (T + 1), sizeof(int32_t))};
    duo_trace trace = {0};
    if (!sequences.tokens) return duo_fail(DUO_ENOMEM, "no memory for %zu choices", n);
    for (size_t i = 0; i < n; i++) /* padding behind the end changes nothing in front of it */
        memcpy(sequences.tokens + i * (T + 1), batch[i].ids, batch[i].n * sizeof(int32_t));
    duo_status status = duo_trace_create(&trace, &sequences, L);
    if (status != DUO_OK) goto done;
    if (policy.kind == DUO_POLICY_RANDOM) { /* keyed by the choice, not by its place in a batch */
        for (size_t i = 0; i < n; i++)
            duo_routes_random(trace.routes + i * T * L, 1, T, L, policy.p, s->seed, 0,
                              batch[i].index);
        policy.kind = DUO_POLICY_FILE;
    }
    status = duo_evaluate(s->model, &sequences, &policy, s->seed, n, &trace, NULL, NULL);
    for (size_t i = 0; i < n && status == DUO_OK; i++)
        take_scores(s, &batch[i], trace.routes + i * T * L, trace.loss + i * T);

done:
    duo_trace_free(&trace);
    duo_sequences_free(&sequences);
    return status;
}

/* ---------------------------------------------------------------- answers */

static double normalised(const scoring *s, duo_choice_rule rule, const char *choice, size_t index)
{
    const double score = s->scores[index];
    if (rule == DUO_CHOICE_PER_BYTE) {
        const size_t bytes = strlen(choice) - (choice[0] == ' ' && choice[1] != '\0');
        return score / (double)bytes;
    }
    return rule == DUO_CHOICE_PER_TOKEN ? score / (double)s->tokens[index] : score;
}

static size_t answer_of(const scoring *s, duo_choice_rule rule, const duo_choice_item *item,
                        size_t index)
{
    size_t best = 0;
    double most = -INFINITY;
    for (size_t i = 0; i < item->n; i++) {
        const double score = normalised(s, rule, item->choices[i], index + i);
        if (score > most) {
            best = i;
            most = score;
        }
    }
    return best;
}

static void count_answers(const scoring *s, duo_choice_result *result)
{
    const double n = (double)s->set->n;
    for (duo_choice_rule rule = 0; rule < DUO_CHOICE_RULES; rule++) {
        size_t right = 0;
        for (size_t i = 0, index = 0; i < s->set->n; index += s->set->items[i++].n)
            right += answer_of(s, rule, &s->set->items[i], index) == s->set->items[i].answer;
        const double p = (double)right / n;
        result->accuracy[rule] = p;
        result->error[rule] = s->set->n > 1 ? sqrt(p * (1 - p) / (n - 1)) : NAN;
    }
    for (size_t i = 0; i < s->set->n; i++) result->chance += 1 / (double)s->set->items[i].n / n;
    uint64_t all = 0;
    for (duo_module m = 0; m < DUO_MODULES; m++) all += s->taken[m];
    for (duo_module m = 0; m < DUO_MODULES; m++)
        result->share[m] = (double)s->taken[m] / (double)all;
    result->cut = s->cut;
}

duo_status duo_choices_score(duo_choice_result *result, double *scores, const duo_choice_set *set,
                             const duo_model *model, const duo_tokenizer *tokenizer,
                             const duo_policy *policy, uint64_t seed, size_t rows,
                             duo_study_progress *progress, void *context)
{
    scoring s = {.set = set,
                 .model = model,
                 .tokenizer = tokenizer,
                 .policy = policy,
                 .seed = seed,
                 .rows = rows == 0 ? 1 : rows};
    duo_status status = DUO_OK;
    *result = (duo_choice_result){0};
    if (policy->kind == DUO_POLICY_FILE)
        return duo_fail(DUO_EINVAL, "policy %s: holds the routes of other texts", policy->name);
    for (size_t i = 0; i < set->n; i++) s.n += set->items[i].n;
    s.requests = calloc(s.n, sizeof *s.requests);
    s.scores = calloc(s.n, sizeof *s.scores);
    s.tokens = calloc(s.n, sizeof *s.tokens);
    if (!s.requests || !s.scores || !s.tokens) {
        status = duo_fail(DUO_ENOMEM, "%s: no memory for %zu choices", set->name, s.n);
        goto done;
    }
    status = prepare(&s);
    for (size_t first = 0; first < s.n && status == DUO_OK; first += s.rows) {
        const size_t n = s.n - first < s.rows ? s.n - first : s.rows;
        status = score_batch(&s, first, n);
        if (progress) progress(context, first + n, s.n);
    }
    if (status != DUO_OK) goto done;
    count_answers(&s, result);
    if (scores) memcpy(scores, s.scores, s.n * sizeof *scores);

done:
    for (size_t i = 0; s.requests && i < s.n; i++) free(s.requests[i].ids);
    free(s.requests);
    free(s.scores);
    free(s.tokens);
    return status;
}
