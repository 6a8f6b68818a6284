#include <math.h>

#include "duo/choice.h"
#include "study_fixture.h"

/* A text, its tokens, and a random model of their vocabulary. */
typedef struct setting {
    duo_tokens *tokens;
    duo_tokenizer *tokenizer;
    duo_model *model;
    duo_policy big;
} setting;

static setting make_setting(void)
{
    setting s = {0};
    duo_config config = study_config();
    ok(duo_kernels_start(1));
    prepare_tokens(6000);
    ok(duo_tokens_open(&s.tokens, "tokens.h5"));
    ok(duo_tokenizer_open(&s.tokenizer, "tokens.h5"));
    config.vocab_size = duo_tokenizer_vocab_size(s.tokenizer);
    ok(duo_model_create(&s.model, &config));
    random_model(s.model, 5);
    ok(duo_policy_parse(&s.big, "big", s.model));
    return s;
}

static void free_setting(setting *s)
{
    duo_model_free(s->model);
    duo_tokenizer_free(s->tokenizer);
    duo_tokens_close(s->tokens);
    duo_kernels_stop();
}

/* Summed log-likelihood of what stands behind the context in a text, by one
 * pass of its own. */
static double by_hand(const setting *s, const char *context, const char *whole, size_t *scored)
{
    int32_t *before = NULL, *ids = NULL;
    size_t n_context = 0, n = 0;
    duo_trace trace;
    double sum = 0;
    ok(duo_tokenizer_encode(s->tokenizer, context, strlen(context), &before, &n_context));
    ok(duo_tokenizer_encode(s->tokenizer, whole, strlen(whole), &ids, &n));
    duo_sequences one = {.R = 1, .T = n, .tokens = malloc((n + 1) * sizeof(int32_t))};
    ck_assert_ptr_nonnull(one.tokens);
    one.tokens[0] = duo_tokenizer_bos(s->tokenizer);
    memcpy(one.tokens + 1, ids, n * sizeof *ids);
    ok(duo_trace_create(&trace, &one, L));
    ok(duo_evaluate(s->model, &one, &s->big, 0, 1, &trace, NULL, NULL));
    for (size_t t = n_context; t < n; t++) sum -= (double)trace.loss[t];
    *scored = n - n_context;
    duo_trace_free(&trace);
    duo_sequences_free(&one);
    free(before);
    free(ids);
    return sum;
}

START_TEST(scores_are_those_of_whole_texts)
{
    static const char *const choices[] = {" stone", " light under old", " carries the river"};
    setting s = make_setting();
    duo_choice_set set;
    duo_choice_result result, other;
    double scores[3], again[3], expected[3], best[DUO_CHOICE_RULES];
    size_t answer[DUO_CHOICE_RULES] = {0};
    for (int r = 0; r < DUO_CHOICE_RULES; r++) best[r] = -INFINITY;
    for (size_t i = 0; i < 3; i++) {
        char whole[80];
        size_t scored = 0;
        snprintf(whole, sizeof whole, "old river%s", choices[i]);
        expected[i] = by_hand(&s, "old river", whole, &scored);
        const double score[DUO_CHOICE_RULES] = {expected[i],
                                                expected[i] / (double)(strlen(choices[i]) - 1),
                                                expected[i] / (double)scored};
        for (int r = 0; r < DUO_CHOICE_RULES; r++)
            if (score[r] > best[r]) {
                best[r] = score[r];
                answer[r] = i;
            }
    }
    for (size_t told = 0; told < 3; told++) {
        char line[256];
        snprintf(line, sizeof line,
                 "{\"context\": \"old river\", \"choices\": [\"%s\", \"%s\", \"%s\"], "
                 "\"answer\": %zu}\n",
                 choices[0], choices[1], choices[2], told);
        write_text("choices.jsonl", line);
        ok(duo_choices_read(&set, "choices.jsonl"));
        ok(duo_choices_score(&result, scores, &set, s.model, s.tokenizer, &s.big, 1, 2, NULL,
                             NULL));
        ok(duo_choices_score(&other, again, &set, s.model, s.tokenizer, &s.big, 1, 3, NULL, NULL));
        for (size_t i = 0; i < 3; i++) {
            ck_assert_double_eq_tol(scores[i], expected[i], 1e-4);
            ck_assert_double_eq_tol(again[i], expected[i], 1e-4);
        }
        for (int r = 0; r < DUO_CHOICE_RULES; r++)
            ck_assert_double_eq(result.accuracy[r], answer[r] == told ? 1 : 0);
        ck_assert_double_eq_tol(result.chance, 1.0 / 3, 1e-12);
        ck_assert_double_eq(result.share[DUO_BIG], 1);
        ck_assert_uint_eq(result.cut, 0);
        ck_assert(isnan(result.error[0]));
        duo_choices_free(&set);
    }
    free_setting(&s);
}
END_TEST

