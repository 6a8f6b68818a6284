#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "compare_study.h"
#include "duo/file.h"

/* A row beside what it is held against: at the same budget, and at the same FLOPs. */
typedef struct table_row {
    const duo_compared *row;
    duo_estimate loss, fixed, against, big; /* its own, and less theirs */
    duo_estimate fixed_flops, against_flops;
    duo_estimate closed, corrected;
} table_row;

typedef duo_status row_visitor(void *context, const table_row *row);

/* A walk over all rows of the table. */
typedef struct table {
    const duo_comparison *comparison;
    bool seeds;            /* each of them, not only their means */
    duo_compared *against; /* (n_budgets) means of the rows that all others are held against */
    const duo_compared **fixed_line, **against_line; /* rows of ascending budgets, small and big */
    size_t n_fixed_line, n_against_line;
    row_visitor *visit;
    void *context;
} table;

static const duo_estimate unknown = {NAN, NAN};

/* ---------------------------------------------------------------- one row */

/* What the row loses to a mixture of others that costs as much. */
static duo_status less_at_equal_flops(duo_estimate *less, const duo_compared *row,
                                      const duo_compared *const *line, size_t n)
{
    duo_compared at;
    const duo_status status = duo_compared_at(&at, line, n, row->flops);
    if (status == DUO_OK) *less = duo_compared_less(row, &at);
    duo_compared_free(&at);
    return status;
}

/* fixed, big, against: of the same sequences, or NULL. */
static duo_status show(const table *t, const duo_compared *row, const duo_compared *fixed,
                       const duo_compared *big, const duo_compared *against)
{
    const duo_comparison *c = t->comparison;
    table_row shown = {.row = row,
                       .loss = duo_compared_loss(row),
                       .fixed = duo_compared_less(row, fixed),
                       .against = duo_compared_less(row, against),
                       .big = duo_compared_less(row, big),
                       .fixed_flops = unknown,
                       .against_flops = unknown,
                       .closed = unknown,
                       .corrected = unknown};
    duo_status status = DUO_OK;
    if (fixed && fixed->means) {
        duo_estimate gain = c->hindsight.corrected[row->big];
        shown.closed = duo_share_closed(row, fixed, big, (duo_estimate){0, 0});
        shown.corrected = duo_share_closed(row, fixed, big, gain);
    }
    if (row->R == c->big.R && big == &c->big && row != &c->big && row != &c->small) {
        status = less_at_equal_flops(&shown.fixed_flops, row, t->fixed_line, t->n_fixed_line);
        if (status == DUO_OK)
            status =
                less_at_equal_flops(&shown.against_flops, row, t->against_line, t->n_against_line);
    }
    return status == DUO_OK ? t->visit(t->context, &shown) : status;
}

/* ---------------------------------------------------------------- rows and means */

static bool same_kind(const duo_compared *a, const duo_compared *b)
{
    return a->big == b->big && strcmp(a->name, b->name) == 0;
}

/* Whether row i is the first of its name and budget. */
static bool first_of_kind(const duo_comparison *c, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (same_kind(&c->rows[k], &c->rows[i])) return false;
    return true;
}

static duo_status mean_of_kind(const duo_comparison *c, const char *name, size_t big,
                               duo_compared *mean)
{
    duo_status status = DUO_OK;
    size_t n = 0;
    const duo_compared **rows = malloc((c->n + 1) * sizeof *rows);
    *mean = duo_compared_empty(name, big, 0);
    if (!rows) return duo_fail(DUO_ENOMEM, "no memory for a table");
    for (size_t i = 0; i < c->n; i++)
        if (c->rows[i].big == big && strcmp(c->rows[i].name, name) == 0) rows[n++] = &c->rows[i];
    if (n > 0) status = duo_compared_mean(mean, rows, n);
    if (n == 1) mean->seed = rows[0]->seed;
    free(rows);
    return status;
}

static const duo_compared *same_seed(const duo_comparison *c, const duo_compared *row)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->rows[i].big == row->big && c->rows[i].seed == row->seed &&
            strcmp(c->rows[i].name, c->against) == 0)
            return &c->rows[i];
    return NULL;
}

