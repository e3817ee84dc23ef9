#include "cli/engine_read.h"

#include "base/bits.h"
#include "size/classes.h"

#include <stdlib.h>
#include <string.h>

enum {
    POOLS_MAX = 65536,
    CACHES_MAX = 1 << 17,
    CACHED_MAX = 1 << 25, /* blocks in all caches */
    STRUCT_MAX = 1 << 20, /* bytes of any record */
    STATE_ACTIVE = 0,     /* enum berth__cache_state */
};

#define AT(engine, name) ((engine)->layout[BERTH_LAYOUT_##name])

static bool fail(struct berth__seen *engine, const char *why) {
    engine->why = why;
    return false;
}

/* ---- numbers ---- */

static bool read_at(const struct berth__seen *engine, uint64_t address, void *to, size_t bytes) {
    return address != 0 && engine->memory.read(engine->memory.context, address, to, bytes);
}

uint64_t berth__number_in(const void *copy, size_t count, uint64_t offset, size_t bytes,
                          uint64_t otherwise) {
    uint64_t number = 0; /* the byte order is the machine's, and it is little-endian */
    if (offset > count || bytes > count - offset) {
        return otherwise;
    }
    memcpy(&number, (const char *)copy + offset, bytes);
    return number;
}

uint64_t berth__seen_number(const struct berth__seen *engine, uint64_t address, size_t bytes,
                            uint64_t otherwise) {
    uint64_t number = 0;
    return read_at(engine, address, &number, bytes) ? number : otherwise;
}

/* ---- the layout ---- */

/* What the reader counts on: sizes that it uses as such. */
static bool layout_is_sane(const struct berth__seen *engine) {
    static const enum berth__layout_item sizes[] = {
        BERTH_LAYOUT_span_bytes,   BERTH_LAYOUT_record_bytes, BERTH_LAYOUT_slab_stride,
        BERTH_LAYOUT_class_stride, BERTH_LAYOUT_arenas_bytes, BERTH_LAYOUT_cache_bytes,
        BERTH_LAYOUT_bin_stride};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(sizes); i++) {
        if (engine->layout[sizes[i]] == 0 || engine->layout[sizes[i]] > STRUCT_MAX) {
            return false;
        }
    }
    return AT(engine, page_bytes) == BERTH_PAGE && AT(engine, unit_bytes) == BERTH_UNIT &&
           AT(engine, chunk_bytes) == BERTH_CHUNK && AT(engine, machine_page_bytes) >= BERTH_PAGE &&
           AT(engine, machine_page_bytes) <= BERTH_UNIT &&
           berth__is_power_of_2(AT(engine, machine_page_bytes)) &&
           AT(engine, class_count) <= UINT8_MAX + 1 && AT(engine, pool_count) <= POOLS_MAX;
}

static bool take_layout(struct berth__seen *engine, const struct berth__stats *stats) {
    if (stats->layout == NULL || stats->layout_count == 0) {
        return fail(engine, "its berth is too old: the stats page does not say where records lie");
    }
    memcpy(engine->layout, stats->layout,
           berth__min(stats->layout_count, BERTH_LAYOUT_COUNT) * sizeof(uint64_t));
    if (AT(engine, version) != BERTH_LAYOUT_VERSION) {
        return fail(engine, "its berth keeps its records in a way that this tool does not know");
    }
    if (stats->layout_count < BERTH_LAYOUT_COUNT) {
        return fail(engine, "its berth is too old: the stats page does not name all records");
    }
    return layout_is_sane(engine) || fail(engine, "its stats page is damaged");
}

/* ---- classes and pools ---- */

static bool read_classes(struct berth__seen *engine) {
    size_t stride = AT(engine, class_stride);
    unsigned count = (unsigned)AT(engine, class_count);
    char *table = malloc(count * stride + 1);
    engine->classes = calloc(count + 1u, sizeof(*engine->classes));
    bool read = table != NULL && engine->classes != NULL &&
                read_at(engine, AT(engine, classes_at), table, count * stride);
    for (unsigned i = 0; read && i < count; i++) {
        const char *at = table + i * stride;
        struct berth__seen_class *class = &engine->classes[i];
        class->size = (uint32_t)berth__number_in(at, stride, AT(engine, class_size), 4, 0);
        class->blocks = (uint32_t)berth__number_in(at, stride, AT(engine, class_blocks), 2, 0);
        class->words = (uint32_t)berth__number_in(at, stride, AT(engine, class_words), 2, 0);
        read = class->size >= BERTH_GRANULE && class->size <= BERTH_UNIT && class->blocks > 0 &&
               (uint64_t) class->size * class->blocks <= BERTH_UNIT &&
               class->words == BERTH_WORDS_FOR(class->blocks);
    }
    engine->class_count = count;
    free(table);
    return read || fail(engine, "its table of block sizes cannot be read");
}

