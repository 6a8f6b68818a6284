#include <math.h>
#include <string.h>

#include "duo/kernels.h"
#include "duo/sizes.h"
#include "duo/train.h"

enum { FEW = 128, ROUNDS = 12, SWEEPS = 64 };
static const double close_enough = 5e-4;

/* Calibration text and all that a pass over it needs. */
typedef struct calibration {
    const duo_calibration *settings;
    duo_model *model;
    size_t windows; /* looked at; of all, `all` */
    size_t all, rows, L, M;
    duo_module codes[DUO_MODULES];
    duo_arena arena;
    duo_pass *pass;
    int32_t *tokens; /* (rows, T+1) */
    uint8_t *routes; /* (rows, T, L) */
    uint64_t *usage; /* (L, DUO_MODULES) */
    float *scores;   /* (all, T, L, M), and the last block's unused rows */
    bool halted;     /* at a wish to stop or, with a status, at a bad number */
    duo_status status;
} calibration;

void duo_calibration_clear(duo_model *model)
{
    const size_t rows = duo_threshold_rows(&model->params.config);
    const double n_big = (double)model->rule.budget * (double)model->params.config.n_layers;
    memset(model->thresholds, 0, rows * DUO_MODULES * sizeof *model->thresholds);
    model->calibrated = false;
    model->rule = duo_model_rule(model, n_big);
}

/* All but the pass. */
static void lay_out(calibration *c, duo_arena *arena)
{
    const size_t T = c->settings->T, rows = c->rows;
    const size_t blocks = (c->all + rows - 1) / rows;
    c->tokens = DUO_TAKE(arena, int32_t, rows * (T + 1));
    c->routes = DUO_TAKE(arena, uint8_t, rows * T * c->L);
    c->usage = DUO_TAKE(arena, uint64_t, c->L * DUO_MODULES);
    c->scores = DUO_TAKE(arena, float, blocks *rows *T * c->L * c->M);
}

static void lay_out_with_pass(calibration *c, const duo_params *params, duo_arena *arena)
{
    const duo_pass_shape shape = {.B = c->rows, .T = c->settings->T, .routers = true};
    c->pass = c->settings->pass ? c->settings->pass : duo_pass_take(params, shape, arena);
    lay_out(c, arena);
}

/* Of a calibration by a pass of its own or, without that, by the trainer's. */
static size_t calibration_bytes(const duo_params *params, const duo_stage_recipe *stage,
                                bool own_pass)
{
    const duo_calibration settings = {.T = stage->seq_len};
    calibration c = {.settings = &settings,
                     .all = stage->calibrate,
                     .rows = stage->micro_batch,
                     .L = params->config.n_layers,
                     .M = duo_module_count(params->config.router_modules)};
    duo_arena measured = DUO_ARENA_MEASURE;
    if (own_pass)
        lay_out_with_pass(&c, params, &measured);
    else
        lay_out(&c, &measured);
    return measured.used;
}

/* Of best.h5, when the trainer is gone: a second model, which is calibrated, and saved with its
 * moments. */
static size_t best_bytes(const duo_params *params, const duo_stage_recipe *stage)
{
    duo_arena packs = DUO_ARENA_MEASURE, moments = DUO_ARENA_MEASURE;
    duo_tree tree;
    duo_model_take_packs(NULL, params, stage->precision, false, &packs);
    for (int i = 0; i < 2; i++) duo_tree_take(&tree, params, duo_stage_trains(stage), &moments);
    return duo_model_bytes(params) + packs.used +
           duo_max(calibration_bytes(params, stage, true), moments.used);
}

size_t duo_stage_bytes(const duo_params *params, const duo_stage_recipe *stage)
{
    const size_t trainer = duo_trainer_bytes(params, stage);
    if (!duo_stage_calibrates(stage)) return trainer;
    const size_t last = trainer + calibration_bytes(params, stage, stage->precision != DUO_FP32);
    const bool earlier_best = stage->val_every > 0 && stage->val_every < stage->steps;
    return earlier_best ? duo_max(last, best_bytes(params, stage)) : last;
}

/* ---------------------------------------------------------------- measuring */

