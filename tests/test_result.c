#include <math.h>

#include "duo/result.h"
#include "study_fixture.h"

static const duo_hash hash = {0x0123456789abcdef, 0xfedcba9876543210};
static const char routes_path[] = "routes.h5";

static duo_routes_origin origin(void)
{
    return (duo_routes_origin){.policy = "oracle",
                               .budget = "2",
                               .context = "committed",
                               .method = "exact",
                               .modules = TWO,
                               .model = hash,
                               .tokens = {7, 8},
                               .seed = 5};
}

/* Numbers that tell where they stand. */
static void fill(duo_results *results, size_t from, size_t to)
{
    for (size_t p = 0; p < results->n; p++) {
        duo_trace *trace = &results->policies[p].trace;
        for (size_t i = from * T; i < to * T; i++) {
            trace->loss[i] = (float)(i + 1000 * p);
            for (size_t l = 0; l < L; l++)
                trace->routes[i * L + l] = (uint8_t)(1 + (i + l + p) % 2);
        }
    }
    results->done = to;
}

/* Two policies, first and second. */
static duo_results make_results(const fixture *f)
{
    duo_results results;
    ok(duo_results_create(&results, &f->sequences, L, 2,
                          DUO_RESULTS_REFERENCE | DUO_RESULTS_DRAWN | DUO_RESULTS_FIXED));
    strcpy(results.policies[0].name, "first");
    strcpy(results.policies[1].name, "second");
    return results;
}

static void write_one(const fixture *f, size_t layers)
{
    duo_results results;
    const duo_routes_origin from = origin();
    ok(duo_results_create(&results, &f->sequences, layers, 1, 0));
    strcpy(results.policies[0].name, "oracle");
    memcpy(results.policies[0].trace.routes, f->trace.routes, R * T * layers);
    memcpy(results.policies[0].trace.loss, f->trace.loss, R * T * sizeof(float));
    results.done = R;
    ok(duo_results_write(routes_path, &results, &from));
    duo_results_free(&results);
}

static duo_status read_routes(const fixture *f, const char *path, duo_hash model,
                              const duo_trace *expected)
{
    duo_sequences sequences;
    duo_trace trace;
    const duo_status status = duo_routes_read(path, f->model, model, &sequences, &trace);
    if (status != DUO_OK) return status;
    ck_assert_uint_eq(sequences.R, R);
    ck_assert_uint_eq(sequences.T, T);
    ck_assert_mem_eq(sequences.tokens, f->sequences.tokens, R * (T + 1) * sizeof(int32_t));
    ck_assert_mem_eq(trace.routes, expected->routes, R * T * L);
    ck_assert_mem_eq(trace.loss, expected->loss, R * T * sizeof(float));
    duo_sequences_free(&sequences);
    duo_trace_free(&trace);
    return DUO_OK;
}

START_TEST(every_policy_comes_back_by_its_name)
{
    fixture f = make_fixture(1, R, T);
    duo_results results = make_results(&f);
    const duo_routes_origin from = origin();
    fill(&results, 0, R);
    ok(duo_results_write(routes_path, &results, &from));
    ok(read_routes(&f, routes_path, hash, &results.policies[0].trace));
    ok(read_routes(&f, "routes.h5#first", hash, &results.policies[0].trace));
    ok(read_routes(&f, "routes.h5#second", hash, &results.policies[1].trace));
    refused(read_routes(&f, "routes.h5#third", hash, NULL), DUO_EINVAL,
            "routes.h5: holds no policy third");
    ck_assert_ptr_eq(duo_results_find(&results, "second"), &results.policies[1].trace);
    ck_assert_ptr_null(duo_results_find(&results, "third"));
    ck_assert_int_eq(rename(routes_path, "a#b"), 0);
    ok(read_routes(&f, "a#b", hash, &results.policies[0].trace));
    duo_results_free(&results);
    free_fixture(&f);
}
END_TEST

START_TEST(usage_counts_modules_by_layer_and_position)
{
    fixture f = make_fixture(1, R, T);
    duo_results results = make_results(&f);
    const duo_routes_origin from = origin();
    fill(&results, 0, R);
    ok(duo_results_write(routes_path, &results, &from));
    duo_store *store = NULL;
    const duo_dataset *usage = NULL;
    ok(duo_store_open(&store, routes_path, DUO_KIND_ROUTES));
    ok(duo_store_require(store, "/policies/second/usage", DUO_U32, shape(3, L, T, 3, 0), &usage));
    const uint32_t *counts = usage->data;
    for (size_t l = 0; l < L; l++)
        for (size_t t = 0; t < T; t++) {
            uint32_t expected[DUO_MODULES] = {0};
            for (size_t r = 0; r < R; r++)
                expected[results.policies[1].trace.routes[(r * T + t) * L + l]]++;
            ck_assert_mem_eq(counts + (l * T + t) * 3, expected, sizeof expected);
        }
    duo_store_close(store);
    duo_results_free(&results);
    free_fixture(&f);
}
END_TEST

