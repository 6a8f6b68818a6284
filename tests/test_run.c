#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "checkpoint_fixture.h"

enum { KEEP = 2 };

static void save(duo_run *run, sample *s, uint64_t step, bool best, bool milestone)
{
    s->progress.step = step;
    s->progress.stage_step = step;
    ok(duo_run_save(run, &s->state, best, milestone));
}

static uint64_t step_of(const char *path)
{
    duo_checkpoint *c;
    ok(duo_checkpoint_open(&c, path));
    const uint64_t step = duo_checkpoint_progress(c)->step;
    duo_checkpoint_close(c);
    return step;
}

static bool exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

static void assert_latest(const char *target)
{
    char text[64] = "";
    ck_assert_int_gt(readlink("r/latest", text, sizeof text - 1), 0);
    ck_assert_str_eq(text, target);
}

static void damage(const char *path)
{
    blob file = slurp(path);
    file.data[file.size / 2] ^= 1;
    spill(path, file.data, file.size);
    free(file.data);
}

/* The newest of the run r in a process that comes later; its path, and where it stands. */
static uint64_t resumed_step(const char *expected_path)
{
    duo_run *run;
    duo_checkpoint *c;
    ok(duo_run_open(&run, "r", KEEP, DUO_RUN_RESUME));
    ok(duo_run_newest(run, &c));
    const uint64_t step = duo_checkpoint_progress(c)->step;
    if (expected_path) ck_assert_str_eq(duo_checkpoint_path(c), expected_path);
    duo_checkpoint_close(c);
    duo_run_close(run);
    return step;
}

/* A closed run r with steps 1..3 in it, of which 1 ended a stage. */
static void write_run(void)
{
    sample s;
    duo_run *run;
    make_sample(&s);
    ok(duo_run_open(&run, "r", KEEP, DUO_RUN_BEGIN));
    save(run, &s, 1, false, true);
    save(run, &s, 2, false, false);
    save(run, &s, 3, false, false);
    duo_run_close(run);
    free_sample(&s);
}

/* ---------------------------------------------------------------- opening */

START_TEST(folders_are_made)
{
    duo_run *run;
    ok(duo_run_open(&run, "a//b/c", KEEP, DUO_RUN_BEGIN));
    ck_assert_str_eq(duo_run_path(run, "x"), "a//b/c/x");
    ck_assert(exists("a/b/c/lock"));
    duo_run_close(run);
    spill("file", "", 0);
    refused(duo_run_open(&run, "file", KEEP, DUO_RUN_BEGIN), DUO_EIO,
            "file: cannot open the folder");
    refused(duo_run_open(&run, "file/x", KEEP, DUO_RUN_BEGIN), DUO_EIO, "file/x: cannot");
    ck_assert_ptr_null(run);
}
END_TEST

START_TEST(one_writer)
{
    duo_run *run, *second;
    ok(duo_run_open(&run, "r", KEEP, DUO_RUN_BEGIN));
    refused(duo_run_open(&second, "r", KEEP, DUO_RUN_BEGIN), DUO_EINVAL,
            "r: another duo train, process ");
    char own[40];
    snprintf(own, sizeof own, " %ld, is writing", (long)getpid());
    ck_assert_ptr_nonnull(strstr(duo_message(), own));
    const pid_t child = fork();
    if (child == 0) {
        const duo_status status = duo_run_open(&second, "r", KEEP, DUO_RUN_BEGIN);
        _exit(status == DUO_EINVAL && strstr(duo_message(), "another duo train") ? 0 : 1);
    }
    int result = -1;
    ck_assert_int_eq(waitpid(child, &result, 0), child);
    ck_assert_int_eq(result, 0);
    duo_run_close(run);
    ok(duo_run_open(&second, "r", KEEP, DUO_RUN_BEGIN));
    duo_run_close(second);
}
END_TEST

