#include <math.h>

#include "checkpoint_fixture.h"
#include "duo/kernels.h"

START_TEST(everything_comes_back)
{
    sample s, t;
    make_sample(&s);
    make_sample(&t);
    duo_checkpoint *c;
    duo_model *model;
    size_t n;
    ok(duo_checkpoint_save("x.h5", &s.state));
    ok(duo_checkpoint_open(&c, "x.h5"));
    ck_assert_str_eq(duo_checkpoint_path(c), "x.h5");
    ck_assert_str_eq(duo_checkpoint_recipe(c), "name = sample\n");
    ck_assert_str_eq(duo_checkpoint_stage(c), "duo");
    ck_assert_str_eq(duo_checkpoint_isa(c), duo_isa_name(duo_kernels_isa()));
    ck_assert_mem_eq(duo_checkpoint_tokenizer(c, &n), s.state.tokenizer, 14);
    ck_assert_uint_eq(n, 14);
    ck_assert_ptr_null(duo_config_difference(duo_checkpoint_config(c), &s.model->params.config));
    ck_assert_uint_eq(duo_checkpoint_config(c)->router_modules, SMALL_AND_BIG);
    const duo_progress *progress = duo_checkpoint_progress(c);
    ck_assert_uint_eq(progress->stage, 1);
    ck_assert_uint_eq(progress->stage_step, 40);
    ck_assert_uint_eq(progress->step, 140);
    ck_assert_uint_eq(progress->sequences, 1400);
    ck_assert_uint_eq(progress->tokens, 70000);
    ck_assert_double_eq(progress->best_loss, 3.0625);
    ck_assert_double_eq(duo_checkpoint_lr(c), s.state.lr);
    ck_assert_double_eq(duo_checkpoint_tau(c), s.state.tau);
    ok(duo_checkpoint_model(c, &model));
    same_tree(&model->weights, &s.model->weights);
    ck_assert(duo_hash_equal(duo_model_hash(model), duo_model_hash(s.model)));
    fill_tree(&t.m, 9);
    fill_tree(&t.v, 9);
    ok(duo_checkpoint_moments(c, &t.m, &t.v));
    same_tree(&t.m, &s.m);
    same_tree(&t.v, &s.v);
    duo_model_free(model);
    duo_checkpoint_close(c);
    free_sample(&s);
    free_sample(&t);
}
END_TEST

START_TEST(without_routers_moments_and_tokenizer)
{
    sample s;
    duo_config config = sample_config();
    config.router_modules = 0;
    config.tied_embeddings = true;
    make_sample_of(&s, &config, 0);
    s.state.m = s.state.v = NULL;
    s.state.tokenizer = NULL;
    s.state.tokenizer_bytes = 0;
    s.state.recipe = "";
    duo_checkpoint *c;
    duo_model *model;
    size_t n;
    ok(duo_checkpoint_save("x.h5", &s.state));
    ok(duo_checkpoint_open(&c, "x.h5"));
    duo_checkpoint_tokenizer(c, &n);
    ck_assert_uint_eq(n, 0);
    ck_assert_str_eq(duo_checkpoint_recipe(c), "");
    ck_assert_uint_eq(duo_checkpoint_config(c)->router_modules, 0);
    ck_assert(duo_checkpoint_config(c)->tied_embeddings);
    ok(duo_checkpoint_model(c, &model));
    same_tree(&model->weights, &s.model->weights);
    duo_model_free(model);
    duo_checkpoint_close(c);
    free_sample(&s);
}
END_TEST

START_TEST(what_was_skipped_goes_along)
{
    double last[] = {3.5, 3.25};
    const duo_losses losses = {.n = 2, .window = 4, .loss = last};
    sample s;
    make_sample(&s);
    duo_checkpoint *c;
    size_t n = 1;
    ok(duo_checkpoint_save("x.h5", &s.state));
    ok(duo_checkpoint_open(&c, "x.h5"));
    ck_assert_ptr_null(duo_checkpoint_losses(c, &n));
    ck_assert_uint_eq(n, 0);
    ck_assert_uint_eq(duo_checkpoint_progress(c)->skipped, 0);
    duo_checkpoint_close(c);
    s.progress.skipped = 12;
    s.progress.rollbacks = 2;
    s.state.losses = &losses;
    ok(duo_checkpoint_save("x.h5", &s.state));
    ok(duo_checkpoint_open(&c, "x.h5"));
    ck_assert_mem_eq(duo_checkpoint_losses(c, &n), last, sizeof last);
    ck_assert_uint_eq(n, 2);
    ck_assert_uint_eq(duo_checkpoint_progress(c)->skipped, 12);
    ck_assert_uint_eq(duo_checkpoint_progress(c)->rollbacks, 2);
    ck_assert_double_eq(duo_checkpoint_loss(c), 3.25);
    duo_checkpoint_close(c);
    free_sample(&s);
}
END_TEST

