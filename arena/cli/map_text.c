/*
 * A map as text, a letter per page, and as JSON.
 */
#include "cli/figures.h"
#include "cli/map_write.h"
#include "size/classes.h"

#include <inttypes.h>
#include <string.h>

enum { ROW = 64 /* pages */ };

void berth__map_label(const struct berth__map_stretch *stretch, char *text, size_t capacity) {
    static const char *const kinds[] = {[BERTH_MAP_A_SLAB] = "chunk",
                                        [BERTH_MAP_A_HUGE] = "huge block",
                                        [BERTH_MAP_A_FILE] = "mapped file",
                                        [BERTH_MAP_A_REST] = "retained"};
    char size[BERTH_SIZE_TEXT];
    berth__short_size(size, stretch->pages * (uint64_t)BERTH_PAGE);
    int length =
        snprintf(text, capacity, "0x%" PRIx64 " %s %s", stretch->at, kinds[stretch->kind], size);
    size_t used = length > 0 ? (size_t)length : 0;
    if (stretch->kind == BERTH_MAP_A_SLAB && used < capacity) {
        used += (size_t)snprintf(text + used, capacity - used, ", arena %" PRIu32, stretch->arena);
    }
    if (stretch->lent && used < capacity) {
        used += (size_t)snprintf(text + used, capacity - used, ", given to the pool");
    }
    if (stretch->hollow && used < capacity) {
        used += (size_t)snprintf(text + used, capacity - used, ", emptied");
    }
    if (stretch->pins != 0 && used < capacity) {
        used +=
            (size_t)snprintf(text + used, capacity - used, ", %" PRIu32 " pinned", stretch->pins);
    }
    if (stretch->registrations != 0 && used < capacity) {
        snprintf(text + used, capacity - used, ", %" PRIu32 " registered", stretch->registrations);
    }
}

/* ---- text ---- */

/* Small letters: the page holds no memory. */
static void row_of(const struct berth__map *map, const struct berth__map_stretch *stretch,
                   uint32_t page, char row[ROW + 1]) {
    uint32_t i = 0;
    for (; i < ROW && page + i < stretch->pages; i++) {
        uint8_t state = stretch->states[page + i];
        char letter = berth__map_letters[state & BERTH_MAP_STATE_MASK];
        bool empty = map->knows_residency && (state & BERTH_MAP_RESIDENT) == 0;
        row[i] = letter;
        if (empty) {
            row[i] = (char)(letter | 0x20);
        }
    }
    row[i] = '\0';
}

static void text_stretch(const struct berth__map *map, const struct berth__map_stretch *stretch,
                         FILE *to) {
    char label[256];
    char row[ROW + 1];
    char before[ROW + 1] = "";
    unsigned alike = 0;
    berth__map_label(stretch, label, sizeof(label));
    fprintf(to, "\n%s\n", label);
    for (uint32_t page = 0; page < stretch->pages; page += ROW) {
        row_of(map, stretch, page, row);
        if (strcmp(row, before) == 0) {
            alike++;
            continue;
        }
        if (alike > 0) {
            fprintf(to, "         and %u rows like it\n", alike);
        }
        alike = 0;
        fprintf(to, "  %5" PRIu32 "  %s\n", page, row);
        memcpy(before, row, sizeof(before));
    }
    if (alike > 0) {
        fprintf(to, "         and %u rows like it\n", alike);
    }
}

void berth__map_write_text(const struct berth__map *map, const struct berth__map_title *title,
                           FILE *to) {
    fprintf(to, "process %d, %s: memory by pages of 4 KiB%s\n\n", title->pid, title->command,
            map->knows_residency ? "; small letters: holds no memory" : "");
    for (unsigned i = 0; i < BERTH_MAP_STATE_COUNT; i++) {
        char size[BERTH_SIZE_TEXT];
        char resident[BERTH_SIZE_TEXT];
        berth__short_size(size, map->state_pages[i] * BERTH_PAGE);
        berth__short_size(resident, map->state_resident[i] * BERTH_PAGE);
        if (map->state_pages[i] > 0) {
            fprintf(to, "  %c  %9s", berth__map_letters[i], size);
            fprintf(to, map->knows_residency ? ", %9s resident" : "%s",
                    map->knows_residency ? resident : "");
            fprintf(to, "  %s\n", berth__map_meanings[i]);
        }
    }
    for (size_t i = 0; i < map->count; i++) {
        const char *pool = berth__map_pool_name(map, map->stretches[i].pool);
        if (i == 0 || map->stretches[i].pool != map->stretches[i - 1].pool) {
            fprintf(to, *pool == '\0' ? "\nin no pool%s\n" : "\npool %s\n", pool);
        }
        text_stretch(map, &map->stretches[i], to);
    }
    if (map->engine->torn > 0) {
        fprintf(to, "\n%" PRIu64 " records changed while they were read\n", map->engine->torn);
    }
}

