#include "chunk/space.h"

#include "base/check.h"
#include "chunk/chunk.h"
#include "chunk/handed.h"
#include "chunk/ledger.h"
#include "chunk/mappings.h"
#include "chunk/meta.h"
#include "chunk/retained.h"
#include "os/pages.h"

#include <string.h>

/* Usable records and entries grow by these, or by a machine's page if that is larger. */
enum {
    RECORDS_STEP = 64 << 10, /* a power of two; 10 MiB of slots */
    ENTRIES_STEP = 16 << 10, /* 128 MiB of units */
    SPAN_MAPPINGS = 7,       /* of its parts, usable and not, and of the slots while all are free */
};
static const size_t PRIMARY_MAX = (size_t)1 << 40;
static const size_t PRIMARY_MIN = (size_t)16 << 20; /* but where not even that can be had */
static const size_t FURTHER_MAX = (size_t)1 << 30;

struct berth__primary berth__primary BERTH_LINE_ALIGNED;
struct berth__lock berth__slots_lock;

/* Append-only, but for slots that a returned lent span leaves NULL; read without a lock. */
static _Atomic(struct berth__span *) spans[BERTH_SPANS_MAX];
static _Atomic unsigned span_count;

/* A span in the making: [table][records][used map][slots], each part a multiple of the machine's
 * page. Parts are committed as slots come into use. */
struct layout {
    size_t entries, records, used, head, total;
    size_t slots;
};

static size_t whole_steps(size_t bytes, size_t step) {
    return berth__round_up(bytes, berth__max(step, berth__page_bytes));
}

/* The table describes the head as well, of which it is a part: a longer head may need a longer
 * table, until the rounding has room for it. */
static struct layout lay_out(size_t slots) {
    struct layout layout = {.slots = slots};
    layout.records = whole_steps(slots * BERTH_RECORD_BYTES, RECORDS_STEP);
    layout.used = whole_steps(slots / 8 + 8, BERTH_PAGE);
    size_t head;
    do {
        head = layout.head;
        size_t units = (head + slots * BERTH_CHUNK) / BERTH_UNIT;
        layout.entries = whole_steps(units * sizeof(berth__entry), ENTRIES_STEP);
        layout.head = berth__round_up(layout.entries + layout.records + layout.used, BERTH_CHUNK);
    } while (layout.head != head);
    layout.total = head + slots * BERTH_CHUNK;
    return layout;
}

/* The whole table can be read from the start: an address inside the span that was never used
 * must find a zero. Readable pages that nobody writes are charged to nobody. */
static bool span_open(struct berth__span *span, char *at, const struct layout *layout) {
    memset(span, 0, sizeof(*span));
    if (berth__pages_commit_readable(at, layout->entries) != 0) {
        return false;
    }
    char *used = at + layout->entries + layout->records;
    if (berth__pages_commit(used, layout->used) != 0) {
        return false;
    }
    span->base = at;
    span->units = layout->total / BERTH_UNIT;
    span->entries = (berth__entry *)(void *)at;
    span->records = at + layout->entries;
    span->used = (uint64_t *)(void *)used;
    span->slots = at + layout->head;
    /* Entries of what lies before the slots are never written. */
    span->entries_ready = berth__round_down(layout->head / BERTH_UNIT * sizeof(berth__entry),
                                            whole_steps(ENTRIES_STEP, ENTRIES_STEP));
    span->slot_count = layout->slots;
    return true;
}

static bool span_publish(struct berth__span *span) BERTH_REQUIRES(berth__slots_lock) {
    unsigned count = berth__load_relaxed(&span_count);
    for (unsigned i = 0; i < count; i++) {
        if (berth__load_relaxed(&spans[i]) == NULL) {
            berth__store_release(&spans[i], span);
            return true;
        }
    }
    if (count == BERTH_SPANS_MAX) {
        return false;
    }
    berth__store_release(&spans[count], span);
    berth__store_release(&span_count, count + 1);
    return true;
}

