/*
 * If this fails, a program whose signal handler forks in the middle of malloc is not served: its
 * child hangs or is damaged, be it in the handler, or when it returns into the call that was
 * interrupted.
 */
#include "edge.h"

#include <pthread.h>
#include <sys/time.h>

#include "fork_child.h"

enum { SLOTS = 3000, STEPS_IN_CHILD = 1500, PERIOD_US = 700 };

static _Atomic unsigned forks;
static volatile bool in_child;
static char *blocks[SLOTS];
static unsigned sizes[SLOTS];

static void judge_ended_children(int flags) {
    int status;
    while (waitpid(-1, &status, flags) > 0) {
        fork_child_judge(status);
    }
}

static void fork_here(int signal_number) {
    (void)signal_number;
    if (in_child) {
        return;
    }
    int saved_errno = errno;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        in_child = true;
        alarm(FORK_CHILD_HANGS_S);
        fork_child_churn(forks);
    } else {
        forks++;
        judge_ended_children(WNOHANG);
    }
    errno = saved_errno;
}

/* One block is checked and freed, and another made in its place. */
static void step(uint64_t *state) {
    uint64_t random = edge_random(state);
    size_t slot = (size_t)(random % SLOTS);
    if (blocks[slot] != NULL && sizes[slot] > 0) {
        CHECK(blocks[slot][sizes[slot] - 1] == (char)slot);
    }
    free(blocks[slot]);
    unsigned size =
        random % 20 != 0 ? (unsigned)(random >> 40) % 800 : (unsigned)(random >> 40) % 300000;
    blocks[slot] = malloc(size);
    CHECK(blocks[slot] != NULL);
    sizes[slot] = size;
    if (size > 0) {
        blocks[slot][size - 1] = (char)slot;
    }
}

/* Until there were enough forks; a child, which comes out of a handler somewhere in it, a while
 * longer. */
static void work_while_forking(unsigned times) {
    uint64_t state = 88172645463325252u;
    unsigned steps = 0;
    while (forks < times) {
        step(&state);
        if (in_child && ++steps > STEPS_IN_CHILD) {
            fork_child_churn(forks);
            exit(EDGE_PASS);
        }
    }
}

static void fork_from_a_timer(unsigned times) {
    struct sigaction action = {.sa_handler = fork_here, .sa_flags = SA_RESTART};
    struct itimerval period = {{0, PERIOD_US}, {0, PERIOD_US}};
    struct itimerval never = {{0, 0}, {0, 0}};
    CHECK(sigaction(SIGPROF, &action, NULL) == 0);
    CHECK(setitimer(ITIMER_PROF, &period, NULL) == 0);
    work_while_forking(times);
    CHECK(setitimer(ITIMER_PROF, &never, NULL) == 0);
    judge_ended_children(0);
}

static void a_handler_can_fork(void) {
    fork_from_a_timer(edge_times(60, 1000));
}

static void *work_beside(void *seed) {
    uint64_t state = (uint64_t)(uintptr_t)seed;
    for (;;) {
        char *pair[2];
        for (size_t i = 0; i < COUNT_OF(pair); i++) {
            pair[i] = malloc(edge_random_size(&state) / 8);
            CHECK(pair[i] != NULL);
        }
        free(pair[0]);
        free(pair[1]);
    }
    return NULL;
}

static void a_handler_can_fork_beside_busy_threads(void) {
    sigset_t all, before;
    sigfillset(&all);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) ==
          0); /* the threads have this from the start */
    for (uintptr_t i = 1; i <= 2; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, work_beside, (void *)i) == 0);
    }
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    fork_from_a_timer(edge_times(60, 1000));
}

/* Any of the threads may be interrupted, and be the one that the child has. */
static void *work_with_own_blocks(void *seed) {
    uint64_t state = (uint64_t)(uintptr_t)seed;
    unsigned steps = 0;
    for (;;) {
        char *some[32];
        for (size_t i = 0; i < COUNT_OF(some); i++) {
            size_t size = edge_random_size(&state) / 8 + 1;
            some[i] = malloc(size);
            CHECK(some[i] != NULL);
            some[i][0] = some[i][size - 1] = (char)i;
        }
        for (size_t i = 0; i < COUNT_OF(some); i++) {
            CHECK(some[i][0] == (char)i);
            free(some[i]);
        }
        if (in_child && ++steps > 20) {
            fork_child_churn(steps);
            exit(EDGE_PASS);
        }
    }
    return NULL;
}

static pthread_t workers[3];

static void start_workers(void) {
    struct sigaction action = {.sa_handler = fork_here, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    for (uintptr_t i = 0; i < COUNT_OF(workers); i++) {
        CHECK(pthread_create(&workers[i], NULL, work_with_own_blocks, (void *)(i + 1)) == 0);
    }
}

/* Has `count` of the workers fork at once. */
static void signal_workers(size_t first, size_t count) {
    unsigned before = forks;
    for (size_t i = first; i < first + count; i++) {
        CHECK(pthread_kill(workers[i % COUNT_OF(workers)], SIGUSR1) == 0);
    }
    while (forks < before + count) {
        sched_yield();
    }
}

static void any_thread_can_fork_in_a_handler(void) {
    start_workers();
    for (unsigned i = 0; i < edge_times(60, 1000); i++) {
        signal_workers(i, 1);
    }
    judge_ended_children(0);
}

static void several_threads_can_fork_in_handlers_at_once(void) {
    start_workers();
    for (unsigned i = 0; i < edge_times(8, 100); i++) {
        signal_workers(i, COUNT_OF(workers));
    }
    judge_ended_children(0);
}

static const struct edge_case cases[] = {
    EDGE_CASE(a_handler_can_fork),
    EDGE_CASE(a_handler_can_fork_beside_busy_threads),
    EDGE_CASE(any_thread_can_fork_in_a_handler),
    EDGE_CASE(several_threads_can_fork_in_handlers_at_once),
};

EDGE_MAIN(cases)
