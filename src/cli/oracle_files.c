#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "duo/file.h"
#include "oracle_study.h"

/* ---------------------------------------------------------------- difficulty */

/* The piece on one line of a table: control characters and the tab's rival escaped. */
static void print_escaped(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\n')
            fputs("\\n", out);
        else if (*text == '\t')
            fputs("\\t", out);
        else if (*text == '\\')
            fputs("\\\\", out);
        else if (*text == '\r')
            fputs("\\r", out);
        else
            putc(*text, out);
    }
}

/* One token: its place, its text, its losses and the route that the oracle found for it. */
typedef struct difficulty {
    size_t sequence, position, offset;
    int32_t id;
    const char *piece, *domain;
    double small, big, oracle;
    char route[129];
} difficulty;

static void print_json_token(FILE *out, const difficulty *d)
{
    fprintf(out, "{\"domain\":");
    duo_cli_json_text(out, d->domain);
    fprintf(out,
            ",\"sequence\":%zu,\"position\":%zu,\"offset\":%zu,\"id\":%d,\"text\":", d->sequence,
            d->position, d->offset, (int)d->id);
    duo_cli_json_text(out, d->piece);
    fprintf(out, ",\"small\":%.6g,\"big\":%.6g,\"oracle\":%.6g,\"gap\":%.6g,\"route\":\"%s\"}\n",
            d->small, d->big, d->oracle, d->small - d->oracle, d->route);
}

static void print_table_token(FILE *out, const difficulty *d)
{
    fprintf(out, "%s\t%zu\t%zu\t%zu\t%d\t", d->domain ? d->domain : "", d->sequence, d->position,
            d->offset, (int)d->id);
    print_escaped(out, d->piece);
    fprintf(out, "\t%.6g\t%.6g\t%.6g\t%.6g\t%s\n", d->small, d->big, d->oracle,
            d->small - d->oracle, d->route);
}

/* Offsets count from the first byte of the sequence's first token, which is not predicted. */
static void print_tokens(FILE *out, const duo_oracle_study *s, const duo_tokenizer *tokenizer,
                         void (*print)(FILE *, const difficulty *))
{
    const size_t T = s->sequences.T, L = s->results.L;
    const duo_trace *small = duo_results_find(&s->results, "small");
    const duo_trace *big = duo_results_find(&s->results, "big");
    const duo_trace *oracle = &s->results.policies[0].trace;
    for (size_t r = 0; r < s->results.done; r++) {
        const int32_t *ids = s->sequences.tokens + r * (T + 1);
        size_t offset = duo_tokenizer_piece_bytes(tokenizer, ids[0]);
        for (size_t t = 0; t < T; t++) {
            const size_t n = r * T + t;
            const int32_t id = ids[t + 1];
            difficulty d = {.sequence = r,
                            .position = t,
                            .offset = offset,
                            .id = id,
                            .piece = duo_tokenizer_piece(tokenizer, id),
                            .domain = s->options->windows.domain,
                            .small = (double)small->loss[n],
                            .big = (double)big->loss[n],
                            .oracle = (double)oracle->loss[n]};
            for (size_t l = 0; l < L; l++)
                d.route[l] = duo_module_letter((duo_module)oracle->routes[n * L + l]);
            print(out, &d);
            offset += duo_tokenizer_piece_bytes(tokenizer, id);
        }
    }
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static duo_status write_difficulty(const duo_oracle_study *s, const char *path)
{
    duo_tokenizer *tokenizer = NULL;
    duo_text_file file = {0};
    duo_status status = duo_checkpoint_open_tokenizer(s->checkpoint, &tokenizer);
    if (status == DUO_OK) status = duo_text_file_begin(&file, path);
    if (status != DUO_OK) goto done;
    if (ends_with(path, ".jsonl")) {
        print_tokens(file.out, s, tokenizer, print_json_token);
    } else {
        fputs("domain\tsequence\tposition\toffset\tid\ttext\tsmall\tbig\toracle\tgap\troute\n",
              file.out);
        print_tokens(file.out, s, tokenizer, print_table_token);
    }
    status = duo_text_file_end(&file, DUO_OK);

done:
    duo_tokenizer_free(tokenizer);
    return status;
}

/* ---------------------------------------------------------------- tables */

static double big_of(const duo_oracle_row *row)
{
    return row->big == DUO_ANY_BIG ? (double)NAN : (double)row->big;
}

static void print_number(FILE *out, double value)
{
    if (isfinite(value))
        fprintf(out, "\t%.9g", value);
    else
        fputs("\tnan", out);
}

static duo_status write_tsv(const char *path, const duo_oracle_row *rows, size_t n)
{
    duo_text_file file;
    const duo_status status = duo_text_file_begin(&file, path);
    if (status != DUO_OK) return status;
    FILE *out = file.out;
    fputs("policy\tbig\tloss\tloss_error\tperplexity\tperplexity_error\tbig_share\n", out);
    for (size_t i = 0; i < n; i++) {
        const double perplexity = exp(rows[i].loss.mean);
        fputs(rows[i].label, out);
        print_number(out, big_of(&rows[i]));
        print_number(out, rows[i].loss.mean);
        print_number(out, rows[i].loss.error);
        print_number(out, perplexity);
        print_number(out, perplexity * rows[i].loss.error);
        print_number(out, rows[i].share);
        putc('\n', out);
    }
    return duo_text_file_end(&file, DUO_OK);
}

typedef struct json_value {
    const char *key;
    double value;
} json_value;

static void print_values(FILE *out, const json_value *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (i > 0) putc(',', out);
        duo_cli_json_number(out, values[i].key, values[i].value);
    }
}

