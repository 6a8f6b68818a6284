#ifndef DUO_CLI_ORACLE_STUDY_H
#define DUO_CLI_ORACLE_STUDY_H

#include "common.h"
#include "duo/hindsight.h"
#include "duo/result.h"
#include "options.h"
#include "windows.h"

/** What `duo oracle` was asked for. */
typedef struct duo_oracle_options {
    const char *checkpoint, *budget, *context, *reference, *method, *goal, *modules, *precision;
    const char *output, *difficulty, *json, *tsv, *fixed;
    const char *values, *along; /**< NULL: none */
    duo_list schedules;
    duo_cli_windows windows;
    bool training; /**< windows of training text */
    size_t max_nodes, draws, training_windows, rows;
    uint64_t seed;
    bool skip, control, compare;
} duo_oracle_options;

/** How the trace of a policy comes about. */
typedef enum duo_entry_kind {
    DUO_ENTRY_SEARCH,       /**< a committed search */
    DUO_ENTRY_CURVE,        /**< read off the reference search */
    DUO_ENTRY_DRAW,         /**< targets of the control, and all-big's loss on them */
    DUO_ENTRY_POLICY,       /**< an ordinary pass */
    DUO_ENTRY_FIXED,        /**< the best fixed pattern */
    DUO_ENTRY_PER_SEQUENCE, /**< random patterns */
    DUO_ENTRY_PER_TOKEN
} duo_entry_kind;

enum { DUO_ANY_BIG = -1 };

/** One policy of a study. */
typedef struct duo_entry {
    duo_entry_kind kind;
    char label[64];       /**< "fixed": the policy's name without its budget */
    int big;              /**< number of big FFNs, in a comparison; DUO_ANY_BIG otherwise */
    duo_budget budget;    /**< of searches and curves, */
    duo_budget *schedule; /**< (T) or by position; owned */
    duo_search_goal goal;
    bool drawn; /**< a search for the control's targets */
    duo_policy policy;
} duo_entry;

/** A run of `duo oracle`: policies on the same sequences, worked out a few sequences at a time. */
typedef struct duo_oracle_study {
    const duo_oracle_options *options;
    duo_checkpoint *checkpoint;
    duo_model *model;
    duo_sequences sequences;
    duo_search_setting setting;
    const char *reference_text; /**< as it was given */
    uint8_t reference[DUO_MAX_LAYERS];
    bool in_reference;         /**< context */
    size_t beam;               /**< of the fixed patterns; 0: all */
    duo_completion completion; /**< behind values */
    duo_policy along;          /**< in the oracle's place, where values are wanted of its routes */
    size_t n;
    duo_entry *entries;  /**< (n) */
    duo_results results; /**< its policies belong to the entries */
    duo_routes_origin origin;
    char budget[96], method[32], baselines[256];
    size_t resumed; /**< sequences that were done when it began */
    double seconds; /**< of work in this run */
    double spent;   /**< FLOPs of the oracle's own search in this run */
    bool stopped;   /**< by a signal, before all sequences were done */
} duo_oracle_study;

/** Read the options, open everything and list the policies. Closed in every case. */
duo_status duo_oracle_study_open(duo_oracle_study *study, const duo_oracle_options *options);
void duo_oracle_study_close(duo_oracle_study *study);

/** Work, from where the output stands if there is one; saves there. */
duo_status duo_oracle_study_run(duo_oracle_study *study);

/** The sequences that are done; borrowed. */
duo_sequences duo_oracle_study_done(const duo_oracle_study *study);

/** One policy at one budget, as tables show it. */
typedef struct duo_oracle_row {
    const char *label;
    int big;           /**< or DUO_ANY_BIG */
    duo_estimate loss; /**< nats */
    double share;      /**< of big */
} duo_oracle_row;

/** All rows of a study: its policies, and the curves of a reference search. *rows (*n) is the
 *  caller's to free. hindsight is NULL where there is none. */
duo_status duo_oracle_rows(const duo_oracle_study *study, const duo_hindsight *hindsight,
                           duo_oracle_row **rows, size_t *n);

/** What a committed search gains over all-big, on the text and on targets drawn from all-big. */
typedef struct duo_oracle_control {
    duo_estimate oracle, gain, control, corrected; /**< nats */
} duo_oracle_control;

/** Of a study with --control. DUO_ENOMEM. */
duo_status duo_oracle_control_measure(duo_oracle_control *control, const duo_oracle_study *study);

/** Print the results. */
duo_status duo_oracle_print(const duo_oracle_study *study, const duo_hindsight *hindsight,
                            const duo_oracle_row *rows, size_t n);

/** Files for other programs, as the options say. */
duo_status duo_oracle_write_files(const duo_oracle_study *study, const duo_hindsight *hindsight,
                                  const duo_oracle_row *rows, size_t n);

#endif
