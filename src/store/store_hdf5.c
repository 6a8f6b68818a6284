#include "store_hdf5.h"

#include <stdio.h>
#include <string.h>

void store_hdf5_start(void)
{
    H5dont_atexit();
    H5open();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

typedef struct cause {
    char text[256];
} cause;

/* Errors of the operating system come with pointers, times and the file name around them: keep
 * what strerror says. */
static herr_t keep_root_cause(unsigned depth, const H5E_error2_t *error, void *into)
{
    static const char quoted[] = "error message = '";
    if (depth != 0 || !error->desc) return 0;
    const char *from = strstr(error->desc, quoted);
    from = from ? from + strlen(quoted) : error->desc;
    const int length = (int)(from == error->desc ? strlen(from) : strcspn(from, "'"));
    snprintf(((cause *)into)->text, sizeof(cause), "%.*s", length, from);
    return 0;
}

duo_status store_hdf5_fail(duo_status code, const char *path, const char *doing, const char *object)
{
    cause root = {"the HDF5 library gives no reason"};
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_root_cause, &root);
    return duo_fail(code, "%s: cannot %s%s%s: %s", path, doing, *object ? " " : "", object,
                    root.text);
}

hid_t store_hdf5_type(duo_type type)
{
    switch (type) {
    case DUO_U8:
        return H5T_STD_U8LE;
    case DUO_U16:
        return H5T_STD_U16LE;
    case DUO_U32:
        return H5T_STD_U32LE;
    case DUO_U64:
        return H5T_STD_U64LE;
    case DUO_I32:
        return H5T_STD_I32LE;
    case DUO_I64:
        return H5T_STD_I64LE;
    case DUO_F32:
        return H5T_IEEE_F32LE;
    case DUO_F64:
        return H5T_IEEE_F64LE;
    }
    return H5I_INVALID_HID;
}