/* Names that other readers of the file go by. */
START_TEST(layout)
{
    static const char *const datasets[] = {"/model/tok_emb",
                                           "/model/layers/01/router/weight",
                                           "/model/layers/00/small/gate/weight",
                                           "/model/lm_head",
                                           "/optimizer/m/layers/01/small/up/weight",
                                           "/optimizer/v/layers/00/router/bias",
                                           "/recipe",
                                           "/tokenizer"};
    static const struct {
        const char *object, *name;
        uint64_t value;
    } numbers[] = {
        {"/", "format_version", 1},
        {"/model", "n_layers", 2},
        {"/model", "d_head", 4},
        {"/model", "tied_embeddings", 0},
        {"/train", "stage_index", 1},
        {"/train", "stage_step", 40},
        {"/train", "tokens_seen", 70000},
        {"/train", "sequences", 1400},
        {"/train", "seed", 7},
    };
    sample s;
    make_sample(&s);
    duo_store *store;
    uint64_t value;
    double temperature;
    const char *text;
    char hash[33];
    ok(duo_checkpoint_save("x.h5", &s.state));
    ok(duo_store_open(&store, "x.h5", DUO_KIND_CHECKPOINT));
    for (size_t i = 0; i < sizeof datasets / sizeof *datasets; i++)
        ck_assert_msg(duo_store_find(store, datasets[i]) != NULL, "%s", datasets[i]);
    ck_assert_ptr_null(duo_store_find(store, "/optimizer/m/tok_emb"));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        ok(duo_store_get_u64(store, numbers[i].object, numbers[i].name, &value));
        ck_assert_uint_eq(value, numbers[i].value);
    }
    ok(duo_store_get_f64(store, "/train", "temperature", &temperature));
    ck_assert_double_eq(temperature, 0.75);
    ok(duo_store_get_text(store, "/model", "arch", &text));
    ck_assert_str_eq(text, "llama");
    ok(duo_store_get_text(store, "/model", "router_modules", &text));
    ck_assert_str_eq(text, "small,big");
    ok(duo_store_get_text(store, "/", "producer", &text));
    ck_assert_str_eq(text, "duo " DUO_VERSION);
    ok(duo_store_get_text(store, "/", "model_hash", &text));
    ck_assert_str_eq(text, duo_hash_text(hash, duo_model_hash(s.model)));
    ok(duo_store_get_text(store, "/recipe", "hash", &text));
    ck_assert_str_eq(text, duo_hash_text(hash, duo_hash_bytes("name = sample\n", 14)));
    duo_store_close(store);
    free_sample(&s);
}
END_TEST

static void assert_created(const sample *s, const char *epoch, const char *expected)
{
    duo_store *store;
    const char *text;
    if (epoch) setenv("SOURCE_DATE_EPOCH", epoch, 1);
    ok(duo_checkpoint_save("created.h5", &s->state));
    ok(duo_store_open(&store, "created.h5", DUO_KIND_CHECKPOINT));
    ok(duo_store_get_text(store, "/", "created", &text));
    ck_assert_str_eq(text, expected);
    duo_store_close(store);
}

START_TEST(the_same_state_gives_the_same_bytes)
{
    sample s, t;
    unsetenv("SOURCE_DATE_EPOCH");
    make_sample(&s);
    make_sample(&t);
    ok(duo_checkpoint_save("x.h5", &s.state));
    ok(duo_checkpoint_save("y.h5", &t.state));
    blob x = slurp("x.h5");
    file_is("y.h5", x);
    free(x.data);
    assert_created(&s, NULL, "1970-01-01T00:00:00Z");
    assert_created(&s, "1700000000", "2023-11-14T22:13:20Z");
    assert_created(&s, "yesterday", "1970-01-01T00:00:00Z");
    assert_created(&s, "253402300800", "1970-01-01T00:00:00Z");
    free_sample(&s);
    free_sample(&t);
}
END_TEST

