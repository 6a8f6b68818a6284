#include "summary.h"

#include <math.h>

#include "duo/utf8.h"

const char *duo_cli_loss_text(char text[48], const duo_trace_summary *summary)
{
    if (isnan(summary->loss_error))
        snprintf(text, 48, "%.4f", summary->loss);
    else
        snprintf(text, 48, "%.4f +- %.4f", summary->loss, summary->loss_error);
    return text;
}

static double share(const duo_trace_summary *summary, size_t l, duo_module m)
{
    const uint64_t *uses = summary->usage + l * DUO_MODULES;
    return (double)uses[m] / (double)(uses[DUO_SKIP] + uses[DUO_SMALL] + uses[DUO_BIG]);
}

void duo_cli_print_layers(const duo_trace_summary *summary, size_t L)
{
    printf("  %-6s", "layer");
    for (size_t l = 0; l < L; l++) printf(" %5zu", l);
    putchar('\n');
    for (int m = DUO_BIG; m >= DUO_SKIP; m--) {
        printf("  %-6s", duo_module_name((duo_module)m));
        for (size_t l = 0; l < L; l++) printf(" %5.1f", 100 * share(summary, l, (duo_module)m));
        puts("  %");
    }
}

void duo_cli_json_usage(FILE *out, const duo_trace_summary *summary, size_t L)
{
    fputs(",\"usage\":{", out);
    for (duo_module m = 0; m < DUO_MODULES; m++) {
        fprintf(out, "%s\"%s\":[", m > 0 ? "," : "", duo_module_name(m));
        for (size_t l = 0; l < L; l++)
            fprintf(out, "%s%.6f", l > 0 ? "," : "", share(summary, l, m));
        putc(']', out);
    }
    putc('}', out);
}

void duo_cli_policy_group(char name[64], const duo_policy *policy)
{
    duo_utf8_mend(name, 64, policy->name);
    for (char *c = name; *c; c++)
        if (*c == '/' || (unsigned char)*c < ' ' || *c == 0x7f) *c = '_';
}
