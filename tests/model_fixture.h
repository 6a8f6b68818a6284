#ifndef DUO_MODEL_FIXTURE_H
#define DUO_MODEL_FIXTURE_H

#include "check_fixture.h"
#include "duo/kernels.h"
#include "duo/model.h"
#include "random_model.h"

/* A model, a batch and everything that a pass over it needs. */
typedef struct fixture {
    duo_model *model;
    size_t B, T, L, M, V;
    bool keep_kv, forward_only, routers;
    duo_arena arena;
    duo_pass *pass;
    duo_tree gradient;
    duo_routing routing;
    int32_t *tokens;         /* (B, T+1) */
    uint8_t *routes;         /* (B, T, L) */
    float *noise;            /* (B, T, L, M) */
    float *loss;             /* (B, T) */
    duo_router_terms *terms; /* (B) */
} fixture;

static inline void lay_out_fixture(fixture *f, duo_group_set groups, duo_arena *arena)
{
    const duo_params *params = &f->model->params;
    const size_t N = f->B * f->T;
    const duo_pass_shape shape = {.B = f->B,
                                  .T = f->T,
                                  .backward = !f->forward_only,
                                  .gumbel = f->M > 0,
                                  .routers = f->routers,
                                  .keep_kv = f->keep_kv};
    f->pass = duo_pass_take(params, shape, arena);
    duo_tree_take(&f->gradient, params, groups, arena);
    f->tokens = DUO_TAKE(arena, int32_t, f->B * (f->T + 1));
    f->routes = DUO_TAKE(arena, uint8_t, N * f->L);
    f->noise = DUO_TAKE(arena, float, N * f->L * f->M);
    f->loss = DUO_TAKE(arena, float, N);
    f->terms = DUO_TAKE(arena, duo_router_terms, f->B);
}

/* Around f->model, with f->B, f->T and the flags set: random tokens, routes of all modules. */
static inline void setup_fixture(fixture *f, duo_group_set groups)
{
    const duo_config *c = &f->model->params.config;
    const double p[DUO_MODULES] = {0.3, 0.3, 0.4};
    f->L = c->n_layers;
    f->M = duo_module_count(c->router_modules);
    f->V = c->vocab_size;
    duo_arena measure = DUO_ARENA_MEASURE;
    lay_out_fixture(f, groups, &measure);
    ok(duo_arena_create(&f->arena, measure.used, "fixture"));
    lay_out_fixture(f, groups, &f->arena);
    for (size_t i = 0; i < f->B * (f->T + 1); i++) {
        const duo_place place = {.step = 1000, .position = (uint32_t)i};
        f->tokens[i] = (int32_t)(duo_random(5, DUO_RNG_TEST, place).word[0] % f->V);
    }
    duo_routes_random(f->routes, f->B, f->T, f->L, p, 3, 0, 0);
    duo_gumbel_fill(f->noise, f->B, f->T, f->L, f->M, 3, 0, 0);
    f->routing = (duo_routing){.kind = DUO_ROUTING_GIVEN, .routes = f->routes};
}

/* Scratch is sized for the threads that the kernels were started with. */
static inline fixture make_fixture_on(int threads, const duo_config *config, size_t B, size_t T)
{
    fixture f = {.B = B, .T = T};
    ok(duo_kernels_start(threads));
    ok(duo_model_create(&f.model, config));
    random_model(f.model, 11);
    setup_fixture(&f, DUO_ALL_GROUPS);
    return f;
}

/* One thread: kernels this small would wait for the others most of the time. */
static inline fixture make_fixture(const duo_config *config, size_t B, size_t T)
{
    return make_fixture_on(1, config, B, T);
}

static inline void free_fixture(fixture *f)
{
    duo_arena_free(&f->arena);
    duo_model_free(f->model);
    duo_kernels_stop();
}

static inline void use_gumbel(fixture *f, bool straight_through)
{
    f->routing = (duo_routing){.kind = DUO_ROUTING_GUMBEL,
                               .routes = f->routes,
                               .noise = f->noise,
                               .tau = 0.7f,
                               .straight_through = straight_through,
                               .loss = {.alpha = 1, .target = {0.2, -1.0, 0.3}}};
}

enum { DROUTER = 3 };

/* sum(loss) + DROUTER * sum(router loss): the scalar whose gradient backward() leaves. */
static inline double forward(fixture *f)
{
    double sum = 0;
    duo_pass_forward(f->pass, f->model, f->tokens, &f->routing);
    duo_pass_loss(f->pass, f->model, f->loss, NULL, 0);
    for (size_t n = 0; n < f->B * f->T; n++) sum += (double)f->loss[n];
    if (f->routing.kind != DUO_ROUTING_GUMBEL && !f->routers) return sum;
    duo_pass_router_loss(f->pass, &f->routing, f->terms);
    for (size_t b = 0; b < f->B; b++) sum += DROUTER * f->terms[b].total;
    return sum;
}

/* Adds to f->gradient. */
static inline void backward(fixture *f)
{
    duo_pass_forward(f->pass, f->model, f->tokens, &f->routing);
    duo_pass_loss(f->pass, f->model, f->loss, &f->gradient, 1.0f);
    duo_pass_backward(f->pass, f->model, &f->routing, &f->gradient, DROUTER);
}

#endif
