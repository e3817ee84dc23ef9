/*
 * The door's table of calls, under a name that no other library has: libberth finds it, wherever it
 * stands in the order of libraries. In a file of its own, so that a static program takes it along
 * also where the public calls come from libberth.
 */
#include "pool/api.h"

const struct berth__engine_table berth_door_engine = BERTH_ENGINE_TABLE;
