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

/* What is done before anybody is told that a request failed for which there could be room; set by a
 * higher layer when the library is loaded. May be inside malloc. NULL: nothing. */
extern void (*_Atomic berth__failure_hook)(void);

/* Has the engine call what is here. */
void berth__events_init(void);

#endif
