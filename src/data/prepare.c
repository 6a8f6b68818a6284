#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "data_internal.h"
#include "duo/rng.h"
#include "duo/utf8.h"

/* What a run of duo_prepare_run holds. */
typedef struct job {
    const duo_prepare *prepare;
    data_corpus corpus;
    const char *text; /* of all documents, mapped */
    duo_tokenizer *tokenizer;
    data_stream streams[2];
    char *sources, *domains, *settings; /* attributes that say what the output was made from */
} job;

static void show(const duo_prepare *prepare, const char *phase, uint64_t done, uint64_t total)
{
    if (prepare->progress) prepare->progress(prepare->context, phase, done, total);
}

/* ---------------------------------------------------------------- arguments */

static bool is_name(const char *text)
{
    const size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                       "0123456789-_");
    return length > 0 && text[length] == '\0';
}

static duo_status check_domains(const duo_prepare *prepare)
{
    if (prepare->n_domains < 1 || prepare->n_domains > DATA_MAX_DOMAINS)
        return duo_fail(DUO_EINVAL, "%s: %zu domains; 1 to %d are possible", prepare->output,
                        prepare->n_domains, DATA_MAX_DOMAINS);
    for (size_t d = 0; d < prepare->n_domains; d++) {
        const duo_source_domain *domain = &prepare->domains[d];
        if (!is_name(domain->name))
            return duo_fail(DUO_EINVAL, "domain '%s': a name has letters, digits, - and _",
                            domain->name);
        if (domain->n_inputs == 0) return duo_fail(DUO_EINVAL, "domain %s: no input", domain->name);
        for (size_t e = 0; e < d; e++)
            if (strcmp(domain->name, prepare->domains[e].name) == 0)
                return duo_fail(DUO_EINVAL, "domain %s: given twice", domain->name);
        if (domain->n_held_out == 0 &&
            !(prepare->held_out_fraction > 0.0 && prepare->held_out_fraction < 1.0))
            return duo_fail(DUO_EINVAL, "domain %s: a held-out fraction of %g is not within 0..1",
                            domain->name, prepare->held_out_fraction);
    }
    if (!prepare->tokenizer && (prepare->vocab_size < 1 || prepare->vocab_size > INT32_MAX))
        return duo_fail(DUO_EINVAL, "%s: a vocabulary of %zu makes no sense", prepare->output,
                        prepare->vocab_size);
    return DUO_OK;
}

/* ---------------------------------------------------------------- reading */

/* The output replaces a file of its name, which must not be an input. */
static duo_status check_not_output(const job *j, const char *input)
{
    struct stat in, out;
    if (stat(input, &in) != 0 || stat(j->prepare->output, &out) != 0) return DUO_OK;
    if (in.st_dev != out.st_dev || in.st_ino != out.st_ino) return DUO_OK;
    return duo_fail(DUO_EINVAL, "%s: is input and output", input);
}

static duo_status read_files(job *j, const char *const *paths, size_t n, size_t domain,
                             duo_split split, size_t total)
{
    for (size_t i = 0; i < n; i++) {
        show(j->prepare, "reading", j->corpus.n_sources, total);
        duo_status status = check_not_output(j, paths[i]);
        if (status == DUO_OK)
            status = data_corpus_read(&j->corpus, paths[i], domain, split, j->prepare->json_key);
        if (status != DUO_OK) return status;
    }
    return DUO_OK;
}

/* A file that is trained on tells nothing when it is held out. */
static duo_status check_leaks(const data_corpus *corpus)
{
    for (size_t i = 0; i < corpus->n_sources; i++)
        for (size_t k = 0; k < corpus->n_sources; k++) {
            const data_source *train = &corpus->sources[i], *held = &corpus->sources[k];
            if (train->split == DUO_TRAIN && held->split == DUO_HELD_OUT &&
                duo_hash_equal(train->hash, held->hash))
                return duo_fail(DUO_EINVAL, "%s: held out, but its content is trained on as %s",
                                held->path, train->path);
        }
    return DUO_OK;
}

