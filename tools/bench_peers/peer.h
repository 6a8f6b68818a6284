#ifndef PEER_H
#define PEER_H

/* What the programs of the libraries share: the three products of linear layers, timed as in
 * `duo bench`: one call to warm up, then the median of samples that are at least 5 ms long. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { REPEATS = 7 };
static const double sample_seconds = 5e-3;

typedef enum direction { FORWARD, BACKWARD_INPUT, BACKWARD_WEIGHT } direction;

/* W is (O, I), x (rows, I), y (rows, O). */
typedef struct layer {
    size_t rows, O, I;
} layer;

static const layer training[] = {{2048, 2048, 2048}, {4096, 2560, 2560}, {4096, 256, 256},
                                 {4096, 1024, 256},  {4096, 256, 1024},  {4096, 4096, 256}};
static const layer few_rows[] = {{1, 1024, 256},   {4, 1024, 256},  {16, 1024, 256},
                                 {64, 1024, 256},  {1, 2560, 2560}, {4, 2560, 2560},
                                 {16, 2560, 2560}, {64, 2560, 2560}};
enum { TRAINING = sizeof training / sizeof *training, FEW = sizeof few_rows / sizeof *few_rows };

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef void work(void *context);

static double seconds_of(work *run, void *context, size_t calls)
{
    const double start = seconds_now();
    for (size_t i = 0; i < calls; i++) run(context);
    return (seconds_now() - start) / (double)calls;
}

static double median_seconds(work *run, void *context)
{
    double samples[REPEATS];
    run(context);
    const size_t calls = 1 + (size_t)(sample_seconds / seconds_of(run, context, 1));
    for (size_t i = 0; i < REPEATS; i++) samples[i] = seconds_of(run, context, calls);
    qsort(samples, REPEATS, sizeof *samples, by_size);
    return samples[REPEATS / 2];
}

static float *random_floats(size_t n)
{
    float *x = aligned_alloc(64, (n * sizeof *x + 63) / 64 * 64);
    unsigned state = 1;
    if (!x) exit(1);
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
    return x;
}

/* Tab-separated: product, rows, O, I, precision, GFLOP/s. */
static void print_rate(direction d, layer l, const char *precision, double seconds)
{
    static const char *const names[] = {"y = x W^T", "dx = dy W", "dW += dy^T x"};
    printf("%s\t%zux%zux%zu\t%s\t%.6g\n", names[d], l.rows, l.O, l.I, precision,
           2e-9 * (double)l.rows * (double)l.O * (double)l.I / seconds);
    fflush(stdout);
}

#endif
