#ifndef DATA_FIXTURE_H
#define DATA_FIXTURE_H

/* What the suites of tokenizers and prepared data share: texts, and a token file of one of them. */

#include "duo/data.h"
#include "duo/rng.h"
#include "store_fixture.h"

static const char *const vocabulary[] = {
    "the",    "river", "morning", "letter", "walked", "garden", "answer",
    "window", "quiet", "return",  "value",  "0x1F",   "if (x)", "\xC3\xA9t\xC3\xA9"};

static inline uint32_t draw(uint64_t i, uint32_t below)
{
    return duo_random(1, DUO_RNG_TEST, (duo_place){.step = i}).word[0] % below;
}

/* Sentences of the words above; each document has others. */
static inline void print_document(FILE *out, uint64_t document, size_t words, const char *line_end)
{
    const uint32_t n = sizeof vocabulary / sizeof *vocabulary;
    for (size_t w = 0; w < words; w++)
        fprintf(out, "%s%s", vocabulary[draw(document << 20 | w, n)], w % 9 == 8 ? line_end : " ");
    fprintf(out, "document %llu", (unsigned long long)document);
}

static inline void write_jsonl(const char *path, uint64_t first, size_t documents)
{
    FILE *out = fopen(path, "wb");
    ck_assert_ptr_nonnull(out);
    for (uint64_t d = first; d < first + documents; d++) {
        fputs("{\"source\": \"test\", \"text\": \"", out);
        print_document(out, d, 200, ".\\n\\n");
        fputs("\"}\n", out);
    }
    ck_assert_int_eq(fclose(out), 0);
}

/* One domain "text" of one file. */
static inline duo_status prepare_file(const char *path, size_t vocab_size)
{
    const duo_source_domain domain = {"text", &path, 1, NULL, 0};
    const duo_prepare prepare = {.output = "out.h5",
                                 .domains = &domain,
                                 .n_domains = 1,
                                 .vocab_size = vocab_size,
                                 .json_key = "text",
                                 .held_out_fraction = 0.2,
                                 .seed = 1};
    duo_prepare_summary summary;
    return duo_prepare_run(&prepare, &summary);
}

#endif
