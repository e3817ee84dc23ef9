/*
 * If this fails, a process that starts others by vfork or posix_spawn, or a child that goes on to
 * live on its own, is not served: it loses memory, reports its parent's figures as its own, or does
 * not come to its end.
 */
#include "edge.h"

#include <pthread.h>

#include "fork_child.h"

enum { BLOCKS = 2000, BLOCK_BYTES = 10000 };
static char *blocks[BLOCKS];

static void keep_much(void) {
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(BLOCK_BYTES);
        CHECK(blocks[i] != NULL);
        edge_fill(blocks[i], BLOCK_BYTES, i);
    }
}

static void free_much(void) {
    for (size_t i = 0; i < BLOCKS; i++) {
        CHECK(edge_holds(blocks[i], BLOCK_BYTES, i));
        free(blocks[i]);
    }
}

/* ---- other programs ---- */

static volatile bool stop;

static void *work(void *context) {
    for (unsigned i = 0; !stop; i++) {
        fork_child_churn(i);
    }
    return context;
}

static void say_hello(void) {
    fork_child_churn(1);
    CHECK(puts("hello") >= 0);
}

/* The child borrows the parent's memory until it calls exec; other threads go on meanwhile. */
static void start_by_vfork(void) {
    static char *const arguments[] = {(char *)(uintptr_t) "edge", (char *)(uintptr_t) "say_hello",
                                      NULL};
    volatile int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    pid_t child = vfork();
    CHECK(child >= 0);
    if (child == 0) {
        dup2(null, STDOUT_FILENO);
        execv("/proc/self/exe", arguments);
        _exit(EDGE_FAIL);
    }
    close(null);
    CHECK(edge_wait(child) == 0);
}

static void vfork_lends_the_memory_and_gets_it_back(void) {
    pthread_t threads[2];
    keep_much();
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        CHECK(pthread_create(&threads[i], NULL, work, NULL) == 0);
    }
    for (unsigned i = 0; i < edge_times(20, 300); i++) {
        start_by_vfork();
        fork_child_churn(i);
    }
    stop = true;
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    free_much();
}

/* Such a child allocates before exec, which it may not, and many do. */
static void a_child_of_vfork_may_allocate(void) {
    for (unsigned i = 0; i < 200; i++) {
        pid_t child = vfork();
        CHECK(child >= 0);
        if (child == 0) {
            char *text = malloc(i * 50 + 1);
            text[i * 50] = 1;
            free(text);
            free(malloc(100));
            _exit(EDGE_PASS);
        }
        CHECK(edge_wait(child) == 0);
        free(malloc(i * 50 + 1));
    }
}

static void *spawn_some(void *context) {
    for (unsigned i = 0; i < edge_times(10, 100); i++) {
        struct edge_outcome outcome;
        edge_run_self("say_hello", &outcome);
        CHECK(edge_passed(&outcome) && strcmp(outcome.out, "hello\n") == 0);
    }
    return context;
}

static void threads_can_spawn_at_once(void) {
    pthread_t threads[3];
    keep_much();
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        CHECK(pthread_create(&threads[i], NULL, spawn_some, NULL) == 0);
    }
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    free_much();
}

static void popen_and_system_work(void) {
    char text[16] = "";
    keep_much();
    FILE *stream = popen("echo hello", "r");
    CHECK(stream != NULL && fgets(text, sizeof(text), stream) != NULL);
    CHECK(pclose(stream) == 0 && strcmp(text, "hello\n") == 0);
    CHECK(system("exit 3") == 3 << 8);
    free_much();
}

/* ---- children that go on ---- */

/* Comes back from main, with blocks of its own and of its parent. */
static void a_child_may_keep_blocks_and_return(void) {
    keep_much();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child > 0) {
        CHECK(edge_wait(child) == 0);
        free_much();
        return;
    }
    alarm(FORK_CHILD_HANGS_S);
    free_much();
    keep_much();
    fork_child_churn(1);
}

/* A daemon: the parent is gone, the child and its threads stay. */
static void a_daemon_outlives_its_parent(void) {
    int ends[2];
    char answer = 0;
    keep_much();
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(daemon(1, 1) == 0); /* forks again */
        alarm(FORK_CHILD_HANGS_S);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, spawn_some, NULL) == 0);
        free_much();
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(write(ends[1], "y", 1) == 1);
        _exit(EDGE_PASS);
    }
    close(ends[1]);
    CHECK(edge_wait(child) == 0);
    CHECK(read(ends[0], &answer, 1) == 1 && answer == 'y');
    free_much();
}

/* ---- figures ---- */

static size_t used_bytes(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void child_counts_for_itself(void) {
    enum { MORE = 64 << 20 };
    size_t inherited = used_bytes();
    CHECK(inherited >= (size_t)BLOCKS * BLOCK_BYTES);
    void *more = malloc(MORE);
    CHECK(more != NULL);
    CHECK(used_bytes() >= inherited + MORE);
    free(more);
    free_much();
    (void)malloc_trim(0);
    CHECK(used_bytes() < inherited - (size_t)BLOCKS * BLOCK_BYTES / 2);
}

static void a_child_has_figures_of_its_own(void) {
    keep_much();
    size_t before = used_bytes();
    fork_child_run(child_counts_for_itself);
    CHECK_EQUAL(used_bytes(), before);
    free_much();
}

static void fork_and_return(void) {
    keep_much();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child > 0) {
        CHECK(edge_wait(child) == 0);
    }
    char text[32];
    int length = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    CHECK(write(STDOUT_FILENO, text, (size_t)length) == length);
}

/* The metrics that are printed at exit name the process that prints them: first the child's, then
 * the parent's. */
static void both_print_their_metrics_at_exit(void) {
    struct edge_outcome outcome;
    CHECK(setenv("BERTH_CONF", "stats_print:true", 1) == 0);
    edge_run_self("fork_and_return", &outcome);
    CHECK(edge_passed(&outcome));
    char *first = strtok(outcome.out, "\n");
    char *second = strtok(NULL, "\n");
    CHECK(first != NULL && second != NULL && strcmp(first, second) != 0);
    char name[64];
    snprintf(name, sizeof(name), "process %s\n", first);
    char *found = strstr(outcome.text, name);
    if (found == NULL) {
        FAIL("no %s in %s", name, outcome.text);
    }
}

static const struct edge_case cases[] = {
    EDGE_CASE(vfork_lends_the_memory_and_gets_it_back),
    EDGE_CASE(a_child_of_vfork_may_allocate),
    EDGE_CASE(threads_can_spawn_at_once),
    EDGE_CASE(popen_and_system_work),
    EDGE_CASE(a_child_may_keep_blocks_and_return),
    EDGE_CASE(a_daemon_outlives_its_parent),
    EDGE_CASE(a_child_has_figures_of_its_own),
    EDGE_CASE(both_print_their_metrics_at_exit),
};
static const struct edge_case hidden[] = {
    EDGE_CASE(say_hello),
    EDGE_CASE(fork_and_return),
};

int main(int argc, char **argv) {
    return edge_main_hiding(argc, argv, cases, COUNT_OF(cases), hidden, COUNT_OF(hidden));
}
