#include "cli/map_chunk.h"

#include "base/bits.h"
#include "chunk/chunk.h"
#include "chunk/parts.h"

#include <stdlib.h>
#include <string.h>

#define AT(map, name) ((map)->engine->layout[BERTH_LAYOUT_##name])

/* What a page of a slab has. */
enum { HAS_LIVE = 1, HAS_CACHED = 2, HAS_READY = 4, HAS_COLD = 8 };

/* A chunk, as far as it was read. */
struct chunk {
    struct berth__map *map;
    struct berth__map_stretch *stretch;
    struct berth__map_sums *sums;
    const char *record;
    uint64_t used[BERTH_CHUNK_WORDS], dirty[BERTH_CHUNK_WORDS];
    uint16_t run_pages[BERTH_CHUNK_PAGES];
};

struct berth__map_thing *berth__map_add_thing(struct berth__map_stretch *stretch,
                                              struct berth__map_thing thing) {
    size_t count = stretch->thing_count;
    if (count == 0 || (count >= 8 && berth__is_power_of_2(count))) {
        size_t capacity = count == 0 ? 8 : count * 2;
        void *things = realloc(stretch->things, capacity * sizeof(*stretch->things));
        if (things == NULL) {
            return NULL;
        }
        stretch->things = things;
    }
    stretch->things[stretch->thing_count++] = thing;
    return &stretch->things[count];
}

static void set_states(struct berth__map_stretch *stretch, size_t page, size_t pages,
                       enum berth__map_state state) {
    memset(stretch->states + page, (int)state, pages);
}

/* ---- slabs ---- */

static uint64_t slab_number(const struct chunk *chunk, unsigned unit, uint64_t offset, size_t bytes,
                            uint64_t otherwise) {
    uint64_t at = AT(chunk->map, chunk_slabs) + unit * AT(chunk->map, slab_stride) + offset;
    return berth__number_in(chunk->record, AT(chunk->map, record_bytes), at, bytes, otherwise);
}

static bool is_slab(const struct chunk *chunk, unsigned unit) {
    return slab_number(chunk, unit, AT(chunk->map, slab_heap), 8, 0) != 0;
}

enum { BITMAP_WORDS_MAX = BERTH_WORDS_FOR(BERTH_UNIT / BERTH_GRANULE) };

/* The bitmaps of ready and cold blocks, which follow each other. */
static bool read_bitmaps(const struct chunk *chunk, unsigned unit, size_t words,
                         uint64_t bits[2 * BITMAP_WORDS_MAX]) {
    const struct berth__memory *memory = &chunk->map->engine->memory;
    uint64_t at = slab_number(chunk, unit, AT(chunk->map, slab_ready), 8, 0);
    return words <= BITMAP_WORDS_MAX && at != 0 &&
           memory->read(memory->context, at, bits, 2 * words * sizeof(uint64_t));
}

/* Marks the blocks of a slab that lie in threads' caches. */
static void mark_cached(const struct chunk *chunk, uint64_t base,
                        const struct berth__seen_class *class, uint64_t bits[BITMAP_WORDS_MAX]) {
    const struct berth__seen *engine = chunk->map->engine;
    size_t first;
    size_t count = berth__seen_cached_in(engine, base, base + BERTH_UNIT, &first);
    memset(bits, 0, BITMAP_WORDS_MAX * sizeof(*bits));
    for (size_t i = first; i < first + count; i++) {
        uint64_t offset = engine->cached[i] - base;
        if (offset % class->size == 0 && offset / class->size < class->blocks) {
            berth__bit_set(bits, offset / class->size);
        }
    }
}

static void note_pages(uint8_t flags[BERTH_UNIT_PAGES], uint64_t offset, uint64_t size,
                       uint8_t has) {
    uint64_t last = (offset + size - 1) / BERTH_PAGE;
    for (uint64_t page = offset / BERTH_PAGE; page <= last && page < BERTH_UNIT_PAGES; page++) {
        flags[page] = (uint8_t)(flags[page] | has);
    }
}

static void note_block(struct berth__map_thing *slab, uint8_t flags[BERTH_UNIT_PAGES],
                       uint64_t offset, uint64_t size, uint8_t has) {
    slab->live += has == HAS_LIVE;
    slab->cached += has == HAS_CACHED;
    slab->ready += has == HAS_READY;
    slab->cold += has == HAS_COLD;
    note_pages(flags, offset, size, has);
}

/* Blocks that are cut, and what is free of them. */
enum { PARTS_WORDS_MAX = BITMAP_WORDS_MAX };
struct cuts {
    uint64_t blocks[BERTH_PARTS_BLOCKS_MAX / 64];
    uint64_t ready[PARTS_WORDS_MAX];
    uint32_t size, per_block; /* of parts */
};