START_TEST(beginning_and_resuming_are_told_apart)
{
    duo_run *run;
    refused(duo_run_open(&run, "r", KEEP, DUO_RUN_RESUME), DUO_EINVAL,
            "r: there is no run to resume");
    ck_assert(!exists("r"));
    ok(duo_run_open(&run, "r", KEEP, DUO_RUN_BEGIN));
    ok(duo_run_log(run, "{\"step\":1,\"loss\":5}\n"));
    duo_run_close(run);
    refused(duo_run_open(&run, "r", KEEP, DUO_RUN_RESUME), DUO_EINVAL, "r: holds no checkpoint");
    ok(duo_run_open(&run, "r", KEEP, DUO_RUN_BEGIN));
    blob log = slurp("r/metrics.jsonl");
    ck_assert_uint_eq(log.size, 0); /* of a run that saved nothing */
    free(log.data);
    duo_run_close(run);

    ok(duo_run_open(&run, "either", KEEP, DUO_RUN_EITHER));
    ck_assert(!duo_run_resumes(run));
    duo_run_close(run);

    write_run();
    refused(duo_run_open(&run, "r", KEEP, DUO_RUN_BEGIN), DUO_EINVAL,
            "r: holds checkpoints; go on with");
    ok(duo_run_open(&run, "r", KEEP, DUO_RUN_RESUME));
    duo_run_close(run);
    ok(duo_run_open(&run, "r", KEEP, DUO_RUN_EITHER));
    ck_assert(duo_run_resumes(run));
    duo_run_close(run);
    ck_assert_int_eq(system("rm r/step-*"), 0);
    refused(duo_run_open(&run, "r", KEEP, DUO_RUN_BEGIN), DUO_EINVAL,
            "r: holds checkpoints; go on with");
}
END_TEST

