#include <math.h>

#include "model_fixture.h"

/* Position by position through a cache must say what whole sequences say. Sums run in other orders
 * there, so bits may differ: 1e-4 of logits of about 3. */
static const double tolerance = 1e-4;

typedef struct decoder {
    duo_arena arena;
    duo_cache cache;
    duo_nodes *nodes;
    int32_t *tokens; /* (S) */
    uint8_t *routes; /* (S, L) */
    float *logits;   /* (S, V) */
} decoder;

static void lay_out(decoder *d, const duo_params *params, size_t S, size_t max_T, duo_arena *arena)
{
    duo_cache_take(&d->cache, params, S, max_T, arena);
    d->nodes = duo_nodes_take(params, S, max_T, arena);
    d->tokens = DUO_TAKE(arena, int32_t, S);
    d->routes = DUO_TAKE(arena, uint8_t, S * params->config.n_layers);
    d->logits = DUO_TAKE(arena, float, S * params->config.vocab_size);
}

static decoder make_decoder(const duo_params *params, size_t S, size_t max_T)
{
    decoder d = {0};
    duo_arena measure = DUO_ARENA_MEASURE;
    lay_out(&d, params, S, max_T, &measure);
    ok(duo_arena_create(&d.arena, measure.used, "decoder"));
    lay_out(&d, params, S, max_T, &d.arena);
    return d;
}

static fixture make_kept(const duo_config *config, size_t S, size_t T)
{
    fixture f = {.B = S, .T = T, .keep_kv = true, .forward_only = true};
    ok(duo_kernels_start(1));
    ok(duo_model_create(&f.model, config));
    random_model(f.model, 11);
    setup_fixture(&f, 0);
    return f;
}

static float *pass_logits(fixture *f)
{
    float *logits = malloc(f->B * f->T * f->V * sizeof *logits);
    ck_assert_ptr_nonnull(logits);
    duo_pass_forward(f->pass, f->model, f->tokens, &f->routing);
    duo_pass_logits(f->pass, f->model, logits);
    return logits;
}

/* The first `prefill` positions come from the pass, the others one by one. */
static void check_decoding(fixture *f, size_t prefill)
{
    const size_t S = f->B, T = f->T, L = f->L, V = f->V;
    decoder d = make_decoder(&f->model->params, S, T);
    float *want = pass_logits(f);
    if (prefill > 0) duo_cache_fill(&d.cache, f->pass, prefill);
    duo_routing routing = f->routing;
    routing.routes = d.routes;
    for (size_t t = prefill; t < T; t++) {
        for (size_t s = 0; s < S; s++) {
            d.tokens[s] = f->tokens[s * (T + 1) + t];
            if (routing.kind == DUO_ROUTING_GIVEN)
                memcpy(d.routes + s * L, f->routes + (s * T + t) * L, L);
        }
        duo_decode(d.nodes, f->model, &d.cache, d.tokens, &routing, d.logits);
        for (size_t s = 0; s < S; s++) {
            ck_assert_uint_eq(d.cache.lengths[s], t + 1);
            ck_assert_mem_eq(d.routes + s * L, f->routes + (s * T + t) * L, L);
            for (size_t v = 0; v < V; v++)
                ck_assert_double_eq_tol((double)d.logits[s * V + v],
                                        (double)want[(s * T + t) * V + v], tolerance);
        }
    }
    free(want);
    duo_arena_free(&d.arena);
}

START_TEST(decoding_agrees_with_whole_sequences)
{
    const size_t kv_heads[] = {1, 3};
    for (size_t k = 0; k < 2; k++)
        for (int policy = 0; policy < 5; policy++)
            for (size_t prefill = 0; prefill <= 13; prefill += 6) {
                duo_config config = tiny_config();
                config.n_kv_heads = kv_heads[k];
                config.tied_embeddings = k == 0;
                fixture f = make_kept(&config, 3, 13);
                if (policy < DUO_MODULES)
                    duo_routes_fill(f.routes, f.B * f.T, f.L, (duo_module)policy);
                if (policy == 4) f.routing.kind = DUO_ROUTING_ROUTER;
                check_decoding(&f, prefill);
                free_fixture(&f);
            }
}
END_TEST

static int32_t best_of(const float *logits, size_t V)
{
    size_t best = 0;
    for (size_t v = 1; v < V; v++)
        if (logits[v] > logits[best]) best = v;
    return (int32_t)best;
}

/* Continue a prompt greedily, then look at the result as a whole sequence. */
START_TEST(greedy_continuation_is_what_the_whole_sequence_says)
{
    enum { T = 20, PROMPT = 4 };
    const duo_config config = tiny_config();
    for (int router = 0; router < 2; router++) {
        fixture f = make_kept(&config, 1, T);
        decoder d = make_decoder(&f.model->params, 1, T);
        if (router) f.routing.kind = DUO_ROUTING_ROUTER;
        duo_routing routing = f.routing;
        float *logits = pass_logits(&f);
        duo_cache_fill(&d.cache, f.pass, PROMPT);
        f.tokens[PROMPT] = best_of(logits + (PROMPT - 1) * f.V, f.V);
        free(logits);
        for (size_t t = PROMPT; t + 1 < T; t++) {
            routing.routes = f.routes + t * f.L;
            duo_decode(d.nodes, f.model, &d.cache, f.tokens + t, &routing, d.logits);
            f.tokens[t + 1] = best_of(d.logits, f.V);
        }
        logits = pass_logits(&f);
        for (size_t t = PROMPT - 1; t + 1 < T; t++)
            ck_assert_int_eq(f.tokens[t + 1], best_of(logits + t * f.V, f.V));
        free(logits);
        duo_arena_free(&d.arena);
        free_fixture(&f);
    }
}
END_TEST

