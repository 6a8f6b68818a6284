#include <dirent.h>
#include <stdio.h>

#include "duo/rng.h"
#include "recipe_fixture.h"

/* ---------------------------------------------------------------- values */

START_TEST(defaults_are_filled_in)
{
    duo_recipe *recipe = NULL;
    parse(&recipe, TOP MODEL "stage duo { steps = 2000 }\n"
                             "stage router { steps = 500 budget = 1 }\n");
    ck_assert_str_eq(recipe->name, "test");
    ck_assert_uint_eq(recipe->seed, 1);
    ck_assert_uint_eq(recipe->keep, 3);
    ck_assert_str_eq(recipe->tokens, "");
    ck_assert_uint_eq(recipe->n_domains, 0);
    const duo_config *model = &recipe->model;
    ck_assert_int_eq(model->arch, DUO_ARCH_LLAMA);
    ck_assert_uint_eq(model->n_kv_heads, 4);
    ck_assert_uint_eq(model->vocab_size, 0);
    ck_assert_double_eq(model->norm_eps, 1e-5);
    ck_assert_double_eq(model->rope_theta, 10000);
    ck_assert(model->tied_embeddings);
    ck_assert_uint_eq(model->router_modules, 0);
    ck_assert_uint_eq(recipe->n_stages, 2);
    const duo_stage_recipe *duo = &recipe->stages[0], *router = &recipe->stages[1];
    ck_assert_int_eq(duo->kind, DUO_STAGE_DUO);
    ck_assert_uint_eq(duo->micro_batch, duo->batch_size);
    ck_assert_uint_eq(duo->seq_len, 128);
    ck_assert_uint_eq(duo->warmup, 100);
    ck_assert_int_eq(duo->schedule, DUO_CURVE_COSINE);
    ck_assert_double_eq(duo->min_lr, 0.1);
    ck_assert_double_eq(duo->beta1, 0.9);
    ck_assert_double_eq(duo->beta2, 0.95);
    ck_assert_double_eq(duo->eps, 1e-8);
    ck_assert_double_eq(duo->weight_decay, 0.1);
    ck_assert_double_eq(duo->clip, 1);
    ck_assert_uint_eq(duo->bad_steps, 5);
    ck_assert_double_lt(duo->rollback_lr, 0);
    ck_assert_uint_eq(duo->spike_window, 100);
    ck_assert_double_eq(duo->spike_sigma, 8);
    ck_assert_double_eq(duo->p[DUO_SKIP], 0);
    ck_assert_double_eq(duo->p[DUO_SMALL], 0.5);
    ck_assert_double_eq(duo->p[DUO_BIG], 0.5);
    ck_assert_uint_eq(duo->modules, 0);
    ck_assert_uint_eq(duo->log_every, 10);
    ck_assert_uint_eq(duo->val_every, 100);
    ck_assert_uint_eq(duo->save_every, 250);
    ck_assert_uint_eq(duo->val_windows, 32);
    ck_assert_int_eq(router->kind, DUO_STAGE_ROUTER);
    ck_assert_uint_eq(router->warmup, 50);
    ck_assert_uint_eq(router->modules, 1u << DUO_SMALL | 1u << DUO_BIG);
    ck_assert_double_eq(router->target[DUO_BIG], 0.25);
    ck_assert_double_lt(router->target[DUO_SMALL], 0);
    ck_assert_double_lt(router->target[DUO_SKIP], 0);
    ck_assert_double_eq(router->alpha, 10);
    ck_assert_double_eq(router->tau_start, 1);
    ck_assert_double_eq(router->tau_end, 0.1);
    ck_assert_int_eq(router->tau_schedule, DUO_CURVE_EXPONENTIAL);
    ck_assert(!router->straight_through && router->noise);
    duo_recipe_free(recipe);
}
END_TEST

