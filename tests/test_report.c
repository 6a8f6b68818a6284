#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check_fixture.h"
#include "duo/report.h"
#include "duo/result.h"

/* The page is read back as a browser would: the data block, as JSON. */

enum { R = 2, T = 3, L = 2, BUDGETS = L + 1 };

static void make_run(void)
{
    ck_assert_int_eq(mkdir("run", 0777), 0);
}

static size_t page_bytes(void)
{
    struct stat page;
    ck_assert_int_eq(stat("report.html", &page), 0);
    return (size_t)page.st_size;
}

/* The caller frees. */
static char *data_block(void)
{
    static const char mark[] = "id=\"data\">";
    blob page = slurp("report.html");
    char *begin = strstr((char *)page.data, mark);
    ck_assert_ptr_nonnull(begin);
    begin += sizeof mark - 1;
    char *end = strstr(begin, "</script>");
    ck_assert_ptr_nonnull(end);
    char *block = strndup(begin, (size_t)(end - begin));
    ck_assert_ptr_nonnull(block);
    free(page.data);
    return block;
}

static json_t *write_and_read(const char *const *runs, size_t n_runs, const char *const *results,
                              size_t n_results)
{
    json_error_t error;
    write_text("chart.js", "/* lines */");
    ok(duo_report_write("report.html", &(duo_report_input){.runs = runs,
                                                           .n_runs = n_runs,
                                                           .results = results,
                                                           .n_results = n_results,
                                                           .chart_js = "chart.js"}));
    char *block = data_block();
    json_t *data = json_loads(block, 0, &error);
    ck_assert_msg(data != NULL, "%s at byte %d", error.text, error.position);
    free(block);
    return data;
}

static const char *const one_run[] = {"run"};

static json_t *at(const json_t *array, size_t i)
{
    json_t *value = json_array_get(array, i);
    ck_assert_ptr_nonnull(value);
    return value;
}

static json_t *get(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    ck_assert_msg(value != NULL, "no %s", key);
    return value;
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(get(object, key));
}

/* ---------------------------------------------------------------- runs */

START_TEST(metrics_of_a_run_that_is_being_written)
{
    write_text("run/metrics.jsonl",
               "{\"step\":1,\"stage\":\"duo\",\"loss\":8.25,\"lr\":1e-05}\n"
               "{\"step\":2,\"stage\":\"duo\",\"loss\":7.5,\"val_loss\":7.125}\n"
               "{\"step\":3,\"stage\":\"du");
    json_t *data = write_and_read(one_run, 1, NULL, 0);
    const json_t *run = at(get(data, "runs"), 0), *log = get(run, "log");
    ck_assert_str_eq(json_string_value(get(run, "name")), "run");
    ck_assert_uint_eq(json_array_size(log), 2);
    ck_assert_double_eq(number(at(log, 0), "loss"), 8.25);
    ck_assert_double_eq(number(at(log, 0), "lr"), 1e-05);
    ck_assert_double_eq(number(at(log, 1), "val_loss"), 7.125);
    json_decref(data);
}
END_TEST

START_TEST(a_long_log_is_thinned_and_keeps_held_out_losses)
{
    enum { LINES = 40000, EVERY = 500 };
    FILE *file = fopen("run/metrics.jsonl", "w");
    for (int i = 1; i <= LINES; i++)
        fprintf(file, "{\"step\":%d,\"loss\":%d.5%s,\"usage\":{\"big\":[%0120d]}}\n", i, i,
                i % EVERY == 0 ? ",\"val_loss\":1" : "", 1);
    ck_assert_int_eq(fclose(file), 0);
    /* Numbers with zeros in front are no JSON: write them as fractions instead. */
    ck_assert_int_eq(system("sed -i 's/\\[0*1\\]/[0.11111,0.22222,0.33333,0.44444,0.55555]/' "
                            "run/metrics.jsonl"),
                     0);
    json_t *data = write_and_read(one_run, 1, NULL, 0);
    const json_t *run = at(get(data, "runs"), 0), *log = get(run, "log");
    size_t held_out = 0;
    for (size_t i = 0; i < json_array_size(log); i++)
        held_out += json_object_get(at(log, i), "val_loss") != NULL;
    ck_assert_uint_eq(held_out, LINES / EVERY);
    ck_assert_double_gt(number(run, "log_stride"), 1);
    ck_assert_uint_gt(json_array_size(log), 1000);
    ck_assert_double_eq(number(at(log, 0), "step"), 1);
    ck_assert_uint_lt(page_bytes(), 2500000);
    json_decref(data);
}
END_TEST

