#include "chunk/retained.h"

#include "base/check.h"
#include "chunk/ledger.h"
#include "chunk/mappings.h"
#include "chunk/transit.h"
#include "os/clock.h"
#include "os/pages.h"

struct berth__lock berth__tails_lock;

/* Least recently used first; and hollow ones, those tried last at the end. */
static struct berth__list retained BERTH_GUARDED_BY(berth__slots_lock) = {&retained, &retained};
static struct berth__list hollow BERTH_GUARDED_BY(berth__slots_lock) = {&hollow, &hollow};
static struct berth__list tails BERTH_GUARDED_BY(berth__tails_lock) = {&tails, &tails};
static struct berth__list hollow_tails BERTH_GUARDED_BY(berth__tails_lock) = {&hollow_tails,
                                                                              &hollow_tails};
static struct berth__list stuck BERTH_GUARDED_BY(berth__tails_lock) = {&stuck, &stuck};
static _Atomic uint64_t resident_bytes; /* in the first list of each kind */
static _Atomic uint64_t hollow_bytes;   /* in the others */
static _Atomic uint64_t hollow_count;   /* slots and tails */

void berth__retained_init(void) {
    berth__lock_init(&berth__tails_lock, BERTH_RANK_TAILS);
}

uint64_t berth__retained_bytes(void) {
    return berth__load_relaxed(&resident_bytes);
}

uint64_t berth__retained_charged(void) {
    return berth__load_relaxed(&resident_bytes) + berth__load_relaxed(&hollow_bytes);
}

static uint32_t now_ms(void) {
    return (uint32_t)berth__clock_coarse_ms();
}

static void count_in(bool is_hollow, size_t bytes) {
    berth__add_relaxed(is_hollow ? &hollow_bytes : &resident_bytes, bytes);
    berth__add_relaxed(&hollow_count, is_hollow);
}

static void count_out(bool is_hollow, size_t bytes) {
    berth__sub_relaxed(is_hollow ? &hollow_bytes : &resident_bytes, bytes);
    berth__sub_relaxed(&hollow_count, is_hollow);
}

void berth__retained_add_locked(struct berth__chunk *slot) {
    if (slot->committed > 0) {
        slot->retained_ms = now_ms();
        count_in(slot->hollow, slot->committed); /* first: a fork that comes between counts more */
        berth__list_push_back(slot->hollow ? &hollow : &retained, &slot->link);
    }
}

void berth__retained_remove_locked(struct berth__chunk *slot) {
    if (slot->committed > 0) {
        berth__list_remove(&slot->link);
        count_out(slot->hollow, slot->committed);
        slot->hollow = false;
    }
}

/* What is being released. */
struct release {
    size_t bytes; /* wanted */
    uint32_t age_ms;
    enum berth__mappings_purpose purpose;
    size_t returned;  /* so far: what held memory, */
    size_t uncharged; /* and what is not charged any more */
};

static bool is_enough(const struct release *release) {
    size_t done =
        release->purpose == BERTH_MAPPINGS_TO_SAVE ? release->returned : release->uncharged;
    return done >= release->bytes;
}

static void note_given(struct release *release, enum berth__given given, size_t bytes,
                       bool was_hollow) {
    release->uncharged += given == BERTH_UNMAPPED ? bytes : 0;
    release->returned += given == BERTH_STAYED || was_hollow ? 0 : bytes;
}

/* ---- slots ---- */

/* Takes the first slot of a list, if it is old enough, and those of the same list that follow it
 * without a gap, as one stretch to unmap. Returns the number of slots. */
static size_t take_first_locked(const struct release *release, bool is_hollow,
                                struct berth__chunk **first) BERTH_REQUIRES(berth__slots_lock) {
    struct berth__list *oldest = berth__list_first(is_hollow ? &hollow : &retained);
    if (oldest == NULL) {
        return 0;
    }
    struct berth__chunk *record = BERTH_LIST_ENTRY(oldest, struct berth__chunk, link);
    if (now_ms() - record->retained_ms < release->age_ms) {
        return 0;
    }
    struct berth__span *span = record->span;
    size_t slot = berth__slot_of(span, record->at);
    size_t count = 1;
    size_t total = record->committed;
    size_t open = berth__load_relaxed(&span->slots_open);
    while (record->committed == BERTH_CHUNK && total < release->bytes && slot + count < open) {
        record = berth__slot_record(span, slot + count);
        if (berth__bit_test(span->used, slot + count) || record->committed == 0 ||
            record->hollow != is_hollow) {
            break;
        }
        total += record->committed;
        count++;
    }
    *first = berth__slot_record(span, slot);
    berth__slots_mark_locked(span, slot, count);
    return count;
}

static struct berth__chunk *nth(struct berth__chunk *first, size_t i) {
    return berth__slot_record(first->span, berth__slot_of(first->span, first->at) + i);
}