START_TEST(hash_depends_on_every_value)
{
    sample s;
    make_sample(&s);
    const duo_hash before = duo_model_hash(s.model);
    for (size_t i = 0; i < s.model->params.n; i++) {
        float *last = &s.model->weights.tensors[i][s.model->params.table[i].count - 1];
        const float keep = *last;
        *last = nextafterf(keep, 1);
        ck_assert(!duo_hash_equal(duo_model_hash(s.model), before));
        *last = keep;
    }
    ck_assert(duo_hash_equal(duo_model_hash(s.model), before));
    free_sample(&s);
}
END_TEST

/* ---------------------------------------------------------------- what is refused */

START_TEST(a_state_that_is_not_finite)
{
    sample s;
    make_sample(&s);
    ok(duo_checkpoint_save("x.h5", &s.state));
    blob before = slurp("x.h5");

    float *weight = duo_tree_at(&s.model->weights, 1, DUO_P_ROUTER_BIAS) + 1;
    float keep = *weight;
    *weight = NAN;
    refused(duo_checkpoint_save("x.h5", &s.state), DUO_ENUMBER,
            "x.h5: not saved: /model/layers/01/router/bias is not finite");
    *weight = keep;
    float *moment = duo_tree_at(&s.v, 0, DUO_P_SMALL_UP);
    keep = *moment;
    *moment = INFINITY;
    refused(duo_checkpoint_save("x.h5", &s.state), DUO_ENUMBER,
            "/optimizer/v/layers/00/small/up/weight is not finite");
    *moment = keep;
    s.state.loss = NAN;
    refused(duo_checkpoint_save("x.h5", &s.state), DUO_ENUMBER, "not saved: loss is nan");
    s.state.loss = 3.25;
    s.progress.best_loss = -INFINITY;
    refused(duo_checkpoint_save("x.h5", &s.state), DUO_ENUMBER, "best_loss is -inf");

    file_is("x.h5", before);
    ck_assert_uint_eq(files_here(), 1);
    free(before.data);
    free_sample(&s);
}
END_TEST

/* What a well-sealed file may hold all the same: one thing of a good one changed. */
typedef struct edit {
    enum { DROP, COUNT, REAL, TEXT, TRANSPOSE, RETYPE, NOT_A_NUMBER, ADD } what;
    const char *object, *attribute; /* attribute NULL: a dataset */
    uint64_t count;
    double real;
    const char *text;
} edit;

static void copy_attribute(duo_store_writer *to, const duo_attribute *a)
{
    if (a->type == DUO_ATTR_U64) ok(duo_store_set_u64(to, a->object, a->name, a->u64));
    if (a->type == DUO_ATTR_F64) ok(duo_store_set_f64(to, a->object, a->name, a->f64));
    if (a->type == DUO_ATTR_TEXT) ok(duo_store_set_text(to, a->object, a->name, a->text));
}

static void edit_attribute(duo_store_writer *to, const edit *e)
{
    if (e->what == COUNT) ok(duo_store_set_u64(to, e->object, e->attribute, e->count));
    if (e->what == REAL) ok(duo_store_set_f64(to, e->object, e->attribute, e->real));
    if (e->what == TEXT) ok(duo_store_set_text(to, e->object, e->attribute, e->text));
}

static void edit_dataset(duo_store_writer *to, const duo_dataset *d, const edit *e)
{
    const size_t size = d->count * duo_type_size(d->type);
    char *data = malloc(size);
    duo_shape is = d->shape;
    duo_type type = d->type;
    memcpy(data, d->data, size);
    if (e->what == DROP) goto done;
    if (e->what == TRANSPOSE) is = shape(2, d->shape.size[1], d->shape.size[0], 0, 0);
    if (e->what == RETYPE) type = DUO_I32;
    if (e->what == NOT_A_NUMBER) ((float *)(void *)data)[d->count - 1] = NAN;
    if (e->what == TEXT) data[size / 2] = e->text[0];
    ok(duo_store_write(to, d->name, type, is, data));

done:
    free(data);
}

