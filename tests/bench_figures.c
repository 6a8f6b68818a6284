#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "duo/bench.h"

/* Usage: bench_figures FILE: what `duo bench --json` wrote has rows of every part, and figures that
 * are finite and positive. The rest of a step, and a point below its chord, may be negative. */
static bool row_is_good(const json_t *row)
{
    static const char *const positive[] = {"value", "least", "most", "limit", "tokens_per_s"};
    const char *name = json_string_value(json_object_get(row, "name"));
    if (!name || json_integer_value(json_object_get(row, "threads")) < 1) return false;
    bool good = json_object_get(row, "value") || json_object_get(row, "seconds");
    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++) {
        const json_t *number = json_object_get(row, positive[i]);
        const double value = json_number_value(number);
        if (number && !(isfinite(value) && value > 0)) good = false;
    }
    const json_t *error = json_object_get(row, "error");
    const char *precision = json_string_value(json_object_get(row, "precision"));
    /* Few keys give large errors where the weights of the softmax are rounded. */
    const bool rough = precision && strcmp(precision, "bf16") == 0 &&
                       strncmp(name, "attention", strlen("attention")) == 0;
    if (error && !(json_number_value(error) < (rough ? 1e-1 : 1e-2))) good = false;
    if (!good) printf("%s: %s\n", name, json_dumps(row, 0));
    return good;
}

int main(int argc, char **argv)
{
    json_error_t error;
    json_t *root = argc == 2 ? json_load_file(argv[1], 0, &error) : NULL;
    if (!root) return 1;
    const json_t *rows = json_object_get(root, "rows");
    bool seen[DUO_BENCH_PARTS] = {false}, good = true;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const char *part = json_string_value(json_object_get(row, "part"));
        for (size_t p = 0; part && p < DUO_BENCH_PARTS; p++)
            if (strcmp(part, duo_bench_part_name((duo_bench_part)p)) == 0) seen[p] = true;
        if (!row_is_good(row)) good = false;
    }
    for (size_t p = 0; p < DUO_BENCH_PARTS; p++)
        if (!seen[p]) {
            printf("no row of %s\n", duo_bench_part_name((duo_bench_part)p));
            good = false;
        }
    const json_t *machine = json_object_get(root, "machine");
    if (!json_string_value(json_object_get(machine, "processor"))) good = false;
    json_decref(root);
    return good ? 0 : 1;
}