START_TEST(nothing_in_a_text_ends_the_data)
{
    static const char recipe[] = "name = tiny # </script><script>x</script> <!-- & \"q\" \\ \t"
                                 "\xe2\x80\xa8 \xe2\x80\xae \xff\xc0\x80\xed\xa0\x80 \x7f end\n";
    write_text("run/recipe.conf", recipe);
    json_t *data = write_and_read(one_run, 1, NULL, 0);
    const char *text = json_string_value(get(at(get(data, "runs"), 0), "recipe"));
    ck_assert_ptr_nonnull(strstr(text, "# </script><script>x</script> <!-- & \"q\" \\ \t"));
    ck_assert_ptr_nonnull(strstr(text, "\xe2\x80\xa8 \xe2\x80\xae "));
    /* A byte that is no UTF-8 each: ff, c0 80, ed a0 80. */
    const char *replaced = strstr(text, "\xef\xbf\xbd");
    ck_assert_ptr_nonnull(replaced);
    ck_assert_int_eq(strncmp(replaced + 18, " \x7f end", 6), 0);
    char *block = data_block();
    ck_assert_uint_eq(strcspn(block, "<>&\x7f"), strlen(block));
    free(block);
    json_decref(data);
}
END_TEST

static const char five_steps[] =
    "name = tiny\nmodel { n_layers = 2 d_model = 32 n_heads = 2 d_big = 40 d_small = 8 "
    "max_seq = 24 vocab_size = 99 }\nstage duo { steps = 3 batch_size = 1 }\n"
    "stage router { steps = 2 batch_size = 1 budget = 1 }\n";

/* Whether it is finished is asked before each page: checkpoints are large. */
START_TEST(no_checkpoint_is_read_to_see_whether_its_run_is_finished)
{
    const duo_report_input input = {.runs = one_run, .n_runs = 1};
    struct inotify_event opened;
    write_text("run/recipe.conf", five_steps);
    write_text("run/metrics.jsonl", "{\"step\":5,\"loss\":1}\n");
    write_text("run/latest", "a checkpoint");
    const int watch = inotify_init1(IN_NONBLOCK);
    ck_assert_int_ge(inotify_add_watch(watch, "run/latest", IN_OPEN), 0);
    ck_assert(duo_report_finished(&input));
    ck_assert_int_lt(read(watch, &opened, sizeof opened), 0);
    close(watch);
}
END_TEST

START_TEST(a_run_is_finished_at_the_last_step_of_its_recipe)
{
    const duo_report_input input = {.runs = one_run, .n_runs = 1};
    write_text("run/recipe.conf", five_steps);
    ck_assert(!duo_report_finished(&input));
    write_text("run/metrics.jsonl", "{\"step\":4,\"loss\":1}\n{\"step\":5,\"lo");
    ck_assert(!duo_report_finished(&input));
    write_text("run/metrics.jsonl", "{\"step\":4,\"loss\":1}\n{\"step\":5,\"loss\":1}\n");
    ck_assert(duo_report_finished(&input));
    json_t *data = write_and_read(one_run, 1, NULL, 0);
    const json_t *run = at(get(data, "runs"), 0);
    ck_assert_double_eq(number(at(get(run, "stages"), 1), "steps"), 2);
    ck_assert_double_eq(json_number_value(at(get(at(get(run, "stages"), 1), "target"), DUO_BIG)),
                        0.5);
    ck_assert_double_eq(number(get(run, "model"), "d_small"), 8);
    ck_assert_double_eq(number(get(run, "parameters"), "embedding"), 99 * 32);
    json_decref(data);
}
END_TEST

