#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "duo/checkpoint.h"
#include "duo/data.h"
#include "duo/result.h"
#include "options.h"

/* A text of a file on one line, whatever it holds, and not all of a long one. */
static void print_text(const char *text)
{
    enum { MOST = 100 };
    size_t shown = 0;
    putchar('"');
    for (; *text && shown < MOST; text++, shown++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '\n')
            fputs("\\n", stdout);
        else if (c < 0x20 || c == 0x7f)
            printf("\\x%02x", (unsigned)c);
        else
            putchar(c);
    }
    printf("\"%s", *text ? "..." : "");
}

static void print_attribute(const duo_attribute *attribute)
{
    printf("  %s %s = ", attribute->object, attribute->name);
    switch (attribute->type) {
    case DUO_ATTR_U64:
        printf("%" PRIu64, attribute->u64);
        break;
    case DUO_ATTR_F64:
        printf("%.17g", attribute->f64);
        break;
    case DUO_ATTR_TEXT:
        print_text(attribute->text);
        break;
    }
    putchar('\n');
}

static void print_shape(char text[96], const duo_shape *shape)
{
    size_t used = 0;
    for (size_t i = 0; i < shape->rank; i++)
        used +=
            (size_t)snprintf(text + used, 96 - used, "%s%zu", i > 0 ? " x " : "", shape->size[i]);
}

static void print_datasets(const duo_store *store)
{
    const duo_dataset *datasets = NULL;
    const size_t n = duo_store_datasets(store, &datasets);
    int widest = 0;
    for (size_t i = 0; i < n; i++)
        if ((int)strlen(datasets[i].name) > widest) widest = (int)strlen(datasets[i].name);
    for (size_t i = 0; i < n; i++) {
        const duo_dataset *d = &datasets[i];
        char shape[96];
        print_shape(shape, &d->shape);
        printf("  %-*s  %-8s %-20s %14zu bytes\n", widest, d->name, duo_type_name(d->type), shape,
               d->count * duo_type_size(d->type));
    }
}

static uint64_t model_size(const duo_store *store, const char *name)
{
    const duo_attribute *attribute = duo_store_attribute(store, "/model", name);
    return attribute && attribute->type == DUO_ATTR_U64 ? attribute->u64 : 0;
}

static const char *text_or(const duo_store *store, const char *object, const char *name,
                           const char *otherwise)
{
    const duo_attribute *attribute = duo_store_attribute(store, object, name);
    return attribute && attribute->type == DUO_ATTR_TEXT ? attribute->text : otherwise;
}

/* "  llama, 8 layers, ...": what one asks of a checkpoint first. */
static void print_checkpoint(const duo_store *store)
{
    const duo_dataset *datasets = NULL;
    const size_t n = duo_store_datasets(store, &datasets);
    uint64_t parameters = 0;
    for (size_t i = 0; i < n; i++)
        if (strncmp(datasets[i].name, "/model/", 7) == 0) parameters += datasets[i].count;
    printf("  %s, %" PRIu64 " layers, d_model %" PRIu64 ", %" PRIu64 " heads, big %" PRIu64
           ", small %" PRIu64 ", vocabulary %" PRIu64 ", %.3f M parameters",
           text_or(store, "/model", "arch", "unknown"), model_size(store, "n_layers"),
           model_size(store, "d_model"), model_size(store, "n_heads"), model_size(store, "d_big"),
           model_size(store, "d_small"), model_size(store, "vocab_size"), (double)parameters / 1e6);
    const char *routers = text_or(store, "/model", "router_modules", "");
    const bool calibrated = duo_store_find(store, DUO_CHECKPOINT_THRESHOLDS) != NULL;
    if (routers[0]) printf(", routers %s%s", routers, calibrated ? "" : ", not calibrated");
    const duo_attribute *step = duo_store_attribute(store, "/train", "step");
    if (step && step->type == DUO_ATTR_U64)
        printf("; stage %s, step %" PRIu64, text_or(store, "/train", "stage", "unknown"),
               step->u64);
    putchar('\n');
}

static void print_value(const duo_dataset *d, size_t i)
{
    switch (d->type) {
    case DUO_U8:
        printf("%u", (unsigned)((const uint8_t *)d->data)[i]);
        break;
    case DUO_U16:
        printf("%u", (unsigned)((const uint16_t *)d->data)[i]);
        break;
    case DUO_U32:
        printf("%" PRIu32, ((const uint32_t *)d->data)[i]);
        break;
    case DUO_U64:
        printf("%" PRIu64, ((const uint64_t *)d->data)[i]);
        break;
    case DUO_I32:
        printf("%" PRId32, ((const int32_t *)d->data)[i]);
        break;
    case DUO_I64:
        printf("%" PRId64, ((const int64_t *)d->data)[i]);
        break;
    case DUO_F32:
        printf("%.9g", (double)((const float *)d->data)[i]);
        break;
    case DUO_F64:
        printf("%.17g", ((const double *)d->data)[i]);
        break;
    }
}

/* One line per row of the last dimension. */
static void print_values(const duo_dataset *d)
{
    const size_t row = d->shape.size[d->shape.rank - 1];
    for (size_t i = 0; i < d->count && !ferror(stdout); i++) {
        print_value(d, i);
        putchar((i + 1) % row == 0 ? '\n' : ' ');
    }
}

