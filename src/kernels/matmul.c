#include <assert.h>
#include <omp.h>
#include <string.h>

#include "duo/arena.h"
#include "duo/sizes.h"
#include "product.h"
#include "span.h"

/* Sizes of blocks, in units of a tile (tile.h): 32 bits each. */
enum {
    PANEL = 48,           /* columns, at most */
    BLOCK_UNITS = 1024,   /* of a sum over a weight's rows or columns */
    BLOCK_TOKENS = 512,   /* of a sum over tokens, where both operands are packed */
    STAGE = 2048 * 1056,  /* panels between two waits for all threads, at most */
    STRETCH = 256 * 1024, /* and at least, where the sum has as many blocks: an L2 cache */
    LEFT = 128 * 1024,    /* of the left operand that one task walks over, in the L2 cache */
    LEFT_ROWS = 512,      /* and its rows */
    RIGHT =
        128 * 1024, /* of the right operand that a tall tile's rows walk over, in the L2 cache */
    LEFT_GROUP = DUO_STRIPS * DUO_STRIP,
    SKEW = DUO_LINE, /* between copied rows: they would meet in a cache at 4 KiB apart */
    LEFT_SLACK = (LEFT_ROWS + DUO_TILE_ROWS) * 2 * SKEW + DUO_TILE_ROWS * BLOCK_UNITS,
    COPIED_ROWS_COLUMNS = 768, /* columns that are worth a copy of rows that would meet */
    FEW_LEFT = 64 * 1024,      /* below this threads share columns */
    EVEN_SHARES = 32 << 20, /* multiply-adds; below this a thread takes its share of them at once */
    KEPT_BLOCKS = 8,        /* of such a left operand, at most */
    PACK_DEPTH = 256,       /* of a panel that a thread packs at once */
    PACK_K = 32             /* rows of a right operand that a thread packs at once */
};

static struct {
    const duo_tile *tiles[2]; /* by precision; NULL until started */
    int threads;
    duo_arena arena;
    float *stages[2]; /* STAGE each: threads may still be at one while others fill the next */
    float *panels[DUO_MAX_THREADS]; /* own: BLOCK_UNITS * PANEL */
    float *lefts[DUO_MAX_THREADS]; /* own: LEFT, whole lines and a skew for each row, whole tiles */
} matmul;

/* Columns n0 to n_end and k0 to k_end of the right operand, packed: whole panels one behind the
 * other, each over all of these k. */
typedef struct stage {
    float *panels;
    size_t n0, n_end, k0, k_end;
} stage;

/* Rows of the left operand for some k: where they lie, in units. */
typedef struct left_block {
    float *units;    /* NULL: in the array of the operand */
    size_t row_size; /* between rows, or between strips of rows */
    bool strips;
    bool to_convert; /* not yet in units: the first panel's products do that */
} left_block;

/* The size of equal blocks of at most `limit`, in whole units; limit is a multiple of unit. */
static size_t block_size(size_t n, size_t limit, size_t unit)
{
    return duo_round_up(duo_divide_up(n, duo_divide_up(n, limit)), unit);
}

static size_t block_of_sum(const duo_tile *tile, size_t K, size_t units)
{
    return block_size(K, units * tile->per_unit, 8 * tile->per_unit);
}

duo_product duo_product_new(duo_precision precision, size_t N, size_t K, bool left_by_k)
{
    const duo_tile *tile = matmul.tiles[precision];
    assert(tile && N > 0 && K > 0);
    return (duo_product){.tile = tile,
                         .N = N,
                         .K = K,
                         .block_K = block_of_sum(tile, K, left_by_k ? BLOCK_TOKENS : BLOCK_UNITS),
                         .left_by_k = left_by_k};
}

