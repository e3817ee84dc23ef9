/*
 * Address space. Each test runs in a child, as a process has one primary span.
 */
#include "chunk/space.h"

#include "chunk/chunk.h"
#include "chunk/meta.h"
#include "chunk/wait.h"
#include "maps.h"
#include "os/fault.h"
#include "os/pages.h"

#include <string.h>
#include <sys/resource.h>

enum { MIB = 1 << 20, SMALLEST = 16 * MIB };

static void prepare(void) {
    berth__pages_init(0);
    berth__meta_init();
    berth__wait_init();
}

static void start(size_t reserve_bytes) {
    prepare();
    UNIT_CHECK(berth__space_init(reserve_bytes));
}

static bool take_at(const void *at, size_t count) {
    if (!berth__slots_reserve_at(at, count)) {
        return false;
    }
    bool opened = berth__slots_open(at, count) != NULL;
    if (!opened) {
        berth__slots_give_at(at, count);
    }
    return opened;
}

static struct berth__chunk *take(size_t count) {
    struct berth__chunk *first = berth__slots_take(count);
    UNIT_CHECK(first != NULL);
    return first;
}

/* ---- the primary span ---- */

static void slots_and_entries(void *unused) {
    (void)unused;
    start(0);
    UNIT_CHECK(berth__primary.slots_bytes >= SMALLEST);
    struct berth__chunk *first = take(1);
    UNIT_CHECK(first->at == berth__primary.slots);
    UNIT_CHECK((uintptr_t)first->at % BERTH_CHUNK == 0 && first->committed == 0);
    for (size_t i = 0; i < BERTH_CHUNK; i += 4097) {
        UNIT_CHECK(berth__chunk_of(first->at + i) == first);
        UNIT_CHECK(berth__chunk_find(first->at + i) == first);
    }
    berth__entries_set(first->at + BERTH_UNIT, 2, 77);
    for (size_t i = 0; i < 4; i++) {
        berth__entry *entry = berth__entry_find(first->at + i * BERTH_UNIT + 5);
        UNIT_CHECK(berth__load_relaxed(entry) == (i == 1 || i == 2 ? 77 : 0));
    }
}

static void a_slot_and_its_entries_are_found_by_any_address_in_it(void **state) {
    /* free() would not find what a block is. */
    (void)state;
    assert_int_equal(unit_in_child(slots_and_entries, NULL), 0);
}

static void look_for_foreign(void *unused) {
    (void)unused;
    prepare();
    int on_stack = 0;
    UNIT_CHECK(berth__entry_find(&on_stack) == NULL); /* before there is anything */
    UNIT_CHECK(berth__entry_find(NULL) == NULL);
    UNIT_CHECK(berth__space_init(0));
    UNIT_CHECK(berth__entry_find(&on_stack) == NULL);
    UNIT_CHECK(berth__entry_find(NULL) == NULL);
    UNIT_CHECK(berth__entry_find((void *)UINTPTR_MAX) == NULL);
    UNIT_CHECK(berth__chunk_find(&on_stack) == NULL);
    char *base = berth__primary.base;
    size_t bytes = berth__primary.units * BERTH_UNIT;
    UNIT_CHECK(berth__entry_find(base - 1) == NULL);
    UNIT_CHECK(berth__entry_find(base + bytes) == NULL);
    /* Ours, but never used: described by nothing, and not to be touched. */
    UNIT_CHECK(berth__load_relaxed(berth__entry_find(base)) == 0);
    UNIT_CHECK(berth__load_relaxed(berth__entry_find(base + bytes - 1)) == 0);
    UNIT_CHECK(berth__chunk_find(base) == NULL);
    UNIT_CHECK(berth__chunk_find(berth__primary.slots) == NULL);
    UNIT_CHECK(!take_at(&on_stack, 1));
}

static void an_address_that_is_not_ours_is_told_apart(void **state) {
    /* A wrong pointer to free() would be followed. */
    (void)state;
    assert_int_equal(unit_in_child(look_for_foreign, NULL), 0);
}