/* Gives up what is committed in `slots` slots in a row, all but the last one whole. */
static enum berth__given give_up_slots(struct release *release, struct berth__chunk *first,
                                       size_t slots, bool is_hollow) {
    size_t bytes = (slots - 1) * BERTH_CHUNK + nth(first, slots - 1)->committed;
    enum berth__given given =
        is_hollow && !berth__mappings_allow(first->at, slots, 0, 0, release->purpose)
            ? BERTH_EMPTIED
            : berth__mappings_decommit(first->at, slots, 0, bytes, release->purpose);
    for (size_t i = 0; i < slots; i++) {
        struct berth__chunk *slot = nth(first, i);
        slot->committed = given == BERTH_UNMAPPED ? 0 : slot->committed;
        slot->hollow = given == BERTH_EMPTIED;
    }
    if (given == BERTH_UNMAPPED) {
        berth__ledger_uncharge(&berth__ledger, bytes);
    }
    note_given(release, given, bytes, is_hollow);
    return given;
}

/* False if there are no more, or trying again would not help. */
static bool release_slots(struct release *release, bool is_hollow) {
    struct berth__chunk *first = NULL;
    enum berth__given given = BERTH_STAYED;
    berth__transit_begin();
    berth__lock_acquire(&berth__slots_lock);
    size_t slots = take_first_locked(release, is_hollow, &first);
    berth__lock_release(&berth__slots_lock);
    if (slots > 0) {
        given = give_up_slots(release, first, slots, is_hollow);
        berth__slots_give(first, slots);
    }
    berth__transit_end();
    return given != BERTH_STAYED;
}

/* ---- tails ---- */

static void keep_tail_locked(struct berth__chunk *first, size_t bytes, bool is_hollow)
    BERTH_REQUIRES(berth__tails_lock) {
    first->retained_ms = now_ms();
    first->hollow = is_hollow;
    berth__list_push_back(is_hollow ? &hollow_tails : &tails, &first->link);
    count_in(is_hollow, bytes);
    berth__store_release(&first->huge.tail, bytes); /* T1 */
}

void berth__tail_keep(struct berth__chunk *first, struct berth__chunk *last, size_t bytes) {
    berth__lock_acquire(&berth__tails_lock);
    first->huge.last = last;
    keep_tail_locked(first, bytes, false);
    berth__lock_release(&berth__tails_lock);
}

static void forget_tail_locked(struct berth__chunk *first) BERTH_REQUIRES(berth__tails_lock) {
    berth__list_remove(&first->link);
    count_out(first->hollow, berth__load_relaxed(&first->huge.tail));
    first->hollow = false;
    berth__store_release(&first->huge.tail, 0); /* T2: after the trimmer's system call */
}

size_t berth__tail_take(struct berth__chunk *first) {
    if (berth__load_acquire(&first->huge.tail) == 0) { /* acquires T2 */
        return 0;
    }
    berth__lock_acquire(&berth__tails_lock);
    size_t bytes = berth__load_relaxed(&first->huge.tail);
    if (bytes != 0) {
        forget_tail_locked(first);
    }
    berth__lock_release(&berth__tails_lock);
    return bytes;
}

/* Gives up a tail. What stays goes to the end of the list that it belongs to now. */
static enum berth__given give_up_tail_locked(struct release *release, struct berth__chunk *first)
    BERTH_REQUIRES(berth__tails_lock) {
    struct berth__chunk *last = first->huge.last;
    size_t tail = berth__load_relaxed(&first->huge.tail);
    size_t keep = last->committed - tail;
    bool was_hollow = first->hollow;
    enum berth__given given =
        was_hollow && !berth__mappings_allow(last->at, 1, keep, 0, release->purpose)
            ? BERTH_EMPTIED
            : berth__mappings_decommit(last->at, 1, keep, last->committed, release->purpose);
    note_given(release, given, tail, was_hollow);
    if (given == BERTH_UNMAPPED) {
        last->committed = keep;
        forget_tail_locked(first);
    } else {
        berth__list_remove(&first->link);
        count_out(was_hollow, tail);
        keep_tail_locked(first, tail, given == BERTH_EMPTIED);
    }
    return given;
}

/* The oldest tail, if it is old enough. False: as for slots. */
static bool release_tail(struct release *release, bool is_hollow) {
    enum berth__given given = BERTH_STAYED;
    size_t before = release->uncharged;
    berth__transit_begin();
    berth__lock_acquire(&berth__tails_lock);
    struct berth__list *oldest = berth__list_first(is_hollow ? &hollow_tails : &tails);
    if (oldest != NULL) {
        struct berth__chunk *first = BERTH_LIST_ENTRY(oldest, struct berth__chunk, link);
        if (now_ms() - first->retained_ms >= release->age_ms) {
            given = give_up_tail_locked(release, first);
        }
    }
    berth__lock_release(&berth__tails_lock);
    if (release->uncharged > before) {
        berth__ledger_uncharge(&berth__ledger, release->uncharged - before);
    }
    berth__transit_end();
    return given != BERTH_STAYED;
}

