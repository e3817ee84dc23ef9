/*
 * Forks in handlers of several threads at once: the child of one finds what another, which was
 * stopped under a lock, has half done, and what the other holds is not let go of.
 *
 * Here, the other thread stands for that one: it takes a lock, and does to what the lock guards
 * what would be fatal to whoever relies on it. This thread, which holds another lock as if a
 * handler had interrupted it, forks; its child goes on like one in that handler, and when that has
 * returned.
 */
#include "heap/forks.h"

#include "chunk/retained.h"
#include "heap/heap.h"
#include "heap/read.h"
#include "os/pages.h"

static int start(void **state) {
    (void)state;
    use_everything();
    return 0;
}

/* ---- blocks from before the fork ---- */

enum { SMALLS = 2000, RUNS = 12 };
static const size_t run_sizes[RUNS] = {5000,  5000,  9000,   17000,  20000, 40000,
                                       64000, 70000, 100000, 200000, RUN,   LARGE};
static char *smalls[SMALLS], *runs[RUNS];

static char *make(size_t size) {
    char *block = berth_alloc(berth_pool_default(), size);
    UNIT_CHECK(block != NULL);
    block[0] = block[size - 1] = (char)size;
    return block;
}

static void make_blocks(void) {
    for (unsigned i = 0; i < SMALLS; i++) {
        smalls[i] = make(SMALL);
    }
    for (unsigned i = 0; i < RUNS; i++) {
        runs[i] = make(run_sizes[i]);
    }
}

