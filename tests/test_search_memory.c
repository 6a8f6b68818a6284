#include <math.h>

#include "search.h"
#include "study_fixture.h"

/* A model of the size that searches are meant for; only its description is needed. */
static duo_model described(size_t layers)
{
    const duo_config config = {.n_layers = layers,
                               .d_model = 256,
                               .n_heads = 8,
                               .n_kv_heads = 8,
                               .d_big = 1024,
                               .d_small = 64,
                               .vocab_size = 4096,
                               .max_seq = 256};
    return (duo_model){.params.config = config};
}

/* Bytes of a search over up to 1000 tokens. */
static size_t bytes_of(const duo_model *model, const duo_search_setting *setting, study_search *s)
{
    const duo_config *config = &model->params.config;
    *s = (study_search){.model = model,
                        .setting = setting,
                        .L = config->n_layers,
                        .V = config->vocab_size,
                        .cells = 1,
                        .contests = {{.measure = STUDY_EXPECTED_LOSS}},
                        .n_contests = 1};
    duo_arena measure = DUO_ARENA_MEASURE;
    ok(study_search_size(s, 1000, 256));
    study_search_take(s, s->roots.n, 256, &measure);
    return measure.used;
}

START_TEST(what_is_held_is_bounded)
{
    const duo_search_method methods[] = {DUO_SEARCH_EXACT, DUO_SEARCH_BEAM, DUO_SEARCH_GREEDY};
    const size_t nodes[] = {4000, 16000}, layers[] = {2, 12, 40};
    const double state = 4.0 * 256;
    ok(duo_kernels_start(2));
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < 3; j++)
            for (size_t k = 0; k < 2; k++) {
                const duo_model model = described(layers[j]);
                const duo_search_setting setting = {.modules = ALL_MODULES,
                                                    .method = methods[i],
                                                    .width = 20,
                                                    .max_nodes = nodes[k]};
                study_search s;
                const size_t held = bytes_of(&model, &setting, &s);
                for (size_t l = 0; l <= s.L; l++)
                    ck_assert_uint_le(s.tree.levels[l].capacity, nodes[k]);
                /* Two states a node and level, a distribution per token, blocks of activations and
                 * logits, lists of rows and routes. */
                const double tokens = (double)s.roots.n * 4096 * 4, blocks = 24e6;
                const double lists = (double)nodes[k] * (double)(layers[j] + 1) * 100;
                ck_assert_double_le((double)held, (double)(nodes[k] * (layers[j] + 1)) * 2 * state +
                                                      tokens + blocks + lists);
            }
    duo_kernels_stop();
}
END_TEST

START_TEST(by_default_a_search_takes_half_a_gibibyte)
{
    const size_t layers[] = {2, 12, 40};
    ok(duo_kernels_start(2));
    for (size_t j = 0; j < 3; j++) {
        const duo_model model = described(layers[j]);
        const duo_search_setting setting = {.modules = ALL_MODULES};
        study_search s;
        const size_t held = bytes_of(&model, &setting, &s);
        ck_assert_uint_le(held, (size_t)512 << 20);
        if (layers[j] > 2)
            ck_assert_uint_ge(held, (size_t)400 << 20);
        else
            ck_assert_uint_eq(s.roots.n, 1000);
    }
    duo_kernels_stop();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        what_is_held_is_bounded,
        by_default_a_search_takes_half_a_gibibyte,
    };
    return run_suite("search_memory", tests, sizeof tests / sizeof *tests);
}
