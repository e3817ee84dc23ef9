/* Forks in handlers of several threads at once: memory of arenas and heaps that one of them was
 * changing. */
#include "heap/nested_damage.h"

#include "heap/arena_inside.h"
#include "os/pages.h"

static int start(void **state) {
    (void)state;
    use_everything();
    return 0;
}

/* ---- an arena's chunks ---- */

static void what_an_arena_had_is_set_aside(void **state) {
    /* The child would use free runs that are half linked. */
    (void)state;
    make_blocks();
    arena_of_runs = berth__chunk_of(runs[RUNS - 2])->arena;
    theirs = &arena_of_runs->lock;
    mine = &arena_of_runs->grow_lock;
    damage = damage_arena;
    repair = repair_arena;
    assert_int_equal(fork_beside(stop_under_the_lock, go_on_after_the_handler), 0);
}

static void an_arena_that_was_growing_grows(void **state) {
    /* The child would wait for a thread that it does not have. */
    (void)state;
    make_blocks();
    theirs = &first_arena()->grow_lock;
    mine = &first_arena()->lock;
    damage = repair = nothing;
    assert_int_equal(fork_beside(stop_under_the_lock, go_on_after_the_handler), 0);
}

/* ---- a heap's slabs ---- */

static void what_a_heap_had_is_set_aside(void **state) {
    /* The child's thread would wait for its own heap when the handler has returned. */
    (void)state;
    make_blocks();
    block_in_slab = smalls[0];
    heap_of_smalls = berth__load_relaxed(&a_slab()->heap);
    theirs = &heap_of_smalls->lock;
    mine = &heap_of_smalls->arena->grow_lock;
    damage = damage_heap;
    repair = repair_heap;
    assert_ptr_equal(berth__tls.cache->heap, heap_of_smalls);
    assert_int_equal(fork_beside(stop_under_the_lock, go_on_after_the_handler), 0);
}

static void who_waits_for_a_heap_gets_it(void) BERTH_NO_TSA {
    struct berth__heap *orphan = other.cache->heap;
    berth__lock_acquire(theirs); /* as the interrupted call may do */
    berth__lock_release(theirs);
    go_on_after_the_handler();
    UNIT_CHECK(is_orphan(orphan));
}

static void find_heap_of_other(void) {
    theirs = &other.cache->heap->lock;
    stop_under_the_lock();
}

static void a_heap_whose_thread_is_gone_is_adopted(void **state) {
    /* Its memory would be lost, and with it whoever waits for its lock. */
    (void)state;
    make_blocks();
    mine = &first_arena()->heaps_lock;
    damage = repair = nothing;
    assert_int_equal(fork_beside(find_heap_of_other, who_waits_for_a_heap_gets_it), 0);
}

/* ---- a chunk's tail, on its way to the kernel ---- */

static berth_pool *pool;
static struct berth__chunk *cut_chunk;
static size_t cut_page, cut_bytes;

static void damage_chunk(void) BERTH_NO_TSA {
    struct berth__arena *arena = cut_chunk->arena;
    berth__lock_acquire(&arena->lock);
    struct berth__page_counts before_cut = berth__arena_counts_of(cut_chunk);
    cut_bytes = berth__chunk_free_tail(cut_chunk);
    cut_page = (cut_chunk->committed - cut_bytes) / BERTH_PAGE;
    berth__chunk_hide(cut_chunk, cut_page, cut_bytes / BERTH_PAGE);
    berth__arena_settle_locked(arena, cut_chunk, before_cut);
    berth__lock_release(&arena->lock);
    UNIT_CHECK(cut_bytes > 0);
    UNIT_CHECK(berth__pages_decommit(cut_chunk->at + cut_page * BERTH_PAGE, cut_bytes) == 0);
}

static void repair_chunk(void) BERTH_NO_TSA {
    struct berth__arena *arena = cut_chunk->arena;
    UNIT_CHECK(berth__pages_commit(cut_chunk->at + cut_page * BERTH_PAGE, cut_bytes) == 0);
    berth__lock_acquire(&arena->lock);
    struct berth__page_counts before_cut = berth__arena_counts_of(cut_chunk);
    berth__chunk_show(cut_chunk, cut_page, cut_bytes / BERTH_PAGE, true);
    berth__arena_settle_locked(arena, cut_chunk, before_cut);
    berth__lock_release(&arena->lock);
}