/* All seeds of row i's kind, if wanted, and their mean. */
static duo_status show_kind(const table *t, size_t i, const duo_compared *against)
{
    const duo_comparison *c = t->comparison;
    const duo_compared *fixed = &c->fixed[c->rows[i].big];
    duo_compared mean;
    duo_status status = mean_of_kind(c, c->rows[i].name, c->rows[i].big, &mean);
    for (size_t k = i; k < c->n && status == DUO_OK && t->seeds && mean.seeds > 1; k++) {
        const duo_compared *row = &c->rows[k], *other = same_seed(c, row);
        if (same_kind(&c->rows[i], row))
            status = show(t, row, fixed, &c->big, other ? other : against);
    }
    if (status == DUO_OK) status = show(t, &mean, fixed, &c->big, against);
    duo_compared_free(&mean);
    return status;
}

static duo_status show_budget(const table *t, size_t index)
{
    const duo_comparison *c = t->comparison;
    const size_t big = c->budgets[index];
    const duo_compared *against = &t->against[index];
    duo_status status = show(t, &c->fixed[big], &c->fixed[big], &c->big, against);
    for (size_t i = 0; i < c->n && status == DUO_OK; i++)
        if (c->rows[i].big == big && first_of_kind(c, i)) status = show_kind(t, i, against);
    const duo_compared *there[] = {&c->fixed_there[big], &c->free[big], &c->oracle[big]};
    for (size_t i = 0; i < 3 && status == DUO_OK; i++)
        status = show(t, there[i], &c->fixed_there[big], &c->big_there, NULL);
    return status;
}

static duo_status draw_lines(table *t)
{
    const duo_comparison *c = t->comparison;
    duo_status status = DUO_OK;
    t->against = calloc(c->n_budgets, sizeof *t->against);
    t->fixed_line = calloc(c->L + 3, sizeof *t->fixed_line);
    t->against_line = calloc(c->n_budgets + 2, sizeof *t->against_line);
    if (!t->against || !t->fixed_line || !t->against_line)
        return duo_fail(DUO_ENOMEM, "no memory for a table");
    for (size_t i = 0; i < c->n_budgets && status == DUO_OK; i++) {
        status = mean_of_kind(c, c->against, c->budgets[i], &t->against[i]);
        t->against_line[t->n_against_line++] = &t->against[i];
    }
    for (size_t big = 0; big <= c->L; big++) t->fixed_line[t->n_fixed_line++] = &c->fixed[big];
    t->fixed_line[t->n_fixed_line++] = t->against_line[t->n_against_line++] = &c->small;
    t->fixed_line[t->n_fixed_line++] = t->against_line[t->n_against_line++] = &c->big;
    return status;
}

static duo_status show_all(const duo_comparison *c, bool seeds, row_visitor *visit, void *context)
{
    table t = {.comparison = c, .seeds = seeds, .visit = visit, .context = context};
    duo_status status = draw_lines(&t);
    for (size_t i = 0; i < c->n_budgets && status == DUO_OK; i++) status = show_budget(&t, i);
    if (status == DUO_OK) status = show(&t, &c->small, NULL, &c->big, NULL);
    if (status == DUO_OK) status = show(&t, &c->big, NULL, &c->big, NULL);
    for (size_t i = 0; t.against && i < c->n_budgets; i++) duo_compared_free(&t.against[i]);
    free(t.against);
    free(t.fixed_line);
    free(t.against_line);
    return status;
}

/* ---------------------------------------------------------------- for people */

static const char *number_text(char text[32], double value, int digits, double scale)
{
    if (isfinite(value))
        snprintf(text, 32, "%.*f", digits, scale * value);
    else
        strcpy(text, "-");
    return text;
}

/* "-0.0086(13)": the error in units of the last digit. */
static const char *difference_text(char text[32], duo_estimate e)
{
    if (isfinite(e.mean) && isfinite(e.error))
        snprintf(text, 32, "%+.4f(%.0f)", e.mean, 1e4 * e.error);
    else
        strcpy(text, "-");
    return text;
}

