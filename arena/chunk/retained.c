#include "chunk/retained.h"

#include "base/check.h"
#include "chunk/ledger.h"
#include "chunk/transit.h"
#include "os/clock.h"
#include "os/pages.h"

struct berth__lock berth__tails_lock;

/* Least recently used first. */
static struct berth__list retained BERTH_GUARDED_BY(berth__slots_lock) = {&retained, &retained};
static struct berth__list tails BERTH_GUARDED_BY(berth__tails_lock) = {&tails, &tails};
static struct berth__list files BERTH_GUARDED_BY(berth__tails_lock) = {&files, &files};
static _Atomic uint64_t retained_bytes;

void berth__retained_init(void) {
    berth__lock_init(&berth__tails_lock, BERTH_RANK_TAILS);
}

uint64_t berth__retained_bytes(void) {
    return berth__load_relaxed(&retained_bytes);
}

static uint32_t now_ms(void) {
    return (uint32_t)berth__clock_coarse_ms();
}

void berth__retained_add_locked(struct berth__chunk *slot) {
    if (slot->committed > 0) {
        slot->retained_ms = now_ms();
        berth__list_push_back(&retained, &slot->link);
        berth__add_relaxed(&retained_bytes, slot->committed);
    }
}

void berth__retained_remove_locked(struct berth__chunk *slot) {
    berth__list_remove(&slot->link);
    berth__sub_relaxed(&retained_bytes, slot->committed);
}

/* Takes the oldest retained slot, if it is old enough, and those that follow it without a gap, as
 * one stretch to unmap. Returns the number of slots. */
static size_t take_oldest_locked(size_t bytes, uint32_t age_ms, struct berth__chunk **first)
    BERTH_REQUIRES(berth__slots_lock) {
    struct berth__list *oldest = berth__list_first(&retained);
    if (oldest == NULL) {
        return 0;
    }
    struct berth__chunk *record = BERTH_LIST_ENTRY(oldest, struct berth__chunk, link);
    if (now_ms() - record->retained_ms < age_ms) {
        return 0;
    }
    struct berth__span *span = record->span;
    size_t slot = berth__slot_of(span, record->at);
    size_t count = 1;
    size_t total = record->committed;
    size_t open = berth__load_relaxed(&span->slots_open);
    while (record->committed == BERTH_CHUNK && total < bytes && slot + count < open) {
        record = berth__slot_record(span, slot + count);
        if (berth__bit_test(span->used, slot + count) || record->committed == 0) {
            break;
        }
        total += record->committed;
        count++;
    }
    *first = berth__slot_record(span, slot);
    berth__slots_mark_locked(span, slot, count);
    return count;
}

/* Unmaps what is committed in `count` slots in a row, all but the last one whole. */
static size_t unmap_slots(struct berth__chunk *first, size_t count) {
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes +=
            berth__slot_record(first->span, berth__slot_of(first->span, first->at) + i)->committed;
    }
    if (berth__pages_decommit(first->at, bytes) != 0) {
        (void)berth__pages_purge(first->at, bytes); /* too many mappings: at least no memory */
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        berth__slot_record(first->span, berth__slot_of(first->span, first->at) + i)->committed = 0;
    }
    berth__ledger_uncharge(&berth__ledger, bytes);
    return bytes;
}

static size_t release_oldest(size_t bytes, uint32_t age_ms) {
    struct berth__chunk *first = NULL;
    berth__transit_begin();
    berth__lock_acquire(&berth__slots_lock);
    size_t count = take_oldest_locked(bytes, age_ms, &first);
    berth__lock_release(&berth__slots_lock);
    size_t unmapped = count == 0 ? 0 : unmap_slots(first, count);
    if (count > 0) {
        berth__slots_give(first, count);
    }
    berth__transit_end();
    return unmapped;
}

/* ---- tails ---- */

void berth__tail_keep(struct berth__chunk *first, struct berth__chunk *last, size_t bytes) {
    berth__lock_acquire(&berth__tails_lock);
    first->retained_ms = now_ms();
    first->huge.last = last;
    berth__list_push_back(&tails, &first->link);
    berth__add_relaxed(&retained_bytes, bytes);
    berth__store_release(&first->huge.tail, bytes); /* T1 */
    berth__lock_release(&berth__tails_lock);
}

static void forget_tail_locked(struct berth__chunk *first) BERTH_REQUIRES(berth__tails_lock) {
    berth__list_remove(&first->link);
    berth__sub_relaxed(&retained_bytes, berth__load_relaxed(&first->huge.tail));
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

/* Unmaps the oldest tail, if it is old enough. Returns its bytes. */
static size_t trim_oldest(uint32_t age_ms) {
    size_t bytes = 0;
    berth__transit_begin();
    berth__lock_acquire(&berth__tails_lock);
    struct berth__list *oldest = berth__list_first(&tails);
    if (oldest != NULL) {
        struct berth__chunk *first = BERTH_LIST_ENTRY(oldest, struct berth__chunk, link);
        struct berth__chunk *last = first->huge.last;
        size_t tail = berth__load_relaxed(&first->huge.tail);
        if (now_ms() - first->retained_ms >= age_ms &&
            berth__pages_decommit(last->at + last->committed - tail, tail) == 0) {
            last->committed -= tail;
            forget_tail_locked(first);
            bytes = tail;
        }
    }
    berth__lock_release(&berth__tails_lock);
    if (bytes > 0) {
        berth__ledger_uncharge(&berth__ledger, bytes);
    }
    berth__transit_end();
    return bytes;
}

/* ---- files ---- */

void berth__retained_add_file(struct berth__chunk *first, size_t bytes) {
    berth__lock_acquire(&berth__tails_lock);
    first->huge.bytes = bytes;
    berth__list_push_back(&files, &first->link);
    berth__add_relaxed(&retained_bytes, bytes);
    berth__lock_release(&berth__tails_lock);
}

/* Tries again to unmap the oldest file. Returns its bytes. */
static size_t unmap_file(void) {
    berth__transit_begin();
    berth__lock_acquire(&berth__tails_lock);
    struct berth__list *oldest = berth__list_first(&files);
    struct berth__chunk *first =
        oldest == NULL ? NULL : BERTH_LIST_ENTRY(oldest, struct berth__chunk, link);
    size_t bytes = first == NULL ? 0 : first->huge.bytes;
    if (bytes > 0 && berth__pages_decommit(first->at, bytes) != 0) {
        bytes = 0;
    }
    if (bytes > 0) {
        berth__list_remove(&first->link);
        berth__sub_relaxed(&retained_bytes, bytes);
    }
    berth__lock_release(&berth__tails_lock);
    if (bytes > 0) {
        berth__slots_give(first, (bytes + BERTH_CHUNK - 1) / BERTH_CHUNK);
        berth__ledger_uncharge(&berth__ledger, bytes);
    }
    berth__transit_end();
    return bytes;
}

size_t berth__retained_release(size_t bytes, uint32_t age_ms) {
    size_t released = 0;
    while (released < bytes) {
        size_t more = release_oldest(bytes - released, age_ms);
        more = more == 0 ? trim_oldest(age_ms) : more;
        more = more == 0 ? unmap_file() : more;
        if (more == 0) {
            break;
        }
        released += more;
    }
    return released;
}
