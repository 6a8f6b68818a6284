#ifndef DUO_CLI_EVAL_ROUTES_H
#define DUO_CLI_EVAL_ROUTES_H

#include <stdio.h>

#include "duo/compare.h"
#include "duo/result.h"

/** What the routes of several policies on the same sequences have to say. */

/** `,"agreement":{...}` for a line of JSON. */
void duo_cli_json_agreement(FILE *out, const duo_agreement *agreement, size_t L);

/** Tab-separated shares of every module by policy, layer and position. DUO_EIO. */
duo_status duo_cli_write_usage(const char *path, const duo_results *results);

#endif
