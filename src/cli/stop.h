#ifndef DUO_CLI_STOP_H
#define DUO_CLI_STOP_H

#include <stdbool.h>

/**
 * From here on a first SIGINT or SIGTERM does not end the process but makes duo_cli_stop_wanted
 * true, for work that can be saved and gone on with. A second of the kind ends it at once.
 */
void duo_cli_catch_stop(void);
bool duo_cli_stop_wanted(void);

#endif