static struct berth__span *span_create_locked(size_t most, size_t least)
    BERTH_REQUIRES(berth__slots_lock) {
    struct berth__span *span = berth__meta_alloc(sizeof(*span));
    for (size_t bytes = most; span != NULL; bytes = berth__max(bytes / 2, least)) {
        struct layout layout = lay_out(bytes / BERTH_CHUNK);
        char *at = berth__pages_reserve(layout.total, BERTH_CHUNK);
        if (at != NULL) {
            if (span_open(span, at, &layout) && span_publish(span)) {
                berth__meta_count(layout.used);
                berth__mappings_add(SPAN_MAPPINGS);
                return span;
            }
            berth__pages_unreserve(at, layout.total);
        }
        if (bytes <= least) {
            break;
        }
    }
    if (span != NULL) {
        berth__meta_free(span, sizeof(*span));
    }
    return NULL;
}

bool berth__space_init(size_t reserve_bytes) {
    size_t most = reserve_bytes == 0 ? PRIMARY_MAX : berth__round_up(reserve_bytes, BERTH_CHUNK);
    most = berth__min(berth__max(most, PRIMARY_MIN), PRIMARY_MAX);
    berth__lock_init(&berth__slots_lock, BERTH_RANK_SLOTS);
    berth__retained_init();
    berth__lock_acquire(&berth__slots_lock);
    struct berth__span *span = span_create_locked(most, BERTH_CHUNK);
    if (span != NULL) {
        berth__primary.base = span->base;
        berth__primary.slots = span->slots;
        berth__primary.records = span->records;
        berth__primary.slots_bytes = span->slot_count * BERTH_CHUNK;
        berth__primary.units = span->units;
    }
    berth__lock_release(&berth__slots_lock);
    if (span != NULL) {
        berth__handed_init();
    }
    return span != NULL;
}

static size_t first_never_used_locked(const struct berth__span *span)
    BERTH_REQUIRES(berth__slots_lock) {
    size_t end = span->slot_count;
    while (end > 0 && !berth__bit_test(span->used, end - 1)) {
        end--;
    }
    return berth__max(end, berth__load_relaxed(&span->slots_open));
}

static void unreserve_from(char *from, char *end) {
    if (from < end) {
        berth__pages_unreserve(from, (size_t)(end - from));
    }
}

/* Leaves a span its first slots, and their part of table and records. */
static void cut_locked(struct berth__span *span, size_t slots) BERTH_REQUIRES(berth__slots_lock) {
    char *end = span->slots + span->slot_count * BERTH_CHUNK;
    size_t units =
        (size_t)(span->slots - span->base + (ptrdiff_t)(slots * BERTH_CHUNK)) / BERTH_UNIT;
    size_t entries = whole_steps(units * sizeof(berth__entry), ENTRIES_STEP);
    size_t records = whole_steps(slots * BERTH_RECORD_BYTES, RECORDS_STEP);
    span->slot_count = slots;
    span->units = units;
    if (span->slots == berth__primary.slots) {
        berth__primary.slots_bytes = slots * BERTH_CHUNK;
        berth__primary.units = units;
        berth__handed_cut_locked(slots);
    }
    unreserve_from(span->slots + slots * BERTH_CHUNK, end);
    unreserve_from(span->records + berth__max(records, span->records_ready), (char *)span->used);
    unreserve_from((char *)span->entries + berth__max(entries, span->entries_ready), span->records);
}

void berth__space_shrink(size_t reserve_bytes) {
    if (berth__primary.units == 0 || berth__lock_is_mine(&berth__slots_lock)) {
        return;
    }
    berth__lock_acquire(&berth__slots_lock);
    struct berth__span *primary = berth__load_relaxed(&spans[0]);
    size_t slots = berth__max(reserve_bytes / BERTH_CHUNK, first_never_used_locked(primary));
    if (slots < primary->slot_count) {
        cut_locked(primary, slots);
    }
    berth__lock_release(&berth__slots_lock);
}

void berth__spans_where(const void **table, const void **count) {
    *table = spans;
    *count = &span_count;
}

struct berth__span *berth__span_find(const void *address) {
    unsigned count = berth__load_acquire(&span_count);
    for (unsigned i = 0; i < count; i++) {
        struct berth__span *span = berth__load_acquire(&spans[i]);
        if (span != NULL && (uintptr_t)address - (uintptr_t)span->base < span->units * BERTH_UNIT) {
            return span;
        }
    }
    return NULL;
}

