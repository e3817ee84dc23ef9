/*
 * Huge blocks: longer than a chunk, in slots of their own, whole pages of the machine.
 *
 * A freed huge block leaves its memory in its slots (space.h), where the next chunk or huge block
 * finds it until the decay of unused slots unmaps it.
 *
 * A block that ends within a slot costs two mappings. When there are many, blocks get the whole of
 * their last slots, and shrink by whole slots (chunk/mappings.h).
 */
#include "heap/request.h"

#include "base/check.h"
#include "chunk/mappings.h"
#include "chunk/retained.h"
#include "chunk/wait.h"
#include "heap/decay.h"
#include "heap/fork.h"
#include "heap/misuse.h"
#include "heap/trace.h"
#include "os/pages.h"
#include "os/slow.h"

#include <errno.h>
#include <string.h>

static size_t slots_for(size_t bytes) {
    return (bytes + BERTH_CHUNK - 1) / BERTH_CHUNK;
}

/* Bytes of a block of `bytes` that fall into its i-th slot. */
static size_t bytes_in_slot(size_t bytes, size_t i) {
    return berth__min(bytes - i * BERTH_CHUNK, BERTH_CHUNK);
}

static struct berth__chunk *nth(struct berth__chunk *first, size_t i) {
    return berth__chunk_of(first->at + i * BERTH_CHUNK);
}

/* Addresses for a block, unless there can never be memory for it. */
static char *reserve(struct berth__arenas *arenas, size_t bytes, size_t alignment) {
    return berth__ledger_can_ever_fit(arenas->ledger, bytes)
               ? berth__slots_reserve(slots_for(bytes), alignment)
               : NULL;
}

/* ---- memory in slots ---- */

/* Memory that slots hold already, as far as a block of `bytes` would use it, and *tail, what lies
 * beyond the block's end in the last slot. */
static size_t retained_in(const char *at, size_t bytes, size_t *tail) {
    size_t total = 0;
    for (size_t i = 0; i < slots_for(bytes); i++) {
        size_t committed = berth__slot_committed(at + i * BERTH_CHUNK);
        size_t used = berth__min(committed, bytes_in_slot(bytes, i));
        *tail = committed - used; /* 0 in all slots but the last */
        total += used;
    }
    return total;
}

/* Clears what slots held already. Much of it is rather given back than written: it may never have
 * been touched, and the kernel clears what will be. */
static void clear_retained(char *at, size_t bytes, size_t retained) {
    enum { WRITTEN_MAX = 32 << 20 };
    berth__unpoison(at, bytes);
    if (retained > WRITTEN_MAX && berth__pages_purge(at, bytes) == 0) {
        return;
    }
    for (size_t i = 0; i < slots_for(bytes); i++) {
        char *slot = at + i * BERTH_CHUNK;
        memset(slot, 0, berth__min(berth__slot_committed(slot), bytes_in_slot(bytes, i)));
    }
}

/* The first stretch of a block's bytes, from `from` on, that its slots do not hold: [result, *end).
 * `bytes` if there is none. */
static size_t next_missing(const char *at, size_t bytes, size_t from, size_t *end) {
    for (size_t i = from / BERTH_CHUNK; i < slots_for(bytes); i++) {
        size_t slot = i * BERTH_CHUNK;
        size_t start = berth__max(from, slot + berth__slot_committed(at + slot));
        if (start < slot + bytes_in_slot(bytes, i)) {
            do {
                slot += BERTH_CHUNK;
            } while (slot < bytes && berth__slot_committed(at + slot) == 0);
            *end = berth__min(slot, bytes);
            return start;
        }
    }
    return bytes;
}

/* The kernel would not unmap what a failure is to undo: at least no memory is in it, and slots that
 * no block begins in hold it from now on, so that it stays charged until it is used or unmapped. In
 * others it is lost: whoever commits it again pays again. */
