#ifndef INTERCEPT_H
#define INTERCEPT_H

/* What the libraries share that stand between a program and the system. */

#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The function of this name that the program would have called. */
static inline void intercept_find(void *function, const char *name)
{
    *(void **)function = dlsym(RTLD_NEXT, name);
}

/* Where a descriptor leads, "" when nowhere. */
typedef struct intercept_place {
    char path[PATH_MAX + 1];
} intercept_place;

static inline intercept_place intercept_place_of(int fd)
{
    char link[40];
    intercept_place place;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = fd < 0 ? 0 : readlink(link, place.path, PATH_MAX);
    place.path[n > 0 ? n : 0] = '\0';
    return place;
}

/* Whether the path `name` in the folder `fd`, or the file `fd` itself, holds the text. */
static inline bool intercept_under(const char *text, int fd, const char *name)
{
    char path[2 * PATH_MAX + 2];
    const intercept_place place = intercept_place_of(fd);
    snprintf(path, sizeof path, "%s/%s", place.path, name);
    return text && strstr(path, text) != NULL;
}

#endif