static void print_json_row(FILE *out, const duo_oracle_row *row)
{
    const double perplexity = exp(row->loss.mean);
    const json_value values[] = {
        {"big", big_of(row)},
        {"loss", row->loss.mean},
        {"loss_error", row->loss.error},
        {"perplexity", perplexity},
        {"perplexity_error", perplexity * row->loss.error},
        {"big_share", row->share},
    };
    fputs("{\"policy\":", out);
    duo_cli_json_text(out, row->label);
    putc(',', out);
    print_values(out, values, sizeof values / sizeof *values);
    putc('}', out);
}

static void print_json_hindsight(FILE *out, const duo_hindsight *h)
{
    fputs(",\"hindsight\":[", out);
    for (size_t b = 0; b < h->budgets; b++) {
        const json_value values[] = {
            {"big", (double)b},
            {"oracle", h->oracle[b].mean},
            {"oracle_error", h->oracle[b].error},
            {"gain", h->gain[b].mean},
            {"gain_error", h->gain[b].error},
            {"control", h->control[b].mean},
            {"control_error", h->control[b].error},
            {"corrected", h->corrected[b].mean},
            {"corrected_error", h->corrected[b].error},
            {"label_free", h->label_free[b].mean},
            {"label_free_error", h->label_free[b].error},
            {"label_free_gain", h->label_free_gain[b].mean},
            {"label_free_gain_error", h->label_free_gain[b].error},
        };
        fputs(b > 0 ? ",\n{" : "\n{", out);
        print_values(out, values, sizeof values / sizeof *values);
        putc('}', out);
    }
    putc(']', out);
}

/* The same of one committed search. */
static duo_status print_json_control(FILE *out, const duo_oracle_study *s, double big)
{
    duo_oracle_control c;
    const duo_status status = duo_oracle_control_measure(&c, s);
    if (status != DUO_OK) return status;
    const json_value values[] = {
        {"big", big},
        {"oracle", c.oracle.mean},
        {"oracle_error", c.oracle.error},
        {"gain", c.gain.mean},
        {"gain_error", c.gain.error},
        {"control", c.control.mean},
        {"control_error", c.control.error},
        {"corrected", c.corrected.mean},
        {"corrected_error", c.corrected.error},
    };
    fputs(",\"hindsight\":[\n{", out);
    print_values(out, values, sizeof values / sizeof *values);
    fputs("}]", out);
    return DUO_OK;
}

static void print_json_setting(FILE *out, const duo_oracle_study *s)
{
    char hash[33], language[33], modules[16];
    const struct {
        const char *key, *text;
    } texts[] = {
        {"model_hash", duo_hash_text(hash, s->origin.model)},
        {"language_hash", duo_hash_text(language, duo_model_hash_without_routers(s->model))},
        {"domain", s->options->windows.domain},
        {"text", s->options->windows.text},
        {"modules", duo_module_set_text(modules, s->setting.modules)},
        {"budget", s->budget},
        {"context", s->origin.context},
        {"reference", s->origin.reference},
        {"method", s->method},
        {"goal", s->origin.goal},
        {"baselines", s->origin.baselines},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        fprintf(out, "%s\"%s\":", i > 0 ? "," : "", texts[i].key);
        duo_cli_json_text(out, texts[i].text);
    }
    fprintf(out, ",\"seed\":%llu,\"layers\":%zu,\"sequences\":%zu,\"positions\":%zu,",
            (unsigned long long)s->origin.seed, s->results.L, s->results.done, s->sequences.T);
    const double tokens = (double)((s->results.done - s->resumed) * s->sequences.T);
    duo_cli_json_number(out, "search_flops_per_token",
                        tokens > 0 && s->spent > 0 ? s->spent / tokens : NAN);
}

static duo_status write_json(const duo_oracle_study *s, const duo_hindsight *hindsight,
                             const duo_oracle_row *rows, size_t n)
{
    duo_text_file file;
    duo_status status = duo_text_file_begin(&file, s->options->json);
    if (status != DUO_OK) return status;
    FILE *out = file.out;
    putc('{', out);
    print_json_setting(out, s);
    fputs(",\"policies\":[", out);
    for (size_t i = 0; i < n; i++) {
        fputs(i > 0 ? ",\n" : "\n", out);
        print_json_row(out, &rows[i]);
    }
    putc(']', out);
    if (hindsight) print_json_hindsight(out, hindsight);
    if (s->options->control)
        status = print_json_control(out, s, rows[0].share * (double)s->results.L);
    fputs("}\n", out);
    return duo_text_file_end(&file, status);
}

duo_status duo_oracle_write_files(const duo_oracle_study *study, const duo_hindsight *hindsight,
                                  const duo_oracle_row *rows, size_t n)
{
    const duo_oracle_options *o = study->options;
    duo_status status = DUO_OK;
    if (o->difficulty) status = write_difficulty(study, o->difficulty);
    if (status == DUO_OK && o->json) status = write_json(study, hindsight, rows, n);
    if (status == DUO_OK && o->tsv) status = write_tsv(o->tsv, rows, n);
    return status;
}