/* Without what means something to a terminal, in JSON or HTML. */
static void take_name(char name[BERTH_ROW_POOL_BYTES], const char *from, size_t bytes) {
    size_t length = strnlen(from, berth__min(bytes, BERTH_ROW_POOL_BYTES - 1));
    for (size_t i = 0; i < length; i++) {
        bool plain = from[i] >= ' ' && from[i] <= '~' && strchr("<>&\"'\\", from[i]) == NULL;
        name[i] = '?';
        if (plain) {
            name[i] = from[i];
        }
    }
    name[length] = '\0';
}

static void read_pool(struct berth__seen *engine, struct berth__seen_pool *pool, uint64_t at) {
    char name[BERTH_ROW_POOL_BYTES] = "";
    size_t bytes = berth__min(AT(engine, pool_name_bytes), sizeof(name));
    uint64_t arenas = berth__seen_number(engine, at + AT(engine, pool_arenas), 8, 0);
    if (arenas != 0 && read_at(engine, at + AT(engine, pool_name), name, bytes)) {
        pool->arenas = arenas;
        take_name(pool->name, name, sizeof(name));
    } else {
        engine->torn++;
    }
}

static bool read_pools(struct berth__seen *engine) {
    unsigned count = (unsigned)AT(engine, pool_count);
    uint64_t *table = calloc(count + 1u, sizeof(*table));
    engine->pools = calloc(count + 1u, sizeof(*engine->pools));
    bool read = table != NULL && engine->pools != NULL &&
                read_at(engine, AT(engine, pools_at), table, count * sizeof(*table));
    for (unsigned i = 0; read && i < count; i++) {
        if (table[i] != 0) {
            read_pool(engine, &engine->pools[i], table[i]);
            engine->pool_count = i + 1;
        }
    }
    free(table);
    return read || fail(engine, "its table of pools cannot be read");
}

unsigned berth__seen_pool_of(const struct berth__seen *engine, uint64_t arenas) {
    unsigned i = 0;
    while (i < engine->pool_count && (arenas == 0 || engine->pools[i].arenas != arenas)) {
        i++;
    }
    return i;
}

bool berth__seen_read(struct berth__seen *engine, const struct berth__stats *stats,
                      struct berth__memory memory) {
    memset(engine, 0, sizeof(*engine));
    engine->memory = memory;
    return take_layout(engine, stats) && read_classes(engine) && read_pools(engine);
}

void berth__seen_close(struct berth__seen *engine) {
    free(engine->classes);
    free(engine->pools);
    free(engine->caches);
    free(engine->cached);
    engine->classes = NULL;
    engine->pools = NULL;
    engine->caches = NULL;
    engine->cached = NULL;
}

uint64_t berth__seen_reserved(const struct berth__seen *engine) {
    enum { SPANS_MAX = 65536 };
    uint64_t sum = 0;
    uint64_t count = berth__seen_number(engine, AT(engine, span_count_at), 4, 0);
    for (uint64_t i = 0; i < count && i < SPANS_MAX; i++) {
        uint64_t span = berth__seen_number(engine, AT(engine, spans_at) + i * 8, 8, 0);
        uint64_t lent = berth__seen_number(engine, span + AT(engine, span_lent), 1, 1);
        uint64_t units = berth__seen_number(engine, span + AT(engine, span_units), 8, 0);
        sum += span != 0 && lent == 0 && units < UINT64_C(1) << 40 ? units * BERTH_UNIT : 0;
    }
    return sum;
}

/* ---- thread caches ---- */

/* Makes room for `count` elements in all; false: no memory, or above the bound. */
static bool make_room(void **array, size_t *capacity, size_t count, size_t element_bytes,
                      size_t most) {
    if (count <= *capacity) {
        return true;
    }
    size_t wanted = berth__max(64, (size_t)2 << berth__highest_bit(count));
    void *larger = count > most ? NULL : realloc(*array, wanted * element_bytes);
    if (larger == NULL) {
        return false;
    }
    *array = larger;
    *capacity = wanted;
    return true;
}