berth__entry *berth__entry_find_slow(const void *address) {
    struct berth__span *span = berth__span_find(address);
    return span == NULL ? NULL
                        : &span->entries[((uintptr_t)address - (uintptr_t)span->base) / BERTH_UNIT];
}

struct berth__chunk *berth__chunk_find(const void *address) {
    struct berth__span *span = berth__span_find(address);
    if (span == NULL || (const char *)address < span->slots) {
        return NULL;
    }
    size_t slot = berth__slot_of(span, address);
    return slot < berth__load_acquire(&span->slots_open) ? berth__slot_record(span, slot) : NULL;
}

void berth__entries_set(const void *at, size_t units, uint64_t entry) {
    berth__entry *entries = berth__entry_find(at);
    for (size_t i = 0; i < units; i++) {
        berth__store_release(&entries[i], entry); /* M1, of a mixed slab; relaxed would do else */
    }
}

/* Makes one more part of the table or of the records usable, up to `bytes`. */
static bool ready_up_to(char *part, size_t *ready, size_t bytes, size_t step) {
    step = whole_steps(step, step);
    while (*ready < bytes) {
        if (berth__pages_commit(part + *ready, step) != 0) {
            return false;
        }
        berth__meta_count(step);
        *ready += step;
    }
    return true;
}

/* Opens the slots below `end`: their records can be used and their entries written. */
static bool open_slots_locked(struct berth__span *span, size_t end)
    BERTH_REQUIRES(berth__slots_lock) {
    const size_t open = berth__load_relaxed(&span->slots_open);
    if (end <= open) {
        return true;
    }
    size_t units = (size_t)(span->slots - span->base + (ptrdiff_t)(end * BERTH_CHUNK)) / BERTH_UNIT;
    if (!ready_up_to((char *)span->entries, &span->entries_ready, units * sizeof(berth__entry),
                     ENTRIES_STEP) ||
        !ready_up_to(span->records, &span->records_ready, end * BERTH_RECORD_BYTES, RECORDS_STEP) ||
        (span->slots == berth__primary.slots && !berth__handed_open_locked(end))) {
        return false;
    }
    for (size_t slot = open; slot < end; slot++) {
        struct berth__chunk *record = berth__slot_record(span, slot);
        record->at = span->slots + slot * BERTH_CHUNK;
        record->span = span;
        berth__list_init(&record->link);
    }
    berth__store_release(&span->slots_open, end);
    return true;
}

/* The first `count` consecutive free slots of which the first is aligned; slot_count if there are
 * none. */
static size_t find_free_locked(struct berth__span *span, size_t count, size_t alignment)
    BERTH_REQUIRES(berth__slots_lock) {
    size_t at = span->lowest_free;
    while (at < span->slot_count) {
        at = berth__bits_next_clear(span->used, at, span->slot_count);
        uintptr_t address = (uintptr_t)span->slots + at * BERTH_CHUNK;
        at += (berth__round_up(address, alignment) - address) / BERTH_CHUNK;
        if (count > span->slot_count || at > span->slot_count - count) {
            break;
        }
        size_t taken = berth__bits_next_set(span->used, at, at + count);
        if (taken == at + count) {
            return at;
        }
        at = taken + 1;
    }
    return span->slot_count;
}

void berth__slots_mark_locked(struct berth__span *span, size_t slot, size_t count) {
    berth__bits_set(span->used, slot, count);
    atomic_signal_fence(memory_order_release); /* see berth__slots_mend_in_child */
    if (slot == span->lowest_free) {
        span->lowest_free = berth__bits_next_clear(span->used, slot, span->slot_count);
    }
    size_t end = berth__min(slot + count, berth__load_relaxed(&span->slots_open));
    for (size_t i = slot; i < end; i++) {
        berth__retained_remove_locked(berth__slot_record(span, i));
    }
}

static char *reserve_from_locked(struct berth__span *span, size_t count, size_t alignment)
    BERTH_REQUIRES(berth__slots_lock) {
    size_t slot = span->lent ? span->slot_count : find_free_locked(span, count, alignment);
    if (slot == span->slot_count) {
        return NULL;
    }
    berth__slots_mark_locked(span, slot, count);
    return span->slots + slot * BERTH_CHUNK;
}

