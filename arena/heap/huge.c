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

/* If the kernel refuses, there is at least no memory in it. */
static void decommit_missing(char *at, size_t bytes) {
    size_t end = 0;
    for (size_t from = next_missing(at, bytes, 0, &end); from < bytes;
         from = next_missing(at, bytes, end, &end)) {
        if (berth__pages_decommit(at + from, end - from) != 0) {
            (void)berth__pages_purge(at + from, end - from);
        }
    }
}

static bool commit_missing(struct berth__arena *arena, char *at, size_t bytes) {
    size_t end = 0;
    for (size_t from = next_missing(at, bytes, 0, &end); from < bytes;
         from = next_missing(at, bytes, end, &end)) {
        if (berth__pages_commit(at + from, end - from) != 0) {
            decommit_missing(at, from);
            return false;
        }
        berth__arena_prepare_pages(arena, at + from, end - from);
    }
    return true;
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
static bool empty_slots(char *at, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct berth__chunk *slot = berth__chunk_find(at + i * BERTH_CHUNK);
        if (slot != NULL && slot->committed > 0) {
            if (berth__pages_decommit(slot->at, slot->committed) != 0) {
                return false;
            }
            berth__ledger_uncharge(&berth__ledger, slot->committed);
            slot->committed = 0;
        }
    }
    return true;
}

/* Memory that the slots hold already becomes this arena's. */
static void take_slots(const struct berth__arena *arena, struct berth__chunk *first, size_t bytes) {
    for (size_t i = 0; i < slots_for(bytes); i++) {
        (void)berth__arena_take_slot(arena, nth(first, i));
    }
}

