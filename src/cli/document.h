#ifndef DUO_CLI_DOCUMENT_H
#define DUO_CLI_DOCUMENT_H

#include "duo/data.h"

/**
 * Text as the begin of a document: ids behind the tokenizer's mark for that. *ids (*n) is the
 * caller's to free. DUO_EINVAL when the text is not UTF-8, or when there is neither text nor mark.
 */
duo_status duo_document_encode(const duo_tokenizer *tokenizer, const char *text, size_t bytes,
                               int32_t **ids, size_t *n);

#endif
