#include "cli/map_read.h"

#include "base/bits.h"
#include "chunk/chunk.h"
#include "cli/figures.h"
#include "cli/map_chunk.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SPANS_MAX = 65536,
    SLOTS_MAX = 1 << 20,   /* looked at, in all spans */
    UNREADABLE_MAX = 1024, /* records in a row */
    PAGES_MAX = 1 << 27,   /* half a TiB */
};

#define AT(map, name) ((map)->engine->layout[BERTH_LAYOUT_##name])

const char berth__map_letters[BERTH_MAP_STATE_COUNT + 1] = {
#define BERTH_X(name, letter, meaning) letter,
    BERTH_MAP_STATES(BERTH_X)
#undef BERTH_X
        '\0'};

const char *const berth__map_meanings[BERTH_MAP_STATE_COUNT] = {
#define BERTH_X(name, letter, meaning) meaning,
    BERTH_MAP_STATES(BERTH_X)
#undef BERTH_X
};

struct span {
    uint64_t records, slots, count, open;
    bool lent;
};

struct reading {
    struct berth__map *map;
    struct berth__residency residency;
    struct span span;
    char *record;
    uint64_t slots_seen, unreadable; /* the latter in a row */
    uint64_t arena;                  /* the one looked up last, with what was found */
    uint32_t arena_index;
    unsigned arena_pool;
};

static bool fail(struct berth__map *map, const char *why) {
    map->why = why;
    return false;
}

/* ---- stretches ---- */

static struct berth__map_stretch *add_stretch(struct berth__map *map, uint64_t at, uint64_t bytes,
                                              enum berth__map_kind kind) {
    uint64_t pages = bytes / BERTH_PAGE;
    if (map->total_pages + pages > PAGES_MAX) {
        fail(map, "it has more memory than can be drawn");
        return NULL;
    }
    if (map->count == map->capacity) {
        size_t capacity = map->capacity * 2 + 64;
        void *stretches = realloc(map->stretches, capacity * sizeof(*map->stretches));
        if (stretches == NULL) {
            fail(map, "there is no memory for what it holds");
            return NULL;
        }
        map->stretches = stretches;
        map->capacity = capacity;
    }
    uint8_t *states = calloc(pages + 1, 1);
    if (states == NULL) {
        fail(map, "there is no memory for what it holds");
        return NULL;
    }
    map->total_pages += pages;
    struct berth__map_stretch *stretch = &map->stretches[map->count++];
    *stretch = (struct berth__map_stretch){.at = at,
                                           .pages = (uint32_t)pages,
                                           .kind = kind,
                                           .pool = map->engine->pool_count,
                                           .states = states};
    return stretch;
}

static void note_residency(struct reading *reading, struct berth__map_stretch *stretch) {
    struct berth__map *map = reading->map;
    uint8_t *resident = calloc(stretch->pages + 1u, 1);
    bool known = resident != NULL && reading->residency.read(reading->residency.context,
                                                             stretch->at, stretch->pages, resident);
    map->knows_residency = map->knows_residency && known;
    for (uint32_t i = 0; i < stretch->pages; i++) {
        bool holds = known && resident[i] != 0;
        map->state_pages[stretch->states[i]]++;
        map->state_resident[stretch->states[i]] += holds;
        map->sums[stretch->pool].resident_bytes += holds ? (uint64_t)BERTH_PAGE : 0;
        stretch->states[i] = (uint8_t)(stretch->states[i] | (holds ? BERTH_MAP_RESIDENT : 0));
    }
    free(resident);
}

/* What a stretch is that is the same all over. */
struct plain {
    enum berth__map_kind kind;
    enum berth__map_state state;
    unsigned pool;
    bool hollow;
};

static bool add_plain(struct reading *reading, uint64_t at, uint64_t bytes, struct plain plain) {
    struct berth__map_stretch *stretch = add_stretch(reading->map, at, bytes, plain.kind);
    if (stretch == NULL) {
        return false;
    }
    struct berth__map_thing thing = {.pages = stretch->pages, .kind = plain.kind, .live = 1};
    stretch->pool = plain.pool;
    stretch->hollow = plain.hollow;
    memset(stretch->states, (int)plain.state, stretch->pages);
    if (berth__map_add_thing(stretch, thing) == NULL) {
        return fail(reading->map, "there is no memory for what it holds");
    }
    note_residency(reading, stretch);
    return true;
}

