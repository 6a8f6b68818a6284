#include <math.h>
#include <stdlib.h>

#include "duo/hindsight.h"
#include "report_results.h"

enum { MAPS_CELLS = 40000 };

/* ---------------------------------------------------------------- reference context */

static duo_status find_curve(const report_routes *r, const char *routes_name, const char *loss_name,
                             duo_route_curve *curve)
{
    const duo_dataset *routes = NULL, *loss = NULL;
    duo_status status = duo_store_require(r->store, routes_name, DUO_U8,
                                          (duo_shape){4, {r->R, r->T, r->L + 1, r->L}}, &routes);
    if (status == DUO_OK)
        status = duo_store_require(r->store, loss_name, DUO_F32,
                                   (duo_shape){3, {r->R, r->T, r->L + 1}}, &loss);
    if (status != DUO_OK) return status;
    *curve = (duo_route_curve){(uint8_t *)routes->data, (float *)loss->data};
    return DUO_OK;
}

static void write_estimates(json_out *out, const char *key, const duo_estimate *estimates, size_t n)
{
    json_key(out, key);
    json_begin(out, '[');
    for (size_t b = 0; b < n; b++) {
        json_begin(out, '[');
        json_number(out, estimates[b].mean, 6);
        json_number(out, estimates[b].error, 3);
        json_end(out, ']');
    }
    json_end(out, ']');
}

/* Without an all-big route there is no gain to speak of: the losses alone. */
static duo_status write_losses(json_out *out, const report_routes *r, const duo_route_curve *oracle)
{
    const size_t budgets = r->L + 1;
    double *means = calloc(r->R, sizeof *means);
    duo_estimate *loss = calloc(budgets, sizeof *loss);
    duo_status status = DUO_OK;
    if (!means || !loss) {
        status = duo_fail(DUO_ENOMEM, "no memory for the means of %zu sequences", r->R);
        goto done;
    }
    for (size_t b = 0; b < budgets; b++) {
        duo_sequence_means(means, oracle->loss + b, r->R, r->T, budgets);
        loss[b] = duo_estimate_mean(means, r->R);
    }
    write_estimates(out, "oracle", loss, budgets);

done:
    free(means);
    free(loss);
    return status;
}

static bool has_all_big(const report_routes *r, const duo_route_curve *oracle)
{
    for (size_t n = 0; n < r->R * r->T; n++)
        for (size_t l = 0; l < r->L; l++)
            if (oracle->routes[(n * (r->L + 1) + r->L) * r->L + l] != DUO_BIG) return false;
    return true;
}

static duo_status write_hindsight(json_out *out, const report_routes *r, duo_reference *reference)
{
    const duo_sequences sequences = {.R = r->R, .T = r->T, .tokens = (int32_t *)r->tokens->data};
    duo_hindsight h;
    duo_status status =
        find_curve(r, "/reference/control/routes", "/reference/control/loss", &reference->control);
    if (status == DUO_OK)
        status = find_curve(r, "/reference/label_free/routes", "/reference/label_free/loss",
                            &reference->label_free);
    if (status == DUO_OK) status = duo_hindsight_measure(&h, reference, &sequences, r->L);
    if (status != DUO_OK) return status;
    write_estimates(out, "oracle", h.oracle, h.budgets);
    write_estimates(out, "gain", h.gain, h.budgets);
    write_estimates(out, "control", h.control, h.budgets);
    write_estimates(out, "corrected", h.corrected, h.budgets);
    write_estimates(out, "label_free", h.label_free, h.budgets);
    write_estimates(out, "label_free_gain", h.label_free_gain, h.budgets);
    duo_hindsight_free(&h);
    return DUO_OK;
}

static bool reachable(const report_routes *r, const duo_route_curve *oracle, size_t b)
{
    for (size_t n = 0; n < r->R * r->T; n++)
        if (!isfinite(oracle->loss[n * (r->L + 1) + b])) return false;
    return true;
}

static duo_status write_maps(json_out *out, const report_routes *r, const duo_route_curve *oracle)
{
    const size_t budgets = r->L + 1, L = r->L;
    duo_status status = DUO_OK;
    json_key(out, "maps");
    json_begin(out, '[');
    for (size_t b = 0; b < budgets && status == DUO_OK; b++) {
        json_begin(out, '{');
        if (reachable(r, oracle, b))
            status = report_map_write(out, oracle->routes + b * L, budgets * L, r->R, r->T, L,
                                      MAPS_CELLS / budgets);
        json_end(out, '}');
    }
    json_end(out, ']');
    return status;
}

static duo_status write_reference(json_out *out, const report_routes *r)
{
    duo_reference reference = {0};
    duo_status status =
        find_curve(r, "/reference/oracle/routes", "/reference/oracle/loss", &reference.oracle);
    if (status != DUO_OK) return status;
    json_key(out, "curves");
    json_begin(out, '{');
    status =
        has_all_big(r, &reference.oracle) && duo_store_find(r->store, "/reference/control/loss")
            ? write_hindsight(out, r, &reference)
            : write_losses(out, r, &reference.oracle);
    if (status == DUO_OK) status = write_maps(out, r, &reference.oracle);
    json_end(out, '}');
    return status;
}

/* ---------------------------------------------------------------- fixed patterns */

static duo_status write_fixed(json_out *out, const report_routes *r)
{
    const duo_dataset *loss = NULL;
    const duo_status status =
        duo_store_require(r->store, "/fixed/loss", DUO_F64, (duo_shape){1, {r->L + 1}}, &loss);
    if (status != DUO_OK) return status;
    json_key(out, "fixed");
    json_begin(out, '[');
    for (size_t b = 0; b <= r->L; b++) json_number(out, ((const double *)loss->data)[b], 6);
    json_end(out, ']');
    return DUO_OK;
}

duo_status report_curves_write(json_out *out, const report_routes *r)
{
    duo_status status = DUO_OK;
    if (duo_store_find(r->store, "/reference/oracle/loss")) status = write_reference(out, r);
    if (status == DUO_OK && duo_store_find(r->store, "/fixed/loss")) status = write_fixed(out, r);
    return status;
}
