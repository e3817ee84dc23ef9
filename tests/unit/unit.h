/*
 * What the unit tests share: cmocka with the headers that it needs before it, and what it lacks for
 * threads and children.
 *
 * cmocka's assertions leave by a long jump, so only the thread that runs the test may use them;
 * elsewhere it is UNIT_CHECK, which stops the process.
 */
#ifndef BERTH_UNIT_H
#define BERTH_UNIT_H

#include "base/compiler.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Sanitizers map memory of their own, and do not start threads in the child of a fork. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNIT_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNIT_SANITIZED 1
#endif
#endif
#ifndef UNIT_SANITIZED
#define UNIT_SANITIZED 0
#endif

/* ThreadSanitizer maps its shadow as memory is touched: no test of scarce memory under it. */
#if defined(__SANITIZE_THREAD__)
#define UNIT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNIT_TSAN 1
#endif
#endif
#ifndef UNIT_TSAN
#define UNIT_TSAN 0
#endif

#define UNIT_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Runs an array of tests: the exit status of the program. */
#define UNIT_RUN(tests) (cmocka_run_group_tests(tests, NULL, NULL) == 0 ? 0 : 1)
#define UNIT_SKIPPED 77

/* For alarms in children that may hang: long for a busy machine, shorter than a test may take. */
#define UNIT_HANGS_S 100

/* For builds without BERTH_FAULTS or BERTH_DEBUG, where a test has nothing to look at. */
#define UNIT_ONLY_IF(condition)                                                                    \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

/* The same sequence for the same start in every run. */
struct unit_random {
    uint64_t state;
};

static inline uint64_t unit_random_next(struct unit_random *random) {
    uint64_t x = random->state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline size_t unit_random_below(struct unit_random *random, size_t bound) {
    return (size_t)(unit_random_next(random) % bound);
}

/* Builds for tests/coverage have it: which lines ran counts from then on, although the process ends
 * without exit. */
extern void __gcov_dump(void) __attribute__((weak));

static inline void unit_keep_coverage(void) {
    if (__gcov_dump != NULL) {
        __gcov_dump();
    }
}

static inline void unit_keep_coverage_of_abort(int unused) {
    (void)unused;
    unit_keep_coverage(); /* and the process ends when this returns */
}

/* Not where malloc is the engine's, which may hold its locks. */
static inline void unit_cover_aborts(void) {
    if (__gcov_dump != NULL && !BERTH_DOOR) {
        signal(SIGABRT, unit_keep_coverage_of_abort);
    }
}

/* What came of a function that ran in a child: its exit status, or minus the signal that ended it.
 * With `line`, the first line that the child wrote to stderr. */
static inline int unit_in_child_line(void (*function)(void *), void *context, char *line,
                                     size_t line_bytes) {
    int ends[2];
    fflush(NULL);
    if (pipe(ends) != 0) {
        return INT32_MIN;
    }
    pid_t child = fork();
    if (child == 0) {
        if (line != NULL) {
            dup2(ends[1], 2);
        }
        close(ends[0]);
        close(ends[1]);
        static const int caught_by_cmocka[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS};
        for (unsigned i = 0; i < BERTH_ARRAY_COUNT(caught_by_cmocka); i++) {
            signal(caught_by_cmocka[i], SIG_DFL);
        }
        unit_cover_aborts();
        function(context);
        /* Not exit: leak checks wait for locks that the parent's other threads may have held. */
        fflush(NULL);
        unit_keep_coverage();
        _exit(0);
    }
    close(ends[1]);
    size_t filled = 0;
    ssize_t got = 0;
    char rest[256];
    while ((got = line != NULL && filled + 1 < line_bytes
                      ? read(ends[0], line + filled, line_bytes - 1 - filled)
                      : read(ends[0], rest, sizeof(rest))) > 0) {
        filled += line != NULL && filled + 1 < line_bytes ? (size_t)got : 0;
    }
    close(ends[0]);
    if (line != NULL) {
        line[filled] = '\0';
        for (char *at = line; *at != '\0'; at++) {
            if (*at == '\n') {
                *at = '\0';
                break;
            }
        }
    }
    int status = 0;
    while (waitpid(child, &status, 0) != child) {
    }
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static inline int unit_in_child(void (*function)(void *), void *context) {
    return unit_in_child_line(function, context, NULL, 0);
}

#endif
