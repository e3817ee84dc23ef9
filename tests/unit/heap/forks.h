/*
 * What the tests of fork share: children, a use of everything in them, and another thread that goes
 * step by step.
 */
#ifndef BERTH_UNIT_FORKS_H
#define BERTH_UNIT_FORKS_H

#include "heap/fork.h"

#include "chunk/meta.h"
#include "chunk/wait.h"
#include "heap/decay.h"
#include "heap/engine.h"
#include "heap/request.h"
#include "pool/pool.h"
#include "unit.h"

#include <berth/berth.h>

#include <pthread.h>
#include <string.h>
#include <time.h>

enum { SMALL = 100, RUN = 200000, LARGE = 6 << 20 };

static inline void a_moment(void) {
    nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

/* The exit status of a child, or minus the signal that ended it: SIGALRM if it hung. */
static inline int in_child(void (*function)(void)) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        unit_cover_aborts();
        alarm(UNIT_HANGS_S);
        function();
        unit_keep_coverage();
        _exit(0);
    }
    int status = 0;
    while (waitpid(child, &status, 0) != child) {
    }
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static inline void use_everything(void) {
    static const size_t sizes[] = {1, SMALL, 5000, RUN, LARGE};
    void *blocks[BERTH_ARRAY_COUNT(sizes)][8];
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < BERTH_ARRAY_COUNT(sizes); i++) {
            for (unsigned k = 0; k < 8; k++) {
                blocks[i][k] = berth_alloc(berth_pool_default(), sizes[i]);
                UNIT_CHECK(blocks[i][k] != NULL);
                memset(blocks[i][k], (int)k, berth__min(sizes[i], 4096));
            }
        }
        for (unsigned i = 0; i < BERTH_ARRAY_COUNT(sizes); i++) {
            for (unsigned k = 0; k < 8; k++) {
                UNIT_CHECK(*(unsigned char *)blocks[i][k] == k);
                berth_free(blocks[i][k]);
            }
        }
        berth_thread_flush();
    }
    berth_trim(NULL);
}

static inline struct berth__arena *first_arena(void) {
    return berth__arenas_at(berth__default_arenas(), 0);
}

/* A thread with a heap of its own, which does what a test asks for, step by step. */
static struct {
    pthread_t thread;
    struct berth__cache *cache;
    _Atomic int step; /* the thread waits for an odd one, and makes it even */
    void (*work)(void);
} other;

static inline void *follow(void *unused) {
    (void)unused;
    berth_free(berth_alloc(berth_pool_default(), SMALL));
    berth_free(berth_alloc(berth_pool_default(), RUN));
    other.cache = berth__tls.cache;
    for (unsigned refills = 0; !other.cache->owns_heap; refills++) { /* earns one */
        UNIT_CHECK(refills < 100000);
        berth_free(berth_alloc(berth_pool_default(), SMALL));
        berth_thread_flush();
    }
    other.step = 2;
    while (other.step != 3) {
        a_moment();
    }
    if (other.work != NULL) {
        other.work();
    }
    other.step = 4;
    return NULL;
}

static inline void start_other(void (*work)(void)) {
    other.work = work;
    other.step = 0;
    assert_int_equal(pthread_create(&other.thread, NULL, follow, NULL), 0);
    while (other.step != 2) {
        a_moment();
    }
}

static inline void let_other_work(void) {
    other.step = 3;
}

/* Until the other thread sleeps on a lock that this one holds, or is done. */
static inline void await_sleeper(struct berth__lock *lock) {
    while (berth__load_relaxed(&lock->sleepers) == 0 && other.step != 4) {
        a_moment();
    }
}

static inline void join_other(void) {
    pthread_join(other.thread, NULL);
}

static inline bool is_orphan(const struct berth__heap *heap) {
    struct berth__list *orphans = &heap->arena->orphans;
    for (struct berth__list *at = orphans->next; at != orphans; at = at->next) {
        if (BERTH_LIST_ENTRY(at, struct berth__heap, orphan_link) == heap) {
            return true;
        }
    }
    return false;
}

#endif
