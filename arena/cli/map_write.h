/*
 * A map in its forms: text, JSON, SVG, HTML.
 */
#ifndef BERTH_CLI_MAP_WRITE_H
#define BERTH_CLI_MAP_WRITE_H

#include "cli/map_read.h"

#include <stdio.h>

/* What stands above it. */
struct berth__map_title {
    int pid;
    const char *command; /* without characters that mean something in HTML */
    const char *version; /* of its berth */
};

void berth__map_write_text(const struct berth__map *map, const struct berth__map_title *title,
                           FILE *to);
void berth__map_write_json(const struct berth__map *map, const struct berth__map_title *title,
                           FILE *to);
void berth__map_write_svg(const struct berth__map *map, const struct berth__map_title *title,
                          FILE *to);
void berth__map_write_html(const struct berth__map *map, const struct berth__map_title *title,
                           FILE *to);

/* "0x7f0000000000 chunk 4.0M, arena 0" */
void berth__map_label(const struct berth__map_stretch *stretch, char *text, size_t capacity);

#endif
