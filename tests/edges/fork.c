/*
 * If this fails, a program with threads cannot fork: the child hangs in malloc, loses blocks that
 * its parent had made, or damages the heap.
 */
#include "edge.h"

#include <pthread.h>

#include "fork_child.h"

enum { THREADS = 3, KEPT = 300 };

static char *kept[KEPT];
static _Atomic bool stop;

static size_t kept_size(size_t i) {
    return i * i * 2 + 1; /* up to 180 KB */
}

static void keep_all(void) {
    for (size_t i = 0; i < KEPT; i++) {
        kept[i] = malloc(kept_size(i));
        CHECK(kept[i] != NULL);
        edge_fill(kept[i], kept_size(i), i);
    }
}

static void check_all(void) {
    for (size_t i = 0; i < KEPT; i++) {
        CHECK(edge_holds(kept[i], kept_size(i), i));
    }
}

static void free_all(void) {
    for (size_t i = 0; i < KEPT; i++) {
        free(kept[i]);
    }
}

/* Blocks go to and fro between threads, so that every part of the door is at work. */
static _Atomic(void *) passed[64];

static void *work(void *seed) {
    uint64_t state = (uint64_t)(uintptr_t)seed * 2654435761u + 1;
    while (!stop) {
        void *block = malloc(edge_random_size(&state) / 4 + 1);
        CHECK(block != NULL);
        *(char *)block = 1;
        free(__atomic_exchange_n((void **)&passed[edge_random(&state) % COUNT_OF(passed)], block,
                                 __ATOMIC_ACQ_REL));
    }
    return NULL;
}

static pthread_t threads[THREADS];

static void start_threads(void) {
    stop = false;
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0);
    }
}

