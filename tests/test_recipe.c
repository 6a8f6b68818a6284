#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duo/recipe.h"
#include "duo/rng.h"

/* What a recipe must say; line 1. */
#define TOP "name = test "
#define MODEL                                                                                      \
    "model { n_layers = 4 d_model = 64 n_heads = 4 d_big = 256 d_small = 16 max_seq = 128 }\n"
#define ROUTER(keys) TOP MODEL "stage router {\n steps = 200\n" keys "\n}\n"

static const char *const full_recipe =
    "# one of everything\n"
    "name = \"full.1\"\n"
    "seed = 18446744073709551615\n"
    "keep = 5 // checkpoints\n"
    "model { n_layers = 12 d_model = 96 /* wide\n enough */ n_heads = 8 n_kv_heads = 2 d_big = "
    "400\n"
    "  d_small = 25 max_seq = 256 vocab_size = 2000 norm_eps = 1e-6 rope_theta = 1e6\n"
    "  tied_embeddings = false }\n"
    "data { tokens = \"data/full's.h5\" domain prose { weight = 0.7 } domain code { } }\n"
    "stage first { kind = dense steps = 50 lr = 0.1 schedule = constant warmup = 5\n"
    "  decay_steps = 45 }\n"
    "stage duo { steps = 1000 batch_size = 24 micro_batch = 8 seq_len = 64 lr = 3e-4\n"
    "  p_skip = 0.1 p_small = 0.3 p_big = 0.6 }\n"
    "stage small { steps = 10 }\n"
    "stage router { steps = 400 modules = 'skip,big' budget = 4 alpha = 3.3333333333333335\n"
    "  tau_start = 2 tau_end = 0.25 tau_schedule = linear straight_through = true noise = false }\n"
    "stage three-way { kind = router steps = 7 modules = \"big,small,skip\" target_big = 0.5\n"
    "  target_small = 0.3 target_skip = 0.2 }\n";

static void parse(duo_recipe **recipe, const char *text)
{
    const duo_status status = duo_recipe_parse(recipe, text, "x.conf", NULL, 0);
    ck_assert_msg(status == DUO_OK, "%s", duo_message());
}

/* The message must be `want` in full, or begin with it when it ends in "...". */
static void expect(duo_status status, const duo_recipe *recipe, const char *want)
{
    const size_t length = strlen(want);
    const bool open = length > 3 && strcmp(want + length - 3, "...") == 0;
    ck_assert_int_eq(status, DUO_EINVAL);
    ck_assert_ptr_null(recipe);
    if (open)
        ck_assert_msg(strncmp(duo_message(), want, length - 3) == 0, "got: %s\nwant: %s",
                      duo_message(), want);
    else
        ck_assert_str_eq(duo_message(), want);
}

static void refuse(const char *text, const char *want)
{
    duo_recipe *recipe = NULL;
    const duo_status status = duo_recipe_parse(&recipe, text, "x.conf", NULL, 0);
    expect(status, recipe, want);
}

static void refuse_override(const char *override, const char *want)
{
    duo_recipe *recipe = NULL;
    const duo_status status = duo_recipe_parse(&recipe, full_recipe, "x.conf", &override, 1);
    expect(status, recipe, want);
}

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
        ck_assert_int_eq(duo_recipe_parse(&first, full_recipe, "x.conf", overrides, 1), DUO_OK);
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

/* ---------------------------------------------------------------- refusals */