static duo_status read_inputs(job *j)
{
    const duo_prepare *prepare = j->prepare;
    size_t files = 0;
    for (size_t d = 0; d < prepare->n_domains; d++)
        files += prepare->domains[d].n_inputs + prepare->domains[d].n_held_out;
    duo_status status = data_corpus_create(&j->corpus, prepare->output, files);
    for (size_t d = 0; d < prepare->n_domains && status == DUO_OK; d++) {
        const duo_source_domain *domain = &prepare->domains[d];
        status = read_files(j, domain->inputs, domain->n_inputs, d, DUO_TRAIN, files);
        if (status == DUO_OK)
            status = read_files(j, domain->held_out, domain->n_held_out, d, DUO_HELD_OUT, files);
    }
    if (status == DUO_OK) status = check_leaks(&j->corpus);
    if (status != DUO_OK) return status;
    show(prepare, "reading", files, files);
    const void *text = NULL;
    status = data_spool_map(&j->corpus.text, &text);
    j->text = text;
    return status;
}

/* ---------------------------------------------------------------- provenance */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* A file name as text of an attribute: one field of one line, in UTF-8. */
static void print_name(FILE *out, const char *name)
{
    const size_t length = strlen(name), valid = duo_utf8_prefix(name, length);
    for (size_t i = 0; i < length; i++) {
        const unsigned char c = (unsigned char)name[i];
        fputc(c < ' ' || c == 0x7F || (c >= 0x80 && i >= valid) ? '?' : c, out);
    }
}

static void print_sources(FILE *out, const job *j)
{
    char hash[33];
    for (size_t i = 0; i < j->corpus.n_sources; i++) {
        const data_source *source = &j->corpus.sources[i];
        fprintf(out, "%s\t", j->prepare->domains[source->domain].name);
        print_name(out, base_name(source->path));
        fprintf(out, "\t%" PRIu64 "\t%s\t%s\n", source->bytes, duo_hash_text(hash, source->hash),
                source->split == DUO_TRAIN ? "train" : "held out");
    }
}

static void print_domains(FILE *out, const job *j)
{
    for (size_t d = 0; d < j->prepare->n_domains; d++)
        fprintf(out, "%s%s", d ? "," : "", j->prepare->domains[d].name);
}

static void print_settings(FILE *out, const job *j)
{
    const duo_prepare *prepare = j->prepare;
    if (j->tokenizer) {
        char hash[33];
        size_t bytes = 0;
        const void *model = duo_tokenizer_model(j->tokenizer, &bytes);
        fprintf(out, "tokenizer %s", duo_hash_text(hash, duo_hash_bytes(model, bytes)));
    } else {
        fprintf(out, "vocab_size %zu", prepare->vocab_size);
    }
    fprintf(out, "; json_key %s; held_out_fraction %.9g; seed %" PRIu64, prepare->json_key,
            prepare->held_out_fraction, prepare->seed);
}

static duo_status make_text(char **text, void (*print)(FILE *, const job *), const job *j)
{
    size_t bytes = 0;
    FILE *out = open_memstream(text, &bytes);
    bool whole = false;
    if (out) {
        print(out, j);
        whole = !ferror(out);
        whole = fclose(out) == 0 && whole;
    }
    return whole ? DUO_OK : duo_fail(DUO_ENOMEM, "%s: no memory to write it", j->prepare->output);
}

static bool has_text(const duo_store *store, const char *name, const char *wanted)
{
    const duo_attribute *attribute = duo_store_attribute(store, "/", name);
    return attribute && attribute->type == DUO_ATTR_TEXT && strcmp(attribute->text, wanted) == 0;
}

/* An output that is there stays, unless it may be replaced. */
static duo_status check_existing(const job *j, duo_prepare_summary *summary)
{
    const char *output = j->prepare->output;
    struct stat there;
    if (j->prepare->force || (stat(output, &there) != 0 && errno == ENOENT)) return DUO_OK;
    duo_store *store = NULL;
    duo_status status = duo_store_open(&store, output, DUO_KIND_TOKENS);
    if (status == DUO_OK &&
        (!has_text(store, "domains", j->domains) || !has_text(store, "sources", j->sources)))
        status = duo_fail(DUO_EINVAL, "%s: exists and was made from other inputs", output);
    else if (status == DUO_OK && !has_text(store, "settings", j->settings))
        status = duo_fail(DUO_EINVAL, "%s: exists and was made with other settings", output);
    summary->up_to_date = status == DUO_OK;
    summary->in_the_way = status == DUO_EINVAL || status == DUO_EDATA;
    duo_store_close(store);
    return status;
}

