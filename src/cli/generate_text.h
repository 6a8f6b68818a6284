#ifndef DUO_CLI_GENERATE_TEXT_H
#define DUO_CLI_GENERATE_TEXT_H

#include "duo/data.h"

/**
 * Text of a growing sequence of ids, printed to stdout as it grows. What is printed is valid UTF-8:
 * a character that is spread over several ids waits for its last one, and bytes that belong to none
 * become U+FFFD.
 */
typedef struct duo_text_stream {
    const duo_tokenizer *tokenizer;
    const int32_t *ids;    /**< the whole sequence; may grow behind */
    size_t begin, printed; /**< decoded up to `printed`, and now from `begin` on */
    char pending[4];
    size_t n_pending; /**< bytes of a character that is not complete */
} duo_text_stream;

/** Print what ids up to n add; with `last`, also that nothing more will come. */
duo_status duo_text_stream_print(duo_text_stream *stream, size_t n, bool last);

/** A piece in quotes, control characters escaped. */
void duo_piece_print(const char *piece);

#endif