static void set_committed(const struct berth__arena *arena, struct berth__chunk *first,
                          size_t bytes, size_t tail) {
    size_t last = slots_for(bytes) - 1;
    for (size_t i = 0; i <= last; i++) {
        nth(first, i)->node = arena->node;
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

/* Charges a block in reserved slots and commits what they do not hold yet; only then are the slots'
 * records made. NULL: nothing changed. */
static struct berth__chunk *fill_slots(struct berth__arena *arena, char *at, size_t bytes,
                                       size_t retained, unsigned charge_flags) {
    struct berth__ledger *ledger = arena->arenas->ledger;
    size_t missing = bytes - retained;
    if (!berth__ledger_charge_split(ledger, ledger->parent == NULL ? missing : bytes, missing,
                                    charge_flags)) {
        return NULL;
    }
    struct berth__chunk *first = NULL;
    if (commit_missing(arena, at, bytes)) {
        first = berth__slots_open(at, slots_for(bytes));
        if (first == NULL) {
            decommit_missing(at, bytes);
        }
    }
    if (first == NULL) {
        berth__ledger_uncharge_own(ledger, retained);
        berth__ledger_uncharge(ledger, missing);
    }
    return first;
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
    /* Nothing, aligned beyond a chunk, is still a block. */
    size_t bytes = berth__round_up(berth__max(request->size, 1), berth__page_bytes);
    char *at = reserve(arenas, bytes, request->alignment);
    if (at == NULL) {
        return NULL;
    }
    size_t tail = 0;
    size_t retained = retained_in(at, bytes, &tail);
    struct berth__chunk *first = fill_slots(arena, at, bytes, retained, charge_flags);
    if (first == NULL) {
        berth__slots_give_at(at, slots_for(bytes));
        return NULL;
    }
    take_slots(arena, first, bytes);
    if ((request->flags & BERTH_REQUEST_ZERO) != 0) {
        clear_retained(at, bytes, retained);
    }
    set_committed(arena, first, bytes, tail);
    berth__decay_demand(&berth__slots_decay, retained, false);
    berth__decay_demand(&berth__slots_decay, bytes - retained, true);
    berth__unpoison(at, bytes);
    first->huge.file = false;
    if (tail > 0) {
        berth__tail_keep(first, nth(first, slots_for(bytes) - 1), tail);
    }
    publish(arena, first, bytes, retained == 0);
    return at;
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
    } else { /* it stays mapped, and charged to the process, for now */
        berth__ledger_uncharge_own(ledger, bytes);
        berth__retained_add_file(first, bytes);
    }
}

/* Maps a file over reserved slots; -EADDRINUSE: the slots must not be used again. */
static int map_file(struct berth__arena *arena, char *at, size_t length,
                    const struct berth__file *file, unsigned charge_flags) {
    struct berth__ledger *ledger = arena->arenas->ledger;
    size_t bytes = berth__round_up(length, berth__page_bytes);
    if (!empty_slots(at, slots_for(bytes)) || !berth__ledger_charge(ledger, bytes, charge_flags)) {
        return -ENOMEM;
    }
    int error = berth__pages_map_file(at, bytes, file->fd, file->offset, file->writable);
    struct berth__chunk *first = error == 0 ? berth__slots_open(at, slots_for(bytes)) : NULL;
    if (first != NULL) {
        first->huge.file = true;
        berth__unpoison(at, bytes);
        publish(arena, first, length, false);
        return 0;
    }
    if (error == 0) {
        error = berth__pages_decommit(at, bytes) == 0 ? -ENOMEM : -EADDRINUSE;
    }
    berth__ledger_uncharge(ledger, bytes);
    return error;
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

/* Makes `bytes` from `from` on usable, in slots that hold nothing yet from there; those from
 * `slots` on are only reserved, and are opened. False: nothing changed. */
static bool charge_and_commit(struct berth__arena *arena, char *from, size_t bytes, char *slots,
                              size_t slot_count, unsigned charge_flags) {
    struct berth__ledger *ledger = arena->arenas->ledger;
    if (!empty_slots(slots, slot_count) || !berth__ledger_charge(ledger, bytes, charge_flags)) {
        return false;
    }
    if (berth__pages_commit(from, bytes) == 0) {
        berth__arena_prepare_pages(arena, from, bytes);
        if (slot_count == 0 || berth__slots_open(slots, slot_count) != NULL) {
            return true;
        }
        if (berth__pages_decommit(from, bytes) != 0) {
            (void)berth__pages_purge(from, bytes);
        }
    }
    berth__ledger_uncharge(ledger, bytes);
    return false;
}

static bool grow_in_place(struct berth__chunk *first, size_t bytes, unsigned charge_flags) {
    size_t old = first->huge.bytes;
    size_t more_slots = slots_for(bytes) - first->huge.slots;
    char *behind = first->at + first->huge.slots * BERTH_CHUNK;
    if (!drop_tail(first) || (more_slots > 0 && !berth__slots_reserve_at(behind, more_slots))) {
        return false;
    }
    if (!charge_and_commit(first->arena, first->at + old, bytes - old, behind, more_slots,
                           charge_flags)) {
        if (more_slots > 0) {
            berth__slots_give_at(behind, more_slots);
        }
        return false;
    }
    for (size_t i = first->huge.slots; i < slots_for(bytes); i++) {
        berth__store_release(&nth(first, i)->use, BERTH_SLOT_HUGE_BODY);
    }
    set_committed(first->arena, first, bytes, 0);
    count_resize(first, bytes);
    berth__unpoison(first->at, bytes);
    return true;
}

static bool keeps_its_place(struct berth__chunk *first) {
    return first->huge.file || berth__chunk_is_held(first);
}

bool berth__huge_resize(void *block, size_t size) {
    struct berth__chunk *first = checked_first(block);
    if (size <= first->arena->arenas->policy.chunk_bytes || size > BERTH_ADDRESSES_MAX ||
        keeps_its_place(first)) {
        return size <= first->huge.bytes && size > first->huge.bytes / 2;
    }
    size_t bytes = berth__round_up(size, berth__page_bytes);
    return bytes <= first->huge.bytes ? shrink(first, bytes)
                                      : grow_in_place(first, bytes, BERTH_CHARGE_ORDINARY);
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

/* The pages move, and the old slots are left empty. Room beyond the old size is committed before
 * the move, so that a failure leaves the old block as it was. */
static int move(struct berth__chunk *from, char *at, size_t bytes, unsigned charge_flags) {
    struct berth__arena *arena = from->arena;
    size_t old = from->huge.bytes;
    size_t slots = slots_for(bytes);
    if (!charge_and_commit(arena, at + old, bytes - old, at, slots, charge_flags)) {
        berth__slots_give_at(at, slots);
        return -ENOMEM;
    }
    bool reserved_again = true;
    if (berth__pages_move(from->at, at, old, &reserved_again) != 0) {
        if (berth__pages_decommit(at + old, bytes - old) != 0) {
            (void)berth__pages_purge(at + old, bytes - old);
        }
        berth__ledger_uncharge(arena->arenas->ledger, bytes - old);
        if (reserved_again) {
            berth__slots_give_at(at, slots);
        }
        return -ENOTSUP;
    }
    leave_slots(from, reserved_again);
    struct berth__chunk *to = berth__chunk_of(at);
    set_committed(arena, to, bytes, 0);
    berth__unpoison(at, bytes);
    to->huge.file = false;
    publish(arena, to, bytes, false);
    return 0;
}

int berth__huge_grow(void **block, size_t size, unsigned charge_flags) {
    struct berth__chunk *first = checked_first(*block);
    if (size > BERTH_ADDRESSES_MAX) {
        return -ENOMEM;
    }
    if (keeps_its_place(first)) {
        return -ENOTSUP;
    }
    size_t bytes = berth__round_up(size, berth__page_bytes);
    if (bytes <= first->huge.bytes || grow_in_place(first, bytes, charge_flags)) {
        return 0;
    }
    char *at = drop_tail(first) ? reserve(first->arena->arenas, bytes, BERTH_CHUNK) : NULL;
    int error = at == NULL ? -ENOMEM : move(first, at, bytes, charge_flags);
    *block = error == 0 ? at : *block;
    return error;
}
