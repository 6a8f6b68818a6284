#ifndef DUO_CLI_EVAL_ROUTES_H
#define DUO_CLI_EVAL_ROUTES_H

#include <stdio.h>

#include "duo/result.h"

/** What the routes of several policies on the same sequences have to say. */

/** How far two traces choose alike, over n tokens: in each layer, and of the whole. */
typedef struct duo_agreement {
    double accuracy; /**< share of choices that are the same */
    double macro_f1; /**< mean of the layers' */
    struct {
        double accuracy;
        double macro_f1; /**< mean over the modules that either takes there */
    } layer[128];
} duo_agreement;

void duo_cli_agree(duo_agreement *agreement, const uint8_t *routes, const uint8_t *reference,
                   size_t n, size_t L);

/** `,"agreement":{...}` for a line of JSON. */
void duo_cli_json_agreement(FILE *out, const duo_agreement *agreement, size_t L);

/** Tab-separated shares of every module by policy, layer and position. DUO_EIO. */
duo_status duo_cli_write_usage(const char *path, const duo_results *results);

#endif