START_TEST(all_forms_of_a_line_are_read)
{
    duo_choice_set set;
    write_text(
        "forms.jsonl",
        "{\"context\": \"a\", \"choices\": [\"b\", \" c\"], \"answer\": 1}\n\n"
        "{\"ctx\": \"a\", \"endings\": [\"b\", \"c\", \"d\"], \"label\": \"2\", \"ind\": 4}\n"
        "{\"ctx\": \"a\", \"endings\": [\"b\", \"c\"], \"label\": 0}\n"
        "{\"id\": \"x\", \"question\": {\"stem\": \"q?\", \"choices\": [{\"text\": \"b\", "
        "\"label\": \"A\"}, {\"text\": \"c\", \"label\": \"B\"}]}, \"answerKey\": \"B\"}\n"
        "{\"question\": \"q?\", \"choices\": {\"text\": [\"b\", \"c\"], \"label\": [\"1\", "
        "\"2\"]}, \"answerKey\": \"1\"}");
    ok(duo_choices_read(&set, "forms.jsonl"));
    const struct {
        const char *context, *last;
        size_t n, answer, line;
    } expected[] = {
        {"a", " c", 2, 1, 1},
        {"a", " d", 3, 2, 3},
        {"a", " c", 2, 0, 4},
        {"Question: q?\nAnswer:", " c", 2, 1, 5},
        {"Question: q?\nAnswer:", " c", 2, 0, 6},
    };
    ck_assert_uint_eq(set.n, 5);
    for (size_t i = 0; i < set.n; i++) {
        const duo_choice_item *item = &set.items[i];
        ck_assert_str_eq(item->context, expected[i].context);
        ck_assert_uint_eq(item->n, expected[i].n);
        ck_assert_str_eq(item->choices[item->n - 1], expected[i].last);
        ck_assert_uint_eq(item->answer, expected[i].answer);
        ck_assert_uint_eq(item->line, expected[i].line);
    }
    duo_choices_free(&set);
}
END_TEST

START_TEST(lines_of_no_form_are_named)
{
    const struct {
        const char *line, *part;
    } bad[] = {
        {"{\"context\": ", "bad.jsonl:2: not JSON"},
        {"[]", "bad.jsonl:2: has neither"},
        {"{}", "bad.jsonl:2: has neither"},
        {"{\"context\": 4, \"choices\": [\"b\", \"c\"], \"answer\": 0}", "\"context\" is not"},
        {"{\"context\": \"a\", \"choices\": [\"b\"], \"answer\": 0}", "two or more choices"},
        {"{\"context\": \"a\", \"answer\": 0}", "two or more choices"},
        {"{\"context\": \"a\", \"choices\": [\"b\", \"\"], \"answer\": 0}", "not a text, or empty"},
        {"{\"context\": \"a\", \"choices\": [\"b\", 4], \"answer\": 0}", "not a text, or empty"},
        {"{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 2}", "below the 2 choices"},
        {"{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": -1}", "below the 2"},
        {"{\"context\": \"a\", \"choices\": [\"b\", \"c\"]}", "\"answer\" is no number"},
        {"{\"ctx\": \"a\", \"endings\": [\"b\", \"c\"], \"label\": \"\"}",
         "\"label\" is no number"},
        {"{\"endings\": [\"b\", \"c\"], \"label\": 0}", "\"ctx\" is missing"},
        {"{\"question\": {}, \"answerKey\": \"A\"}", "the question's text is missing"},
        {"{\"question\": \"q\", \"choices\": {\"text\": [\"b\", \"c\"], \"label\": [\"A\", "
         "\"B\"]}}",
         "\"answerKey\" is missing"},
        {"{\"question\": \"q\", \"choices\": {\"text\": [\"b\", \"c\"], \"label\": [\"A\", "
         "\"B\"]}, \"answerKey\": \"C\"}",
         "the label of no choice"},
        {"{\"question\": \"q\", \"choices\": {\"text\": [\"b\", \"c\"], \"label\": [\"A\"]}, "
         "\"answerKey\": \"B\"}",
         "a choice has no label"},
    };
    duo_choice_set set;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[512];
        snprintf(text, sizeof text,
                 "{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 0}\n%s\n",
                 bad[i].line);
        write_text("bad.jsonl", text);
        refused(duo_choices_read(&set, "bad.jsonl"), DUO_EINVAL, bad[i].part);
        ck_assert_ptr_nonnull(strstr(duo_message(), "bad.jsonl:2: "));
    }
    write_text("bad.jsonl", "\n");
    refused(duo_choices_read(&set, "bad.jsonl"), DUO_EINVAL, "bad.jsonl: holds no item");
    refused(duo_choices_read(&set, "none.jsonl"), DUO_EIO, "none.jsonl: cannot open");
}
END_TEST