/* The blocks of one bin: those between its top and its end. */
static bool read_bin(struct berth__seen *engine, struct berth__seen_cache *cache, const char *copy,
                     unsigned number) {
    size_t bytes = AT(engine, cache_bytes);
    uint64_t bin = number * AT(engine, bin_stride);
    uint64_t top = berth__number_in(copy, bytes, bin + AT(engine, bin_top), 8, 0);
    uint64_t low = berth__number_in(copy, bytes, bin + AT(engine, bin_low), 8, 0);
    uint64_t capacity = berth__number_in(copy, bytes, bin + AT(engine, bin_capacity), 2, 0);
    uint64_t into = top - low;
    if (top < low || into % 8 != 0 || into / 8 > capacity) {
        engine->torn++;
        return true;
    }
    size_t count = (size_t)(capacity - into / 8);
    if (count == 0) {
        return true;
    }
    void *cached = engine->cached;
    bool room = make_room(&cached, &engine->cached_capacity, engine->cached_count + count,
                          sizeof(uint64_t), CACHED_MAX);
    engine->cached = cached;
    if (!room) {
        return false;
    }
    if (!read_at(engine, top, engine->cached + engine->cached_count, count * sizeof(uint64_t))) {
        engine->torn++;
        return true;
    }
    engine->cached_count += count;
    cache->cached_blocks += count;
    cache->cached_bytes += count * (uint64_t)engine->classes[number].size;
    return true;
}

static bool read_cache(struct berth__seen *engine, unsigned pool, const char *copy) {
    size_t bytes = AT(engine, cache_bytes);
    void *caches = engine->caches;
    bool room = make_room(&caches, &engine->cache_capacity, engine->cache_count + 1,
                          sizeof(*engine->caches), CACHES_MAX);
    engine->caches = caches;
    if (!room) {
        return false;
    }
    uint64_t heap = berth__number_in(copy, bytes, AT(engine, cache_heap), 8, 0);
    struct berth__seen_cache *cache = &engine->caches[engine->cache_count++];
    *cache = (struct berth__seen_cache){
        .owner = berth__number_in(copy, bytes, AT(engine, cache_owner), 8, 0),
        .pool = pool,
        .heap = (uint32_t)berth__seen_number(engine, heap + AT(engine, heap_number), 4, 0),
        .owns_heap = berth__number_in(copy, bytes, AT(engine, cache_owns_heap), 1, 0) != 0,
        .parked = berth__number_in(copy, bytes, AT(engine, cache_state), 4, 0) != STATE_ACTIVE,
        .granted_bytes = berth__number_in(copy, bytes, AT(engine, cache_granted), 8, 0),
        .remote_bytes = berth__number_in(copy, bytes, AT(engine, cache_remote_bytes), 4, 0),
        .remote_blocks = berth__number_in(copy, bytes, AT(engine, cache_remote_count), 4, 0)};
    uint64_t stash = berth__number_in(copy, bytes, AT(engine, cache_stash), 8, 0);
    if (stash != 0) {
        cache->stash_bytes = berth__seen_number(engine, stash + AT(engine, stash_bytes), 8, 0);
        cache->stash_blocks = berth__seen_number(engine, stash + AT(engine, stash_count), 4, 0);
    }
    for (unsigned i = 0; i < engine->class_count; i++) {
        if (!read_bin(engine, cache, copy, i)) {
            return false;
        }
    }
    return true;
}

/* Follows the list of a pool, which others may change: as far as it makes sense. */
static bool read_caches_of(struct berth__seen *engine, unsigned pool, char *copy) {
    uint64_t head = engine->pools[pool].arenas + AT(engine, arenas_caches);
    size_t bytes = AT(engine, cache_bytes);
    uint64_t next = berth__seen_number(engine, head, 8, 0);
    uint64_t seen = 0; /* a member that was passed: who meets it again goes round in a circle */
    for (size_t i = 1; next != head; i++) {
        if (next == seen) {
            engine->torn++;
            return true;
        }
        seen = berth__is_power_of_2(i) ? next : seen;
        uint64_t at = next - AT(engine, cache_link);
        if (!read_at(engine, at, copy, bytes)) {
            engine->torn++;
            return true;
        }
        next = berth__number_in(copy, bytes, AT(engine, cache_link), 8, 0);
        if (!read_cache(engine, pool, copy)) {
            return false;
        }
    }
    return true;
}

static int ascending(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

bool berth__seen_read_caches(struct berth__seen *engine) {
    char *copy = malloc(AT(engine, cache_bytes));
    bool read = copy != NULL;
    for (unsigned pool = 0; read && pool < engine->pool_count; pool++) {
        read = engine->pools[pool].arenas == 0 || read_caches_of(engine, pool, copy);
    }
    free(copy);
    if (engine->cached_count > 0) {
        qsort(engine->cached, engine->cached_count, sizeof(uint64_t), ascending);
    }
    return read || fail(engine, "there is no memory for what it holds, or it has too much");
}

/* The first cached block at or above an address. */
static size_t first_from(const struct berth__seen *engine, uint64_t address) {
    size_t low = 0;
    size_t high = engine->cached_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (engine->cached[middle] < address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

size_t berth__seen_cached_in(const struct berth__seen *engine, uint64_t from, uint64_t end,
                             size_t *first) {
    *first = first_from(engine, from);
    return first_from(engine, end) - *first;
}
