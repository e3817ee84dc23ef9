/*
 * Where the engine's own records lie, as numbers on the stats page: what a reader outside needs to
 * follow them through /proc/PID/mem, without knowing the structures that the process was built
 * with.
 *
 * An array of 64-bit numbers, in the order below. The list grows at its end only; a reader that
 * finds fewer numbers than it needs says so. BERTH_LAYOUT_VERSION, the first one, changes when what
 * is found there changes its meaning: states of slots, marks of runs, what bitmaps say. Offsets and
 * sizes may change without. Records are written while they are read: a reader believes nothing.
 */
#ifndef BERTH_METRICS_LAYOUT_FORMAT_H
#define BERTH_METRICS_LAYOUT_FORMAT_H

enum { BERTH_LAYOUT_VERSION = 1 };

/* clang-format off */
#define BERTH_LAYOUT(X)                                                                            \
    X(version)                                                                                     \
    /* what memory is cut into; bytes */                                                           \
    X(machine_page_bytes) X(page_bytes) X(unit_bytes) X(chunk_bytes)                               \
    /* spans: an array of pointers, and how many of them are used */                               \
    X(spans_at) X(span_count_at)                                                                   \
    X(span_bytes) X(span_base) X(span_units) X(span_records) X(span_slots) X(span_slot_count)      \
    X(span_slots_open) X(span_lent)                                                                \
    /* the record of a slot (chunk/chunk.h) */                                                     \
    X(record_bytes) X(chunk_at) X(chunk_arena) X(chunk_committed) X(chunk_use) X(chunk_hollow)     \
    X(chunk_pins) X(chunk_registrations) X(chunk_generation)                                       \
    X(chunk_huge_bytes) X(chunk_huge_tail) X(chunk_huge_file)                                      \
    X(chunk_used) X(chunk_dirty) X(chunk_run_pages) X(chunk_slabs)                                 \
    /* a slab (chunk/slab.h), and the classes */                                                   \
    X(slab_stride) X(slab_heap) X(slab_ready) X(slab_small_class)                                  \
    X(classes_at) X(class_count) X(class_stride) X(class_size) X(class_blocks) X(class_words)      \
    /* heaps, arenas, pools: an array of pointers to pools */                                      \
    X(heap_number) X(arena_arenas) X(arena_index) X(pools_at) X(pool_count)                        \
    X(pool_arenas) X(pool_name) X(pool_name_bytes) X(arenas_bytes) X(arenas_number)                \
    X(arenas_caches)                                                                               \
    /* thread caches (heap/cache.h): members of a list */                                          \
    X(cache_bytes) X(cache_link) X(cache_heap) X(cache_owner) X(cache_owns_heap) X(cache_state)    \
    X(cache_granted) X(cache_remote_bytes) X(cache_remote_count)                                   \
    X(bin_stride) X(bin_top) X(bin_low) X(bin_capacity)                                            \
    /* the stash of a cache (heap/stash.h), if it has one */                                       \
    X(cache_stash) X(stash_bytes) X(stash_count)                                                   \
    /* blocks of a slab that are cut (chunk/parts.h) */                                            \
    X(slab_cut) X(slab_parts_ready) X(slab_parts_class) X(slab_parts_per_block)
/* clang-format on */

enum berth__layout_item {
#define BERTH_X(name) BERTH_LAYOUT_##name,
    BERTH_LAYOUT(BERTH_X)
#undef BERTH_X
        BERTH_LAYOUT_COUNT
};

#endif