static void write_edited(const char *path, const char *from, const edit *e)
{
    duo_store *store;
    duo_store_writer *to;
    const duo_dataset *datasets;
    const duo_attribute *attributes;
    ok(duo_store_open(&store, from, DUO_KIND_CHECKPOINT));
    ok(duo_store_create(&to, path, DUO_KIND_CHECKPOINT));
    const size_t n = duo_store_datasets(store, &datasets);
    for (size_t i = 0; i < n; i++) {
        const duo_dataset *d = &datasets[i];
        if (!e->attribute && strcmp(d->name, e->object) == 0)
            edit_dataset(to, d, e);
        else
            ok(duo_store_write(to, d->name, d->type, d->shape, d->data));
    }
    if (e->what == ADD) ok(duo_store_write(to, e->object, DUO_F32, shape(1, 2, 0, 0, 0), weights));
    const size_t m = duo_store_attributes(store, &attributes);
    for (size_t i = 0; i < m; i++) {
        const duo_attribute *a = &attributes[i];
        const bool edited =
            e->attribute && strcmp(a->object, e->object) == 0 && strcmp(a->name, e->attribute) == 0;
        if (!edited && strcmp(a->name, "kind") != 0 && duo_store_find(store, a->object) == NULL)
            copy_attribute(to, a);
    }
    if (e->attribute) edit_attribute(to, e);
    ok(duo_store_commit(to));
    duo_store_writer_free(to);
    duo_store_close(store);
}

START_TEST(sealed_nonsense)
{
    static const struct {
        edit edit;
        duo_status code;
        const char *says;
    } cases[] = {
        {{COUNT, "/", "format_version", .count = 2}, DUO_EINVAL, "checkpoint format 2; this"},
        {{COUNT, "/", "format_version", .count = 0}, DUO_EDATA, "format 0 does not exist"},
        {{DROP, "/", .attribute = "format_version"},
         DUO_EDATA,
         "attribute format_version of / is missing"},
        {{DROP, "/model", .attribute = "arch"}, DUO_EDATA, "attribute arch of /model is missing"},
        {{TEXT, "/model", "arch", .text = "opt"}, DUO_EDATA, "is 'opt', which is unknown"},
        {{DROP, "/model", .attribute = "d_big"}, DUO_EDATA, "attribute d_big of /model is missing"},
        {{REAL, "/model", "d_big", .real = 10}, DUO_EDATA, "d_big of /model is a float"},
        {{COUNT, "/model", "n_layers", .count = 0}, DUO_EDATA, "n_layers is 0, outside"},
        {{COUNT, "/model", "n_layers", .count = UINT64_MAX}, DUO_EDATA, "n_layers is 184467"},
        {{COUNT, "/model", "n_layers", .count = 3}, DUO_EDATA, "/model/layers/02/attn_norm/weight"},
        {{COUNT, "/model", "n_layers", .count = 1}, DUO_EDATA, "/model/layers/01/"},
        {{COUNT, "/model", "n_heads", .count = 5}, DUO_EDATA, "n_heads 5 does not divide"},
        {{COUNT, "/model", "n_heads", .count = 6}, DUO_EDATA, "d_head is 4, not"},
        {{COUNT, "/model", "vocab_size", .count = 1 << 24}, DUO_EDATA, "/model/tok_emb is float32"},
        {{REAL, "/model", "norm_eps", .real = NAN}, DUO_EDATA, "norm_eps is nan"},
        {{REAL, "/model", "rope_theta", .real = -1}, DUO_EDATA, "rope_theta is -1"},
        {{COUNT, "/model", "tied_embeddings", .count = 2}, DUO_EDATA, "neither 0 nor 1"},
        {{COUNT, "/model", "tied_embeddings", .count = 1}, DUO_EDATA, "/model/lm_head does not"},
        {{TEXT, "/model", "router_modules", .text = "huge"}, DUO_EDATA, "is 'huge'"},
        {{TEXT, "/model", "router_modules", .text = "big"}, DUO_EDATA, "two or three modules"},
        {{TEXT, "/model", "router_modules", .text = "skip,small,big"}, DUO_EDATA, "router/weight"},
        {{DROP, "/model", .attribute = "router_modules"},
         DUO_EDATA,
         "/model/layers/00/router/bias does not"},
        {{DROP, .object = "/model/layers/01/big/up/weight"},
         DUO_EDATA,
         "dataset /model/layers/01/big/up/weight is missing"},
        {{TRANSPOSE, .object = "/model/layers/01/big/up/weight"},
         DUO_EDATA,
         "/model/layers/01/big/up/weight is float32 [12, 10], not float32 [10, 12]"},
        {{RETYPE, .object = "/model/final_norm/weight"}, DUO_EDATA, "final_norm/weight is int32"},
        {{ADD, .object = "/model/final_norm/bias"}, DUO_EDATA, "/model/final_norm/bias does not"},
        {{DROP, .object = "/recipe"}, DUO_EDATA, "dataset /recipe is missing"},
        {{TEXT, "/recipe", NULL, .text = ""}, DUO_EDATA, "dataset /recipe is no text"},
        {{DROP, .object = "/tokenizer"}, DUO_EDATA, "dataset /tokenizer is missing"},
        {{DROP, "/train", .attribute = "sequences"},
         DUO_EDATA,
         "attribute sequences of /train is missing"},
        {{DROP, "/train", .attribute = "stage_index"},
         DUO_EDATA,
         "attribute stage_index of /train"},
        {{COUNT, "/train", "stage_step", .count = 141}, DUO_EDATA, "141 is beyond step 140"},
        {{REAL, "/train", "best_loss", .real = INFINITY}, DUO_EDATA, "best_loss is inf"},
        {{DROP, "/train", .attribute = "isa"}, DUO_EDATA, "attribute isa of /train is missing"},
    };
    sample s;
    make_sample(&s);
    ok(duo_checkpoint_save("x.h5", &s.state));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        duo_checkpoint *c;
        write_edited("edited.h5", "x.h5", &cases[i].edit);
        refused(duo_checkpoint_open(&c, "edited.h5"), cases[i].code, cases[i].says);
        refused(cases[i].code, cases[i].code, "edited.h5: ");
        ck_assert_ptr_null(c);
    }
    free_sample(&s);
}
END_TEST