START_TEST(every_value_is_read)
{
    duo_recipe *recipe = NULL;
    parse(&recipe, full_recipe);
    ck_assert_str_eq(recipe->name, "full.1");
    ck_assert_uint_eq(recipe->seed, UINT64_MAX);
    ck_assert_str_eq(recipe->tokens, "data/full's.h5");
    ck_assert_uint_eq(recipe->n_domains, 2);
    ck_assert_str_eq(recipe->domains[0].name, "prose");
    ck_assert_double_eq(recipe->domains[0].weight, 0.7);
    ck_assert_double_eq(recipe->domains[1].weight, 1);
    ck_assert_uint_eq(recipe->model.n_kv_heads, 2);
    ck_assert(!recipe->model.tied_embeddings);
    ck_assert_uint_eq(recipe->n_stages, 5);
    ck_assert_str_eq(recipe->stages[0].name, "first");
    ck_assert_int_eq(recipe->stages[0].kind, DUO_STAGE_DENSE);
    ck_assert_double_eq(recipe->stages[0].p[DUO_BIG], 1);
    ck_assert_uint_eq(recipe->stages[1].micro_batch, 8);
    ck_assert_double_eq(recipe->stages[1].p[DUO_SKIP], 0.1);
    ck_assert_int_eq(recipe->stages[2].kind, DUO_STAGE_SMALL);
    ck_assert_uint_eq(recipe->stages[3].modules, 1u << DUO_SKIP | 1u << DUO_BIG);
    ck_assert_double_eq(recipe->stages[3].target[DUO_BIG], 4.0 / 12);
    ck_assert_int_eq(recipe->stages[3].tau_schedule, DUO_CURVE_LINEAR);
    ck_assert(recipe->stages[3].straight_through && !recipe->stages[3].noise);
    ck_assert_int_eq(recipe->stages[4].kind, DUO_STAGE_ROUTER);
    ck_assert_double_eq(recipe->stages[4].target[DUO_SKIP], 0.2);
    duo_recipe_free(recipe);
}
END_TEST

START_TEST(text_gives_the_recipe_back)
{
    duo_recipe *first = NULL, *second = NULL;
    parse(&first, full_recipe);
    char *once = duo_recipe_text(first);
    ck_assert_ptr_nonnull(once);
    parse(&second, once);
    char *twice = duo_recipe_text(second);
    ck_assert_str_eq(once, twice);
    ck_assert_mem_eq(&first->model, &second->model, sizeof first->model);
    ck_assert_uint_eq(first->n_stages, second->n_stages);
    for (size_t i = 0; i < first->n_stages; i++)
        ck_assert_mem_eq(&first->stages[i], &second->stages[i], sizeof first->stages[i]);
    free(once);
    free(twice);
    duo_recipe_free(first);
    duo_recipe_free(second);
}
END_TEST

START_TEST(floats_come_back_to_the_last_bit)
{
    for (uint32_t i = 0; i < 500; i++) {
        const duo_random4 r = duo_random(1, DUO_RNG_TEST, (duo_place){.position = i});
        char override[64];
        const char *overrides[] = {override};
        snprintf(override, sizeof override, "stage.duo.lr=%.17g",
                 duo_uniform(r.word[0]) * (i % 2 ? 1e-9 : 1));
        duo_recipe *first = NULL, *second = NULL;
        ok(duo_recipe_parse(&first, full_recipe, "x.conf", overrides, 1));
        char *text = duo_recipe_text(first);
        parse(&second, text);
        ck_assert_mem_eq(&first->stages[1].lr, &second->stages[1].lr, sizeof(double));
        free(text);
        duo_recipe_free(first);
        duo_recipe_free(second);
    }
}
END_TEST

START_TEST(keys_of_routers)
{
    duo_recipe *recipe = NULL, *again = NULL;
    parse(
        &recipe, TOP MODEL
        "stage router { steps = 500 router_hidden = 64 router_inputs = 'position,budget'\n"
        "  budget_max = 2 train = 'router+small' router_lr = 0.5 penalty = hinge dual_lr = 2\n"
        "  balance = 3 z_loss = 4 tau_tail = 5 hard_tail = 6 calibrate = 7 teacher = 'r.h5' learn "
        "= gaps huber = 8\n"
        "  teach = 8 focal = 9 language = 10 }\n"
        "stage flops { kind = router steps = 5 budget = 1 penalty = flops target_flops = 1e6 }\n");
    char *text = duo_recipe_text(recipe);
    ck_assert_ptr_nonnull(text);
    parse(&again, text);
    for (size_t i = 0; i < 2; i++) {
        const duo_stage_recipe *s = &(i ? again : recipe)->stages[0];
        ck_assert_uint_eq(s->router_hidden, 64);
        ck_assert_uint_eq(s->router_inputs, 1u << DUO_INPUT_BUDGET | 1u << DUO_INPUT_POSITION);
        ck_assert_double_eq(s->budget_min, 0);
        ck_assert_double_eq(s->budget_max, 2);
        ck_assert_double_eq(s->target[DUO_BIG], 0.25); /* the middle, of 4 layers */
        ck_assert_int_eq(s->train, DUO_TRAIN_ROUTER_SMALL);
        ck_assert_int_eq(s->penalty, DUO_PENALTY_HINGE);
        const double reals[] = {s->router_lr, s->dual_lr, s->balance, s->z_loss,
                                s->teach,     s->focal,   s->language};
        const double want[] = {0.5, 2, 3, 4, 8, 9, 10};
        ck_assert_mem_eq(reals, want, sizeof want);
        ck_assert_uint_eq(s->tau_tail, 5);
        ck_assert_uint_eq(s->hard_tail, 6);
        ck_assert_uint_eq(s->calibrate, 7);
        ck_assert_str_eq(s->teacher, "r.h5");
        ck_assert_int_eq(s->learn, DUO_LEARN_GAPS);
        ck_assert_double_eq(s->huber, 8);
        ck_assert_double_eq((i ? again : recipe)->stages[1].target_flops, 1e6);
    }
    free(text);
    duo_recipe_free(recipe);
    duo_recipe_free(again);
}
END_TEST