/* ---- what is stuck ---- */

void berth__retained_add_stuck(struct berth__chunk *first, size_t slots, size_t bytes) {
    berth__lock_acquire(&berth__tails_lock);
    first->huge.bytes = bytes;
    first->huge.slots = slots;
    berth__list_push_back(&stuck, &first->link);
    berth__add_relaxed(&hollow_bytes, bytes);
    berth__lock_release(&berth__tails_lock);
}

void berth__retained_lose(size_t bytes) {
    berth__add_relaxed(&hollow_bytes, bytes);
}

/* Tries again to unmap the oldest. False if there is none, or it is still stuck. */
static bool release_stuck(struct release *release) {
    size_t bytes = 0;
    berth__transit_begin();
    berth__lock_acquire(&berth__tails_lock);
    struct berth__list *oldest = berth__list_first(&stuck);
    struct berth__chunk *first =
        oldest == NULL ? NULL : BERTH_LIST_ENTRY(oldest, struct berth__chunk, link);
    size_t slots = first == NULL ? 0 : first->huge.slots;
    if (first != NULL && berth__pages_decommit(first->at, slots * BERTH_CHUNK) == 0) {
        bytes = first->huge.bytes;
        berth__list_remove(&first->link);
        berth__sub_relaxed(&hollow_bytes, bytes);
    }
    berth__lock_release(&berth__tails_lock);
    if (bytes > 0) {
        berth__mappings_set(first->at, slots, 0, 0);
        berth__slots_give(first, slots);
        berth__ledger_uncharge(&berth__ledger, bytes);
        note_given(release, BERTH_UNMAPPED, bytes, false);
    }
    berth__transit_end();
    return bytes > 0;
}

/* ---- all of it ---- */

/* Each hollow one is tried once; others may become hollow meanwhile. */
static void release_rest(struct release *release) {
    uint64_t tries = berth__load_relaxed(&hollow_count);
    for (uint64_t i = 0; i < tries && !is_enough(release) && release_slots(release, true); i++) {
    }
    for (uint64_t i = 0; i < tries && !is_enough(release) && release_tail(release, true); i++) {
    }
    while (!is_enough(release) && release_stuck(release)) {
    }
}

static void release_all(struct release *release) {
    while (!is_enough(release) && release_slots(release, false)) {
    }
    while (!is_enough(release) && release_tail(release, false)) {
    }
}

size_t berth__retained_release(size_t bytes, uint32_t age_ms) {
    struct release release = {.bytes = bytes, .age_ms = age_ms, .purpose = BERTH_MAPPINGS_TO_SAVE};
    release_all(&release);
    if (bytes == SIZE_MAX) {
        release_rest(&release);
    }
    return release.returned;
}

size_t berth__retained_uncharge(size_t bytes) {
    struct release release = {.bytes = bytes, .purpose = BERTH_MAPPINGS_TO_SERVE};
    release_all(&release);
    release_rest(&release);
    return release.uncharged;
}

/* ---- in the child of a fork that cut off a change ---- */

void berth__retained_mend_in_child(void) BERTH_NO_TSA {
    berth__list_mend(&retained);
    berth__list_mend(&hollow);
}

static void forget_tails(struct berth__list *list) BERTH_NO_TSA {
    berth__list_mend(list);
    while (!berth__list_empty(list)) {
        struct berth__chunk *first = BERTH_LIST_ENTRY(list->next, struct berth__chunk, link);
        berth__list_remove(&first->link);
        count_out(first->hollow, berth__load_relaxed(&first->huge.tail));
    }
}

/* The tail of a block is there or not, as it says itself; its memory may be unmapped already. A
 * block that was about to end in another slot belongs to a thread that is gone. */
static void keep_again(void *context, struct berth__chunk *first) BERTH_NO_TSA {
    (void)context;
    size_t tail = berth__load_relaxed(&first->huge.tail);
    if (berth__load_acquire(&first->use) != BERTH_SLOT_HUGE || tail == 0) {
        return;
    }
    struct berth__chunk *last = first->huge.last;
    size_t keep = first->huge.bytes - (size_t)(last->at - first->at);
    bool is_last = keep <= BERTH_CHUNK - tail;
    if (is_last && berth__pages_commit(last->at + keep, tail) == 0) {
        last->committed = keep + tail;
        keep_tail_locked(first, tail, false);
        return;
    }
    last->committed = is_last ? keep : last->committed;
    berth__store_release(&first->huge.tail, 0);
    berth__retained_lose(tail);
}

void berth__tails_mend_in_child(void) BERTH_NO_TSA {
    berth__list_mend(&stuck);
    forget_tails(&tails);
    forget_tails(&hollow_tails);
    berth__slots_visit(keep_again, NULL);
}
