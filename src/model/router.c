#include "router.h"

#include <string.h>

/* ---------------------------------------------------------------- inputs */

size_t duo_router_width(const duo_config *config)
{
    return config->router_hidden > 0 ? config->router_hidden
                                     : duo_module_count(config->router_modules);
}

size_t duo_router_places(const duo_config *config)
{
    size_t places = 2;
    while ((size_t)1 << (places - 2) < config->max_seq) places++;
    return places;
}

/* A place between two rows of a table: (1 - part) of row `at`, part of the next. */
typedef struct place {
    size_t at;
    float part;
} place;

static place place_of_budget(float budget)
{
    const float x = budget * (ROUTER_BUDGETS - 1);
    if (!(x > 0)) return (place){0, 0};
    if (x >= ROUTER_BUDGETS - 1) return (place){ROUTER_BUDGETS - 2, 1};
    return (place){(size_t)x, x - (float)(size_t)x};
}

static place place_of_position(uint32_t position)
{
    const uint64_t t = (uint64_t)position + 1;
    size_t at = 0;
    while ((uint64_t)2 << at <= t) at++;
    const uint64_t power = (uint64_t)1 << at;
    return (place){at, (float)(t - power) / (float)power};
}

/* The table's columns of row i: at most two, with their weights. False: it has none. */
static bool place_of(place *where, duo_slot slot, const duo_router_rows *rows, size_t layer,
                     const duo_config *c, size_t i)
{
    if (slot == DUO_P_ROUTER_BUDGET) {
        *where = place_of_budget(rows->budgets[i / rows->per_budget]);
        return true;
    }
    if (slot == DUO_P_ROUTER_POSITION) {
        *where = place_of_position(rows->positions[i]);
        return true;
    }
    if (layer == 0) return false;
    const unsigned below = *(rows->routes + i * rows->stride - 1);
    if (!duo_module_in(c->router_modules, (duo_module)below)) return false;
    *where = (place){duo_module_count(c->router_modules & ((1u << below) - 1)), 0};
    return true;
}

static size_t columns(duo_slot slot, const duo_config *c)
{
    return slot == DUO_P_ROUTER_BUDGET     ? ROUTER_BUDGETS
           : slot == DUO_P_ROUTER_POSITION ? duo_router_places(c)
                                           : duo_module_count(c->router_modules);
}

/* z += the tables' entries. */
static void add_inputs(float *z, const duo_router_rows *rows, const duo_model *model, size_t layer)
{
    const duo_config *c = &model->params.config;
    const size_t R = duo_router_width(c);
    for (duo_slot slot = DUO_P_ROUTER_BUDGET; slot <= DUO_P_ROUTER_POSITION; slot++) {
        const float *table = duo_tree_at(&model->weights, layer, slot);
        const size_t K = columns(slot, c);
        if (!table) continue;
#pragma omp parallel for num_threads(duo_kernels_threads()) if (rows->n * R > DUO_PARALLEL_MIN)
        for (size_t i = 0; i < rows->n; i++) {
            place p;
            if (!place_of(&p, slot, rows, layer, c, i)) continue;
            for (size_t r = 0; r < R; r++) {
                const float *w = table + r * K + p.at;
                z[i * R + r] += p.part == 0 ? w[0] : (1 - p.part) * w[0] + p.part * w[1];
            }
        }
    }
}

static void inputs_backward(const duo_tree *gradient, const float *dz, const duo_router_rows *rows,
                            const duo_model *model, size_t layer)
{
    const duo_config *c = &model->params.config;
    const size_t R = duo_router_width(c);
    for (duo_slot slot = DUO_P_ROUTER_BUDGET; slot <= DUO_P_ROUTER_POSITION; slot++) {
        float *dtable = duo_tree_at(gradient, layer, slot);
        const size_t K = columns(slot, c);
        if (!dtable) continue;
        for (size_t i = 0; i < rows->n; i++) {
            place p;
            if (!place_of(&p, slot, rows, layer, c, i)) continue;
            for (size_t r = 0; r < R; r++) {
                float *dw = dtable + r * K + p.at;
                dw[0] += (1 - p.part) * dz[i * R + r];
                if (p.part > 0) dw[1] += p.part * dz[i * R + r];
            }
        }
    }
}

/* ---------------------------------------------------------------- forward and backward */

/* Of a leaky rectifier, which keeps signs. Units that are off for all tokens would leave the tokens
 * equal, and no threshold could tell them apart. */
static float slope_at(float z)
{
    return z > 0 ? 1.0f : 0.125f;
}

void duo_router_forward(float *logits, float *hidden, const duo_router_rows *rows,
                        const duo_model *model, size_t layer)
{
    const duo_tree *w = &model->weights;
    const duo_weight *last = duo_model_weight(model, layer, DUO_P_ROUTER_WEIGHT);
    const float *bias = duo_tree_at(w, layer, DUO_P_ROUTER_BIAS);
    const size_t n = rows->n, H = model->params.config.router_hidden;
    if (H == 0) {
        duo_linear_forward(logits, rows->h, last, bias, n, NULL, NULL, false);
        add_inputs(logits, rows, model, layer);
        return;
    }
    duo_linear_forward(hidden, rows->h, duo_model_weight(model, layer, DUO_P_ROUTER_HIDDEN),
                       duo_tree_at(w, layer, DUO_P_ROUTER_HIDDEN_BIAS), n, NULL, NULL, false);
    add_inputs(hidden, rows, model, layer);
    for (size_t i = 0; i < n * H; i++) hidden[i] *= slope_at(hidden[i]);
    duo_linear_forward(logits, hidden, last, bias, n, NULL, NULL, false);
}

