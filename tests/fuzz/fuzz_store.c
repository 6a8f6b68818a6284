#include <string.h>

#include "fuzz.h"

static volatile unsigned char seen; /* so that reading is not left out */

/* Every byte that a dataset says it has can be read. */
static void look(const char *path)
{
    duo_store *store = NULL;
    const duo_dataset *datasets = NULL;
    const duo_attribute *attributes = NULL;
    if (duo_store_open(&store, path, DUO_KIND_ANY) != DUO_OK) return;
    const size_t n = duo_store_datasets(store, &datasets);
    for (size_t i = 0; i < n; i++) {
        const unsigned char *bytes = datasets[i].data;
        const size_t last = datasets[i].count * duo_type_size(datasets[i].type);
        if (last > 0) seen ^= bytes[0] ^ bytes[last - 1];
        seen ^= (unsigned char)(duo_store_find(store, datasets[i].name) == NULL);
    }
    const size_t m = duo_store_attributes(store, &attributes);
    for (size_t i = 0; i < m; i++)
        if (attributes[i].type == DUO_ATTR_TEXT) seen ^= (unsigned char)strlen(attributes[i].text);
    duo_store_close(store);
}

/* The bytes as a file, and as the index of a sealed one. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const fuzz_file raw = fuzz_open(data, size),
                    sealed = fuzz_open_sealed(data, size, DUO_KIND_PROBE);
    look(raw.path);
    look(sealed.path);
    fuzz_close(&raw);
    fuzz_close(&sealed);
    return 0;
}