/* ---------------------------------------------------------------- vocabulary */

/* Text that is enough for each piece of a vocabulary: a corpus larger than this is sampled, since
 * more of it makes training longer and compresses less than 0.1 % better. */
enum { BYTES_PER_PIECE = 2048 };

/* Goes through the lines of the training documents. */
typedef struct line_cursor {
    const job *job;
    size_t document;
    uint64_t offset; /* in its text */
    uint64_t line;   /* lines seen */
    double share;    /* of the lines that are taken */
    uint64_t taken, wanted;
} line_cursor;

/* Bytes to take of a line that may be longer than training accepts. */
static size_t line_part(const char *line, size_t bytes)
{
    return bytes <= DATA_MAX_LINE ? bytes : data_find_cut(line, DATA_MAX_LINE / 2, DATA_MAX_LINE);
}

static bool next_line(void *context, const char **line, size_t *bytes)
{
    line_cursor *c = context;
    const data_corpus *corpus = &c->job->corpus;
    while (c->document < corpus->n_documents) {
        const data_document *document = &corpus->documents[c->document];
        if (document->split != DUO_TRAIN || c->offset == document->bytes) {
            c->document++;
            c->offset = 0;
            continue;
        }
        const char *start = c->job->text + document->start + c->offset;
        const size_t left = (size_t)(document->bytes - c->offset);
        const char *end = memchr(start, '\n', left);
        const size_t length = end ? (size_t)(end - start) : left;
        *line = start;
        *bytes = line_part(start, length);
        c->offset += *bytes + (end && *bytes == length);
        const duo_place place = {.step = c->line++, .row = 1}; /* row 0 splits documents */
        const double u =
            duo_uniform(duo_random(c->job->prepare->seed, DUO_RNG_SPLIT, place).word[0]);
        if (*bytes == 0 || u >= c->share) continue;
        c->taken += *bytes;
        show(c->job->prepare, "sampling text", c->taken < c->wanted ? c->taken : c->wanted,
             c->wanted);
        return true;
    }
    show(c->job->prepare, "training the vocabulary", 0, 0);
    return false;
}

static duo_status train_tokenizer(job *j, bool *too_large)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < j->corpus.n_documents; i++)
        if (j->corpus.documents[i].split == DUO_TRAIN) bytes += j->corpus.documents[i].bytes;
    const uint64_t budget = (uint64_t)BYTES_PER_PIECE * j->prepare->vocab_size;
    line_cursor cursor = {.job = j, .share = 2.0, .wanted = bytes};
    if (bytes > budget) {
        cursor.share = (double)budget / (double)bytes;
        cursor.wanted = budget;
    }
    return data_tokenizer_train(&j->tokenizer, j->prepare->vocab_size, too_large, next_line,
                                &cursor, j->prepare->output);
}

/* ---------------------------------------------------------------- writing */

static duo_status write_u64s(duo_store_writer *writer, const char *name, const uint64_t *values,
                             size_t n)
{
    return duo_store_write(writer, name, DUO_U64, (duo_shape){.rank = 1, .size = {n}}, values);
}

static duo_status write_stream(duo_store_writer *writer, data_stream *stream, duo_type type,
                               size_t n_domains, const char *const names[4])
{
    const void *ids = NULL;
    duo_status status = data_spool_map(&stream->tokens, &ids);
    const duo_shape shape = {.rank = 1, .size = {(size_t)stream->n_tokens}};
    if (status == DUO_OK) status = duo_store_write(writer, names[0], type, shape, ids);
    if (status == DUO_OK)
        status = write_u64s(writer, names[1], stream->documents, stream->n_documents);
    if (status == DUO_OK) status = write_u64s(writer, names[2], stream->domains, n_domains);
    if (status == DUO_OK) status = write_u64s(writer, names[3], stream->bytes, n_domains);
    return status;
}