/* A score that is not finite has no place among the others. */
static bool check_scores(calibration *c, const float *scores, size_t n)
{
    if (duo_all_finite(scores, n)) return true;
    size_t i = 0;
    while (isfinite(scores[i])) i++;
    c->halted = true;
    c->status = duo_fail(DUO_ENUMBER, "calibration: layer %zu, a router's score is not finite",
                         i / c->M % c->L);
    return false;
}

/* Count the routes of windows first .. of n; how many they are. */
static size_t route(calibration *c, duo_split split, size_t n, size_t first,
                    const duo_router_rule *rule)
{
    const size_t T = c->settings->T, rows = n - first < c->rows ? n - first : c->rows;
    const duo_routing routing = {.kind = DUO_ROUTING_ROUTER, .routes = c->routes, .rule = rule};
    duo_tokens_spread(c->settings->tokens, split, -1, T, n, first, c->rows, c->tokens);
    duo_pass_forward(c->pass, c->model, c->tokens, &routing);
    duo_routes_count(c->usage, c->routes, rows * T, c->L);
    return rows;
}

/* Run all windows under a rule: scores of every token and layer, and the shares of the modules.
 * False when it has halted. */
static bool measure(calibration *c, const duo_router_rule *rule, double shares[DUO_MODULES])
{
    const duo_calibration *settings = c->settings;
    const size_t T = settings->T, L = c->L;
    memset(c->usage, 0, L * DUO_MODULES * sizeof *c->usage);
    for (size_t first = 0; first < c->windows; first += c->rows) {
        c->halted = settings->stop && settings->stop();
        if (c->halted) return false;
        float *scores = c->scores + first * T * L * c->M;
        const size_t rows = route(c, DUO_TRAIN, c->windows, first, rule);
        duo_pass_router_logits(c->pass, scores);
        if (!check_scores(c, scores, rows * T * L * c->M)) return false;
    }
    duo_routes_shares(shares, c->usage, L);
    return true;
}

/* Under the model's rule, where there is such text. */
static void measure_held_out(calibration *c, double shares[DUO_MODULES])
{
    const duo_calibration *settings = c->settings;
    const size_t there = duo_tokens_windows(settings->tokens, DUO_HELD_OUT, -1, settings->T);
    const size_t n = settings->held_out < there ? settings->held_out : there;
    memset(c->usage, 0, c->L * DUO_MODULES * sizeof *c->usage);
    for (size_t first = 0; first < n; first += c->rows) route(c, DUO_HELD_OUT, n, first, NULL);
    if (n > 0) duo_routes_shares(shares, c->usage, c->L);
}

static double largest_miss(const double shares[DUO_MODULES], const double target[DUO_MODULES])
{
    double miss = 0;
    for (size_t m = 0; m < DUO_MODULES; m++)
        if (target[m] >= 0) miss = fmax(miss, fabs(shares[m] - target[m]));
    return miss;
}

/* ---------------------------------------------------------------- thresholds */

/* How far the score of module m at choice i lies above the best of the others. */
static float margin(const calibration *c, const float threshold[DUO_MODULES], size_t m, size_t i)
{
    const float *s = c->scores + i * c->M;
    float best = -INFINITY;
    for (size_t k = 0; k < c->M; k++)
        if (k != m) best = fmaxf(best, s[k] - threshold[c->codes[k]]);
    return s[m] - best;
}

/* Integers in the order of the floats. */
static uint32_t order_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits >> 31 ? ~bits : bits | 1u << 31;
}

static float float_of(uint32_t order)
{
    const uint32_t bits = order >> 31 ? order ^ 1u << 31 : ~order;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The margin that would stand at place k if all n were sorted, and the one before it if k > 0:
 * digit by digit, since to keep them would take half as much memory again as the scores. */
static float kth_margin(const calibration *c, const float threshold[DUO_MODULES], size_t m,
                        size_t n, size_t k, float *before)
{
    uint32_t found = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        size_t counts[256] = {0};
        uint32_t digit = 0;
        for (size_t i = 0; i < n; i++) {
            const uint32_t order = order_of(margin(c, threshold, m, i));
            if ((uint64_t)order >> (shift + 8) == (uint64_t)found >> (shift + 8))
                counts[order >> shift & 255]++;
        }
        while (k >= counts[digit]) k -= counts[digit++];
        found |= digit << shift;
    }
    /* k is now the place among those that equal it. */
    uint32_t below = k > 0 ? found : 0;
    for (size_t i = 0; k == 0 && i < n; i++) {
        const uint32_t order = order_of(margin(c, threshold, m, i));
        if (order < found && order > below) below = order;
    }
    *before = float_of(below);
    return float_of(found);
}