/* False if what is there makes no sense. */
static bool read_cuts(const struct chunk *chunk, unsigned unit,
                      const struct berth__seen_class *class, struct cuts *cuts) {
    const struct berth__seen *engine = chunk->map->engine;
    const struct berth__memory *memory = &engine->memory;
    bool any = false;
    memset(cuts, 0, sizeof(*cuts));
    for (unsigned w = 0; class->blocks <= BERTH_PARTS_BLOCKS_MAX && w < class->words; w++) {
        cuts->blocks[w] =
            slab_number(chunk, unit, AT(chunk->map, slab_cut) + w * UINT64_C(8), 8, 0);
        any = any || cuts->blocks[w] != 0;
    }
    if (!any) {
        return true;
    }
    uint64_t number = slab_number(chunk, unit, AT(chunk->map, slab_parts_class), 1, UINT8_MAX);
    uint64_t at = slab_number(chunk, unit, AT(chunk->map, slab_parts_ready), 8, 0);
    cuts->per_block =
        (uint32_t)slab_number(chunk, unit, AT(chunk->map, slab_parts_per_block), 1, 0);
    cuts->size = number < engine->class_count ? engine->classes[number].size : UINT32_MAX;
    size_t words = (class->blocks * (size_t)cuts->per_block + 63) / 64;
    return (uint64_t)cuts->size * cuts->per_block <= class->size && words <= PARTS_WORDS_MAX &&
           at != 0 && memory->read(memory->context, at, cuts->ready, words * sizeof(uint64_t));
}

/* A cut block is one in use; the sums are those of its parts. */
static void note_cut_block(const struct chunk *chunk, struct berth__map_thing *slab,
                           uint8_t flags[BERTH_UNIT_PAGES], const struct cuts *cuts, uint32_t i) {
    const struct berth__seen *engine = chunk->map->engine;
    struct berth__map_sums *sums = chunk->sums;
    uint32_t block_size = engine->classes[slab->small_class].size;
    uint64_t base = chunk->stretch->at + slab->page * (uint64_t)BERTH_PAGE;
    uint64_t offset = berth__parts_first(cuts->size, i * block_size);
    for (uint32_t p = 0; p < cuts->per_block; p++, offset += cuts->size) {
        size_t first;
        bool ready = berth__bit_test(cuts->ready, i * (size_t)cuts->per_block + p);
        bool cached =
            !ready && berth__seen_cached_in(engine, base + offset, base + offset + 1, &first) > 0;
        note_pages(flags, offset, cuts->size, ready ? HAS_READY : cached ? HAS_CACHED : HAS_LIVE);
        *(ready ? &sums->slab_free_bytes : &sums->slab_lent_bytes) += cuts->size;
        sums->slab_cached_bytes += cached ? cuts->size : 0;
    }
    sums->slab_tail_bytes += block_size - (uint64_t)cuts->per_block * cuts->size;
    sums->slab_lent_bytes -= block_size; /* sum_slab adds it */
    slab->live++;
}

static enum berth__map_state state_of(uint8_t flags) {
    return flags == HAS_LIVE           ? BERTH_MAP_SMALL
           : (flags & HAS_LIVE) != 0   ? BERTH_MAP_PART
           : (flags & HAS_CACHED) != 0 ? BERTH_MAP_CACHED
           : (flags & HAS_READY) != 0  ? BERTH_MAP_FREE
                                       : BERTH_MAP_COLD;
}

static void sum_slab(const struct chunk *chunk, const struct berth__map_thing *slab,
                     const struct berth__seen_class *class) {
    struct berth__map_sums *sums = chunk->sums;
    uint64_t lent = (uint64_t)slab->live + slab->cached;
    uint64_t unused = (uint64_t)slab->ready + slab->cold;
    sums->slabs++;
    sums->slab_lent_bytes += lent * class->size;
    sums->slab_cached_bytes += (uint64_t)slab->cached * class->size;
    sums->slab_free_bytes += unused * class->size;
    sums->slab_tail_bytes += BERTH_UNIT - (uint64_t) class->blocks * class->size;
}

/* A unit that is changing hands, or of which nothing sensible could be read, is shown as that. */
static bool add_unknown(struct chunk *chunk, size_t page, size_t pages) {
    struct berth__map_thing thing = {
        .page = (uint32_t)page, .pages = (uint32_t)pages, .kind = BERTH_MAP_UNKNOWN};
    chunk->map->engine->torn++;
    set_states(chunk->stretch, page, pages, BERTH_MAP_OTHER);
    return berth__map_add_thing(chunk->stretch, thing) != NULL;
}

