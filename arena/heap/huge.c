/*
 * Huge blocks: longer than a chunk, in slots of their own, whole pages of the machine.
 *
 * A freed huge block leaves its memory in its slots (space.h), where the next chunk or huge block
 * finds it until the decay of unused slots unmaps it.
 */
#include "heap/request.h"

#include "base/check.h"
#include "chunk/retained.h"
#include "chunk/wait.h"
#include "heap/decay.h"
#include "heap/fork.h"
#include "heap/misuse.h"

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

/* ---- slots ---- */

/* Slots for a block with an alignment beyond a chunk: takes more than needed and gives the ends
 * back. */
static struct berth__chunk *take_aligned(size_t count, size_t alignment) {
    size_t extra = alignment > BERTH_CHUNK ? alignment / BERTH_CHUNK - 1 : 0;
    struct berth__chunk *first = berth__slots_take(count + extra);
    if (first == NULL || extra == 0) {
        return first;
    }
    uintptr_t at = (uintptr_t)first->at;
    size_t before = (berth__round_up(at, alignment) - at) / BERTH_CHUNK;
    struct berth__chunk *start = nth(first, before);
    if (before > 0) {
        berth__slots_give(first, before);
    }
    if (extra > before) {
        berth__slots_give(nth(start, count), extra - before);
    }
    return start;
}

/* Memory that slots hold already, as far as a block of `bytes` would use it, and *tail, what lies
 * beyond the block's end in the last slot. If asked for, the former is cleared. */
static size_t retained_in(struct berth__chunk *first, size_t bytes, bool clear, size_t *tail) {
    size_t total = 0;
    for (size_t i = 0; i < slots_for(bytes); i++) {
        struct berth__chunk *slot = nth(first, i);
        size_t used = berth__min(slot->committed, bytes_in_slot(bytes, i));
        if (clear && used > 0) {
            berth__unpoison(slot->at, used);
            memset(slot->at, 0, used);
        }
        *tail = slot->committed - used; /* 0 in all slots but the last */
        total += used;
    }
    return total;
}

/* Unmaps what is kept behind a block. False if that failed. */
static bool drop_tail(struct berth__chunk *first) {
    size_t tail = berth__tail_take(first);
    struct berth__chunk *last = first->huge.last;
    if (tail == 0) {
        return true;
    }
    if (berth__pages_decommit(last->at + last->committed - tail, tail) != 0) {
        berth__tail_keep(first, last, tail);
        return false;
    }
    last->committed -= tail;
    berth__ledger_uncharge(&berth__ledger, tail);
    return true;
}

/* Whole slots taken for growth are emptied first, so that only one kind of memory is to be
 * accounted for: none. */
static bool empty_slots(struct berth__chunk *first, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct berth__chunk *slot = nth(first, i);
        if (slot->committed > 0) {
            if (berth__pages_decommit(slot->at, slot->committed) != 0) {
                return false;
            }
            berth__ledger_uncharge(&berth__ledger, slot->committed);
            slot->committed = 0;
        }
    }
    return true;
}

static void set_committed(struct berth__chunk *first, size_t bytes, size_t tail) {
    size_t last = slots_for(bytes) - 1;
    for (size_t i = 0; i <= last; i++) {
        nth(first, i)->committed = bytes_in_slot(bytes, i) + (i == last ? tail : 0);
    }
}

/* ---- blocks ---- */

/* Of a file, the last page counts whole, as it is charged. */
static uint64_t mapped_bytes(const struct berth__chunk *first) {
    return berth__round_up(first->huge.bytes, berth__page_bytes);
}

