#ifndef DUO_STUDY_SEQUENCES_H
#define DUO_STUDY_SEQUENCES_H

#include "duo/study.h"

/**
 * Whether a model can read sequences: some tokens, at most max_seq positions, ids below V. The
 * message of a failure, of this code, begins with `where`.
 */
duo_status study_sequences_check(const duo_sequences *sequences, const duo_config *config,
                                 duo_status code, const char *where);

#endif