static duo_status write_attributes(duo_store_writer *writer, job *j)
{
    const size_t V = duo_tokenizer_vocab_size(j->tokenizer);
    data_stream *held = &j->streams[DUO_HELD_OUT];
    double entropy = 0.0;
    duo_status status = data_unigram_entropy(&entropy, held->tokens.mapped, data_token_type(V),
                                             (size_t)held->n_tokens, V);
    if (status == DUO_OK)
        status = duo_store_set_u64(writer, "/", "format_version", DATA_TOKENS_VERSION);
    if (status == DUO_OK) status = duo_store_set_u64(writer, "/", "vocab_size", V);
    if (status == DUO_OK) status = duo_store_set_text(writer, "/", "sources", j->sources);
    if (status == DUO_OK) status = duo_store_set_text(writer, "/", "domains", j->domains);
    if (status == DUO_OK) status = duo_store_set_text(writer, "/", "settings", j->settings);
    if (status == DUO_OK) status = duo_store_set_u64(writer, "/", "seed", j->prepare->seed);
    if (status == DUO_OK) status = duo_store_set_f64(writer, "/", "unigram_entropy", entropy);
    return status;
}

static duo_status write_output(job *j)
{
    static const char *const names[2][4] = {
        {"/train/tokens", "/train/documents", "/train/domains", "/train/bytes"},
        {"/val/tokens", "/val/documents", "/val/domains", "/val/bytes"}};
    const duo_type type = data_token_type(duo_tokenizer_vocab_size(j->tokenizer));
    size_t bytes = 0;
    const void *model = duo_tokenizer_model(j->tokenizer, &bytes);
    const duo_shape shape = {.rank = 1, .size = {bytes}};
    show(j->prepare, "writing", 0, 0);
    duo_store_writer *writer = NULL;
    duo_status status = duo_store_create(&writer, j->prepare->output, DUO_KIND_TOKENS);
    for (size_t s = 0; s < 2 && status == DUO_OK; s++)
        status = write_stream(writer, &j->streams[s], type, j->prepare->n_domains, names[s]);
    if (status == DUO_OK) status = duo_store_write(writer, "/tokenizer", DUO_U8, shape, model);
    if (status == DUO_OK) status = write_attributes(writer, j);
    if (status == DUO_OK) status = duo_store_commit(writer);
    duo_store_writer_free(writer);
    return status;
}

/* ---------------------------------------------------------------- run */

static duo_status summarize(duo_prepare_summary *summary, const char *path)
{
    duo_tokens *tokens = NULL;
    const duo_status status = duo_tokens_open(&tokens, path);
    if (status != DUO_OK) return status;
    for (duo_split s = DUO_TRAIN; s <= DUO_HELD_OUT; s++) {
        summary->documents[s] = duo_tokens_documents(tokens, s, -1);
        summary->bytes[s] = duo_tokens_bytes(tokens, s, -1);
        summary->tokens[s] = duo_tokens_count(tokens, s, -1);
    }
    summary->vocab_size = duo_tokens_vocab_size(tokens);
    summary->unigram_entropy = duo_tokens_unigram_entropy(tokens);
    duo_tokens_close(tokens);
    return DUO_OK;
}

static duo_status make_output(job *j, duo_prepare_summary *summary)
{
    duo_status status = data_split(&j->corpus, j->text, j->prepare);
    if (status == DUO_OK && !j->tokenizer) status = train_tokenizer(j, &summary->vocab_too_large);
    if (status == DUO_OK)
        status = data_encode(j->streams, &j->corpus, j->text, j->tokenizer, j->prepare);
    if (status == DUO_OK) status = write_output(j);
    return status;
}

duo_status duo_prepare_run(const duo_prepare *prepare, duo_prepare_summary *summary)
{
    *summary = (duo_prepare_summary){0};
    job j = {.prepare = prepare};
    duo_status status = check_domains(prepare);
    if (status == DUO_OK && prepare->tokenizer)
        status = duo_tokenizer_open(&j.tokenizer, prepare->tokenizer);
    if (status == DUO_OK) status = read_inputs(&j);
    if (status == DUO_OK) status = make_text(&j.sources, print_sources, &j);
    if (status == DUO_OK) status = make_text(&j.domains, print_domains, &j);
    if (status == DUO_OK) status = make_text(&j.settings, print_settings, &j);
    if (status == DUO_OK) status = check_existing(&j, summary);
    if (status == DUO_OK && !summary->up_to_date) status = make_output(&j, summary);
    if (status == DUO_OK) status = summarize(summary, prepare->output);

    free(j.sources);
    free(j.domains);
    free(j.settings);
    data_streams_free(j.streams);
    duo_tokenizer_free(j.tokenizer);
    data_corpus_free(&j.corpus);
    return status;
}
