/* What store_h5py.sh needs of the store: `write FILE`, `open FILE`, `seal FROM TO`. */
#include <stdio.h>
#include <string.h>

#include "duo/store.h"

static duo_status write_sample(const char *path)
{
    static const float floats[2][3] = {{1.5f, -2.25f, 3.0f}, {0.0f, 1e-20f, 7.0f}};
    static const uint16_t tokens[4] = {0, 1, 65535, 7};
    const duo_shape matrix = {.rank = 2, .size = {2, 3}}, row = {.rank = 1, .size = {4}};
    duo_store_writer *writer = NULL;
    duo_status status = duo_store_create(&writer, path, DUO_KIND_TOKENS);
    if (status == DUO_OK) status = duo_store_write(writer, "/a/b/floats", DUO_F32, matrix, floats);
    if (status == DUO_OK) status = duo_store_write(writer, "/train/tokens", DUO_U16, row, tokens);
    if (status == DUO_OK) status = duo_store_set_u64(writer, "/train", "count", UINT64_MAX);
    if (status == DUO_OK) status = duo_store_set_f64(writer, "/train/tokens", "share", 0.1);
    if (status == DUO_OK) status = duo_store_set_text(writer, "/", "place", "z\xC3\xBCrich");
    if (status == DUO_OK) status = duo_store_set_text(writer, "/", "empty", "");
    if (status == DUO_OK) status = duo_store_commit(writer);
    duo_store_writer_free(writer);
    return status;
}

static duo_status open_file(const char *path)
{
    duo_store *store = NULL;
    const duo_status status = duo_store_open(&store, path, DUO_KIND_ANY);
    duo_store_close(store);
    return status;
}

int main(int argc, char **argv)
{
    duo_status status = DUO_EUSAGE;
    if (argc == 3 && strcmp(argv[1], "write") == 0) status = write_sample(argv[2]);
    if (argc == 3 && strcmp(argv[1], "open") == 0) status = open_file(argv[2]);
    if (argc == 4 && strcmp(argv[1], "seal") == 0) status = duo_store_seal(argv[2], argv[3]);
    if (status != DUO_OK) fprintf(stderr, "%s\n", duo_message());
    return status != DUO_OK;
}
