#include "duo/model.h"

#include <string.h>

#include "duo/rng.h"

void duo_routes_fill(uint8_t *routes, size_t n, size_t L, duo_module module)
{
    memset(routes, (int)module, n * L);
}

void duo_routes_repeat(uint8_t *routes, size_t n, size_t L, const uint8_t *pattern)
{
    for (size_t i = 0; i < n; i++) memcpy(routes + i * L, pattern, L);
}

/* One random place serves four layers. */
static duo_random4 random_of_layers(duo_purpose purpose, uint64_t seed, uint64_t step, size_t row,
                                    size_t t, size_t l, size_t extra)
{
    return duo_random(seed, purpose,
                      (duo_place){.step = step,
                                  .row = (uint32_t)row,
                                  .position = (uint32_t)t,
                                  .layer = (uint32_t)(l / 4 * DUO_MODULES + extra)});
}

void duo_routes_random(uint8_t *routes, size_t B, size_t T, size_t L, const double p[DUO_MODULES],
                       uint64_t seed, uint64_t step, size_t first_row)
{
    /* A sum that is not quite 1 must not leave a remainder to a module of probability 0. */
    const double sum = p[DUO_BIG] + p[DUO_SMALL] + p[DUO_SKIP];
#pragma omp parallel for schedule(static)
    for (size_t n = 0; n < B * T; n++) {
        duo_random4 r = {{0}};
        for (size_t l = 0; l < L; l++) {
            if (l % 4 == 0)
                r = random_of_layers(DUO_RNG_ROUTE, seed, step, first_row + n / T, n % T, l, 0);
            const double u = duo_uniform(r.word[l % 4]) * sum;
            routes[n * L + l] = u < p[DUO_BIG]                  ? DUO_BIG
                                : u < p[DUO_BIG] + p[DUO_SMALL] ? DUO_SMALL
                                                                : DUO_SKIP;
        }
    }
}

duo_status duo_routes_pattern(uint8_t *pattern, size_t L, const char *text)
{
    if (strlen(text) != L)
        return duo_fail(DUO_EINVAL, "pattern '%s' has %zu letters, the model %zu layers", text,
                        strlen(text), L);
    for (size_t l = 0; l < L; l++) {
        duo_module module = DUO_SKIP;
        if (!duo_module_of_letter(&module, text[l]))
            return duo_fail(DUO_EINVAL,
                            "pattern '%s': letter %zu is not B (big), S (small) or - (skip)", text,
                            l + 1);
        pattern[l] = (uint8_t)module;
    }
    return DUO_OK;
}

void duo_gumbel_fill(float *noise, size_t B, size_t T, size_t L, size_t M, uint64_t seed,
                     uint64_t step, size_t first_row)
{
#pragma omp parallel for schedule(static)
    for (size_t n = 0; n < B * T; n++)
        for (size_t m = 0; m < M; m++) {
            duo_random4 r = {{0}};
            for (size_t l = 0; l < L; l++) {
                if (l % 4 == 0)
                    r = random_of_layers(DUO_RNG_GUMBEL, seed, step, first_row + n / T, n % T, l,
                                         m);
                noise[(n * L + l) * M + m] = (float)duo_gumbel(r.word[l % 4]);
            }
        }
}

void duo_routes_count(uint64_t *usage, const uint8_t *routes, size_t n, size_t L)
{
    for (size_t i = 0; i < n; i++)
        for (size_t l = 0; l < L; l++) usage[l * DUO_MODULES + routes[i * L + l]]++;
}

void duo_routes_shares(double share[DUO_MODULES], const uint64_t *usage, size_t L)
{
    uint64_t uses[DUO_MODULES] = {0}, all = 0;
    for (size_t i = 0; i < L * DUO_MODULES; i++) {
        uses[i % DUO_MODULES] += usage[i];
        all += usage[i];
    }
    for (duo_module m = 0; m < DUO_MODULES; m++) share[m] = (double)uses[m] / (double)all;
}

void duo_routes_group(duo_row_groups *groups, const uint8_t *routes, size_t stride, size_t n)
{
    memset(groups->count, 0, sizeof groups->count);
    for (size_t i = 0; i < n; i++) {
        const uint8_t module = routes[i * stride];
        if (module != DUO_SKIP) groups->rows[module][groups->count[module]] = (uint32_t)i;
        groups->count[module]++;
    }
}

double duo_flops_base(const duo_config *c, double context)
{
    const double C = (double)c->d_model, kv = (double)duo_kv_width(c);
    const double layer = 2 * C * C + 2 * C * kv + 2 * C * context; /* q, o; k, v; scores and sum */
    return 2.0 * ((double)c->n_layers * layer + C * (double)c->vocab_size);
}

double duo_flops_ffn(const duo_config *c, duo_module module)
{
    const size_t F[DUO_MODULES] = {0, c->d_small, c->d_big};
    return 2.0 * 3.0 * (double)c->d_model * (double)F[module];
}

double duo_flops_routers(const duo_config *c)
{
    const size_t M = duo_module_count(c->router_modules), H = c->router_hidden;
    return 2.0 * (double)(c->n_layers * (H > 0 ? H * (c->d_model + M) : M * c->d_model));
}