static void keep_in_slots(char *at, size_t have, size_t from, size_t end) {
    size_t first = from / BERTH_CHUNK;
    (void)berth__pages_purge(at + from, end - from);
    if (have > 0 || berth__slots_open(at, slots_for(end)) == NULL) {
        berth__retained_lose(end - from);
        return;
    }
    for (size_t i = first; i < slots_for(end); i++) {
        struct berth__chunk *slot = berth__chunk_of(at + i * BERTH_CHUNK);
        slot->hollow = slot->committed == 0;
        slot->committed = bytes_in_slot(end, i);
    }
    berth__mappings_set(at + first * BERTH_CHUNK, slots_for(end) - first, end - first * BERTH_CHUNK,
                        BERTH_KIND_ALONE);
}

/* Undoes what commit_missing did to the first `bytes`, of which a block has the first `have`.
 * Returns how many stay charged. */
static size_t decommit_missing(char *at, size_t have, size_t bytes) {
    size_t stay = 0;
    size_t end = 0;
    for (size_t from = next_missing(at, bytes, 0, &end); from < bytes;
         from = next_missing(at, bytes, end, &end)) {
        if (berth__pages_decommit(at + from, end - from) != 0) {
            keep_in_slots(at, have, from, end);
            stay += end - from;
        }
    }
    return stay;
}

/* Commits what slots do not hold yet. Returns how far it came: `bytes`, or to a refusal. */
static size_t commit_missing(struct berth__arena *arena, char *at, size_t bytes) {
    size_t end = 0;
    for (size_t from = next_missing(at, bytes, 0, &end); from < bytes;
         from = next_missing(at, bytes, end, &end)) {
        if (berth__pages_commit(at + from, end - from) != 0) {
            return from;
        }
        berth__arena_prepare_pages(arena, at + from, end - from);
    }
    return bytes;
}

/* Unmaps what is kept behind a block. False if that failed. */
static bool drop_tail(struct berth__chunk *first) {
    size_t tail = berth__tail_take(first);
    struct berth__chunk *last = first->huge.last;
    if (tail == 0) {
        return true;
    }
    if (berth__mappings_decommit(last->at, 1, last->committed - tail, last->committed,
                                 BERTH_MAPPINGS_TO_SERVE) != BERTH_UNMAPPED) {
        berth__tail_keep(first, last, tail);
        return false;
    }
    last->committed -= tail;
    berth__ledger_uncharge(&berth__ledger, tail);
    return true;
}

/* Whole slots taken for growth are emptied first, so that only one kind of memory is to be
 * accounted for: none. */
static bool empty_slots(char *at, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct berth__chunk *slot = berth__chunk_find(at + i * BERTH_CHUNK);
        if (slot != NULL && slot->committed > 0) {
            if (berth__mappings_decommit(slot->at, 1, 0, slot->committed,
                                         BERTH_MAPPINGS_TO_SERVE) != BERTH_UNMAPPED) {
                return false;
            }
            berth__ledger_uncharge(&berth__ledger, slot->committed);
            slot->committed = 0;
        }
    }
    return true;
}

/* Memory that the slots from `from` on hold already becomes this arena's. */
static void take_slots(const struct berth__arena *arena, struct berth__chunk *first, size_t from,
                       size_t bytes) {
    for (size_t i = from; i < slots_for(bytes); i++) {
        (void)berth__arena_take_slot(arena, nth(first, i));
    }
}

/* From the slot `from` on. */
static void set_committed(const struct berth__arena *arena, struct berth__chunk *first, size_t from,
                          size_t bytes, size_t tail) {
    size_t last = slots_for(bytes) - 1;
    size_t before = from * BERTH_CHUNK;
    for (size_t i = from; i <= last; i++) {
        nth(first, i)->node = arena->node;
        nth(first, i)->committed = bytes_in_slot(bytes, i) + (i == last ? tail : 0);
    }
    berth__mappings_set(first->at + before, last + 1 - from, bytes + tail - before,
                        berth__arena_kind(arena));
}

/* ---- blocks ---- */

/* Of a file, the last page counts whole, as it is charged. */
static uint64_t mapped_bytes(const struct berth__chunk *first) {
    return berth__round_up(first->huge.bytes, berth__page_bytes);
}