START_TEST(other_files)
{
    duo_checkpoint *c;
    write_small("tokens.h5", 1.5f);
    refused(duo_checkpoint_open(&c, "tokens.h5"), DUO_EDATA, "a tokens file, not a checkpoint");
    refused(duo_checkpoint_open(&c, "none.h5"), DUO_EIO, "none.h5: cannot open");
    ck_assert_ptr_null(c);
}
END_TEST

START_TEST(tensors_that_cannot_be_used)
{
    sample s;
    make_sample(&s);
    duo_checkpoint *c;
    duo_model *model;
    ok(duo_checkpoint_save("x.h5", &s.state));
    write_edited("edited.h5", "x.h5", &(edit){NOT_A_NUMBER, .object = "/model/tok_emb"});
    ok(duo_checkpoint_open(&c, "edited.h5"));
    refused(duo_checkpoint_model(c, &model), DUO_EDATA,
            "edited.h5: dataset /model/tok_emb is not finite");
    ck_assert_ptr_null(model);
    duo_checkpoint_close(c);

    write_edited("edited.h5", "x.h5",
                 &(edit){NOT_A_NUMBER, .object = "/optimizer/v/layers/00/router/bias"});
    ok(duo_checkpoint_open(&c, "edited.h5"));
    refused(duo_checkpoint_moments(c, &s.m, &s.v), DUO_EDATA,
            "/optimizer/v/layers/00/router/bias is not finite");
    duo_checkpoint_close(c);

    write_edited("edited.h5", "x.h5",
                 &(edit){DROP, .object = "/optimizer/m/layers/01/small/down/weight"});
    ok(duo_checkpoint_open(&c, "edited.h5"));
    refused(duo_checkpoint_moments(c, &s.m, &s.v), DUO_EDATA,
            "/optimizer/m/layers/01/small/down/weight is missing");
    duo_checkpoint_close(c);
    free_sample(&s);
}
END_TEST