static void take_and_give(void *unused) {
    (void)unused;
    start(64 * MIB);
    struct berth__chunk *one = take(1);
    struct berth__chunk *three = take(3);
    struct berth__chunk *two = take(2);
    UNIT_CHECK(three->at == one->at + BERTH_CHUNK && two->at == three->at + 3 * BERTH_CHUNK);
    UNIT_CHECK(berth__chunk_next(one) == three);
    berth__slots_give(three, 3);
    UNIT_CHECK(berth__load_relaxed(&three->use) == BERTH_SLOT_FREE);
    UNIT_CHECK(take(4)->at == two->at + 2 * BERTH_CHUNK); /* the gap is too small */
    UNIT_CHECK(take(2) == three);
    UNIT_CHECK(!take_at(three->at + BERTH_CHUNK, 2));
    UNIT_CHECK(take_at(three->at + 2 * BERTH_CHUNK, 1));
    UNIT_CHECK(!take_at(three->at + 2 * BERTH_CHUNK, 1));
    UNIT_CHECK(!take_at(one->at + 60 * MIB, 3)); /* beyond the end */
    berth__slots_give(one, 1);
    UNIT_CHECK(take(1) == one);
}

static void the_lowest_gap_that_is_long_enough_is_taken(void **state) {
    /* Addresses would be handed out twice, or be used up by gaps. */
    (void)state;
    assert_int_equal(unit_in_child(take_and_give, NULL), 0);
}

static void random_slots(void *unused) {
    (void)unused;
    enum { SLOTS = 64 };
    bool taken[SLOTS] = {false};
    struct unit_random random = {5};
    start(SLOTS * BERTH_CHUNK);
    char *base = berth__primary.slots;
    for (unsigned i = 0; i < 5000; i++) {
        size_t count = 1 + unit_random_below(&random, 4);
        size_t at = unit_random_below(&random, SLOTS - count);
        bool all_free = true;
        bool all_taken = true;
        for (size_t s = at; s < at + count; s++) {
            all_free = all_free && !taken[s];
            all_taken = all_taken && taken[s];
        }
        if (all_taken) {
            berth__slots_give(berth__chunk_of(base + at * BERTH_CHUNK), count);
        } else {
            UNIT_CHECK(take_at(base + at * BERTH_CHUNK, count) == all_free);
        }
        if (all_taken || all_free) {
            memset(taken + at, all_free, count);
        }
    }
}

static void slots_at_chosen_addresses_are_taken_if_all_are_free(void **state) {
    /* A huge block would grow into its neighbour. */
    (void)state;
    assert_int_equal(unit_in_child(random_slots, NULL), 0);
}

/* ---- the shape of spans ---- */

static void shape(void *context) {
    const size_t *sizes = context; /* slots, page size */
    prepare();
    berth__pages_init(sizes[1]);
    UNIT_CHECK(berth__space_init(sizes[0] * BERTH_CHUNK));
    size_t table = (size_t)(berth__primary.records - berth__primary.base);
    UNIT_CHECK(berth__primary.units * sizeof(berth__entry) <= table);
    UNIT_CHECK(berth__primary.slots_bytes == sizes[0] * BERTH_CHUNK);
    UNIT_CHECK(berth__primary.base + berth__primary.units * BERTH_UNIT ==
               berth__primary.slots + berth__primary.slots_bytes);
    UNIT_CHECK(table % berth__page_bytes == 0);
    size_t records = sizes[0] * BERTH_RECORD_BYTES;
    UNIT_CHECK(berth__primary.records + records <= berth__primary.slots);
}

static void a_span_of_any_size_has_room_for_its_table_and_records(void **state) {
    /* The last entries would lie in the first records. */
    (void)state;
    static const size_t slots[] = {4, 5, 31, 256, 4096, 8525, 16382, 17050, 23571, 262144};
    static const size_t pages[] = {0, 16384, 65536};
    /* A sanitizer's own memory may leave no room for the TiB of the last. */
    unsigned cases = BERTH_ARRAY_COUNT(slots) - UNIT_SANITIZED;
    for (unsigned i = 0; i < cases; i++) {
        for (unsigned p = 0; p < BERTH_ARRAY_COUNT(pages); p++) {
            size_t sizes[] = {slots[i], pages[p]};
            assert_int_equal(unit_in_child(shape, sizes), 0);
        }
    }
}