static bool add_slab(struct chunk *chunk, unsigned unit) {
    const struct berth__seen *engine = chunk->map->engine;
    uint64_t bits[2 * BITMAP_WORDS_MAX] = {0};
    uint64_t cached[BITMAP_WORDS_MAX];
    uint8_t flags[BERTH_UNIT_PAGES] = {0};
    uint64_t heap = slab_number(chunk, unit, AT(chunk->map, slab_heap), 8, 0);
    uint64_t number = slab_number(chunk, unit, AT(chunk->map, slab_small_class), 1, UINT8_MAX);
    size_t first_page = (size_t)unit * BERTH_UNIT_PAGES;
    struct cuts cuts;
    if (number >= engine->class_count ||
        !read_bitmaps(chunk, unit, engine->classes[number].words, bits) ||
        !read_cuts(chunk, unit, &engine->classes[number], &cuts)) {
        return add_unknown(chunk, first_page, BERTH_UNIT_PAGES);
    }
    const struct berth__seen_class *class = &engine->classes[number];
    struct berth__map_thing slab = {.page = (uint32_t)first_page,
                                    .pages = BERTH_UNIT_PAGES,
                                    .kind = BERTH_MAP_A_SLAB,
                                    .small_class = (unsigned)number};
    slab.heap = (uint32_t)berth__seen_number(engine, heap + AT(chunk->map, heap_number), 4, 0);
    mark_cached(chunk, chunk->stretch->at + first_page * BERTH_PAGE, class, cached);
    for (uint32_t i = 0; i < class->blocks; i++) {
        if (i < BERTH_PARTS_BLOCKS_MAX && berth__bit_test(cuts.blocks, i)) {
            note_cut_block(chunk, &slab, flags, &cuts, i);
            continue;
        }
        uint8_t has = berth__bit_test(bits, i)                  ? HAS_READY
                      : berth__bit_test(bits + class->words, i) ? HAS_COLD
                      : berth__bit_test(cached, i)              ? HAS_CACHED
                                                                : HAS_LIVE;
        note_block(&slab, flags, (uint64_t)i * class->size, class->size, has);
    }
    for (unsigned i = 0; i < BERTH_UNIT_PAGES; i++) {
        set_states(chunk->stretch, first_page + i, 1, state_of(flags[i]));
    }
    sum_slab(chunk, &slab, class);
    return berth__map_add_thing(chunk->stretch, slab) != NULL;
}

/* ---- runs ---- */

/* Counts one block that is (part of) a run. */
static void note_run(struct chunk *chunk, struct berth__map_thing *thing, unsigned mark,
                     uint64_t bytes) {
    bool is_free = (mark & BERTH_RUN_FREE) != 0;
    bool is_cached = !is_free && (mark & BERTH_RUN_PARKED) != 0;
    thing->ready += is_free;
    thing->cached += is_cached;
    thing->live += !is_free && !is_cached;
    *(is_free     ? &chunk->sums->run_free_bytes
      : is_cached ? &chunk->sums->run_cached_bytes
                  : &chunk->sums->run_lent_bytes) += bytes;
}

static enum berth__map_state run_state(unsigned mark) {
    return (mark & BERTH_RUN_FREE) != 0     ? BERTH_MAP_DIRTY
           : (mark & BERTH_RUN_PARKED) != 0 ? BERTH_MAP_CACHED
                                            : BERTH_MAP_RUN;
}

/* The page that both touch is that of the one in use; states of use come first. */
static void set_twin_states(struct chunk *chunk, size_t page, size_t pages, unsigned first,
                            unsigned second) {
    enum berth__map_state of_first = run_state(first);
    enum berth__map_state of_second = run_state(second);
    set_states(chunk->stretch, page, pages / 2, of_first);
    set_states(chunk->stretch, page + pages / 2, 1, BERTH_MAP_DIRTY);
    set_states(chunk->stretch, page + pages / 2 + 1, pages - pages / 2 - 1, of_second);
    chunk->stretch->states[page + pages / 2] =
        (uint8_t)(of_first < of_second ? of_first : of_second);
}