static void lay_out(duo_arena *arena, int threads)
{
    for (int i = 0; i < 2; i++) matmul.stages[i] = DUO_TAKE(arena, float, STAGE);
    for (int t = 0; t < threads; t++) {
        matmul.panels[t] = DUO_TAKE(arena, float, BLOCK_UNITS *PANEL);
        matmul.lefts[t] = DUO_TAKE(arena, float, LEFT + LEFT_SLACK);
    }
}

duo_status duo_matmul_start(const duo_tile *fp32, const duo_tile *bf16, int threads)
{
    duo_matmul_stop();
    duo_arena measure = DUO_ARENA_MEASURE;
    lay_out(&measure, threads);
    const duo_status status = duo_arena_create(&matmul.arena, measure.used, "packing buffers");
    if (status != DUO_OK) return status;
    lay_out(&matmul.arena, threads);
    matmul.tiles[DUO_FP32] = fp32;
    matmul.tiles[DUO_BF16] = bf16;
    matmul.threads = threads;
    return DUO_OK;
}

void duo_matmul_stop(void)
{
    duo_arena_free(&matmul.arena);
    matmul.tiles[DUO_FP32] = matmul.tiles[DUO_BF16] = NULL;
}

static size_t panel_width(const duo_tile *tile)
{
    return tile->vectors * tile->lanes;
}

static size_t units_of(const duo_tile *tile, size_t k)
{
    return duo_divide_up(k, tile->per_unit);
}

/* Where in a stage the panel of the columns from n on has the row k. */
static float *panel_at(const duo_product *p, const stage *s, size_t n, size_t k)
{
    const duo_tile *tile = p->tile;
    const size_t cols = duo_min(panel_width(tile), s->n_end - n);
    return s->panels + (n - s->n0) * units_of(tile, s->k_end - s->k0) +
           (k - s->k0) / tile->per_unit * duo_round_up(cols, tile->lanes);
}

/* One panel, k0 to k0 + depth. */
static void pack_panel(float *panel, const duo_product *p, size_t n, size_t cols, size_t k0,
                       size_t depth)
{
    const duo_tile *tile = p->tile;
    if (p->right_by_k)
        tile->pack_columns(panel, panel_width(tile), tile->lanes, 0, &p->right, n, cols, k0, depth);
    else
        tile->pack_rows(panel, duo_operand_row(&p->right, n) + k0, p->right.stride, cols, depth);
}

/* All threads of a team share the work; none waits for the others. */
static void pack_stage(const duo_product *p, const stage *s)
{
    const duo_tile *tile = p->tile;
    const size_t width = panel_width(tile), K = s->k_end - s->k0;
    if (p->right_by_k) { /* a few rows, all their columns: the rows are read from end to end */
        const size_t size = width * units_of(tile, K);
#pragma omp for schedule(static) nowait
        for (size_t k = 0; k < K; k += PACK_K) {
            const size_t wide = (s->n_end - s->n0) / width * width, tail = s->n0 + wide;
            const size_t depth = duo_min(PACK_K, K - k);
            tile->pack_columns(panel_at(p, s, s->n0, s->k0 + k), width, width, size, &p->right,
                               s->n0, wide, s->k0 + k, depth);
            if (tail < s->n_end)
                pack_panel(panel_at(p, s, tail, s->k0 + k), p, tail, s->n_end - tail, s->k0 + k,
                           depth);
        }
    } else {
        const size_t pieces = duo_divide_up(K, PACK_DEPTH);
        const size_t panels = duo_divide_up(s->n_end - s->n0, width);
#pragma omp for schedule(static) nowait
        for (size_t task = 0; task < panels * pieces; task++) {
            const size_t n = s->n0 + task / pieces * width, k = s->k0 + task % pieces * PACK_DEPTH;
            pack_panel(panel_at(p, s, n, k), p, n, duo_min(width, s->n_end - n), k,
                       duo_min(PACK_DEPTH, s->k_end - k));
        }
    }
}

