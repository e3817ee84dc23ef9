/* Forks in handlers of several threads at once: lists and tables that one of them was changing. */
#include "heap/nested_forks.h"

#include "chunk/retained.h"
#include "heap/fork_mend.h"
#include "heap/sample.h"
#include "heap/sample_table.h"
#include "os/pages.h"

static int start(void **state) {
    (void)state;
    use_everything();
    return 0;
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

/* ---- the table of pools ---- */

static berth_pool *pool;

/* Stands in the table for a pool that somebody takes out of it, to look for visitors and put it
 * back, while the fork that is one goes on. */
static struct berth__arenas in_its_place;
static bool take_out;

/* Registered before the engine's handlers, so it runs after them. */
static void take_out_in_prepare(void) {
    if (take_out) {
        UNIT_CHECK(!berth__engine_take_out(&in_its_place));
    }
}

__attribute__((constructor(101))) static void register_early(void) {
    pthread_atfork(take_out_in_prepare, NULL, NULL);
}

static void use_the_pool(void) {
    UNIT_CHECK(berth__engine_arenas(in_its_place.number) == berth__pool_arenas(pool));
    UNIT_CHECK(!berth__lock_is_mine(&berth__pool_arenas(pool)->lock));
    berth_free(berth_alloc(pool, SMALL));
    UNIT_CHECK(berth_pool_destroy(pool, 0) == 0);
}

static void a_pool_that_is_out_of_the_table_is_let_go_of(void **state) {
    /* Its locks would stay held, in parent and child. */
    (void)state;
    pool = berth_pool_create("out", NULL);
    berth_free(berth_alloc(pool, SMALL));
    berth_thread_flush();
    in_its_place.number = berth__pool_arenas(pool)->number;
    take_out = true;
    int result = in_child(use_the_pool);
    take_out = false;
    berth__engine_open(berth__pool_arenas(pool));
    use_the_pool();
    assert_int_equal(result, 0);
}

/* ---- higher layers ---- */

static struct berth__lock *extra_locks[16];
static unsigned extra_count;

static void note_extra(struct berth__lock *lock, void *context) {
    (void)context;
    extra_locks[extra_count++] = lock;
}

static struct berth__site *first_site(void) {
    return (struct berth__site *)(uintptr_t)berth__samples_root()->site_block[0];
}

static void damage_site(void) {
    berth__add_relaxed(&first_site()->sequence, 1);
}

enum { STILL_ODD = 7 };

static void look_whether_sites_are_whole(void) {
    go_on_after_the_handler();
    if (berth__load_relaxed(&first_site()->sequence) % 2 != 0) {
        unit_keep_coverage();
        _exit(STILL_ODD);
    }
}

static void tables_of_higher_layers_can_be_used(void **state) {
    /* Who looks at the child's profile would leave out what was being changed, for good. */
    (void)state;
    berth__sample_set(4096);
    make_blocks();
    free_blocks();
    berth__sample_set(0);
    berth__fork_visit_extra_locks(note_extra, NULL);
    assert_true(extra_count > 0 && berth__samples_root() != NULL);
    mine = &first_arena()->grow_lock;
    unsigned whole = 0;
    for (unsigned i = 0; i < extra_count; i++) {
        bool samples = berth__load_relaxed(&extra_locks[i]->rank) == BERTH_RANK_SAMPLES;
        make_blocks();
        theirs = extra_locks[i];
        damage = repair = samples ? damage_site : nothing;
        int result = fork_beside(stop_under_the_lock, look_whether_sites_are_whole);
        whole += samples && result == 0; /* one of those is the lock of sites */
        assert_true(result == 0 || (samples && result == STILL_ODD));
    }
    assert_int_equal(whole, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_of_a_pool_are_mended),
        cmocka_unit_test(retained_slots_are_mended),
        cmocka_unit_test(a_tail_that_was_being_unmapped_can_be_used),
        cmocka_unit_test(free_metadata_begins_anew),
        cmocka_unit_test(a_pool_that_is_out_of_the_table_is_let_go_of),
        cmocka_unit_test(tables_of_higher_layers_can_be_used),
    };
    return cmocka_run_group_tests(tests, start, NULL) == 0 ? 0 : 1;
}
