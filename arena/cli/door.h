/*
 * Where the malloc door, libberth-malloc.so, lies.
 */
#ifndef BERTH_CLI_DOOR_H
#define BERTH_CLI_DOOR_H

#include "base/compiler.h"

#include <limits.h>

enum { BERTH_DOOR_PLACES = 2 };

/* The paths looked at, in this order; `found` is the one that is there, or NULL. */
struct berth__door {
    char tried[BERTH_DOOR_PLACES][PATH_MAX];
    const char *found;
};

/* Looks beside the tool (a build tree), then where the installation put libraries, relative to the
 * tool. Symbolic links to the tool are followed. Returns 0, -ENOENT if it is in neither place, or
 * -errno if the tool's own path cannot be found out. */
int berth__door_find(struct berth__door *door);

#endif
