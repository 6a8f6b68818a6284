#include <math.h>

#include "model_fixture.h"

/* ---------------------------------------------------------------- gradients */

/* A difference over four points: with h = 0.02 truncation stays below h^4 / 30 of a fifth
 * derivative, about 1e-6, and the rounding of losses of about 3 * 20 tokens is 4e-6 / h = 2e-4. */
static double slope(fixture *f, float *x)
{
    const float keep = *x, h = 0.02f;
    double value[4];
    const float at[4] = {keep - 2 * h, keep - h, keep + h, keep + 2 * h};
    for (size_t i = 0; i < 4; i++) {
        *x = at[i];
        value[i] = forward(f);
    }
    *x = keep;
    return (8 * (value[2] - value[1]) - (value[3] - value[0])) / (12 * (double)h);
}

static void check_entry(fixture *f, size_t tensor, size_t i, float before)
{
    const double want = (double)before + slope(f, f->model->weights.tensors[tensor] + i);
    const double got = (double)f->gradient.tensors[tensor][i];
    if (!(fabs(got - want) <= 2e-3 + 1e-3 * fabs(want)))
        ck_abort_msg("%s[%zu]: %.7g, by differences %.7g", f->model->params.table[tensor].name, i,
                     got, want);
}

/* The entry with the largest gradient, and some spread over the tensor. */
static void check_gradients(fixture *f)
{
    const float before = 0.25f; /* not 0: backward must add, not overwrite */
    for (size_t i = 0; i < f->gradient.count; i++) f->gradient.block[i] = before;
    backward(f);
    for (size_t p = 0; p < f->model->params.n; p++) {
        const size_t count = f->model->params.table[p].count;
        const bool router = f->model->params.table[p].group == DUO_GROUP_ROUTER;
        size_t largest = 0;
        for (size_t i = 0; i < count; i++) {
            const float *g = f->gradient.tensors[p];
            if (fabsf(g[i] - before) > fabsf(g[largest] - before)) largest = i;
        }
        if (router != (f->routing.kind == DUO_ROUTING_GUMBEL) && router)
            ck_assert(f->gradient.tensors[p][largest] == before);
        else
            ck_assert_msg(fabsf(f->gradient.tensors[p][largest] - before) > 1e-2f,
                          "%s: no gradient to speak of", f->model->params.table[p].name);
        check_entry(f, p, largest, before);
        for (size_t k = 0; k < 4; k++) check_entry(f, p, (k * count + count / 2) / 4, before);
    }
}

START_TEST(gradients_of_given_routes_match_differences)
{
    for (int untied = 0; untied < 2; untied++) {
        duo_config config = tiny_config();
        config.tied_embeddings = !untied;
        config.n_kv_heads = untied ? 3 : 1;
        if (untied) config.d_small = 31; /* wider than big: nothing may rely on the names */
        fixture f = make_fixture(&config, 3, 7);
        check_gradients(&f);
        free_fixture(&f);
    }
}
END_TEST

START_TEST(gradients_of_soft_routes_match_differences)
{
    const struct {
        duo_module_set modules;
        duo_group_set unused; /* FFNs that are out of the game */
    } cases[] = {{ALL_MODULES, 0},
                 {1 << DUO_SMALL | 1 << DUO_BIG, 0},
                 {1 << DUO_SKIP | 1 << DUO_BIG, DUO_GROUP_BIT(DUO_GROUP_SMALL)},
                 {1 << DUO_SKIP | 1 << DUO_SMALL, DUO_GROUP_BIT(DUO_GROUP_BIG)}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        duo_config config = tiny_config();
        config.router_modules = cases[i].modules;
        fixture f = make_fixture(&config, 2, 9);
        use_gumbel(&f, false);
        for (duo_module m = 0; m < DUO_MODULES; m++)
            if (!duo_module_in(cases[i].modules, m)) f.routing.loss.target[m] = -1;
        if (cases[i].unused == 0) {
            check_gradients(&f);
        } else {
            backward(&f);
            for (size_t p = 0; p < f.model->params.n; p++) {
                const duo_param *param = &f.model->params.table[p];
                const bool unused = (cases[i].unused & DUO_GROUP_BIT(param->group)) != 0;
                for (size_t k = 0; k < param->count; k++)
                    ck_assert(!unused || f.gradient.tensors[p][k] == 0.0f);
                check_entry(&f, p, param->count / 2, 0.0f);
            }
        }
        f.routing.noise = NULL;
        f.routing.tau = 1.5f;
        memset(f.gradient.block, 0, f.gradient.count * sizeof *f.gradient.block);
        backward(&f);
        for (size_t p = 0; p < f.model->params.n; p++) check_entry(&f, p, 0, 0.0f);
        free_fixture(&f);
    }
}
END_TEST

