#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "data_internal.h"

static duo_status refused(const data_spool *spool)
{
    return duo_fail(DUO_EIO, "%s: cannot keep a temporary file beside it: %s", spool->where,
                    strerror(errno));
}

duo_status data_spool_create(data_spool *spool, const char *output)
{
    *spool = (data_spool){.where = output};
    const size_t room = strlen(output) + sizeof ".text-XXXXXX";
    char *name = malloc(room);
    if (!name) return duo_fail(DUO_ENOMEM, "%s: no memory to write it", output);
    snprintf(name, room, "%s.text-XXXXXX", output);
    const int fd = mkstemp(name);
    duo_status status = DUO_OK;
    if (fd < 0 || unlink(name) != 0 || !(spool->file = fdopen(fd, "w+b"))) {
        status = refused(spool);
        if (fd >= 0) close(fd);
    }
    free(name);
    return status;
}

duo_status data_spool_add(data_spool *spool, const void *data, size_t bytes)
{
    if (fwrite(data, 1, bytes, spool->file) != bytes) return refused(spool);
    spool->bytes += bytes;
    return DUO_OK;
}

duo_status data_spool_map(data_spool *spool, const void **data)
{
    *data = "";
    if (fflush(spool->file) != 0) return refused(spool);
    if (spool->bytes == 0) return DUO_OK;
    void *mapped = mmap(NULL, (size_t)spool->bytes, PROT_READ, MAP_PRIVATE, fileno(spool->file), 0);
    if (mapped == MAP_FAILED) return refused(spool);
    *data = spool->mapped = mapped;
    return DUO_OK;
}

void data_spool_free(data_spool *spool)
{
    if (spool->mapped) munmap(spool->mapped, (size_t)spool->bytes);
    if (spool->file) fclose(spool->file);
    *spool = (data_spool){0};
}