/* ---- JSON ---- */

static void json_sums(const struct berth__map *map, FILE *to) {
    for (unsigned i = 0; i <= map->engine->pool_count; i++) {
        const struct berth__map_sums *sums = &map->sums[i];
        bool nobody = i == map->engine->pool_count;
        if (!nobody && map->engine->pools[i].arenas == 0) {
            continue;
        }
        fprintf(to, nobody ? "],\n\"unowned\":{" : "%s{", i == 0 ? "" : ",\n");
        fprintf(to, nobody ? "%s" : "\"pool\":\"%s\",", berth__map_pool_name(map, i));
#define BERTH_X(name) fprintf(to, "\"" #name "\":%" PRIu64 ",", sums->name);
        BERTH_MAP_SUMS(BERTH_X)
#undef BERTH_X
        fprintf(to, "\"chunks\":%" PRIu64 ",\"slabs\":%" PRIu64 ",\"huge_blocks\":%" PRIu64 "}",
                sums->chunks, sums->slabs, sums->huge_blocks);
    }
}

static void json_thing(const struct berth__map *map, const struct berth__map_thing *thing,
                       FILE *to) {
    static const char *const kinds[] = {
        [BERTH_MAP_A_SLAB] = "slab",     [BERTH_MAP_A_RUN] = "run",
        [BERTH_MAP_TWINS] = "twins",     [BERTH_MAP_A_FREE_RUN] = "free",
        [BERTH_MAP_A_HUGE] = "huge",     [BERTH_MAP_A_FILE] = "file",
        [BERTH_MAP_A_REST] = "retained", [BERTH_MAP_UNKNOWN] = "unknown"};
    fprintf(to, "{\"page\":%" PRIu32 ",\"pages\":%" PRIu32 ",\"kind\":\"%s\"", thing->page,
            thing->pages, kinds[thing->kind]);
    if (thing->kind == BERTH_MAP_A_SLAB) {
        fprintf(to, ",\"size_bytes\":%" PRIu32 ",\"heap\":%" PRIu32 ",\"never_used\":%" PRIu32,
                map->engine->classes[thing->small_class].size, thing->heap, thing->cold);
    }
    fprintf(to, ",\"in_use\":%" PRIu32 ",\"cached\":%" PRIu32 ",\"free\":%" PRIu32 "}", thing->live,
            thing->cached, thing->ready);
}

static void json_stretch(const struct berth__map *map, const struct berth__map_stretch *stretch,
                         FILE *to) {
    static const char *const kinds[] = {[BERTH_MAP_A_SLAB] = "chunk",
                                        [BERTH_MAP_A_HUGE] = "huge",
                                        [BERTH_MAP_A_FILE] = "file",
                                        [BERTH_MAP_A_REST] = "retained"};
    char row[ROW + 1];
    fprintf(to,
            "{\"at\":\"0x%" PRIx64 "\",\"kind\":\"%s\",\"pool\":\"%s\",\"arena\":%" PRIu32
            ",\"pages\":%" PRIu32 ",\"pins\":%" PRIu32 ",\"registrations\":%" PRIu32
            ",\"generation\":%" PRIu32 ",\"states\":\"",
            stretch->at, kinds[stretch->kind], berth__map_pool_name(map, stretch->pool),
            stretch->arena, stretch->pages, stretch->pins, stretch->registrations,
            stretch->generation);
    for (uint32_t page = 0; page < stretch->pages; page += ROW) {
        row_of(map, stretch, page, row);
        fputs(row, to);
    }
    fprintf(to, "\",\"things\":[");
    for (size_t i = 0; i < stretch->thing_count; i++) {
        fputs(i == 0 ? "" : ",", to);
        json_thing(map, &stretch->things[i], to);
    }
    fprintf(to, "]}");
}

void berth__map_write_json(const struct berth__map *map, const struct berth__map_title *title,
                           FILE *to) {
    fprintf(to,
            "{\"berth\":\"%s\",\"pid\":%d,\"command\":\"%s\",\"page_bytes\":%d,"
            "\"residency\":%s,\"torn\":%" PRIu64 ",\n\"letters\":{",
            title->version, title->pid, title->command, (int)BERTH_PAGE,
            map->knows_residency ? "true" : "false", map->engine->torn);
    for (unsigned i = 0; i < BERTH_MAP_STATE_COUNT; i++) {
        fprintf(to, "%s\"%c\":\"%s\"", i == 0 ? "" : ",", berth__map_letters[i],
                berth__map_meanings[i]);
    }
    fprintf(to, "},\n\"pools\":[");
    json_sums(map, to);
    fprintf(to, ",\n\"stretches\":[");
    for (size_t i = 0; i < map->count; i++) {
        fputs(i == 0 ? "\n" : ",\n", to);
        json_stretch(map, &map->stretches[i], to);
    }
    fprintf(to, "]}\n");
}