START_TEST(long_contexts_are_cut_and_long_choices_refused)
{
    setting s = make_setting();
    char text[4096] = "{\"context\": \"old", choice[2048] = "";
    duo_choice_set set;
    duo_choice_result result;
    for (int i = 0; i < 200; i++) strcat(text, " river");
    strcat(text, "\", \"choices\": [\" stone\", \" light\"], \"answer\": 0}\n");
    write_text("long.jsonl", text);
    ok(duo_choices_read(&set, "long.jsonl"));
    ok(duo_choices_score(&result, NULL, &set, s.model, s.tokenizer, &s.big, 1, 2, NULL, NULL));
    ck_assert_uint_eq(result.cut, 1);
    duo_choices_free(&set);
    for (int i = 0; i < 200; i++) strcat(choice, " river");
    snprintf(text, sizeof text,
             "{\"context\": \"old\", \"choices\": [\" stone\", \"%s\"], \"answer\": 0}\n", choice);
    write_text("long.jsonl", text);
    ok(duo_choices_read(&set, "long.jsonl"));
    refused(duo_choices_score(&result, NULL, &set, s.model, s.tokenizer, &s.big, 1, 2, NULL, NULL),
            DUO_EINVAL, "tokens, the model sees 64");
    duo_choices_free(&set);
    free_setting(&s);
}
END_TEST

START_TEST(made_choices_stand_in_the_text)
{
    setting s = make_setting();
    const duo_choice_making making = {
        .domain = -1, .items = 30, .choices = 4, .context = 12, .continuation = 5, .seed = 2};
    duo_choice_set set, again;
    ok(duo_choices_make(&set, s.tokens, &making));
    ok(duo_choices_make(&again, s.tokens, &making));
    ck_assert_uint_eq(set.n, 30);
    blob text = slurp("held_out.txt");
    text.data[text.size] = '\0';
    size_t answers[4] = {0};
    for (size_t i = 0; i < set.n; i++) {
        const duo_choice_item *item = &set.items[i];
        char whole[1024];
        ck_assert_str_eq(item->context, again.items[i].context);
        ck_assert_uint_eq(item->n, 4);
        answers[item->answer]++;
        snprintf(whole, sizeof whole, "%s%s", item->context, item->choices[item->answer]);
        ck_assert_ptr_nonnull(strstr((char *)text.data, whole));
        for (size_t j = 0; j < item->n; j++) {
            ck_assert_int_eq(item->choices[j][0], ' ');
            ck_assert_ptr_nonnull(strstr((char *)text.data, item->choices[j]));
        }
    }
    for (size_t j = 0; j < 4; j++) ck_assert_uint_gt(answers[j], 0);
    duo_choice_making too_long = making;
    too_long.context = 100000;
    duo_choices_free(&again);
    refused(duo_choices_make(&again, s.tokens, &too_long), DUO_EINVAL, "no held-out document has");
    free(text.data);
    duo_choices_free(&set);
    free_setting(&s);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        scores_are_those_of_whole_texts, all_forms_of_a_line_are_read,
        lines_of_no_form_are_named,      long_contexts_are_cut_and_long_choices_refused,
        made_choices_stand_in_the_text,
    };
    return run_suite("choice", tests, sizeof tests / sizeof *tests);
}