/* ---------------------------------------------------------------- results */

static int32_t tokens[R * (T + 1)] = {1, 2, 3, 4, 5, 6, 7, 8};
static const duo_sequences sequences = {.R = R, .T = T, .tokens = tokens};

/* Policy `p`: losses p + 1 at row 0 and p + 2 at row 1; big in layer 0 at position 0 alone, and
 * skipped in the last layer of row 1. */
static void fill(duo_results *results)
{
    static const char *const names[] = {"oracle", "small"};
    for (size_t p = 0; p < results->n; p++) {
        duo_trace *trace = &results->policies[p].trace;
        snprintf(results->policies[p].name, sizeof results->policies[p].name, "%s", names[p]);
        for (size_t n = 0; n < R * T; n++) {
            trace->loss[n] = (float)(p + 1 + n / T);
            trace->routes[n * L] = n % T == 0 ? DUO_BIG : DUO_SMALL;
            trace->routes[n * L + 1] = n < T ? DUO_SMALL : DUO_SKIP;
        }
    }
    results->done = R;
}

/* language: of a model with routers, 0: it has none. */
static void write_routed(const char *path, uint64_t model, uint64_t language, size_t n)
{
    duo_results results;
    const duo_routes_origin origin = {.policy = "oracle",
                                      .budget = "none",
                                      .context = "committed",
                                      .modules = 7,
                                      .model = {model, model},
                                      .language = {language, language}};
    ok(duo_results_create(&results, &sequences, L, n, 0));
    fill(&results);
    ok(duo_results_write(path, &results, &origin));
    duo_results_free(&results);
}

static void write_results(const char *path, uint64_t model, size_t n)
{
    write_routed(path, model, 0, n);
}

START_TEST(a_study_holds_what_was_measured)
{
    const char *const files[] = {"a.h5"};
    write_results("a.h5", 1, 2);
    json_t *data = write_and_read(NULL, 0, files, 1);
    ck_assert_uint_eq(json_array_size(get(data, "studies")), 1);
    const json_t *study = at(get(data, "studies"), 0), *policies = get(study, "policies");
    ck_assert_uint_eq(json_array_size(policies), 2);
    ck_assert_str_eq(json_string_value(get(at(policies, 1), "name")), "small");
    ck_assert_double_eq(number(at(policies, 0), "loss"), 1.5);
    ck_assert_double_eq(number(at(policies, 0), "loss_error"), 0.5);
    ck_assert_double_eq_tol(number(at(policies, 1), "perplexity"), exp(2.5), 1e-6);
    ck_assert_double_eq_tol(number(get(at(policies, 0), "share"), "big"), 2.0 / 12, 1e-8);
    ck_assert(json_is_null(get(at(policies, 0), "flops_per_token"))); /* of an unknown model */

    const json_t *map = get(at(policies, 0), "map");
    ck_assert_double_eq(json_number_value(at(at(get(map, "big"), 0), 0)), 1);
    ck_assert_double_eq(json_number_value(at(at(get(map, "big"), 0), 1)), 0);
    ck_assert_double_eq(json_number_value(at(at(get(map, "skip"), 1), 2)), 0.5);

    const json_t *row = at(get(study, "sequences"), 1);
    ck_assert_str_eq(json_string_value(at(get(row, "routes"), 0)), "B-S-S-");
    ck_assert_double_eq(json_number_value(at(at(get(row, "loss"), 1), 2)), 3);
    ck_assert_str_eq(json_string_value(at(get(row, "tokens"), 3)), "8 "); /* no vocabulary: ids */
    json_decref(data);
}
END_TEST

