#include "metrics/layout.h"

#include "heap/stash.h"
#include "pool/pool.h"

#define PLACE(name) [BERTH_LAYOUT_##name]
#define OFFSET(type, member) offsetof(struct type, member)

static const uint64_t constants[BERTH_LAYOUT_COUNT] = {
    PLACE(version) = BERTH_LAYOUT_VERSION,
    PLACE(page_bytes) = BERTH_PAGE,
    PLACE(unit_bytes) = BERTH_UNIT,
    PLACE(chunk_bytes) = BERTH_CHUNK,
    PLACE(span_bytes) = sizeof(struct berth__span),
    PLACE(span_base) = OFFSET(berth__span, base),
    PLACE(span_units) = OFFSET(berth__span, units),
    PLACE(span_records) = OFFSET(berth__span, records),
    PLACE(span_slots) = OFFSET(berth__span, slots),
    PLACE(span_slot_count) = OFFSET(berth__span, slot_count),
    PLACE(span_slots_open) = OFFSET(berth__span, slots_open),
    PLACE(span_lent) = OFFSET(berth__span, lent),
    PLACE(record_bytes) = BERTH_RECORD_BYTES,
    PLACE(chunk_at) = OFFSET(berth__chunk, at),
    PLACE(chunk_arena) = OFFSET(berth__chunk, arena),
    PLACE(chunk_committed) = OFFSET(berth__chunk, committed),
    PLACE(chunk_use) = OFFSET(berth__chunk, use),
    PLACE(chunk_hollow) = OFFSET(berth__chunk, hollow),
    PLACE(chunk_pins) = OFFSET(berth__chunk, pins),
    PLACE(chunk_registrations) = OFFSET(berth__chunk, registrations),
    PLACE(chunk_generation) = OFFSET(berth__chunk, generation),
    PLACE(chunk_huge_bytes) = OFFSET(berth__chunk, huge.bytes),
    PLACE(chunk_huge_tail) = OFFSET(berth__chunk, huge.tail),
    PLACE(chunk_huge_file) = OFFSET(berth__chunk, huge.file),
    PLACE(chunk_used) = OFFSET(berth__chunk, used),
    PLACE(chunk_dirty) = OFFSET(berth__chunk, dirty),
    PLACE(chunk_run_pages) = OFFSET(berth__chunk, run_pages),
    PLACE(chunk_slabs) = OFFSET(berth__chunk, slabs),
    PLACE(slab_stride) = sizeof(struct berth__slab_record),
    PLACE(slab_heap) = OFFSET(berth__slab_record, slab.heap),
    PLACE(slab_ready) = OFFSET(berth__slab_record, slab.ready),
    PLACE(slab_small_class) = OFFSET(berth__slab_record, slab.small_class),
    PLACE(class_count) = BERTH_SMALL_CLASS_COUNT,
    PLACE(class_stride) = sizeof(struct berth__class),
    PLACE(class_size) = OFFSET(berth__class, size),
    PLACE(class_blocks) = OFFSET(berth__class, blocks),
    PLACE(class_words) = OFFSET(berth__class, words),
    PLACE(heap_number) = OFFSET(berth__heap, number),
    PLACE(arena_arenas) = OFFSET(berth__arena, arenas),
    PLACE(arena_index) = OFFSET(berth__arena, index),
    PLACE(pool_count) = BERTH_POOLS_MAX,
    PLACE(pool_arenas) = OFFSET(berth_pool, arenas),
    PLACE(pool_name) = OFFSET(berth_pool, name),
    PLACE(pool_name_bytes) = BERTH_POOL_NAME_MAX + 1,
    PLACE(arenas_bytes) = sizeof(struct berth__arenas),
    PLACE(arenas_number) = OFFSET(berth__arenas, number),
    PLACE(arenas_caches) = OFFSET(berth__arenas, caches),
    PLACE(cache_bytes) = sizeof(struct berth__cache),
    PLACE(cache_link) = OFFSET(berth__cache, link),
    PLACE(cache_heap) = OFFSET(berth__cache, heap),
    PLACE(cache_owner) = OFFSET(berth__cache, owner),
    PLACE(cache_owns_heap) = OFFSET(berth__cache, owns_heap),
    PLACE(cache_state) = OFFSET(berth__cache, state),
    PLACE(cache_granted) = OFFSET(berth__cache, granted),
    PLACE(cache_remote_bytes) = OFFSET(berth__cache, remote_bytes),
    PLACE(cache_remote_count) = OFFSET(berth__cache, remote_count),
    PLACE(bin_stride) = sizeof(struct berth__bin),
    PLACE(bin_top) = OFFSET(berth__bin, top),
    PLACE(bin_low) = OFFSET(berth__bin, low),
    PLACE(bin_capacity) = OFFSET(berth__bin, capacity),
    PLACE(cache_stash) = OFFSET(berth__cache, stash),
    PLACE(stash_bytes) = OFFSET(berth__stash, table.bytes),
    PLACE(stash_count) = OFFSET(berth__stash, table.count),
    PLACE(slab_cut) = OFFSET(berth__slab_record, parts.cut),
    PLACE(slab_parts_ready) = OFFSET(berth__slab_record, parts.ready),
    PLACE(slab_parts_class) = OFFSET(berth__slab_record, parts.small_class),
    PLACE(slab_parts_per_block) = OFFSET(berth__slab_record, parts.per_block),
};
_Static_assert(offsetof(struct berth__cache, bins) == 0, "bins come first");

void berth__layout_write(uint64_t values[BERTH_LAYOUT_COUNT]) {
    const void *spans = NULL;
    const void *span_count = NULL;
    for (unsigned i = 0; i < BERTH_LAYOUT_COUNT; i++) {
        values[i] = constants[i];
    }
    berth__spans_where(&spans, &span_count);
    values[BERTH_LAYOUT_machine_page_bytes] = berth__page_bytes;
    values[BERTH_LAYOUT_spans_at] = (uintptr_t)spans;
    values[BERTH_LAYOUT_span_count_at] = (uintptr_t)span_count;
    values[BERTH_LAYOUT_classes_at] = (uintptr_t)berth__classes;
    values[BERTH_LAYOUT_pools_at] = (uintptr_t)berth__pools_where();
}
