#include <stdlib.h>

#include "data_internal.h"

/* Segments are encoded by all threads, a batch at a time, and stored in order. */
enum { BATCH_SEGMENTS = 256, BATCH_BYTES = 16 << 20 };

typedef struct segment {
    const data_document *document;
    const char *text;
    size_t bytes;
    bool first, last; /* of its document */
    int32_t *ids;
    size_t n;
} segment;

/* Where the next segment begins. */
typedef struct cursor {
    size_t document;
    uint64_t offset; /* in its text */
} cursor;

duo_type data_token_type(size_t vocab_size)
{
    return vocab_size <= 65536 ? DUO_U16 : DUO_U32;
}

static size_t fill_batch(segment *batch, uint64_t *bytes, cursor *at, const data_corpus *corpus,
                         const char *text, const duo_tokenizer *tokenizer)
{
    size_t count = 0;
    *bytes = 0;
    while (count < BATCH_SEGMENTS && *bytes < BATCH_BYTES && at->document < corpus->n_documents) {
        const data_document *document = &corpus->documents[at->document];
        segment *s = &batch[count++];
        size_t skip = 0;
        *s = (segment){.document = document,
                       .text = text + document->start + at->offset,
                       .first = at->offset == 0};
        s->bytes = data_segment(tokenizer, s->text, (size_t)(document->bytes - at->offset), &skip);
        at->offset += s->bytes + skip;
        *bytes += s->bytes + skip;
        s->last = at->offset == document->bytes;
        if (s->last) *at = (cursor){.document = at->document + 1};
    }
    return count;
}

/* Messages belong to the thread that failed: the failed segment is encoded again in this one. */
static duo_status encode_batch(segment *batch, size_t count, const duo_tokenizer *tokenizer)
{
#pragma omp parallel for schedule(dynamic)
    for (size_t i = 0; i < count; i++)
        data_segment_encode(tokenizer, batch[i].text, batch[i].bytes, &batch[i].ids, &batch[i].n);
    duo_status status = DUO_OK;
    for (size_t i = 0; i < count && status == DUO_OK; i++)
        if (!batch[i].ids)
            status = data_segment_encode(tokenizer, batch[i].text, batch[i].bytes, &batch[i].ids,
                                         &batch[i].n);
    return status;
}

static duo_status add_ids(data_stream *stream, const int32_t *ids, size_t n, duo_type type)
{
    stream->n_tokens += n;
    if (type == DUO_U32) return data_spool_add(&stream->tokens, ids, n * sizeof *ids);
    uint16_t narrow[4096];
    const size_t most = sizeof narrow / sizeof *narrow;
    duo_status status = DUO_OK;
    for (size_t i = 0; i < n && status == DUO_OK; i += most) {
        const size_t count = n - i < most ? n - i : most;
        for (size_t j = 0; j < count; j++) narrow[j] = (uint16_t)ids[i + j];
        status = data_spool_add(&stream->tokens, narrow, count * sizeof *narrow);
    }
    return status;
}

static duo_status add_mark(data_stream *stream, int32_t id, duo_type type)
{
    return id < 0 ? DUO_OK : add_ids(stream, &id, 1, type);
}

static duo_status store_segment(data_stream *stream, segment *s, const duo_tokenizer *tokenizer,
                                duo_type type)
{
    const size_t domain = s->document->domain;
    duo_status status = DUO_OK;
    if (s->first) {
        if (stream->bytes[domain] == 0) stream->domains[domain] = stream->n_tokens;
        stream->documents[stream->n_documents++] = stream->n_tokens;
        stream->bytes[domain] += s->document->bytes;
        status = add_mark(stream, duo_tokenizer_bos(tokenizer), type);
    }
    if (status == DUO_OK) status = add_ids(stream, s->ids, s->n, type);
    if (status == DUO_OK && s->last) status = add_mark(stream, duo_tokenizer_eos(tokenizer), type);
    return status;
}

static duo_status create_streams(data_stream streams[2], const data_corpus *corpus,
                                 const char *output)
{
    for (size_t i = 0; i < 2; i++) {
        streams[i].documents = calloc(corpus->n_documents, sizeof *streams[i].documents);
        if (!streams[i].documents) return duo_fail(DUO_ENOMEM, "%s: no memory to write it", output);
        const duo_status status = data_spool_create(&streams[i].tokens, output);
        if (status != DUO_OK) return status;
    }
    return DUO_OK;
}

duo_status data_encode(data_stream streams[2], const data_corpus *corpus, const char *text,
                       const duo_tokenizer *tokenizer, const duo_prepare *prepare)
{
    const duo_type type = data_token_type(duo_tokenizer_vocab_size(tokenizer));
    segment *batch = calloc(BATCH_SEGMENTS, sizeof *batch);
    if (!batch) return duo_fail(DUO_ENOMEM, "%s: no memory to write it", prepare->output);
    duo_status status = create_streams(streams, corpus, prepare->output);
    uint64_t done = 0, bytes = 0;
    for (cursor at = {0}; status == DUO_OK && at.document < corpus->n_documents; done += bytes) {
        const size_t count = fill_batch(batch, &bytes, &at, corpus, text, tokenizer);
        status = encode_batch(batch, count, tokenizer);
        for (size_t i = 0; i < count; i++) {
            if (status == DUO_OK)
                status =
                    store_segment(&streams[batch[i].document->split], &batch[i], tokenizer, type);
            free(batch[i].ids);
        }
        if (prepare->progress)
            prepare->progress(prepare->context, "encoding", done + bytes, corpus->text.bytes);
    }
    free(batch);
    return status;
}

void data_streams_free(data_stream streams[2])
{
    for (size_t i = 0; i < 2; i++) {
        data_spool_free(&streams[i].tokens);
        free(streams[i].documents);
        streams[i] = (data_stream){0};
    }
}