START_TEST(files_on_the_same_tokens_of_one_model_are_one_study)
{
    const char *const files[] = {"a.h5", "b.h5", "c.h5", "a.h5"};
    write_results("a.h5", 1, 1);
    write_results("b.h5", 1, 2);
    write_results("c.h5", 2, 1);
    json_t *data = write_and_read(NULL, 0, files, 4);
    const json_t *studies = get(data, "studies");
    ck_assert_uint_eq(json_array_size(studies), 2);
    ck_assert_uint_eq(json_array_size(get(at(studies, 0), "files")), 2);
    ck_assert_uint_eq(json_array_size(get(at(studies, 0), "policies")), 3);
    ck_assert_double_eq(number(at(get(at(studies, 0), "policies"), 2), "file"), 1);
    ck_assert_uint_eq(json_array_size(get(at(studies, 1), "policies")), 1);
    json_decref(data);
}
END_TEST

START_TEST(routers_belong_to_the_study_of_their_language_model)
{
    const char *const files[] = {"oracle.h5", "router.h5", "stranger.h5"};
    write_results("oracle.h5", 1, 2);
    write_routed("router.h5", 5, 1, 1);
    write_routed("stranger.h5", 6, 2, 1);
    json_t *data = write_and_read(NULL, 0, files, 3);
    const json_t *studies = get(data, "studies");
    ck_assert_uint_eq(json_array_size(studies), 2);
    ck_assert_uint_eq(json_array_size(get(at(studies, 0), "files")), 2);
    ck_assert_str_eq(json_string_value(get(at(studies, 0), "language_hash")),
                     json_string_value(get(at(studies, 0), "model_hash")));
    ck_assert_str_ne(json_string_value(get(at(studies, 1), "language_hash")),
                     json_string_value(get(at(studies, 1), "model_hash")));
    json_decref(data);
}
END_TEST

START_TEST(a_study_of_many_policies_stays_small)
{
    enum { MANY = 80, LONG = 512, DEEP = 8 };
    static int32_t ids[R * (LONG + 1)];
    const char *const files[] = {"many.h5"};
    const duo_sequences text = {.R = R, .T = LONG, .tokens = ids};
    const duo_routes_origin origin = {
        .policy = "random", .budget = "none", .context = "committed", .modules = 7};
    duo_results results;
    ok(duo_results_create(&results, &text, DEEP, MANY, 0));
    for (size_t p = 0; p < MANY; p++) {
        duo_trace *trace = &results.policies[p].trace;
        snprintf(results.policies[p].name, sizeof results.policies[p].name, "random-%zu", p);
        for (size_t n = 0; n < R * LONG; n++) trace->loss[n] = 1.2345f + (float)(n % 7);
        for (size_t n = 0; n < R * LONG * DEEP; n++)
            trace->routes[n] = (uint8_t)((n * 2654435761u >> 7) % DUO_MODULES);
    }
    results.done = R;
    ok(duo_results_write("many.h5", &results, &origin));
    duo_results_free(&results);

    json_t *data = write_and_read(NULL, 0, files, 1);
    const json_t *study = at(get(data, "studies"), 0),
                 *map = get(at(get(study, "policies"), 0), "map");
    const double per = number(map, "per"),
                 columns = (double)json_array_size(at(get(map, "big"), 0));
    ck_assert_double_gt(per, 1);
    ck_assert(per * columns >= LONG && per * (columns - 1) < LONG);
    ck_assert_uint_lt(page_bytes(), 4500000);
    json_decref(data);
}
END_TEST

/* b big come first; a budget of 1 has no route. Gains are 3 (2, 4) at budget 0 and its control is
 * 1: the corrected gain is 2. */
