#include <assert.h>
#include <omp.h>
#include <string.h>

#include "duo/arena.h"
#include "tile.h"

enum {
    PANEL = 48,                 /* columns, at most: a multiple of every tile's rows and vectors */
    BLOCK_COLUMNS = 86 * PANEL, /* packed at once, of either operand */
    BLOCK_K = 1024,             /* of the weights: a panel is 192 KiB and stays in the L2 cache */
    BLOCK_TOKENS = 512,         /* of a sum over tokens, where both operands are packed */
    BLOCK_LEFT = 48 * 1024,     /* floats of the left operand that one task walks over */
    FEW_LEFT = 64 * 1024,       /* floats of the left operand below which threads share columns */
    STRETCH = 256 * 1024,       /* floats packed between two waits for all threads: an L2 cache */
    SERIAL_WORK = 64 * 1024,    /* multiply-adds that are not worth waking threads */
    PACK_DEPTH = 256,           /* k that a thread packs at once of a whole weight */
    STRIP = 8 /* columns of a packed left operand: a multiple of every tile's rows */
};

static struct {
    const duo_tile *tile; /* NULL until started */
    int threads;
    duo_arena arena;
    float *shared;               /* BLOCK_K * BLOCK_COLUMNS floats */
    float *own[DUO_MAX_THREADS]; /* one panel, BLOCK_K * PANEL floats */
} matmul;

/* Logical row r of an operand is row rows[r] of its array, or row r itself. */
typedef struct operand {
    const float *data;
    size_t stride;
    const uint32_t *rows;
} operand;

/**
 * y (M, N) = (add ? y : 0) + left (M, K) right (K, N) + bias, in blocks of block_K of the sum.
 *
 * An element is a chain of multiply-adds over the k of a block, block after block, each block's
 * sum added to y. Only K decides where blocks begin, so neither the other rows of the call nor
 * the threads nor the choice between the two walks below can be seen in its bits.
 */
typedef struct product {
    size_t M, N, K, block_K;
    float *y;
    const uint32_t *y_rows;
    const float *bias;
    bool add;
    operand left;
    bool left_by_k; /* left's rows are k: it is packed; else they are m, read where they lie */
    operand right;
    bool right_by_k; /* right's rows are k; else they are n, as in W of y = x W^T */
    float *packed;   /* all panels of the right operand, or NULL */
} product;

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t max(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t divide_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit;
}

/* The size of equal blocks of at most `limit`, in whole units; limit is a multiple of unit. */
static size_t block_size(size_t n, size_t limit, size_t unit)
{
    return divide_up(divide_up(n, divide_up(n, limit)), unit) * unit;
}

static size_t row_of(const uint32_t *rows, size_t n)
{
    return rows ? rows[n] : n;
}

static const float *operand_row(const operand *from, size_t n)
{
    return from->data + row_of(from->rows, n) * from->stride;
}

static void lay_out(duo_arena *arena, int threads)
{
    matmul.shared = DUO_TAKE(arena, float, (size_t)BLOCK_K *BLOCK_COLUMNS);
    for (int t = 0; t < threads; t++) matmul.own[t] = DUO_TAKE(arena, float, BLOCK_K *PANEL);
}

duo_status duo_matmul_start(const duo_tile *tile, int threads)
{
    duo_matmul_stop();
    duo_arena measure = DUO_ARENA_MEASURE;
    lay_out(&measure, threads);
    const duo_status status = duo_arena_create(&matmul.arena, measure.used, "packing buffers");
    if (status != DUO_OK) return status;
    lay_out(&matmul.arena, threads);
    matmul.tile = tile;
    matmul.threads = threads;
    return DUO_OK;
}

void duo_matmul_stop(void)
{
    duo_arena_free(&matmul.arena);
    matmul.tile = NULL;
}

/* panel[k * width + c] = row k0 + k, column first + c; columns beyond cols are 0. */
static void copy_panel(float *panel, size_t width, const operand *from, size_t first, size_t cols,
                       size_t k0, size_t depth)
{
    for (size_t k = 0; k < depth; k++, panel += width) {
        const float *row = operand_row(from, k0 + k) + first;
        size_t c = 0;
        for (; c + STRIP <= cols; c += STRIP) memcpy(panel + c, row + c, STRIP * sizeof(float));
        for (; c < cols; c++) panel[c] = row[c];
        for (; c < width; c++) panel[c] = 0.0f;
    }
}

