/*
 * A map as a page of its own: the picture, tables, and what is under the pointer in a line. No file
 * but itself is loaded.
 */
#include "cli/figures.h"
#include "cli/map_draw.h"
#include "size/classes.h"

#include <inttypes.h>
#include <stdlib.h>

static const char page_style[] =
    "*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);"
    "font:15px/1.45 system-ui,sans-serif;padding:20px;max-width:1320px;margin-inline:auto}"
    "h1{font-size:22px;margin:0 0 2px}h2{font-size:16px;margin:26px 0 8px}"
    "p{margin:0 0 14px;color:var(--soft)}svg{width:100%;height:auto;display:block}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "th,td{padding:3px 14px 3px 0;text-align:right;border-bottom:1px solid var(--edge);"
    "white-space:nowrap}th{font-weight:600;color:var(--soft)}"
    "th:first-child,td:first-child{text-align:left}"
    ".legend{display:grid;grid-template-columns:repeat(auto-fill,minmax(330px,1fr));gap:4px 18px;"
    "margin:0 0 14px;padding:0;list-style:none}.legend "
    "li{padding-left:22px;text-indent:-22px}.legend svg{width:14px;height:14px;"
    "display:inline-block;vertical-align:-2px;margin-right:8px}"
    ".bar{display:inline-block;width:120px;height:10px;background:var(--COLD);vertical-align:0}"
    ".bar i{display:block;height:100%;background:var(--SMALL)}"
    "#tip{position:fixed;left:12px;right:12px;bottom:12px;margin:auto;max-width:760px;"
    "padding:8px 12px;border:1px solid var(--edge);border-radius:6px;background:var(--paper);"
    "color:var(--ink);box-shadow:0 2px 10px #0004;font-size:14px;pointer-events:none}"
    "#tip:empty{display:none}@media(max-width:700px){body{padding:12px}.map{overflow-x:auto}"
    ".map svg{width:900px}}";

/* Titles become a line at the bottom: it comes at once, and on a touch, too. */
static const char script[] =
    "const tip=document.createElement('div');tip.id='tip';document.body.append(tip);"
    "document.querySelectorAll('.map title').forEach(t=>{t.parentNode.dataset.t=t.textContent;"
    "t.remove()});const show=e=>{const g=e.target.closest&&e.target.closest('[data-t]');"
    "tip.textContent=g?g.dataset.t:''};document.addEventListener('pointermove',show);"
    "document.addEventListener('pointerdown',show);";

static void put_legend(const struct berth__map *map, FILE *to) {
    fputs("<ul class=\"legend\">\n", to);
    for (unsigned i = 0; i < BERTH_MAP_STATE_COUNT; i++) {
        char size[BERTH_SIZE_TEXT];
        char resident[BERTH_SIZE_TEXT];
        if (map->state_pages[i] == 0) {
            continue;
        }
        fprintf(to,
                "<li><svg viewBox=\"0 0 14 14\"><rect class=\"s%u\" width=\"14\" height=\"14\" "
                "rx=\"2\"/></svg>%s: %s",
                i, berth__map_meanings[i],
                berth__short_size(size, map->state_pages[i] * BERTH_PAGE));
        if (map->knows_residency) {
            fprintf(to, ", %s resident",
                    berth__short_size(resident, map->state_resident[i] * BERTH_PAGE));
        }
        fputs("</li>\n", to);
    }
    fputs("</ul>\n", to);
}

/* ---- the table of block sizes ---- */

struct of_class {
    uint64_t slabs, live, cached, ready, cold;
};

static void add_stretch(const struct berth__map_stretch *stretch, struct of_class *sums) {
    for (size_t i = 0; i < stretch->thing_count; i++) {
        const struct berth__map_thing *thing = &stretch->things[i];
        if (thing->kind == BERTH_MAP_A_SLAB) {
            struct of_class *sum = &sums[thing->small_class];
            sum->slabs++;
            sum->live += thing->live;
            sum->cached += thing->cached;
            sum->ready += thing->ready;
            sum->cold += thing->cold;
        }
    }
}

static void put_class(const struct berth__seen_class *class, const struct of_class *sum, FILE *to) {
    char in_use[BERTH_SIZE_TEXT];
    char all[BERTH_SIZE_TEXT];
    uint64_t blocks = sum->live + sum->cached + sum->ready + sum->cold;
    double full = blocks == 0 ? 0 : (double)sum->live * 100 / (double)blocks;
    fprintf(to,
            "<tr><td>%" PRIu32 "</td><td>%" PRIu64 "</td><td>%s</td><td>%" PRIu64 "</td><td>%s</td>"
            "<td>%" PRIu64 "</td><td>%" PRIu64 "</td><td>%" PRIu64
            "</td><td><span class=\"bar\"><i style=\"width:%.0f%%\"></i></span></td><td>%.0f "
            "%%</td></tr>\n",
            class->size, sum->slabs, berth__short_size(all, sum->slabs * BERTH_UNIT), sum->live,
            berth__short_size(in_use, sum->live * class->size), sum->cached, sum->ready, sum->cold,
            full, full);
}

static void put_classes(const struct berth__map *map, FILE *to) {
    unsigned count = map->engine->class_count;
    struct of_class *sums = calloc(count + 1u, sizeof(*sums));
    if (sums == NULL) {
        return;
    }
    for (size_t i = 0; i < map->count; i++) {
        add_stretch(&map->stretches[i], sums);
    }
    fputs("<h2>Small blocks by size</h2><div class=\"wide\"><table><tr><th>block</th><th>slabs</th>"
          "<th>memory</th><th>in use</th><th>bytes in use</th><th>cached</th><th>free</th>"
          "<th>never used</th><th></th><th>in use</th></tr>\n",
          to);
    for (unsigned i = 0; i < count; i++) {
        if (sums[i].slabs > 0) {
            put_class(&map->engine->classes[i], &sums[i], to);
        }
    }
    fputs("</table></div>\n", to);
    free(sums);
}

void berth__map_write_html(const struct berth__map *map, const struct berth__map_title *title,
                           FILE *to) {
    unsigned height = berth__map_tiles(map, 0, NULL);
    fprintf(to,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
            "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
            "<title>%s %d: memory</title><style>\n",
            title->command, title->pid);
    berth__map_style(to);
    fprintf(to,
            "%s</style></head><body>\n<h1>%s, process %d</h1>"
            "<p>berth %s. A cell is a page of 4 KiB, a row 64 of them%s%s.</p>\n",
            page_style, title->command, title->pid, title->version,
            map->knows_residency ? "; pale cells hold no memory" : "",
            map->engine->torn > 0 ? "; it changed while it was drawn" : "");
    put_legend(map, to);
    fprintf(to, "<div class=\"map\"><svg viewBox=\"22 0 %d %u\">\n", BERTH_MAP_WIDTH - 44, height);
    berth__map_patterns(map, to);
    (void)berth__map_tiles(map, 0, to);
    fputs("</svg></div>\n", to);
    put_classes(map, to);
    fprintf(to, "<script>%s</script></body></html>\n", script);
}