static bool add_retained(struct reading *reading, uint64_t at, uint64_t bytes, bool hollow) {
    unsigned nobody = reading->map->engine->pool_count;
    struct plain plain = {BERTH_MAP_A_REST, BERTH_MAP_RETAINED, nobody, hollow};
    reading->map->sums[nobody].retained_bytes += bytes;
    return bytes == 0 || add_plain(reading, at, bytes, plain);
}

/* ---- slots ---- */

static uint64_t field(const struct reading *reading, uint64_t offset, size_t bytes) {
    return berth__number_in(reading->record, AT(reading->map, record_bytes), offset, bytes, 0);
}

static void look_up_arena(struct reading *reading, uint64_t arena) {
    const struct berth__seen *engine = reading->map->engine;
    if (arena == reading->arena) {
        return;
    }
    uint64_t arenas = berth__seen_number(engine, arena + AT(reading->map, arena_arenas), 8, 0);
    reading->arena = arena;
    reading->arena_index =
        (uint32_t)berth__seen_number(engine, arena + AT(reading->map, arena_index), 4, 0);
    reading->arena_pool = berth__seen_pool_of(engine, arenas);
}

static void note_use(struct reading *reading, struct berth__map_stretch *stretch) {
    stretch->pins = (uint32_t)field(reading, AT(reading->map, chunk_pins), 4);
    stretch->registrations = (uint32_t)field(reading, AT(reading->map, chunk_registrations), 4);
    stretch->generation = (uint32_t)field(reading, AT(reading->map, chunk_generation), 4);
    stretch->lent = reading->span.lent;
}

static bool add_chunk(struct reading *reading, uint64_t at, uint64_t committed) {
    struct berth__map *map = reading->map;
    struct berth__map_stretch *stretch = add_stretch(map, at, committed, BERTH_MAP_A_SLAB);
    if (stretch == NULL) {
        return false;
    }
    stretch->pool = reading->arena_pool;
    stretch->arena = reading->arena_index;
    note_use(reading, stretch);
    if (!berth__map_chunk(map, stretch, reading->record, &map->sums[stretch->pool])) {
        return fail(map, "there is no memory for what it holds");
    }
    note_residency(reading, stretch);
    return true;
}

/* A huge block lies in this slot and those that follow; its tail is retained. */
static bool add_huge(struct reading *reading, uint64_t at, uint64_t slot) {
    struct berth__map *map = reading->map;
    uint64_t said = field(reading, AT(map, chunk_huge_bytes), 8); /* of a file, any number */
    uint64_t tail = field(reading, AT(map, chunk_huge_tail), 8);
    bool file = field(reading, AT(map, chunk_huge_file), 1) != 0;
    uint64_t room = (reading->span.count - slot) * BERTH_CHUNK;
    uint64_t bytes = said > room ? UINT64_MAX : berth__round_up(said, AT(map, machine_page_bytes));
    if (bytes == 0 || bytes > room || tail > room - bytes || tail >= BERTH_CHUNK) {
        map->engine->torn++;
        return true;
    }
    struct berth__map_sums *sums = &map->sums[reading->arena_pool];
    struct plain plain = {file ? BERTH_MAP_A_FILE : BERTH_MAP_A_HUGE,
                          file ? BERTH_MAP_FILE : BERTH_MAP_HUGE, reading->arena_pool, false};
    if (!add_plain(reading, at, bytes, plain)) {
        return false;
    }
    note_use(reading, &map->stretches[map->count - 1]);
    map->stretches[map->count - 1].arena = reading->arena_index;
    *(file ? &sums->file_bytes : &sums->huge_bytes) += bytes;
    sums->huge_blocks += !file;
    return add_retained(reading, at + bytes, tail, false);
}

static bool add_slot(struct reading *reading, uint64_t slot) {
    struct berth__map *map = reading->map;
    const struct berth__memory *memory = &map->engine->memory;
    uint64_t at = reading->span.slots + slot * BERTH_CHUNK;
    uint64_t record = reading->span.records + slot * AT(map, record_bytes);
    if (!memory->read(memory->context, record, reading->record, AT(map, record_bytes))) {
        map->engine->torn++;
        reading->unreadable++;
        return true;
    }
    reading->unreadable = 0;
    uint64_t committed = field(reading, AT(map, chunk_committed), 8);
    uint64_t use = field(reading, AT(map, chunk_use), 4);
    if (field(reading, AT(map, chunk_at), 8) != at || committed > BERTH_CHUNK ||
        committed % BERTH_PAGE != 0) {
        map->engine->torn += use != BERTH_SLOT_FREE;
        return true;
    }
    look_up_arena(reading, field(reading, AT(map, chunk_arena), 8));
    switch (use) {
    case BERTH_SLOT_CHUNK: return add_chunk(reading, at, committed);
    case BERTH_SLOT_HUGE: return add_huge(reading, at, slot);
    case BERTH_SLOT_HUGE_BODY: return true;
    case BERTH_SLOT_FREE:
        return add_retained(reading, at, committed, field(reading, AT(map, chunk_hollow), 1) != 0);
    default: map->engine->torn++; return true;
    }
}