static void publish(struct berth__arena *arena, struct berth__chunk *first, size_t bytes) {
    struct berth__arenas *arenas = arena->arenas;
    first->arena = arena;
    first->huge.bytes = bytes;
    first->huge.slots = slots_for(bytes);
    berth__add_relaxed(&first->generation, 1);
    berth__list_init(&first->owner_link);
    for (size_t i = 1; i < first->huge.slots; i++) {
        berth__store_release(&nth(first, i)->use, BERTH_SLOT_HUGE_BODY);
    }
    berth__store_release(&first->use, BERTH_SLOT_HUGE);
    berth__entries_set(first->at, 1, BERTH_ENTRY_OF_KIND(BERTH_UNIT_HUGE));
    berth__lock_acquire(&arenas->huge_lock);
    berth__list_push_back(&arenas->huge_blocks, &first->owner_link);
    berth__count_add(first->huge.file ? &arenas->file_bytes : &arenas->huge_bytes,
                     mapped_bytes(first));
    berth__count_add(first->huge.file ? &arenas->file_count : &arenas->huge_count, 1);
    berth__count_add(&arenas->huge_lends, 1);
    berth__lock_release(&arenas->huge_lock);
}

static void unpublish(struct berth__chunk *first) {
    struct berth__arenas *arenas = first->arena->arenas;
    berth__entries_set(first->at, 1, 0);
    berth__lock_acquire(&arenas->huge_lock);
    berth__list_remove(&first->owner_link);
    berth__count_sub(first->huge.file ? &arenas->file_bytes : &arenas->huge_bytes,
                     mapped_bytes(first));
    berth__count_sub(first->huge.file ? &arenas->file_count : &arenas->huge_count, 1);
    berth__count_add(&arenas->huge_returns, 1);
    berth__lock_release(&arenas->huge_lock);
}

/* A block in the making. */
struct extent {
    char *at;    /* slots that are reserved */
    size_t have; /* the first bytes, of a block that is to become longer; else 0 */
    size_t bytes;
    size_t retained; /* the part of what is beyond those that the slots hold already */
    size_t tail;     /* what the last slot holds beyond */
};

/* Charges a block in reserved slots and commits what they do not hold yet; only then are the slots'
 * records made. NULL: nothing changed. */
static struct berth__chunk *fill_slots(struct berth__arena *arena, struct extent *extent,
                                       unsigned charge_flags) {
    struct berth__ledger *ledger = arena->arenas->ledger;
    char *at = extent->at;
    size_t bytes = extent->bytes;
    size_t more = bytes - extent->have;
    extent->retained = retained_in(at, bytes, &extent->tail) - extent->have;
    size_t missing = more - extent->retained;
    if (!berth__ledger_may_reuse(extent->retained, charge_flags) ||
        !berth__mappings_allow(at, slots_for(bytes), bytes + extent->tail, berth__arena_kind(arena),
                               BERTH_MAPPINGS_TO_SERVE) ||
        !berth__ledger_charge_split(ledger, ledger->parent == NULL ? missing : more, missing,
                                    charge_flags)) {
        return NULL;
    }
    uint64_t start_ns = missing > 0 ? berth__clock_ns() : 0;
    size_t reached = commit_missing(arena, at, bytes);
    if (missing > 0) {
        berth__slow_note(BERTH_SLOW_huge_map, start_ns);
    }
    struct berth__chunk *first = reached == bytes ? berth__slots_open(at, slots_for(bytes)) : NULL;
    if (first == NULL) {
        size_t stay = decommit_missing(at, extent->have, reached);
        berth__ledger_uncharge_own(ledger, extent->retained + stay);
        berth__ledger_uncharge(ledger, missing - stay);
    }
    return first;
}

/* The same for whole slots, if there are many mappings; and if there is no room for so much, for
 * what is needed. */
static struct berth__chunk *fill_whole_slots(struct berth__arena *arena, struct extent *extent,
                                             unsigned charge_flags) {
    size_t bytes = extent->bytes;
    struct berth__chunk *first = NULL;
    if (berth__mappings_are_many()) {
        extent->bytes = slots_for(bytes) * BERTH_CHUNK;
        first = fill_slots(arena, extent, charge_flags);
    }
    if (first == NULL) {
        extent->bytes = bytes;
        first = fill_slots(arena, extent, charge_flags);
    }
    return first;
}

