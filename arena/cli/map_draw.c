#include "cli/map_draw.h"

#include "base/bits.h"
#include "cli/figures.h"
#include "size/classes.h"

#include <inttypes.h>
#include <string.h>

enum {
    COLUMNS = 64, /* cells of a tile */
    ROWS = 16,
    CELLS = COLUMNS * ROWS,
    MARGIN = 24,
    TILES_MAX = 8, /* of one stretch: beyond, a cell stands for several pages */
    HEADING = 34,  /* above the tiles of a pool */
};

/* How large things are drawn: the more there is, the smaller. */
struct scale {
    unsigned cell, gap, label; /* the latter: height of the line above a tile */
    unsigned per_row;          /* tiles */
};

static size_t cells_of(const struct berth__map_stretch *stretch, unsigned *shift) {
    *shift = 0;
    while ((stretch->pages >> *shift) > (uint32_t)(TILES_MAX * CELLS)) {
        ++*shift;
    }
    return (stretch->pages + ((size_t)1 << *shift) - 1) >> *shift;
}

static size_t tiles_of(const struct berth__map_stretch *stretch) {
    unsigned shift;
    return (cells_of(stretch, &shift) + CELLS - 1) / CELLS;
}

static struct scale scale_of(const struct berth__map *map) {
    size_t tiles = 0;
    for (size_t i = 0; i < map->count; i++) {
        tiles += tiles_of(&map->stretches[i]);
    }
    return tiles <= 90    ? (struct scale){.cell = 6, .gap = 24, .label = 15, .per_row = 3}
           : tiles <= 600 ? (struct scale){.cell = 3, .gap = 9, .label = 13, .per_row = 6}
                          : (struct scale){.cell = 2, .gap = 6, .label = 11, .per_row = 9};
}

/* ---- colours ---- */

void berth__map_style(FILE *to) {
    fputs(":root{color-scheme:light dark;--paper:#ffffff;--ink:#1c2733;--soft:#5d6b79;"
          "--edge:#c3ccd6;--line:#ffffff;"
          "--SMALL:#2463ab;--PART:#78a9de;--RUN:#0f7f6e;--HUGE:#6b4fb3;--FILE:#a8498c;"
          "--CACHED:#e39b12;--FREE:#d9694a;--DIRTY:#c7a46a;--RETAINED:#8d8d8d;"
          "--COLD:#f0d3ca;--CLEAN:#e6e9ed;--OTHER:#d81b60}\n"
          "@media(prefers-color-scheme:dark){:root{--paper:#12181f;--ink:#e3e9ef;--soft:#93a1af;"
          "--edge:#3b4754;--line:#12181f;"
          "--SMALL:#4a90e2;--PART:#2f5f99;--RUN:#2bb39c;--HUGE:#9b82e0;--FILE:#d27bb8;"
          "--CACHED:#f0b13c;--FREE:#e2805f;--DIRTY:#9c7f4c;--RETAINED:#7d7d7d;"
          "--COLD:#4a302a;--CLEAN:#26303b;--OTHER:#ff4f8b}}\n",
          to);
    static const char *const names[] = {
#define BERTH_X(name, letter, meaning) #name,
        BERTH_MAP_STATES(BERTH_X)
#undef BERTH_X
    };
    for (unsigned i = 0; i < BERTH_MAP_STATE_COUNT; i++) {
        fprintf(to, ".s%u{fill:var(--%s)}", i, names[i]);
    }
    fputs("\n.n{fill-opacity:.3}.tile{fill:none;stroke:var(--edge);stroke-width:1}"
          ".held{stroke:var(--OTHER);stroke-width:2}"
          ".t{fill:var(--soft);font-family:ui-monospace,monospace}"
          ".h{fill:var(--ink);font:600 15px system-ui,sans-serif}"
          ".f{fill:var(--soft);font:13px system-ui,sans-serif}"
          "path:hover,g:hover>path{filter:brightness(1.25)}\n",
          to);
}