START_TEST(large_numbers_are_written_without_a_plus)
{
    duo_recipe *first = NULL, *second = NULL;
    parse(&first, TOP "model { n_layers = 4 d_model = 64 n_heads = 4 d_big = 9 d_small = 9\n"
                      "max_seq = 8 rope_theta = 1e12 }");
    char *text = duo_recipe_text(first);
    parse(&second, text);
    ck_assert_double_eq(second->model.rope_theta, 1e12);
    free(text);
    duo_recipe_free(first);
    duo_recipe_free(second);
}
END_TEST

/* ---------------------------------------------------------------- overrides */

static void refuse_override(const char *override, const char *want)
{
    duo_recipe *recipe = NULL;
    const duo_status status = duo_recipe_parse(&recipe, full_recipe, "x.conf", &override, 1);
    expect(status, recipe, want);
}

START_TEST(overrides_reach_every_section)
{
    const char *const overrides[] = {"seed=7",
                                     "seed=8",
                                     "name=other",
                                     "model.d_small=32",
                                     "data.tokens=a b.h5",
                                     "data.domain.code.weight=2",
                                     "stage.three-way.alpha=1",
                                     "stage.router.target_big=0.5",
                                     "stage.three-way.target_big=none"};
    duo_recipe *recipe = NULL;
    ok(duo_recipe_parse(&recipe, full_recipe, "x.conf", overrides,
                        sizeof overrides / sizeof *overrides));
    ck_assert_uint_eq(recipe->seed, 8);
    ck_assert_str_eq(recipe->name, "other");
    ck_assert_uint_eq(recipe->model.d_small, 32);
    ck_assert_str_eq(recipe->tokens, "a b.h5");
    ck_assert_double_eq(recipe->domains[1].weight, 2);
    ck_assert_double_eq(recipe->stages[4].alpha, 1);
    ck_assert_double_eq(recipe->stages[3].target[DUO_BIG], 0.5); /* wins over the file's budget */
    ck_assert_double_lt(recipe->stages[4].target[DUO_BIG], 0);
    duo_recipe_free(recipe);
}
END_TEST

START_TEST(budget_overrides_the_target_of_a_resolved_recipe)
{
    const char *const overrides[] = {"stage.router.budget=3"};
    duo_recipe *first = NULL, *second = NULL;
    parse(&first, full_recipe);
    char *text = duo_recipe_text(first);
    ok(duo_recipe_parse(&second, text, "x.conf", overrides, 1));
    ck_assert_double_eq(second->stages[3].target[DUO_BIG], 0.25);
    free(text);
    duo_recipe_free(first);
    duo_recipe_free(second);
}
END_TEST

START_TEST(overrides_can_stand_for_a_section)
{
    const char *const overrides[] = {
        "model.n_layers=2", "model.d_model=8", "model.n_heads=2", "model.d_big=8",
        "model.d_small=2",  "model.max_seq=4", "name=x"};
    duo_recipe *recipe = NULL;
    ok(duo_recipe_parse(&recipe, "", "x.conf", overrides, 7));
    ck_assert_uint_eq(recipe->model.n_layers, 2);
    ck_assert_uint_eq(recipe->n_stages, 0);
    duo_recipe_free(recipe);
}
END_TEST

