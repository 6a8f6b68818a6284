#ifndef DUO_CLI_COMMANDS_H
#define DUO_CLI_COMMANDS_H

#include "duo/status.h"

/**
 * The commands of `duo`, each in the file of its name. argv[0] is the command's name. The status
 * becomes the exit status, and main prints the message of a failure.
 */
duo_status duo_cli_prepare(int argc, char **argv);
duo_status duo_cli_train(int argc, char **argv);
duo_status duo_cli_eval(int argc, char **argv);
duo_status duo_cli_calibrate(int argc, char **argv);
duo_status duo_cli_compare(int argc, char **argv);
duo_status duo_cli_oracle(int argc, char **argv);
duo_status duo_cli_choices(int argc, char **argv);
duo_status duo_cli_generate(int argc, char **argv);
duo_status duo_cli_inspect(int argc, char **argv);
duo_status duo_cli_seal(int argc, char **argv);
duo_status duo_cli_probe(int argc, char **argv);
duo_status duo_cli_bench(int argc, char **argv);
duo_status duo_cli_report(int argc, char **argv);

#endif
