#include <math.h>

#include "duo/rng.h"
#include "model_fixture.h"

/* ---------------------------------------------------------------- the table */

/* arXiv:2410.10846, section 2.1: 59 M, 944 M, 314 M and 82 M parameters. */
START_TEST(the_paper_model_has_the_papers_parameters)
{
    const duo_config config = {.n_layers = 12,
                               .d_model = 2560,
                               .n_heads = 20,
                               .n_kv_heads = 20,
                               .d_big = 10240,
                               .d_small = 640,
                               .vocab_size = 32000,
                               .max_seq = 2048,
                               .norm_eps = 1e-5,
                               .rope_theta = 10000.0,
                               .tied_embeddings = true};
    const struct {
        duo_group group;
        size_t count;
    } want[] = {{DUO_GROUP_SMALL, 58982400},
                {DUO_GROUP_BIG, 943718400},
                {DUO_GROUP_ATTENTION, 314572800},
                {DUO_GROUP_EMBEDDING, 81920000},
                {DUO_GROUP_NORM, 25 * 2560},
                {DUO_GROUP_HEAD, 0},
                {DUO_GROUP_ROUTER, 0}};
    duo_params params;
    ok(duo_config_check(&config, "test"));
    ok(duo_params_create(&params, &config));
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        ck_assert_uint_eq(duo_params_count(&params, DUO_GROUP_BIT(want[i].group)), want[i].count);
    ck_assert_uint_eq(duo_params_count(&params, DUO_ALL_GROUPS), 1399257600);
    duo_params_free(&params);
}
END_TEST

START_TEST(table_describes_every_tensor_once)
{
    duo_config config = tiny_config();
    config.tied_embeddings = false;
    duo_params params;
    ok(duo_params_create(&params, &config));
    ck_assert_uint_eq(params.n, 3 + 14 * config.n_layers);
    ck_assert_str_eq(params.table[0].name, "tok_emb");
    ck_assert_str_eq(params.table[1].name, "layers/00/attn_norm/weight");
    ck_assert_str_eq(params.table[params.n - 1].name, "lm_head");
    for (size_t i = 0; i < params.n; i++) {
        const duo_param *p = &params.table[i];
        ck_assert_uint_eq(p->count, p->shape[0] * (p->rank == 2 ? p->shape[1] : 1));
        ck_assert_int_eq(p->decay, p->rank == 2);
        for (size_t k = 0; k < i; k++) ck_assert_str_ne(p->name, params.table[k].name);
    }
    duo_params_free(&params);
}
END_TEST

START_TEST(initial_values_follow_the_table)
{
    duo_config config = tiny_config();
    config.d_big = 301;
    duo_model *model = NULL, *again = NULL;
    ok(duo_kernels_start(0));
    ok(duo_model_create(&model, &config));
    ok(duo_model_create(&again, &config));
    duo_model_init(model, DUO_ALL_GROUPS, 1);
    for (duo_group g = DUO_GROUPS; g-- > 0;) duo_model_init(again, DUO_GROUP_BIT(g), 1);
    for (size_t i = 0; i < model->params.n; i++) {
        const duo_param *p = &model->params.table[i];
        const float *w = model->weights.tensors[i];
        double mean = 0, square = 0;
        ck_assert_mem_eq(w, again->weights.tensors[i], p->count * sizeof *w);
        for (size_t k = 0; k < p->count; k++) mean += (double)w[k] / (double)p->count;
        for (size_t k = 0; k < p->count; k++)
            square += pow((double)w[k] - mean, 2) / (double)p->count;
        const double error = 4 * p->init_std / sqrt((double)p->count) + 1e-12;
        ck_assert_double_eq_tol(mean, p->init_mean, error);
        ck_assert_double_eq_tol(sqrt(square), p->init_std, error);
    }
    const double out = 0.02 / sqrt(2.0 * (double)config.n_layers);
    for (size_t i = 0; i < model->params.n; i++)
        if (model->params.table[i].slot == DUO_P_O || model->params.table[i].slot == DUO_P_BIG_DOWN)
            ck_assert_double_eq(model->params.table[i].init_std, out);
    duo_model_free(model);
    duo_model_free(again);
    duo_kernels_stop();
}
END_TEST

