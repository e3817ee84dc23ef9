/*
 * Forks in handlers of several threads at once: the interrupted call of one is in the middle of a
 * change, with no lock held that guards it, while another thread is stopped under that lock. In the
 * child the call goes on with what was set aside meanwhile.
 *
 * The handler is what the engine calls the kernel with.
 */
#include "heap/nested_damage.h"

#include "chunk/ledger.h"
#include "chunk/mappings.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#if UNIT_SANITIZED
/* They have these calls of their own. */
int main(void) {
    return UNIT_SKIPPED;
}
#else

static pid_t child = -1;
static bool armed;
static size_t least_purge;

static void fork_in_the_call(void) {
    if (!armed) {
        return;
    }
    armed = false;
    let_other_work();
    while (other.step != 5) {
        a_moment();
    }
    child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        alarm(UNIT_HANGS_S);
        return;
    }
    other.step = 6; /* the call goes on here, too */
    while (other.step != 4) {
        a_moment();
    }
}

int madvise(void *at, size_t bytes, int advice) {
    if (advice == MADV_DONTNEED && bytes >= least_purge) {
        fork_in_the_call();
    }
    return (int)syscall(SYS_madvise, at, bytes, advice);
}

int mprotect(void *at, size_t bytes, int protection) {
    fork_in_the_call();
    return (int)syscall(SYS_mprotect, at, bytes, protection);
}

void *mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset) {
    if ((flags & MAP_FIXED) != 0) {
        fork_in_the_call();
    }
    return (void *)syscall(SYS_mmap, at, bytes, protection, flags, file, offset); // NOLINT
}

/* Forks in a call, and returns what became of the child, which goes on behind it. `held`: a lock
 * that the call is made under; or NULL, if it takes one itself. */
static int fork_in(void (*call)(void), struct berth__lock *held) BERTH_NO_TSA {
    start_other(stop_under_the_lock);
    if (held != NULL) {
        berth__lock_acquire(held);
    }
    child = -1;
    armed = true;
    call();
    UNIT_CHECK(!armed);
    if (held != NULL) {
        berth__lock_release(held);
    }
    if (child == 0) {
        use_everything();
        UNIT_CHECK(!berth__fork_must_detour());
        call();
        free_blocks();
        use_everything();
        check_balance();
        call();
        unit_keep_coverage();
        _exit(0);
    }
    int status = 0;
    while (waitpid(child, &status, 0) != child) {
    }
    join_other();
    free_blocks();
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void damage_of_an_arena(struct berth__arena *arena) {
    arena_of_runs = arena;
    theirs = &arena->lock;
    damage = damage_arena;
    repair = repair_arena;
}

/* Leaves dirty pages behind. */
static void make_and_free(void) {
    char *blocks[20];
    make_blocks();
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(blocks); i++) {
        blocks[i] = memset(make(RUN), 1, RUN);
    }
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(blocks); i++) {
        berth_free(blocks[i]);
    }
    berth_thread_flush();
    berth__run_caches_flush(berth__default_arenas());
}

/* Until it has forked; runs of a few pages are in no bin. */
static void purge_an_arena(void) {
    least_purge = BERTH_UNIT;
    while (berth__arena_purge_some(arena_of_runs, SIZE_MAX) > 0 && armed) {
    }
    least_purge = 0;
}

static void a_purge_goes_on(void **state) {
    /* It would put pages back into bins that are not there. */
    (void)state;
    make_and_free();
    damage_of_an_arena(berth__chunk_of(runs[RUNS - 2])->arena);
    assert_int_equal(fork_in(purge_an_arena, &berth__default_arenas()->lock), 0);
}

static void trim_an_arena(void) {
    (void)berth__arena_trim(arena_of_runs, SIZE_MAX, BERTH_MAPPINGS_TO_SERVE);
}

static void a_trim_goes_on(void **state) {
    /* Likewise; and it would count what it unmapped twice. */
    (void)state;
    make_and_free();
    damage_of_an_arena(berth__chunk_of(runs[RUNS - 2])->arena);
    assert_int_equal(fork_in(trim_an_arena, NULL), 0);
}

static void grow_an_arena(void) {
    size_t more = berth__load_relaxed(&arena_of_runs->free_bytes) / BERTH_PAGE + 1;
    (void)berth__arena_grow(arena_of_runs, berth__min(more, BERTH_CHUNK_PAGES), 1,
                            BERTH_CHARGE_ORDINARY, NULL);
}

static void growing_goes_on(void **state) {
    /* A chunk that was set aside would get pages to lend. */
    (void)state;
    make_blocks();
    berth_trim(NULL); /* so the pool's chunk is new, and small */
    berth_pool *pool = berth_pool_create("grows", NULL);
    struct berth__chunk *chunk = berth__chunk_of(berth_alloc(pool, SMALL));
    size_t before_it = chunk->committed;
    damage_of_an_arena(chunk->arena);
    assert_int_equal(fork_in(grow_an_arena, NULL), 0);
    assert_true(chunk->committed > before_it);
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), 0);
}

static void purge_a_heap(void) {
    bool more = true;
    while (more && (armed || child <= 0)) {
        (void)berth__heap_purge_some(heap_of_smalls, &more);
    }
}

static void a_purge_of_slabs_goes_on(void **state) {
    /* It would wait for a lock that nobody releases. */
    (void)state;
    static char *blocks[SMALLS * 4];
    make_blocks();
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(blocks); i++) {
        blocks[i] = make(SMALL);
    }
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(blocks); i++) {
        if (i % 1000 != 0) { /* no slab is empty */
            berth_free(blocks[i]);
        }
    }
    berth_thread_flush();
    block_in_slab = smalls[0];
    heap_of_smalls = berth__load_relaxed(&a_slab()->heap);
    theirs = &heap_of_smalls->lock;
    damage = damage_heap;
    repair = repair_heap;
    assert_int_equal(fork_in(purge_a_heap, &berth__default_arenas()->lock), 0);
}

int main(void) {
    use_everything();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_purge_goes_on),
        cmocka_unit_test(a_trim_goes_on),
        cmocka_unit_test(growing_goes_on),
        cmocka_unit_test(a_purge_of_slabs_goes_on),
    };
    return UNIT_RUN(tests);
}

#endif
