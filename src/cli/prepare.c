#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "commands.h"
#include "common.h"
#include "duo/data.h"
#include "options.h"

/* What the command line says of domains, before it is put together. */
typedef struct input_options {
    duo_list names;         /* --domain */
    duo_lists inputs, held; /* --input, --held-out */
} input_options;

/* The same as domains. */
typedef struct domain_list {
    duo_source_domain *domains;
    size_t n;
    const char **paths; /* of all domains, one after another */
} domain_list;

/* ---------------------------------------------------------------- domains */

/* Options of one kind know their order among themselves; where they stand in argv tells it for
 * all of them. */
static size_t place_of_name(const char *name, char **argv)
{
    size_t i = 1;
    while (argv[i] != name) i++;
    return i;
}

static size_t place_of_list(duo_list list, char **argv)
{
    return (size_t)(list.text - (const char *const *)argv);
}

/* The paths of the lists that stand between two places of argv, appended at *end. */
static size_t collect(const char ***end, duo_lists lists, char **argv, size_t from, size_t to)
{
    const char **first = *end;
    for (size_t i = 0; i < lists.n; i++) {
        const size_t place = place_of_list(lists.list[i], argv);
        if (place < from || place >= to) continue;
        for (size_t k = 0; k < lists.list[i].n; k++) *(*end)++ = lists.list[i].text[k];
    }
    return (size_t)(*end - first);
}

static duo_status build_domains(domain_list *list, const input_options *given, int argc,
                                char **argv)
{
    const size_t end = (size_t)argc, n = given->names.n ? given->names.n : 1;
    const char **path = list->paths = calloc(end, sizeof *list->paths);
    list->domains = calloc(n, sizeof *list->domains);
    if (!list->paths || !list->domains) return duo_fail(DUO_ENOMEM, "no memory for the domains");
    const size_t first = given->names.n ? place_of_name(given->names.text[0], argv) : 0;
    for (size_t i = 0; i < given->inputs.n; i++)
        if (place_of_list(given->inputs.list[i], argv) < first)
            return duo_fail(DUO_EUSAGE, "--input: stands before the first --domain");
    for (size_t i = 0; i < given->held.n; i++)
        if (place_of_list(given->held.list[i], argv) < first)
            return duo_fail(DUO_EUSAGE, "--held-out: stands before the first --domain");

    for (size_t d = 0; d < n; d++) {
        duo_source_domain *domain = &list->domains[list->n++];
        const size_t from = given->names.n ? place_of_name(given->names.text[d], argv) : 0;
        const size_t to = d + 1 < n ? place_of_name(given->names.text[d + 1], argv) : end;
        domain->name = given->names.n ? given->names.text[d] : "text";
        domain->inputs = path;
        domain->n_inputs = collect(&path, given->inputs, argv, from, to);
        domain->held_out = path;
        domain->n_held_out = collect(&path, given->held, argv, from, to);
        if (domain->n_inputs == 0)
            return duo_fail(DUO_EUSAGE, "--input: missing for domain %s", domain->name);
    }
    return DUO_OK;
}

/* ---------------------------------------------------------------- output */

static void show_progress(void *context, const char *phase, uint64_t done, uint64_t total)
{
    int *shown = context; /* percent of the phase; training a vocabulary cannot say */
    const int percent = total > 0 ? (int)(100.0 * (double)done / (double)total) : -1;
    if (percent == *shown || percent == 0) return;
    *shown = percent;
    char text[80];
    if (percent < 0)
        snprintf(text, sizeof text, "%s", phase);
    else
        snprintf(text, sizeof text, "%s %d %%", phase, percent);
    duo_cli_progress(text, false);
}

static void print_row(const duo_tokens *tokens, duo_split split, int domain)
{
    const uint64_t bytes = duo_tokens_bytes(tokens, split, domain);
    const size_t count = duo_tokens_count(tokens, split, domain);
    printf("%-12s %-8s %10zu %13" PRIu64 " %12zu %12.3f\n",
           domain < 0 ? "all" : duo_tokens_domain_name(tokens, (size_t)domain),
           split == DUO_TRAIN ? "train" : "held out", duo_tokens_documents(tokens, split, domain),
           bytes, count, (double)bytes / (double)count);
}