static bool add_run(struct chunk *chunk, size_t page, size_t pages) {
    unsigned mark = chunk->run_pages[page];
    uint64_t bytes = pages * (uint64_t)BERTH_PAGE;
    struct berth__map_thing thing = {.page = (uint32_t)page, .pages = (uint32_t)pages};
    if ((mark & BERTH_RUN_TWIN) != 0) {
        unsigned second = chunk->run_pages[page + pages / 2];
        thing.kind = BERTH_MAP_TWINS;
        note_run(chunk, &thing, mark, bytes / 2);
        note_run(chunk, &thing, second, bytes / 2);
        set_twin_states(chunk, page, pages, mark, second);
    } else {
        thing.kind = BERTH_MAP_A_RUN;
        note_run(chunk, &thing, mark, bytes);
        set_states(chunk->stretch, page, pages, run_state(mark));
    }
    return berth__map_add_thing(chunk->stretch, thing) != NULL;
}

static bool add_free_run(struct chunk *chunk, size_t page, size_t pages) {
    struct berth__map_thing thing = {
        .page = (uint32_t)page, .pages = (uint32_t)pages, .kind = BERTH_MAP_A_FREE_RUN};
    for (size_t i = page; i < page + pages; i++) {
        bool dirty = berth__bit_test(chunk->dirty, i);
        set_states(chunk->stretch, i, 1, dirty ? BERTH_MAP_DIRTY : BERTH_MAP_CLEAN);
        if (dirty && !chunk->stretch->lent) { /* the metrics count what could be purged */
            chunk->sums->run_dirty_bytes += BERTH_PAGE;
        }
    }
    chunk->sums->run_free_bytes += pages * (uint64_t)BERTH_PAGE;
    return berth__map_add_thing(chunk->stretch, thing) != NULL;
}

/* Pages of the run, or twins, that begins at a page; 0 if none does. */
static size_t run_at(const struct chunk *chunk, size_t page, size_t end) {
    unsigned mark = chunk->run_pages[page];
    size_t pages = mark & BERTH_RUN_LENGTH;
    bool twins = (mark & BERTH_RUN_TWIN) != 0;
    return pages > end - page || (mark & BERTH_RUN_SECOND) != 0 || (twins && pages < 2) ? 0 : pages;
}

/* ---- all of it ---- */

/* Where something that makes no sense ends: at whatever does. */
static size_t end_of_unknown(const struct chunk *chunk, size_t page, size_t end) {
    do {
        page++;
    } while (
        page < end && berth__bit_test(chunk->used, page) && run_at(chunk, page, end) == 0 &&
        !(page % BERTH_UNIT_PAGES == 0 && is_slab(chunk, (unsigned)(page / BERTH_UNIT_PAGES))));
    return page;
}

/* Adds what begins at a page. Returns how many pages that has; 0: no memory. */
static size_t add_thing(struct chunk *chunk, size_t page, size_t end) {
    unsigned unit = (unsigned)(page / BERTH_UNIT_PAGES);
    if (page % BERTH_UNIT_PAGES == 0 && end - page >= BERTH_UNIT_PAGES && is_slab(chunk, unit)) {
        return add_slab(chunk, unit) ? BERTH_UNIT_PAGES : 0;
    }
    if (!berth__bit_test(chunk->used, page)) {
        size_t pages = berth__bits_next_set(chunk->used, page, end) - page;
        return add_free_run(chunk, page, pages) ? pages : 0;
    }
    size_t pages = run_at(chunk, page, end);
    if (pages > 0) {
        return add_run(chunk, page, pages) ? pages : 0;
    }
    pages = end_of_unknown(chunk, page, end) - page;
    return add_unknown(chunk, page, pages) ? pages : 0;
}

/* A bitmap or table of the record; all zero if the layout puts it outside. */
static void take(const struct chunk *chunk, void *to, size_t bytes, uint64_t offset) {
    uint64_t record_bytes = AT(chunk->map, record_bytes);
    memset(to, 0, bytes);
    if (offset <= record_bytes && bytes <= record_bytes - offset) {
        memcpy(to, chunk->record + offset, bytes);
    }
}

bool berth__map_chunk(struct berth__map *map, struct berth__map_stretch *stretch,
                      const char *record, struct berth__map_sums *sums) {
    struct chunk chunk = {.map = map, .stretch = stretch, .sums = sums, .record = record};
    size_t end = berth__min(stretch->pages, BERTH_CHUNK_PAGES);
    take(&chunk, chunk.used, sizeof(chunk.used), AT(map, chunk_used));
    take(&chunk, chunk.dirty, sizeof(chunk.dirty), AT(map, chunk_dirty));
    take(&chunk, chunk.run_pages, sizeof(chunk.run_pages), AT(map, chunk_run_pages));
    sums->chunks++;
    sums->chunk_bytes += end * (uint64_t)BERTH_PAGE;
    for (size_t page = 0; page < end;) {
        size_t pages = add_thing(&chunk, page, end);
        if (pages == 0) {
            return false;
        }
        page += pages;
    }
    return true;
}
