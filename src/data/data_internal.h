#ifndef DUO_DATA_INTERNAL_H
#define DUO_DATA_INTERNAL_H

/* What the files of this module share. */

#include <stdio.h>

#include "duo/data.h"
#include "duo/store.h"

/* ---------------------------------------------------------------- text */

/**
 * Bytes that are appended, then mapped: text and tokens may be larger than memory. The file has
 * no name from the start, so it cannot outlive the process.
 */
typedef struct data_spool {
    FILE *file;
    const char *where; /* the output in whose folder it lies; borrowed */
    uint64_t bytes;
    void *mapped;
} data_spool;

duo_status data_spool_create(data_spool *spool, const char *output);
duo_status data_spool_add(data_spool *spool, const void *data, size_t bytes);
/** No more is added. *data is borrowed; not NULL even when there are no bytes. */
duo_status data_spool_map(data_spool *spool, const void **data);
void data_spool_free(data_spool *spool);

typedef struct data_document {
    uint64_t start, bytes; /* of its text in the spool */
    size_t domain;
    duo_split split;
} data_document;

/** An input file, as it was read. */
typedef struct data_source {
    const char *path; /* borrowed */
    size_t domain;
    duo_split split;
    uint64_t bytes;
    duo_hash hash;
} data_source;

/** The documents of all inputs, in the order in which they were read. */
typedef struct data_corpus {
    data_spool text;
    data_document *documents;
    size_t n_documents, documents_room;
    data_source *sources;
    size_t n_sources;
} data_corpus;

/** Room for the sources, and an empty spool beside `output`. */
duo_status data_corpus_create(data_corpus *corpus, const char *output, size_t n_sources);
void data_corpus_free(data_corpus *corpus);
/** Read one file: its documents go into this domain and split. */
duo_status data_corpus_read(data_corpus *corpus, const char *path, size_t domain, duo_split split,
                            const char *json_key);
/** Cut document i in two: its first `at` bytes stay, the rest becomes the document behind it. */
duo_status data_corpus_cut(data_corpus *corpus, size_t i, uint64_t at);

/**
 * Drop copies of documents and say for each of the others whether it is held out: a file that is
 * given as such, a draw of whole documents, or the end of a single one. DUO_EINVAL when a domain
 * has too little text.
 */
duo_status data_split(data_corpus *corpus, const char *text, const duo_prepare *prepare);
/** The last place in text, above least and up to most, behind which a paragraph begins, or else a
 * line, a word, a character. */
size_t data_find_cut(const char *text, size_t least, size_t most);

/* ---------------------------------------------------------------- tokenizer */

/** The next line of training text; false at the end. Borrowed until the next call. */
typedef bool data_next_line(void *context, const char **line, size_t *bytes);

/** Bytes of the longest line that training takes; longer ones would be passed over. */
enum { DATA_MAX_LINE = 4096 };

/** Train a vocabulary; `where` names the text in messages. The caller frees *tokenizer. *too_large:
 *  it fails, since the text does not support vocab_size pieces. */
duo_status data_tokenizer_train(duo_tokenizer **tokenizer, size_t vocab_size, bool *too_large,
                                data_next_line *next, void *context, const char *where);

/**
 * Bytes of the first segment of a text: its segments are encoded one by one to the ids of the
 * whole, up to the models' own rules. *skip bytes between it and the next are left out.
 */
size_t data_segment(const duo_tokenizer *tokenizer, const char *text, size_t bytes, size_t *skip);

/** As duo_tokenizer_encode, for one segment of valid UTF-8. */
duo_status data_segment_encode(const duo_tokenizer *tokenizer, const char *text, size_t bytes,
                               int32_t **ids, size_t *n);

/* ---------------------------------------------------------------- token files */

enum { DATA_MAX_DOMAINS = 64, DATA_TOKENS_VERSION = 1 };

/** One split as it is being encoded. */
typedef struct data_stream {
    data_spool tokens; /* elements of the type that data_token_type names */
    uint64_t n_tokens;
    uint64_t *documents; /* where each begins, in tokens */
    size_t n_documents;
    uint64_t domains[DATA_MAX_DOMAINS]; /* where each begins, in tokens */
    uint64_t bytes[DATA_MAX_DOMAINS];   /* of text */
} data_stream;

/** uint16 as long as the ids fit. */
duo_type data_token_type(size_t vocab_size);

/**
 * Encode all documents in order, each into the stream of its split. The streams must be zeroed;
 * they are released with data_streams_free, also after a failure.
 */
duo_status data_encode(data_stream streams[2], const data_corpus *corpus, const char *text,
                       const duo_tokenizer *tokenizer, const duo_prepare *prepare);
void data_streams_free(data_stream streams[2]);

/** Entropy of the ids' own distribution, in nats. DUO_ENOMEM. */
duo_status data_unigram_entropy(double *entropy, const void *ids, duo_type type, size_t n,
                                size_t vocab_size);

/** Tokens start .. start+n-1 of a split into out (n). */
void data_copy_tokens(const duo_tokens *tokens, duo_split split, uint64_t start, size_t n,
                      int32_t *out);

#endif