static const struct {
    const char *text, *want;
} mistakes[] = {
    /* keys and sections */
    {TOP "\nfoo = 1\n" MODEL, "x.conf:2: no such option 'foo'"},
    {TOP "\nmodel {\n n_layer = 1 }", "x.conf:3: model: no such option 'n_layer'"},
    {TOP MODEL "stage duo {\n steps = 1\n\n stpes = 2 }",
     "x.conf:5: stage.duo: no such option 'stpes'"},
    {"/* a\n b */ name = test /* c */\nfoo = 1\n", "x.conf:3: no such option 'foo'"},
    {MODEL, "x.conf: name: missing"},
    {TOP, "x.conf: model.n_layers: missing"},
    {TOP "\nmodel { n_layers = 4 }", "x.conf:2: model.d_model: missing"},
    {TOP MODEL "stage duo { }", "x.conf:2: stage.duo.steps: missing"},
    {TOP "\nname = other", "x.conf:2: name was given before, on line 1"},
    {TOP MODEL "model {\n}", "x.conf:2: section model was opened before, on line 1"},
    {TOP MODEL "stage duo {}\nstage 'duo' {}",
     "x.conf:3: section stage duo was opened before, on line 2"},
    {TOP MODEL "data { domain a {}\n domain a {} }",
     "x.conf:3: section domain a was opened before, on line 2"},
    {TOP MODEL "stage { }", "x.conf:2: missing title for section 'stage'"},
    {TOP MODEL "\nstage \"a b\" { }", "x.conf:3: stage: 'a b' is not a title of letters..."},
    {TOP MODEL "\nstage other { steps = 1 }", "x.conf:3: stage.other.kind: missing; only..."},
    {"model = 3", "x.conf:1: missing opening brace for section 'model'"},
    {"name { }", "x.conf:1: missing equal sign after option 'name'"},
    {"name = {a, b}", "x.conf:1: '{' without the name of a section"},
    {"name", "x.conf:1: premature end of file"},
    {"name =", "x.conf:1: premature end of file"},
    /* what libconfuse would take */
    {TOP "\nmodel {\n n_layers = 4\n\n", "x.conf:2: section model is never closed"},
    {TOP MODEL "data {\n domain prose {\n }\n", "x.conf:2: section data is never closed"},
    {TOP MODEL "stage duo { steps = 1 # }\n", "x.conf:2: section stage duo is never closed"},
    {TOP MODEL "}", "x.conf:2: '}' without a section"},
    {TOP "\nseed = \"1\n", "x.conf:2: this string is not closed on its line"},
    {TOP "\n\n/* never", "x.conf:3: this comment is never closed"},
    {TOP "\nseed = 1*2", "x.conf:2: character '*' outside quotes"},
    {TOP "\nkeep += 1", "x.conf:2: character '+' outside quotes"},
    {TOP "\nkeep = 1 $", "x.conf:2: character '$' outside quotes"},
    {TOP "\ninclude(\"other.conf\")", "x.conf:2: character '(' outside quotes"},
    {"name = \"${HOME}\"", "x.conf:1: a string holds '$'; escapes and variables are not expanded"},
    {"name = \"a\\x41\"", "x.conf:1: a string holds '\\'; escapes and variables are not expanded"},
    {"name = 'a\tb'", "x.conf:1: a string holds '?'; escapes and variables are not expanded"},
    /* values */
    {TOP "\nseed = 1.5\n" MODEL, "x.conf:2: seed: '1.5' is not a whole number"},
    {TOP "\nseed = 0x10\n" MODEL, "x.conf:2: seed: '0x10' is not a whole number"},
    {TOP "\nseed = 12abc\n" MODEL, "x.conf:2: seed: '12abc' is not a whole number"},
    {TOP "\nseed = \"\"\n" MODEL, "x.conf:2: seed: '' is not a whole number"},
    {TOP "\nseed = 18446744073709551616\n" MODEL,
     "x.conf:2: seed: 18446744073709551616 is outside 0..18446744073709551615"},
    {TOP "\nseed = -1\n" MODEL, "x.conf:2: seed: -1 is outside 0..18446744073709551615"},
    {TOP "\nkeep = 0\n" MODEL, "x.conf:2: keep: 0 is outside 1..1000000"},
    {TOP "\nkeep = true\n" MODEL, "x.conf:2: keep: 'true' is not a whole number"},
    {TOP "\nmodel {\n n_layers = -2 }", "x.conf:3: model.n_layers: -2 is outside 1..128"},
    {TOP "\nmodel {\n n_layers = 129 }", "x.conf:3: model.n_layers: 129 is outside 1..128"},
    {TOP "\nmodel {\n arch = opt3 }", "x.conf:3: model.arch: 'opt3' is not one of..."},
    {"name = ../x", "x.conf:1: name: '../x' is not a name..."},
    {"name = .x", "x.conf:1: name: '.x' is not a name..."},
    {"name = a/b", "x.conf:1: name: 'a/b' is not a name..."},
    {"name = \"\"", "x.conf:1: name: '' is not a name..."},
    {TOP MODEL "stage duo {\n steps = 1\n lr = 1e400 }",
     "x.conf:4: stage.duo.lr: 1e400 is outside 1e-12..10"},
    {TOP MODEL "stage duo {\n steps = 1\n lr = nan }",
     "x.conf:4: stage.duo.lr: 'nan' is not a number"},
    {TOP MODEL "stage duo {\n steps = 1\n lr = inf }",
     "x.conf:4: stage.duo.lr: 'inf' is not a number"},
    {TOP MODEL "stage duo {\n steps = 1\n lr = 1e-3x }",
     "x.conf:4: stage.duo.lr: '1e-3x' is not a number"},
    {TOP MODEL "stage duo {\n steps = 1\n schedule = exponential }",
     "x.conf:4: stage.duo.schedule: 'exponential' is not one of constant, linear, cosine"},
    {TOP MODEL "stage a {\n kind = dou }",
     "x.conf:3: stage.a.kind: 'dou' is not one of dense, duo, small, router"},
    {ROUTER("noise = yes\nbudget = 1"),
     "x.conf:4: stage.router.noise: 'yes' is neither true nor false"},
    {ROUTER("modules = \"big,huge\"\nbudget = 1"),
     "x.conf:4: stage.router.modules: 'big,huge' does not name two or three of..."},
    {ROUTER("modules = big\nbudget = 1"),
     "x.conf:4: stage.router.modules: 'big' does not name two or three of..."},
    /* values together */
    {TOP "\nmodel { n_layers = 4 d_model = 65 n_heads = 4 d_big = 9 d_small = 9 max_seq = 8 }",
     "x.conf:2: model: n_heads 4 does not divide d_model 65"},
    {TOP MODEL "stage duo { steps = 1\n micro_batch = 5 }",
     "x.conf:3: stage.duo.micro_batch: 5 does not divide batch_size 32"},
    {TOP MODEL "stage duo { steps = 1\n seq_len = 129 }",
     "x.conf:3: stage.duo.seq_len: 129 is more than model.max_seq, 128"},
    {TOP MODEL "stage duo { steps = 5\n warmup = 6 }",
     "x.conf:3: stage.duo.warmup: 6 is more than steps, 5"},
    {TOP MODEL "stage duo { steps = 5\n decay_steps = 2 }",
     "x.conf:3: stage.duo.decay_steps: only a constant schedule has a tail"},
    {TOP MODEL "stage duo { steps = 5 schedule = constant warmup = 3\n decay_steps = 3 }",
     "x.conf:3: stage.duo.decay_steps: 3 is more than the 2 steps after the warm-up"},
    {TOP "model { n_layers = 1 d_model = 2 n_heads = 1 d_big = 1 d_small = 1 max_seq = 65536 }\n"
         "stage duo { steps = 1\n batch_size = 65536 }",
     "x.conf:2: stage.duo.micro_batch: 65536 sequences of 65536 tokens are more than 4294967295 "
     "rows"},
    {TOP MODEL "stage small { steps = 5\n p_big = 1\n p_small = 0 }",
     "x.conf:4: stage.small.p_small: 0 leaves a small stage nothing to train"},
    {TOP MODEL "stage duo { steps = 5\n p_big = 0.75 }",
     "x.conf:3: stage.duo.p_big: p_skip, p_small and p_big sum to 1.25, not to 1"},
    {TOP MODEL "stage dense { steps = 5\n p_big = 1 }",
     "x.conf:3: stage.dense.p_big: a dense stage has no use for it"},
    {TOP MODEL "stage duo { steps = 5\n budget = 1 }",
     "x.conf:3: stage.duo.budget: a duo stage has no use for it"},
    {TOP MODEL "data { tokens = a.h5\n domain a { weight = 0 } }",
     "x.conf:2: data.domain: every weight is 0"},
    {ROUTER(""), "x.conf:2: stage.router.budget: missing; a router needs a budget or a target"},
    {ROUTER("budget = 5"), "x.conf:4: stage.router.budget: 5 is more than model.n_layers, 4"},
    {ROUTER("budget = 2\ntarget_big = 0.5"),
     "x.conf:4: stage.router.budget: target_big says the same; give one of them"},
    {ROUTER("target_skip = 0.5"),
     "x.conf:4: stage.router.target_skip: skip is not among the modules"},
    {ROUTER("modules = \"skip,small\"\nbudget = 1"),
     "x.conf:5: stage.router.budget: big is not among the modules"},
    {ROUTER("target_small = 0.6\ntarget_big = 0.5"),
     "x.conf:5: stage.router.target_big: the targets sum to 1.1, above 1"},
    {ROUTER("budget = 2\ntau_end = 2"), "x.conf:5: stage.router.tau_end: 2 is above tau_start, 1"},
    {ROUTER("budget = 2\ntau_end = 0"), "x.conf:5: stage.router.tau_end: 0 is outside..."},
    {ROUTER("budget = 2\nbudget_max = 3"),
     "x.conf:5: stage.router.budget_max: only routers with the budget among their inputs use it"},
    {ROUTER("router_inputs = budget\npenalty = lagrangian"),
     "x.conf:5: stage.router.penalty: lagrangian has one multiplier..."},
    {ROUTER("budget = 2\ntarget_flops = 9"),
     "x.conf:5: stage.router.target_flops: only the penalty flops has use for it"},
    {ROUTER("budget = 2\nteacher = r.h5\ntrain = all"),
     "x.conf:6: stage.router.train: a teacher with language = 0 trains routers alone"},
    {ROUTER("budget = 2\nstart = BS"),
     "x.conf:5: stage.router.start: 'BS' has 2 letters, the model..."},
    {ROUTER("budget = 2\nlearn = gaps"), "x.conf:5: stage.router.learn: there is no teacher"},
    {ROUTER("budget = 2\nrouter_inputs = colour"),
     "x.conf:5: stage.router.router_inputs: 'colour' is neither none nor some of..."},
};

