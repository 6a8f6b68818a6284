#include <string.h>

#include "duo/baseline.h"
#include "duo/number.h"

duo_status duo_schedule_parse(size_t *counts, size_t T, size_t L, const char *text)
{
    char first[24] = "";
    uint64_t from = 0, to = 0;
    const char *colon = strchr(text, ':');
    if (colon && (size_t)(colon - text) < sizeof first) memcpy(first, text, (size_t)(colon - text));
    if (!colon || duo_number_u64(&from, first) != DUO_NUMBER_OK ||
        duo_number_u64(&to, colon + 1) != DUO_NUMBER_OK)
        return duo_fail(DUO_EINVAL, "schedule '%s': is not of the form 6:2", text);
    if (from > L || to > L)
        return duo_fail(DUO_EINVAL, "schedule %s: the model has %zu layers", text, L);
    const double step = T > 1 ? ((double)to - (double)from) / (double)(T - 1) : 0;
    for (size_t t = 0; t < T; t++) counts[t] = (size_t)((double)from + step * (double)t + 0.5);
    return DUO_OK;
}
