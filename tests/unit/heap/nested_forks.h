/*
 * Two threads that fork in handlers at once: what the tests of that share.
 *
 * The child of one finds what the other, which was stopped under a lock, has half done. Here, the
 * other thread stands for that one: it takes a lock, and does to what the lock guards what would be
 * fatal to whoever relies on it. This thread, which holds another lock as if a handler had
 * interrupted it, forks; its child goes on like one in that handler, and when that has returned.
 */
#ifndef BERTH_UNIT_NESTED_FORKS_H
#define BERTH_UNIT_NESTED_FORKS_H

#include "heap/forks.h"

#include "heap/heap.h"
#include "heap/read.h"

/* ---- blocks from before the fork ---- */

enum { SMALLS = 2000, RUNS = 12 };
static const size_t run_sizes[RUNS] = {5000,  5000,  9000,   17000,  20000, 40000,
                                       64000, 70000, 100000, 200000, RUN,   LARGE};
static char *smalls[SMALLS], *runs[RUNS];

static inline char *make(size_t size) {
    char *block = berth_alloc(berth_pool_default(), size);
    UNIT_CHECK(block != NULL);
    block[0] = block[size - 1] = (char)size;
    return block;
}

static inline void make_blocks(void) {
    for (unsigned i = 0; i < SMALLS; i++) {
        smalls[i] = make(SMALL);
    }
    for (unsigned i = 0; i < RUNS; i++) {
        runs[i] = make(run_sizes[i]);
    }
}

static inline void free_blocks(void) {
    for (unsigned i = 0; i < SMALLS; i++) {
        UNIT_CHECK(smalls[i][0] == (char)SMALL && smalls[i][SMALL - 1] == (char)SMALL);
        berth_free(smalls[i]);
    }
    for (unsigned i = 0; i < RUNS; i++) {
        size_t size = run_sizes[i];
        UNIT_CHECK(runs[i][0] == (char)size && runs[i][size - 1] == (char)size);
        runs[i] = berth_realloc(NULL, runs[i], i % 2 == 0 ? size / 3 : size + 30000);
        UNIT_CHECK(runs[i] != NULL && runs[i][0] == (char)size);
        berth_free(runs[i]);
    }
}

static inline void check_balance(void) {
    struct berth__arenas_counts counts;
    berth_thread_flush();
    berth__arenas_read(berth__default_arenas(), &counts);
    const struct berth__arena_counts *sum = &counts.sum;
    UNIT_CHECK(sum->chunk == sum->slab_lent + sum->run_lent + sum->remote + sum->free_slab +
                                 sum->slab_tail + sum->free_run);
    UNIT_CHECK(sum->chunk < UINT64_C(1) << 40);
    for (uint32_t i = 0; i < berth__heap_numbers(); i++) {
        struct berth__heap *heap = berth__load_relaxed(&berth__heaps[i]);
        UNIT_CHECK(heap == NULL || berth__lock_is_nobodys(&heap->lock) ||
                   berth__heap_is_valid(heap));
    }
}

/* ---- two threads that fork at once ---- */

static struct berth__lock *theirs, *mine;
static void (*damage)(void), (*repair)(void);

static inline void stop_under_the_lock(void) {
    berth__lock_acquire(theirs);
    damage();
    other.step = 5;
    while (other.step != 6) {
        a_moment();
    }
    repair();
    berth__lock_release(theirs);
}

static inline void go_on_after_the_handler(void) BERTH_NO_TSA {
    UNIT_CHECK(berth__fork_must_detour());
    berth_free(berth_alloc(berth_pool_default(), SMALL));
    berth__lock_release(mine);
    use_everything();
    UNIT_CHECK(!berth__fork_must_detour());
    free_blocks();
    check_balance();
    use_everything();
    make_blocks();
    UNIT_CHECK(in_child(use_everything) == 0);
    free_blocks();
    use_everything();
    check_balance();
}

/* What is damaged is chosen by the tests, when the blocks are there. */
static inline int fork_beside(void (*stop)(void), void (*go_on)(void)) {
    start_other(stop);
    let_other_work();
    while (other.step != 5) {
        a_moment();
    }
    berth__lock_acquire(mine);
    int result = in_child(go_on);
    berth__lock_release(mine);
    other.step = 6;
    join_other();
    free_blocks();
    return result;
}

static inline void nothing(void) {
}

#endif