static void publish(struct berth__arena *arena, struct berth__chunk *first, size_t bytes,
                    bool zero) {
    struct berth__arenas *arenas = arena->arenas;
    first->arena = arena;
    first->huge.bytes = bytes;
    first->huge.slots = slots_for(bytes);
    first->huge.zero = zero;
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

/* Charges and commits the `missing` bytes of a block that its slots do not hold yet. */
static bool fill_slots(struct berth__arena *arena, struct berth__chunk *first, size_t bytes,
                       size_t missing, unsigned charge_flags) {
    struct berth__ledger *ledger = arena->arenas->ledger;
    size_t retained = bytes - missing;
    size_t own = ledger->parent == NULL ? missing : bytes;
    if (!berth__ledger_charge_split(ledger, own, missing, charge_flags)) {
        return false;
    }
    if (missing > 0 && berth__pages_commit(first->at, bytes) != 0) {
        berth__ledger_uncharge_own(ledger, retained);
        berth__ledger_uncharge(ledger, missing);
        return false;
    }
    if (missing > 0 && arena->node != BERTH_NODE_ANY) {
        berth__pages_prefer_node(first->at, bytes, arena->node);
    }
    if (missing > 0 && arena->arenas->policy.thp == BERTH_THP_ALWAYS) {
        berth__pages_want_huge(first->at, bytes, true);
    }
    return true;
}

void *berth__huge_attempt(const struct berth__request *request, unsigned charge_flags,
                          bool anywhere) {
    (void)anywhere; /* slots belong to no arena */
    struct berth__arenas *arenas = request->arenas;
    struct berth__arena *arena = berth__arena_of_thread(arenas);
    if (arena == NULL || arenas->lent != NULL || request->size > PTRDIFF_MAX / 2 ||
        request->alignment > PTRDIFF_MAX / 4) {
        return NULL;
    }
    berth__limit_look(BERTH_LIMIT_AGE_MS);
    /* Nothing, aligned beyond a chunk, is still a block. */
    size_t bytes = berth__round_up(berth__max(request->size, 1), berth__page_bytes);
    struct berth__chunk *first = take_aligned(slots_for(bytes), request->alignment);
    if (first == NULL) {
        return NULL;
    }
    size_t tail = 0;
    bool clear = (request->flags & BERTH_REQUEST_ZERO) != 0;
    size_t retained = retained_in(first, bytes, clear, &tail);
    if (!fill_slots(arena, first, bytes, bytes - retained, charge_flags)) {
        berth__slots_give(first, slots_for(bytes));
        return NULL;
    }
    set_committed(first, bytes, tail);
    berth__decay_demand(&berth__slots_decay, retained, false);
    berth__decay_demand(&berth__slots_decay, bytes - retained, true);
    berth__unpoison(first->at, bytes);
    first->huge.file = false;
    if (tail > 0) {
        berth__tail_keep(first, nth(first, slots_for(bytes) - 1), tail);
    }
    publish(arena, first, bytes, retained == 0);
    return first->at;
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
        berth__slots_give(first, slots_for(bytes));
        berth__ledger_uncharge(ledger, bytes);
    } /* else it stays mapped, and charged */
}