static duo_status print_table(const char *path)
{
    duo_tokens *tokens = NULL;
    const duo_status status = duo_tokens_open(&tokens, path);
    if (status != DUO_OK) return status;
    printf("%-12s %-8s %10s %13s %12s %12s\n", "domain", "split", "documents", "bytes", "tokens",
           "bytes/token");
    const int n = (int)duo_tokens_domains(tokens);
    for (int d = n > 1 ? -1 : 0; d < n; d++) {
        print_row(tokens, DUO_TRAIN, d);
        print_row(tokens, DUO_HELD_OUT, d);
    }
    printf("vocabulary %zu, unigram entropy of the held-out tokens %.4f nats\n",
           duo_tokens_vocab_size(tokens), duo_tokens_unigram_entropy(tokens));
    duo_tokens_close(tokens);
    return DUO_OK;
}

/* ---------------------------------------------------------------- command */

static duo_status run(duo_prepare *prepare)
{
    int shown = -2;
    duo_prepare_summary summary;
    prepare->progress = show_progress;
    prepare->context = &shown;
    const duo_status status = duo_prepare_run(prepare, &summary);
    duo_cli_progress_end();
    if (status != DUO_OK && summary.vocab_too_large)
        return duo_fail(status, "%s; --vocab-size N sets it", duo_message());
    if (status != DUO_OK && summary.in_the_way)
        return duo_fail(status, "%s; --force replaces it", duo_message());
    if (status != DUO_OK) return status;
    printf("%s: %s\n", prepare->output, summary.up_to_date ? "up to date" : "written");
    return print_table(prepare->output);
}

duo_status duo_cli_prepare(int argc, char **argv)
{
    duo_prepare prepare = {
        .vocab_size = 0, .json_key = "text", .held_out_fraction = 0.05, .seed = 1};
    input_options given = {0};
    const duo_option options[] = {
        {"--output", "FILE", "token file to write", DUO_OPTION_TEXT, &prepare.output, 0, 0},
        {"--domain", "NAME", "what follows belongs to this domain (default: one, text)",
         DUO_OPTION_REPEATED, &given.names, 0, 0},
        {"--input", "FILES...",
         "plain text, or JSON, a document per line, where the name ends in .jsonl or .json",
         DUO_OPTION_LISTS, &given.inputs, 0, 0},
        {"--held-out", "FILES...", "never trained on (default: drawn from the inputs)",
         DUO_OPTION_LISTS, &given.held, 0, 0},
        {"--vocab-size", "N", "vocabulary to train (default 4096)", DUO_OPTION_SIZE,
         &prepare.vocab_size, 1, 1e6},
        {"--tokenizer", "FILE", "a SentencePiece .model or a file of ours to take it from",
         DUO_OPTION_TEXT, &prepare.tokenizer, 0, 0},
        {"--json-key", "KEY", "of the text in a line of JSON (default text)", DUO_OPTION_TEXT,
         &prepare.json_key, 0, 0},
        {"--held-out-fraction", "X", "of a domain without --held-out (default 0.05)",
         DUO_OPTION_REAL, &prepare.held_out_fraction, 1e-6, 0.9},
        {"--seed", "N", "of what is held out (default 1)", DUO_OPTION_U64, &prepare.seed, 0, 0},
        {"--force", NULL, "replace an output that was made from something else", DUO_OPTION_FLAG,
         &prepare.force, 0, 0},
    };
    const duo_option_pair excludes[] = {
        {"--tokenizer", "--vocab-size"},
    };
    const duo_command command = {
        .name = "prepare",
        .description =
            "Turn texts into a token file: a tokenizer is trained on the training texts, unless\n"
            "one is given. An output that was made from the same inputs and settings is left\n"
            "alone. Texts are UTF-8; a plain file is one document; copies are left out.",
        .example = "duo prepare --output mine.h5 --domain prose --input novels/*.txt --domain code "
                   "--input code.jsonl",
        .options = options,
        .n_options = sizeof options / sizeof *options,
        .excludes = excludes,
        .n_excludes = sizeof excludes / sizeof *excludes,
    };
    domain_list list = {0};
    bool help = false;
    duo_status status = duo_options_parse(&command, argc, argv, &help);
    if (status != DUO_OK || help) goto done;
    if (!prepare.output)
        status = duo_fail(DUO_EUSAGE, "--output is missing; see duo prepare --help");
    else if (given.inputs.n == 0)
        status = duo_fail(DUO_EUSAGE, "--input is missing; see duo prepare --help");
    if (status == DUO_OK) status = duo_cli_check_folder(prepare.output);
    if (status != DUO_OK) goto done;
    if (!prepare.vocab_size) prepare.vocab_size = 4096;
    status = build_domains(&list, &given, argc, argv);
    if (status != DUO_OK) goto done;
    prepare.domains = list.domains;
    prepare.n_domains = list.n;
    status = run(&prepare);

done:
    free(list.domains);
    free(list.paths);
    duo_options_free(&command);
    return status;
}