START_TEST(mistake_is_named_with_its_line)
{
    refuse(mistakes[_i].text, mistakes[_i].want);
}
END_TEST

START_TEST(a_recipe_reads_well_after_a_broken_one)
{
    duo_recipe *recipe = NULL;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        refuse(mistakes[i].text, mistakes[i].want);
        parse(&recipe, full_recipe);
        duo_recipe_free(recipe);
    }
}
END_TEST

START_TEST(files_that_are_no_recipes_are_refused)
{
    duo_recipe *recipe = NULL;
    ck_assert_int_eq(duo_recipe_load(&recipe, "no-such.conf", NULL, 0), DUO_EIO);
    ck_assert_str_eq(duo_message(), "no-such.conf: No such file or directory");
    ck_assert_int_eq(duo_recipe_load(&recipe, "/", NULL, 0), DUO_EIO);
    ck_assert_int_eq(duo_recipe_load(&recipe, "/proc/self/cmdline", NULL, 0), DUO_EINVAL);
    ck_assert_str_eq(duo_message(), "/proc/self/cmdline: not a recipe: not text");
    ck_assert_ptr_null(recipe);
}
END_TEST

/* ---------------------------------------------------------------- overrides */

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
    ck_assert_int_eq(duo_recipe_parse(&recipe, full_recipe, "x.conf", overrides,
                                      sizeof overrides / sizeof *overrides),
                     DUO_OK);
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
    ck_assert_int_eq(duo_recipe_parse(&second, text, "x.conf", overrides, 1), DUO_OK);
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
    ck_assert_int_eq(duo_recipe_parse(&recipe, "", "x.conf", overrides, 7), DUO_OK);
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
    Suite *suite = suite_create("recipe");
    TCase *values = tcase_create("values");
    tcase_add_test(values, defaults_are_filled_in);
    tcase_add_test(values, every_value_is_read);
    tcase_add_test(values, text_gives_the_recipe_back);
    tcase_add_test(values, floats_come_back_to_the_last_bit);
    tcase_add_test(values, keys_of_routers);
    tcase_add_test(values, large_numbers_are_written_without_a_plus);
    suite_add_tcase(suite, values);
    TCase *refusals = tcase_create("refusals");
    tcase_add_loop_test(refusals, mistake_is_named_with_its_line, 0,
                        (int)(sizeof mistakes / sizeof *mistakes));
    tcase_add_test(refusals, a_recipe_reads_well_after_a_broken_one);
    tcase_add_test(refusals, files_that_are_no_recipes_are_refused);
    suite_add_tcase(suite, refusals);
    TCase *overrides = tcase_create("overrides");
    tcase_add_test(overrides, overrides_reach_every_section);
    tcase_add_test(overrides, budget_overrides_the_target_of_a_resolved_recipe);
    tcase_add_test(overrides, overrides_can_stand_for_a_section);
    tcase_add_test(overrides, wrong_override_is_named);
    suite_add_tcase(suite, overrides);
    TCase *many = tcase_create("many");
    tcase_set_timeout(many, 40);
    tcase_add_test(many, recipes_of_the_project_are_read);
    tcase_add_test(many, no_edit_crashes_the_reader);
    suite_add_tcase(suite, many);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