/* strips[m / STRIP][k][m % STRIP] = row k0 + k, column first + m, for m < cols. */
static void copy_strips(float *strips, const operand *from, size_t first, size_t cols, size_t k0,
                        size_t depth)
{
    for (size_t k = 0; k < depth; k++, strips += STRIP) {
        const float *row = operand_row(from, k0 + k) + first;
        size_t m = 0;
        for (; m + STRIP <= cols; m += STRIP)
            memcpy(strips + m * depth, row + m, STRIP * sizeof(float));
        for (; m < cols; m++) strips[m / STRIP * STRIP * depth + m % STRIP] = row[m];
    }
}

static void pack_right(float *panel, const product *p, size_t n, size_t cols, size_t k0,
                       size_t depth)
{
    const size_t lanes = matmul.tile->lanes;
    if (p->right_by_k)
        copy_panel(panel, divide_up(cols, lanes) * lanes, &p->right, n, cols, k0, depth);
    else
        matmul.tile->transpose(panel, operand_row(&p->right, n) + k0, p->right.stride, cols, depth);
}

/* The panel of the columns from n on, from row k on, among all panels of a right operand. */
static float *packed_panel(const product *p, size_t n, size_t cols, size_t k)
{
    const size_t lanes = matmul.tile->lanes;
    return p->packed ? p->packed + n * p->K + k * divide_up(cols, lanes) * lanes : NULL;
}

static size_t packed_bytes(size_t N, size_t K)
{
    const size_t lanes = duo_tile_current()->lanes;
    return divide_up(N, lanes) * lanes * K * sizeof(float);
}

static void pack_all(const product *p)
{
    const size_t width = matmul.tile->vectors * matmul.tile->lanes;
    const size_t panels = divide_up(p->N, width), depth = min(PACK_DEPTH, p->K);
    const size_t pieces = divide_up(p->K, depth);
    const bool serial = p->N * p->K < SERIAL_WORK;
#pragma omp parallel for num_threads(matmul.threads) schedule(static) if (!serial)
    for (size_t task = 0; task < panels * pieces; task++) {
        const size_t n = task / pieces * width, k = task % pieces * depth;
        const size_t cols = min(width, p->N - n);
        pack_right(packed_panel(p, n, cols, k), p, n, cols, k, min(depth, p->K - k));
    }
}

/* Rows m to m_end of the output, columns n to n + cols. `strips` are the packed left rows from m
 * on, `strip_size` floats each, or NULL. */
static void multiply_rows(const product *p, const float *strips, size_t strip_size,
                          const float *panel, size_t m, size_t m_end, size_t n, size_t cols,
                          size_t k0, size_t depth)
{
    const duo_tile *tile = matmul.tile;
    const size_t vectors = divide_up(cols, tile->lanes);
    const float *bias = p->bias && k0 == 0 ? p->bias + n : NULL;
    for (size_t done = 0; m + done < m_end; done += tile->rows) {
        const size_t rows = min(tile->rows, m_end - m - done);
        const float *left[DUO_TILE_ROWS];
        float *y[DUO_TILE_ROWS];
        for (size_t i = 0; i < rows; i++) {
            y[i] = p->y + row_of(p->y_rows, m + done + i) * p->N + n;
            left[i] = strips ? strips + done / STRIP * strip_size + done % STRIP + i
                             : operand_row(&p->left, m + done + i) + k0;
        }
        tile->multiply[rows - 1][vectors - 1](y, left, strips ? STRIP : 1, panel, depth, cols, bias,
                                              p->add || k0 > 0);
    }
}

/* Few rows: each thread packs panels of its own columns and uses them while they are in its
 * cache. */
static void multiply_by_columns(const product *p)
{
    const duo_tile *tile = matmul.tile;
    const size_t threads = (size_t)matmul.threads;
    size_t width = tile->vectors * tile->lanes;
    while (!p->packed && width > tile->lanes && divide_up(p->N, width) < threads)
        width -= tile->lanes;
    const bool serial = p->M * p->N * p->K < SERIAL_WORK;
#pragma omp parallel for num_threads(matmul.threads) schedule(dynamic, 1) if (!serial)
    for (size_t n = 0; n < p->N; n += width) {
        float *panel = matmul.own[omp_get_thread_num()];
        const size_t cols = min(width, p->N - n);
        for (size_t k0 = 0; k0 < p->K; k0 += p->block_K) {
            const size_t depth = min(p->block_K, p->K - k0);
            const float *right = packed_panel(p, n, cols, k0);
            if (!right) pack_right(panel, p, n, cols, k0, depth);
            multiply_rows(p, NULL, 0, right ? right : panel, 0, p->M, n, cols, k0, depth);
        }
    }
}

