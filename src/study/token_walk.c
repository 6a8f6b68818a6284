#include "token_walk.h"

enum { MAX_CACHE_BYTES = 128 << 20 }; /* of keys and values, while there are several sequences */

size_t study_token_walk_rows(const study_token_walk *walk)
{
    return duo_cache_rows(&walk->search.model->params.config, walk->sequences->R,
                          walk->sequences->T, MAX_CACHE_BYTES);
}

/* ---------------------------------------------------------------- memory */

static void lay_out(study_token_walk *walk, duo_arena *arena)
{
    const size_t L = walk->search.L, T = walk->sequences->T;
    duo_cache_take(&walk->cache, &walk->search.model->params, walk->rows, T, arena);
    walk->routes = DUO_TAKE(arena, uint8_t, walk->rows * T * L);
    walk->take(walk, arena);
    walk->scratch = arena->used;
}

static duo_pass *lay_out_pass(const study_token_walk *walk, size_t rows, duo_arena *arena)
{
    const duo_pass_shape shape = {.B = rows, .T = walk->sequences->T, .keep_kv = true};
    return duo_pass_take(&walk->search.model->params, shape, arena);
}

static size_t measure(study_token_walk *walk)
{
    duo_arena pass = DUO_ARENA_MEASURE, search = DUO_ARENA_MEASURE;
    lay_out(walk, &pass);
    search.used = pass.used;
    lay_out_pass(walk, walk->rows, &pass);
    study_search_take(&walk->search, walk->batch, walk->sequences->T, &search);
    return pass.used > search.used ? pass.used : search.used;
}

/* ---------------------------------------------------------------- the walk */

void study_token_walk_pass(study_token_walk *walk, duo_pass *pass)
{
    const duo_routing routing = {.kind = DUO_ROUTING_GIVEN, .routes = walk->routes};
    const int32_t *tokens = walk->sequences->tokens + walk->first_row * (walk->sequences->T + 1);
    duo_pass_forward(pass, walk->search.model, tokens, &routing);
}

static void fill_cache(study_token_walk *walk, size_t rows, duo_arena *arena)
{
    duo_arena_rewind(arena, walk->scratch);
    duo_pass *pass = lay_out_pass(walk, rows, arena);
    walk->cache.S = rows;
    walk->set_routes(walk, rows, pass);
    study_token_walk_pass(walk, pass);
    duo_cache_fill(&walk->cache, pass, walk->sequences->T);
    duo_arena_rewind(arena, walk->scratch);
}

static void set_roots(study_token_walk *walk, size_t n0, size_t n)
{
    study_search *s = &walk->search;
    const size_t T = walk->sequences->T;
    s->roots.n = n;
    for (size_t i = 0; i < n; i++) {
        const size_t row = (n0 + i) / T;
        const int32_t *token = walk->sequences->tokens + n0 + i + row;
        s->roots.tokens[i] = token[0];
        s->roots.sequences[i] = (uint32_t)(row - walk->first_row);
        s->roots.positions[i] = (uint32_t)((n0 + i) % T);
        s->targets[i] = token[1];
    }
}

duo_status study_token_walk_run(study_token_walk *walk, duo_study_progress *progress, void *context)
{
    const size_t R = walk->sequences->R, T = walk->sequences->T;
    duo_arena arena = {0};
    duo_status status = duo_arena_create(&arena, measure(walk), "search");
    if (status != DUO_OK) return status;
    lay_out(walk, &arena);
    walk->search.roots.cache = &walk->cache;
    for (size_t first = 0; first < R && status == DUO_OK; first += walk->rows) {
        const size_t rows = R - first < walk->rows ? R - first : walk->rows;
        const size_t end = (first + rows) * T;
        walk->first_row = first;
        fill_cache(walk, rows, &arena);
        study_search_take(&walk->search, walk->batch, T, &arena);
        for (size_t n = first * T; n < end && status == DUO_OK; n += walk->batch) {
            const size_t tokens = end - n < walk->batch ? end - n : walk->batch;
            set_roots(walk, n, tokens);
            status = walk->decide(walk, n, tokens);
            if (progress && status == DUO_OK) progress(context, n + tokens, R * T);
        }
    }
    duo_arena_free(&arena);
    return status;
}

duo_status study_token_walk_no_route(const study_token_walk *walk, size_t n)
{
    const size_t T = walk->sequences->T;
    return duo_fail(DUO_ENUMBER,
                    "search: no route of position %zu of sequence %zu has a finite loss", n % T,
                    n / T);
}