static void open_all_slots(void *page_bytes) {
    prepare();
    berth__pages_init(*(size_t *)page_bytes);
    UNIT_CHECK(berth__space_init(SMALLEST * 16));
    uint64_t before = berth__meta_bytes();
    struct berth__chunk *first = take(berth__primary.slots_bytes / BERTH_CHUNK);
    struct unit_range head = unit_range_read(
        berth__primary.base, (size_t)(berth__primary.slots - berth__primary.base), false);
    struct unit_range slots =
        unit_range_read(berth__primary.slots, berth__primary.slots_bytes, false);
    UNIT_CHECK(slots.writable == 0); /* nothing is mapped that was not charged */
    size_t count = berth__primary.slots_bytes / BERTH_CHUNK;
    size_t elsewhere = BERTH_HARDENED ? berth__round_up(count * 32768, 65536) : 0; /* handed.h */
    UNIT_CHECK(head.writable >= berth__meta_bytes() - before - elsewhere);
    UNIT_CHECK(berth__meta_bytes() - before - elsewhere <= count * BERTH_RECORD_BYTES + 4 * 65536);
    for (size_t i = 0; i < count; i++) {
        struct berth__chunk *slot = berth__chunk_of(first->at + i * BERTH_CHUNK);
        slot->run_links[BERTH_ARRAY_COUNT(slot->run_links) - 1].page = 1; /* its record is usable */
        berth__entries_set(slot->at, BERTH_CHUNK_UNITS, 1 + i);
    }
    for (size_t i = 0; i < count; i++) {
        UNIT_CHECK(berth__load_relaxed(berth__entry_find(first->at + i * BERTH_CHUNK)) == 1 + i);
        UNIT_CHECK(berth__chunk_of(first->at + i * BERTH_CHUNK)->at == first->at + i * BERTH_CHUNK);
    }
}

static void opening_slots_makes_their_records_usable_and_nothing_else(void **state) {
    /* Metadata would run over into slots, or records crash when they are used. */
    (void)state;
    static const size_t pages[] = {0, 16384, 65536};
    for (unsigned p = 0; p < BERTH_ARRAY_COUNT(pages); p++) {
        size_t page_bytes = pages[p];
        assert_int_equal(unit_in_child(open_all_slots, &page_bytes), 0);
    }
}

/* ---- where the kernel refuses ---- */

#if BERTH_FAULTS
static void refuse_reservations(void *unused) {
    (void)unused;
    prepare();
    UNIT_CHECK(berth__meta_alloc(64) != NULL); /* its segment is there */
    berth__os_fail_after(BERTH_OS_RESERVE, 0, 10);
    UNIT_CHECK(berth__space_init(0));
    UNIT_CHECK(berth__primary.slots_bytes == (size_t)1 << 30);
    struct berth__chunk *first = take(250);
    struct berth__chunk *further = take(100); /* more than is left: a second span */
    UNIT_CHECK(further->span != first->span);
    UNIT_CHECK(berth__entry_find(further->at) != NULL);
    UNIT_CHECK(berth__chunk_of(further->at + BERTH_CHUNK) == berth__chunk_next(further));
    berth__entries_set(further->at, 64, 9);
    UNIT_CHECK(berth__load_relaxed(berth__entry_find(further->at + 63 * BERTH_UNIT)) == 9);
    UNIT_CHECK(take_at(further->at + 100 * BERTH_CHUNK, 1));
    UNIT_CHECK(take(6)->span == first->span);
    UNIT_CHECK(take(1000)->span != further->span); /* more than a span usually has */
}

static void refuse_everything(void *unused) {
    (void)unused;
    prepare();
    UNIT_CHECK(berth__meta_alloc(64) != NULL);
    uint64_t before = berth__meta_bytes();
    berth__os_fail_after(BERTH_OS_RESERVE, 0, UINT64_MAX);
    UNIT_CHECK(!berth__space_init(0));
    UNIT_CHECK(berth__primary.units == 0);
    berth__os_fail_after(BERTH_OS_RESERVE, 0, 0);
    for (uint64_t skip = 0; skip < 2; skip++) { /* the table, and the map of slots */
        berth__os_fail_after(BERTH_OS_COMMIT, skip, 40);
        UNIT_CHECK(!berth__space_init(SMALLEST));
    }
    UNIT_CHECK(berth__meta_bytes() == before);
    berth__os_fail_after(BERTH_OS_COMMIT, 0, 0);
    UNIT_CHECK(berth__space_init(SMALLEST));
    uint64_t opened = berth__meta_bytes();
    for (uint64_t skip = 0; skip < 2; skip++) {
        berth__os_fail_after(BERTH_OS_COMMIT, skip, UINT64_MAX);
        UNIT_CHECK(berth__slots_take(1) == NULL);
        UNIT_CHECK(!take_at(berth__primary.slots, 1));
    }
    berth__os_fail_after(BERTH_OS_COMMIT, 0, 0);
    UNIT_CHECK(berth__slots_take(1)->at == berth__primary.slots);
    UNIT_CHECK(berth__meta_bytes() > opened);
}
#endif

