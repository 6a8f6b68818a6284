#ifndef DUO_REPORT_RESULTS_H
#define DUO_REPORT_RESULTS_H

#include "duo/store.h"
#include "report_internal.h"

/** What one policy did; name borrowed from the file's index. */
typedef struct report_policy {
    const char *name; /* not ended by a NUL */
    size_t name_bytes;
    const uint8_t *routes; /* (R, T, L) */
    const float *loss;     /* (R, T) */
} report_policy;

/** An open routes file whose shapes and values have been checked. */
typedef struct report_routes {
    duo_store *store;
    const duo_dataset *tokens; /* (R, T+1) */
    size_t R, T, L;
    report_policy *policies; /* (n) */
    size_t n;
} report_routes;

/** A text attribute of the file, or "". */
const char *report_routes_text(const report_routes *routes, const char *name);

/** Members of the object that is open: what the file found in reference context, and the best
 *  fixed patterns; nothing where it has none. */
duo_status report_curves_write(json_out *out, const report_routes *routes);

/** "big" and, when some token skips, "skip": (L, columns) shares of R*T routes, `stride` apart;
 *  neighbouring positions share a column where there are more than fit. */
duo_status report_map_write(json_out *out, const uint8_t *routes, size_t stride, size_t R, size_t T,
                            size_t L, size_t most_cells);

#endif