void duo_router_backward(const duo_tree *gradient, float *dh, float *dhidden, const float *dlogits,
                         const float *hidden, const duo_router_rows *rows, const duo_model *model,
                         size_t layer)
{
    const duo_config *c = &model->params.config;
    const size_t n = rows->n, H = c->router_hidden, M = duo_module_count(c->router_modules);
    const duo_slot first = H > 0 ? DUO_P_ROUTER_HIDDEN : DUO_P_ROUTER_WEIGHT;
    const duo_slot bias = H > 0 ? DUO_P_ROUTER_HIDDEN_BIAS : DUO_P_ROUTER_BIAS;
    const float *dz = dlogits;
    if (H > 0) {
        float *dlast = duo_tree_at(gradient, layer, DUO_P_ROUTER_WEIGHT);
        if (dlast)
            duo_linear_backward_weight(dlast, duo_tree_at(gradient, layer, DUO_P_ROUTER_BIAS),
                                       dlogits, hidden, n, M, H, NULL, NULL, DUO_FP32);
        duo_linear_backward_input(dhidden, dlogits,
                                  duo_model_weight(model, layer, DUO_P_ROUTER_WEIGHT), n, NULL,
                                  NULL, false);
        for (size_t i = 0; i < n * H; i++) dhidden[i] *= slope_at(hidden[i]);
        dz = dhidden;
    }
    float *dw = duo_tree_at(gradient, layer, first);
    if (dw) {
        duo_linear_backward_weight(dw, duo_tree_at(gradient, layer, bias), dz, rows->h, n,
                                   duo_router_width(c), c->d_model, NULL, NULL, DUO_FP32);
        inputs_backward(gradient, dz, rows, model, layer);
    }
    if (dh)
        duo_linear_backward_input(dh, dz, duo_model_weight(model, layer, first), n, NULL, NULL,
                                  true);
}

void duo_model_lean(duo_model *model, const uint8_t *pattern, float lean)
{
    duo_module codes[DUO_MODULES];
    const size_t M = duo_module_codes(codes, model->params.config.router_modules);
    for (size_t l = 0; l < model->params.config.n_layers; l++)
        for (size_t m = 0; m < M; m++)
            duo_tree_at(&model->weights, l, DUO_P_ROUTER_BIAS)[m] =
                codes[m] == pattern[l] ? lean : 0;
}

/* ---------------------------------------------------------------- choice */

/* Must the token take big in this layer, or may it not? */
typedef enum big_rule { BIG_FREE, BIG_FORCED, BIG_SPENT } big_rule;

static big_rule rule_of_token(const duo_router_rule *rule, const uint8_t *route, size_t layer,
                              size_t L)
{
    size_t spent = 0;
    if (!rule || !rule->exact) return BIG_FREE;
    for (size_t l = 1; l <= layer; l++) spent += *(route - l) == DUO_BIG;
    if (spent >= rule->n_big) return BIG_SPENT;
    return rule->n_big - spent >= L - layer ? BIG_FORCED : BIG_FREE;
}

void duo_router_choose(uint8_t *routes, size_t stride, const float *scores,
                       const duo_config *config, const duo_router_rule *rule, size_t layer,
                       size_t n)
{
    duo_module codes[DUO_MODULES];
    const size_t M = duo_module_codes(codes, config->router_modules);
    float threshold[DUO_MODULES] = {0};
    for (size_t m = 0; m < M && rule; m++) threshold[m] = rule->threshold[codes[m]];
    for (size_t i = 0; i < n; i++) {
        uint8_t *route = routes + i * stride;
        const float *s = scores + i * M;
        const big_rule big = rule_of_token(rule, route, layer, config->n_layers);
        size_t best = 0;
        for (size_t m = 1; m < M; m++) {
            if (codes[m] == DUO_BIG && big == BIG_SPENT) continue;
            if (s[m] - threshold[m] > s[best] - threshold[best]) best = m;
        }
        *route = (uint8_t)(big == BIG_FORCED ? DUO_BIG : codes[best]);
    }
}

/* ---------------------------------------------------------------- rules */

static bool reads_budget(const duo_config *config)
{
    return duo_router_reads(config->router_inputs, DUO_INPUT_BUDGET);
}

size_t duo_threshold_rows(const duo_config *config)
{
    return reads_budget(config) ? config->n_layers + 1 : 1;
}

duo_router_rule duo_model_rule(const duo_model *model, double n_big)
{
    const duo_config *c = &model->params.config;
    const size_t rows = duo_threshold_rows(c);
    const double most = (double)c->n_layers;
    double x = n_big > 0 ? n_big : 0;
    if (x > most) x = most;
    duo_router_rule rule = {.budget = (float)(x / most)};
    size_t row = rows == 1 ? 0 : (size_t)x;
    const double part = rows == 1 ? 0 : x - (double)row;
    for (size_t m = 0; m < DUO_MODULES; m++) {
        const float *at = model->thresholds + row * DUO_MODULES + m;
        rule.threshold[m] =
            part > 0 ? (float)((1 - part) * (double)at[0] + part * (double)at[DUO_MODULES]) : at[0];
    }
    return rule;
}
