#ifndef DUO_CLI_WINDOWS_H
#define DUO_CLI_WINDOWS_H

#include "duo/checkpoint.h"
#include "duo/study.h"

/** Which text a study looks at. */
typedef struct duo_cli_windows {
    const char *tokens,
        *domain;       /**< NULL: the token file of the checkpoint's recipe; all domains */
    const char *text;  /**< a plain text file instead of a token file; NULL: none */
    size_t n, T;       /**< windows, and tokens of one; T 0: all that the model sees */
    size_t max_tokens; /**< fewer windows, but at least one, so that there are no more; 0: any */
} duo_cli_windows;

/** The domain of this name; -1, all domains, for NULL. DUO_EINVAL lists those that there are. */
duo_status duo_cli_find_domain(int *domain, const duo_tokens *tokens, const char *name);

/**
 * Cut the windows of a split, or of a text, and say on stdout which they are. A text is one
 * document, BOS, its tokens, EOS; without T it is cut into as few windows as it takes, all of one
 * length, which leave out less than one token each. *file, unless NULL, becomes the identity of the
 * token file, zero for a text. The caller frees *sequences.
 */
duo_status duo_cli_cut_windows(duo_sequences *sequences, duo_hash *file,
                               const duo_cli_windows *windows, duo_split split,
                               const duo_checkpoint *checkpoint);

#endif
