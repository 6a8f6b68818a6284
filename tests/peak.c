#define _DEFAULT_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Usage: peak COMMAND [ARGUMENT]...: run it, and print its peak of memory in KiB as a last line. */
int main(int argc, char **argv)
{
    struct rusage used;
    int outcome = 0;
    const pid_t child = argc > 1 ? fork() : -1;
    if (child == 0) {
        execv(argv[1], argv + 1);
        _exit(127);
    }
    if (child < 0 || wait4(child, &outcome, 0, &used) != child) return 1;
    printf("%ld\n", used.ru_maxrss);
    return !WIFEXITED(outcome) || WEXITSTATUS(outcome) != 0;
}
