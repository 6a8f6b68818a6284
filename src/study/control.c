#include <math.h>
#include <stdlib.h>

#include "control.h"
#include "duo/hindsight.h"
#include "duo/rng.h"
#include "sequences.h"

double study_control_uniform(uint64_t seed, uint64_t row, size_t position)
{
    const duo_place place = {
        .step = row >> 32, .row = (uint32_t)row, .position = (uint32_t)position};
    return duo_uniform(duo_random(seed, DUO_RNG_CONTROL, place).word[0]);
}

/* The id that u in (0, 1) picks from softmax(logits), never one of probability 0, and its loss;
 * false when that is no distribution. */
static bool draw(int32_t *id, float *loss, const float *logits, size_t V, double u)
{
    double most = -INFINITY, sum = 0, up_to = 0;
    for (size_t v = 0; v < V; v++)
        if ((double)logits[v] > most) most = (double)logits[v];
    for (size_t v = 0; v < V; v++) sum += exp((double)logits[v] - most);
    if (!isfinite(sum)) return false;
    size_t last = 0;
    for (size_t v = 0; v < V && up_to <= u * sum; v++) {
        const double mass = exp((double)logits[v] - most);
        if (mass > 0) last = v;
        up_to += mass;
    }
    *id = (int32_t)last;
    *loss = (float)(log(sum) - ((double)logits[last] - most));
    return true;
}

duo_status duo_control_draw(const duo_model *model, const duo_sequences *sequences, uint64_t seed,
                            size_t first_row, int32_t *drawn, float *loss)
{
    const duo_config *config = &model->params.config;
    const duo_pass_shape shape = {.B = 1, .T = sequences->T};
    const size_t R = sequences->R, T = sequences->T, V = config->vocab_size;
    duo_arena arena = {0}, measure = DUO_ARENA_MEASURE;
    duo_status status = study_sequences_check(sequences, config, DUO_EINVAL, "control");
    if (status != DUO_OK) return status;
    float *logits = malloc(T * V * sizeof *logits);
    uint8_t *routes = malloc(T * config->n_layers);
    duo_pass_take(&model->params, shape, &measure);
    status = !logits || !routes ? duo_fail(DUO_ENOMEM, "no memory for the logits of a sequence")
                                : duo_arena_create(&arena, measure.used, "control");
    if (status != DUO_OK) goto done;
    duo_routes_fill(routes, T, config->n_layers, DUO_BIG);
    duo_pass *pass = duo_pass_take(&model->params, shape, &arena);
    for (size_t r = 0; r < R && status == DUO_OK; r++) {
        duo_pass_forward(pass, model, sequences->tokens + r * (T + 1),
                         &(duo_routing){.kind = DUO_ROUTING_GIVEN, .routes = routes});
        duo_pass_logits(pass, model, logits);
        for (size_t t = 0; t < T && status == DUO_OK; t++) {
            const double u = study_control_uniform(seed, first_row + r, t);
            if (!draw(&drawn[r * T + t], &loss[r * T + t], logits + t * V, V, u))
                status = duo_fail(DUO_ENUMBER,
                                  "control: the all-big logits of position %zu of sequence %zu are "
                                  "not finite",
                                  t, first_row + r);
        }
    }

done:
    duo_arena_free(&arena);
    free(logits);
    free(routes);
    return status;
}
