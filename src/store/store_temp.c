#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store_internal.h"

static const char mark[] = ".tmp-";

char *store_temp_path(const char *path, pid_t pid)
{
    const size_t bytes = strlen(path) + 32;
    char *temp = malloc(bytes);
    if (temp) snprintf(temp, bytes, "%s%s%ld", path, mark, (long)pid);
    return temp;
}

char *store_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return strdup(".");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

/* Whether `name` is a temporary file of `file` whose process is no more. */
static bool is_orphan(const char *name, const char *file)
{
    const size_t length = strlen(file);
    if (strncmp(name, file, length) != 0) return false;
    name += length;
    if (strncmp(name, mark, sizeof mark - 1) != 0) return false;
    name += sizeof mark - 1;
    char *end = NULL;
    const long pid = isdigit((unsigned char)*name) ? strtol(name, &end, 10) : 0;
    return pid > 0 && pid == (pid_t)pid && *end == '\0' && kill((pid_t)pid, 0) != 0 &&
           errno == ESRCH;
}

void store_temp_sweep(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = store_folder_of(path);
    DIR *list = folder ? opendir(folder) : NULL;
    for (const struct dirent *entry; list && (entry = readdir(list));)
        if (is_orphan(entry->d_name, slash ? slash + 1 : path))
            unlinkat(dirfd(list), entry->d_name, 0);
    if (list) closedir(list);
    free(folder);
}