/* Straight-through: the forward mixes by one-hot weights w, and backward takes dw for the gradient
 * of soft = softmax((h + noise) / tau), so that dh_m = soft_m / tau (dw_m - sum_k soft_k dw_k).
 * In a model of one layer tokens are independent behind the attention; with router weights of zero
 * h is the bias; and soft routing with noise tau log(w) - h mixes by any weights w. So the slope of
 * the loss from one module's one-hot towards another's gives dw_m - dw_best, token by token. */
START_TEST(straight_through_gradient_follows_its_formula)
{
    enum { B = 2, T = 9, N = B * T, M = DUO_MODULES };
    const double eps = 0.02;
    duo_config config = tiny_config();
    config.n_layers = 1;
    fixture f = make_fixture(&config, B, T);
    float *bias = duo_tree_at(&f.model->weights, 0, DUO_P_ROUTER_BIAS);
    memset(duo_tree_at(&f.model->weights, 0, DUO_P_ROUTER_WEIGHT), 0,
           M * config.d_model * sizeof(float));
    use_gumbel(&f, true);
    for (size_t m = 0; m < M; m++) f.routing.loss.target[m] = -1;
    backward(&f);
    const float *dbias = duo_tree_at(&f.gradient, 0, DUO_P_ROUTER_BIAS);
    const float tau = f.routing.tau;

    uint8_t best[N];
    double soft[N][M], dw[N][M] = {{0}};
    float hard_loss[N];
    memcpy(best, f.routes, sizeof best);
    memcpy(hard_loss, f.loss, sizeof hard_loss);
    for (size_t n = 0; n < N; n++) {
        double sum = 0;
        for (size_t m = 0; m < M; m++)
            sum += soft[n][m] = exp((double)(bias[m] + f.noise[n * M + m]) / (double)tau);
        for (size_t m = 0; m < M; m++) soft[n][m] /= sum;
        for (size_t m = 0; m < M; m++) ck_assert(soft[n][m] <= soft[n][best[n]] * (1 + 1e-6));
    }
    f.routing = (duo_routing){.kind = DUO_ROUTING_GIVEN, .routes = best};
    forward(&f);
    for (size_t n = 0; n < N; n++)
        ck_assert_double_eq_tol((double)f.loss[n], (double)hard_loss[n], 1e-5);

    use_gumbel(&f, false);
    for (size_t m = 0; m < M; m++)
        for (int points = 1; points <= 2; points++) {
            const double share = points * eps;
            for (size_t n = 0; n < N; n++)
                for (size_t k = 0; k < M; k++) {
                    const double w = k == best[n] ? 1 - share : k == m ? share : 1e-30;
                    f.noise[n * M + k] = (float)((double)tau * log(w) - (double)bias[k]);
                }
            forward(&f);
            /* (4 f(eps) - f(2 eps) - 3 f(0)) / 2 eps */
            for (size_t n = 0; n < N; n++)
                if (m != best[n])
                    dw[n][m] += (points == 1 ? 4.0 : -1.0) *
                                ((double)f.loss[n] - (double)hard_loss[n]) / (2 * eps);
        }
    for (size_t m = 0; m < M; m++) {
        double want = 0;
        for (size_t n = 0; n < N; n++) {
            double mean = 0;
            for (size_t k = 0; k < M; k++) mean += soft[n][k] * dw[n][k];
            want += soft[n][m] / (double)tau * (dw[n][m] - mean);
        }
        /* eps^2 / 3 of third derivatives, and 3e-7 / eps of rounding, for 18 tokens */
        ck_assert_double_eq_tol((double)dbias[m], want, 5e-3);
    }
    free_fixture(&f);
}
END_TEST

