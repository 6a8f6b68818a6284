#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "duo/file.h"
#include "duo/report.h"
#include "report_internal.h"

enum { WIDTH = 1000, URL_BYTES = 3 * DUO_PATH_MAX + 64, PATIENCE_SECONDS = 60 };

extern char **environ;

/* One browser with a profile of its own, which goes with it. */
typedef struct browser {
    const char *program;
    char url[URL_BYTES]; /* of the page */
    char profile[64];
    bool (*stop)(void); /* the caller's wish, or NULL */
} browser;

/* ---------------------------------------------------------------- processes */

static duo_status wait_for(pid_t child, const browser *b)
{
    const char *program = b->program;
    const struct timespec pause = {.tv_nsec = 20000000};
    const time_t end = time(NULL) + PATIENCE_SECONDS;
    int state = 0;
    for (;;) {
        const pid_t ended = waitpid(child, &state, WNOHANG);
        if (ended == child) break;
        if (ended < 0 && errno != EINTR)
            return duo_fail(DUO_EIO, "%s: %s", program, strerror(errno));
        const bool stopped = b->stop && b->stop();
        if (stopped || time(NULL) > end) {
            kill(child, SIGKILL);
            waitpid(child, &state, 0);
            if (stopped) return duo_fail(DUO_EIO, "stopped before all figures were rendered");
            return duo_fail(DUO_EIO, "%s: did not end within %d seconds", program,
                            PATIENCE_SECONDS);
        }
        nanosleep(&pause, NULL);
    }
    if (WIFEXITED(state) && WEXITSTATUS(state) == 0) return DUO_OK;
    if (b->stop && b->stop()) return duo_fail(DUO_EIO, "stopped before all figures were rendered");
    return duo_fail(DUO_EIO, "%s: failed on the page (exit status %d)", program,
                    WIFEXITED(state) ? WEXITSTATUS(state) : -1);
}

/* Run the browser on URL#fragment; what it prints goes to the file `printed`. */
static duo_status run(const browser *b, const char *fragment, unsigned height, const char *job,
                      const char *printed)
{
    char profile[128], size[64], url[URL_BYTES + 128];
    snprintf(profile, sizeof profile, "--user-data-dir=%s", b->profile);
    snprintf(size, sizeof size, "--window-size=%d,%u", WIDTH, height);
    snprintf(url, sizeof url, "%s#%s", b->url, fragment);
    const char *const arguments[] = {b->program,
                                     "--headless",
                                     "--no-sandbox",
                                     "--disable-gpu",
                                     "--disable-quic",
                                     "--no-first-run",
                                     "--disable-background-networking",
                                     "--disable-component-update",
                                     "--disable-sync",
                                     "--hide-scrollbars",
                                     "--force-device-scale-factor=2",
                                     "--virtual-time-budget=5000",
                                     profile,
                                     size,
                                     job,
                                     url,
                                     NULL};
    posix_spawn_file_actions_t files;
    pid_t child = 0;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, printed, O_WRONLY | O_CREAT | O_TRUNC,
                                     0600);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    /* The arguments are not changed: the interface is older than const. */
    const int error =
        posix_spawnp(&child, b->program, &files, NULL, (char *const *)arguments, environ);
    posix_spawn_file_actions_destroy(&files);
    if (error != 0) return duo_fail(DUO_EIO, "%s: %s", b->program, strerror(error));
    return wait_for(child, b);
}

/* ---------------------------------------------------------------- figures */

/* "<meta name="figures" content="loss 640;rate 320;">", which the page makes when it is asked. */
static duo_status list_figures(const browser *b, char **list)
{
    char printed[128];
    char *text = NULL;
    snprintf(printed, sizeof printed, "%s/page.html", b->profile);
    duo_status status = run(b, "figures", 800, "--dump-dom", printed);
    if (status != DUO_OK) return status;
    static const char mark[] = "name=\"figures\" content=\"";
    status = duo_file_read(&text, NULL, printed, SIZE_MAX);
    if (status != DUO_OK) return status;
    const char *begin = strstr(text, mark);
    if (begin) *list = strndup(begin + sizeof mark - 1, strcspn(begin + sizeof mark - 1, "\""));
    free(text);
    return *list ? DUO_OK : duo_fail(DUO_EDATA, "%s: lists no figures: no page of ours?", b->url);
}

static duo_status render(const browser *b, const char *list, const char *folder, size_t *n)
{
    char name[64], fragment[80], job[2 * DUO_PATH_MAX], printed[128];
    unsigned height = 0;
    int length = 0;
    duo_status status = DUO_OK;
    snprintf(printed, sizeof printed, "%s/printed", b->profile);
    for (; status == DUO_OK && sscanf(list, "%63[a-z0-9-] %u;%n", name, &height, &length) == 2;
         list += length) {
        snprintf(fragment, sizeof fragment, "figure=%s", name);
        snprintf(job, sizeof job, "--screenshot=%s/%s.png", folder, name);
        status = run(b, fragment, height, job, printed);
        if (status == DUO_OK && access(job + strlen("--screenshot="), F_OK) != 0)
            status = duo_fail(DUO_EIO, "%s/%s.png: was not written", folder, name);
        *n += status == DUO_OK;
    }
    return status;
}

/* ---------------------------------------------------------------- set-up */

static int remove_entry(const char *path, const struct stat *about, int kind, struct FTW *where)
{
    (void)about;
    (void)kind;
    (void)where;
    return remove(path);
}

static bool is_program(const char *name)
{
    const char *path = getenv("PATH");
    while (path && *path) {
        char file[2 * DUO_PATH_MAX];
        const size_t n = strcspn(path, ":");
        snprintf(file, sizeof file, "%.*s/%s", (int)n, path, name);
        if (access(file, X_OK) == 0) return true;
        path += n + (path[n] == ':');
    }
    return false;
}

static const char *find_browser(void)
{
    static const char *const names[] = {"chromium", "chromium-browser", "google-chrome"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is_program(names[i])) return names[i];
    return NULL;
}

static duo_status set_url(browser *b, const char *page)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-";
    char *path = realpath(page, NULL);
    if (!path || strlen(path) >= DUO_PATH_MAX) {
        free(path);
        return duo_fail(DUO_EIO, "%s: %s", page, path ? "too long a path" : strerror(errno));
    }
    size_t used = (size_t)snprintf(b->url, sizeof b->url, "file://");
    for (const char *c = path; *c; c++)
        used += (size_t)snprintf(b->url + used, sizeof b->url - used,
                                 strchr(plain, *c) ? "%c" : "%%%02X", (unsigned char)*c);
    free(path);
    return DUO_OK;
}

duo_status duo_report_figures(const char *page, const char *folder, const char *program,
                              bool (*stop)(void), size_t *n)
{
    browser b = {.program = program ? program : find_browser(), .stop = stop};
    char *list = NULL;
    *n = 0;
    if (!b.program)
        return duo_fail(DUO_EIO, "no chromium is installed, which renders the figures: "
                                 "apt-get install chromium, or --browser PROGRAM");
    duo_status status = set_url(&b, page);
    if (status != DUO_OK) return status;
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return duo_fail(DUO_EIO, "%s: %s", folder, strerror(errno));
    snprintf(b.profile, sizeof b.profile, "/tmp/duo-report-XXXXXX");
    if (!mkdtemp(b.profile)) return duo_fail(DUO_EIO, "%s: %s", b.profile, strerror(errno));
    status = list_figures(&b, &list);
    if (status == DUO_OK) status = render(&b, list, folder, n);
    free(list);
    nftw(b.profile, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return status;
}
