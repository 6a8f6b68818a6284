#include "stop.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t stop_wanted;

static void want_stop(int signal_number)
{
    (void)signal_number;
    stop_wanted = 1;
}

void duo_cli_catch_stop(void)
{
    struct sigaction action = {.sa_handler = want_stop,
                               .sa_flags = (int)(SA_RESETHAND | SA_RESTART)};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool duo_cli_stop_wanted(void)
{
    return stop_wanted != 0;
}
