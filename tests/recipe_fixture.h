#ifndef RECIPE_FIXTURE_H
#define RECIPE_FIXTURE_H

/* What the suites of recipes share: the smallest ones, one of everything, and what is expected of
 * the reader. */

#include "check_fixture.h"
#include "duo/recipe.h"

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

#define parse(recipe, text) ok(duo_recipe_parse(recipe, text, "x.conf", NULL, 0))

/* The message must be `want` in full, or begin with it when it ends in "...". */
static inline void expect(duo_status status, const duo_recipe *recipe, const char *want)
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

static inline void refuse(const char *text, const char *want)
{
    duo_recipe *recipe = NULL;
    const duo_status status = duo_recipe_parse(&recipe, text, "x.conf", NULL, 0);
    expect(status, recipe, want);
}

#endif