void berth__map_patterns(const struct berth__map *map, FILE *to) {
    struct scale scale = scale_of(map);
    unsigned cell = scale.cell;
    unsigned unit = cell * BERTH_UNIT_PAGES;
    fprintf(
        to,
        "<defs><pattern id=\"grid\" width=\"%u\" height=\"%u\" patternUnits=\"userSpaceOnUse\">",
        unit, cell);
    fprintf(to, "<path d=\"M%u 0v%u\" stroke=\"var(--line)\" stroke-width=\"%s\"/>", unit, cell,
            cell > 2 ? "2.4" : "1.2");
    if (cell > 2) {
        fprintf(to, "<path d=\"M0 %uh%u\" stroke=\"var(--line)\" stroke-width=\"1\"/>", cell, unit);
        for (unsigned i = 1; i < BERTH_UNIT_PAGES; i++) {
            fprintf(to,
                    "<path d=\"M%u 0v%u\" stroke=\"var(--line)\" stroke-opacity=\".55\" "
                    "stroke-width=\".6\"/>",
                    i * cell, cell);
        }
    }
    fputs("</pattern></defs>\n", to);
}

/* ---- cells ---- */

/* Cells [from, end) of a tile as parts of a path: what is left of the first row, whole rows, what
 * there is of the last. */
static void put_cells(const struct scale *scale, size_t from, size_t end, FILE *to) {
    unsigned cell = scale->cell;
    while (from < end) {
        size_t column = from % COLUMNS;
        size_t rows = column == 0 && end - from >= COLUMNS ? (end - from) / COLUMNS : 1;
        size_t width = rows > 1 ? COLUMNS : berth__min(COLUMNS - column, end - from);
        fprintf(to, "M%zu %zuh%zuv%zuh-%zuz", column * cell, from / COLUMNS * cell, width * cell,
                rows * cell, width * cell);
        from += rows > 1 ? rows * COLUMNS : width;
    }
}

/* What a cell shows: the state of its first page, and whether half of its pages hold memory. */
static uint8_t shown(const struct berth__map_stretch *stretch, size_t cell, unsigned shift) {
    size_t first = cell << shift;
    size_t end = berth__min(first + ((size_t)1 << shift), stretch->pages);
    size_t resident = 0;
    for (size_t i = first; i < end; i++) {
        resident += (stretch->states[i] & BERTH_MAP_RESIDENT) != 0;
    }
    uint8_t state = stretch->states[first] & BERTH_MAP_STATE_MASK;
    return (uint8_t)(state | (resident * 2 > end - first ? BERTH_MAP_RESIDENT : 0));
}

/* A part of a stretch that is drawn as a tile. */
struct tile {
    const struct berth__map *map;
    const struct berth__map_stretch *stretch;
    const struct scale *scale;
    size_t first;   /* cell */
    unsigned shift; /* a cell is that power of two of pages */
    FILE *to;
};

/* The cells of [from, end) that show one thing, as a path. */
static void put_path(const struct tile *tile, size_t from, size_t end, uint8_t what) {
    int state = what & BERTH_MAP_STATE_MASK;
    bool faint = tile->map->knows_residency && (what & BERTH_MAP_RESIDENT) == 0 &&
                 state != BERTH_MAP_COLD && state != BERTH_MAP_CLEAN; /* pale as they are */
    fprintf(tile->to, "<path class=\"s%d%s\" d=\"", state, faint ? " n" : "");
    for (size_t cell = from; cell < end;) {
        size_t stop = cell;
        while (stop < end && shown(tile->stretch, stop, tile->shift) == what) {
            stop++;
        }
        if (stop > cell) {
            put_cells(tile->scale, cell - tile->first, stop - tile->first, tile->to);
        }
        cell = stop > cell ? stop : cell + 1;
    }
    fputs("\"/>", tile->to);
}

/* Names of functions have characters that mean something. */
static void put_escaped(const char *text, FILE *to) {
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '<': fputs("&lt;", to); break;
        case '>': fputs("&gt;", to); break;
        case '&': fputs("&amp;", to); break;
        default: fputc(*text, to);
        }
    }
}

/* The part of a thing that lies in a tile: a path for each kind of cells. */
static void put_thing(const struct tile *tile, const struct berth__map_thing *thing) {
    char text[512];
    bool seen[256] = {false};
    size_t per_cell = (size_t)1 << tile->shift;
    size_t thing_end = (thing->page + (size_t)thing->pages + per_cell - 1) >> tile->shift;
    size_t from = berth__max(thing->page >> tile->shift, tile->first);
    size_t end = berth__min(thing_end, tile->first + CELLS);
    if (from >= end) {
        return;
    }
    berth__map_describe(tile->map, tile->stretch, thing, text, sizeof(text));
    fputs("<g><title>", tile->to);
    put_escaped(text, tile->to);
    fputs("</title>", tile->to);
    for (size_t cell = from; cell < end; cell++) {
        uint8_t what = shown(tile->stretch, cell, tile->shift);
        if (!seen[what]) {
            seen[what] = true;
            put_path(tile, from, end, what);
        }
    }
    fputs("</g>\n", tile->to);
}