START_TEST(stale_files_are_removed_under_the_lock)
{
    duo_run *run, *second;
    write_run();
    ok(duo_run_open(&run, "r", KEEP, DUO_RUN_RESUME));
    const pid_t child = fork();
    if (child == 0) _exit(0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    char of_dead[40], of_living[40], own[40];
    snprintf(of_dead, sizeof of_dead, "r/step-00000004.h5.tmp-%ld", (long)child);
    snprintf(of_living, sizeof of_living, "r/oracle.h5.tmp-%ld", (long)getppid());
    snprintf(own, sizeof own, "r/metrics.jsonl.tmp-%ld", (long)getpid());
    spill(of_dead, "x", 1);
    spill(of_living, "x", 1);
    spill(own, "x", 1);
    spill("r/next.h5", "x", 1);
    spill("r/notes.txt", "x", 1);
    refused(duo_run_open(&second, "r", KEEP, DUO_RUN_RESUME), DUO_EINVAL, "another duo train");
    ck_assert(exists("r/next.h5"));
    duo_run_close(run);
    ok(duo_run_open(&run, "r", KEEP, DUO_RUN_RESUME));
    ck_assert(!exists(of_dead));
    ck_assert(!exists(own));
    ck_assert(!exists("r/next.h5"));
    ck_assert(exists(of_living));
    ck_assert(exists("r/notes.txt"));
    duo_run_close(run);
}
END_TEST

/* ---------------------------------------------------------------- saving */

START_TEST(retention)
{
    sample s;
    duo_run *run;
    make_sample(&s);
    s.state.stage = "dense";
    ok(duo_run_open(&run, "r", KEEP, DUO_RUN_BEGIN));
    save(run, &s, 10, true, false);
    ck_assert_uint_eq(step_of("r/best.h5"), 10);
    save(run, &s, 20, false, true);
    save(run, &s, 30, true, false);
    assert_latest("step-00000030.h5");
    ck_assert(!exists("r/step-00000010.h5"));
    ck_assert(exists("r/step-00000020.h5"));
    s.state.stage = "duo";
    save(run, &s, 123456789, false, true);
    duo_run_close(run);

    ok(duo_run_open(&run, "r", KEEP, DUO_RUN_RESUME));
    save(run, &s, 123456790, false, false);
    save(run, &s, 123456791, false, false);
    ck_assert_uint_eq(step_of("r/stage-dense.h5"), 20);
    ck_assert_uint_eq(step_of("r/stage-duo.h5"), 123456789);
    ck_assert_uint_eq(step_of("r/best.h5"), 30);
    ck_assert_uint_eq(step_of("r/latest"), 123456791);
    ck_assert_uint_eq(step_of("r/step-123456790.h5"), 123456790);
    ck_assert_int_eq(chdir("r"), 0);
    ck_assert_uint_eq(files_here(), 7); /* two steps, two stages, best, latest, lock */
    ck_assert_int_eq(chdir(".."), 0);
    duo_run_close(run);
    free_sample(&s);
}
END_TEST

START_TEST(a_bad_state_changes_nothing)
{
    sample s;
    duo_run *run;
    write_run();
    make_sample(&s);
    ok(duo_run_open(&run, "r", KEEP, DUO_RUN_RESUME));
    s.progress.step = 4;
    s.model->weights.tensors[0][0] = NAN;
    refused(duo_run_save(run, &s.state, true, true), DUO_ENUMBER, "/model/tok_emb is not finite");
    assert_latest("step-00000003.h5");
    ck_assert(exists("r/step-00000002.h5"));
    ck_assert(!exists("r/best.h5"));
    ck_assert_uint_eq(step_of("r/stage-duo.h5"), 1);
    ck_assert(!exists("r/next.h5"));
    duo_run_close(run);
    free_sample(&s);
}
END_TEST

/* A name that cannot be given: the save fails as a whole and leaves no half behind. */
START_TEST(a_name_that_is_taken)
{
    sample s;
    duo_run *run;
    write_run();
    make_sample(&s);
    ok(duo_run_open(&run, "r", KEEP, DUO_RUN_RESUME));
    ck_assert_int_eq(mkdir("r/best.h5", 0700), 0);
    s.progress.step = 4;
    refused(duo_run_save(run, &s.state, true, false), DUO_EIO, "r/best.h5: cannot replace");
    ck_assert_int_eq(rmdir("r/best.h5"), 0);
    ck_assert_int_eq(chdir("r"), 0);
    ck_assert_uint_eq(files_here(), 5); /* steps 2 and 3, the stage, latest, lock */
    ck_assert_int_eq(chdir(".."), 0);
    duo_run_close(run);
    free_sample(&s);
}
END_TEST

/* ---------------------------------------------------------------- resuming */

START_TEST(damaged_files_are_set_aside)
{
    write_run();
    ck_assert_uint_eq(resumed_step("r/step-00000003.h5"), 3);
    damage("r/step-00000003.h5");
    ck_assert_uint_eq(resumed_step("r/step-00000002.h5"), 2);
    ck_assert(exists("r/step-00000003.h5.damaged"));
    ck_assert(!exists("r/step-00000003.h5"));
    assert_latest("step-00000002.h5");
    spill("r/step-00000002.h5", "", 0);
    ck_assert_uint_eq(resumed_step("r/stage-duo.h5"), 1);
    assert_latest("stage-duo.h5");

    duo_run *run;
    duo_checkpoint *c;
    damage("r/stage-duo.h5");
    ok(duo_run_open(&run, "r", KEEP, DUO_RUN_RESUME));
    refused(duo_run_newest(run, &c), DUO_EDATA, "r: no checkpoint is left that verifies");
    ck_assert_ptr_null(c);
    duo_run_close(run);
}
END_TEST

START_TEST(the_furthest_link_when_no_step_is_left)
{
    sample s;
    duo_run *run;
    make_sample(&s);
    ok(duo_run_open(&run, "r", KEEP, DUO_RUN_BEGIN));
    s.state.stage = "b";
    save(run, &s, 7, false, true);
    s.state.stage = "a";
    save(run, &s, 9, false, true);
    s.state.stage = "c";
    save(run, &s, 8, true, true);
    duo_run_close(run);
    ck_assert_int_eq(system("rm r/step-*"), 0);
    ck_assert_uint_eq(resumed_step("r/stage-a.h5"), 9);
    free_sample(&s);
}
END_TEST

/* What is not damaged stays where it is, even when it cannot be used. */
START_TEST(an_unreadable_file_is_no_damaged_file)
{
    duo_run *run;
    duo_checkpoint *c;
    write_run();
    ck_assert_int_eq(mkdir("r/step-00000009.h5", 0700), 0);
    ok(duo_run_open(&run, "r", KEEP, DUO_RUN_RESUME));
    refused(duo_run_newest(run, &c), DUO_EIO, "r/step-00000009.h5: is a directory");
    ck_assert_ptr_null(c);
    duo_run_close(run);
    ck_assert(exists("r/step-00000009.h5"));
}
END_TEST

/* Between the names: best.h5 is there, the step is not yet. */
START_TEST(killed_between_two_names)
{
    write_run();
    ck_assert_int_eq(rename("r/step-00000003.h5", "r/next.h5"), 0);
    ck_assert_int_eq(link("r/next.h5", "r/best.h5"), 0);
    ck_assert_uint_eq(resumed_step("r/step-00000002.h5"), 2);
    assert_latest("step-00000002.h5");
    ck_assert(!exists("r/next.h5"));
    ck_assert_uint_eq(step_of("r/best.h5"), 3);
}
END_TEST

static void save_until_killed(int acknowledge)
{
    sample s;
    duo_run *run;
    make_sample(&s);
    const bool resume = exists("r/stage-duo.h5");
    uint64_t step = resume ? resumed_step(NULL) : 0;
    ok(duo_run_open(&run, "r", KEEP, resume ? DUO_RUN_RESUME : DUO_RUN_BEGIN));
    for (;;) {
        step++;
        save(run, &s, step, step % 2 == 0, true);
        if (write(acknowledge, &step, sizeof step) != sizeof step) _exit(1);
    }
}

START_TEST(what_was_acknowledged_survives_a_kill)
{
    uint64_t last = 0;
    for (long i = 0; i < 12; i++) {
        int pipes[2];
        ck_assert_int_eq(pipe(pipes), 0);
        const pid_t child = fork();
        if (child == 0) save_until_killed(pipes[1]);
        close(pipes[1]);
        uint64_t step = 0;
        ck_assert_int_eq(read(pipes[0], &step, sizeof step), sizeof step);
        nanosleep(&(struct timespec){.tv_nsec = 1700000 * i}, NULL);
        ck_assert_int_eq(kill(child, SIGKILL), 0);
        ck_assert_int_eq(waitpid(child, NULL, 0), child);
        do last = step;
        while (read(pipes[0], &step, sizeof step) == sizeof step);
        close(pipes[0]);
        const uint64_t now = resumed_step(NULL);
        ck_assert_uint_ge(now, last);
        ck_assert_uint_le(now, last + 1);
        ck_assert_uint_eq(step_of("r/latest"), now);
        ck_assert_uint_ge(step_of("r/stage-duo.h5"), now);
    }
}
END_TEST

/* ---------------------------------------------------------------- metrics */

START_TEST(lines_are_rewound)
{
    static const char lines[] = "{\"step\":9,\"x\":{\"step\":99}}\n"
                                "{\"step\":10}\n"
                                "{\"step\":11,\"x\":1}\n"
                                "{\"step\":100,\"x\":1}\n";
    static const char torn[] = "{\"step\":10,\"x\":1}\n"
                               "\0\0\0\0\n"
                               "{\"step\":10,\"x\n"
                               "{\"step\":,\"x\":1}\n"
                               "{\"step\":99999999999999999999,\"x\":1}\n"
                               "\n"
                               "{\"step\":10,\"x\":2";
    duo_run *run;
    ok(duo_run_open(&run, "r", KEEP, DUO_RUN_BEGIN));
    ok(duo_run_rewind_log(run, 10)); /* no log yet */
    ck_assert(!exists("r/metrics.jsonl"));
    ok(duo_run_log(run, lines));
    ok(duo_run_rewind_log(run, 100));
    file_says("r/metrics.jsonl", lines);
    ok(duo_run_rewind_log(run, 10));
    file_says("r/metrics.jsonl", "{\"step\":9,\"x\":{\"step\":99}}\n{\"step\":10}\n");
    ok(duo_run_log(run, "{\"step\":11,\"x\":2}\n"));
    file_says("r/metrics.jsonl",
              "{\"step\":9,\"x\":{\"step\":99}}\n{\"step\":10}\n{\"step\":11,\"x\":2}\n");
    spill("r/metrics.jsonl", torn, sizeof torn - 1);
    ok(duo_run_rewind_log(run, 10));
    file_says("r/metrics.jsonl", "{\"step\":10,\"x\":1}\n");
    ck_assert_int_eq(chdir("r"), 0);
    ck_assert_uint_eq(files_here(), 2); /* metrics, lock */
    ck_assert_int_eq(chdir(".."), 0);
    duo_run_close(run);
}
END_TEST

/* A text that cannot be written whole must not cost the one that is there. */
START_TEST(texts_are_replaced_whole)
{
    duo_run *run;
    const struct rlimit small = {.rlim_cur = 8, .rlim_max = RLIM_INFINITY};
    const struct rlimit none = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    ok(duo_run_open(&run, "r", KEEP, DUO_RUN_BEGIN));
    ok(duo_run_write(run, "recipe.conf", "old\n"));
    ok(duo_run_write(run, "recipe.conf", "new\n"));
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    const duo_status status = duo_run_write(run, "recipe.conf", "too long for the disk\n");
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &none), 0);
    refused(status, DUO_EIO, "r/recipe.conf: cannot write");
    file_says("r/recipe.conf", "new\n");
    ck_assert_int_eq(chdir("r"), 0);
    ck_assert_uint_eq(files_here(), 2); /* recipe, lock */
    ck_assert_int_eq(chdir(".."), 0);
    duo_run_close(run);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {folders_are_made,
                                  one_writer,
                                  beginning_and_resuming_are_told_apart,
                                  stale_files_are_removed_under_the_lock,
                                  retention,
                                  a_bad_state_changes_nothing,
                                  a_name_that_is_taken,
                                  damaged_files_are_set_aside,
                                  the_furthest_link_when_no_step_is_left,
                                  an_unreadable_file_is_no_damaged_file,
                                  killed_between_two_names,
                                  what_was_acknowledged_survives_a_kill,
                                  lines_are_rewound,
                                  texts_are_replaced_whole};
    return run_suite("run", tests, sizeof tests / sizeof tests[0]);
}
