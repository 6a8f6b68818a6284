#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "compare_study.h"

/* A row beside what it is held against. */
typedef struct table_row {
    const duo_compared *row;
    duo_estimate loss, fixed, against, big; /* its own, and less theirs */
    double closed, corrected;
} table_row;

static const duo_estimate unknown = {NAN, NAN};

static duo_estimate less(const duo_compared *row, const duo_compared *other)
{
    if (!other || !other->means || other->R != row->R) return unknown;
    return duo_estimate_difference(row->means, other->means, row->R);
}

/* fixed, big: of the same sequences. */
static table_row judge(const duo_comparison *c, const duo_compared *row, const duo_compared *fixed,
                       const duo_compared *big, const duo_compared *against)
{
    table_row t = {.row = row,
                   .loss = duo_estimate_mean(row->means, row->R),
                   .fixed = less(row, fixed),
                   .against = less(row, against),
                   .big = less(row, big),
                   .closed = NAN,
                   .corrected = NAN};
    if (!fixed || !fixed->means) return t;
    const double from = duo_estimate_mean(fixed->means, fixed->R).mean;
    const double goal = duo_estimate_mean(big->means, big->R).mean;
    const double gain = c->hindsight.corrected[row->big].mean;
    t.closed = duo_share_closed(t.loss.mean, from, goal);
    t.corrected = duo_share_closed(t.loss.mean, from, goal - gain);
    return t;
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
    *mean = (duo_compared){0};
    if (!rows) return duo_fail(DUO_ENOMEM, "no memory for a table");
    for (size_t i = 0; i < c->n; i++)
        if (c->rows[i].big == big && strcmp(c->rows[i].name, name) == 0) rows[n++] = &c->rows[i];
    if (n > 0) status = duo_compared_mean(mean, rows, n);
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

typedef void row_visitor(void *context, const table_row *row);

/* All seeds of row i's kind, if wanted, and their mean. */
static duo_status visit_kind(const duo_comparison *c, size_t i, const duo_compared *against,
                             bool seeds, row_visitor *visit, void *context)
{
    duo_compared mean;
    const duo_status status = mean_of_kind(c, c->rows[i].name, c->rows[i].big, &mean);
    if (status != DUO_OK) return status;
    const duo_compared *fixed = &c->fixed[mean.big];
    for (size_t k = i; k < c->n && seeds && mean.seeds > 1; k++) {
        const duo_compared *row = &c->rows[k], *other = same_seed(c, row);
        if (!same_kind(&c->rows[i], row)) continue;
        const table_row t = judge(c, row, fixed, &c->big, other ? other : against);
        visit(context, &t);
    }
    if (mean.seeds == 1) mean.seed = c->rows[i].seed;
    const table_row t = judge(c, &mean, fixed, &c->big, against);
    visit(context, &t);
    duo_compared_free(&mean);
    return status;
}

static duo_status visit_budget(const duo_comparison *c, size_t big, bool seeds, row_visitor *visit,
                               void *context)
{
    duo_compared against;
    duo_status status = mean_of_kind(c, c->against, big, &against);
    if (status != DUO_OK) return status;
    const table_row fixed = judge(c, &c->fixed[big], &c->fixed[big], &c->big, &against);
    visit(context, &fixed);
    for (size_t i = 0; i < c->n && status == DUO_OK; i++)
        if (c->rows[i].big == big && first_of_kind(c, i))
            status = visit_kind(c, i, &against, seeds, visit, context);
    const duo_compared *there[] = {&c->fixed_there[big], &c->free[big], &c->oracle[big]};
    for (size_t i = 0; i < 3 && status == DUO_OK; i++) {
        const table_row t = judge(c, there[i], &c->fixed_there[big], &c->big_there, NULL);
        visit(context, &t);
    }
    duo_compared_free(&against);
    return status;
}

static duo_status visit_all(const duo_comparison *c, bool seeds, row_visitor *visit, void *context)
{
    const table_row ends[] = {judge(c, &c->small, NULL, &c->big, NULL),
                              judge(c, &c->big, NULL, &c->big, NULL)};
    duo_status status = DUO_OK;
    for (size_t i = 0; i < c->n_budgets && status == DUO_OK; i++)
        status = visit_budget(c, c->budgets[i], seeds, visit, context);
    for (size_t i = 0; i < 2; i++) visit(context, &ends[i]);
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

static const char *difference_text(char text[32], duo_estimate e)
{
    if (isfinite(e.mean) && isfinite(e.error))
        snprintf(text, 32, "%+.4f (%.4f)", e.mean, e.error);
    else
        strcpy(text, "-");
    return text;
}

static bool is_fixed(const duo_comparison *c, const duo_compared *row)
{
    return row == &c->fixed[row->big] || row == &c->fixed_there[row->big];
}

typedef struct printing {
    const duo_comparison *comparison;
} printing;

static void print_row(void *context, const table_row *t)
{
    const duo_comparison *c = ((const printing *)context)->comparison;
    const duo_compared *row = t->row;
    char a[9][32];
    printf("%2zu %-14s %2zu x%4zu  %.4f %7.3f %6s %6s %7.3f %6s  %-17s %-17s %-17s %6s %6s %6s\n",
           row->big, row->name, row->seeds, row->R, t->loss.mean, exp(t->loss.mean),
           number_text(a[0], row->share, 2, 100), number_text(a[1], row->raw, 2, 100),
           row->flops / 1e6, number_text(a[2], row->tokens_per_s, 0, 1),
           difference_text(a[3], is_fixed(c, row) ? unknown : t->fixed),
           difference_text(a[4], strcmp(row->name, c->against) == 0 ? unknown : t->against),
           difference_text(a[5], row == &c->big ? unknown : t->big),
           number_text(a[6], t->closed, 0, 100), number_text(a[7], t->corrected, 0, 100),
           number_text(a[8], row->accuracy, 1, 100));
}

duo_status duo_comparison_print(const duo_comparison *c)
{
    printf("%2s %-14s %8s  %6s %7s %6s %6s %7s %6s  %-17s %-17s %-17s %6s %6s %6s\n", "K", "routes",
           "seeds xR", "loss", "ppl", "big%", "raw%", "MFLOP", "tok/s", "less best fixed",
           "less the other", "less all-big", "gap%", "corr%", "agree%");
    printing context = {c};
    const duo_status status = visit_all(c, false, print_row, &context);
    printf(
        "K big layers of %zu. Differences of loss with paired standard errors over R sequences; "
        "the other: %s.\ngap: share of the way from the best fixed pattern to all-big that is "
        "closed; corr: to where the oracle would\nbe without hindsight. Rows of a smaller R are "
        "on the oracle's sequences.\nthe oracle's gain over all-big there, and without hindsight:",
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

static void write_row(void *context, const table_row *t)
{
    FILE *out = context;
    const duo_compared *row = t->row;
    fprintf(out, "%zu\t%s\t", row->big, row->name);
    if (row->seeds > 1)
        fprintf(out, "mean of %zu", row->seeds);
    else if (row->seed > 0)
        fprintf(out, "%llu", (unsigned long long)row->seed);
    else
        putc('-', out);
    fprintf(out, "\t%zu", row->R);
    const double numbers[] = {t->loss.mean,  t->loss.error,  exp(t->loss.mean), row->spread,
                              row->share,    row->raw,       row->flops,        row->tokens_per_s,
                              t->fixed.mean, t->fixed.error, t->against.mean,   t->against.error,
                              t->big.mean,   t->big.error,   t->closed,         t->corrected,
                              row->accuracy, row->macro_f1,  row->early,        row->late};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) write_number(out, numbers[i]);
    putc('\n', out);
}

/* An argument as a shell takes it. */
static void write_argument(FILE *out, const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-+=:,./@%";
    const bool quote = text[0] == '\0' || text[strspn(text, plain)] != '\0';
    fprintf(out, quote ? " '%s'" : " %s", text);
}

duo_status duo_comparison_write(const duo_comparison *c, const char *path, int argc, char **argv)
{
    FILE *out = fopen(path, "w");
    if (!out) return duo_fail(DUO_EIO, "%s: %s", path, strerror(errno));
    fputs("# duo", out);
    for (int i = 0; i < argc; i++) {
        const bool breaks = strcmp(argv[i], "--row") == 0;
        if (breaks) fputs(" \\\n#  ", out);
        write_argument(out, argv[i]);
    }
    fputs(
        "\nbudget\troutes\tseed\tsequences\tloss\tloss_error\tperplexity\tspread_over_seeds\tbig\t"
        "big_uncalibrated\tflops\ttokens_per_s\tless_fixed\tless_fixed_error\tless_",
        out);
    fprintf(out,
            "%s\tless_%s_error\tless_all_big\tless_all_big_error\tgap_closed\tcorrected_closed\t"
            "agreement\tmacro_f1\tbig_early\tbig_late\n",
            c->against, c->against);
    const duo_status status = visit_all(c, true, write_row, out);
    const bool failed = ferror(out) != 0;
    if (fclose(out) == 0 && !failed) return status;
    return duo_fail(DUO_EIO, "%s: cannot be written", path);
}