/* ---------------------------------------------------------------- freezing */

START_TEST(a_frozen_part_changes_no_bit_of_the_rest)
{
    const duo_config tied = tiny_config();
    duo_config config = tied;
    config.tied_embeddings = false;
    for (int gumbel = 0; gumbel < 3; gumbel++)
        for (duo_group_set groups = 1; groups <= DUO_ALL_GROUPS; groups++) {
            const bool single = (groups & (groups - 1)) == 0;
            const bool all_but_one = duo_module_count(DUO_ALL_GROUPS & ~groups) == 1;
            if (!single && !all_but_one) continue;
            fixture full = make_fixture(&config, 2, 6), part = {.B = 2, .T = 6};
            ok(duo_model_create(&part.model, &config));
            random_model(part.model, 11);
            setup_fixture(&part, groups);
            if (gumbel > 0) use_gumbel(&full, gumbel == 2);
            if (gumbel > 0) use_gumbel(&part, gumbel == 2);
            backward(&full);
            backward(&part);
            size_t trained = 0;
            for (size_t i = 0; i < full.model->params.n; i++) {
                const duo_param *p = &full.model->params.table[i];
                const bool trains = (groups & DUO_GROUP_BIT(p->group)) != 0;
                ck_assert_int_eq(part.gradient.tensors[i] != NULL, trains);
                if (!trains) continue;
                ck_assert_msg(memcmp(part.gradient.tensors[i], full.gradient.tensors[i],
                                     p->count * sizeof(float)) == 0,
                              "%s differs when the groups %x are trained", p->name, groups);
                trained += (p->count + 15) / 16 * 16;
            }
            ck_assert_uint_eq(part.gradient.count, trained);
            ck_assert_mem_eq(part.loss, full.loss, 12 * sizeof(float));
            duo_arena_free(&part.arena);
            duo_model_free(part.model);
            free_fixture(&full);
        }
}
END_TEST

static void spoil(duo_model *model, duo_group_set groups)
{
    for (size_t i = 0; i < model->params.n; i++)
        if (groups & DUO_GROUP_BIT(model->params.table[i].group))
            for (size_t k = 0; k < model->params.table[i].count; k++)
                model->weights.tensors[i][k] = NAN;
}

/* Weights that are not a number show whether anything read them. */
START_TEST(a_module_that_no_token_takes_is_not_computed)
{
    const struct {
        double p[DUO_MODULES];
        duo_group_set unused;
    } cases[] = {{{1, 0, 0}, DUO_GROUP_BIT(DUO_GROUP_BIG) | DUO_GROUP_BIT(DUO_GROUP_SMALL)},
                 {{0.5, 0.5, 0}, DUO_GROUP_BIT(DUO_GROUP_BIG)},
                 {{0.5, 0, 0.5}, DUO_GROUP_BIT(DUO_GROUP_SMALL)}};
    const duo_config config = tiny_config();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f = make_fixture(&config, 3, 8);
        float clean[3 * 8];
        duo_routes_random(f.routes, f.B, f.T, f.L, cases[i].p, 4, 0, 0);
        forward(&f);
        memcpy(clean, f.loss, sizeof clean);
        spoil(f.model, cases[i].unused | DUO_GROUP_BIT(DUO_GROUP_ROUTER));
        backward(&f);
        ck_assert_mem_eq(f.loss, clean, sizeof clean);
        for (size_t p = 0; p < f.model->params.n; p++) {
            const bool unused =
                (cases[i].unused & DUO_GROUP_BIT(f.model->params.table[p].group)) != 0;
            for (size_t k = 0; k < f.model->params.table[p].count; k++) {
                ck_assert(isfinite(f.gradient.tensors[p][k]));
                ck_assert(!unused || f.gradient.tensors[p][k] == 0.0f);
            }
        }
        free_fixture(&f);
    }
}
END_TEST

