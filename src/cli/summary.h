#ifndef DUO_CLI_SUMMARY_H
#define DUO_CLI_SUMMARY_H

#include <stdio.h>

#include "duo/study.h"

/** Share of each module per layer, a line per module, indented. */
void duo_cli_print_layers(const duo_trace_summary *summary, size_t L);

/** "3.1370 +- 0.0312": loss and its standard error where it is known. Returns text. */
const char *duo_cli_loss_text(char text[48], const duo_trace_summary *summary);

/** `,"usage":{"skip":[..],"small":[..],"big":[..]}`: shares per layer, 0..1. */
void duo_cli_json_usage(FILE *out, const duo_trace_summary *summary, size_t L);

/** A policy's name as that of a group in a file: UTF-8 without slashes and control characters. */
void duo_cli_policy_group(char name[64], const duo_policy *policy);

#endif