char *berth__slots_reserve(size_t count, size_t alignment) {
    alignment = berth__max(alignment, BERTH_CHUNK);
    if (count > BERTH_ADDRESSES_MAX / BERTH_CHUNK || alignment > BERTH_ALIGNMENT_MAX) {
        return NULL;
    }
    char *at = NULL;
    berth__lock_acquire(&berth__slots_lock);
    unsigned spans_now = berth__load_relaxed(&span_count);
    for (unsigned i = 0; at == NULL && i < spans_now; i++) {
        struct berth__span *span = berth__load_relaxed(&spans[i]);
        at = span == NULL ? NULL : reserve_from_locked(span, count, alignment);
    }
    if (at == NULL) {
        size_t least = count * BERTH_CHUNK + (alignment - BERTH_CHUNK);
        struct berth__span *span = span_create_locked(berth__max(FURTHER_MAX, least), least);
        at = span == NULL ? NULL : reserve_from_locked(span, count, alignment);
    }
    berth__lock_release(&berth__slots_lock);
    return at;
}

bool berth__slots_reserve_at(const void *at, size_t count) {
    struct berth__span *span = berth__span_find(at);
    if (span == NULL || span->lent) {
        return false;
    }
    berth__lock_acquire(&berth__slots_lock);
    size_t slot = berth__slot_of(span, at);
    bool free = slot <= span->slot_count && count <= span->slot_count - slot &&
                berth__bits_next_set(span->used, slot, slot + count) == slot + count;
    if (free) {
        berth__slots_mark_locked(span, slot, count);
    }
    berth__lock_release(&berth__slots_lock);
    return free;
}

size_t berth__slot_committed(const void *at) {
    const struct berth__chunk *record = berth__chunk_find(at);
    return record == NULL ? 0 : record->committed;
}

struct berth__chunk *berth__slots_open(const void *at, size_t count) {
    struct berth__span *span = berth__span_find(at);
    size_t slot = berth__slot_of(span, at);
    berth__lock_acquire(&berth__slots_lock);
    bool open = open_slots_locked(span, slot + count);
    berth__lock_release(&berth__slots_lock);
    return open ? berth__slot_record(span, slot) : NULL;
}

struct berth__chunk *berth__slots_take(size_t count) {
    char *at = berth__slots_reserve(count, BERTH_CHUNK);
    struct berth__chunk *first = at == NULL ? NULL : berth__slots_open(at, count);
    if (at != NULL && first == NULL) {
        berth__slots_give_at(at, count);
    }
    return first;
}

struct berth__chunk *berth__chunk_next(const struct berth__chunk *chunk) {
    return berth__slot_record(chunk->span, berth__slot_of(chunk->span, chunk->at) + 1);
}

void berth__slots_give_at(const void *at, size_t count) {
    struct berth__span *span = berth__span_find(at);
    size_t slot = berth__slot_of(span, at);
    berth__lock_acquire(&berth__slots_lock);
    size_t end = berth__min(slot + count, berth__load_relaxed(&span->slots_open));
    for (size_t i = slot; i < end; i++) {
        struct berth__chunk *record = berth__slot_record(span, i);
        berth__store_release(&record->use, BERTH_SLOT_FREE);
        berth__retained_add_locked(record);
    }
    atomic_signal_fence(memory_order_release); /* see berth__slots_mend_in_child */
    berth__bits_clear(span->used, slot, count);
    span->lowest_free = berth__min(span->lowest_free, slot);
    berth__lock_release(&berth__slots_lock);
}

void berth__slots_give(struct berth__chunk *first, size_t count) {
    berth__slots_give_at(first->at, count);
}

/* Frees what was made of a lent span so far. */
static void lent_undo(struct berth__span *span, size_t head_bytes) {
    if (span->base != NULL) {
        berth__pages_unreserve(span->entries, head_bytes);
    }
    berth__meta_free(span, sizeof(*span));
}

/* The units that lie wholly in memory of the caller: [first, *end). */
static char *whole_units(const void *memory, size_t bytes, char **end) {
    *end = (char *)berth__round_down((uintptr_t)memory + bytes, BERTH_UNIT);
    return (char *)berth__round_up((uintptr_t)memory, BERTH_UNIT);
}

