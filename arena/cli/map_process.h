/*
 * The map of a process that was read (cli/process.h), with what its writers need.
 */
#ifndef BERTH_CLI_MAP_PROCESS_H
#define BERTH_CLI_MAP_PROCESS_H

#include "cli/map_sites.h"
#include "cli/map_write.h"
#include "cli/outside.h"

struct berth__process_map {
    struct berth__map map;
    struct berth__map_title title;
    const char *why; /* if it could not be read */
    /* Of the reader. */
    struct berth__seen seen;
    struct berth__map_sampled sampled;
    char command[64], version[17]; /* of the title */
};

/* Reads a process's memory. False, with why; berth__process_map_free must follow in any case. */
bool berth__process_map_read(struct berth__process_map *map, const struct berth__process *process);
void berth__process_map_free(struct berth__process_map *map);

#endif
