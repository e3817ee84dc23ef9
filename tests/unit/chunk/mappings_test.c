/*
 * The count of mappings against the kernel's own, while slots are filled, emptied and moved at
 * random; and what is allowed near the bound. Each test runs in a child, as a process has one
 * primary span.
 */
#include "chunk/mappings.h"

#include "chunk/chunk.h"
#include "chunk/ledger.h"
#include "chunk/meta.h"
#include "chunk/retained.h"
#include "chunk/wait.h"
#include "maps.h"
#include "os/pages.h"

enum { MIB = 1 << 20, SLOTS = 40, ROUNDS = 4000 };

static char *slots;          /* SLOTS of them, with a free one on either side */
static size_t held[SLOTS];   /* bytes committed in each */
static uint64_t count_empty; /* when none of them holds anything */
static struct unit_random random_state = {5};

static void start(void) {
    berth__pages_init(0);
    berth__meta_init();
    berth__wait_init();
    UNIT_CHECK(berth__space_init(256 * MIB));
    UNIT_CHECK(berth__slots_take(1) != NULL);
    struct berth__chunk *first = berth__slots_take(SLOTS);
    UNIT_CHECK(first != NULL);
    slots = first->at;
    count_empty = berth__mappings_count();
}

static char *slot_at(size_t i) {
    return slots + i * BERTH_CHUNK;
}

static size_t part_of(size_t bytes, size_t i) {
    return bytes <= i * BERTH_CHUNK ? 0 : berth__min(bytes - i * BERTH_CHUNK, BERTH_CHUNK);
}

/* Places where a mapping ends, in the kernel's view and in ours. */
static uint64_t real_ends(void) {
    return unit_range_read(slots - MIB, SLOTS * BERTH_CHUNK + 2 * MIB, false).mappings - 1;
}

static uint64_t counted_ends(void) {
    return berth__mappings_count() - count_empty;
}

/* ---- what happens to slots ---- */

enum { KINDS = 3 };

static void commit(size_t slot, size_t count, size_t bytes, uint32_t kind) {
    for (size_t i = 0; i < count; i++) {
        size_t wanted = part_of(bytes, i);
        if (wanted > held[slot + i]) {
            char *from = slot_at(slot + i) + held[slot + i];
            size_t more = wanted - held[slot + i];
            UNIT_CHECK(berth__pages_commit(from, more) == 0);
            if (kind != 0) {
                berth__pages_want_huge(from, more, kind == 1);
            }
        }
        held[slot + i] = berth__max(held[slot + i], wanted);
    }
    size_t all = (count - 1) * BERTH_CHUNK + held[slot + count - 1];
    berth__mappings_set(slot_at(slot), count, all, kind);
}

static void shorten(size_t slot, size_t keep) {
    if (held[slot] > keep) {
        UNIT_CHECK(berth__mappings_decommit(slot_at(slot), 1, keep, held[slot],
                                            BERTH_MAPPINGS_TO_SERVE) == BERTH_UNMAPPED);
        held[slot] = keep;
    }
}

static void touch(size_t slot) {
    if (held[slot] > 0) {
        slot_at(slot)[unit_random_below(&random_state, held[slot])] = 1;
    }
}

/* Two slots, the first one full, to two that hold nothing. Older kernels move no memory that lies
 * in several mappings. */
static void move(size_t from, size_t to) {
    bool reserved = true;
    size_t bytes = BERTH_CHUNK + held[from + 1];
    bool overlap = from < to + 2 && to < from + 2;
    if (overlap || held[from] < BERTH_CHUNK || held[to] + held[to + 1] > 0 ||
        berth__pages_move(slot_at(from), slot_at(to), bytes, &reserved) != 0) {
        return;
    }
    UNIT_CHECK(reserved);
    berth__mappings_move(slot_at(from), slot_at(to), bytes);
    held[to] = BERTH_CHUNK;
    held[to + 1] = held[from + 1];
    held[from] = held[from + 1] = 0;
}

static void change_kind(size_t slot, uint32_t kind) {
    if (held[slot] > 0 && kind != 0) {
        berth__pages_want_huge(slot_at(slot), held[slot], kind == 1);
        berth__mappings_change_kind(slot_at(slot), kind);
    }
}

static size_t random_bytes(size_t count) {
    size_t last = 4096 * (1 + unit_random_below(&random_state, BERTH_CHUNK / 4096));
    bool whole = unit_random_below(&random_state, 2) == 0;
    return (count - 1) * BERTH_CHUNK + (whole ? BERTH_CHUNK : last);
}