/* With every token skipping, an FFN-free layer is left: down projections of zero give the same. */
START_TEST(skipping_everything_leaves_attention_alone)
{
    const duo_config config = tiny_config();
    fixture f = make_fixture(&config, 2, 9);
    float skipped[2 * 9];
    duo_routes_fill(f.routes, f.B * f.T, f.L, DUO_SKIP);
    forward(&f);
    memcpy(skipped, f.loss, sizeof skipped);
    for (size_t l = 0; l < f.L; l++)
        memset(duo_tree_at(&f.model->weights, l, DUO_P_BIG_DOWN), 0,
               config.d_model * config.d_big * sizeof(float));
    duo_routes_fill(f.routes, f.B * f.T, f.L, DUO_BIG);
    forward(&f);
    ck_assert_mem_eq(f.loss, skipped, sizeof skipped);
    free_fixture(&f);
}
END_TEST

/* ---------------------------------------------------------------- bits */

/* Loss, budget loss, routes and gradients of one forward and backward at this thread count. */
static float *run_on_threads(const duo_config *config, int threads, int gumbel, size_t *count)
{
    fixture f = make_fixture_on(threads, config, 5, 33);
    if (gumbel > 0) use_gumbel(&f, gumbel == 2);
    const double scalar = forward(&f);
    backward(&f);
    *count = f.gradient.count + f.B * f.T + 2;
    float *all = malloc(*count * sizeof *all);
    ck_assert_ptr_nonnull(all);
    memcpy(all, f.gradient.block, f.gradient.count * sizeof *all);
    memcpy(all + f.gradient.count, f.loss, f.B * f.T * sizeof *all);
    memcpy(all + f.gradient.count + f.B * f.T, &scalar, sizeof scalar);
    free_fixture(&f);
    return all;
}

START_TEST(bits_do_not_depend_on_threads)
{
    const duo_config config = wide_config();
    for (int gumbel = 0; gumbel < 3; gumbel++) {
        size_t count = 0;
        float *one = run_on_threads(&config, 1, gumbel, &count);
        for (int threads = 2; threads <= 4; threads++) {
            float *many = run_on_threads(&config, threads, gumbel, &count);
            ck_assert_mem_eq(one, many, count * sizeof *one);
            free(many);
        }
        free(one);
    }
}
END_TEST

START_TEST(a_pass_without_backward_gives_the_same_loss)
{
    const duo_config config = tiny_config();
    for (int gumbel = 0; gumbel < 2; gumbel++) {
        fixture with = make_fixture(&config, 3, 8), without = {.B = 3, .T = 8};
        without.forward_only = true;
        ok(duo_model_create(&without.model, &config));
        random_model(without.model, 11);
        setup_fixture(&without, 0);
        if (gumbel) use_gumbel(&with, false);
        if (gumbel) use_gumbel(&without, false);
        ck_assert(forward(&with) == forward(&without));
        ck_assert_mem_eq(with.loss, without.loss, 3 * 8 * sizeof(float));
        ck_assert_mem_eq(with.routes, without.routes, 3 * 8 * with.L);
        duo_arena_free(&without.arena);
        duo_model_free(without.model);
        free_fixture(&with);
    }
}
END_TEST

START_TEST(logits_and_loss_say_the_same)
{
    const duo_config config = tiny_config();
    fixture f = make_fixture(&config, 2, 5);
    float *logits = malloc(f.B * f.T * f.V * sizeof *logits);
    ck_assert_ptr_nonnull(logits);
    forward(&f);
    duo_pass_logits(f.pass, f.model, logits);
    for (size_t n = 0; n < f.B * f.T; n++) {
        const float *z = logits + n * f.V;
        const int32_t target = f.tokens[n / f.T * (f.T + 1) + n % f.T + 1];
        double sum = 0;
        for (size_t v = 0; v < f.V; v++) sum += exp((double)z[v]);
        ck_assert_double_eq_tol((double)f.loss[n], log(sum) - (double)z[target], 1e-5);
    }
    free(logits);
    free_fixture(&f);
}
END_TEST