size_t duo_product_packed_bytes(duo_precision precision, size_t N, size_t K)
{
    const duo_tile *tile = matmul.tiles[precision];
    if (!tile) tile = duo_tile_current(precision); /* before the start */
    return duo_round_up(N, tile->lanes) * units_of(tile, K) * sizeof(float);
}

void duo_product_pack(const duo_product *p)
{
    const stage all = {.panels = p->packed, .n_end = p->N, .k_end = p->K};
    const bool serial = p->N * p->K < DUO_SERIAL_WORK;
    const duo_span span = duo_span_begin();
#pragma omp parallel num_threads(matmul.threads) if (!serial)
    pack_stage(p, &all);
    duo_span_end(span, "packing weights", 0, 0, 0);
}

/* From one prepared row to the next, for so many k's. */
static size_t row_size(const duo_tile *tile, size_t depth)
{
    return duo_round_up(units_of(tile, depth), DUO_LINE) + SKEW;
}

/* The rows m to m_end of the left operand, k0 to k0 + depth, as this task's products read them. */
static left_block prepare_left(const duo_product *p, float *own, size_t m, size_t m_end,
                               size_t cols, size_t k0, size_t depth)
{
    const duo_tile *tile = p->tile;
    const size_t units = units_of(tile, depth), size = row_size(tile, depth);
    if (p->left_by_k && tile->convert_columns) {
        tile->convert_columns(own, size, &p->left, m, m_end - m, k0, depth);
        return (left_block){.units = own, .row_size = size};
    }
    if (p->left_by_k) {
        tile->pack_columns(own, DUO_STRIP, DUO_STRIP, DUO_STRIP * units, &p->left, m, m_end - m, k0,
                           depth);
        return (left_block){.units = own, .row_size = DUO_STRIP * units, .strips = true};
    }
    if (tile->multiply_converting)
        return (left_block){.units = own, .row_size = size, .to_convert = true};
    const bool rows_meet = p->left.stride % 1024 == 0 && m_end - m > tile->rows;
    if (!tile->convert && !(rows_meet && cols >= COPIED_ROWS_COLUMNS)) return (left_block){0};
    for (size_t i = m; i < m_end; i++) {
        const float *row = duo_operand_row(&p->left, i) + k0;
        float *to = own + (i - m) * size;
        if (tile->convert)
            tile->convert(to, row, depth);
        else
            memcpy(to, row, depth * sizeof *to);
    }
    return (left_block){.units = own, .row_size = size};
}

/* Rows m to m_end of the output, of which the left block begins at `first`, columns n to n + cols.
 */
static void multiply_rows(const duo_product *p, const left_block *block, size_t first,
                          const float *panel, size_t m, size_t m_end, size_t n, size_t cols,
                          size_t k0, size_t depth)
{
    const duo_tile *tile = p->tile;
    const size_t units = units_of(tile, depth);
    const size_t step = block->strips ? DUO_STRIP : 1;
    const float *bias = p->bias && k0 == 0 ? p->bias + n : NULL;
    for (; m < m_end; m += tile->rows) {
        const size_t rows = duo_min(tile->rows, m_end - m);
        const float *left[2 * DUO_TILE_ROWS];
        float *y[DUO_TILE_ROWS];
        for (size_t i = 0; i < rows; i++) {
            const size_t row = m + i, r = row - first;
            y[i] = p->y + (p->y_rows ? p->y_rows[row] : row) * p->N + n;
            left[i] = !block->units || block->to_convert ? duo_operand_row(&p->left, row) + k0
                      : block->strips ? block->units + r / step * block->row_size + r % step
                                      : block->units + r * block->row_size;
        }
        if (block->to_convert) {
            for (size_t i = 0; i < rows; i++) {
                const size_t next = duo_min(m_end - 1, m + rows + i);
                left[rows + i] = duo_operand_row(&p->left, next) + k0;
            }
            tile->multiply_converting(y, left, rows, block->units + (m - first) * block->row_size,
                                      block->row_size, panel, depth, cols, bias, p->add || k0 > 0);
            continue;
        }
        tile->multiply(y, left, rows, step, panel, units, cols, bias, p->add || k0 > 0);
    }
}

