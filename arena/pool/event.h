/*
 * Telling the program of events. See <berth/event.h>.
 */
#ifndef BERTH_POOL_EVENT_H
#define BERTH_POOL_EVENT_H

#include "base/compiler.h"

/* Tells of a crossing of the soft limit that was not told yet. Under no lock, outside of malloc. */
void berth__events_look(void);

/* The kernel says that memory is short; `bytes` were given back. By the maintenance thread. */
void berth__event_of_pressure(size_t bytes);

/* Has the engine call what is here. */
void berth__events_init(void);

#endif
