#include <errno.h>
#include <omp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"

static const struct {
    const char *name;
    duo_status (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"prepare", duo_cli_prepare, "texts -> tokenizer + token file"},
    {"train", duo_cli_train, "recipe -> stages in order -> checkpoints, metrics"},
    {"eval", duo_cli_eval, "checkpoint + tokens -> loss, perplexity, shares under policies"},
    {"calibrate", duo_cli_calibrate, "checkpoint + budget -> thresholds of its routers"},
    {"oracle", duo_cli_oracle, "checkpoint + tokens -> the best route of every token"},
    {"compare", duo_cli_compare, "routers of one model + its oracle -> one table"},
    {"choices", duo_cli_choices, "held-out text -> a multiple choice for eval"},
    {"generate", duo_cli_generate, "checkpoint + prompt -> text, and the route of each token"},
    {"probe", duo_cli_probe, "checkpoint + tokens + routes -> losses, logits, gradients"},
    {"report", duo_cli_report, "runs and results -> one page with all their figures"},
    {"inspect", duo_cli_inspect, "any of our files -> what is in it, verified"},
    {"seal", duo_cli_seal, "an HDF5 file of another tool -> a sealed copy"},
    {"bench", duo_cli_bench, "kernels, training step: speed beside the machine's limits"},
};

enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void print_help(void)
{
    puts("usage: duo COMMAND [ARGUMENT]...\n"
         "Train decoder-only language models whose layers offer every token a big and a small\n"
         "FFN, and study which one a token needs.\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        printf("  %-10s %s\n", commands[i].name, commands[i].summary);
    puts("\nduo COMMAND --help says more. Exit status: 0 done, 1 failed, 2 used wrongly.");
}

static duo_status run_command(int argc, char **argv)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(argv[0], commands[i].name) == 0) return commands[i].run(argc, argv);
    return duo_fail(DUO_EUSAGE, "no such command; duo --help lists them");
}

/* A reader that closed its pipe, like `head`, has seen what it wanted. */
static bool reader_left(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO};
    return poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0;
}

/* What was printed may still be in memory: a full disk shows here at the latest. */
static bool close_stdout(void)
{
    const bool failed = ferror(stdout) != 0;
    errno = 0;
    bool written = fflush(stdout) == 0 && !failed;
    const bool unwanted = !written && reader_left();
    written = fclose(stdout) == 0 && written;
    if (written || unwanted) return true;
    fprintf(stderr, "duo: standard output: %s\n",
            errno != 0 ? strerror(errno) : "not everything could be written");
    return false;
}

/*
 * libgomp lets a thread that waits for its team spin for milliseconds. Where another process wants
 * the core, the team then waits for a time slice at every barrier: with one busy neighbour,
 * training on two cores was 4 to 20 times slower. Some thousand turns cover the gaps between
 * kernels. The library reads the setting before main, hence the second start; a user's own setting
 * stands. Where threads are bound to places, this one is by now, and a second start would take its
 * place for the whole machine.
 */
static void limit_spinning(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    if (omp_get_proc_bind() != omp_proc_bind_false) return;
    if (setenv("GOMP_SPINCOUNT", "4000", 0) == 0) execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    limit_spinning(argv);
    signal(SIGPIPE, SIG_IGN); /* a reader that leaves must not end a training run */
    duo_status status = DUO_OK;
    if (argc < 2) {
        status = DUO_EUSAGE;
        fputs("duo: no command given; duo --help lists them\n", stderr);
    } else if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help();
    } else if (strcmp(argv[1], "--version") == 0) {
        puts("duo " DUO_VERSION);
    } else {
        status = run_command(argc - 1, argv + 1);
        if (status == DUO_EUSAGE)
            fprintf(stderr, "duo %s: %s\n", argv[1], duo_message());
        else if (status != DUO_OK)
            fprintf(stderr, "duo: %s\n", duo_message());
    }
    if (!close_stdout() && status == DUO_OK) status = DUO_EIO;
    if (status == DUO_EUSAGE) return 2;
    return status == DUO_OK ? 0 : 1;
}