/* The walks over a product. Every thread of a team calls them; none waits for the others at the
 * end, so that products without a common output follow each other without a pause. */

/* Few rows: each thread packs panels of its own columns, unless they are packed, and uses them
 * while they are in its cache. */
static void multiply_by_columns(const duo_product *p)
{
    const duo_tile *tile = p->tile;
    const size_t threads = (size_t)matmul.threads;
    const stage all = {.panels = p->packed, .n_end = p->N, .k_end = p->K};
    size_t width = panel_width(tile);
    while (!p->packed && width > tile->lanes && duo_divide_up(p->N, width) < threads)
        width -= tile->lanes;
    float *own = matmul.panels[omp_get_thread_num()];
    float *own_left = matmul.lefts[omp_get_thread_num()];
    /* A thread converts the rows once, if there is room for all blocks of the sum. */
    left_block left[KEPT_BLOCKS] = {{0}};
    const size_t size = duo_round_up(p->M, tile->rows) * row_size(tile, p->block_K);
    const size_t blocks = duo_divide_up(p->K, p->block_K);
    const bool keep = blocks <= KEPT_BLOCKS && blocks * size <= LEFT;
    bool kept = false;
    /* Threads that ask a common counter for one panel at a time pass its cache line about. */
    const size_t panels = duo_divide_up(p->N, width);
    const bool even = p->M * p->N * p->K < EVEN_SHARES;
    const int turn = even ? (int)duo_divide_up(panels, threads) : 1;
#pragma omp for schedule(dynamic, turn) nowait
    for (size_t n = 0; n < p->N; n += width) {
        const size_t cols = duo_min(width, p->N - n);
        for (size_t k = 0, block = 0; k < p->K; k += p->block_K, block += keep) {
            const size_t depth = duo_min(p->block_K, p->K - k);
            if (!kept)
                left[block] = prepare_left(p, own_left + block * size, 0, p->M, cols, k, depth);
            if (!p->packed) pack_panel(own, p, n, cols, k, depth);
            multiply_rows(p, &left[block], 0, p->packed ? panel_at(p, &all, n, k) : own, 0, p->M, n,
                          cols, k, depth);
            left[block].to_convert = false;
        }
        kept = keep;
    }
}

/* All rows by the columns of a stage. */
static void multiply_stage(const duo_product *p, const stage *s)
{
    const size_t width = panel_width(p->tile), panels = duo_divide_up(s->n_end - s->n0, width);
    /* Tasks of equal size, eight for each thread where that leaves them a panel's worth of rows. */
    const size_t wanted = (p->left_by_k ? 1 : 8) * (size_t)matmul.threads;
    /* A tall tile keeps its rows in the L1 cache and walks over panels; others do the opposite. */
    const bool tall = p->tile->rows > DUO_STRIP;
    assert(!tall || !p->tile->multiply_converting);
    const size_t unit = duo_max(DUO_STRIP, p->tile->rows);
    const size_t fitting = duo_min(LEFT_ROWS, LEFT / units_of(p->tile, p->block_K) / unit * unit);
    const size_t limit =
        duo_min(fitting, duo_round_up(duo_max(PANEL, duo_divide_up(p->M, wanted)), unit));
    const size_t row_tasks = duo_divide_up(p->M, limit), tiles = duo_divide_up(p->M, unit);
    const size_t columns =
        duo_divide_up(panels, duo_min(panels, duo_divide_up(wanted, row_tasks))) * width;
    const size_t column_tasks = duo_divide_up(s->n_end - s->n0, columns);
#pragma omp for schedule(dynamic, 1) nowait
    for (size_t task = 0; task < row_tasks * column_tasks; task++) {
        const size_t row_task = task / column_tasks;
        const size_t m = row_task * tiles / row_tasks * unit;
        const size_t m_end = duo_min(p->M, (row_task + 1) * tiles / row_tasks * unit);
        const size_t first = s->n0 + task % column_tasks * columns;
        const size_t last = duo_min(s->n_end, first + columns);
        for (size_t k = s->k0; k < s->k_end; k += p->block_K) {
            const size_t depth = duo_min(p->block_K, s->k_end - k);
            left_block left = prepare_left(p, matmul.lefts[omp_get_thread_num()], m, m_end,
                                           last - first, k, depth);
            const size_t group = tall ? RIGHT / (width * units_of(p->tile, depth)) * width : width;
            const size_t height = tall ? p->tile->rows : m_end - m;
            for (size_t from = first; from < last; from += group)
                for (size_t i = m; i < m_end; i += height)
                    for (size_t n = from; n < duo_min(last, from + group); n += width) {
                        multiply_rows(p, &left, m, panel_at(p, s, n, k), i,
                                      duo_min(m_end, i + height), n, duo_min(width, last - n), k,
                                      depth);
                        left.to_convert = false;
                    }
        }
    }
}