/* ---- spans ---- */

static bool read_span(struct reading *reading, uint64_t at) {
    struct berth__map *map = reading->map;
    const struct berth__memory *memory = &map->engine->memory;
    size_t bytes = AT(map, span_bytes);
    char *copy = malloc(bytes);
    bool read = copy != NULL && at != 0 && memory->read(memory->context, at, copy, bytes);
    if (read) {
        reading->span =
            (struct span){.records = berth__number_in(copy, bytes, AT(map, span_records), 8, 0),
                          .slots = berth__number_in(copy, bytes, AT(map, span_slots), 8, 0),
                          .count = berth__number_in(copy, bytes, AT(map, span_slot_count), 8, 0),
                          .open = berth__number_in(copy, bytes, AT(map, span_slots_open), 8, 0),
                          .lent = berth__number_in(copy, bytes, AT(map, span_lent), 1, 0) != 0};
        struct span *span = &reading->span;
        read = span->open <= span->count && span->count <= (UINT64_C(1) << 46) / BERTH_CHUNK &&
               span->slots % BERTH_UNIT == 0;
    }
    map->engine->torn += !read && at != 0;
    free(copy);
    return read;
}

static bool read_spans(struct reading *reading) {
    struct berth__map *map = reading->map;
    uint64_t spans = berth__seen_number(map->engine, AT(map, span_count_at), 4, 0);
    for (uint64_t i = 0; i < spans && i < SPANS_MAX; i++) {
        uint64_t at = berth__seen_number(map->engine, AT(map, spans_at) + i * 8, 8, 0);
        if (!read_span(reading, at)) {
            continue;
        }
        reading->unreadable = 0;
        for (uint64_t slot = 0; slot < reading->span.open && reading->unreadable < UNREADABLE_MAX;
             slot++) {
            if (++reading->slots_seen > SLOTS_MAX) {
                return fail(map, "it has more address space in use than can be drawn");
            }
            if (!add_slot(reading, slot)) {
                return false;
            }
        }
    }
    return true;
}

/* Blocks in threads' stashes are marked like those in CPUs' caches, and are lent by the metrics'
 * account. */
static void part_stashes(struct berth__map *map) {
    const struct berth__seen *engine = map->engine;
    for (size_t i = 0; i < engine->cache_count; i++) {
        struct berth__map_sums *sums = &map->sums[engine->caches[i].pool];
        uint64_t bytes = berth__min(engine->caches[i].stash_bytes, sums->run_cached_bytes);
        sums->run_cached_bytes -= bytes;
        sums->run_stash_bytes += bytes;
        sums->run_lent_bytes += bytes;
    }
}

static int by_pool_and_address(const void *a, const void *b) {
    const struct berth__map_stretch *left = a;
    const struct berth__map_stretch *right = b;
    int order = (left->pool > right->pool) - (left->pool < right->pool);
    return order != 0 ? order : (left->at > right->at) - (left->at < right->at);
}

bool berth__map_read(struct berth__map *map, struct berth__seen *engine,
                     struct berth__residency residency) {
    memset(map, 0, sizeof(*map));
    map->engine = engine;
    map->knows_residency = true;
    map->sums = calloc(engine->pool_count + 1u, sizeof(*map->sums));
    struct reading reading = {.map = map, .residency = residency, .arena = UINT64_MAX};
    reading.record = malloc(AT(map, record_bytes));
    bool read = map->sums != NULL && reading.record != NULL
                    ? read_spans(&reading)
                    : fail(map, "there is no memory for what it holds");
    free(reading.record);
    if (read) {
        part_stashes(map);
    }
    if (map->count > 0) {
        qsort(map->stretches, map->count, sizeof(*map->stretches), by_pool_and_address);
    }
    return read;
}