/* ---- tiles ---- */

static void put_label(const struct tile *tile) {
    char text[256];
    char size[BERTH_SIZE_TEXT];
    const struct berth__map_stretch *stretch = tile->stretch;
    if (tile->first > 0) {
        return;
    }
    berth__map_label(stretch, text, sizeof(text));
    if (tile->scale->cell == 3) {
        snprintf(text, sizeof(text), "0x%" PRIx64 " %s a%" PRIu32, stretch->at,
                 berth__short_size(size, stretch->pages * (uint64_t)BERTH_PAGE), stretch->arena);
    } else if (tile->scale->cell < 3) {
        snprintf(text, sizeof(text), "0x%" PRIx64, stretch->at);
    }
    fprintf(tile->to, "<text class=\"t\" font-size=\"%u\" y=\"-4\">%s", tile->scale->label - 4,
            text);
    if (tile->shift > 0) {
        fprintf(tile->to, ", a cell is %u pages", 1u << tile->shift);
    }
    fputs("</text>", tile->to);
}

static void put_tile(const struct tile *tile, unsigned x, unsigned y) {
    const struct berth__map_stretch *stretch = tile->stretch;
    unsigned cell = tile->scale->cell;
    unsigned shift;
    size_t cells = cells_of(stretch, &shift);
    bool held = stretch->pins != 0 || stretch->registrations != 0;
    size_t rows = berth__min((cells - tile->first + COLUMNS - 1) / COLUMNS, ROWS);
    size_t all_rows = stretch->kind == BERTH_MAP_A_SLAB ? ROWS : rows;
    fprintf(tile->to, "<g transform=\"translate(%u %u)\">", x, y + tile->scale->label);
    put_label(tile);
    fprintf(tile->to, "<rect class=\"tile%s\" x=\"-1\" y=\"-1\" width=\"%u\" height=\"%zu\"/>\n",
            held ? " held" : "", COLUMNS * cell + 2, all_rows * cell + 2);
    for (size_t thing = 0; thing < stretch->thing_count; thing++) {
        put_thing(tile, &stretch->things[thing]);
    }
    fprintf(tile->to,
            "<rect fill=\"url(#grid)\" pointer-events=\"none\" width=\"%u\" height=\"%zu\"/></g>\n",
            COLUMNS * cell, rows * cell);
}

/* ---- pools ---- */

void berth__map_pool_line(const struct berth__map *map, unsigned pool, char *text,
                          size_t capacity) {
    const struct berth__map_sums *sums = &map->sums[pool];
    char size[6][BERTH_SIZE_TEXT];
    if (pool == map->engine->pool_count) {
        snprintf(text, capacity, "%s retained", berth__short_size(size[0], sums->retained_bytes));
        return;
    }
    uint64_t in_caches = sums->slab_cached_bytes + sums->run_stash_bytes + sums->run_cached_bytes;
    int length = snprintf(
        text, capacity,
        "%s in %" PRIu64 " chunk%s: %s small and %s normal in use, %s in caches, %s free",
        berth__short_size(size[0], sums->chunk_bytes), sums->chunks, sums->chunks == 1 ? "" : "s",
        berth__short_size(size[1], sums->slab_lent_bytes - sums->slab_cached_bytes),
        berth__short_size(size[2], sums->run_lent_bytes - sums->run_stash_bytes),
        berth__short_size(size[3], in_caches),
        berth__short_size(size[4], sums->slab_free_bytes + sums->run_free_bytes));
    if (sums->huge_blocks > 0 && length > 0 && (size_t)length < capacity) {
        snprintf(text + length, capacity - (size_t)length, "; %s in %" PRIu64 " huge blocks",
                 berth__short_size(size[5], sums->huge_bytes), sums->huge_blocks);
    }
}