/* Filled slots are in use now. */
static void use_slots(struct berth__arena *arena, struct berth__chunk *first,
                      const struct extent *extent) {
    size_t bytes = extent->bytes;
    set_committed(arena, first, extent->have / BERTH_CHUNK, bytes, extent->tail);
    berth__decay_demand(&berth__slots_decay, extent->retained, false);
    berth__decay_demand(&berth__slots_decay, bytes - extent->have - extent->retained, true);
    berth__unpoison(extent->at, bytes);
    if (extent->tail > 0) {
        berth__tail_keep(first, nth(first, slots_for(bytes) - 1), extent->tail);
    }
}

void *berth__huge_attempt(const struct berth__request *request, unsigned charge_flags,
                          bool anywhere) {
    (void)anywhere; /* slots belong to no arena */
    struct berth__arenas *arenas = request->arenas;
    struct berth__arena *arena = berth__arena_of_thread(arenas);
    if (arena == NULL || arenas->lent != NULL) {
        return NULL;
    }
    berth__limit_look(BERTH_LIMIT_AGE_MS);
    if (berth__pages_exceed_machine(request->size)) {
        return NULL;
    }
    /* Nothing, aligned beyond a chunk, is still a block. */
    size_t bytes = berth__round_up(berth__max(request->size, 1), berth__page_bytes);
    struct extent extent = {.at = reserve(arenas, bytes, request->alignment), .bytes = bytes};
    if (extent.at == NULL) {
        return NULL;
    }
    struct berth__chunk *first = fill_whole_slots(arena, &extent, charge_flags);
    if (first == NULL) {
        berth__slots_give_at(extent.at, slots_for(bytes));
        return NULL;
    }
    take_slots(arena, first, 0, extent.bytes);
    if ((request->flags & BERTH_REQUEST_ZERO) != 0) {
        clear_retained(extent.at, extent.bytes, extent.retained);
    }
    use_slots(arena, first, &extent);
    first->huge.file = false;
    publish(arena, first, extent.bytes);
    if (berth__trace_is_on()) {
        struct berth__taking taking = {BERTH_TRACE_HUGE, extent.at, extent.bytes,
                                       extent.bytes - extent.retained, 0};
        berth__trace_note(request, &taking);
    }
    return extent.at;
}

static struct berth__chunk *checked_first(const void *block) {
    struct berth__chunk *first = berth__chunk_of(block);
    if (BERTH_UNLIKELY(berth__load_acquire(&first->use) != BERTH_SLOT_HUGE ||
                       first->at != (const char *)block)) {
        berth__misuse("free of a pointer inside a block", block);
    }
    return first;
}

/* A mapped file leaves nothing behind that could be used again. */
static void free_file(struct berth__chunk *first) {
    struct berth__ledger *ledger = first->arena->arenas->ledger;
    size_t bytes = mapped_bytes(first);
    unpublish(first);
    if (berth__pages_decommit(first->at, bytes) == 0) {
        berth__mappings_set(first->at, slots_for(bytes), 0, 0);
        berth__slots_give(first, slots_for(bytes));
        berth__ledger_uncharge(ledger, bytes);
    } else { /* it stays mapped, and charged to the process, for now */
        berth__ledger_uncharge_own(ledger, bytes);
        berth__retained_add_stuck(first, slots_for(bytes), bytes);
    }
}

/* Maps a file over reserved slots; -EADDRINUSE: the slots must not be used again. */
static int map_file(struct berth__arena *arena, char *at, size_t length,
                    const struct berth__file *file, unsigned charge_flags) {
    struct berth__ledger *ledger = arena->arenas->ledger;
    size_t bytes = berth__round_up(length, berth__page_bytes);
    if (!empty_slots(at, slots_for(bytes)) ||
        !berth__mappings_allow(at, slots_for(bytes), bytes, BERTH_KIND_ALONE,
                               BERTH_MAPPINGS_TO_SERVE) ||
        !berth__ledger_charge(ledger, bytes, charge_flags)) {
        return -ENOMEM;
    }
    int error = berth__pages_map_file(at, bytes, file->fd, file->offset, file->writable);
    struct berth__chunk *first = error == 0 ? berth__slots_open(at, slots_for(bytes)) : NULL;
    if (first != NULL) {
        first->huge.file = true;
        berth__mappings_set(at, slots_for(bytes), bytes, BERTH_KIND_ALONE);
        berth__unpoison(at, bytes);
        publish(arena, first, length);
        return 0;
    }
    if (error == 0 && berth__pages_decommit(at, bytes) != 0) {
        berth__ledger_uncharge_own(ledger, bytes);
        berth__retained_lose(bytes);
        return -EADDRINUSE;
    }
    berth__ledger_uncharge(ledger, bytes);
    return error == 0 ? -ENOMEM : error;
}

