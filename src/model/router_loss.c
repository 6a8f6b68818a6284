#include "router_loss.h"

#include <math.h>
#include <string.h>

#include "router.h"

/* ---------------------------------------------------------------- costs */

void duo_router_costs(double costs[DUO_MODULES], const duo_config *config)
{
    double least = INFINITY, most = 0;
    for (duo_module m = 0; m < DUO_MODULES; m++) {
        costs[m] = duo_flops_ffn(config, m);
        if (!duo_module_in(config->router_modules, m)) continue;
        least = fmin(least, costs[m]);
        most = fmax(most, costs[m]);
    }
    for (duo_module m = 0; m < DUO_MODULES; m++)
        costs[m] = most > least ? (costs[m] - least) / (most - least) : 0;
}

double duo_router_cost(const duo_config *config, const double target[DUO_MODULES])
{
    double costs[DUO_MODULES], cost = 0, rest = 1, cheapest = INFINITY;
    duo_router_costs(costs, config);
    for (duo_module m = 0; m < DUO_MODULES; m++) {
        if (!duo_module_in(config->router_modules, m)) continue;
        if (target[m] < 0) {
            cheapest = fmin(cheapest, costs[m]);
            continue;
        }
        cost += target[m] * costs[m];
        rest -= target[m];
    }
    return isfinite(cheapest) && rest > 0 ? cost + rest * cheapest : cost;
}

double duo_router_cost_of_flops(const duo_config *config, double ffn_flops)
{
    double least = INFINITY, most = 0;
    for (duo_module m = 0; m < DUO_MODULES; m++) {
        if (!duo_module_in(config->router_modules, m)) continue;
        least = fmin(least, duo_flops_ffn(config, m));
        most = fmax(most, duo_flops_ffn(config, m));
    }
    return (ffn_flops / (double)config->n_layers - least) / (most - least);
}

/* ---------------------------------------------------------------- shares */

void duo_router_shares(duo_pass *pass)
{
    const size_t T = pass->shape.T, L = pass->n_layers,
                 M = duo_module_count(pass->config.router_modules);
    for (size_t b = 0; b < pass->shape.B; b++)
        for (size_t l = 0; l < L; l++)
            for (size_t m = 0; m < M; m++) {
                double sum = 0;
                for (size_t t = 0; t < T; t++)
                    sum += (double)pass->layers[l].clean[(b * T + t) * M + m];
                pass->shares[(b * L + l) * M + m] = sum / (double)T;
            }
}

void duo_pass_router_shares(const duo_pass *pass, double *shares)
{
    duo_module codes[DUO_MODULES];
    const size_t L = pass->n_layers, M = duo_module_codes(codes, pass->config.router_modules);
    for (size_t b = 0; b < pass->shape.B; b++)
        for (size_t l = 0; l < L; l++)
            for (size_t m = 0; m < M; m++)
                shares[l * DUO_MODULES + codes[m]] += pass->shares[(b * L + l) * M + m];
}

void duo_pass_router_logits(const duo_pass *pass, float *logits)
{
    const size_t L = pass->n_layers, M = duo_module_count(pass->config.router_modules);
    for (size_t n = 0; n < pass->N; n++)
        for (size_t l = 0; l < L; l++)
            memcpy(logits + (n * L + l) * M, pass->layers[l].logits + n * M, M * sizeof *logits);
}

/* ---------------------------------------------------------------- penalties */

/* What is wanted of sequence b, and what it has: means over layers. */
typedef struct wanted {
    size_t M;
    duo_module codes[DUO_MODULES];
    double target[DUO_MODULES], share[DUO_MODULES]; /* (M) */
    double costs[DUO_MODULES], off_cost;            /* flops: costs (M), P c - c */
} wanted;

static wanted wanted_of(const duo_pass *pass, const duo_routing *routing, size_t b)
{
    const size_t L = pass->n_layers;
    double target[DUO_MODULES], costs[DUO_MODULES];
    wanted w = {0};
    w.M = duo_module_codes(w.codes, pass->config.router_modules);
    memcpy(target, routing->loss.target, sizeof target);
    if (routing->budgets) target[DUO_BIG] = (double)routing->budgets[b];
    for (size_t m = 0; m < w.M; m++) {
        double sum = 0;
        for (size_t l = 0; l < L; l++) sum += pass->shares[(b * L + l) * w.M + m];
        w.share[m] = sum / (double)L;
        w.target[m] = target[w.codes[m]];
    }
    if (routing->loss.penalty != DUO_PENALTY_FLOPS) return w;
    duo_router_costs(costs, &pass->config);
    w.off_cost = routing->budgets ? -duo_router_cost(&pass->config, target) : -routing->loss.cost;
    for (size_t m = 0; m < w.M; m++) {
        w.costs[m] = costs[w.codes[m]];
        w.off_cost += w.share[m] * w.costs[m];
    }
    return w;
}