void berth__map_free(struct berth__map *map) {
    for (size_t i = 0; i < map->count; i++) {
        free(map->stretches[i].states);
        free(map->stretches[i].things);
    }
    free(map->stretches);
    free(map->sums);
    map->stretches = NULL;
    map->sums = NULL;
    map->count = 0;
}

/* ---- words ---- */

const char *berth__map_pool_name(const struct berth__map *map, unsigned pool) {
    return pool < map->engine->pool_count ? map->engine->pools[pool].name : "";
}

static size_t resident_pages(const struct berth__map_stretch *stretch,
                             const struct berth__map_thing *thing) {
    size_t count = 0;
    for (uint32_t i = thing->page; i < thing->page + thing->pages; i++) {
        count += (stretch->states[i] & BERTH_MAP_RESIDENT) != 0;
    }
    return count;
}

static int describe_kind(const struct berth__map *map, const struct berth__map_thing *thing,
                         char *text, size_t capacity) {
    char size[BERTH_SIZE_TEXT];
    berth__short_size(size, thing->pages * (uint64_t)BERTH_PAGE);
    switch (thing->kind) {
    case BERTH_MAP_A_SLAB:
        return snprintf(text, capacity,
                        "slab of %" PRIu32 " B blocks: %" PRIu32 " in use, %" PRIu32
                        " cached, %" PRIu32 " free, %" PRIu32 " never used; heap %" PRIu32,
                        map->engine->classes[thing->small_class].size, thing->live, thing->cached,
                        thing->ready, thing->cold, thing->heap);
    case BERTH_MAP_A_RUN:
        return snprintf(text, capacity, "block of %s, %s", size,
                        thing->cached > 0 ? "in a CPU's cache" : "in use");
    case BERTH_MAP_TWINS:
        return snprintf(text, capacity,
                        "two blocks in %s: %" PRIu32 " in use, %" PRIu32 " cached, %" PRIu32
                        " free",
                        size, thing->live, thing->cached, thing->ready);
    case BERTH_MAP_A_FREE_RUN: return snprintf(text, capacity, "free run of %s", size);
    case BERTH_MAP_A_HUGE: return snprintf(text, capacity, "huge block of %s", size);
    case BERTH_MAP_A_FILE: return snprintf(text, capacity, "mapped file of %s", size);
    case BERTH_MAP_A_REST: return snprintf(text, capacity, "%s that nobody uses", size);
    case BERTH_MAP_UNKNOWN: break;
    }
    return snprintf(text, capacity, "%s changing hands", size);
}

/* What the program holds has a site. */
static size_t describe_site(const struct berth__map *map, uint64_t at,
                            const struct berth__map_thing *thing, char *text, size_t capacity) {
    char site[160];
    bool slab = thing->kind == BERTH_MAP_A_SLAB;
    bool has = slab || thing->kind == BERTH_MAP_A_RUN || thing->kind == BERTH_MAP_TWINS ||
               thing->kind == BERTH_MAP_A_HUGE;
    uint32_t bytes = slab ? map->engine->classes[thing->small_class].size : 0;
    uint64_t end = at + thing->pages * (uint64_t)BERTH_PAGE;
    if (!has || thing->live == 0 || map->sites.name == NULL ||
        !map->sites.name(map->sites.context, at, end, bytes, site, sizeof(site))) {
        return 0;
    }
    return (size_t)snprintf(text, capacity, "; %s", site);
}

void berth__map_describe(const struct berth__map *map, const struct berth__map_stretch *stretch,
                         const struct berth__map_thing *thing, char *text, size_t capacity) {
    int length = describe_kind(map, thing, text, capacity);
    if (length < 0 || (size_t)length >= capacity) {
        return;
    }
    size_t used = (size_t)length;
    uint64_t at = stretch->at + thing->page * (uint64_t)BERTH_PAGE;
    const char *pool = berth__map_pool_name(map, stretch->pool);
    if (*pool != '\0') {
        used += (size_t)snprintf(text + used, capacity - used, "; arena %" PRIu32 " of %s",
                                 stretch->arena, pool);
    }
    if (map->knows_residency && used < capacity) {
        used +=
            (size_t)snprintf(text + used, capacity - used, "; %zu of %" PRIu32 " pages resident",
                             resident_pages(stretch, thing), thing->pages);
    }
    if (used < capacity) {
        used += describe_site(map, at, thing, text + used, capacity - used);
    }
    if (used < capacity) {
        snprintf(text + used, capacity - used, "; 0x%" PRIx64, at);
    }
}