static void fill_reference(duo_reference *reference)
{
    duo_route_curve *const curves[] = {&reference->oracle, &reference->control,
                                       &reference->label_free};
    for (size_t i = 0; i < 3; i++)
        for (size_t n = 0; n < R * T; n++)
            for (size_t b = 0; b < BUDGETS; b++) {
                const size_t k = n * BUDGETS + b;
                const float at_0[] = {n < T ? 8.0f : 6.0f, 9.0f, 9.5f};
                curves[i]->loss[k] = b == 1 ? INFINITY : b == 0 ? at_0[i] : 10.0f;
                for (size_t l = 0; l < L; l++)
                    curves[i]->routes[k * L + l] = l < b ? DUO_BIG : DUO_SMALL;
            }
}

START_TEST(hindsight_of_a_reference_search)
{
    const char *const files[] = {"reference.h5"};
    const duo_routes_origin origin = {
        .policy = "oracle", .budget = "none", .context = "reference", .modules = 6};
    duo_results results;
    ok(duo_results_create(&results, &sequences, L, 1, DUO_RESULTS_REFERENCE));
    fill(&results);
    fill_reference(results.reference);
    ok(duo_results_write("reference.h5", &results, &origin));
    duo_results_free(&results);

    json_t *data = write_and_read(NULL, 0, files, 1);
    const json_t *file = at(get(at(get(data, "studies"), 0), "files"), 0);
    const json_t *curves = get(file, "curves");
    ck_assert_double_eq(json_number_value(at(at(get(curves, "oracle"), 0), 0)), 7);
    ck_assert(json_is_null(at(at(get(curves, "oracle"), 1), 0)));
    ck_assert_double_eq(json_number_value(at(at(get(curves, "gain"), 0), 0)), 3);
    ck_assert_double_eq(json_number_value(at(at(get(curves, "gain"), 0), 1)), 1);
    ck_assert_double_eq(json_number_value(at(at(get(curves, "control"), 0), 0)), 1);
    ck_assert_double_eq(json_number_value(at(at(get(curves, "corrected"), 0), 0)), 2);
    ck_assert_double_eq(json_number_value(at(at(get(curves, "label_free_gain"), 0), 0)), 0.5);
    ck_assert_uint_eq(json_array_size(get(curves, "maps")), BUDGETS);
    ck_assert_uint_eq(json_object_size(at(get(curves, "maps"), 1)), 0);
    json_decref(data);
}
END_TEST

START_TEST(json_of_other_commands_is_taken_over)
{
    const char *const files[] = {"eval.json", "oracle.json"};
    write_text("eval.json",
               "{\"policy\":\"small\",\"loss\":2.5}\n{\"policy\":\"big\",\"loss\":2}\n");
    write_text("oracle.json",
               "{\"layers\":2,\n\"policies\":[\n{\"policy\":\"oracle\",\"big\":1}]}\n");
    json_t *data = write_and_read(NULL, 0, files, 2);
    const json_t *measured = get(data, "measured");
    ck_assert_uint_eq(json_array_size(measured), 3);
    ck_assert_double_eq(number(at(measured, 1), "loss"), 2);
    ck_assert_str_eq(json_string_value(get(at(measured, 2), "file")), "oracle.json");
    json_decref(data);
}
END_TEST

START_TEST(results_in_a_run_folder_are_found_and_damage_there_is_told)
{
    write_text("run/metrics.jsonl", "{\"step\":1}\n");
    write_results("run/oracle-1.h5", 1, 1);
    write_text("run/eval.json", "{\"policy\":\"small\"}\n");
    write_text("run/broken.h5", "not ours");
    write_text("run/broken.json", "{\"policy\":");
    write_text("run/caf\xE9.json", "{\"policy\":");
    write_text("run/step-00000001.h5", "a checkpoint is not opened by its content");
    json_t *data = write_and_read(one_run, 1, NULL, 0);
    ck_assert_uint_eq(json_array_size(get(data, "studies")), 1);
    ck_assert_uint_eq(json_array_size(get(data, "measured")), 1);
    const json_t *notes = get(data, "notes");
    ck_assert_uint_eq(json_array_size(notes), 3);
    ck_assert_ptr_nonnull(strstr(json_string_value(at(notes, 0)), "run/broken.h5"));
    ck_assert_ptr_nonnull(strstr(json_string_value(at(notes, 1)), "run/broken.json"));
    ck_assert_ptr_nonnull(strstr(json_string_value(at(notes, 2)), "run/caf\uFFFD.json"));
    json_decref(data);
}
END_TEST

