#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "duo/store.h"

struct duo_hasher {
    XXH3_state_t *state;
};

duo_hash duo_hash_bytes(const void *data, size_t bytes)
{
    const XXH128_hash_t value = XXH3_128bits(data, bytes);
    return (duo_hash){.high = value.high64, .low = value.low64};
}

bool duo_hash_equal(duo_hash a, duo_hash b)
{
    return a.high == b.high && a.low == b.low;
}

char *duo_hash_text(char text[33], duo_hash hash)
{
    snprintf(text, 33, "%016" PRIx64 "%016" PRIx64, hash.high, hash.low);
    return text;
}

duo_hasher *duo_hasher_create(void)
{
    duo_hasher *hasher = malloc(sizeof *hasher);
    if (!hasher) return NULL;
    hasher->state = XXH3_createState();
    if (!hasher->state) {
        free(hasher);
        return NULL;
    }
    XXH3_128bits_reset(hasher->state);
    return hasher;
}

void duo_hasher_add(duo_hasher *hasher, const void *data, size_t bytes)
{
    XXH3_128bits_update(hasher->state, data, bytes);
}

duo_hash duo_hasher_value(const duo_hasher *hasher)
{
    const XXH128_hash_t value = XXH3_128bits_digest(hasher->state);
    return (duo_hash){.high = value.high64, .low = value.low64};
}

void duo_hasher_free(duo_hasher *hasher)
{
    if (!hasher) return;
    XXH3_freeState(hasher->state);
    free(hasher);
}