static void use_the_slot_again(void) {
    go_on_after_the_handler();
    UNIT_CHECK(berth_pool_destroy(pool, BERTH_FORCE) == 0);
    pool = berth_pool_create("next", NULL);
    for (unsigned i = 0; i < 60; i++) {
        memset(berth_alloc(pool, 1 << 20), 1, 1 << 20);
    }
}

static void a_slot_whose_tail_was_being_unmapped_can_be_used(void **state) {
    /* When the pool has ended, who gets the slot next would write where nothing is mapped. */
    (void)state;
    make_blocks();
    pool = berth_pool_create("cut", NULL);
    cut_chunk = berth__chunk_of(berth_alloc(pool, SMALL));
    theirs = &cut_chunk->arena->grow_lock;
    mine = &first_arena()->grow_lock;
    damage = damage_chunk;
    repair = repair_chunk;
    assert_int_equal(fork_beside(stop_under_the_lock, use_the_slot_again), 0);
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), 0);
}

/* ---- a CPU's cache ---- */

static void note_cpu_lock(struct berth__lock *lock, void *context) {
    (void)context;
    theirs = lock;
}

static void a_cpus_cache_begins_anew(void **state) {
    /* Who empties all caches would wait for a thread that is gone. */
    (void)state;
    make_blocks();
    theirs = NULL;
    berth__run_caches_visit_locks(berth__default_arenas(), note_cpu_lock, NULL);
    assert_non_null(theirs);
    mine = &first_arena()->grow_lock;
    damage = repair = nothing;
    assert_int_equal(fork_beside(stop_under_the_lock, go_on_after_the_handler), 0);
}

/* ---- the end of a pool ---- */

static char *of_pool[SMALLS];

static void stop_under_two_locks(void) {
    berth__lock_acquire(&heap_of_smalls->lock);
    damage_heap();
    stop_under_the_lock();
    repair_heap();
    berth__lock_release(&heap_of_smalls->lock);
}

static void end_the_pool(void) BERTH_NO_TSA {
    berth__lock_release(mine);
    UNIT_CHECK(!berth__fork_must_detour());
    for (unsigned i = 0; i < SMALLS; i++) {
        UNIT_CHECK(of_pool[i][0] == (char)i);
        berth_free(of_pool[i]);
    }
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < SMALLS; i++) {
            of_pool[i] = berth_alloc(pool, SMALL + i % 100 * 100);
            UNIT_CHECK(of_pool[i] != NULL);
            of_pool[i][0] = (char)i;
        }
        UNIT_CHECK(berth_pool_reset(pool, BERTH_FORCE) == 0);
    }
    UNIT_CHECK(berth_pool_destroy(pool, BERTH_FORCE) == 0);
    UNIT_CHECK(berth__load_relaxed(&berth__chunk_of(block_in_slab)->use) == BERTH_SLOT_FREE);
    UNIT_CHECK(berth__load_relaxed(berth__entry_find(block_in_slab)) == 0);
    pool = berth_pool_create("another", NULL);
    memset(berth_alloc(pool, RUN), 1, RUN);
    use_everything();
}

static void a_pool_with_memory_set_aside_can_end(void **state) {
    /* Its slots would be lost to all other pools, or entries lead to heaps that are gone. */
    (void)state;
    make_blocks();
    pool = berth_pool_create("cut", NULL);
    for (unsigned i = 0; i < SMALLS; i++) {
        of_pool[i] = berth_alloc(pool, SMALL);
        of_pool[i][0] = (char)i;
    }
    struct berth__chunk *chunk = berth__chunk_of(of_pool[0]);
    block_in_slab = of_pool[0];
    heap_of_smalls = berth__load_relaxed(&a_slab()->heap);
    arena_of_runs = chunk->arena;
    theirs = &arena_of_runs->lock;
    mine = &first_arena()->grow_lock;
    damage = damage_arena;
    repair = repair_arena;
    assert_int_equal(fork_beside(stop_under_two_locks, end_the_pool), 0);
    assert_int_equal(berth_pool_destroy(pool, BERTH_FORCE), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_an_arena_had_is_set_aside),
        cmocka_unit_test(an_arena_that_was_growing_grows),
        cmocka_unit_test(what_a_heap_had_is_set_aside),
        cmocka_unit_test(a_heap_whose_thread_is_gone_is_adopted),
        cmocka_unit_test(a_slot_whose_tail_was_being_unmapped_can_be_used),
        cmocka_unit_test(a_cpus_cache_begins_anew),
        cmocka_unit_test(a_pool_with_memory_set_aside_can_end),
    };
    return cmocka_run_group_tests(tests, start, NULL) == 0 ? 0 : 1;
}
