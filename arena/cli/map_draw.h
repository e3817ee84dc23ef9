/*
 * The picture of a map, as SVG: a tile for each 4 MiB, a cell for each page.
 *
 * A tile has 16 rows of 64 pages, so a unit of 64 KiB is a quarter of a row. Things are paths with
 * a title, which viewers show under the pointer. Colours are variables that follow light and dark.
 */
#ifndef BERTH_CLI_MAP_DRAW_H
#define BERTH_CLI_MAP_DRAW_H

#include "cli/map_write.h"

/* The width of all pictures, in their units. */
enum { BERTH_MAP_WIDTH = 1248 };

/* Colours and classes, as CSS. */
void berth__map_style(FILE *to);

/* Draws all tiles below `top`, and returns where the picture ends; with `to` NULL it only measures.
 */
unsigned berth__map_tiles(const struct berth__map *map, unsigned top, FILE *to);

/* The patterns that tiles refer to. */
void berth__map_patterns(const struct berth__map *map, FILE *to);

/* What a pool has, in a line. */
void berth__map_pool_line(const struct berth__map *map, unsigned pool, char *text, size_t capacity);

#endif