static void a_kernel_that_refuses_gets_smaller_wishes_and_nothing_is_lost(void **state) {
    /* Under strict overcommit or a small address space the process would not start. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    assert_int_equal(unit_in_child(refuse_reservations, NULL), 0);
    assert_int_equal(unit_in_child(refuse_everything, NULL), 0);
#endif
}

static void start_with_few_addresses(void *unused) {
    (void)unused;
    char line[256];
    size_t pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    UNIT_CHECK(statm != NULL && fgets(line, sizeof(line), statm) != NULL);
    fclose(statm);
    UNIT_CHECK(sscanf(line, "%zu", &pages) == 1);
    prepare();
    struct rlimit limit = {.rlim_cur = pages * 4096 + 400 * MIB, .rlim_max = RLIM_INFINITY};
    UNIT_CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    bool started = berth__space_init(0);
    size_t slots = 0;
    while (started && slots < 200 && berth__slots_take(1) != NULL) {
        slots++;
    }
    limit.rlim_cur = RLIM_INFINITY;
    UNIT_CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    UNIT_CHECK(started);
    UNIT_CHECK(slots >= 80 && slots < 100); /* most of the 400 MiB, in spans of halved sizes */
}

static void within_a_limit_on_addresses_spans_use_what_is_left(void **state) {
    /* A process under RLIMIT_AS would fail with most of it free. */
    (void)state;
    assert_int_equal(unit_in_child(start_with_few_addresses, NULL), 0);
}

static void use_up_spans(void *unused) {
    (void)unused;
    start(SMALLEST);
    char *area = berth__pages_reserve(256 * BERTH_UNIT, BERTH_UNIT);
    struct berth__span *lent[BERTH_SPANS_MAX];
    for (unsigned i = 0; i < BERTH_SPANS_MAX - 1; i++) {
        lent[i] = berth__span_lend(area + i * BERTH_UNIT, BERTH_UNIT);
        UNIT_CHECK(lent[i] != NULL);
    }
    uint64_t before = berth__meta_bytes();
    UNIT_CHECK(berth__span_lend(area + 255 * BERTH_UNIT, BERTH_UNIT) == NULL);
    UNIT_CHECK(berth__slots_take(4) != NULL);
    uint64_t opened = berth__meta_bytes();
    UNIT_CHECK(berth__slots_take(1) == NULL); /* full, and no room for another span */
    UNIT_CHECK(berth__meta_bytes() == opened);
    for (unsigned i = 0; i < BERTH_SPANS_MAX - 1; i++) {
        berth__span_return(lent[i]);
    }
    UNIT_CHECK(berth__meta_bytes() <= before);
    UNIT_CHECK(berth__slots_take(1) != NULL);
}

static void when_there_are_as_many_spans_as_may_be_no_more_is_counted(void **state) {
    /* The metadata would seem to grow with each failing allocation. */
    (void)state;
    assert_int_equal(unit_in_child(use_up_spans, NULL), 0);
}

/* ---- lent memory ---- */

static void lend_and_return(void *unused) {
    (void)unused;
    start(SMALLEST);
    uint64_t before = berth__meta_bytes();
    char *area = berth__pages_reserve(12 * MIB, BERTH_UNIT);
    UNIT_CHECK(berth__pages_commit(area, 12 * MIB) == 0);
    UNIT_CHECK(berth__span_lend(area, BERTH_UNIT - 1) == NULL);
    UNIT_CHECK(berth__span_lend(area + 1, BERTH_UNIT) == NULL); /* no whole unit */
    struct berth__span *span = berth__span_lend(area + 100, 9 * MIB);
    UNIT_CHECK(span != NULL && span->lent && span->slot_count == 3);
    UNIT_CHECK(berth__span_lend(area + BERTH_UNIT, MIB) == NULL); /* it is lent already */
    UNIT_CHECK(berth__span_lend(area, 2 * BERTH_UNIT) == NULL);   /* the end of it is */
    UNIT_CHECK(berth__span_lend(area, 12 * MIB) == NULL);
    UNIT_CHECK(!berth__span_can_be_lent(area + 9 * MIB - BERTH_UNIT, MIB));
    UNIT_CHECK(berth__span_can_be_lent(area, BERTH_UNIT));
    UNIT_CHECK(berth__span_can_be_lent(area + 9 * MIB, MIB));
    UNIT_CHECK(span->slots == area + BERTH_UNIT);
    struct berth__chunk *first = berth__chunk_find(span->slots);
    struct berth__chunk *last = berth__chunk_next(berth__chunk_next(first));
    UNIT_CHECK(first->committed == BERTH_CHUNK && berth__chunk_units(first) == BERTH_CHUNK_UNITS);
    UNIT_CHECK(last->at == first->at + 2 * BERTH_CHUNK);
    UNIT_CHECK(last->committed == MIB - BERTH_UNIT && berth__chunk_units(last) == 15);
    UNIT_CHECK(berth__entry_find(area) == NULL); /* before its first unit */
    UNIT_CHECK(berth__chunk_of(last->at + 70000) == last);
    berth__entries_set(last->at, 15, 5);
    UNIT_CHECK(berth__load_relaxed(berth__entry_find(last->at + 14 * BERTH_UNIT)) == 5);
    UNIT_CHECK(!take_at(last->at, 1));
    UNIT_CHECK(take(1)->span != span); /* it serves its own pool alone */
    uint64_t opened = berth__meta_bytes();
    berth__span_return(span);
    UNIT_CHECK(berth__meta_bytes() < opened && berth__meta_bytes() >= before);
    UNIT_CHECK(berth__entry_find(area + BERTH_UNIT) == NULL);
    span = berth__span_lend(area, 12 * MIB);
    UNIT_CHECK(span != NULL && span->slots == area && berth__chunk_find(area)->at == area);
    UNIT_CHECK(berth__load_relaxed(berth__entry_find(area)) == 0);
}

