#include "naive_oracle.h"
#include "study_fixture.h"

START_TEST(budgets_are_read_and_written)
{
    const struct {
        const char *text;
        duo_budget budget;
        const char *written; /* NULL: the same */
    } cases[] = {
        {"none", {DUO_BUDGET_NONE, DUO_SKIP, 0, 0}, NULL},
        {"4", {DUO_BUDGET_COUNT, DUO_BIG, 4, 4}, NULL},
        {"0..4", {DUO_BUDGET_COUNT, DUO_BIG, 0, 4}, NULL},
        {"4..4", {DUO_BUDGET_COUNT, DUO_BIG, 4, 4}, "4"},
        {"10..128", {DUO_BUDGET_COUNT, DUO_BIG, 10, 128}, NULL},
        {"skip:6", {DUO_BUDGET_COUNT, DUO_SKIP, 6, 6}, NULL},
        {"skip:2..6", {DUO_BUDGET_COUNT, DUO_SKIP, 2, 6}, NULL},
        {"flops:2e6..3e6", {DUO_BUDGET_FLOPS, DUO_SKIP, 2e6, 3e6}, NULL},
        {"flops:0..1572864", {DUO_BUDGET_FLOPS, DUO_SKIP, 0, 1572864}, NULL},
        {"flops:100000..2.5e15", {DUO_BUDGET_FLOPS, DUO_SKIP, 1e5, 2.5e15}, "flops:1e5..2.5e15"},
        {"flops:0.1234567890123456..0.1234567890123457",
         {DUO_BUDGET_FLOPS, DUO_SKIP, 0.1234567890123456, 0.1234567890123457},
         NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        duo_budget budget, again;
        char text[64];
        ok(duo_budget_parse(&budget, cases[i].text));
        ck_assert_int_eq(budget.kind, cases[i].budget.kind);
        ck_assert_int_eq(budget.module, cases[i].budget.module);
        ck_assert_double_eq(budget.low, cases[i].budget.low);
        ck_assert_double_eq(budget.high, cases[i].budget.high);
        ck_assert_str_eq(duo_budget_text(text, &budget),
                         cases[i].written ? cases[i].written : cases[i].text);
        ok(duo_budget_parse(&again, text));
        ck_assert_mem_eq(&again, &budget, sizeof budget);
    }
}
END_TEST

START_TEST(texts_that_are_no_budget_are_refused)
{
    const char *const texts[] = {
        "",
        "big",
        "4x",
        "-1",
        "1.5",
        "..4",
        "4..",
        "1...3",
        "skip",
        "skip:",
        "129",
        "4..2",
        "none ",
        "skip:none",
        "flops:",
        "flops:1",
        "flops:1..",
        "flops:-1..2",
        "flops:2..1",
        "flops:nan..1",
        "flops:1..inf",
        "0000000000000000000000000000000000004",
        "small:3",
    };
    duo_budget budget;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        refused(duo_budget_parse(&budget, texts[i]), DUO_EINVAL, texts[i]);
}
END_TEST

/* A budget passes the check exactly if some route of all is within it. */
START_TEST(a_budget_that_no_route_meets_is_refused)
{
    const duo_config config = study_config();
    const double small = duo_flops_ffn(&config, DUO_SMALL), big = duo_flops_ffn(&config, DUO_BIG);
    size_t met = 0, unmet = 0;
    for (duo_module_set modules = 1; modules <= ALL_MODULES; modules++) {
        if (duo_module_count(modules) < 2) continue;
        duo_budget budgets[64];
        size_t n = 0;
        for (int k = 0; k <= L + 1; k++) {
            budgets[n++] = exactly(k);
            budgets[n++] = (duo_budget){DUO_BUDGET_COUNT, DUO_SKIP, k, k};
            budgets[n++] = (duo_budget){DUO_BUDGET_COUNT, DUO_BIG, k, k + 2};
        }
        for (int b = 0; b <= L; b++)
            for (int s = 0; s + b <= L; s++) {
                const double spent = b * big + s * small;
                budgets[n++] = (duo_budget){DUO_BUDGET_FLOPS, DUO_SKIP, spent, spent};
                budgets[n++] =
                    (duo_budget){DUO_BUDGET_FLOPS, DUO_SKIP, spent + 1, spent + small / 2};
            }
        for (size_t i = 0; i < n; i++) {
            uint8_t route[L];
            bool any = false;
            naive_first(route, L, modules);
            do any = any || naive_within(&budgets[i], route, &config);
            while (naive_next(route, L, modules));
            ck_assert_int_eq(duo_budget_check(&budgets[i], modules, &config),
                             any ? DUO_OK : DUO_EINVAL);
            *(any ? &met : &unmet) += 1;
        }
    }
    ck_assert_uint_gt(met, 20);
    ck_assert_uint_gt(unmet, 20);
}
END_TEST

/* 2 modules, 12 layers, 6 big: Pascal's triangle between two edges; and 3^n without a budget. */
START_TEST(the_work_of_a_search_is_counted)
{
    duo_config config = study_config();
    config.n_layers = 12;
    duo_search_setting setting = {.modules = TWO, .budget = exactly(6)};
    const double head = 2.0 * 18 * 29, attention = duo_flops_base(&config, 5) / 12 - head / 12;
    const double small = duo_flops_ffn(&config, DUO_SMALL), big = duo_flops_ffn(&config, DUO_BIG);
    double nodes = 0, edges = 0;
    for (size_t l = 0; l < 12; l++)
        for (size_t b = 0; b <= l; b++) {
            double choose = 1; /* l over b */
            for (size_t i = 0; i < b; i++) choose = choose * (double)(l - i) / (double)(i + 1);
            if (b > 6 || l - b > 6) continue;
            nodes += choose;
            edges += choose * (b < 6 ? big : 0) + choose * (l - b < 6 ? small : 0);
        }
    const double expected = nodes * attention + edges + 924 * head;
    ck_assert_double_eq_tol(duo_search_flops(&config, &setting, 5), expected, 1e-9 * expected);
    setting = (duo_search_setting){.modules = ALL_MODULES};
    config.n_layers = 2;
    const double all = (1 + 3) * attention + (1 + 3) * (small + big) + 9 * head;
    ck_assert_double_eq_tol(duo_search_flops(&config, &setting, 5), all, 1e-9 * all);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        budgets_are_read_and_written,
        texts_that_are_no_budget_are_refused,
        a_budget_that_no_route_meets_is_refused,
        the_work_of_a_search_is_counted,
    };
    return run_suite("budget", tests, sizeof tests / sizeof *tests);
}
