#include "plain.h"

#include <math.h>

void plain_compare(plain_error *error, double got, double want)
{
    error->worst = fmax(error->worst, fabs(got - want));
    error->squares += want * want;
    error->n++;
}

double plain_error_value(const plain_error *error)
{
    return error->worst / sqrt(error->squares / (double)error->n);
}

static double sigmoid(double z)
{
    return 1 / (1 + exp(-z));
}

double plain_swiglu(const float *a, const float *gate, const float *up, size_t n)
{
    plain_error error = {0};
    for (size_t i = 0; i < n; i++) {
        const double z = (double)gate[i];
        plain_compare(&error, (double)a[i], z * sigmoid(z) * (double)up[i]);
    }
    return plain_error_value(&error);
}

double plain_swiglu_gradient(const float *dgate, const float *dup, const float *da,
                             const float *gate, const float *up, size_t n)
{
    plain_error error = {0};
    for (size_t i = 0; i < n; i++) {
        const double z = (double)gate[i], s = sigmoid(z), d = (double)da[i];
        plain_compare(&error, (double)dgate[i], d * (double)up[i] * s * (1 + z * (1 - s)));
        plain_compare(&error, (double)dup[i], d * z * s);
    }
    return plain_error_value(&error);
}

static double inverse_norm(const float *x_n, size_t C, double eps)
{
    double squares = 0;
    for (size_t c = 0; c < C; c++) squares += (double)x_n[c] * (double)x_n[c];
    return 1 / sqrt(squares / (double)C + eps);
}

double plain_rmsnorm(const float *y, const float *x, const float *g, size_t N, size_t C, double eps)
{
    plain_error error = {0};
    for (size_t n = 0; n < N; n++) {
        const double r = inverse_norm(x + n * C, C, eps);
        for (size_t c = 0; c < C; c++)
            plain_compare(&error, (double)y[n * C + c], (double)g[c] * (double)x[n * C + c] * r);
    }
    return plain_error_value(&error);
}

double plain_rmsnorm_gradient(const float *dx, const float *dy, const float *x, const float *g,
                              size_t N, size_t C, double eps)
{
    plain_error error = {0};
    for (size_t n = 0; n < N; n++) {
        const float *x_n = x + n * C, *dy_n = dy + n * C;
        const double r = inverse_norm(x_n, C, eps);
        double mean = 0;
        for (size_t c = 0; c < C; c++)
            mean += (double)g[c] * (double)dy_n[c] * (double)x_n[c] * r / (double)C;
        for (size_t c = 0; c < C; c++)
            plain_compare(&error, (double)dx[n * C + c],
                          r * ((double)g[c] * (double)dy_n[c] - (double)x_n[c] * r * mean));
    }
    return plain_error_value(&error);
}

double plain_rope(const float *y, const float *x, const uint32_t *positions, size_t N, size_t H,
                  size_t D, double theta)
{
    plain_error error = {0};
    for (size_t n = 0; n < N; n++)
        for (size_t h = 0; h < H; h++)
            for (size_t i = 0; i < D / 2; i++) {
                const size_t first = (n * H + h) * D + 2 * i;
                const double angle = positions[n] * pow(theta, -2.0 * (double)i / (double)D);
                const double a = (double)x[first], b = (double)x[first + 1];
                plain_compare(&error, (double)y[first], a * cos(angle) - b * sin(angle));
                plain_compare(&error, (double)y[first + 1], a * sin(angle) + b * cos(angle));
            }
    return plain_error_value(&error);
}

static double log_sum_exp(const float *z_n, size_t V)
{
    double most = -INFINITY, sum = 0;
    for (size_t v = 0; v < V; v++) most = fmax(most, (double)z_n[v]);
    for (size_t v = 0; v < V; v++) sum += exp((double)z_n[v] - most);
    return most + log(sum);
}

double plain_cross_entropy(const float *loss, const float *z, const int32_t *targets, size_t N,
                           size_t V)
{
    plain_error error = {0};
    for (size_t n = 0; n < N; n++)
        plain_compare(&error, (double)loss[n],
                      log_sum_exp(z + n * V, V) - (double)z[n * V + (size_t)targets[n]]);
    return plain_error_value(&error);
}

double plain_cross_entropy_gradient(const float *dz, const float *z, const int32_t *targets,
                                    double dloss, size_t N, size_t V)
{
    plain_error error = {0};
    for (size_t n = 0; n < N; n++) {
        const double lse = log_sum_exp(z + n * V, V);
        for (size_t v = 0; v < V; v++) {
            const double hit = v == (size_t)targets[n] ? 1 : 0;
            plain_compare(&error, (double)dz[n * V + v],
                          dloss * (exp((double)z[n * V + v] - lse) - hit));
        }
    }
    return plain_error_value(&error);
}

double plain_gumbel_softmax(const float *weight, const float *h, const float *noise, double tau,
                            size_t N, size_t M)
{
    plain_error error = {0};
    for (size_t n = 0; n < N; n++) {
        double sum = 0;
        for (size_t m = 0; m < M; m++)
            sum += exp(((double)h[n * M + m] + (double)noise[n * M + m]) / tau);
        for (size_t m = 0; m < M; m++)
            plain_compare(&error, (double)weight[n * M + m],
                          exp(((double)h[n * M + m] + (double)noise[n * M + m]) / tau) / sum);
    }
    return plain_error_value(&error);
}