static double penalty_of(const wanted *w, const duo_router_loss *loss)
{
    double sum = 0;
    if (loss->penalty == DUO_PENALTY_FLOPS) return w->off_cost * w->off_cost;
    for (size_t m = 0; m < w->M; m++) {
        const double off = w->share[m] - w->target[m];
        if (w->target[m] < 0) continue;
        if (loss->penalty == DUO_PENALTY_HINGE)
            sum += off > 0 ? off : 0;
        else
            sum += off * off;
        if (loss->penalty == DUO_PENALTY_LAGRANGIAN) sum += loss->multiplier[w->codes[m]] * off;
    }
    return sum;
}

/* By the share of module m. */
static double penalty_slope(const wanted *w, const duo_router_loss *loss, size_t m)
{
    const double off = w->share[m] - w->target[m];
    if (loss->penalty == DUO_PENALTY_FLOPS) return 2 * w->off_cost * w->costs[m];
    if (w->target[m] < 0) return 0;
    if (loss->penalty == DUO_PENALTY_HINGE) return off > 0 ? 1 : 0;
    return 2 * off + (loss->penalty == DUO_PENALTY_LAGRANGIAN ? loss->multiplier[w->codes[m]] : 0);
}

static double balance_of(const wanted *w, const double *layer_share)
{
    double sum = 0;
    for (size_t m = 0; m < w->M; m++) {
        const double off = layer_share[m] - w->target[m];
        if (w->target[m] >= 0) sum += off * off;
    }
    return sum;
}

/* ---------------------------------------------------------------- tokens */

/* log sum exp of the logits h with p = softmax(h): from the largest, whose p is at least 1 / M. */
static double log_sum(const float *h, const float *p, size_t M)
{
    const size_t best = duo_argmax(h, M);
    return (double)h[best] - log((double)p[best]);
}

/* The row of the router that the teacher names; M: none. */
static size_t row_of(const wanted *w, uint8_t code)
{
    size_t m = 0;
    while (m < w->M && w->codes[m] != code) m++;
    return m;
}

/* (1 - p)^focal without a power of zero when there is none. */
static double focus(double p, double focal)
{
    return focal == 0 ? 1 : pow(1 - p, focal);
}

/* How far the difference of logits m and k is from their gap. False: there is none. */
static bool gap_error(double *error, const wanted *w, const duo_router_loss *loss, const float *h,
                      const float *values, size_t m, size_t k)
{
    const double v_m = (double)values[w->codes[m]], v_k = (double)values[w->codes[k]];
    if (!isfinite(v_m) || !isfinite(v_k)) return false;
    *error = ((double)h[m] - (double)h[k]) - (v_k - v_m) / loss->unit;
    return true;
}

static double huber(double error, double bound)
{
    const double size = fabs(error);
    return bound == 0 || size <= bound ? error * error / 2 : bound * (size - bound / 2);
}

static double huber_slope(double error, double bound)
{
    return bound == 0 || fabs(error) <= bound ? error : error > 0 ? bound : -bound;
}

static double regression(const wanted *w, const duo_router_loss *loss, const float *h,
                         const float *values)
{
    double sum = 0, error = 0;
    for (size_t k = 1; k < w->M; k++)
        for (size_t m = 0; m < k; m++)
            if (gap_error(&error, w, loss, h, values, m, k)) sum += huber(error, loss->huber);
    return sum;
}

/* What the teacher says of one row of one layer. */
typedef struct lesson {
    const uint8_t *route; /* or NULL */
    const float *values;  /* (DUO_MODULES), or NULL */
} lesson;

static lesson lesson_of(const duo_router_loss *loss, size_t choice)
{
    return (lesson){loss->teacher ? loss->teacher + choice : NULL,
                    loss->values ? loss->values + choice * DUO_MODULES : NULL};
}

/* The terms of one row of one layer, added up. */
static void add_row(duo_router_terms *terms, const wanted *w, const duo_router_loss *loss,
                    const float *h, const float *p, lesson from)
{
    const double lse = log_sum(h, p, w->M);
    terms->z += lse * lse;
    const size_t y = from.route ? row_of(w, *from.route) : w->M;
    if (from.values)
        terms->teacher += regression(w, loss, h, from.values);
    else if (y < w->M)
        terms->teacher += focus((double)p[y], loss->focal) * (lse - (double)h[y]);
    if (y >= w->M) return;
    terms->taught++;
    terms->agree += duo_argmax(h, w->M) == y;
}