START_TEST(adding_routers_keeps_everything_else)
{
    duo_config config = tiny_config();
    config.router_modules = 0;
    duo_model *model = NULL, *with = NULL;
    ok(duo_kernels_start(0));
    ok(duo_model_create(&model, &config));
    ok(duo_model_create(&with, &config));
    duo_model_init(model, DUO_ALL_GROUPS, 9);
    duo_model_init(with, DUO_ALL_GROUPS, 9);
    duo_config two = config;
    two.router_modules = 1 << DUO_SMALL | 1 << DUO_BIG;
    ok(duo_model_add_routers(&with, &two, 4));
    ck_assert_uint_eq(duo_params_count(&with->params, DUO_GROUP_BIT(DUO_GROUP_ROUTER)),
                      config.n_layers * (2 * config.d_model + 2));
    for (size_t i = 0; i < model->params.n; i++) {
        const duo_param *p = &model->params.table[i];
        ck_assert_mem_eq(model->weights.tensors[i], duo_tree_at(&with->weights, p->layer, p->slot),
                         p->count * sizeof(float));
    }
    ck_assert(duo_tree_at(&with->weights, 1, DUO_P_ROUTER_WEIGHT)[0] != 0.0f);
    duo_model_free(model);
    duo_model_free(with);
    duo_kernels_stop();
}
END_TEST

/* ---------------------------------------------------------------- routes */

START_TEST(random_routes_have_their_shares_in_every_layer)
{
    enum { B = 20, T = 200, L = 6 };
    const double p[DUO_MODULES] = {0.2, 0.5, 0.3};
    static uint8_t routes[B * T * L];
    uint64_t usage[L * DUO_MODULES] = {0};
    duo_routes_random(routes, B, T, L, p, 1, 2, 0);
    duo_routes_count(usage, routes, (size_t)B * T, L);
    for (size_t l = 0; l < L; l++)
        for (size_t m = 0; m < DUO_MODULES; m++) /* 4 standard errors of 4000 draws */
            ck_assert_double_eq_tol((double)usage[l * DUO_MODULES + m] / (B * T), p[m], 0.032);
    /* Layers are independent: of those that are big in one, 30 % are big in the next. */
    size_t both = 0, first = 0;
    for (size_t n = 0; n < (size_t)B * T; n++)
        for (size_t l = 0; l + 1 < L; l++) {
            if (routes[n * L + l] != DUO_BIG) continue;
            first++;
            both += routes[n * L + l + 1] == DUO_BIG;
        }
    ck_assert_double_eq_tol((double)both / (double)first, p[DUO_BIG], 0.025);
}
END_TEST

START_TEST(a_module_of_probability_zero_is_never_drawn)
{
    enum { B = 20, T = 200, L = 6 };
    const double p[DUO_MODULES] = {0, 0.4, 0.4}; /* far from a sum of 1, to see it often */
    static uint8_t routes[B * T * L];
    uint64_t usage[L * DUO_MODULES] = {0};
    duo_routes_random(routes, B, T, L, p, 1, 2, 0);
    duo_routes_count(usage, routes, (size_t)B * T, L);
    for (size_t l = 0; l < L; l++) ck_assert_uint_eq(usage[l * DUO_MODULES + DUO_SKIP], 0);
}
END_TEST

START_TEST(draws_do_not_depend_on_the_micro_batch)
{
    enum { B = 6, T = 5, L = 7, M = 3 };
    const double p[DUO_MODULES] = {0.3, 0.3, 0.4};
    uint8_t whole[B * T * L], parts[B * T * L], other[B * T * L];
    float noise[B * T * L * M], parts_noise[B * T * L * M];
    duo_routes_random(whole, B, T, L, p, 8, 3, 0);
    duo_gumbel_fill(noise, B, T, L, M, 8, 3, 0);
    for (size_t b = 0; b < B; b += 2) {
        duo_routes_random(parts + b * T * L, 2, T, L, p, 8, 3, b);
        duo_gumbel_fill(parts_noise + b * T * L * M, 2, T, L, M, 8, 3, b);
    }
    ck_assert_mem_eq(whole, parts, sizeof whole);
    ck_assert_mem_eq(noise, parts_noise, sizeof noise);
    duo_routes_random(other, B, T, L, p, 8, 4, 0);
    ck_assert_mem_ne(whole, other, sizeof whole);
}
END_TEST