/* The threshold of module m at which its share is `target` of the scores, the others' being what
 * they are: a quantile of its margins. */
static float quantile(const calibration *c, const float threshold[DUO_MODULES], size_t m,
                      double target)
{
    const size_t n = c->windows * c->settings->T * c->L;
    const size_t others = n - (size_t)(target * (double)n + 0.5);
    float before;
    if (others == n) return kth_margin(c, threshold, m, n, n - 1, &before) + 1;
    const float lowest = kth_margin(c, threshold, m, n, others, &before);
    return others == 0 ? lowest - 1 : 0.5f * (before + lowest);
}

/* Thresholds under which the scores at hand give the targets. Where every module has one, the
 * lowest follows from the others. Two modules need one sweep, three alternate. */
static void solve(calibration *c, duo_router_rule *rule, const double target[DUO_MODULES])
{
    const size_t M = c->M;
    bool all = true;
    for (size_t m = 0; m < M; m++) all = all && target[c->codes[m]] >= 0;
    memset(rule->threshold, 0, sizeof rule->threshold);
    for (size_t sweep = 0; sweep < (M == 2 ? 1 : SWEEPS); sweep++) {
        const duo_router_rule before = *rule;
        for (size_t m = all ? 1 : 0; m < M; m++) {
            const duo_module code = c->codes[m];
            if (target[code] >= 0)
                rule->threshold[code] = quantile(c, rule->threshold, m, target[code]);
        }
        if (memcmp(before.threshold, rule->threshold, sizeof before.threshold) == 0) return;
    }
}

/* ---------------------------------------------------------------- search */

/* What is known of the one threshold of two modules, whose share falls as it rises. */
typedef struct bracket {
    duo_module code;
    float low, high; /* too low, too high */
} bracket;

static bracket bracket_of(const calibration *c, const double target[DUO_MODULES])
{
    bracket b = {.code = c->codes[1], .low = -INFINITY, .high = INFINITY};
    if (target[b.code] < 0) b.code = c->codes[0];
    return b;
}

static void narrow(bracket *b, float threshold, bool too_low)
{
    if (too_low)
        b->low = fmaxf(b->low, threshold);
    else
        b->high = fminf(b->high, threshold);
}

/* Thresholds move routes, and routes move scores: from `at`, the answer to the scores there is
 * `solved`. Where routes answer strongly that runs past the goal, or creeps towards it: two modules
 * then halve what is left, others take smaller steps. */
static float next_threshold(const bracket *b, size_t round, float at, float solved)
{
    if (!b) return at + (round < 2 ? 1 : round < 6 ? 0.5f : 0.25f) * (solved - at);
    if (!isfinite(b->low) || !isfinite(b->high)) return at + (round < 2 ? 1 : 2) * (solved - at);
    const bool outside = solved <= b->low || solved >= b->high;
    return outside || round % 3 == 2 ? b->low + 0.5f * (b->high - b->low) : solved;
}

/* The best rule found on c->windows windows, from `rule` on. */
static void search(calibration *c, duo_router_rule *rule, const double target[DUO_MODULES],
                   duo_calibrated *found)
{
    double shares[DUO_MODULES];
    duo_router_rule tried = *rule;
    bracket one = bracket_of(c, target), *known = c->M == 2 ? &one : NULL;
    found->miss = INFINITY;
    for (size_t round = 0; round <= ROUNDS; round++) {
        if (!measure(c, &tried, shares)) return;
        const double miss = largest_miss(shares, target);
        if (miss < found->miss) {
            found->miss = miss;
            *rule = tried;
            memcpy(found->after, shares, sizeof shares);
        }
        if (miss < close_enough || round == ROUNDS) break;
        if (known) narrow(known, tried.threshold[one.code], shares[one.code] > target[one.code]);
        const duo_router_rule before = tried;
        solve(c, &tried, target);
        for (size_t m = 0; m < DUO_MODULES; m++)
            tried.threshold[m] = next_threshold(m == one.code ? known : NULL, round,
                                                before.threshold[m], tried.threshold[m]);
    }
}

