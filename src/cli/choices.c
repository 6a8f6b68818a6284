#include <string.h>

#include "commands.h"
#include "common.h"
#include "duo/choice.h"
#include "duo/file.h"
#include "options.h"
#include "windows.h"

static duo_status write_items(const duo_choice_set *set, const char *path)
{
    duo_text_file file;
    const duo_status status = duo_text_file_begin(&file, path);
    if (status != DUO_OK) return status;
    FILE *out = file.out;
    for (size_t i = 0; i < set->n; i++) {
        const duo_choice_item *item = &set->items[i];
        fputs("{\"context\":", out);
        duo_cli_json_text(out, item->context);
        for (size_t j = 0; j < item->n; j++) {
            fputs(j == 0 ? ",\"choices\":[" : ",", out);
            duo_cli_json_text(out, item->choices[j]);
        }
        fprintf(out, "],\"answer\":%zu}\n", item->answer);
    }
    return duo_text_file_end(&file, DUO_OK);
}

static void tell(const duo_choice_set *set, const duo_choice_making *making, const char *output)
{
    const char *plural = set->documents == 1 ? "" : "s";
    printf("%s: %zu items of %zu choices, out of %zu document%s long enough; answer them: duo eval "
           "CHECKPOINT --choices %s\n",
           output, set->n, making->choices, set->documents, plural, output);
    /* So many must overlap; fewer may, since their places are drawn. */
    const size_t wanted = set->n * (making->context + making->choices * making->continuation);
    if (wanted > set->tokens)
        duo_warn("the items hold %zu tokens, the %zu document%s long enough for them %zu: items "
                 "overlap, and errors of their accuracy come out too small",
                 wanted, set->documents, plural, set->tokens);
}

static duo_status make(const char *file, const char *domain, const char *output,
                       duo_choice_making *making)
{
    duo_choice_set set = {0};
    duo_tokens *tokens = NULL;
    duo_status status = duo_cli_check_output(output, DUO_CLI_TEXT, NULL);
    if (status == DUO_OK) status = duo_tokens_open(&tokens, file);
    if (status == DUO_OK) status = duo_cli_find_domain(&making->domain, tokens, domain);
    if (status == DUO_OK) status = duo_choices_make(&set, tokens, making);
    if (status == DUO_OK) status = write_items(&set, output);
    if (status == DUO_OK) tell(&set, making, output);
    duo_choices_free(&set);
    duo_tokens_close(tokens);
    return status;
}

duo_status duo_cli_choices(int argc, char **argv)
{
    const char *file = NULL, *domain = NULL, *output = NULL;
    duo_choice_making making = {
        .items = 500, .choices = 4, .context = 48, .continuation = 16, .seed = 1};
    bool help = false;
    const duo_positional positionals[] = {
        {"TOKENS", "a token file; its held-out text is used", &file, NULL, false},
    };
    const duo_option options[] = {
        {"--output", "FILE", "JSONL to write (needed)", DUO_OPTION_TEXT, &output, 0, 0},
        {"--items", "N", "questions (default 500)", DUO_OPTION_SIZE, &making.items, 1, 1e7},
        {"--choices", "N", "continuations of a question (default 4)", DUO_OPTION_SIZE,
         &making.choices, 2, 64},
        {"--context", "N", "tokens of a context (default 48)", DUO_OPTION_SIZE, &making.context, 1,
         1e5},
        {"--continuation", "N", "tokens of a continuation (default 16)", DUO_OPTION_SIZE,
         &making.continuation, 1, 1e5},
        {"--domain", "NAME", "of the token file (default: all)", DUO_OPTION_TEXT, &domain, 0, 0},
        {"--seed", "S", "of the places (default 1)", DUO_OPTION_U64, &making.seed, 0, 0},
    };
    const duo_command command = {
        .name = "choices",
        .description =
            "Make a multiple choice from held-out text: what follows a context stands among\n"
            "passages of the same length from elsewhere in the same document.",
        .example =
            "duo choices data/quickstart.h5 --domain prose --output data/prose-choices.jsonl",
        .positionals = positionals,
        .n_positionals = sizeof positionals / sizeof *positionals,
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    duo_status status = duo_options_parse(&command, argc, argv, &help);
    if (status == DUO_OK && !help)
        status = output ? make(file, domain, output, &making)
                        : duo_fail(DUO_EUSAGE, "--output is missing; see duo choices --help");
    duo_options_free(&command);
    return status;
}
