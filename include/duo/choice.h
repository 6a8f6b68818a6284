#ifndef DUO_CHOICE_H
#define DUO_CHOICE_H

#include "duo/study.h"

/**
 * Multiple choice: which of some continuations follows a context? A model answers with the one
 * that it gives the highest log-likelihood.
 */

typedef struct duo_choice_item {
    char *context;
    char **choices; /**< (n) as they follow the context, a space in front where one belongs there */
    size_t n, answer;
    size_t line; /**< in the file; 0: not from one */
} duo_choice_item;

typedef struct duo_choice_set {
    char *name; /**< of its file, for messages */
    duo_choice_item *items;
    size_t n;
    size_t documents, tokens; /**< long enough for items; 0: read from a file */
} duo_choice_set;

/**
 * Read a JSONL file, each line in one of these forms:
 *
 *     {"context": C, "choices": [S, ...], "answer": 0}           S stands behind C as it is
 *     {"ctx": C, "endings": [S, ...], "label": 0}                HellaSwag; label also as a text
 *     {"question": {"stem": Q, "choices": [{"text": S, "label": "A"}, ...]}, "answerKey": "A"}
 *     {"question": Q, "choices": {"text": [S, ...], "label": ["A", ...]}, "answerKey": "A"}
 *                                                                ARC, as published and flattened
 *
 * HellaSwag's endings follow C and a space; ARC's context is "Question: Q\nAnswer:", its choices
 * follow a space. DUO_EINVAL names file and line of what is none of them. The caller frees.
 */
duo_status duo_choices_read(duo_choice_set *set, const char *path);
void duo_choices_free(duo_choice_set *set);

/** By what the log-likelihood of a choice is divided before choices are compared. */
typedef enum duo_choice_rule {
    DUO_CHOICE_SUM,       /**< nothing */
    DUO_CHOICE_PER_BYTE,  /**< bytes of the choice's text, a space in front not counted */
    DUO_CHOICE_PER_TOKEN, /**< tokens that were scored */
    DUO_CHOICE_RULES
} duo_choice_rule;

typedef struct duo_choice_result {
    double accuracy[DUO_CHOICE_RULES];
    double error[DUO_CHOICE_RULES]; /**< standard error over items */
    double chance;                  /**< accuracy of guessing */
    double share[DUO_MODULES];      /**< of (token, layer) pairs */
    size_t cut;                     /**< items whose context lost its left end */
} duo_choice_result;

/**
 * Score every choice in one forward pass behind its context, `rows` at a time, and compare; of
 * equals the first. Scored are the tokens from the first in which the texts of an item's choices
 * part from the context. Contexts beyond what the model sees are cut on the left. scores (sum of
 * the items' n), or NULL, takes the summed log-likelihoods. DUO_EINVAL names the line of a choice
 * that does not fit the model, or a policy of a file; DUO_ENUMBER, DUO_ENOMEM.
 */
duo_status duo_choices_score(duo_choice_result *result, double *scores, const duo_choice_set *set,
                             const duo_model *model, const duo_tokenizer *tokenizer,
                             const duo_policy *policy, uint64_t seed, size_t rows,
                             duo_study_progress *progress, void *context);

typedef struct duo_choice_making {
    int domain;          /**< -1: all */
    size_t items;        /**< wanted */
    size_t choices;      /**< of an item, the true one included; at least 2 */
    size_t context;      /**< tokens */
    size_t continuation; /**< tokens of a choice */
    uint64_t seed;
} duo_choice_making;

/**
 * A set from held-out text: a context, what follows it, and passages of the same length from
 * elsewhere in the same document. Choices begin with a word, and every text becomes its tokens
 * again. As many items as were wanted, or DUO_EINVAL. The caller frees.
 */
duo_status duo_choices_make(duo_choice_set *set, const duo_tokens *tokens,
                            const duo_choice_making *making);

#endif