/* A router with a hidden layer and every input, calibrated, in the middle of a dual ascent. */
START_TEST(all_that_routers_have_comes_back)
{
    sample s;
    duo_config config = sample_config();
    duo_checkpoint *c;
    duo_model *model;
    config.router_hidden = 4;
    config.router_inputs = (1u << DUO_ROUTER_INPUTS) - 1;
    make_sample_of(&s, &config, DUO_GROUP_BIT(DUO_GROUP_ROUTER));
    s.progress.multiplier[DUO_BIG] = -0.1;
    for (size_t i = 0; i < 3 * DUO_MODULES; i++) s.model->thresholds[i] = (float)i / 7;
    s.model->calibrated = true;
    ok(duo_checkpoint_save("x.h5", &s.state));
    ok(duo_checkpoint_open(&c, "x.h5"));
    ck_assert(duo_config_same_routers(duo_checkpoint_config(c), &config));
    ck_assert_double_eq(duo_checkpoint_progress(c)->multiplier[DUO_BIG], -0.1);
    ck_assert_double_eq(duo_checkpoint_progress(c)->multiplier[DUO_SMALL], 0);
    ck_assert_uint_eq(duo_checkpoint_seed(c), 7);
    ok(duo_checkpoint_model(c, &model));
    same_tree(&model->weights, &s.model->weights);
    ck_assert_mem_eq(model->thresholds, s.model->thresholds, 9 * sizeof(float));
    ck_assert_float_eq(model->rule.threshold[DUO_BIG], model->thresholds[3 + DUO_BIG]);
    ck_assert(model->calibrated);
    duo_model_free(model);
    duo_checkpoint_close(c);

    write_edited("edited.h5", "x.h5", &(edit){NOT_A_NUMBER, .object = "/calibration/thresholds"});
    ok(duo_checkpoint_open(&c, "edited.h5"));
    refused(duo_checkpoint_model(c, &model), DUO_EDATA,
            "edited.h5: dataset /calibration/thresholds is not finite");
    duo_checkpoint_close(c);
    s.progress.multiplier[DUO_SMALL] = NAN;
    refused(duo_checkpoint_save("y.h5", &s.state), DUO_ENUMBER, "multiplier_small is nan");
    free_sample(&s);
}
END_TEST

/* Thresholds may be set to 0. */
START_TEST(a_checkpoint_tells_whether_it_is_calibrated)
{
    for (int calibrated = 0; calibrated < 2; calibrated++) {
        sample s;
        duo_checkpoint *c;
        make_sample(&s);
        s.model->calibrated = calibrated;
        ok(duo_checkpoint_save("x.h5", &s.state));
        ok(duo_checkpoint_open(&c, "x.h5"));
        ck_assert_int_eq(duo_checkpoint_calibrated(c), calibrated);
        duo_checkpoint_close(c);
        free_sample(&s);
    }
}
END_TEST

START_TEST(hash_without_routers_is_that_of_the_language_model)
{
    sample s, t;
    duo_config config = sample_config();
    make_sample_of(&s, &config, 0);
    config.router_modules = 0;
    make_sample_of(&t, &config, 0);
    for (size_t i = 0; i < t.model->params.n; i++) {
        const duo_param *p = &t.model->params.table[i];
        memcpy(t.model->weights.tensors[i], duo_tree_at(&s.model->weights, p->layer, p->slot),
               p->count * sizeof(float));
    }
    ck_assert(duo_hash_equal(duo_model_hash_without_routers(s.model), duo_model_hash(t.model)));
    ck_assert(!duo_hash_equal(duo_model_hash(s.model), duo_model_hash(t.model)));
    free_sample(&s);
    free_sample(&t);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {everything_comes_back,
                                  without_routers_moments_and_tokenizer,
                                  what_was_skipped_goes_along,
                                  layout,
                                  the_same_state_gives_the_same_bytes,
                                  hash_depends_on_every_value,
                                  a_state_that_is_not_finite,
                                  sealed_nonsense,
                                  other_files,
                                  tensors_that_cannot_be_used,
                                  all_that_routers_have_comes_back,
                                  a_checkpoint_tells_whether_it_is_calibrated,
                                  hash_without_routers_is_that_of_the_language_model};
    return run_suite("checkpoint", tests, sizeof tests / sizeof tests[0]);
}
