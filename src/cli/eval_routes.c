#include "eval_routes.h"

#include <string.h>

#include "duo/file.h"

void duo_cli_json_agreement(FILE *out, const duo_agreement *agreement, size_t L)
{
    fprintf(out, ",\"agreement\":%.6f,\"agreement_macro_f1\":%.6f,\"agreement_by_layer\":[",
            agreement->accuracy, agreement->macro_f1);
    for (size_t l = 0; l < L; l++)
        fprintf(out, "%s%.6f", l > 0 ? "," : "", agreement->layer[l].accuracy);
    fputs("],\"macro_f1_by_layer\":[", out);
    for (size_t l = 0; l < L; l++)
        fprintf(out, "%s%.6f", l > 0 ? "," : "", agreement->layer[l].macro_f1);
    putc(']', out);
}

duo_status duo_cli_write_usage(const char *path, const duo_results *results)
{
    const size_t R = results->sequences->R, T = results->sequences->T, L = results->L;
    duo_text_file file;
    const duo_status status = duo_text_file_begin(&file, path);
    if (status != DUO_OK) return status;
    FILE *out = file.out;
    fputs("policy\tlayer\tposition\tskip\tsmall\tbig\n", out);
    for (size_t i = 0; i < results->n; i++)
        for (size_t l = 0; l < L; l++)
            for (size_t t = 0; t < T; t++) {
                const uint8_t *routes = results->policies[i].trace.routes;
                double uses[DUO_MODULES] = {0};
                for (size_t r = 0; r < R; r++) uses[routes[(r * T + t) * L + l]]++;
                fprintf(out, "%s\t%zu\t%zu", results->policies[i].name, l, t);
                for (size_t m = 0; m < DUO_MODULES; m++)
                    fprintf(out, "\t%.6f", uses[m] / (double)R);
                putc('\n', out);
            }
    return duo_text_file_end(&file, DUO_OK);
}