/* ---------------------------------------------------------------- refusals */

START_TEST(what_cannot_be_shown_is_named)
{
    const char *const missing[] = {"gone"}, *const broken[] = {"broken.h5"};
    duo_report_input input = {.runs = missing, .n_runs = 1, .chart_js = "chart.js"};
    write_text("chart.js", "/* lines */");
    write_text("broken.h5", "not ours");
    refused(duo_report_write("report.html", &input), DUO_EIO, "gone: No such file");
    input.runs = one_run;
    refused(duo_report_write("report.html", &input), DUO_EINVAL, "run: no run folder");
    write_text("run/metrics.jsonl", "");
    input.results = broken;
    input.n_results = 1;
    refused(duo_report_write("report.html", &input), DUO_EDATA, "broken.h5");
    input.n_results = 0;
    refused(duo_report_write("nowhere/report.html", &input), DUO_EIO, "nowhere/report.html: ");
    input.chart_js = "gone.js";
    refused(duo_report_write("report.html", &input), DUO_EIO, "apt-get install libjs-chart.js");
    write_text("chart.js", "'</script>'");
    input.chart_js = "chart.js";
    refused(duo_report_write("report.html", &input), DUO_EDATA, "chart.js: would end");
    ck_assert_int_ne(access("report.html", F_OK), 0);
    ck_assert_int_ne(system("ls | grep -q tmp"), 0);
}
END_TEST

START_TEST(the_old_page_stays_when_the_new_one_fails)
{
    duo_report_input input = {.runs = one_run, .n_runs = 1, .chart_js = "gone.js"};
    write_text("run/metrics.jsonl", "");
    write_text("report.html", "old");
    ck_assert_int_ne(duo_report_write("report.html", &input), DUO_OK);
    file_says("report.html", "old");
}
END_TEST

START_TEST(figures_need_a_browser_and_a_page)
{
    size_t n = 0;
    write_text("report.html", "<p>no figures</p>");
    refused(duo_report_figures("report.html", "png", "./no-such-browser", NULL, &n), DUO_EIO,
            "./no-such-browser: ");
    refused(duo_report_figures("report.html", "png", "true", NULL, &n), DUO_EDATA,
            "lists no figures");
    refused(duo_report_figures("report.html", "png", "false", NULL, &n), DUO_EIO,
            "failed on the page");
    refused(duo_report_figures("gone.html", "png", "true", NULL, &n), DUO_EIO,
            "gone.html: No such file");
    ck_assert_uint_eq(n, 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        metrics_of_a_run_that_is_being_written,
        a_long_log_is_thinned_and_keeps_held_out_losses,
        nothing_in_a_text_ends_the_data,
        no_checkpoint_is_read_to_see_whether_its_run_is_finished,
        a_run_is_finished_at_the_last_step_of_its_recipe,
        a_study_holds_what_was_measured,
        files_on_the_same_tokens_of_one_model_are_one_study,
        routers_belong_to_the_study_of_their_language_model,
        a_study_of_many_policies_stays_small,
        hindsight_of_a_reference_search,
        json_of_other_commands_is_taken_over,
        results_in_a_run_folder_are_found_and_damage_there_is_told,
        what_cannot_be_shown_is_named,
        the_old_page_stays_when_the_new_one_fails,
        figures_need_a_browser_and_a_page,
    };
    Suite *suite = suite_create("report");
    TCase *all = add_case(suite, 4, tests, sizeof tests / sizeof *tests, 1);
    tcase_add_checked_fixture(all, make_run, NULL);
    return run_cases(suite);
}