/* On a few windows first, which brings the thresholds near. */
static duo_calibrated calibrate_rule(calibration *c, duo_router_rule *rule,
                                     const double target[DUO_MODULES])
{
    duo_calibrated found = {.windows = c->all};
    memset(rule->threshold, 0, sizeof rule->threshold);
    c->windows = c->all;
    if (!measure(c, rule, found.before)) return found;
    c->windows = c->all < FEW ? c->all : FEW;
    search(c, rule, target, &found);
    if (c->windows == c->all || c->halted) return found;
    c->windows = c->all;
    search(c, rule, target, &found);
    return found;
}

static void calibrate_budgets(calibration *c, duo_calibrated *calibrated)
{
    duo_model *model = c->model;
    const size_t L = c->L;
    size_t first = (size_t)ceil(c->settings->budget_min),
           last = (size_t)floor(c->settings->budget_max);
    if (last > L) last = L;
    if (first > last) first = last;
    for (size_t k = first; k <= last && !c->halted; k++) {
        duo_router_rule rule = {.budget = (float)((double)k / (double)L)};
        double target[DUO_MODULES] = {-1, -1, -1};
        target[DUO_BIG] = (double)k / (double)L;
        const duo_calibrated found = calibrate_rule(c, &rule, target);
        if (k == first || found.miss > calibrated->miss) {
            *calibrated = found;
            calibrated->n_big = (double)k;
        }
        memcpy(model->thresholds + k * DUO_MODULES, rule.threshold, sizeof rule.threshold);
    }
    for (size_t k = 0; k <= L; k++) {
        const size_t nearest = k < first ? first : last;
        if (k >= first && k <= last) continue;
        memcpy(model->thresholds + k * DUO_MODULES, model->thresholds + nearest * DUO_MODULES,
               DUO_MODULES * sizeof *model->thresholds);
    }
}

duo_status duo_calibrate(duo_model *model, const duo_calibration *settings,
                         duo_calibrated *calibrated)
{
    const duo_config *config = &model->params.config;
    const size_t there = duo_tokens_windows(settings->tokens, DUO_TRAIN, -1, settings->T);
    calibration c = {.settings = settings, .model = model, .L = config->n_layers};
    if (config->router_modules == 0)
        return duo_fail(DUO_EINVAL, "the model has no routers to calibrate");
    c.M = duo_module_codes(c.codes, config->router_modules);
    c.all = settings->windows < there ? settings->windows : there;
    if (c.all == 0)
        return duo_fail(DUO_EINVAL, "%s: no window of %zu training tokens to calibrate on",
                        duo_tokens_path(settings->tokens), settings->T + 1);
    c.rows = settings->pass || settings->rows < c.all ? settings->rows : c.all;
    duo_arena measured = DUO_ARENA_MEASURE;
    lay_out_with_pass(&c, &model->params, &measured);
    const duo_status status = duo_arena_create(&c.arena, measured.used, "calibration");
    if (status != DUO_OK) return status;
    lay_out_with_pass(&c, &model->params, &c.arena);

    const double n_big = (double)model->rule.budget * (double)c.L;
    if (duo_router_reads(config->router_inputs, DUO_INPUT_BUDGET)) {
        calibrate_budgets(&c, calibrated);
    } else {
        duo_router_rule rule = model->rule;
        *calibrated = calibrate_rule(&c, &rule, settings->target);
        memcpy(model->thresholds, rule.threshold, sizeof rule.threshold);
    }
    model->calibrated = true;
    calibrated->stopped = c.halted;
    if (c.halted) duo_calibration_clear(model);
    model->rule = duo_model_rule(model, n_big);
    if (!c.halted) measure_held_out(&c, calibrated->held_out);
    duo_arena_free(&c.arena);
    return c.status;
}