START_TEST(work_goes_on_where_the_file_stands)
{
    fixture f = make_fixture(1, R, T);
    duo_results results = make_results(&f), again = make_results(&f);
    const duo_routes_origin from = origin();
    ok(duo_results_resume(&again, routes_path, &from));
    ck_assert_uint_eq(again.done, 0);
    fill(&results, 0, 2);
    results.drawn[T] = 17;
    results.reference->oracle.loss[5] = 2.5f;
    results.reference->control.routes[3] = DUO_BIG;
    results.fixed->L = L;
    results.fixed->patterns = calloc((L + 1) * L, 1);
    results.fixed->loss = calloc(L + 1, sizeof(double));
    results.fixed->patterns[4] = DUO_BIG;
    results.fixed->loss[1] = 0.25;
    results.fixed->evaluated = 8;
    ok(duo_results_write(routes_path, &results, &from));
    ok(duo_results_resume(&again, routes_path, &from));
    ck_assert_uint_eq(again.done, 2);
    ck_assert_mem_eq(again.policies[1].trace.loss, results.policies[1].trace.loss,
                     2 * T * sizeof(float));
    ck_assert_int_eq(again.drawn[T], 17);
    ck_assert_float_eq(again.reference->oracle.loss[5], 2.5f);
    ck_assert_int_eq(again.reference->control.routes[3], DUO_BIG);
    ck_assert_int_eq(again.fixed->patterns[4], DUO_BIG);
    ck_assert_double_eq(again.fixed->loss[1], 0.25);
    ck_assert_uint_eq(again.fixed->evaluated, 8);
    duo_results_free(&again);
    duo_results_free(&results);
    free_fixture(&f);
}
END_TEST

START_TEST(work_on_something_else_is_not_mixed_in)
{
    fixture f = make_fixture(1, R, T);
    duo_results results = make_results(&f);
    const duo_routes_origin from = origin();
    fill(&results, 0, 2);
    results.fixed->L = L;
    results.fixed->patterns = calloc((L + 1) * L, 1);
    results.fixed->loss = calloc(L + 1, sizeof(double));
    ok(duo_results_write(routes_path, &results, &from));
    blob before = slurp(routes_path);
    duo_routes_origin other = from;
    other.budget = "3";
    refused(duo_results_resume(&results, routes_path, &other), DUO_EINVAL,
            "routes.h5: holds results with budget 2, wanted is 3; give another output");
    other = from;
    other.model.low = 1;
    refused(duo_results_resume(&results, routes_path, &other), DUO_EINVAL, "with model_hash 0123");
    other = from;
    other.tokens.low = 9;
    refused(duo_results_resume(&results, routes_path, &other), DUO_EINVAL, "with tokens_hash");
    other = from;
    other.seed = 6;
    refused(duo_results_resume(&results, routes_path, &other), DUO_EINVAL, "with seed 5");
    f.sequences.tokens[3]++;
    refused(duo_results_resume(&results, routes_path, &from), DUO_EINVAL, "of other sequences");
    f.sequences.tokens[3]--;
    ck_assert_uint_eq(results.done, 0);
    spill("cut.h5", before.data, before.size / 2);
    refused(duo_results_resume(&results, "cut.h5", &from), DUO_EDATA, "cut.h5");
    file_is(routes_path, before);
    free(before.data);
    duo_results_free(&results);
    free_fixture(&f);
}
END_TEST

/* Format 1: one policy, no groups. */
START_TEST(files_of_the_first_format_are_read)
{
    fixture f = make_fixture(1, R, T);
    duo_store_writer *file = NULL;
    duo_results results = make_results(&f);
    const duo_routes_origin from = origin();
    memset(f.trace.routes, DUO_SMALL, R * T * L);
    ok(duo_store_create(&file, routes_path, DUO_KIND_ROUTES));
    ok(duo_store_write(file, "/tokens", DUO_I32, shape(2, R, T + 1, 0, 0), f.sequences.tokens));
    ok(duo_store_write(file, "/routes", DUO_U8, shape(3, R, T, L, 0), f.trace.routes));
    ok(duo_store_write(file, "/loss", DUO_F32, shape(2, R, T, 0, 0), f.trace.loss));
    ok(duo_store_set_u64(file, "/", "format_version", 1));
    ok(duo_store_set_text(file, "/", "model_hash", "0123456789abcdeffedcba9876543210"));
    ok(duo_store_commit(file));
    duo_store_writer_free(file);
    ok(read_routes(&f, routes_path, hash, &f.trace));
    refused(duo_results_resume(&results, routes_path, &from), DUO_EINVAL, "routes of format 1");
    duo_results_free(&results);
    free_fixture(&f);
}
END_TEST