bool berth__span_can_be_lent(const void *memory, size_t bytes) {
    char *end;
    const char *first = whole_units(memory, bytes, &end);
    bool free = bytes >= BERTH_UNIT && first < end;
    berth__lock_acquire(&berth__slots_lock);
    for (unsigned i = 0; free && i < berth__load_relaxed(&span_count); i++) {
        struct berth__span *span = berth__load_relaxed(&spans[i]);
        free = span == NULL || end <= span->base || first >= span->base + span->units * BERTH_UNIT;
    }
    berth__lock_release(&berth__slots_lock);
    return free;
}

struct berth__span *berth__span_lend(void *memory, size_t bytes) {
    char *end;
    char *first = whole_units(memory, bytes, &end);
    if (!berth__span_can_be_lent(memory, bytes)) {
        return NULL;
    }
    size_t units = (size_t)(end - first) / BERTH_UNIT;
    size_t slots = (units + BERTH_CHUNK_UNITS - 1) / BERTH_CHUNK_UNITS;
    size_t entries = berth__round_up(units * sizeof(berth__entry), ENTRIES_STEP);
    size_t head = entries + slots * BERTH_RECORD_BYTES;
    head = berth__round_up(head, ENTRIES_STEP);
    struct berth__span *span = berth__meta_alloc(sizeof(*span));
    char *at = span == NULL ? NULL : berth__pages_reserve(head, ENTRIES_STEP);
    if (at == NULL || berth__pages_commit(at, head) != 0) {
        if (span != NULL) {
            span->base = at;
            span->entries = (berth__entry *)(void *)at;
            lent_undo(span, head);
        }
        return NULL;
    }
    *span = (struct berth__span){.base = first,
                                 .units = units,
                                 .entries = (berth__entry *)(void *)at,
                                 .records = at + entries,
                                 .slots = first,
                                 .slot_count = slots,
                                 .entries_ready = entries,
                                 .records_ready = head - entries,
                                 .slots_open = slots,
                                 .lowest_free = slots,
                                 .lent = true};
    for (size_t slot = 0; slot < slots; slot++) {
        struct berth__chunk *record = berth__slot_record(span, slot);
        record->at = first + slot * BERTH_CHUNK;
        record->span = span;
        record->committed = berth__min((size_t)(end - record->at), BERTH_CHUNK);
        berth__list_init(&record->link);
    }
    berth__lock_acquire(&berth__slots_lock);
    bool published = span_publish(span);
    berth__lock_release(&berth__slots_lock);
    if (!published) {
        lent_undo(span, head);
        return NULL;
    }
    berth__meta_count(head);
    berth__mappings_add(1);
    return span;
}

void berth__span_return(struct berth__span *span) {
    berth__lock_acquire(&berth__slots_lock);
    for (unsigned i = 0; i < BERTH_SPANS_MAX; i++) {
        if (berth__load_relaxed(&spans[i]) == span) {
            berth__store_release(&spans[i], NULL);
        }
    }
    berth__lock_release(&berth__slots_lock);
    size_t head = span->entries_ready + span->records_ready;
    berth__meta_count(0 - (uint64_t)head);
    berth__mappings_add(-1);
    lent_undo(span, head);
}

void berth__slots_visit(void (*visit)(void *context, struct berth__chunk *record), void *context) {
    unsigned count = berth__load_acquire(&span_count);
    for (unsigned i = 0; i < count; i++) {
        struct berth__span *span = berth__load_acquire(&spans[i]);
        size_t open = span == NULL ? 0 : berth__load_acquire(&span->slots_open);
        for (size_t slot = 0; slot < open; slot++) {
            visit(context, berth__slot_record(span, slot));
        }
    }
}

/* Slots are marked as used before they leave the lists of retained ones, and free after they joined
 * those: what was on its way is in the lists, and found there, or stays used. Parts of spans that
 * were being made usable are so again. */
void berth__slots_mend_in_child(void) BERTH_NO_TSA {
    berth__retained_mend_in_child();
    berth__mappings_mend_in_child();
    for (unsigned i = 0; i < berth__load_relaxed(&span_count); i++) {
        struct berth__span *span = berth__load_relaxed(&spans[i]);
        if (span != NULL && !span->lent) {
            span->lowest_free = berth__bits_next_clear(span->used, 0, span->slot_count);
        }
    }
}
