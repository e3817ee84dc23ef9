#include "heap/fork_mend.h"

#include "base/check.h"
#include "chunk/meta.h"
#include "chunk/retained.h"
#include "chunk/wait.h"
#include "heap/engine.h"
#include "heap/fork.h"
#include "heap/request.h"

enum { EXTRA_LOCKS_MAX = 12 };

static struct {
    struct berth__lock *lock;
    void (*mend)(void);
} extra[EXTRA_LOCKS_MAX];
static unsigned extra_count;

void berth__fork_add_lock(struct berth__lock *lock, void (*mend)(void)) {
    BERTH_CHECK(extra_count < EXTRA_LOCKS_MAX, "too many locks of higher layers");
    extra[extra_count].lock = lock;
    extra[extra_count++].mend = mend;
}

void berth__fork_visit_extra_locks(void (*visit)(struct berth__lock *lock, void *context),
                                   void *context) {
    for (unsigned i = 0; i < extra_count; i++) {
        visit(extra[i].lock, context);
    }
}

bool berth__fork_open_nobodys(struct berth__lock *lock) {
    bool was = berth__lock_is_nobodys(lock);
    if (was) {
        berth__store_relaxed(&lock->holder, 0);
    }
    return was;
}

static void mend_arena(struct berth__arena *arena) {
    if (berth__fork_open_nobodys(&arena->heaps_lock)) {
        berth__heaps_mend_in_child(arena);
    }
    if (berth__fork_open_nobodys(&arena->grow_lock)) {
        berth__arena_mend_growth_in_child(arena);
    }
    struct berth__heap *heap = berth__load_acquire(&arena->newest_heap);
    for (; heap != NULL; heap = heap->older) {
        if (berth__fork_open_nobodys(&heap->lock)) {
            berth__heap_mend_in_child(heap);
        }
    }
    if (berth__fork_open_nobodys(&arena->lock)) {
        berth__arena_mend_in_child(arena);
    }
}

static void mend_pool(struct berth__arenas *arenas) {
    if (berth__fork_open_nobodys(&arenas->lock)) {
        berth__arenas_mend_in_child(arenas);
    }
    struct berth__arena *arena;
    for (BERTH_EACH_ARENA(arena, arenas)) {
        mend_arena(arena);
    }
    berth__run_caches_mend_in_child(arenas);
    if (berth__fork_open_nobodys(&arenas->huge_lock)) {
        berth__huge_mend_in_child(arenas);
    }
}

/* Whoever starts the engine publishes it when it is whole; so does who makes a pool. */
static void mend_outer(void) {
    (void)berth__fork_open_nobodys(berth__engine_start_lock());
    (void)berth__fork_open_nobodys(berth__engine_lock());
    for (unsigned i = 0; i < extra_count; i++) {
        if (berth__fork_open_nobodys(extra[i].lock) && extra[i].mend != NULL) {
            extra[i].mend();
        }
    }
}

void berth__fork_mend(void) {
    if (berth__fork_open_nobodys(&berth__meta_lock)) {
        berth__meta_abandon_in_child();
    }
    (void)berth__fork_open_nobodys(&berth__wait_lock); /* nobody waits in a child */
    if (berth__fork_open_nobodys(&berth__slots_lock)) {
        berth__slots_mend_in_child();
    }
    if (berth__fork_open_nobodys(&berth__tails_lock)) {
        berth__tails_mend_in_child();
    }
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        struct berth__arenas *arenas = berth__engine_arenas(i);
        if (arenas != NULL) {
            mend_pool(arenas);
        }
    }
    mend_outer();
}
