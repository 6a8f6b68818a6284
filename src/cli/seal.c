#include "commands.h"
#include "common.h"
#include "duo/store.h"
#include "options.h"

duo_status duo_cli_seal(int argc, char **argv)
{
    const char *from = NULL, *to = NULL;
    const duo_positional positionals[] = {
        {"FROM", "HDF5 file, written by h5py or edited; its root attribute `kind` says what it is",
         &from, NULL, false},
        {"TO", "the sealed file; replaces one, but no checkpoint", &to, NULL, false},
    };
    const duo_command command = {
        .name = "seal",
        .description = "Check an HDF5 file that another tool wrote and make a sealed copy of it, "
                       "which the other\ncommands read.",
        .example = "duo seal routes-of-mine.h5 routes.h5",
        .positionals = positionals,
        .n_positionals = sizeof positionals / sizeof *positionals,
    };
    bool help = false;
    const duo_status status = duo_options_parse(&command, argc, argv, &help);
    if (status != DUO_OK || help) return status;
    const duo_status free_to = duo_cli_check_output(to, DUO_KIND_ANY, from);
    return free_to == DUO_OK ? duo_store_seal(from, to) : free_to;
}
