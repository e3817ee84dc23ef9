#include "chunk/mappings.h"

#include "chunk/chunk.h"
#include "os/pages.h"

/* What one change adds at most: a mapping's two ends, and one inside (moved memory that grows). */
enum { CHANGE_MAX = 3 };
static const uint32_t ALONE_FIRST = UINT32_C(1) << 31;

static _Atomic uint64_t count; /* changed under the lock of slots, but for metadata's part */
static _Atomic uint64_t bound = BERTH_MAPPINGS_BOUND;
static uint32_t alone_next BERTH_GUARDED_BY(berth__slots_lock);

uint64_t berth__mappings_count(void) {
    return berth__load_relaxed(&count);
}

void berth__mappings_set_bound(uint64_t most) {
    berth__store_relaxed(&bound, most);
}

void berth__mappings_add(int change) {
    berth__add_relaxed(&count, (uint64_t)(int64_t)change);
}

static struct berth__mapped *mapped_of(const struct berth__span *span, size_t slot)
    BERTH_REQUIRES(berth__slots_lock) {
    return slot < berth__load_relaxed(&span->slots_open) ? &berth__slot_record(span, slot)->mapped
                                                         : NULL;
}

static const struct berth__mapped nothing;

/* Slots that were never used hold nothing. */
static struct berth__mapped copy_of(const struct berth__span *span, size_t slot)
    BERTH_REQUIRES(berth__slots_lock) {
    const struct berth__mapped *mapped = mapped_of(span, slot);
    return mapped == NULL ? nothing : *mapped;
}

static bool meet(const struct berth__mapped *left, const struct berth__mapped *right) {
    return left->bytes == BERTH_CHUNK && right->bytes > 0;
}

/* True if a mapping ends where one slot does and the next begins. */
static bool end_between(const struct berth__mapped *left, const struct berth__mapped *right) {
    return meet(left, right) ? right->joined || left->last != right->first
                             : (left->bytes == BERTH_CHUNK) != (right->bytes > 0);
}

/* Mappings that end at a slot's start, or within it. */
static int64_t ends_in(const struct berth__mapped *left, const struct berth__mapped *slot) {
    bool partly = slot->bytes > 0 && slot->bytes < BERTH_CHUNK;
    return (int64_t)end_between(left, slot) + partly + slot->joints;
}

/* `apart`: what is added may not merge with what is left of it. */
static struct berth__mapped changed(struct berth__mapped slot, size_t bytes, uint32_t kind,
                                    bool apart) {
    if (bytes == 0) {
        return (struct berth__mapped){0};
    }
    if (slot.bytes == 0) {
        return (struct berth__mapped){.bytes = bytes, .first = kind, .last = kind};
    }
    if (bytes > slot.bytes && (kind != slot.last || apart)) {
        slot.joints++;
        slot.last = kind;
    }
    slot.bytes = bytes;
    return slot;
}

/* Memory gets its kind after it was committed, and until then is part of what lies right of it, if
 * that is as the kernel makes it; what was touched there keeps it from merging to the left. */
static bool was_of_right(const struct berth__mapped *before, size_t bytes, uint32_t kind,
                         const struct berth__mapped *right) {
    return before->bytes < bytes && bytes == BERTH_CHUNK && right->bytes > 0 &&
           right->first != kind && right->first < ALONE_FIRST;
}

/* How the count changes when `bytes` from `slot` on are all that is committed of `slots` slots; if
 * it is to be applied, what is known of them changes, too. Stays joined what was, and becomes so
 * what was there before its left neighbour: both may have been touched, and then the kernel does
 * not merge them. Memory that comes after its left neighbour was not. */
static int64_t change_locked(const struct berth__span *span, size_t slot, size_t slots,
                             size_t bytes, uint32_t kind, bool apply)
    BERTH_REQUIRES(berth__slots_lock) {
    struct berth__mapped left_before = slot == 0 ? nothing : copy_of(span, slot - 1);
    struct berth__mapped left_after = left_before;
    int64_t change = 0;
    for (size_t i = 0; i <= slots; i++) {
        struct berth__mapped before = copy_of(span, slot + i);
        struct berth__mapped after = before;
        bool apart = before.joined || (!meet(&left_before, &before) && before.bytes > 0);
        if (i < slots) {
            size_t beyond = i * BERTH_CHUNK;
            size_t here = berth__min(bytes > beyond ? bytes - beyond : 0, BERTH_CHUNK);
            struct berth__mapped right = copy_of(span, slot + i + 1);
            bool of_right = was_of_right(&before, here, kind, &right);
            after = changed(before, here, kind, of_right);
            apart = apart || (of_right && before.bytes == 0);
        }
        after.joined = meet(&left_after, &after) && apart;
        change += ends_in(&left_after, &after) - ends_in(&left_before, &before);
        struct berth__mapped *mapped = apply ? mapped_of(span, slot + i) : NULL;
        if (mapped != NULL) {
            *mapped = after;
        }
        left_before = before;
        left_after = after;
    }
    return change;
}