void duo_pass_router_loss(const duo_pass *pass, const duo_routing *routing, duo_router_terms *terms)
{
    const duo_router_loss *loss = &routing->loss;
    const size_t B = pass->shape.B, T = pass->shape.T, L = pass->n_layers;
#pragma omp parallel for num_threads(duo_kernels_threads())
    for (size_t b = 0; b < B; b++) {
        const wanted w = wanted_of(pass, routing, b);
        duo_router_terms sum = {.penalty = penalty_of(&w, loss)};
        for (size_t l = 0; l < L; l++) {
            const duo_layer_state *s = &pass->layers[l];
            sum.balance += balance_of(&w, pass->shares + (b * L + l) * w.M);
            for (size_t n = b * T; n < (b + 1) * T; n++)
                add_row(&sum, &w, loss, s->logits + n * w.M, s->clean + n * w.M,
                        lesson_of(loss, n * L + l));
        }
        sum.balance /= (double)L;
        sum.z /= (double)(L * T);
        sum.teacher /= (double)(L * T);
        sum.agree /= sum.taught > 0 ? sum.taught : 1;
        sum.total = loss->alpha * sum.penalty + loss->balance * sum.balance + loss->z * sum.z +
                    loss->teach * sum.teacher;
        terms[b] = sum;
    }
}

/* ---------------------------------------------------------------- gradient */

/* What -(1 - p_y)^f log p_y pulls at: its slope by p_y, times p_y. */
static double pull_of(double p_y, double log_p, double f)
{
    double pull = -focus(p_y, f);
    if (f > 0 && p_y < 1) pull += f * p_y * pow(1 - p_y, f - 1) * log_p;
    return pull;
}

static void regression_gradient(float *dh, const wanted *w, const duo_router_loss *loss,
                                double scale, const float *h, const float *values)
{
    double error = 0;
    for (size_t k = 1; k < w->M; k++)
        for (size_t m = 0; m < k; m++) {
            if (!gap_error(&error, w, loss, h, values, m, k)) continue;
            const float d = (float)(loss->teach * scale * huber_slope(error, loss->huber));
            dh[m] += d;
            dh[k] -= d;
        }
}

/* dh_m of one row. Through a softmax p: p_m (d_m - sum_k p_k d_k). */
static void row_gradient(float *dh, const wanted *w, const duo_router_loss *loss,
                         const double slope[DUO_MODULES], double scale, const float *h,
                         const float *p, lesson from)
{
    const size_t M = w->M, y = from.route && !from.values ? row_of(w, *from.route) : M;
    double mean = 0;
    for (size_t m = 0; m < M; m++) mean += (double)p[m] * slope[m];
    const double lse = loss->z > 0 || y < M ? log_sum(h, p, M) : 0;
    const double pull = y < M ? pull_of((double)p[y], (double)h[y] - lse, loss->focal) : 0;
    for (size_t m = 0; m < M; m++) {
        const double p_m = (double)p[m];
        double d = p_m * (slope[m] - mean) + loss->z * scale * 2 * lse * p_m;
        if (y < M) d += loss->teach * scale * pull * ((m == y ? 1 : 0) - p_m);
        dh[m] += (float)d;
    }
    if (from.values) regression_gradient(dh, w, loss, scale, h, from.values);
}

void duo_router_loss_backward(float *dlogits, const duo_pass *pass, const duo_routing *routing,
                              size_t l, double drouter)
{
    const size_t B = pass->shape.B, T = pass->shape.T, L = pass->n_layers;
    const duo_layer_state *s = &pass->layers[l];
    duo_router_loss loss = routing->loss;
    loss.z *= drouter;
    loss.teach *= drouter;
    const double per_row = 1 / (double)(L * T);
#pragma omp parallel for num_threads(duo_kernels_threads())
    for (size_t b = 0; b < B; b++) {
        const wanted w = wanted_of(pass, routing, b);
        double slope[DUO_MODULES] = {0};
        for (size_t m = 0; m < w.M; m++) {
            const double off = pass->shares[(b * L + l) * w.M + m] - w.target[m];
            slope[m] = loss.alpha * penalty_slope(&w, &loss, m);
            if (w.target[m] >= 0) slope[m] += loss.balance * 2 * off;
            slope[m] *= drouter * per_row;
        }
        for (size_t n = b * T; n < (b + 1) * T; n++)
            row_gradient(dlogits + n * w.M, &w, &loss, slope, per_row, s->logits + n * w.M,
                         s->clean + n * w.M, lesson_of(&loss, n * L + l));
    }
}