static void step(void) {
    size_t slot = unit_random_below(&random_state, SLOTS - 3);
    size_t count = 1 + unit_random_below(&random_state, 3);
    uint32_t kind = (uint32_t)unit_random_below(&random_state, KINDS);
    switch (unit_random_below(&random_state, 7)) {
    case 0: commit(slot, count, random_bytes(count), kind); break;
    case 1: shorten(slot, 0); break;
    case 2: shorten(slot, random_bytes(1)); break;
    case 3: move(slot, unit_random_below(&random_state, SLOTS - 2)); break;
    case 4: change_kind(slot, kind); break;
    default: touch(slot); break;
    }
}

/* ---- tests ---- */

static void fill_upwards(void) {
    for (size_t slot = 0; slot < SLOTS; slot++) {
        commit(slot, 1, random_bytes(1), 0);
        touch(slot);
        UNIT_CHECK(real_ends() == counted_ends());
    }
}

static void fill_and_cut(void *unused) {
    (void)unused;
    start();
    for (unsigned round = 0; round < 20; round++) {
        fill_upwards();
        for (unsigned i = 0; i < SLOTS; i++) {
            bool all = unit_random_below(&random_state, 2) == 0;
            shorten(unit_random_below(&random_state, SLOTS), all ? 0 : random_bytes(1));
            UNIT_CHECK(real_ends() == counted_ends());
        }
        for (size_t slot = 0; slot < SLOTS; slot++) {
            shorten(slot, 0);
        }
        UNIT_CHECK(counted_ends() == 0 && real_ends() == 0);
    }
}

static void of_what_is_filled_upwards_the_count_is_exact(void **state) {
    /* Memory would be kept, or requests refused, for mappings that do not exist. */
    (void)state;
    assert_int_equal(unit_in_child(fill_and_cut, NULL), 0);
}

static void fill_between(void *unused) {
    (void)unused;
    start();
    commit(2, 1, BERTH_CHUNK, 0);
    commit(0, 1, BERTH_CHUNK, 1);
    slot_at(2)[0] = slot_at(0)[0] = 1;
    commit(1, 1, BERTH_CHUNK, 1);
    UNIT_CHECK(real_ends() <= counted_ends());
    shorten(1, BERTH_CHUNK / 2);
    slot_at(1)[0] = 1;
    commit(1, 1, BERTH_CHUNK, 1);
    UNIT_CHECK(real_ends() <= counted_ends());
}

static void what_gets_its_kind_late_may_not_merge(void **state) {
    /* Such as a chunk of a pool with a policy of its own, among those of others. */
    (void)state;
    assert_int_equal(unit_in_child(fill_between, NULL), 0);
}

static void compare_all(void *unused) {
    (void)unused;
    start();
    uint64_t real = 0;
    uint64_t counted = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        step();
        UNIT_CHECK(real_ends() <= counted_ends());
        real += real_ends();
        counted += counted_ends();
    }
    UNIT_CHECK(counted < real + real / 4); /* nor far fewer */
    for (size_t slot = 0; slot < SLOTS; slot++) {
        shorten(slot, 0);
    }
    UNIT_CHECK(counted_ends() == 0 && real_ends() == 0);
}

static void there_are_never_more_than_are_counted(void **state) {
    /* Policies, moves, and memory that was touched before its neighbour came, would use up what the
     * kernel allows, unnoticed. */
    (void)state;
    assert_int_equal(unit_in_child(compare_all, NULL), 0);
}

static void stay_below(void *unused) {
    (void)unused;
    enum { MOST = 20 };
    start();
    berth__mappings_set_bound(count_empty + MOST);
    unsigned refused = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        size_t slot = unit_random_below(&random_state, SLOTS);
        size_t bytes = unit_random_below(&random_state, 3) == 0 ? 0 : random_bytes(1);
        uint64_t before = counted_ends();
        bool allowed = berth__mappings_allow(slot_at(slot), 1, bytes, 0, BERTH_MAPPINGS_TO_SERVE);
        if (bytes < held[slot] && allowed) {
            shorten(slot, bytes);
        } else if (bytes > held[slot] && allowed) {
            commit(slot, 1, bytes, 0);
        } else if (bytes < held[slot]) { /* it is still there, and empty */
            UNIT_CHECK(berth__mappings_decommit(slot_at(slot), 1, bytes, held[slot],
                                                BERTH_MAPPINGS_TO_SERVE) == BERTH_EMPTIED);
            UNIT_CHECK(unit_range_read(slot_at(slot), held[slot], false).writable == held[slot]);
        }
        refused += !allowed;
        UNIT_CHECK(real_ends() <= MOST);
        UNIT_CHECK(allowed || counted_ends() == before);
    }
    UNIT_CHECK(refused > ROUNDS / 20);
}