static const char *share_text(char text[32], duo_estimate e)
{
    if (isfinite(e.mean) && isfinite(e.error))
        snprintf(text, 32, "%.0f(%.0f)", 100 * e.mean, 100 * e.error);
    else
        strcpy(text, "-");
    return text;
}

static bool is_fixed(const duo_comparison *c, const duo_compared *row)
{
    return row == &c->fixed[row->big] || row == &c->fixed_there[row->big];
}

static duo_status print_row(void *context, const table_row *t)
{
    const duo_comparison *c = context;
    const duo_compared *row = t->row;
    const bool fixed = is_fixed(c, row), against = strcmp(row->name, c->against) == 0;
    char a[12][32];
    printf("%2zu %-14s %2zu x%4zu  %.4f %7.3f %6s %6s %7.3f %6s  %-12s %-12s %-12s %-12s %-12s "
           "%8s %8s %6s\n",
           row->big, row->name, row->seeds, row->R, t->loss.mean, exp(t->loss.mean),
           number_text(a[0], row->share, 2, 100), number_text(a[1], row->raw, 2, 100),
           row->flops / 1e6, number_text(a[2], row->tokens_per_s, 0, 1),
           difference_text(a[3], fixed ? unknown : t->fixed),
           difference_text(a[4], fixed ? unknown : t->fixed_flops),
           difference_text(a[5], against ? unknown : t->against),
           difference_text(a[6], against ? unknown : t->against_flops),
           difference_text(a[7], row == &c->big ? unknown : t->big),
           share_text(a[8], fixed ? unknown : t->closed),
           share_text(a[9], fixed ? unknown : t->corrected),
           number_text(a[10], row->agreement.accuracy, 1, 100));
    return DUO_OK;
}

duo_status duo_comparison_print(const duo_comparison *c)
{
    char against[32], against_flops[32];
    snprintf(against, sizeof against, "%.12s", c->against);
    snprintf(against_flops, sizeof against_flops, "%.6s, FLOP", c->against);
    printf("%2s %-14s %8s  %6s %7s %6s %6s %7s %6s  less:\n", "", "", "", "", "", "", "", "", "");
    printf("%2s %-14s %8s  %6s %7s %6s %6s %7s %6s  %-12s %-12s %-12s %-12s %-12s %8s %8s %6s\n",
           "K", "routes", "seeds xR", "loss", "ppl", "big%", "raw%", "MFLOP", "tok/s", "fixed",
           "fixed, FLOP", against, against_flops, "all-big", "gap%", "corr%", "agree%");
    const duo_status status = show_all(c, false, print_row, (void *)(uintptr_t)c);
    printf(
        "K big layers of %zu; raw: share of big without thresholds. Differences of loss on the "
        "same R sequences, in\nparentheses the standard error of the last digits, over sequences "
        "and over seeds: less the best fixed\npattern and less %s of the same K, and, FLOP, less "
        "mixtures of two K that cost as much; less all-big.\ngap: share of the way from the best "
        "fixed pattern to all-big that is closed; corr: to where the oracle would\nbe without "
        "hindsight; none where the way is shorter than two of its errors. agree: choices that are "
        "the\noracle's. Rows of a smaller R are on the oracle's sequences. tok/s: of the fastest "
        "batch, for a machine\non which all-big is at every row as fast as at the first.\nthe "
        "oracle's gain over all-big there, and without "
        "hindsight:",
        c->L, c->against);
    for (size_t i = 0; i < c->n_budgets; i++) {
        char gain[32], corrected[32];
        printf("%s %zu: %s, %s", i > 0 ? ";" : "", c->budgets[i],
               difference_text(gain, c->hindsight.gain[c->budgets[i]]),
               difference_text(corrected, c->hindsight.corrected[c->budgets[i]]));
    }
    putchar('\n');
    return status;
}

/* ---------------------------------------------------------------- for programs */

static void write_number(FILE *out, double value)
{
    if (isfinite(value))
        fprintf(out, "\t%.6g", value);
    else
        fputs("\tnan", out);
}