static void free_blocks(void) {
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

static void check_balance(void) {
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

static void stop_under_the_lock(void) {
    berth__lock_acquire(theirs);
    damage();
    other.step = 5;
    while (other.step != 6) {
        a_moment();
    }
    repair();
    berth__lock_release(theirs);
}

static void go_on_after_the_handler(void) BERTH_NO_TSA {
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
static int fork_beside(void (*stop)(void), void (*go_on)(void)) {
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

static void nothing(void) {
}

/* ---- an arena's chunks ---- */

static struct berth__arena *arena_of_runs, before;

static void damage_arena(void) BERTH_NO_TSA {
    struct berth__arena *arena = arena_of_runs;
    memcpy((void *)&before, (void *)arena, sizeof(before));
    memset((void *)&arena->bins, 0xa5, sizeof(arena->bins));
    memset((void *)&arena->twins, 0xa5, sizeof(arena->twins));
    memset((void *)arena->buckets, 0xa5, sizeof(arena->buckets));
    memset((void *)&arena->chunks, 0xa5, sizeof(arena->chunks));
    memset((void *)&arena->dirty, 0xa5, sizeof(arena->dirty));
}

static void repair_arena(void) BERTH_NO_TSA {
    arena_of_runs->bins = before.bins;
    arena_of_runs->twins = before.twins;
    memcpy((void *)arena_of_runs->buckets, (void *)before.buckets, sizeof(before.buckets));
    arena_of_runs->chunks = before.chunks;
    arena_of_runs->dirty = before.dirty;
}

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

static struct berth__heap *heap_of_smalls, heap_before;
static struct berth__slab slab_before;

static struct berth__slab *a_slab(void) {
    struct berth__chunk *chunk = berth__chunk_of(smalls[0]);
    return &chunk->slabs[(size_t)(smalls[0] - chunk->at) / BERTH_UNIT].slab;
}

static void damage_heap(void) BERTH_NO_TSA {
    memcpy((void *)&heap_before, (void *)heap_of_smalls, sizeof(heap_before));
    memcpy((void *)&slab_before, (void *)a_slab(), sizeof(slab_before));
    memset((void *)&heap_of_smalls->purge_queue, 0xa5, sizeof(heap_before.purge_queue));
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        memset((void *)heap_of_smalls->classes[c].lists, 0xa5,
               sizeof(heap_before.classes[c].lists));
    }
    memset((void *)&a_slab()->link, 0xa5, sizeof(slab_before.link));
    a_slab()->ready_count = 12345;
}

static void repair_heap(void) BERTH_NO_TSA {
    memcpy((void *)&heap_of_smalls->purge_queue, (void *)&heap_before.purge_queue,
           sizeof(heap_before.purge_queue));
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        memcpy((void *)heap_of_smalls->classes[c].lists, (void *)heap_before.classes[c].lists,
               sizeof(heap_before.classes[c].lists));
    }
    a_slab()->link = slab_before.link;
    a_slab()->ready_count = slab_before.ready_count;
}

static void what_a_heap_had_is_set_aside(void **state) {
    /* The child's thread would wait for its own heap when the handler has returned. */
    (void)state;
    make_blocks();
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

/* ---- lists: a member is linked in one direction ---- */

static struct berth__list *half_linked, *prev_before;

static void damage_list(void) {
    prev_before = half_linked->prev;
    half_linked->prev = (struct berth__list *)(uintptr_t)8;
}

static void repair_list(void) {
    half_linked->prev = prev_before;
}

static int fork_beside_half_linked(struct berth__list *link, struct berth__lock *lock) {
    half_linked = link;
    theirs = lock;
    damage = damage_list;
    repair = repair_list;
    return fork_beside(stop_under_the_lock, go_on_after_the_handler);
}

static void lists_of_a_pool_are_mended(void **state) {
    /* The child would follow a link to where its new member was not entered yet. */
    (void)state;
    struct berth__arenas *arenas = berth__default_arenas();
    struct berth__arena *arena = first_arena();
    mine = &arena->grow_lock;
    make_blocks();
    assert_int_equal(fork_beside_half_linked(&berth__tls.cache->link, &arenas->lock), 0);
    make_blocks();
    assert_int_equal(fork_beside_half_linked(&arenas->caches, &arenas->lock), 0);
    make_blocks();
    assert_int_equal(fork_beside_half_linked(&arena->heaps, &arena->heaps_lock), 0);
    make_blocks();
    assert_int_equal(fork_beside_half_linked(&berth__tls.cache->heap->link, &arena->heaps_lock), 0);
    make_blocks();
    struct berth__chunk *large = berth__chunk_of(runs[RUNS - 1]);
    assert_int_equal(fork_beside_half_linked(&large->owner_link, &arenas->huge_lock), 0);
}

/* ---- address space ---- */

static struct berth__chunk *retained_slot;

/* The first, which is used first. */
static void find_retained(void *context, struct berth__chunk *record) {
    (void)context;
    bool linked = record->link.next != NULL && record->link.next != &record->link;
    if (retained_slot == NULL && linked && record->committed > 0 &&
        berth__load_relaxed(&record->use) == BERTH_SLOT_FREE) {
        retained_slot = record;
    }
}

static void retained_slots_are_mended(void **state) {
    /* Likewise. */
    (void)state;
    berth_free(make(2 * LARGE));
    make_blocks();
    retained_slot = NULL;
    berth__slots_visit(find_retained, NULL);
    assert_non_null(retained_slot);
    mine = &first_arena()->grow_lock;
    assert_int_equal(fork_beside_half_linked(&retained_slot->link, &berth__slots_lock), 0);
}

static struct berth__chunk *block_with_tail;
static size_t tail_bytes;

static void damage_tail(void) {
    struct berth__chunk *last = block_with_tail->huge.last;
    tail_bytes = berth__load_relaxed(&block_with_tail->huge.tail);
    UNIT_CHECK(berth__pages_decommit(last->at + last->committed - tail_bytes, tail_bytes) == 0);
    block_with_tail->link.next->prev = block_with_tail->link.prev; /* taken off, by halves */
    block_with_tail->link.prev->next = block_with_tail->link.next;
}

static void repair_tail(void) {
    struct berth__chunk *last = block_with_tail->huge.last;
    UNIT_CHECK(berth__pages_commit(last->at + last->committed - tail_bytes, tail_bytes) == 0);
    block_with_tail->link.next->prev = &block_with_tail->link;
    block_with_tail->link.prev->next = &block_with_tail->link;
}

static void fill_and_go_on(void) {
    char *block = block_with_tail->at;
    go_on_after_the_handler();
    berth_free(block);
    for (unsigned i = 0; i < 4; i++) { /* finds the slots again */
        block = make(2 * BERTH_CHUNK);
        memset(block, 1, 2 * BERTH_CHUNK);
    }
}

static void a_tail_that_was_being_unmapped_can_be_used(void **state) {
    /* Who gets the slot next would write where nothing is mapped. */
    (void)state;
    berth_trim(NULL);
    berth_free(make(2 * BERTH_CHUNK));
    char *block = make(2 * BERTH_CHUNK - (1 << 20));
    block_with_tail = berth__chunk_of(block);
    make_blocks();
    assert_true(berth__load_relaxed(&block_with_tail->huge.tail) > 0);
    theirs = &berth__tails_lock;
    mine = &first_arena()->grow_lock;
    damage = damage_tail;
    repair = repair_tail;
    int result = fork_beside(stop_under_the_lock, fill_and_go_on);
    berth_free(block);
    assert_int_equal(result, 0);
}

/* ---- metadata ---- */

static void **free_metadata;

static void damage_metadata(void) {
    *free_metadata = (void *)(uintptr_t)8; /* the next free block */
}

static void repair_metadata(void) {
    *free_metadata = NULL;
}

static void use_metadata_and_go_on(void) {
    go_on_after_the_handler();
    for (unsigned i = 0; i < 100; i++) {
        UNIT_CHECK(berth__meta_alloc(65536) != NULL);
    }
}

static void free_metadata_begins_anew(void **state) {
    /* The child would hand out what is half in a list. */
    (void)state;
    free_metadata = berth__meta_alloc(65536);
    berth__meta_free(free_metadata, 65536);
    make_blocks();
    theirs = &berth__meta_lock;
    mine = &first_arena()->grow_lock;
    damage = damage_metadata;
    repair = repair_metadata;
    assert_int_equal(fork_beside(stop_under_the_lock, use_metadata_and_go_on), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_an_arena_had_is_set_aside),
        cmocka_unit_test(an_arena_that_was_growing_grows),
        cmocka_unit_test(what_a_heap_had_is_set_aside),
        cmocka_unit_test(a_heap_whose_thread_is_gone_is_adopted),
        cmocka_unit_test(lists_of_a_pool_are_mended),
        cmocka_unit_test(retained_slots_are_mended),
        cmocka_unit_test(a_tail_that_was_being_unmapped_can_be_used),
        cmocka_unit_test(free_metadata_begins_anew),
    };
    return cmocka_run_group_tests(tests, start, NULL) == 0 ? 0 : 1;
}
