/*
 * The thread that returns an idle program's memory: that it is there, that it does its work, and
 * that it is in nobody's way. Each test is about a process of its own, because the options are read
 * once; those that take seconds run all at once.
 */
#include "figures.h"

#include "os/fault.h"

#include <errno.h>

enum {
    CENSUS_MS = 4000, /* within this time, the idle thread has looked whether it is the last one */
};

static unsigned thread_count(void) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    unsigned count = 0;
    UNIT_CHECK(file != NULL);
    while (fgets(line, sizeof(line), file) != NULL) {
        (void)sscanf(line, "Threads: %u", &count);
    }
    fclose(file);
    return count;
}

static void be_maintained(void) {
    setenv("BERTH_CONF", "maintenance:true,decay_ms:20", 1);
    UNIT_CHECK(berth_pool_default() != NULL && thread_count() == 1);
}

/* Only the thread returns memory here: nothing else allocates. */
static void expect_memory_to_go_back(berth_pool *pool) {
    void *blocks[40];
    UNIT_CHECK(berth_alloc_batch(pool, 500000, 40, blocks) == 40);
    for (unsigned i = 0; i < 40; i++) {
        memset(blocks[i], 1, 500000);
    }
    berth_free_batch(blocks, 40);
    while (figures_of(pool).run_dirty_bytes + figures().retained_bytes > MiB) {
        sleep_ms(5); /* or the test is stopped */
    }
}

/* ---- processes that take some seconds ---- */

static int ends[2]; /* who is through writes here; the last words of who ends by itself */

static void say(char letter) {
    UNIT_CHECK(write(ends[1], &letter, 1) == 1);
}

static void say_at_exit(void) {
    say('x');
}

static void leave_at_once(void) {
    UNIT_CHECK(berth_pool_create("maintained", NULL) != NULL);
    pthread_exit(NULL);
}

static void *work_later(void *pool) {
    sleep_ms(CENSUS_MS);
    expect_memory_to_go_back(pool);
    say('m');
    return NULL;
}

static void leave_a_thread_behind(void) {
    berth_pool *pool = berth_pool_create("maintained", NULL);
    start_thread(work_later, pool);
    pthread_exit(NULL);
}

static void stay(void) {
    work_later(berth_pool_create("maintained", NULL));
}

static struct process {
    void (*work)(void);
    pid_t pid;
    int words; /* the end of a pipe that says what it said */
} processes[] = {{leave_at_once, 0, 0}, {leave_a_thread_behind, 0, 0}, {stay, 0, 0}};

static int start_processes(void **state) {
    (void)state;
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(processes); i++) {
        UNIT_CHECK(pipe(ends) == 0);
        fflush(NULL);
        processes[i].words = ends[0];
        processes[i].pid = fork();
        UNIT_CHECK(processes[i].pid >= 0);
        if (processes[i].pid == 0) {
            close(ends[0]);
            atexit(say_at_exit);
            be_maintained();
            processes[i].work();
            exit(0);
        }
        close(ends[1]);
    }
    return 0;
}

/* Its words, or "hangs": the thread takes no signals, so that an alarm would not end the process
 * when its other threads are gone. */
static const char *end_of(void (*work)(void)) {
    static char words[16];
    struct process *process = processes;
    while (process->work != work) {
        process++;
    }
    for (unsigned waited_ms = 0;; waited_ms += 10) {
        int status = 0;
        pid_t done = waitpid(process->pid, &status, WNOHANG);
        UNIT_CHECK(done >= 0);
        if (done != 0) {
            UNIT_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            break;
        }
        if (waited_ms > UNIT_HANGS_S * 1000) {
            kill(process->pid, SIGKILL);
            waitpid(process->pid, &status, 0);
            return "hangs";
        }
        sleep_ms(10);
    }
    ssize_t got = read(process->words, words, sizeof(words) - 1);
    words[got < 0 ? 0 : got] = '\0';
    close(process->words);
    return words;
}

static void a_process_ends_with_its_own_last_thread(void **state) {
    /* A program whose main thread leaves by pthread_exit would never end, nor run its handlers. */
    (void)state;
    UNIT_ONLY_IF(!UNIT_SANITIZED); /* threads of their own */
    assert_string_equal(end_of(leave_at_once), "x");
}

static void threads_that_outlive_the_first_are_served(void **state) {
    /* Such a program would keep its memory, or end under the threads that it still has. */
    (void)state;
    UNIT_ONLY_IF(!UNIT_SANITIZED);
    assert_string_equal(end_of(leave_a_thread_behind), "mx");
}

static void a_program_of_one_thread_is_served(void **state) {
    /* It would keep its memory from the first census on. */
    (void)state;
    UNIT_ONLY_IF(!UNIT_SANITIZED);
    assert_string_equal(end_of(stay), "mx");
}

/* ---- others ---- */

static void send_a_signal(void *unused) {
    (void)unused;
    sigset_t usr1;
    sigset_t pending;
    be_maintained();
    UNIT_CHECK(berth_pool_create("maintained", NULL) != NULL && thread_count() == 2);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    UNIT_CHECK(pthread_sigmask(SIG_SETMASK, NULL, &pending) == 0);
    UNIT_CHECK(!sigismember(&pending, SIGUSR1)); /* the thread that made it has its mask again */
    UNIT_CHECK(pthread_sigmask(SIG_BLOCK, &usr1, NULL) == 0);
    UNIT_CHECK(kill(getpid(), SIGUSR1) == 0);
    UNIT_CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1));
}

static void signals_are_for_the_program_s_threads(void **state) {
    /* A handler would run on a small stack that is not the program's, or a signal that the program
     * waits for would end it. */
    (void)state;
    UNIT_ONLY_IF(!UNIT_SANITIZED);
    assert_int_equal(unit_in_child(send_a_signal, NULL), 0);
}

#if BERTH_FAULTS
static void lack_threads_at_first(void *unused) {
    (void)unused;
    be_maintained();
    berth__os_fail_after(BERTH_OS_THREAD, 0, 1);
    berth_pool *pool = berth_pool_create("maintained", NULL);
    UNIT_CHECK(pool != NULL && thread_count() == 1);
    berth_trim(NULL);
    UNIT_CHECK(thread_count() == 2);
    berth_trim(NULL);
    UNIT_CHECK(thread_count() == 2);
    expect_memory_to_go_back(pool);
}
#endif

static void a_thread_that_cannot_be_made_is_made_later(void **state) {
    /* A program that starts when the machine is out of threads would keep its memory for good. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS && !UNIT_SANITIZED);
#if BERTH_FAULTS
    assert_int_equal(unit_in_child(lack_threads_at_first, NULL), 0);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_are_for_the_program_s_threads),
        cmocka_unit_test(a_thread_that_cannot_be_made_is_made_later),
        cmocka_unit_test(a_process_ends_with_its_own_last_thread),
        cmocka_unit_test(threads_that_outlive_the_first_are_served),
        cmocka_unit_test(a_program_of_one_thread_is_served),
    };
    return cmocka_run_group_tests(tests, UNIT_SANITIZED ? NULL : start_processes, NULL) == 0 ? 0
                                                                                             : 1;
}