START_TEST(wrong_override_is_named)
{
    refuse_override("stage.foo.lr=1", "--set stage.foo.lr: no such section");
    refuse_override("stage.duo=1", "--set stage.duo: no such section");
    refuse_override("data.domain.x.weight=1", "--set data.domain.x.weight: no such section");
    refuse_override("train.lr=1", "--set train.lr: no such section");
    refuse_override("model.depth=1", "--set model.depth: no such key");
    refuse_override("model.n_layers.x=1", "--set model.n_layers.x: no such key");
    refuse_override("model=1", "--set model: no such key");
    refuse_override("=1", "--set : no such key");
    refuse_override("seed", "--set seed: a key is set as key=value");
    refuse_override("seed=", "--set seed: '' is not a whole number");
    refuse_override("model.n_layers=0", "--set model.n_layers: 0 is outside 1..128");
    refuse_override("data.tokens=a\"b", "--set data.tokens: 'a\"b' is not a path...");
    refuse_override("stage.small.warmup=11", "--set stage.small.warmup: 11 is more than steps, 10");
    refuse_override("stage.small.tau_end=1", "--set stage.small.tau_end: a small stage has no...");
}
END_TEST

/* ---------------------------------------------------------------- many recipes */

START_TEST(recipes_of_the_project_are_read)
{
    DIR *folder = opendir(DUO_RECIPES);
    ck_assert_ptr_nonnull(folder);
    const struct dirent *entry = NULL;
    size_t n = 0;
    while ((entry = readdir(folder)) != NULL) {
        const size_t length = strlen(entry->d_name);
        if (length < 5 || strcmp(entry->d_name + length - 5, ".conf") != 0) continue;
        char path[2048];
        snprintf(path, sizeof path, "%s/%s", DUO_RECIPES, entry->d_name);
        duo_recipe *recipe = NULL;
        ck_assert_msg(duo_recipe_load(&recipe, path, NULL, 0) == DUO_OK, "%s", duo_message());
        duo_recipe_free(recipe);
        n++;
    }
    closedir(folder);
    ck_assert_uint_gt(n, 0);
}
END_TEST

/* One to four edits at random places: a byte changed, cut, or a piece copied elsewhere. */
static void mutate(char *text, size_t room, uint32_t round)
{
    static const char bytes[] = "{}=\"'#/*\\$ \n,.0129aexn+-()\x01\x80";
    const size_t edits = 1 + round % 4;
    for (uint32_t e = 0; e < edits; e++) {
        const duo_random4 r = duo_random(1, DUO_RNG_TEST, (duo_place){.row = round, .position = e});
        const size_t length = strlen(text);
        if (length == 0) return;
        const size_t at = r.word[0] % length, from = r.word[1] % length;
        size_t n = r.word[2] % 40;
        switch (r.word[3] % 4) {
        case 0:
            text[at] = bytes[r.word[2] % (sizeof bytes - 1)];
            break;
        case 1:
            if (n > length - at) n = length - at;
            memmove(text + at, text + at + n, length - at - n + 1);
            break;
        case 2:
            if (n > length - from) n = length - from;
            if (length + n >= room) break;
            {
                char piece[40];
                memcpy(piece, text + from, n);
                memmove(text + at + n, text + at, length - at + 1);
                memcpy(text + at, piece, n);
            }
            break;
        default:
            if (r.word[2] % 8 == 0) text[at] = '\0';
        }
    }
}

START_TEST(no_edit_crashes_the_reader)
{
    enum { ROUNDS = 6000, ROOM = 4096 };
    size_t accepted = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        char text[ROOM];
        snprintf(text, sizeof text, "%s", full_recipe);
        mutate(text, sizeof text, round);
        duo_recipe *recipe = NULL;
        if (duo_recipe_parse(&recipe, text, "x.conf", NULL, 0) != DUO_OK) {
            ck_assert_msg(strncmp(duo_message(), "x.conf", 6) == 0, "%s", duo_message());
            continue;
        }
        accepted++;
        duo_recipe *again = NULL;
        char *once = duo_recipe_text(recipe);
        parse(&again, once);
        char *twice = duo_recipe_text(again);
        ck_assert_str_eq(once, twice);
        free(once);
        free(twice);
        duo_recipe_free(recipe);
        duo_recipe_free(again);
    }
    ck_assert_uint_gt(accepted, ROUNDS / 50);
    ck_assert_uint_lt(accepted, ROUNDS);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        defaults_are_filled_in,
        every_value_is_read,
        text_gives_the_recipe_back,
        floats_come_back_to_the_last_bit,
        keys_of_routers,
        large_numbers_are_written_without_a_plus,
        overrides_reach_every_section,
        budget_overrides_the_target_of_a_resolved_recipe,
        overrides_can_stand_for_a_section,
        wrong_override_is_named,
    };
    const TTest *const many[] = {
        recipes_of_the_project_are_read,
        no_edit_crashes_the_reader,
    };
    Suite *suite = suite_create("recipe");
    add_case(suite, 4, tests, sizeof tests / sizeof *tests, 1);
    add_case(suite, 40, many, sizeof many / sizeof *many, 1);
    return run_cases(suite);
}