/* Stage after stage: all threads pack, wait for each other, and multiply. `turn` counts the stages
 * that the team has filled, over all of its products. */
static void multiply_by_stages(const duo_product *p, size_t *turn)
{
    const duo_tile *tile = p->tile;
    const size_t block = units_of(tile, p->block_K), width = panel_width(tile);
    const size_t block_N = block_size(p->N, STAGE / block / width * width, width);
    const size_t stretch = p->block_K * duo_max(1, STRETCH / (block * block_N));
    for (size_t n = 0; n < p->N; n += block_N)
        for (size_t k = 0; k < p->K; k += stretch, ++*turn) {
            const stage s = {matmul.stages[*turn % 2], n, duo_min(p->N, n + block_N), k,
                             duo_min(p->K, k + stretch)};
            pack_stage(p, &s);
#pragma omp barrier
            multiply_stage(p, &s);
        }
}

static void multiply_packed(const duo_product *p)
{
    const stage all = {.panels = p->packed, .n_end = p->N, .k_end = p->K};
    multiply_stage(p, &all);
}

/* Pointers to the rows k0 to k0 + depth, then DUO_ROWS_AHEAD times the last one. */
static void rows_to_read(const float **rows, const duo_operand *from, size_t k0, size_t depth)
{
    for (size_t i = 0; i < depth; i++) rows[i] = duo_operand_row(from, k0 + i);
    for (size_t i = 0; i < DUO_ROWS_AHEAD; i++) rows[depth + i] = rows[depth - 1];
}

/* One task: rows m to m_end of the output by the columns n0 to n_end. */
static void multiply_sources(const duo_product *p, size_t m, size_t m_end, size_t n0, size_t n_end)
{
    const duo_tile *tile = p->tile;
    float *strips = matmul.lefts[omp_get_thread_num()];
    float *panel = matmul.panels[omp_get_thread_num()];
    enum { MOST_ROWS = BLOCK_TOKENS * DUO_TILE_PER_UNIT + DUO_ROWS_AHEAD };
    const float *left_rows[MOST_ROWS], *right_rows[MOST_ROWS];
    const size_t width = panel_width(tile);
    for (size_t k = 0; k < p->K; k += p->block_K) {
        const size_t depth = duo_min(p->block_K, p->K - k);
        const size_t units = units_of(tile, depth);
        rows_to_read(left_rows, &p->left, k, depth);
        rows_to_read(right_rows, &p->right, k, depth);
        for (size_t n = n0; n < n_end; n += width) {
            const size_t cols = duo_min(width, n_end - n);
            duo_tile_source right = {right_rows, n, cols, panel};
            for (size_t first = m; first < m_end; first += DUO_STRIP) {
                const size_t rows = duo_min(DUO_STRIP, m_end - first);
                const bool packed = n > n0 || (first - m) % LEFT_GROUP > 0;
                const duo_tile_source left = {packed ? NULL : left_rows, first,
                                              duo_min(LEFT_GROUP, m_end - first),
                                              strips + (first - m) * units};
                float *y[DUO_STRIP];
                for (size_t i = 0; i < rows; i++) y[i] = p->y + (first + i) * p->N + n;
                tile->multiply_sources(y, rows, &left, &right, depth);
                right.rows = NULL;
            }
        }
    }
}