START_TEST(gumbel_noise_picks_by_the_softmax)
{
    enum { B = 10, T = 300, L = 5, M = 3, N = B * T * L };
    static float noise[N * M];
    const double logit[M] = {0.0, 1.0, -0.5};
    size_t picked[M] = {0};
    double sum = 0;
    duo_gumbel_fill(noise, B, T, L, M, 6, 0, 0);
    for (size_t n = 0; n < N; n++) {
        size_t best = 0;
        for (size_t m = 1; m < M; m++)
            if (logit[m] + (double)noise[n * M + m] > logit[best] + (double)noise[n * M + best])
                best = m;
        picked[best]++;
    }
    for (size_t m = 0; m < M; m++) sum += exp(logit[m]);
    for (size_t m = 0; m < M; m++) /* 4 standard errors of 15000 draws */
        ck_assert_double_eq_tol((double)picked[m] / N, exp(logit[m]) / sum, 0.017);
}
END_TEST

START_TEST(patterns_are_read_and_refused)
{
    uint8_t pattern[4], routes[8];
    const uint8_t want[4] = {DUO_BIG, DUO_SMALL, DUO_SKIP, DUO_SMALL};
    ok(duo_routes_pattern(pattern, 4, "BS-s"));
    ck_assert_mem_eq(pattern, want, sizeof want);
    duo_routes_repeat(routes, 2, 4, pattern);
    ck_assert_mem_eq(routes, want, sizeof want);
    ck_assert_mem_eq(routes + 4, want, sizeof want);
    refused_as(duo_routes_pattern(pattern, 4, "BSB"), DUO_EINVAL,
               "pattern 'BSB' has 3 letters, the model 4 layers");
    refused_as(duo_routes_pattern(pattern, 4, "BSxB"), DUO_EINVAL,
               "pattern 'BSxB': letter 3 is not B (big), S (small) or - (skip)");
    refused_as(duo_routes_pattern(pattern, 4, ""), DUO_EINVAL,
               "pattern '' has 0 letters, the model 4 layers");
}
END_TEST

START_TEST(rows_are_grouped_in_ascending_order)
{
    const uint8_t routes[6][2] = {{2, 0}, {1, 0}, {0, 0}, {2, 0}, {2, 0}, {1, 0}};
    uint32_t small[6], big[6];
    duo_row_groups groups = {.rows = {NULL, small, big}};
    duo_routes_group(&groups, routes[0], 2, 6);
    ck_assert_uint_eq(groups.count[DUO_SKIP], 1);
    ck_assert_uint_eq(groups.count[DUO_SMALL], 2);
    ck_assert_uint_eq(groups.count[DUO_BIG], 3);
    ck_assert_mem_eq(small, ((const uint32_t[]){1, 5}), 8);
    ck_assert_mem_eq(big, ((const uint32_t[]){0, 3, 4}), 12);
    duo_routes_group(&groups, routes[0] + 1, 2, 6);
    ck_assert_uint_eq(groups.count[DUO_SKIP], 6);
    ck_assert_uint_eq(groups.count[DUO_SMALL] + groups.count[DUO_BIG], 0);
}
END_TEST

/* C = 18, D = 6, 3 heads, 1 key/value head, F = 23 and 7, V = 29, L = 2. */
START_TEST(flops_by_hand)
{
    const duo_config config = tiny_config();
    const double qkvo = 18 * 18 + 6 * 18 + 6 * 18 + 18 * 18, attention = 2 * 3 * 6 * 10;
    ck_assert_double_eq(duo_flops_base(&config, 10), 2 * (2 * (qkvo + attention) + 18 * 29));
    ck_assert_double_eq(duo_flops_ffn(&config, DUO_SKIP), 0);
    ck_assert_double_eq(duo_flops_ffn(&config, DUO_SMALL), 2 * 3 * 18 * 7);
    ck_assert_double_eq(duo_flops_ffn(&config, DUO_BIG), 2 * 3 * 18 * 23);
    ck_assert_double_eq(duo_flops_routers(&config), 2 * 2 * 3 * 18);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        the_paper_model_has_the_papers_parameters,
        table_describes_every_tensor_once,
        initial_values_follow_the_table,
        adding_routers_keeps_everything_else,
        random_routes_have_their_shares_in_every_layer,
        a_module_of_probability_zero_is_never_drawn,
        draws_do_not_depend_on_the_micro_batch,
        gumbel_noise_picks_by_the_softmax,
        patterns_are_read_and_refused,
        rows_are_grouped_in_ascending_order,
        flops_by_hand,
    };
    return run_suite("route", tests, sizeof tests / sizeof *tests);
}
