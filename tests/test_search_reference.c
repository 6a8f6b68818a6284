#include "naive_oracle.h"
#include "study_fixture.h"

enum { CELLS = L + 1, SEED = 5 };

static const uint8_t all_big[L] = {DUO_BIG, DUO_BIG, DUO_BIG};
static const uint8_t mixed[L] = {DUO_SMALL, DUO_BIG, DUO_SKIP};
static const duo_module_set sets[] = {TWO, 1 << DUO_SKIP | 1 << DUO_BIG,
                                      1 << DUO_SKIP | 1 << DUO_SMALL, ALL_MODULES};

static duo_reference make_reference(const duo_sequences *sequences)
{
    duo_reference reference;
    ok(duo_reference_create(&reference, sequences, L));
    return reference;
}

static void run(const fixture *f, const duo_search_setting *setting, const uint8_t *pattern,
                duo_reference *found)
{
    ok(duo_search_reference(f->model, &f->sequences, setting, pattern, SEED, 0, found, NULL, NULL));
}

static void assert_same_curve(const duo_route_curve *a, const duo_route_curve *b, size_t tokens)
{
    ck_assert_mem_eq(a->loss, b->loss, tokens * CELLS * sizeof(float));
    ck_assert_mem_eq(a->routes, b->routes, tokens * CELLS * L);
}

static void assert_same(const duo_reference *a, const duo_reference *b, size_t tokens)
{
    assert_same_curve(&a->oracle, &b->oracle, tokens);
    assert_same_curve(&a->control, &b->control, tokens);
    assert_same_curve(&a->label_free, &b->label_free, tokens);
    ck_assert_mem_eq(a->expected, b->expected, tokens * CELLS * sizeof(float));
    ck_assert_mem_eq(a->drawn, b->drawn, tokens * sizeof(int32_t));
}

/* The draw spelt out: the first token at which the probabilities pass the random number. */
static int32_t draw(const naive *n, size_t row, size_t t)
{
    const duo_place place = {.row = (uint32_t)row, .position = (uint32_t)t};
    const double u = duo_uniform(duo_random(SEED, DUO_RNG_CONTROL, place).word[0]);
    double all = 0, passed = 0;
    for (size_t v = 0; v < n->V; v++) all += (double)n->q[v];
    for (size_t v = 0; v < n->V; v++)
        if ((passed += (double)n->q[v]) > u * all) return (int32_t)v;
    return (int32_t)n->V - 1;
}

static void keep(const naive_best *best, float *score, uint8_t *routes)
{
    *score = best->score;
    if (best->score < INFINITY) memcpy(routes, best->route, L);
}

static void search_naively(const fixture *f, duo_module_set modules, const uint8_t *pattern,
                           duo_reference *found)
{
    const size_t positions = f->sequences.T;
    naive n;
    ok(naive_create(&n, f->model, positions));
    for (size_t i = 0; i < f->sequences.R * positions; i++) {
        const size_t r = i / positions, t = i % positions;
        const int32_t *tokens = f->sequences.tokens + r * (positions + 1);
        naive_best oracle[CELLS], control[CELLS], label_free[CELLS];
        uint8_t route[L], routes[8 * L];
        duo_routes_repeat(routes, positions, L, pattern);
        naive_context(&n, tokens, routes);
        duo_softmax_forward(n.q, naive_step(&n, tokens, t, all_big, true), 1, n.V);
        found->drawn[i] = draw(&n, r, t);
        for (size_t b = 0; b < CELLS; b++)
            oracle[b] = control[b] = label_free[b] = (naive_best){INFINITY, INFINITY, {0}};
        naive_first(route, L, modules);
        do {
            const size_t b = naive_count(route, L, DUO_BIG);
            naive_step(&n, tokens, t, route, true);
            const float loss = naive_loss(&n, tokens[t + 1]);
            const float drawn = naive_loss(&n, found->drawn[i]);
            naive_offer(&oracle[b], route, loss, loss, L);
            naive_offer(&control[b], route, drawn, drawn, L);
            naive_offer(&label_free[b], route, naive_expected(&n), loss, L);
        } while (naive_next(route, L, modules));
        for (size_t b = 0; b < CELLS; b++) {
            const size_t cell = i * CELLS + b;
            keep(&oracle[b], &found->oracle.loss[cell], found->oracle.routes + cell * L);
            keep(&control[b], &found->control.loss[cell], found->control.routes + cell * L);
            keep(&label_free[b], &found->expected[cell], found->label_free.routes + cell * L);
            found->label_free.loss[cell] = label_free[b].loss;
        }
    }
    naive_free(&n);
}

START_TEST(every_budget_is_what_trying_every_route_finds)
{
    fixture f = make_fixture(1, R, T);
    for (size_t i = 0; i < 8; i++) {
        const duo_search_setting setting = {.modules = sets[i / 2]};
        const uint8_t *pattern = i % 2 ? mixed : all_big;
        duo_reference found = make_reference(&f.sequences), want = make_reference(&f.sequences);
        search_naively(&f, setting.modules, pattern, &want);
        run(&f, &setting, pattern, &found);
        assert_same(&found, &want, R * T);
        duo_reference_free(&found);
        duo_reference_free(&want);
    }
    free_fixture(&f);
}
END_TEST

