#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "duo/file.h"
#include "store_internal.h"

char *store_temp_path(const char *path, pid_t pid)
{
    const size_t bytes = (size_t)duo_temporary_name(NULL, 0, path, pid) + 1;
    char *temp = malloc(bytes);
    if (temp) duo_temporary_name(temp, bytes, path, pid);
    return temp;
}

char *store_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return strdup(".");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

void store_temp_sweep(const char *path)
{
    const char *slash = strrchr(path, '/'), *file = slash ? slash + 1 : path;
    const size_t length = strlen(file);
    char *folder = store_folder_of(path);
    DIR *list = folder ? opendir(folder) : NULL;
    for (const struct dirent *entry; list && (entry = readdir(list));)
        if (strncmp(entry->d_name, file, length) == 0 && entry->d_name[length] == '.' &&
            duo_temporary_abandoned(entry->d_name))
            unlinkat(dirfd(list), entry->d_name, 0);
    if (list) closedir(list);
    free(folder);
}