int berth__file_map(struct berth__arenas *arenas, int fd, int64_t offset, size_t length,
                    bool writable, void **block) {
    if (berth__fork_must_detour()) {
        return -EAGAIN;
    }
    struct berth__arena *arena = berth__arena_of_thread(arenas);
    size_t bytes = berth__round_up(length, berth__page_bytes);
    struct berth__chunk *first = arena == NULL ? NULL : berth__slots_take(slots_for(bytes));
    if (first == NULL) {
        return -ENOMEM;
    }
    int error = empty_slots(first, slots_for(bytes)) ? 0 : -ENOMEM;
    if (error == 0 && !berth__ledger_charge(arenas->ledger, bytes, BERTH_CHARGE_ORDINARY)) {
        error = -ENOMEM;
    } else if (error == 0) {
        error = berth__pages_map_file(first->at, bytes, fd, offset, writable);
        if (error != 0) {
            berth__ledger_uncharge(arenas->ledger, bytes);
        }
    }
    if (error == -EADDRINUSE) {
        return -ENOMEM; /* the addresses are lost */
    }
    if (error != 0) {
        berth__slots_give(first, slots_for(bytes));
        return error;
    }
    first->huge.file = true;
    berth__unpoison(first->at, bytes);
    publish(arena, first, length, false);
    *block = first->at;
    return 0;
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
        berth__retained_release(bytes, 0); /* somebody waits for just that */
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

static bool shrink(struct berth__chunk *first, size_t bytes) {
    size_t excess = first->huge.bytes - bytes;
    size_t slots_before = first->huge.slots;
    if (excess == 0 || !drop_tail(first)) {
        return true;
    }
    if (berth__pages_decommit(first->at + bytes, excess) != 0) {
        return true; /* it stays longer than asked for */
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

static bool charge_and_commit(struct berth__arenas *arenas, char *at, size_t bytes) {
    if (!berth__ledger_charge(arenas->ledger, bytes, BERTH_CHARGE_ORDINARY)) {
        return false;
    }
    if (berth__pages_commit(at, bytes) != 0) {
        berth__ledger_uncharge(arenas->ledger, bytes);
        return false;
    }
    return true;
}

static bool grow(struct berth__chunk *first, size_t bytes) {
    size_t old = first->huge.bytes;
    size_t more_slots = slots_for(bytes) - first->huge.slots;
    char *behind = first->at + first->huge.slots * BERTH_CHUNK;
    if (!drop_tail(first)) {
        return false;
    }
    if (more_slots > 0 && !berth__slots_take_at(behind, more_slots)) {
        return false;
    }
    if ((more_slots > 0 && !empty_slots(nth(first, first->huge.slots), more_slots)) ||
        !charge_and_commit(first->arena->arenas, first->at + old, bytes - old)) {
        if (more_slots > 0) {
            berth__slots_give(nth(first, first->huge.slots), more_slots);
        }
        return false;
    }
    for (size_t i = first->huge.slots; i < slots_for(bytes); i++) {
        berth__store_release(&nth(first, i)->use, BERTH_SLOT_HUGE_BODY);
    }
    set_committed(first, bytes, 0);
    count_resize(first, bytes);
    berth__unpoison(first->at, bytes);
    return true;
}

bool berth__huge_resize(void *block, size_t size) {
    struct berth__chunk *first = checked_first(block);
    if (size <= first->arena->arenas->policy.chunk_bytes || size > PTRDIFF_MAX / 2 ||
        first->huge.file || berth__chunk_is_held(first)) {
        return size <= first->huge.bytes && size > first->huge.bytes / 2;
    }
    size_t bytes = berth__round_up(size, berth__page_bytes);
    return bytes <= first->huge.bytes ? shrink(first, bytes) : grow(first, bytes);
}

/* The pages move, and the old slots are left empty. Room beyond the old size is committed before
 * the move, so that a failure leaves the old block as it was. */
void *berth__huge_move(void *block, size_t size) {
    struct berth__chunk *from = checked_first(block);
    struct berth__arena *arena = from->arena;
    size_t old = from->huge.bytes;
    size_t bytes = berth__round_up(size, berth__page_bytes);
    if (size > PTRDIFF_MAX / 2 || bytes <= old || from->huge.file || berth__chunk_is_held(from) ||
        !drop_tail(from)) {
        return NULL;
    }
    struct berth__chunk *to = berth__slots_take(slots_for(bytes));
    if (to == NULL) {
        return NULL;
    }
    if (!empty_slots(to, slots_for(bytes)) ||
        !charge_and_commit(arena->arenas, to->at + old, bytes - old)) {
        berth__slots_give(to, slots_for(bytes));
        return NULL;
    }
    int error = berth__pages_move(from->at, to->at, old);
    if (error != 0) {
        nth(to, 0)->committed = 0;
        if (berth__pages_decommit(to->at + old, bytes - old) == 0) {
            berth__ledger_uncharge(arena->arenas->ledger, bytes - old);
        }
        if (error != -EADDRINUSE) { /* else the addresses are lost */
            berth__slots_give(to, slots_for(bytes));
        }
        return NULL;
    }
    unpublish(from);
    for (size_t i = 0; i < from->huge.slots; i++) {
        nth(from, i)->committed = 0;
    }
    (void)!berth__pages_decommit(from->at, old); /* readable but empty if that fails */
    berth__slots_give(from, from->huge.slots);
    set_committed(to, bytes, 0);
    berth__unpoison(to->at, bytes);
    to->huge.file = false;
    publish(arena, to, bytes, false);
    return to->at;
}