START_TEST(slices_and_threads_do_not_change_a_bit)
{
    const size_t sizes[] = {1, 3, 10, 27, 100, 1000};
    fixture f = make_fixture(1, 4, 7);
    duo_search_setting setting = {.modules = ALL_MODULES};
    duo_reference want = make_reference(&f.sequences), found = make_reference(&f.sequences);
    run(&f, &setting, mixed, &want);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        setting.max_nodes = sizes[i];
        run(&f, &setting, mixed, &found);
        assert_same(&found, &want, 4 * 7);
    }
    for (int threads = 2; threads <= 3; threads++) {
        fixture more = make_fixture(threads, 4, 7);
        run(&more, &setting, mixed, &found);
        assert_same(&found, &want, 4 * 7);
        free_fixture(&more);
    }
    duo_reference_free(&want);
    duo_reference_free(&found);
    free_fixture(&f);
}
END_TEST

/* Work that is cut into pieces of rows gives what it gives in one. */
START_TEST(rows_do_not_know_of_each_other)
{
    enum { ROWS = 5 };
    fixture f = make_fixture(1, ROWS, T);
    const duo_search_setting setting = {.modules = ALL_MODULES};
    duo_reference want = make_reference(&f.sequences);
    run(&f, &setting, mixed, &want);
    for (size_t first = 0; first < ROWS; first += 2) {
        const size_t rows = first + 2 < ROWS ? 2 : ROWS - first, skip = first * T * CELLS;
        const duo_sequences part = {
            .R = rows, .T = T, .tokens = f.sequences.tokens + first * (T + 1)};
        const duo_reference rest = {
            .oracle = {want.oracle.routes + skip * L, want.oracle.loss + skip},
            .control = {want.control.routes + skip * L, want.control.loss + skip},
            .label_free = {want.label_free.routes + skip * L, want.label_free.loss + skip},
            .expected = want.expected + skip,
            .drawn = want.drawn + first * T};
        duo_reference found = make_reference(&part);
        ok(duo_search_reference(f.model, &part, &setting, mixed, SEED, first, &found, NULL, NULL));
        assert_same(&found, &rest, rows * T);
        duo_reference_free(&found);
    }
    duo_reference_free(&want);
    free_fixture(&f);
}
END_TEST

/* Draws follow the distribution: over many seeds, each token as often as its probability says. */
START_TEST(targets_are_drawn_from_the_all_big_distribution)
{
    enum { DRAWS = 3000, V = 29 };
    fixture f = make_fixture(1, 1, 1);
    const duo_search_setting setting = {.modules = TWO};
    duo_reference found = make_reference(&f.sequences);
    size_t count[V] = {0};
    naive n;
    ok(naive_create(&n, f.model, 1));
    naive_context(&n, f.sequences.tokens, all_big);
    duo_softmax_forward(n.q, naive_step(&n, f.sequences.tokens, 0, all_big, true), 1, V);
    for (uint64_t seed = 0; seed < DRAWS; seed++) {
        ok(duo_search_reference(f.model, &f.sequences, &setting, all_big, seed, 0, &found, NULL,
                                NULL));
        count[found.drawn[0]]++;
    }
    for (size_t v = 0; v < V; v++) {
        const double p = (double)n.q[v], error = sqrt(p * (1 - p) / DRAWS);
        ck_assert_double_eq_tol((double)count[v] / DRAWS, p, 4.5 * error + 1e-9);
    }
    naive_free(&n);
    duo_reference_free(&found);
    free_fixture(&f);
}
END_TEST

START_TEST(what_makes_no_sense_is_refused)
{
    const uint8_t no_module[L] = {DUO_BIG, 3, DUO_BIG};
    fixture f = make_fixture(1, R, T);
    duo_reference found = make_reference(&f.sequences);
    duo_search_setting setting = {.modules = TWO, .method = DUO_SEARCH_GREEDY, .width = 1};
    refused(
        duo_search_reference(f.model, &f.sequences, &setting, all_big, 0, 0, &found, NULL, NULL),
        DUO_EINVAL, "greedy");
    setting.method = DUO_SEARCH_EXACT;
    refused(
        duo_search_reference(f.model, &f.sequences, &setting, no_module, 0, 0, &found, NULL, NULL),
        DUO_EINVAL, "layer 1 of the pattern takes 3");
    setting.modules = 1 << DUO_BIG;
    refused(
        duo_search_reference(f.model, &f.sequences, &setting, all_big, 0, 0, &found, NULL, NULL),
        DUO_EINVAL, "two or three modules");
    setting.modules = TWO;
    duo_tree_at(&f.model->weights, 0, DUO_P_FINAL_NORM)[0] = NAN;
    refused(
        duo_search_reference(f.model, &f.sequences, &setting, all_big, 0, 0, &found, NULL, NULL),
        DUO_ENUMBER, "position 0 of sequence 0");
    duo_reference_free(&found);
    free_fixture(&f);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        every_budget_is_what_trying_every_route_finds,
        slices_and_threads_do_not_change_a_bit,
        rows_do_not_know_of_each_other,
        targets_are_drawn_from_the_all_big_distribution,
        what_makes_no_sense_is_refused,
    };
    return run_suite("search_reference", tests, sizeof tests / sizeof *tests);
}
