/*
 * The pages of one chunk, from a copy of its record.
 */
#ifndef BERTH_CLI_MAP_CHUNK_H
#define BERTH_CLI_MAP_CHUNK_H

#include "cli/map_read.h"

/* Adds the things of a chunk, sets the state of its pages, and adds to its pool's sums. `record` is
 * a copy of its record, of the length that the layout says. False: no memory. */
bool berth__map_chunk(struct berth__map *map, struct berth__map_stretch *stretch,
                      const char *record, struct berth__map_sums *sums);

/* Adds a thing to a stretch; NULL: no memory. */
struct berth__map_thing *berth__map_add_thing(struct berth__map_stretch *stretch,
                                              struct berth__map_thing thing);

#endif