START_TEST(routes_file_of_something_else_is_refused)
{
    fixture f = make_fixture(1, R, T);
    memset(f.trace.routes, DUO_SMALL, R * T * L);
    refused(read_routes(&f, routes_path, hash, NULL), DUO_EIO, routes_path);
    write_one(&f, L);
    ok(read_routes(&f, routes_path, hash, &f.trace));
    refused(read_routes(&f, routes_path, (duo_hash){1, 2}, NULL), DUO_EINVAL,
            "was found for the model 0123");
    write_one(&f, L - 1);
    refused(read_routes(&f, routes_path, hash, NULL), DUO_EDATA, "/routes");
    f.trace.loss[3] = NAN;
    write_one(&f, L);
    refused(read_routes(&f, routes_path, hash, NULL), DUO_EDATA, "/loss holds what is not finite");
    f.trace.loss[3] = 1;
    f.sequences.tokens[2 * (T + 1) + T] = 29;
    write_one(&f, L);
    refused(read_routes(&f, routes_path, hash, NULL), DUO_EDATA, "token 5 of sequence 2 is 29");
    f.sequences.tokens[2 * (T + 1) + T] = 28;
    f.model->params.config.max_seq = T - 1;
    write_one(&f, L);
    refused(read_routes(&f, routes_path, hash, NULL), DUO_EDATA,
            "sequences of 5 tokens, the model sees 4");
    free_fixture(&f);
}
END_TEST

/* A byte that is no module can only come from another program. */
START_TEST(curves_that_hold_no_modules_are_refused)
{
    fixture f = make_fixture(1, R, T);
    duo_results results = make_results(&f);
    const duo_routes_origin from = origin();
    const duo_route_curve *curves[] = {&results.reference->oracle, &results.reference->control,
                                       &results.reference->label_free};
    const char *names[] = {"oracle", "control", "label_free"};
    results.fixed->L = L;
    results.fixed->patterns = calloc((L + 1) * L, 1);
    results.fixed->loss = calloc(L + 1, sizeof *results.fixed->loss);
    ck_assert(results.fixed->patterns && results.fixed->loss);
    fill(&results, 0, R);
    for (size_t c = 0; c < 3; c++) {
        char message[96];
        uint8_t *last = curves[c]->routes + R * T * (L + 1) * L - 1;
        duo_sequences sequences;
        duo_reference reference;
        duo_fixed fixed;
        *last = 7;
        ok(duo_results_write(routes_path, &results, &from));
        snprintf(message, sizeof message, "routes.h5: /reference/%s/routes holds 7", names[c]);
        refused(duo_reference_read(routes_path, f.model, hash, &sequences, &reference, &fixed),
                DUO_EDATA, message);
        *last = DUO_SMALL;
    }
    duo_results_free(&results);
    free_fixture(&f);
}
END_TEST

START_TEST(routes_that_are_no_modules_are_refused)
{
    fixture f = make_fixture(1, R, T);
    duo_store_writer *file = NULL;
    memset(f.trace.routes, DUO_SMALL, R * T * L);
    f.trace.routes[7] = DUO_MODULES;
    ok(duo_store_create(&file, routes_path, DUO_KIND_ROUTES));
    ok(duo_store_write(file, "/tokens", DUO_I32, shape(2, R, T + 1, 0, 0), f.sequences.tokens));
    ok(duo_store_write(file, "/routes", DUO_U8, shape(3, R, T, L, 0), f.trace.routes));
    ok(duo_store_write(file, "/loss", DUO_F32, shape(2, R, T, 0, 0), f.trace.loss));
    ok(duo_store_set_u64(file, "/", "format_version", 2));
    ok(duo_store_set_text(file, "/", "model_hash", "0123456789abcdeffedcba9876543210"));
    ok(duo_store_commit(file));
    duo_store_writer_free(file);
    refused(read_routes(&f, routes_path, hash, NULL), DUO_EDATA, "/routes holds 3");
    free_fixture(&f);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        every_policy_comes_back_by_its_name,    usage_counts_modules_by_layer_and_position,
        work_goes_on_where_the_file_stands,     work_on_something_else_is_not_mixed_in,
        files_of_the_first_format_are_read,     routes_file_of_something_else_is_refused,
        routes_that_are_no_modules_are_refused, curves_that_hold_no_modules_are_refused,
    };
    return run_suite("result", tests, sizeof tests / sizeof *tests);
}