static duo_status find_dataset(const duo_store *store, const char *name,
                               const duo_dataset **dataset)
{
    *dataset = duo_store_find(store, name);
    if (*dataset) return DUO_OK;
    return duo_fail(DUO_EINVAL, "%s: no dataset %s", duo_store_path(store), name);
}

static duo_status print_bytes(const duo_dataset *d, const char *path)
{
    if (d->type != DUO_U8)
        return duo_fail(DUO_EINVAL, "%s: %s: not bytes but %s", path, d->name,
                        duo_type_name(d->type));
    fwrite(d->data, 1, d->count, stdout); /* main sees to a broken stdout */
    return DUO_OK;
}

/* Whole, whatever it holds: contents show the beginning alone. */
static duo_status print_attribute_alone(const duo_store *store, const char *name)
{
    const duo_attribute *all = NULL;
    const size_t n = duo_store_attributes(store, &all);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(all[i].name, name) != 0) continue;
        if (all[i].type == DUO_ATTR_TEXT)
            puts(all[i].text);
        else if (all[i].type == DUO_ATTR_U64)
            printf("%" PRIu64 "\n", all[i].u64);
        else
            printf("%.17g\n", all[i].f64);
        return DUO_OK;
    }
    return duo_fail(DUO_EINVAL, "%s: no attribute %s", duo_store_path(store), name);
}

static void print_contents(const duo_store *store)
{
    const duo_attribute *attributes = NULL;
    const size_t n_attributes = duo_store_attributes(store, &attributes);
    char hash[33];
    printf("%s: %s, verified, hash %s\n", duo_store_path(store),
           duo_kind_name(duo_store_kind(store)), duo_hash_text(hash, duo_store_hash(store)));
    if (duo_store_kind(store) == DUO_KIND_CHECKPOINT) print_checkpoint(store);
    puts("attributes");
    for (size_t i = 0; i < n_attributes; i++) print_attribute(&attributes[i]);
    puts("datasets");
    print_datasets(store);
}

/* What every reader of such a file wants of it; who reads it asks for more. */
static duo_status check_contents(const duo_store *store)
{
    const char *path = duo_store_path(store);
    duo_checkpoint *checkpoint = NULL;
    duo_tokens *tokens = NULL;
    duo_store *routes = NULL;
    duo_status status = DUO_OK;
    switch (duo_store_kind(store)) {
    case DUO_KIND_CHECKPOINT:
        status = duo_checkpoint_open(&checkpoint, path);
        if (status == DUO_OK) status = duo_checkpoint_check_values(checkpoint);
        break;
    case DUO_KIND_TOKENS:
        status = duo_tokens_open(&tokens, path);
        if (status == DUO_OK) status = duo_tokens_check_tokenizer(tokens);
        break;
    case DUO_KIND_ROUTES:
        status = duo_routes_open(&routes, path);
        break;
    case DUO_KIND_PROBE:
    case DUO_KIND_ANY:
        break;
    }
    duo_store_close(routes);
    duo_tokens_close(tokens);
    duo_checkpoint_close(checkpoint);
    return status;
}

duo_status duo_cli_inspect(int argc, char **argv)
{
    const char *path = NULL, *values = NULL, *bytes = NULL, *attribute = NULL;
    char latest[2 * DUO_PATH_MAX];
    const duo_positional positionals[] = {
        {"FILE", "checkpoint, token file, routes or probe; a run folder for its latest checkpoint",
         &path, NULL, false},
    };
    const duo_option options[] = {
        {"--values", "NAME", "print this dataset's values only, a line per row", DUO_OPTION_TEXT,
         &values, 0, 0},
        {"--bytes", "NAME", "print this uint8 dataset's bytes only, as they are: a recipe's text",
         DUO_OPTION_TEXT, &bytes, 0, 0},
        {"--attribute", "NAME", "print this attribute's value only, and all of it", DUO_OPTION_TEXT,
         &attribute, 0, 0},
    };
    const duo_option_pair excludes[] = {
        {"--values", "--bytes"},
        {"--values", "--attribute"},
        {"--bytes", "--attribute"},
    };
    const duo_command command = {
        .name = "inspect",
        .description =
            "Verify a file of ours against its seal, say what is in it, and check what every\n"
            "reader of it needs.",
        .example = "duo inspect checkpoints/quickstart/latest --values /model/final_norm/weight",
        .positionals = positionals,
        .n_positionals = sizeof positionals / sizeof *positionals,
        .options = options,
        .n_options = sizeof options / sizeof *options,
        .excludes = excludes,
        .n_excludes = sizeof excludes / sizeof *excludes,
    };
    duo_store *store = NULL;
    const duo_dataset *dataset = NULL;
    bool help = false;
    duo_status status = duo_options_parse(&command, argc, argv, &help);
    if (status != DUO_OK || help) return status;
    if ((status = duo_cli_latest(&path, latest)) != DUO_OK) return status;
    status = duo_store_open(&store, path, DUO_KIND_ANY);
    if (status != DUO_OK) goto done;
    if (attribute) {
        status = print_attribute_alone(store, attribute);
    } else if (values || bytes) {
        status = find_dataset(store, values ? values : bytes, &dataset);
        if (status != DUO_OK) goto done;
        if (bytes)
            status = print_bytes(dataset, path);
        else
            print_values(dataset);
    } else {
        print_contents(store);
        status = check_contents(store);
    }

done:
    duo_store_close(store);
    return status;
}