static unsigned put_heading(const struct berth__map *map, unsigned pool, unsigned y, FILE *to) {
    char text[256];
    if (to != NULL) {
        const char *name = berth__map_pool_name(map, pool);
        berth__map_pool_line(map, pool, text, sizeof(text));
        fprintf(to,
                "<text x=\"%d\" y=\"%u\"><tspan class=\"h\">%s%s</tspan><tspan class=\"f\" "
                "dx=\"12\">%s</tspan></text>\n",
                MARGIN, y + HEADING - 12, *name == '\0' ? "in no pool" : "pool ", name, text);
    }
    return y + HEADING;
}

unsigned berth__map_tiles(const struct berth__map *map, unsigned top, FILE *to) {
    struct scale scale = scale_of(map);
    unsigned tile_width = COLUMNS * scale.cell;
    unsigned row_height = ROWS * scale.cell + scale.label + scale.gap / 2;
    unsigned y = top;
    unsigned column = 0;
    for (size_t i = 0; i < map->count; i++) {
        const struct berth__map_stretch *stretch = &map->stretches[i];
        if (i == 0 || stretch->pool != map->stretches[i - 1].pool) {
            y = put_heading(map, stretch->pool, y + (column > 0 ? row_height : 0), to);
            column = 0;
        }
        for (size_t tile = 0; tile < tiles_of(stretch); tile++) {
            if (column == scale.per_row) {
                column = 0;
                y += row_height;
            }
            if (to != NULL) {
                struct tile part = {map, stretch, &scale, tile * CELLS, 0, to};
                (void)cells_of(stretch, &part.shift);
                put_tile(&part, MARGIN + column * (tile_width + scale.gap), y);
            }
            column++;
        }
    }
    return y + (column > 0 ? row_height : 0) + MARGIN / 2;
}

/* ---- a file of its own ---- */

/* Returns where it ends; with `to` NULL it only measures. */
static unsigned put_legend(const struct berth__map *map, unsigned y, FILE *to) {
    enum { LINE = 22, COLUMN = 400, PER_LINE = 3 };
    unsigned shown_count = 0;
    for (unsigned i = 0; i < BERTH_MAP_STATE_COUNT; i++) {
        char size[BERTH_SIZE_TEXT];
        if (map->state_pages[i] == 0) {
            continue;
        }
        unsigned x = MARGIN + shown_count % PER_LINE * COLUMN;
        unsigned at = y + shown_count / PER_LINE * LINE;
        shown_count++;
        if (to == NULL) {
            continue;
        }
        fprintf(to,
                "<rect class=\"s%u\" x=\"%u\" y=\"%u\" width=\"14\" height=\"14\" rx=\"2\"/>"
                "<text class=\"f\" x=\"%u\" y=\"%u\">%s: %s</text>\n",
                i, x, at, x + 22, at + 12, berth__map_meanings[i],
                berth__short_size(size, map->state_pages[i] * BERTH_PAGE));
    }
    return y + (shown_count + PER_LINE - 1) / PER_LINE * LINE;
}

void berth__map_write_svg(const struct berth__map *map, const struct berth__map_title *title,
                          FILE *to) {
    enum { TITLE = 68 };
    unsigned top = put_legend(map, TITLE, NULL);
    unsigned height = berth__map_tiles(map, top, NULL);
    fprintf(to,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %u\" width=\"%d\" "
            "height=\"%u\"><style>\n",
            BERTH_MAP_WIDTH, height, BERTH_MAP_WIDTH, height);
    berth__map_style(to);
    fputs("</style>\n", to);
    berth__map_patterns(map, to);
    fprintf(to,
            "<rect fill=\"var(--paper)\" width=\"%d\" height=\"%u\"/>\n"
            "<text class=\"h\" x=\"%d\" y=\"32\" style=\"font-size:20px\">%s, process %d</text>"
            "<text class=\"f\" x=\"%d\" y=\"52\">berth %s; a cell is a page of 4 KiB, a row 64 of "
            "them%s%s</text>\n",
            BERTH_MAP_WIDTH, height, MARGIN, title->command, title->pid, MARGIN, title->version,
            map->knows_residency ? "; pale cells hold no memory" : "",
            map->engine->torn > 0 ? "; it changed while it was drawn" : "");
    (void)put_legend(map, TITLE, to);
    (void)berth__map_tiles(map, top, to);
    fputs("</svg>\n", to);
}
