/*
 * Children that are forked: what they do with the door, and how they are waited for.
 *
 * A child that hangs is killed by its alarm, and its parent says so.
 */
#ifndef EDGE_FORK_CHILD_H
#define EDGE_FORK_CHILD_H

#include "edge.h"

enum { FORK_CHILD_HANGS_S = 100 };

/* Programs with the door in them have it in builds for tests/coverage: which lines ran counts from
 * then on, although the child ends by _exit. */
extern void __gcov_dump(void) __attribute__((weak));

/* Blocks of all kinds, made, changed and freed. */
static inline void fork_child_churn(size_t seed) {
    enum { BLOCKS = 60 };
    char *blocks[BLOCKS];
    size_t sizes[BLOCKS];
    uint64_t state = seed * 7919 + 1;
    for (size_t i = 0; i < BLOCKS; i++) {
        sizes[i] = i % 20 == 19 ? (5u << 20) : (size_t)(edge_random(&state) % 20000) + 1;
        blocks[i] = malloc(sizes[i]);
        CHECK(blocks[i] != NULL);
        blocks[i][0] = blocks[i][sizes[i] - 1] = (char)i;
    }
    for (size_t i = 0; i < BLOCKS; i += 3) {
        sizes[i] = sizes[i] / 2 + 5000;
        blocks[i] = realloc(blocks[i], sizes[i]);
        CHECK(blocks[i] != NULL && blocks[i][0] == (char)i);
        blocks[i][sizes[i] - 1] = (char)i;
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        CHECK(blocks[i][0] == (char)i && blocks[i][sizes[i] - 1] == (char)i);
        free(blocks[i]);
    }
}

static inline void fork_child_judge(int status) {
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
        FAIL("a child hangs");
    }
    if (status != 0) {
        FAIL("a child ended with status %#x", (unsigned)status);
    }
}

/* Forks, and waits for what the child does. */
static inline void fork_child_run(void (*in_child)(void)) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(FORK_CHILD_HANGS_S);
        in_child();
        if (__gcov_dump != NULL) {
            __gcov_dump();
        }
        _exit(EDGE_PASS);
    }
    fork_child_judge(edge_wait(child));
}

#endif