static void what_is_not_allowed_would_pass_the_bound(void **state) {
    /* The process would end up without a mapping for a thread's stack. */
    (void)state;
    assert_int_equal(unit_in_child(stay_below, NULL), 0);
}

/* ---- memory that is kept for it ---- */

static uint64_t charged(void) {
    return berth__load_relaxed(&berth__ledger.used);
}

static void fill(size_t slot, size_t bytes) {
    UNIT_CHECK(berth__ledger_charge(&berth__ledger, bytes, 0));
    commit(slot, 1, bytes, 0);
    memset(slot_at(slot), 1, bytes);
    berth__chunk_of(slot_at(slot))->committed = bytes;
}

static void give_back_without_unmapping(void *unused) {
    (void)unused;
    start();
    for (size_t slot = 0; slot < 3; slot++) {
        fill(slot, BERTH_CHUNK);
    }
    berth__mappings_set_bound(berth__mappings_count());
    berth__slots_give_at(slot_at(1), 1);
    UNIT_CHECK(berth__retained_bytes() == BERTH_CHUNK);
    UNIT_CHECK(berth__retained_release(SIZE_MAX, 0) == BERTH_CHUNK);
    UNIT_CHECK(berth__retained_bytes() == 0); /* the decay has nothing more to do */
    UNIT_CHECK(berth__retained_charged() == BERTH_CHUNK && charged() == 3 * BERTH_CHUNK);
    UNIT_CHECK(unit_range_read(slots, 3 * BERTH_CHUNK, true).resident <= 2 * BERTH_CHUNK);
    UNIT_CHECK(berth__retained_release(SIZE_MAX, 0) == 0);
    UNIT_CHECK(berth__retained_uncharge(SIZE_MAX) == 0); /* nor has who needs bytes */
    UNIT_CHECK(charged() == 3 * BERTH_CHUNK);
    berth__slots_give_at(slot_at(2), 1); /* now a row that ends where memory does */
    UNIT_CHECK(berth__retained_uncharge(SIZE_MAX) == 2 * BERTH_CHUNK);
    UNIT_CHECK(berth__retained_charged() == 0 && charged() == BERTH_CHUNK);
    UNIT_CHECK(unit_range_read(slot_at(1), 2 * BERTH_CHUNK, false).writable == 0);
}

static void at_the_bound_memory_goes_back_and_stays_charged(void **state) {
    /* It would be lost to the limit for good, or be counted as returned while it is usable. */
    (void)state;
    assert_int_equal(unit_in_child(give_back_without_unmapping, NULL), 0);
}

static void use_hollow_again(void *unused) {
    (void)unused;
    start();
    for (size_t slot = 0; slot < 3; slot++) {
        fill(slot, BERTH_CHUNK);
    }
    berth__mappings_set_bound(berth__mappings_count());
    berth__slots_give_at(slot_at(1), 1);
    berth__retained_release(SIZE_MAX, 0);
    struct berth__chunk *again = NULL;
    while (again == NULL || again->at != slot_at(1)) {
        again = berth__slots_take(1);
        UNIT_CHECK(again != NULL);
    }
    UNIT_CHECK(again->committed == BERTH_CHUNK && berth__retained_charged() == 0);
    UNIT_CHECK(again->at[0] == 0);
    again->at[0] = 1;
    berth__slots_give(again, 1);
    UNIT_CHECK(berth__retained_bytes() == BERTH_CHUNK); /* it may hold memory again */
}

static void what_was_kept_is_used_again(void **state) {
    /* It would not go back a second time. */
    (void)state;
    assert_int_equal(unit_in_child(use_hollow_again, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_what_is_filled_upwards_the_count_is_exact),
        cmocka_unit_test(what_gets_its_kind_late_may_not_merge),
        cmocka_unit_test(there_are_never_more_than_are_counted),
        cmocka_unit_test(what_is_not_allowed_would_pass_the_bound),
        cmocka_unit_test(at_the_bound_memory_goes_back_and_stays_charged),
        cmocka_unit_test(what_was_kept_is_used_again),
    };
    return UNIT_RUN(tests);
}
