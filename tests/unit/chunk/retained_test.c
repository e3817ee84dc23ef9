/*
 * Memory that nobody uses and that is still committed. Each test runs in a child, as a process has
 * one primary span.
 */
#include "chunk/retained.h"

#include "chunk/ledger.h"
#include "chunk/meta.h"
#include "chunk/wait.h"
#include "maps.h"
#include "os/fault.h"
#include "os/pages.h"

#include <pthread.h>

enum { MIB = 1 << 20, SMALLEST = 16 * MIB };

static void start(size_t reserve_bytes) {
    berth__pages_init(0);
    berth__meta_init();
    berth__wait_init();
    UNIT_CHECK(berth__space_init(reserve_bytes));
}

static struct berth__chunk *take(size_t count) {
    struct berth__chunk *first = berth__slots_take(count);
    UNIT_CHECK(first != NULL);
    return first;
}

static uint64_t charged(void) {
    return berth__load_relaxed(&berth__ledger.used);
}

/* As the owner of a slot does: charges, commits, and says so. */
static void fill(struct berth__chunk *slot, size_t bytes) {
    UNIT_CHECK(berth__ledger_charge(&berth__ledger, bytes - slot->committed, 0));
    UNIT_CHECK(berth__pages_commit(slot->at, bytes) == 0);
    slot->committed = bytes;
}

/* ---- slots ---- */

static void retain_and_release(void *unused) {
    (void)unused;
    start(64 * MIB);
    struct berth__chunk *a = take(1);
    struct berth__chunk *b = take(1);
    struct berth__chunk *c = take(1);
    fill(a, BERTH_CHUNK);
    fill(b, MIB);
    fill(c, BERTH_CHUNK);
    berth__slots_give(c, 1);
    berth__slots_give(a, 1);
    berth__slots_give(b, 1);
    UNIT_CHECK(berth__retained_bytes() == 9 * MIB);
    UNIT_CHECK(berth__retained_release(SIZE_MAX, 60000) == 0); /* none is that old */
    UNIT_CHECK(take(1) == a && a->committed == BERTH_CHUNK);   /* used again as it is */
    UNIT_CHECK(berth__retained_bytes() == 5 * MIB);
    UNIT_CHECK(berth__retained_release(1, 0) == BERTH_CHUNK); /* c: given back first */
    UNIT_CHECK(c->committed == 0 && b->committed == MIB);
    UNIT_CHECK(charged() == 5 * MIB);
    berth__slots_give(a, 1);
    UNIT_CHECK(berth__retained_release(SIZE_MAX, 0) == 5 * MIB);
    UNIT_CHECK(berth__retained_bytes() == 0);
    UNIT_CHECK(charged() == 0);
    UNIT_CHECK(unit_range_read(berth__primary.slots, berth__primary.slots_bytes, false).writable ==
               0);
    UNIT_CHECK(take(3) == a);
}

static void unused_memory_is_kept_and_returned_oldest_first(void **state) {
    /* The limit would count memory that is not there, or memory stay that nobody counts. */
    (void)state;
    assert_int_equal(unit_in_child(retain_and_release, NULL), 0);
}

static void release_a_row(void *unused) {
    (void)unused;
    start(64 * MIB);
    struct berth__chunk *first = take(6);
    for (size_t i = 0; i < 6; i++) {
        fill(berth__chunk_of(first->at + i * BERTH_CHUNK), i == 3 ? MIB : BERTH_CHUNK);
    }
    berth__slots_give(first, 6);
    UNIT_CHECK(berth__retained_release(2 * BERTH_CHUNK, 0) == 2 * BERTH_CHUNK);
    UNIT_CHECK(berth__retained_bytes() == 3 * BERTH_CHUNK + MIB);
    UNIT_CHECK(berth__retained_release(SIZE_MAX, 0) == 3 * BERTH_CHUNK + MIB);
    UNIT_CHECK(charged() == 0);
    UNIT_CHECK(take(6) == first && first->committed == 0);
}

static void neighbours_are_unmapped_together(void **state) {
    /* A large block would cost a system call for each 4 MiB, or lose a part. */
    (void)state;
    assert_int_equal(unit_in_child(release_a_row, NULL), 0);
}

#if BERTH_FAULTS
static void release_in_vain(void *unused) {
    (void)unused;
    start(SMALLEST);
    struct berth__chunk *slot = take(1);
    fill(slot, MIB);
    slot->at[0] = 1;
    berth__slots_give(slot, 1);
    berth__os_fail_after(BERTH_OS_DECOMMIT, 0, 1);
    UNIT_CHECK(berth__retained_release(MIB, 0) == MIB);
    UNIT_CHECK(berth__retained_charged() == MIB); /* it stays mapped, and charged */
    UNIT_CHECK(charged() == MIB);
    UNIT_CHECK(berth__retained_bytes() == 0); /* and is owed to nobody */
    UNIT_CHECK(unit_range_read(slot->at, MIB, true).resident == 0);
    UNIT_CHECK(berth__retained_uncharge(SIZE_MAX) == MIB);
    UNIT_CHECK(charged() == 0 && berth__retained_charged() == 0);
}
#endif