int berth__file_map(struct berth__arenas *arenas, const struct berth__file *file, size_t length,
                    unsigned charge_flags, void **block) {
    if (berth__fork_must_detour()) {
        return -EAGAIN;
    }
    struct berth__arena *arena = berth__arena_of_thread(arenas);
    size_t bytes = berth__round_up(length, berth__page_bytes);
    char *at = arena == NULL ? NULL : reserve(arenas, bytes, BERTH_CHUNK);
    if (at == NULL) {
        return -ENOMEM;
    }
    int error = map_file(arena, at, length, file, charge_flags);
    *block = error == 0 ? at : NULL;
    if (error == -EADDRINUSE) {
        return -ENOMEM; /* the addresses are lost */
    }
    if (error != 0) {
        berth__slots_give_at(at, slots_for(bytes));
    }
    return error;
}

void berth__huge_free(void *block) {
    struct berth__chunk *first = checked_first(block);
    struct berth__arena *arena = first->arena;
    size_t bytes = first->huge.bytes;
    if (first->huge.file) {
        free_file(first);
        return;
    }
    unpublish(first);
    (void)berth__tail_take(first); /* part of what the slots hold */
    berth__poison(block, bytes);
    berth__ledger_uncharge_own(arena->arenas->ledger, bytes);
    berth__slots_give(first, first->huge.slots);
    berth__wait_notify();
    if (berth__wait_anyone()) {
        berth__retained_uncharge(bytes); /* somebody waits for just that */
    }
    berth__decay_pay(arena, bytes); /* what is due for it costs what munmap would have */
}

/* ---- changing the size ---- */

static void count_resize(struct berth__chunk *first, size_t bytes) {
    struct berth__arenas *arenas = first->arena->arenas;
    berth__lock_acquire(&arenas->huge_lock);
    berth__count_add(&arenas->huge_bytes, bytes - first->huge.bytes);
    first->huge.bytes = bytes;
    first->huge.slots = slots_for(bytes);
    berth__lock_release(&arenas->huge_lock);
}

/* What a block does not need of what cannot be unmapped: its slots may serve others as they are. */
static void leave_whole_slots(struct berth__chunk *first, size_t keep) {
    size_t slots_before = first->huge.slots;
    size_t excess = first->huge.bytes - berth__min(keep * BERTH_CHUNK, first->huge.bytes);
    if (excess > 0) {
        count_resize(first, keep * BERTH_CHUNK);
        berth__ledger_uncharge_own(first->arena->arenas->ledger, excess);
        berth__slots_give(nth(first, keep), slots_before - keep);
    }
}

static bool shrink(struct berth__chunk *first, size_t bytes) {
    size_t excess = first->huge.bytes - bytes;
    size_t slots_before = first->huge.slots;
    if (excess == 0 || !drop_tail(first)) {
        return true;
    }
    if (berth__mappings_decommit(first->at, slots_before, bytes, first->huge.bytes,
                                 BERTH_MAPPINGS_TO_SAVE) != BERTH_UNMAPPED) {
        leave_whole_slots(first, slots_for(bytes)); /* it stays longer than asked for */
        return true;
    }
    for (size_t i = slots_for(bytes); i < slots_before; i++) {
        nth(first, i)->committed = 0;
    }
    nth(first, slots_for(bytes) - 1)->committed = bytes_in_slot(bytes, slots_for(bytes) - 1);
    count_resize(first, bytes);
    if (slots_before > slots_for(bytes)) {
        berth__slots_give(nth(first, slots_for(bytes)), slots_before - slots_for(bytes));
    }
    berth__ledger_uncharge(first->arena->arenas->ledger, excess);
    return true;
}