static void memory_that_is_lent_to_us_is_cut_to_whole_units(void **state) {
    /* Pools on the caller's memory would write beside it. */
    (void)state;
    assert_int_equal(unit_in_child(lend_and_return, NULL), 0);
}

#if BERTH_FAULTS
static void lend_without_metadata(void *unused) {
    (void)unused;
    start(SMALLEST);
    char *area = berth__pages_reserve(MIB, BERTH_UNIT);
    uint64_t before = berth__meta_bytes();
    berth__os_fail_after(BERTH_OS_RESERVE, 0, 1);
    UNIT_CHECK(berth__span_lend(area, MIB) == NULL);
    berth__os_fail_after(BERTH_OS_COMMIT, 0, 1);
    UNIT_CHECK(berth__span_lend(area, MIB) == NULL);
    UNIT_CHECK(berth__meta_bytes() == before);
    UNIT_CHECK(berth__span_lend(area, MIB) != NULL);
}
#endif

static void lending_without_metadata_is_refused_and_leaves_nothing(void **state) {
    /* A pool would be made on a description that is not there. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    assert_int_equal(unit_in_child(lend_without_metadata, NULL), 0);
#endif
}

/* ---- all of it ---- */

static void count_record(void *context, struct berth__chunk *record) {
    unsigned *counts = context;
    counts[0]++;
    counts[1] += berth__load_relaxed(&record->use) == BERTH_SLOT_CHUNK;
}

static void visit_slots(void *unused) {
    (void)unused;
    start(SMALLEST);
    char *area = berth__pages_reserve(5 * MIB, BERTH_UNIT);
    unsigned counts[2] = {0, 0};
    berth__slots_visit(count_record, counts);
    UNIT_CHECK(counts[0] == 0);
    struct berth__chunk *third = berth__chunk_next(berth__chunk_next(take(3)));
    berth__store_release(&third->use, BERTH_SLOT_CHUNK);
    struct berth__span *span = berth__span_lend(area, 5 * MIB);
    berth__slots_visit(count_record, counts);
    UNIT_CHECK(counts[0] == 5 && counts[1] == 1);
    berth__span_return(span);
    berth__slots_visit(count_record, counts);
    UNIT_CHECK(counts[0] == 8);
}

static void a_visit_sees_every_slot_that_was_ever_used(void **state) {
    /* Audits and maps of memory would miss some. */
    (void)state;
    assert_int_equal(unit_in_child(visit_slots, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slot_and_its_entries_are_found_by_any_address_in_it),
        cmocka_unit_test(an_address_that_is_not_ours_is_told_apart),
        cmocka_unit_test(the_lowest_gap_that_is_long_enough_is_taken),
        cmocka_unit_test(slots_at_chosen_addresses_are_taken_if_all_are_free),
        cmocka_unit_test(a_span_of_any_size_has_room_for_its_table_and_records),
        cmocka_unit_test(opening_slots_makes_their_records_usable_and_nothing_else),
        cmocka_unit_test(a_kernel_that_refuses_gets_smaller_wishes_and_nothing_is_lost),
        cmocka_unit_test(within_a_limit_on_addresses_spans_use_what_is_left),
        cmocka_unit_test(when_there_are_as_many_spans_as_may_be_no_more_is_counted),
        cmocka_unit_test(memory_that_is_lent_to_us_is_cut_to_whole_units),
        cmocka_unit_test(lending_without_metadata_is_refused_and_leaves_nothing),
        cmocka_unit_test(a_visit_sees_every_slot_that_was_ever_used),
    };
    return UNIT_RUN(tests);
}
