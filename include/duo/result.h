#ifndef DUO_RESULT_H
#define DUO_RESULT_H

#include "duo/baseline.h"
#include "duo/oracle.h"

/**
 * Routes files: what one or several policies did on the same sequences.
 *
 *     /tokens [R, T+1]                        inputs and, one further, targets
 *     /routes [R, T, L], /loss [R, T]         of the first policy
 *     /policies/NAME/{routes,loss}            of every policy
 *     /policies/NAME/usage [L, T, 3]          sequences that took skip, small, big there
 *     /reference/{oracle,control,label_free}/routes [R, T, L+1, L], loss [R, T, L+1]
 *     /reference/expected [R, T, L+1], /reference/drawn [R, T]      reference searches
 *     /drawn [R, T]                           targets of a control in committed context
 *     /values [R, T, L, 3]                    of skip, small, big along the first policy's routes:
 *                                             duo_search_values
 *     /fixed/patterns [L+1, L], /fixed/loss [L+1]
 *
 * with attributes that say how they were found. A file may be of work that is not finished: it
 * holds `sequences_done` of `sequences`, and is whole in itself.
 */

/** How routes were found: the attributes of a routes file. A NULL text is not written. */
typedef struct duo_routes_origin {
    const char *policy;     /**< "oracle", "router", ... */
    const char *budget;     /**< "4", "none", "schedule 6:2" */
    const char *context;    /**< "committed", "reference" */
    const char *reference;  /**< pattern of a reference context */
    const char *method;     /**< "exact", "beam:8" */
    const char *goal;       /**< "target", "label-free" */
    const char *baselines;  /**< settings of those that are in the file */
    const char *values;     /**< completions behind the values: "best", "same" */
    duo_module_set modules; /**< allowed */
    duo_hash model;         /**< duo_model_hash */
    duo_hash language;      /**< duo_model_hash_without_routers; zero: the model has none */
    duo_hash tokens;        /**< duo_tokens_hash; zero: unknown */
    uint64_t seed;
} duo_routes_origin;

typedef struct duo_named_trace {
    char name[64]; /**< of a group in a file: no slash */
    duo_trace trace;
} duo_named_trace;

/** What a routes file is made of. Rows from `done` on are still to be worked out. */
typedef struct duo_results {
    const duo_sequences *sequences; /**< all that are wanted; borrowed */
    size_t L, done;
    size_t n;
    duo_named_trace *policies; /**< (n), at least one */
    duo_reference *reference;  /**< NULL: none */
    int32_t *drawn;            /**< (R, T), or NULL */
    float *values;             /**< (R, T, L, DUO_MODULES), or NULL */
    duo_fixed *fixed;          /**< NULL: none; not yet known while its patterns are NULL */
} duo_results;

/** What results hold beside their policies. */
typedef enum duo_results_part {
    DUO_RESULTS_REFERENCE = 1,
    DUO_RESULTS_DRAWN = 2,
    DUO_RESULTS_FIXED = 4,
    DUO_RESULTS_VALUES = 8
} duo_results_part;

/** Room for n policies, zeroed, and for the parts (a sum of duo_results_part). The caller names the
 *  policies, and frees with duo_results_free. */
duo_status duo_results_create(duo_results *results, const duo_sequences *sequences, size_t L,
                              size_t n, unsigned parts);
void duo_results_free(duo_results *results);

/** The policy of this name, or NULL. */
const duo_trace *duo_results_find(const duo_results *results, const char *name);

/** Write the rows that are done, at least one, atomically: on failure, DUO_EIO or DUO_ENOMEM, what
 * was at `path` is still there. */
duo_status duo_results_write(const char *path, const duo_results *results,
                             const duo_routes_origin *origin);

/**
 * Take over the rows that a file holds already; none when there is no file. What was found by other
 * settings, for another model or on other tokens is DUO_EINVAL, and the file is left alone.
 */
duo_status duo_results_resume(duo_results *results, const char *path,
                              const duo_routes_origin *origin);

/**
 * Open a routes file for a reader of its datasets. /tokens holds a sequence, /routes fits it, no
 * route is other than a module, no loss other than finite but where a curve has none: DUO_EDATA
 * names the dataset. Token ids are not looked at, since a file does not know the vocabulary.
 * DUO_EINVAL: of a newer version. The caller closes *file.
 */
duo_status duo_routes_open(duo_store **file, const char *path);

/** Bytes of the path in FILE or FILE#NAME; a file whose own name holds a # is that file. */
size_t duo_routes_path_length(const char *path_and_name);

/**
 * Read one policy of a routes file: "PATH" for the first, or "PATH#NAME". Everything is checked
 * against the model: layers, modules, token ids, and its hash (another model is DUO_EINVAL). The
 * split of the sequences is the file's, NULL where it does not tell. The caller frees sequences and
 * trace.
 */
duo_status duo_routes_read(const char *path_and_name, const duo_model *model, duo_hash model_hash,
                           duo_sequences *sequences, duo_trace *trace);

/**
 * Read what a reference search with fixed patterns left in a routes file. Checked against the model
 * as duo_routes_read does; DUO_EDATA when the file is of no such search. The caller frees
 * sequences, reference and fixed.
 */
duo_status duo_reference_read(const char *path, const duo_model *model, duo_hash model_hash,
                              duo_sequences *sequences, duo_reference *reference, duo_fixed *fixed);

#endif
