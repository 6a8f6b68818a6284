#include "naive_oracle.h"
#include "study_fixture.h"

enum { CHOICES = R * T * L };

/* Routes of no pattern. */
static void make_routes(uint8_t *routes, duo_module_set modules)
{
    duo_module in[DUO_MODULES];
    size_t n = 0;
    for (duo_module m = 0; m < DUO_MODULES; m++)
        if (duo_module_in(modules, m)) in[n++] = m;
    for (size_t i = 0; i < CHOICES; i++) routes[i] = (uint8_t)in[(i * i + i / 3) % n];
}

static void least(float *value, float score)
{
    if (score < *value) *value = score;
}

/* Every route of every token by itself, from the definition: it belongs to a choice when it begins
 * as the routes at hand do and takes the module there; with the same completion it also ends so. */
static void value_naively(const fixture *f, const duo_search_setting *setting,
                          duo_completion completion, const uint8_t *routes, float *values)
{
    naive n;
    uint8_t big[L];
    duo_routes_fill(big, 1, L, DUO_BIG);
    ok(naive_create(&n, f->model, T));
    for (size_t i = 0; i < CHOICES * DUO_MODULES; i++) values[i] = INFINITY;
    for (size_t i = 0; i < R * T; i++) {
        const int32_t *tokens = f->sequences.tokens + i / T * (T + 1);
        const uint8_t *own = routes + i * L;
        uint8_t route[L], all_big[T * L];
        duo_routes_fill(all_big, T, L, DUO_BIG);
        naive_context(&n, tokens, all_big);
        duo_softmax_forward(n.q, naive_step(&n, tokens, i % T, big, true), 1, n.V);
        naive_context(&n, tokens, routes + i / T * T * L);
        naive_first(route, L, setting->modules);
        do {
            const bool same = completion == DUO_COMPLETE_SAME;
            if (!same && !naive_within(&setting->budget, route, &f->model->params.config)) continue;
            naive_step(&n, tokens, i % T, route, true);
            const float score = setting->goal == DUO_GOAL_LABEL_FREE
                                    ? naive_expected(&n)
                                    : naive_loss(&n, tokens[i % T + 1]);
            for (size_t l = 0; l < L; l++) {
                bool belongs = memcmp(route, own, l) == 0;
                if (same) belongs = belongs && memcmp(route + l + 1, own + l + 1, L - l - 1) == 0;
                if (belongs) least(&values[(i * L + l) * DUO_MODULES + route[l]], score);
            }
        } while (naive_next(route, L, setting->modules));
    }
    naive_free(&n);
}

START_TEST(values_are_those_of_the_definition)
{
    const duo_module_set sets[] = {TWO, ALL_MODULES};
    for (int set = 0; set < 2; set++)
        for (int goal = 0; goal < 2; goal++)
            for (int same = 0; same < 2; same++)
                for (size_t max_nodes = 0; max_nodes <= 7; max_nodes += 7) {
                    fixture f = make_fixture(1, R, T);
                    uint8_t routes[CHOICES];
                    float values[CHOICES * DUO_MODULES], naively[CHOICES * DUO_MODULES];
                    size_t none = 0;
                    const duo_search_setting setting = {.modules = sets[set],
                                                        .budget = exactly(2),
                                                        .goal = (duo_search_goal)goal,
                                                        .max_nodes = max_nodes};
                    make_routes(routes, sets[set]);
                    ok(duo_search_values(f.model, &f.sequences, &setting, (duo_completion)same,
                                         routes, values, NULL, NULL));
                    value_naively(&f, &setting, (duo_completion)same, routes, naively);
                    ck_assert_mem_eq(values, naively, sizeof values);
                    for (size_t i = 0; i < CHOICES * DUO_MODULES; i++)
                        none += i % DUO_MODULES != DUO_SKIP && isinf(values[i]);
                    ck_assert(same ? none == 0 : none > 0);
                    free_fixture(&f);
                }
}
END_TEST

/* Along an oracle's own routes the best that a choice can lead to is what the oracle found. */
START_TEST(an_oracle_regrets_nothing)
{
    fixture f = make_fixture(2, R, T);
    const duo_search_setting setting = {.modules = TWO, .budget = exactly(1)};
    float values[CHOICES * DUO_MODULES];
    search(&f, TWO, 1, 0, &f.trace);
    ok(duo_search_values(f.model, &f.sequences, &setting, DUO_COMPLETE_BEST, f.trace.routes, values,
                         NULL, NULL));
    for (size_t i = 0; i < CHOICES; i++) {
        const float *v = values + i * DUO_MODULES;
        ck_assert_float_eq(v[f.trace.routes[i]], f.trace.loss[i / L]);
        ck_assert(v[DUO_SMALL] >= f.trace.loss[i / L] && v[DUO_BIG] >= f.trace.loss[i / L]);
    }
    free_fixture(&f);
}
END_TEST

START_TEST(what_does_not_fit_is_refused)
{
    fixture f = make_fixture(1, R, T);
    uint8_t routes[CHOICES];
    float values[CHOICES * DUO_MODULES];
    duo_search_setting setting = {.modules = TWO, .budget = exactly(1)};
    make_routes(routes, TWO);
    routes[4 * L + 1] = DUO_SKIP;
    refused_as(duo_search_values(f.model, &f.sequences, &setting, DUO_COMPLETE_SAME, routes, values,
                                 NULL, NULL),
               DUO_EINVAL,
               "search: the routes take 0 at layer 1 of position 4, which is "
               "none of the modules that are searched");
    setting.method = DUO_SEARCH_BEAM;
    setting.width = 2;
    ck_assert_int_eq(duo_search_values(f.model, &f.sequences, &setting, DUO_COMPLETE_BEST, routes,
                                       values, NULL, NULL),
                     DUO_EINVAL);
    free_fixture(&f);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        values_are_those_of_the_definition,
        an_oracle_regrets_nothing,
        what_does_not_fit_is_refused,
    };
    return run_suite("search_values", tests, sizeof tests / sizeof *tests);
}
