#include "duo/number.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

duo_number duo_number_u64(uint64_t *value, const char *text)
{
    const char *digits = text + (*text == '-');
    if (*digits == '\0' || digits[strspn(digits, "0123456789")] != '\0')
        return DUO_NUMBER_MALFORMED;
    errno = 0;
    *value = strtoull(digits, NULL, 10);
    return errno != 0 || digits != text ? DUO_NUMBER_RANGE : DUO_NUMBER_OK;
}

duo_number duo_number_real(double *value, const char *text)
{
    char *end = NULL;
    errno = 0;
    *value = strtod(text, &end);
    if (*text == '\0' || *end != '\0' || text[strspn(text, "0123456789.eE+-")] != '\0')
        return DUO_NUMBER_MALFORMED;
    if (*value == 0) *value = 0;
    return errno != 0 ? DUO_NUMBER_RANGE : DUO_NUMBER_OK;
}
