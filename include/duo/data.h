#ifndef DUO_DATA_H
#define DUO_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "duo/status.h"
#include "duo/store.h"

/* ---------------------------------------------------------------- tokenizer */

/** A SentencePiece model. Not safe to share between threads while it is trained. */
typedef struct duo_tokenizer duo_tokenizer;

/**
 * From the bytes of a SentencePiece .model; `where` names their origin in messages. The bytes are
 * copied. The caller frees *tokenizer.
 */
duo_status duo_tokenizer_create(duo_tokenizer **tokenizer, const void *model, size_t bytes,
                                const char *where);
/** The same for a file whose ids are below vocab_size: DUO_EDATA when the model has not as many
 * pieces, so that every id of the file has its text. */
duo_status duo_tokenizer_create_for(duo_tokenizer **tokenizer, const void *model, size_t bytes,
                                    size_t vocab_size, const char *where);
/** Whether a file's /tokenizer is such a model, or one byte: ids that no text belongs to, which
 * train but do not generate. */
duo_status duo_tokenizer_check_for(const void *model, size_t bytes, size_t vocab_size,
                                   const char *where);
/** From a .model file, or from any file of ours that holds one in /tokenizer. */
duo_status duo_tokenizer_open(duo_tokenizer **tokenizer, const char *path);
void duo_tokenizer_free(duo_tokenizer *tokenizer);

size_t duo_tokenizer_vocab_size(const duo_tokenizer *tokenizer);
/** The bytes that duo_tokenizer_create takes; borrowed. */
const void *duo_tokenizer_model(const duo_tokenizer *tokenizer, size_t *bytes);
/** Ids of the marks at the begin and end of a document; -1 when the model has none. */
int32_t duo_tokenizer_bos(const duo_tokenizer *tokenizer);
int32_t duo_tokenizer_eos(const duo_tokenizer *tokenizer);

/**
 * Text (valid UTF-8, may hold any character) to ids, without begin and end marks. *ids is
 * allocated, the caller frees it. DUO_EINVAL when the text is not UTF-8.
 */
duo_status duo_tokenizer_encode(const duo_tokenizer *tokenizer, const char *text, size_t bytes,
                                int32_t **ids, size_t *n);
/** Ids to text; ids outside the vocabulary are DUO_EINVAL. *text is NUL-terminated, the caller
 * frees it. */
duo_status duo_tokenizer_decode(const duo_tokenizer *tokenizer, const int32_t *ids, size_t n,
                                char **text, size_t *bytes);
/** Bytes of text that this id stands for (0 for marks); 0 <= id < vocab_size. */
size_t duo_tokenizer_piece_bytes(const duo_tokenizer *tokenizer, int32_t id);
/** The text of one piece with its leading space, for display; borrowed. */
const char *duo_tokenizer_piece(const duo_tokenizer *tokenizer, int32_t id);

/* ---------------------------------------------------------------- preparing */

/** One domain of text: plain text files (one document each) and JSONL files (one document a line),
 *  whose names end in .jsonl or .json, in any case. */
typedef struct duo_source_domain {
    const char *name;          /**< letters, digits, - and _ */
    const char *const *inputs; /**< files to train on; also held out from when held_out is empty */
    size_t n_inputs;
    const char *const *held_out; /**< files held out as a whole */
    size_t n_held_out;
} duo_source_domain;

typedef struct duo_prepare {
    const char *output;
    const duo_source_domain *domains;
    size_t n_domains;
    const char *tokenizer;    /**< an existing .model or file of ours; NULL: train one */
    size_t vocab_size;        /**< to train */
    const char *json_key;     /**< of the text in a JSONL line */
    double held_out_fraction; /**< of the documents of a domain without held-out files, by keyed
                                 hash */
    uint64_t seed;
    bool force; /**< replace an output that was made from something else */
    void (*progress)(void *context, const char *phase, uint64_t done,
                     uint64_t total); /**< or NULL */
    void *context;
} duo_prepare;

typedef struct duo_prepare_summary {
    uint64_t documents[2], bytes[2], tokens[2]; /**< train, held out */
    size_t vocab_size;
    double unigram_entropy; /**< of the held-out tokens, nats */
    bool up_to_date;      /**< the output was made from the same inputs and settings: left alone */
    bool in_the_way;      /**< on failure: the output exists, and `force` would replace it */
    bool vocab_too_large; /**< on failure: the text does not support vocab_size pieces */
} duo_prepare_summary;