static void write_name(FILE *out, const duo_compared *row)
{
    fprintf(out, "%zu\t%s\t", row->big, row->name);
    if (row->seeds > 1)
        fprintf(out, "mean of %zu", row->seeds);
    else if (row->seed > 0)
        fprintf(out, "%llu", (unsigned long long)row->seed);
    else
        putc('-', out);
}

static duo_status write_row(void *context, const table_row *t)
{
    FILE *out = context;
    const duo_compared *row = t->row;
    write_name(out, row);
    fprintf(out, "\t%zu", row->R);
    const double numbers[] = {exp(t->loss.mean), duo_compared_spread(row), row->share, row->raw,
                              row->flops,        row->tokens_per_s};
    const duo_estimate estimates[] = {t->loss,          t->fixed, t->fixed_flops, t->against,
                                      t->against_flops, t->big,   t->closed,      t->corrected,
                                      row->early,       row->late};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) write_number(out, numbers[i]);
    for (size_t i = 0; i < sizeof estimates / sizeof *estimates; i++) {
        write_number(out, estimates[i].mean);
        write_number(out, estimates[i].error);
    }
    write_number(out, row->agreement.accuracy);
    write_number(out, row->agreement.macro_f1);
    putc('\n', out);
    return DUO_OK;
}

static void write_heading(FILE *out, const char *against)
{
    const char *const estimates[] = {
        "loss",         "less_fixed", "less_fixed_at_flops", "less_",     "less_at_flops_",
        "less_all_big", "gap_closed", "corrected_closed",    "big_early", "big_late"};
    fprintf(
        out,
        "\n# Rows of one seed: less_%s is less the row of that seed, less_at_flops_%s less means. "
        "tokens_per_s: for a machine on which all-big is at every row as fast as at the first.",
        against, against);
    fputs("\nbudget\troutes\tseed\tsequences\tperplexity\tspread_over_seeds\tbig\t"
          "big_uncalibrated\tflops\ttokens_per_s",
          out);
    for (size_t i = 0; i < sizeof estimates / sizeof *estimates; i++) {
        const char *name = estimates[i], *of = name[strlen(name) - 1] == '_' ? against : "";
        fprintf(out, "\t%s%s\t%s%s_error", name, of, name, of);
    }
    fputs("\tagreement\tmacro_f1\n", out);
}

static duo_status write_layers(void *context, const table_row *t)
{
    FILE *out = context;
    const duo_compared *row = t->row;
    for (size_t l = 0; l < row->L; l++) {
        write_name(out, row);
        fprintf(out, "\t%zu", l);
        write_number(out, row->layer_share[l]);
        write_number(out, row->agreement.layer[l].accuracy);
        write_number(out, row->agreement.layer[l].macro_f1);
        putc('\n', out);
    }
    return DUO_OK;
}

/* An argument as a shell takes it, on one line. */
static void write_argument(FILE *out, const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-+=:,./@%";
    putc(' ', out);
    if (text[0] != '\0' && text[strspn(text, plain)] == '\0') {
        fputs(text, out);
        return;
    }
    fputs("$'", out);
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\') putc('\\', out);
        if (*text == '\n')
            fputs("\\n", out);
        else
            putc(*text, out);
    }
    putc('\'', out);
}

static duo_status compose(FILE *out, const duo_comparison *c, bool by_layer, int argc, char **argv)
{
    fputs("# duo", out);
    for (int i = 0; i < argc; i++) {
        const bool breaks = strcmp(argv[i], "--row") == 0;
        if (breaks) fputs(" \\\n#  ", out);
        write_argument(out, argv[i]);
    }
    if (by_layer)
        fputs("\nbudget\troutes\tseed\tlayer\tbig\tagreement\tmacro_f1\n", out);
    else
        write_heading(out, c->against);
    return show_all(c, true, by_layer ? write_layers : write_row, out);
}

duo_status duo_comparison_write(const duo_comparison *c, const char *path, bool by_layer, int argc,
                                char **argv)
{
    duo_text_file file;
    const duo_status status = duo_text_file_begin(&file, path);
    if (status != DUO_OK) return status;
    return duo_text_file_end(&file, compose(file.out, c, by_layer, argc, argv));
}