/* Sequences of one batch may be of different lengths and do not see each other. */
START_TEST(sequences_of_different_lengths_advance_together)
{
    enum { S = 3, T = 12 };
    const duo_config config = tiny_config();
    fixture f = make_kept(&config, S, T);
    decoder d = make_decoder(&f.model->params, S, T);
    float *want = pass_logits(&f);
    duo_routing routing = {.kind = DUO_ROUTING_GIVEN, .routes = d.routes};
    duo_cache_fill(&d.cache, f.pass, 7);
    for (uint32_t s = 0; s < S; s++) d.cache.lengths[s] = 7 - 2 * s;
    for (size_t step = 0; step < 4; step++) {
        size_t at[S];
        for (size_t s = 0; s < S; s++) {
            at[s] = d.cache.lengths[s];
            d.tokens[s] = f.tokens[s * (T + 1) + at[s]];
            memcpy(d.routes + s * f.L, f.routes + (s * T + at[s]) * f.L, f.L);
        }
        duo_decode(d.nodes, f.model, &d.cache, d.tokens, &routing, d.logits);
        for (size_t s = 0; s < S; s++)
            for (size_t v = 0; v < f.V; v++)
                ck_assert_double_eq_tol((double)d.logits[s * f.V + v],
                                        (double)want[(s * T + at[s]) * f.V + v], tolerance);
    }
    free(want);
    duo_arena_free(&d.arena);
    free_fixture(&f);
}
END_TEST

enum { NODES = 11, WIDTH = 18 };

/* All that is computed of nodes at two positions of two sequences. */
typedef struct node_values {
    float x[NODES * WIDTH], h[NODES * WIDTH], k[NODES * 6], v[NODES * 6], y[NODES * WIDTH];
    float logits[NODES * 29];
    uint8_t routes[NODES * 2];
} node_values;

static void compute_nodes(node_values *n, const duo_model *model, decoder *d, bool keep)
{
    uint32_t sequences[NODES], positions[NODES], to[NODES], from[NODES];
    memset(n, 0, sizeof *n);
    for (uint32_t i = 0; i < NODES; i++) {
        sequences[i] = i > 6;
        positions[i] = i % 7 < 3 ? 4 : 2;
        to[i] = NODES - 1 - i;
        from[i] = i / 2;
    }
    for (size_t i = 0; i < NODES * WIDTH; i++) n->x[i] = sinf((float)i);
    duo_nodes_attend(d->nodes, model, 1, n->x, n->h, keep ? n->k : NULL, keep ? n->v : NULL,
                     &d->cache, sequences, positions, NODES);
    duo_nodes_ffn(d->nodes, model, 1, DUO_BIG, n->y, to, n->h, from, NODES);
    duo_nodes_route(d->nodes, model, NULL, 1, n->routes + 1, 2, n->h, positions, NODES);
    duo_nodes_logits(d->nodes, model, n->logits, n->x, NODES);
}

/* More nodes than the scratch holds are worked on in blocks. */
START_TEST(nodes_in_blocks_are_the_same_to_the_bit)
{
    const duo_config config = tiny_config();
    fixture f = make_kept(&config, 2, 4);
    node_values *whole = malloc(sizeof *whole), *blocks = malloc(sizeof *blocks);
    ck_assert(whole && blocks);
    duo_pass_forward(f.pass, f.model, f.tokens, &f.routing);
    for (size_t capacity = 1; capacity <= NODES; capacity += 5) {
        decoder d = make_decoder(&f.model->params, 2, 4);
        duo_arena nodes = {0}, measure = DUO_ARENA_MEASURE;
        duo_cache_fill(&d.cache, f.pass, 4);
        duo_nodes_take(&f.model->params, NODES, 4, &measure);
        ok(duo_arena_create(&nodes, measure.used, "nodes"));
        d.nodes = duo_nodes_take(&f.model->params, NODES, 4, &nodes);
        compute_nodes(whole, f.model, &d, true);
        duo_arena_rewind(&nodes, 0);
        d.nodes = duo_nodes_take(&f.model->params, capacity, 4, &nodes);
        compute_nodes(blocks, f.model, &d, true);
        ck_assert_mem_eq(blocks, whole, sizeof *whole);
        compute_nodes(blocks, f.model, &d, false);
        ck_assert_mem_eq(blocks->x, whole->x, sizeof whole->x);
        ck_assert_mem_eq(blocks->logits, whole->logits, sizeof whole->logits);
        duo_arena_free(&nodes);
        duo_arena_free(&d.arena);
    }
    free(whole);
    free(blocks);
    free_fixture(&f);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        decoding_agrees_with_whole_sequences,
        greedy_continuation_is_what_the_whole_sequence_says,
        sequences_of_different_lengths_advance_together,
        nodes_in_blocks_are_the_same_to_the_bit,
    };
    return run_suite("decode", tests, sizeof tests / sizeof *tests);
}