static uint32_t kind_locked(uint32_t kind) BERTH_REQUIRES(berth__slots_lock) {
    return kind == BERTH_KIND_ALONE ? ALONE_FIRST | alone_next++ : kind;
}

static void set_locked(const char *at, size_t slots, size_t bytes, uint32_t kind)
    BERTH_REQUIRES(berth__slots_lock) {
    const struct berth__span *span = berth__span_find(at);
    size_t slot = berth__slot_of(span, at);
    int64_t change = change_locked(span, slot, slots, bytes, kind_locked(kind), true);
    berth__add_relaxed(&count, (uint64_t)change);
}

void berth__mappings_set(const char *at, size_t slots, size_t bytes, uint32_t kind) {
    berth__lock_acquire(&berth__slots_lock);
    set_locked(at, slots, bytes, kind);
    berth__lock_release(&berth__slots_lock);
}

/* Memory that is there may have been touched: where it meets its neighbours, the kernel keeps it
 * apart, and so where mappings end inside. What moved or is of a file still merges with none. */
void berth__mappings_change_kind(const char *at, uint32_t kind) {
    const struct berth__span *span = berth__span_find(at);
    size_t slot = berth__slot_of(span, at);
    berth__lock_acquire(&berth__slots_lock);
    struct berth__mapped left = slot == 0 ? nothing : copy_of(span, slot - 1);
    struct berth__mapped right = copy_of(span, slot + 1);
    struct berth__mapped *here = mapped_of(span, slot);
    int64_t before = (int64_t)end_between(&left, here) + end_between(here, &right);
    here->first = here->first < ALONE_FIRST ? kind : here->first;
    here->last = here->last < ALONE_FIRST ? kind : here->last;
    here->joined = meet(&left, here);
    right.joined = meet(here, &right);
    int64_t after = (int64_t)end_between(&left, here) + end_between(here, &right);
    berth__add_relaxed(&count, (uint64_t)(after - before));
    if (right.joined) {
        mapped_of(span, slot + 1)->joined = true;
    }
    berth__lock_release(&berth__slots_lock);
}

static uint64_t most_for(enum berth__mappings_purpose purpose) {
    return berth__load_relaxed(&bound) / (purpose == BERTH_MAPPINGS_TO_SAVE ? 2 : 1);
}

bool berth__mappings_are_many(void) {
    return berth__load_relaxed(&count) + CHANGE_MAX > most_for(BERTH_MAPPINGS_TO_SAVE);
}

bool berth__mappings_allow(const char *at, size_t slots, size_t bytes, uint32_t kind,
                           enum berth__mappings_purpose purpose) {
    uint64_t most = most_for(purpose);
    if (BERTH_LIKELY(berth__load_relaxed(&count) + CHANGE_MAX <= most)) {
        return true;
    }
    const struct berth__span *span = berth__span_find(at);
    berth__lock_acquire(&berth__slots_lock);
    int64_t change =
        change_locked(span, berth__slot_of(span, at), slots, bytes, kind_locked(kind), false);
    uint64_t now = berth__load_relaxed(&count);
    berth__lock_release(&berth__slots_lock);
    return change <= 0 || now + (uint64_t)change <= most;
}

/* Mappings that end inside the old place do so inside the new one. */
void berth__mappings_move(const char *from, const char *to, size_t bytes) {
    const struct berth__span *span = berth__span_find(from);
    const struct berth__span *to_span = berth__span_find(to);
    size_t slot = berth__slot_of(span, from);
    size_t to_slot = berth__slot_of(to_span, to);
    size_t slots = (bytes + BERTH_CHUNK - 1) / BERTH_CHUNK;
    berth__lock_acquire(&berth__slots_lock);
    set_locked(to, slots, bytes, BERTH_KIND_ALONE);
    for (size_t i = 0; i < slots; i++) {
        struct berth__mapped left = i == 0 ? nothing : copy_of(span, slot + i - 1);
        struct berth__mapped here = copy_of(span, slot + i);
        uint32_t inside = here.joints + (i > 0 && end_between(&left, &here));
        mapped_of(to_span, to_slot + i)->joints += inside;
        berth__add_relaxed(&count, inside);
    }
    set_locked(from, slots, 0, 0);
    berth__lock_release(&berth__slots_lock);
}

enum berth__given berth__mappings_decommit(char *at, size_t slots, size_t keep, size_t held,
                                           enum berth__mappings_purpose purpose) {
    if (berth__mappings_allow(at, slots, keep, 0, purpose) &&
        berth__pages_decommit(at + keep, held - keep) == 0) {
        berth__mappings_set(at, slots, keep, 0);
        return BERTH_UNMAPPED;
    }
    return berth__pages_purge(at + keep, held - keep) == 0 ? BERTH_EMPTIED : BERTH_STAYED;
}

/* A change that was cut off is counted for slots, or not, and in the sum, or not. */
void berth__mappings_mend_in_child(void) {
    berth__mappings_add(CHANGE_MAX);
}