/* Into what its last slot and those behind it hold, and what is missing there. */
static bool grow_to(struct berth__chunk *first, size_t bytes, unsigned charge_flags,
                    size_t *mapped) {
    struct berth__arena *arena = first->arena;
    struct extent extent = {.at = first->at, .have = first->huge.bytes, .bytes = bytes};
    size_t slots_before = first->huge.slots;
    size_t more_slots = slots_for(bytes) - slots_before;
    char *behind = first->at + slots_before * BERTH_CHUNK;
    if (more_slots > 0 && !berth__slots_reserve_at(behind, more_slots)) {
        return false;
    }
    size_t tail = berth__tail_take(first);
    if (fill_slots(arena, &extent, charge_flags) == NULL) {
        if (tail > 0) {
            berth__tail_keep(first, nth(first, slots_before - 1), tail);
        }
        if (more_slots > 0) {
            berth__slots_give_at(behind, more_slots);
        }
        return false;
    }
    take_slots(arena, first, slots_before, bytes);
    for (size_t i = slots_before; i < slots_for(bytes); i++) {
        berth__store_release(&nth(first, i)->use, BERTH_SLOT_HUGE_BODY);
    }
    use_slots(arena, first, &extent);
    count_resize(first, bytes);
    *mapped = bytes - extent.have - extent.retained;
    return true;
}

/* To whole slots, if there are many mappings and there is room for so much. */
static bool grow_in_place(struct berth__chunk *first, size_t bytes, unsigned charge_flags,
                          size_t *mapped) {
    return (berth__mappings_are_many() &&
            grow_to(first, slots_for(bytes) * BERTH_CHUNK, charge_flags, mapped)) ||
           grow_to(first, bytes, charge_flags, mapped);
}

static bool keeps_its_place(struct berth__chunk *first) {
    return first->huge.file || berth__chunk_is_held(first);
}

static bool is_possible(size_t size, size_t have) {
    return size <= BERTH_ADDRESSES_MAX &&
           (size <= have || !berth__pages_exceed_machine(size - have));
}

bool berth__huge_resize(void *block, size_t size) {
    struct berth__chunk *first = checked_first(block);
    if (size <= first->arena->arenas->policy.chunk_bytes || keeps_its_place(first) ||
        !is_possible(size, first->huge.bytes)) {
        return size <= first->huge.bytes && size > first->huge.bytes / 2;
    }
    size_t bytes = berth__round_up(size, berth__page_bytes);
    size_t mapped = 0;
    return bytes <= first->huge.bytes ? shrink(first, bytes)
                                      : grow_in_place(first, bytes, BERTH_CHARGE_ORDINARY, &mapped);
}

/* The old block after its pages have moved away. */
static void leave_slots(struct berth__chunk *from, bool reserved_again) {
    unpublish(from);
    for (size_t i = 0; i < from->huge.slots; i++) {
        nth(from, i)->committed = 0;
    }
    if (reserved_again) {
        berth__slots_give(from, from->huge.slots);
    } else { /* the addresses are lost: others may be using them */
        berth__store_release(&from->use, BERTH_SLOT_HUGE_BODY);
    }
}

/* Makes `bytes` from `from` on usable, in reserved slots that are emptied and opened. False:
 * nothing changed. */
static bool make_room(struct berth__arena *arena, char *from, size_t bytes, char *slots,
                      size_t slot_count, unsigned charge_flags) {
    struct berth__ledger *ledger = arena->arenas->ledger;
    if (!empty_slots(slots, slot_count) || !berth__ledger_charge(ledger, bytes, charge_flags)) {
        return false;
    }
    if (berth__pages_commit(from, bytes) == 0) {
        berth__arena_prepare_pages(arena, from, bytes);
        if (berth__slots_open(slots, slot_count) != NULL) {
            return true;
        }
        if (berth__pages_decommit(from, bytes) != 0) { /* whoever commits it again pays again */
            (void)berth__pages_purge(from, bytes);
            berth__ledger_uncharge_own(ledger, bytes);
            berth__retained_lose(bytes);
            return false;
        }
    }
    berth__ledger_uncharge(ledger, bytes);
    return false;
}