/* Both operands by k, their rows far away: each task packs for itself, under its products. Few
 * tasks, for an operand is read once for each that shares its rows or columns. */
static void multiply_by_sources(const duo_product *p)
{
    const size_t threads = (size_t)matmul.threads;
    const size_t fitting = LEFT / units_of(p->tile, p->block_K) / LEFT_GROUP * LEFT_GROUP;
    size_t row_tasks = duo_divide_up(p->M, fitting);
    size_t column_tasks = 1;
    while (row_tasks * column_tasks < threads) {
        if (p->M / row_tasks >= p->N / column_tasks)
            row_tasks++;
        else
            column_tasks++;
    }
    if (column_tasks == 1) row_tasks = duo_round_up(row_tasks, threads);
    const size_t rows = duo_round_up(duo_divide_up(p->M, row_tasks), LEFT_GROUP);
    const size_t cols = duo_round_up(duo_divide_up(p->N, column_tasks), p->tile->lanes);
#pragma omp for collapse(2) schedule(dynamic, 1) nowait
    for (size_t m = 0; m < p->M; m += rows)
        for (size_t n = 0; n < p->N; n += cols)
            multiply_sources(p, m, duo_min(p->M, m + rows), n, duo_min(p->N, n + cols));
}

static void multiply_one(const duo_product *p, size_t *turn)
{
    const size_t left = p->M * units_of(p->tile, duo_min(p->K, p->block_K));
    const bool wide = duo_divide_up(p->N, p->tile->lanes) >= (size_t)matmul.threads;
    if (p->left_by_k && p->tile->multiply_sources)
        multiply_by_sources(p);
    else if (!p->left_by_k && p->M <= LEFT_ROWS && left <= FEW_LEFT && (wide || p->M <= PANEL))
        multiply_by_columns(p);
    else if (p->packed)
        multiply_packed(p);
    else
        multiply_by_stages(p, turn);
}

/* All of them are one kind of product of a linear layer. */
static void book(duo_span span, const duo_product *products, size_t n, size_t work)
{
    const duo_product *p = &products[0];
    size_t O = 0, I = p->left_by_k || p->right_by_k ? p->N : p->K;
    for (size_t i = 0; i < n; i++)
        O += p->left_by_k ? products[i].M : p->right_by_k ? products[i].K : products[i].N;
    duo_span_end(span,
                 p->left_by_k    ? "dW += dy^T x"
                 : p->right_by_k ? "dx = dy W"
                                 : "y = x W^T",
                 O, I, 2 * (double)work);
}

void duo_products_multiply(const duo_product *products, size_t n)
{
    if (n == 0) return;
    const duo_span span = duo_span_begin();
    size_t work = 0;
    for (size_t i = 0; i < n; i++) {
        assert(products[i].M > 0);
        work += products[i].M * products[i].N * products[i].K;
    }
    const bool serial = work < DUO_SERIAL_WORK;
    const duo_tile *tile = products[0].tile;
    for (size_t i = 1; i < n; i++) assert(products[i].tile == tile);
#pragma omp parallel num_threads(matmul.threads) if (!serial)
    {
        size_t turn = 0;
        if (tile->enter) tile->enter();
        for (size_t i = 0; i < n; i++) multiply_one(&products[i], &turn);
        if (tile->leave) tile->leave();
    }
    book(span, products, n, work);
}