static void stop_threads(void) {
    stop = true;
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

/* ---- children ---- */

static void *churn_in_thread(void *context) {
    fork_child_churn(7);
    return context;
}

static void child_frees_what_it_inherited(void) {
    check_all();
    fork_child_churn(1);
    free_all();
    fork_child_churn(2);
    (void)malloc_trim(0);
}

static void child_has_threads(void) {
    pthread_t own[4];
    for (size_t i = 0; i < COUNT_OF(own); i++) {
        CHECK(pthread_create(&own[i], NULL, churn_in_thread, NULL) == 0);
    }
    check_all();
    free_all();
    for (size_t i = 0; i < COUNT_OF(own); i++) {
        CHECK(pthread_join(own[i], NULL) == 0);
    }
}

static void child_has_children(void) {
    check_all();
    fork_child_run(child_frees_what_it_inherited);
    fork_child_churn(3);
    fork_child_run(child_has_threads);
    child_frees_what_it_inherited();
}

/* Leaves by exit, with its handlers, instead of _exit. */
static void child_exits(void) {
    check_all();
    fork_child_churn(4);
    exit(EDGE_PASS);
}

/* The list's lock is free, for all its threads. */
static void *open_and_flush(void *context) {
    FILE *stream = tmpfile();
    CHECK(stream != NULL && fputs("text", stream) >= 0);
    CHECK(fflush(stream) == 0 && fclose(stream) == 0);
    return context;
}

static void child_uses_streams(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, open_and_flush, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    (void)open_and_flush(NULL);
}

/* ---- cases ---- */

static void fork_while_threads_work(unsigned times, void (*in_child)(void)) {
    keep_all();
    start_threads();
    for (unsigned i = 0; i < times; i++) {
        fork_child_run(in_child);
    }
    stop_threads();
    check_all();
    free_all();
}

static void a_child_owns_what_it_inherited(void) {
    fork_while_threads_work(edge_times(20, 300), child_frees_what_it_inherited);
}
static void a_child_can_have_threads(void) {
    fork_while_threads_work(edge_times(12, 150), child_has_threads);
}
static void a_child_can_have_children(void) {
    fork_while_threads_work(edge_times(5, 60), child_has_children);
}
static void a_child_can_exit(void) {
    fork_while_threads_work(edge_times(12, 150), child_exits);
}

static void *fork_in_thread(void *context) {
    for (unsigned i = 0; i < edge_times(5, 60); i++) {
        fork_child_run(child_frees_what_it_inherited);
        fork_child_churn(i);
    }
    return context;
}

static void threads_can_fork_at_once(void) {
    pthread_t forking[3];
    keep_all();
    start_threads();
    for (size_t i = 0; i < COUNT_OF(forking); i++) {
        CHECK(pthread_create(&forking[i], NULL, fork_in_thread, NULL) == 0);
    }
    for (size_t i = 0; i < COUNT_OF(forking); i++) {
        CHECK(pthread_join(forking[i], NULL) == 0);
    }
    stop_threads();
    check_all();
    free_all();
}

static void threads_may_begin_and_end_meanwhile(void) {
    keep_all();
    for (unsigned i = 0; i < edge_times(12, 150); i++) {
        start_threads();
        fork_child_run(child_frees_what_it_inherited);
        stop_threads();
    }
    check_all();
    free_all();
}

/* A server that replaces itself again and again: each child goes on as the parent. */
static void generations_can_follow_each_other(void) {
    keep_all();
    for (unsigned generation = 0; generation < edge_times(25, 100); generation++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child > 0) {
            int status = edge_wait(child);
            _exit(WIFEXITED(status) ? WEXITSTATUS(status) : EDGE_FAIL);
        }
        check_all();
        fork_child_churn(generation);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, churn_in_thread, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    check_all();
    free_all();
}

static pthread_key_t key;

static void fork_at_thread_end(void *block) {
    free(block);
    fork_child_run(child_frees_what_it_inherited);
}

static void *set_key(void *context) {
    CHECK(pthread_setspecific(key, malloc(100)) == 0);
    return context;
}

/* Such a thread has no cache any more. */
static void the_last_destructor_of_a_thread_can_fork(void) {
    keep_all();
    CHECK(pthread_key_create(&key, fork_at_thread_end) == 0);
    for (unsigned i = 0; i < edge_times(10, 50); i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, set_key, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
}

/* Handlers of fork allocate and free. */
static void *between;
static void allocate_before(void) {
    between = malloc(5000);
    CHECK(between != NULL);
}
static void free_after(void) {
    free(between);
    free(malloc(100));
}

static void fork_handlers_can_allocate(void) {
    CHECK(pthread_atfork(allocate_before, free_after, free_after) == 0);
    fork_while_threads_work(edge_times(10, 100), child_frees_what_it_inherited);
}

/* A stream whose buffer is written out while another thread forks, by a function that allocates: as
 * it waits in malloc, so does fork for fflush, which holds the list of streams. */
static _Atomic bool forks;
static _Atomic bool writes;

/* Not sched_yield, which on a busy machine is as long as everybody else's turn. */
static void a_moment(void) {
    (void)usleep(100);
}

static void say_that_fork_began(void) {
    forks = true;
}

static ssize_t write_slowly(void *cookie, const char *bytes, size_t length) {
    (void)cookie, (void)bytes;
    if (!stop) {
        writes = true;
        while (!forks) { /* with the list's lock */
            a_moment();
        }
        for (size_t i = 0; i < 200; i++) {
            char *block = malloc(i * 5000 + 1);
            CHECK(block != NULL);
            block[0] = 1;
            free(block);
            if (i % 20 == 0) {
                a_moment();
            }
        }
        writes = false;
    }
    return (ssize_t)length;
}

static void *flush_streams(void *stream) {
    while (!stop) {
        CHECK(fputs("not written yet", stream) >= 0);
        CHECK(fflush(NULL) == 0);
        a_moment(); /* or this thread has the list again before who waits for it is awake */
    }
    return NULL;
}

static void a_fork_waits_for_streams_without_stopping_malloc(void) {
    cookie_io_functions_t functions = {.write = write_slowly};
    FILE *stream = fopencookie(NULL, "w", functions);
    CHECK(stream != NULL);
    CHECK(pthread_atfork(say_that_fork_began, NULL, NULL) == 0); /* the last added is the first */
    pthread_t flushing;
    CHECK(pthread_create(&flushing, NULL, flush_streams, stream) == 0);
    for (unsigned i = 0; i < edge_times(10, 100); i++) {
        forks = false;
        while (!writes) {
            a_moment();
        }
        fork_child_run(child_uses_streams);
    }
    stop = true;
    forks = true;
    CHECK(pthread_join(flushing, NULL) == 0);
    CHECK(fclose(stream) == 0);
}

#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
/* Runs no handlers; without threads, nothing is in the middle of anything. */
static void a_bare_fork_works_without_threads(void) {
    keep_all();
    for (unsigned i = 0; i < edge_times(20, 100); i++) {
        pid_t child = _Fork();
        CHECK(child >= 0);
        if (child == 0) {
            child_frees_what_it_inherited();
            _exit(EDGE_PASS);
        }
        CHECK(edge_wait(child) == 0);
    }
    check_all();
}
#endif

static const struct edge_case cases[] = {
    EDGE_CASE(a_child_owns_what_it_inherited),
    EDGE_CASE(a_child_can_have_threads),
    EDGE_CASE(a_child_can_have_children),
    EDGE_CASE(a_child_can_exit),
    EDGE_CASE(threads_can_fork_at_once),
    EDGE_CASE(threads_may_begin_and_end_meanwhile),
    EDGE_CASE(generations_can_follow_each_other),
    EDGE_CASE(the_last_destructor_of_a_thread_can_fork),
    EDGE_CASE(fork_handlers_can_allocate),
    EDGE_CASE(a_fork_waits_for_streams_without_stopping_malloc),
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
    EDGE_CASE(a_bare_fork_works_without_threads),
#endif
};

EDGE_MAIN(cases)
