#include "recipe_fixture.h"

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
    {ROUTER("target_small = 0.3\ntarget_big = 0.5"),
     "x.conf:5: stage.router.target_big: the targets of all modules sum to 0.8, below 1"},
    {ROUTER("budget = 2\ntau_end = 2"), "x.conf:5: stage.router.tau_end: 2 is above tau_start, 1"},
    {ROUTER("budget = 2\ntau_end = 0"), "x.conf:5: stage.router.tau_end: 0 is outside..."},
    {ROUTER("budget = 2\nbudget_max = 3"),
     "x.conf:5: stage.router.budget_max: only routers with the budget among their inputs use it"},
    {ROUTER("router_inputs = budget\npenalty = lagrangian"),
     "x.conf:5: stage.router.penalty: lagrangian has one multiplier..."},
    {ROUTER("budget = 2\ntarget_flops = 9"),
     "x.conf:5: stage.router.target_flops: only the penalty flops has use for it"},
    {ROUTER("router_inputs = budget\npenalty = flops\ntarget_flops = 9"),
     "x.conf:6: stage.router.target_flops: routers that are told a budget have many"},
    {ROUTER("modules = \"skip,small,big\"\nbudget = 2\npenalty = flops\ntarget_flops = 9"),
     "x.conf:2: stage.router.calibrate: target_flops does not tell the shares of three..."},
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
    refused_as(duo_recipe_load(&recipe, "no-such.conf", NULL, 0), DUO_EIO,
               "no-such.conf: No such file or directory");
    ck_assert_int_eq(duo_recipe_load(&recipe, "/", NULL, 0), DUO_EIO);
    refused_as(duo_recipe_load(&recipe, "/proc/self/cmdline", NULL, 0), DUO_EINVAL,
               "/proc/self/cmdline: not a recipe: not text");
    ck_assert_ptr_null(recipe);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_recipe_reads_well_after_a_broken_one,
        files_that_are_no_recipes_are_refused,
    };
    Suite *suite = suite_create("recipe mistakes");
    TCase *all = add_case(suite, 4, tests, sizeof tests / sizeof *tests, 1);
    tcase_add_loop_test(all, mistake_is_named_with_its_line, 0,
                        (int)(sizeof mistakes / sizeof *mistakes));
    return run_cases(suite);
}