/* Loss, then gradient: (N) and (gradient.count). */
static float *loss_and_gradient(fixture *f)
{
    const size_t N = f->B * f->T;
    float *all = malloc((N + f->gradient.count) * sizeof *all);
    ck_assert_ptr_nonnull(all);
    memset(f->gradient.block, 0, f->gradient.count * sizeof(float));
    backward(f);
    memcpy(all, f->loss, N * sizeof *all);
    memcpy(all + N, f->gradient.block, f->gradient.count * sizeof *all);
    return all;
}

START_TEST(packed_weights_change_no_bit)
{
    const duo_config config = tiny_config();
    fixture f = make_fixture(&config, 2, 7);
    const size_t bytes = (f.B * f.T + f.gradient.count) * sizeof(float);
    duo_arena measure = DUO_ARENA_MEASURE, packs = {0};
    float *unpacked = loss_and_gradient(&f);
    ok(duo_model_pack(f.model, DUO_FP32));
    float *forward_packed = loss_and_gradient(&f);
    ck_assert_mem_eq(unpacked, forward_packed, bytes);
    duo_model_drop_packs(f.model);

    duo_model_take_packs(NULL, &f.model->params, DUO_FP32, true, &measure);
    ok(duo_arena_create(&packs, measure.used, "packs"));
    duo_model_take_packs(f.model, &f.model->params, DUO_FP32, true, &packs);
    random_model(f.model, 12); /* packed from these weights, not from earlier ones */
    duo_model_repack(f.model, DUO_ALL_GROUPS);
    float *packed = loss_and_gradient(&f);
    duo_model_drop_packs(f.model);
    duo_arena_free(&packs);
    float *anew = loss_and_gradient(&f);
    ck_assert_mem_eq(anew, packed, bytes);
    ck_assert_mem_ne(anew, unpacked, bytes);
    free(unpacked), free(forward_packed), free(packed), free(anew);
    free_fixture(&f);
}
END_TEST

/* A rounded operand is off by 2^-9 at most; a gradient passes some ten products. */
START_TEST(bf16_operands_stay_near_fp32)
{
    const duo_config config = tiny_config();
    fixture f = make_fixture(&config, 3, 8);
    const size_t N = f.B * f.T, n = N + f.gradient.count;
    duo_arena measure = DUO_ARENA_MEASURE, packs = {0};
    float *exact = loss_and_gradient(&f);
    duo_model_take_packs(NULL, &f.model->params, DUO_BF16, true, &measure);
    ok(duo_arena_create(&packs, measure.used, "packs"));
    duo_model_take_packs(f.model, &f.model->params, DUO_BF16, true, &packs);
    duo_model_repack(f.model, DUO_ALL_GROUPS);
    float *rounded = loss_and_gradient(&f);
    double off = 0, all = 0;
    for (size_t i = N; i < n; i++) {
        off += pow((double)rounded[i] - (double)exact[i], 2);
        all += pow((double)exact[i], 2);
    }
    for (size_t i = 0; i < N; i++)
        ck_assert_double_eq_tol((double)rounded[i], (double)exact[i], 0.02 * (double)exact[i]);
    ck_assert(off > 0 && sqrt(off / all) < 0.02);
    duo_model_drop_packs(f.model);
    duo_arena_free(&packs);
    free(exact), free(rounded);
    free_fixture(&f);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        gradients_of_given_routes_match_differences,
        gradients_of_soft_routes_match_differences,
        straight_through_gradient_follows_its_formula,
        a_frozen_part_changes_no_bit_of_the_rest,
        a_module_that_no_token_takes_is_not_computed,
        skipping_everything_leaves_attention_alone,
        bits_do_not_depend_on_threads,
        a_pass_without_backward_gives_the_same_loss,
        logits_and_loss_say_the_same,
        packed_weights_change_no_bit,
        bf16_operands_stay_near_fp32,
    };
    return run_suite("model", tests, sizeof tests / sizeof *tests);
}
