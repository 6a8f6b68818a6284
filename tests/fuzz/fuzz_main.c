#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

/* Run a target over files: each as it is, cut at every 16th of its length, and with single bits
 * changed at as many places. */
static size_t run_file(const char *path)
{
    enum { PLACES = 16, MOST = 1 << 20 };
    static uint8_t data[MOST], changed[MOST];
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "%s: cannot open\n", path);
        exit(1);
    }
    const size_t size = fread(data, 1, sizeof data, file);
    fclose(file);
    LLVMFuzzerTestOneInput(data, size);
    for (size_t i = 0; i < PLACES; i++) {
        const size_t at = size * i / PLACES;
        LLVMFuzzerTestOneInput(data, at);
        memcpy(changed, data, size);
        if (size > 0) changed[at] ^= (uint8_t)(1u << i % 8);
        LLVMFuzzerTestOneInput(changed, size);
    }
    return 1 + 2 * PLACES;
}

int main(int argc, char **argv)
{
    size_t inputs = 0, files = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        if (!folder) {
            inputs += run_file(argv[i]);
            files++;
            continue;
        }
        for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
            char path[4096];
            if (entry->d_name[0] == '.') continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            inputs += run_file(path);
            files++;
        }
        closedir(folder);
    }
    printf("%zu inputs of %zu files\n", inputs, files);
    return files == 0;
}
