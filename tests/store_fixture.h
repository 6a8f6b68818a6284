#ifndef STORE_FIXTURE_H
#define STORE_FIXTURE_H

/* What the suites of the store share: one small file. */

#include "check_fixture.h"
#include "duo/store.h"

/* Bytes of the user block of a small file. */
enum { BLOCK = 64 << 10 };

static inline duo_shape shape(size_t rank, size_t a, size_t b, size_t c, size_t d)
{
    return (duo_shape){.rank = rank, .size = {a, b, c, d}};
}

static const float weights[6] = {1.5f, -2.25f, 3.0f, 0.0f, 1e-20f, 7.0f};
static const uint8_t bytes[5] = {0, 1, 127, 128, 255};

static inline void write_small(const char *path, float first)
{
    float own[6];
    memcpy(own, weights, sizeof own);
    own[0] = first;
    duo_store_writer *writer = NULL;
    ok(duo_store_create(&writer, path, DUO_KIND_TOKENS));
    ok(duo_store_set_u64(writer, "/model", "n_layers", 12));
    ok(duo_store_write(writer, "/model/layers/00/w", DUO_F32, shape(2, 2, 3, 0, 0), own));
    ok(duo_store_write(writer, "/bytes", DUO_U8, shape(1, 5, 0, 0, 0), bytes));
    ok(duo_store_set_f64(writer, "/bytes", "scale", 0.1));
    ok(duo_store_set_text(writer, "/", "producer", "z\xC3\xBCrich"));
    ok(duo_store_commit(writer));
    duo_store_writer_free(writer);
}

#endif