/* Rows m0 to m_end, columns n0 to n_end, and a stretch of whole blocks of the sum: all threads
 * pack, then all multiply. Called by every thread of a team. */
static void multiply_stretch(const product *p, size_t m0, size_t m_end, size_t n0, size_t n_end,
                             size_t k0, size_t k_end)
{
    const duo_tile *tile = matmul.tile;
    const size_t width = tile->vectors * tile->lanes, panels = divide_up(n_end - n0, width);
    const size_t stretch = k_end - k0;
    float *right = matmul.shared;
    float *left = p->left_by_k ? right + panels * width * stretch : NULL;

    if (m0 == 0 && !p->packed) { /* the right panels serve all rows */
#pragma omp for schedule(dynamic, 1) nowait
        for (size_t panel = 0; panel < panels; panel++) {
            const size_t n = n0 + panel * width;
            pack_right(right + panel * width * stretch, p, n, min(width, n_end - n), k0, stretch);
        }
    }
    if (left) {
#pragma omp for schedule(dynamic, 1) nowait
        for (size_t m = m0; m < m_end; m += PANEL)
            copy_strips(left + (m - m0) * stretch, &p->left, m, min(PANEL, m_end - m), k0, stretch);
    }
#pragma omp barrier

    /* Tasks of equal size, four for each thread where that leaves them a panel's worth of rows. */
    const size_t wanted = 4 * (size_t)matmul.threads, rows = m_end - m0;
    const size_t limit = min(BLOCK_LEFT / p->block_K, max(PANEL, divide_up(rows, wanted)));
    const size_t rows_a_task = block_size(rows, divide_up(limit, STRIP) * STRIP, STRIP);
    const size_t row_tasks = divide_up(rows, rows_a_task);
    const size_t panels_a_task = divide_up(panels, min(panels, divide_up(wanted, row_tasks)));
    const size_t column_tasks = divide_up(panels, panels_a_task);
#pragma omp for schedule(dynamic, 1)
    for (size_t task = 0; task < row_tasks * column_tasks; task++) {
        const size_t m = m0 + task / column_tasks * rows_a_task;
        const size_t first = task % column_tasks * panels_a_task;
        const size_t last = min(panels, first + panels_a_task);
        for (size_t k = k0; k < k_end; k += p->block_K) {
            const float *strips = left ? left + (m - m0) * stretch + (k - k0) * STRIP : NULL;
            for (size_t panel = first; panel < last; panel++) {
                const size_t n = n0 + panel * width, cols = min(width, n_end - n);
                const size_t packed_width = divide_up(cols, tile->lanes) * tile->lanes;
                const float *whole = packed_panel(p, n, cols, k);
                const float *own = right + panel * width * stretch + (k - k0) * packed_width;
                multiply_rows(p, strips, STRIP * stretch, whole ? whole : own, m,
                              min(m_end, m + rows_a_task), n, cols, k, min(p->block_K, k_end - k));
            }
        }
    }
}

static void multiply_by_blocks(const product *p)
{
    const size_t block_N = block_size(p->N, BLOCK_COLUMNS, PANEL);
    const size_t block_M = p->left_by_k ? block_size(p->M, BLOCK_COLUMNS, PANEL) : p->M;
    const size_t a_block = p->block_K * (block_N + (p->left_by_k ? block_M : 0));
    const size_t stretch = p->block_K * max(1, STRETCH / a_block);
    const bool serial = p->M * p->N * p->K < SERIAL_WORK;
#pragma omp parallel num_threads(matmul.threads) if (!serial)
    for (size_t n = 0; n < p->N; n += block_N)
        for (size_t k = 0; k < p->K; k += stretch)
            for (size_t m = 0; m < p->M; m += block_M)
                multiply_stretch(p, m, min(p->M, m + block_M), n, min(p->N, n + block_N), k,
                                 min(p->K, k + stretch));
}