/**
 * Texts to a token file. The vocabulary is trained (BPE with byte fallback) on the training split
 * alone. Each document becomes BOS, its tokens, EOS. Of equal documents one stays, with a warning:
 * one that is given as held out, or the first; a domain that then has nothing on a side is
 * DUO_EINVAL. Errors name the file, and the line or byte:
 * not UTF-8, empty, not JSON, a key that is missing, a file that vanishes, a vocabulary larger than
 * the text supports. An output that exists and was made from the same inputs and settings is left
 * alone; made from others it is DUO_EINVAL without `force`.
 */
duo_status duo_prepare_run(const duo_prepare *prepare, duo_prepare_summary *summary);

/* ---------------------------------------------------------------- token files */

typedef enum duo_split { DUO_TRAIN, DUO_HELD_OUT } duo_split;

/** An open, verified token file; the tokens are mapped. */
typedef struct duo_tokens duo_tokens;

/** DUO_EDATA when the file is damaged or an id is not below its vocab_size, DUO_EINVAL when it is
 * of a newer version. The caller closes *tokens. */
duo_status duo_tokens_open(duo_tokens **tokens, const char *path);
void duo_tokens_close(duo_tokens *tokens);

const char *duo_tokens_path(const duo_tokens *tokens);
/** Identity of the file's content. */
duo_hash duo_tokens_hash(const duo_tokens *tokens);
size_t duo_tokens_vocab_size(const duo_tokens *tokens);
const void *duo_tokens_tokenizer(const duo_tokens *tokens, size_t *bytes);
/** The tokenizer of the file; DUO_EDATA when its pieces are not the vocabulary. The caller frees
 * *tokenizer. */
duo_status duo_tokens_open_tokenizer(const duo_tokens *tokens, duo_tokenizer **tokenizer);
/** As duo_tokenizer_check_for. */
duo_status duo_tokens_check_tokenizer(const duo_tokens *tokens);
double duo_tokens_unigram_entropy(const duo_tokens *tokens);
size_t duo_tokens_domains(const duo_tokens *tokens);
const char *duo_tokens_domain_name(const duo_tokens *tokens, size_t domain);
/** Index of the domain of this name, or -1. */
int duo_tokens_find_domain(const duo_tokens *tokens, const char *name);
/** Tokens of a split in one domain, or in all of them for domain -1. */
size_t duo_tokens_count(const duo_tokens *tokens, duo_split split, int domain);
/** Documents there. */
size_t duo_tokens_documents(const duo_tokens *tokens, duo_split split, int domain);
/** Bytes of text behind the tokens there; 0: not recorded. */
uint64_t duo_tokens_bytes(const duo_tokens *tokens, duo_split split, int domain);

/** Whole windows of T+1 tokens (neighbours share one token) of a split in a domain, or in all (-1).
 */
size_t duo_tokens_windows(const duo_tokens *tokens, duo_split split, int domain, size_t T);
/** Window i < duo_tokens_windows, in order of the text. out (T+1). */
void duo_tokens_window(const duo_tokens *tokens, duo_split split, int domain, size_t T, size_t i,
                       int32_t *out);

/** Windows first .. first+rows-1 of n that are spread evenly over those of a split in a domain, or
 *  in all (-1): 1 <= n <= duo_tokens_windows. Rows beyond the last window repeat it. out is
 *  (rows, T+1). */
void duo_tokens_spread(const duo_tokens *tokens, duo_split split, int domain, size_t T, size_t n,
                       size_t first, size_t rows, int32_t *out);

/* ---------------------------------------------------------------- batches */

/** The order in which training sees its windows; a value, no state. */
typedef struct duo_sampler duo_sampler;

/**
 * Windows of T+1 tokens of the training split. Every epoch visits each window of a domain once, in
 * an order keyed by (seed, epoch), with the grid of windows shifted by an offset keyed the same
 * way. `weights` (one per domain; NULL: in proportion to tokens) set how often a domain is drawn,
 * in a cycle of a fixed length whose order is keyed too. DUO_EINVAL when a domain with a weight
 * holds less than one window. The tokens must stay open. The caller frees *sampler.
 */
duo_status duo_sampler_create(duo_sampler **sampler, const duo_tokens *tokens, size_t T,
                              uint64_t seed, const double *weights);
void duo_sampler_free(duo_sampler *sampler);

/** Sequence k = 0, 1, 2, ... of the run into out (T+1): a pure function of (seed, k). */
void duo_sampler_sequence(const duo_sampler *sampler, uint64_t k, int32_t *out);

#endif