/* The room that was made for a block's longer end, in slots to which it could not move. */
static void give_up_room(struct berth__arena *arena, char *at, size_t old, size_t bytes,
                         bool reserved_again) {
    struct berth__ledger *ledger = arena->arenas->ledger;
    size_t slots = slots_for(bytes);
    if (berth__pages_decommit(at + old, bytes - old) == 0) {
        berth__ledger_uncharge(ledger, bytes - old);
        if (reserved_again) {
            berth__slots_give_at(at, slots);
        }
        return;
    }
    (void)berth__pages_purge(at + old, bytes - old);
    berth__ledger_uncharge_own(ledger, bytes - old);
    if (reserved_again) {
        berth__mappings_set(at, slots, bytes, BERTH_KIND_ALONE);
        berth__retained_add_stuck(berth__chunk_of(at), slots, bytes - old);
    } else {
        berth__retained_lose(bytes - old);
    }
}

/* Moved memory merges with none, but a copy does; beyond the bound, blocks are copied. */
static bool may_move(struct berth__chunk *from, const char *at, size_t slots) {
    return berth__mappings_allow(from->at, from->huge.slots, 0, 0, BERTH_MAPPINGS_TO_SAVE) &&
           berth__mappings_allow(at, slots, slots * BERTH_CHUNK - 1, BERTH_KIND_ALONE,
                                 BERTH_MAPPINGS_TO_SAVE);
}

/* The pages move, and the old slots are left empty. Room beyond the old size is committed before
 * the move, so that a failure leaves the old block as it was. */
static int move(struct berth__chunk *from, char *at, size_t bytes, unsigned charge_flags) {
    struct berth__arena *arena = from->arena;
    size_t old = from->huge.bytes;
    size_t slots = slots_for(bytes);
    if (!may_move(from, at, slots)) {
        berth__slots_give_at(at, slots);
        return -ENOTSUP;
    }
    if (!make_room(arena, at + old, bytes - old, at, slots, charge_flags)) {
        berth__slots_give_at(at, slots);
        return -ENOMEM;
    }
    bool reserved_again = true;
    if (berth__pages_move(from->at, at, old, &reserved_again) != 0) {
        give_up_room(arena, at, old, bytes, reserved_again);
        return -ENOTSUP;
    }
    berth__mappings_move(from->at, at, old);
    leave_slots(from, reserved_again);
    struct berth__chunk *to = berth__chunk_of(at);
    set_committed(arena, to, 0, bytes, 0);
    berth__unpoison(at, bytes);
    to->huge.file = false;
    publish(arena, to, bytes);
    return 0;
}

int berth__huge_grow(void **block, size_t size, unsigned charge_flags, size_t *mapped) {
    struct berth__chunk *first = checked_first(*block);
    size_t have = first->huge.bytes;
    if (!is_possible(size, have)) {
        return -ENOMEM;
    }
    if (keeps_its_place(first)) {
        return -ENOTSUP;
    }
    size_t bytes = berth__round_up(size, berth__page_bytes);
    *mapped = 0;
    if (bytes <= have || grow_in_place(first, bytes, charge_flags, mapped)) {
        return 0;
    }
    if (!drop_tail(first)) {
        return -ENOTSUP;
    }
    char *at = reserve(first->arena->arenas, bytes, BERTH_CHUNK);
    int error = at == NULL ? -ENOMEM : move(first, at, bytes, charge_flags);
    *block = error == 0 ? at : *block;
    *mapped = error == 0 ? bytes - have : 0;
    return error;
}

/* ---- in the child of a fork that cut off a change ---- */

void berth__huge_mend_in_child(struct berth__arenas *arenas) BERTH_NO_TSA {
    uint64_t bytes[2] = {0, 0}; /* of blocks, and of mapped files */
    uint64_t count[2] = {0, 0};
    struct berth__list *blocks = &arenas->huge_blocks;
    berth__list_mend(blocks);
    for (struct berth__list *at = blocks->next; at != blocks; at = at->next) {
        const struct berth__chunk *first = BERTH_LIST_ENTRY(at, struct berth__chunk, owner_link);
        bytes[first->huge.file] += mapped_bytes(first);
        count[first->huge.file]++;
    }
    berth__store_relaxed(&arenas->huge_bytes, bytes[false]);
    berth__store_relaxed(&arenas->huge_count, count[false]);
    berth__store_relaxed(&arenas->file_bytes, bytes[true]);
    berth__store_relaxed(&arenas->file_count, count[true]);
}