static void multiply(const product *p)
{
    const bool few = p->M * min(p->K, p->block_K) <= FEW_LEFT;
    const bool wide = divide_up(p->N, matmul.tile->lanes) >= (size_t)matmul.threads;
    if (!p->left_by_k && few && (wide || p->M <= PANEL))
        multiply_by_columns(p);
    else
        multiply_by_blocks(p);
}

static product forward_product(const duo_weight *weight)
{
    return (product){.N = weight->O,
                     .K = weight->I,
                     .block_K = block_size(weight->I, BLOCK_K, STRIP),
                     .right = {weight->w, weight->I, NULL},
                     .packed = weight->forward};
}

static product backward_product(const duo_weight *weight)
{
    return (product){.N = weight->I,
                     .K = weight->O,
                     .block_K = block_size(weight->O, BLOCK_K, STRIP),
                     .right = {weight->w, weight->I, NULL},
                     .right_by_k = true,
                     .packed = weight->backward};
}

size_t duo_pack_forward_bytes(const duo_weight *weight)
{
    return packed_bytes(weight->O, weight->I);
}

size_t duo_pack_backward_bytes(const duo_weight *weight)
{
    return packed_bytes(weight->I, weight->O);
}

void duo_weight_pack(const duo_weight *weight)
{
    assert(matmul.tile && weight->O > 0 && weight->I > 0);
    const product forward = forward_product(weight), backward = backward_product(weight);
    if (forward.packed) pack_all(&forward);
    if (backward.packed) pack_all(&backward);
}

void duo_linear_forward(float *y, const float *x, const duo_weight *weight, const float *bias,
                        size_t n_rows, const uint32_t *y_rows, const uint32_t *x_rows, bool add)
{
    assert(matmul.tile && weight->O > 0 && weight->I > 0);
    if (n_rows == 0) return;
    product p = forward_product(weight);
    p.M = n_rows;
    p.y = y;
    p.y_rows = y_rows;
    p.bias = bias;
    p.add = add;
    p.left = (operand){x, weight->I, x_rows};
    multiply(&p);
}

void duo_linear_backward_input(float *dx, const float *dy, const duo_weight *weight, size_t n_rows,
                               const uint32_t *dx_rows, const uint32_t *dy_rows, bool add)
{
    assert(matmul.tile && weight->O > 0 && weight->I > 0);
    if (n_rows == 0) return;
    product p = backward_product(weight);
    p.M = n_rows;
    p.y = dx;
    p.y_rows = dx_rows;
    p.add = add;
    p.left = (operand){dy, weight->O, dy_rows};
    multiply(&p);
}

/* dbias += sum_n dy_n. A thread owns whole columns and adds their rows in order. */
static void sum_rows(float *dbias, const operand *dy, size_t n_rows, size_t O)
{
    const bool serial = n_rows * O < SERIAL_WORK;
#pragma omp parallel for num_threads(matmul.threads) schedule(static) if (!serial)
    for (size_t first = 0; first < O; first += PANEL) {
        const size_t cols = min(PANEL, O - first);
        float sum[PANEL] = {0.0f};
        for (size_t n = 0; n < n_rows; n++) {
            const float *row = operand_row(dy, n) + first;
            for (size_t c = 0; c < cols; c++) sum[c] += row[c];
        }
        for (size_t c = 0; c < cols; c++) dbias[first + c] += sum[c];
    }
}

void duo_linear_backward_weight(float *dw, float *dbias, const float *dy, const float *x,
                                size_t n_rows, size_t O, size_t I, const uint32_t *dy_rows,
                                const uint32_t *x_rows, duo_precision precision)
{
    assert(matmul.tile && O > 0 && I > 0);
    (void)precision; /* fp32 until there are tiles for less */
    if (n_rows == 0) return;
    const product p = {.M = O,
                       .N = I,
                       .K = n_rows,
                       .block_K = block_size(n_rows, BLOCK_TOKENS, STRIP),
                       .y = dw,
                       .add = true,
                       .left = {dy, O, dy_rows},
                       .left_by_k = true,
                       .right = {x, I, x_rows},
                       .right_by_k = true};
    multiply(&p);
    if (dbias) sum_rows(dbias, &p.left, n_rows, O);
}