static void what_cannot_be_unmapped_stays_charged_without_memory(void **state) {
    /* At the bound of mappings the ledger would forget what is mapped. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    assert_int_equal(unit_in_child(release_in_vain, NULL), 0);
#endif
}

/* ---- tails ---- */

/* A huge block of 5 MiB in two slots that hold 7 MiB. */
static struct berth__chunk *block_with_tail(void) {
    struct berth__chunk *first = take(2);
    struct berth__chunk *last = berth__chunk_next(first);
    fill(first, BERTH_CHUNK);
    fill(last, 3 * MIB);
    berth__tail_keep(first, last, 2 * MIB);
    return first;
}

static void keep_and_take(void *unused) {
    (void)unused;
    start(64 * MIB);
    struct berth__chunk *first = block_with_tail();
    struct berth__chunk *last = berth__chunk_next(first);
    UNIT_CHECK(berth__retained_bytes() == 2 * MIB);
    UNIT_CHECK(berth__tail_take(first) == 2 * MIB);
    UNIT_CHECK(berth__tail_take(first) == 0);
    UNIT_CHECK(berth__retained_bytes() == 0);
    UNIT_CHECK(last->committed == 3 * MIB && charged() == 7 * MIB); /* still there */
    berth__tail_keep(first, last, MIB);
    UNIT_CHECK(berth__retained_release(SIZE_MAX, 60000) == 0);
    UNIT_CHECK(berth__retained_release(1, 0) == MIB);
    UNIT_CHECK(last->committed == 2 * MIB && charged() == 6 * MIB);
    UNIT_CHECK(berth__tail_take(first) == 0);
    UNIT_CHECK(unit_range_read(first->at, 2 * BERTH_CHUNK, false).writable == 6 * MIB);
}

static void what_a_block_does_not_use_of_its_last_slot_is_kept_or_returned(void **state) {
    /* Memory behind a huge block would be lost to everybody, or taken from under the block. */
    (void)state;
    assert_int_equal(unit_in_child(keep_and_take, NULL), 0);
}

static void slots_before_tails(void *unused) {
    (void)unused;
    start(64 * MIB);
    struct berth__chunk *first = block_with_tail();
    struct berth__chunk *slot = take(1);
    fill(slot, MIB);
    berth__slots_give(slot, 1);
    UNIT_CHECK(berth__retained_bytes() == 3 * MIB);
    UNIT_CHECK(berth__retained_release(1, 0) == MIB);
    UNIT_CHECK(slot->committed == 0 && berth__load_relaxed(&first->huge.tail) == 2 * MIB);
    UNIT_CHECK(berth__retained_release(SIZE_MAX, 0) == 2 * MIB);
    UNIT_CHECK(berth__retained_bytes() == 0 && charged() == 5 * MIB);
}

static void slots_that_nobody_uses_go_before_tails(void **state) {
    /* Blocks in use would be cut while whole slots lie about. */
    (void)state;
    assert_int_equal(unit_in_child(slots_before_tails, NULL), 0);
}

#if BERTH_FAULTS
static void trim_in_vain(void *unused) {
    (void)unused;
    start(64 * MIB);
    struct berth__chunk *first = block_with_tail();
    struct berth__chunk *last = berth__chunk_next(first);
    berth__os_fail_after(BERTH_OS_DECOMMIT, 0, 1);
    UNIT_CHECK(berth__retained_release(2 * MIB, 0) == 2 * MIB);
    UNIT_CHECK(berth__retained_bytes() == 0 && berth__retained_charged() == 2 * MIB);
    UNIT_CHECK(charged() == 7 * MIB && berth__tail_take(first) == 2 * MIB);
    UNIT_CHECK(berth__retained_charged() == 0);
    berth__tail_keep(first, last, 2 * MIB);
    UNIT_CHECK(berth__retained_bytes() == 2 * MIB); /* it may hold memory again */
    berth__os_fail_after(BERTH_OS_DECOMMIT, 0, 2);
    UNIT_CHECK(berth__retained_uncharge(1) == 0);
    UNIT_CHECK(berth__retained_uncharge(1) == 2 * MIB);
    UNIT_CHECK(charged() == 5 * MIB && last->committed == MIB);
}
#endif

static void a_tail_that_cannot_be_unmapped_stays(void **state) {
    /* It would be charged to nobody and still be mapped. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    assert_int_equal(unit_in_child(trim_in_vain, NULL), 0);
#endif
}

enum { ROUNDS = 3000 };

static void *trim_all_the_time(void *stop) {
    while (!atomic_load((_Atomic bool *)stop)) {
        berth__retained_release(SIZE_MAX, 0);
    }
    return NULL;
}

static void race_for_tails(void *unused) {
    (void)unused;
    static _Atomic bool stop;
    pthread_t trimmer;
    start(64 * MIB);
    struct berth__chunk *first = block_with_tail();
    struct berth__chunk *last = berth__chunk_next(first);
    UNIT_CHECK(pthread_create(&trimmer, NULL, trim_all_the_time, &stop) == 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (berth__tail_take(first) == 2 * MIB) {
            last->at[3 * MIB - 1] = 1; /* it is ours alone now */
        } else {
            fill(last, 3 * MIB);
        }
        berth__tail_keep(first, last, 2 * MIB);
    }
    atomic_store(&stop, true);
    pthread_join(trimmer, NULL);
    berth__retained_release(SIZE_MAX, 0);
    UNIT_CHECK(charged() == 5 * MIB && berth__retained_bytes() == 0);
}

static void a_tail_has_one_taker(void **state) {
    /* Memory would be unmapped that a block has just grown into. */
    (void)state;
    assert_int_equal(unit_in_child(race_for_tails, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unused_memory_is_kept_and_returned_oldest_first),
        cmocka_unit_test(neighbours_are_unmapped_together),
        cmocka_unit_test(what_cannot_be_unmapped_stays_charged_without_memory),
        cmocka_unit_test(what_a_block_does_not_use_of_its_last_slot_is_kept_or_returned),
        cmocka_unit_test(slots_that_nobody_uses_go_before_tails),
        cmocka_unit_test(a_tail_that_cannot_be_unmapped_stays),
        cmocka_unit_test(a_tail_has_one_taker),
    };
    return UNIT_RUN(tests);
}
