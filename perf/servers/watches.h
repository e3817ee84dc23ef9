/*
 * What a loop keeps whether it is on epoll or on a ring: the watches, and what it has counted.
 */
#ifndef BERTH_PERF_SERVERS_WATCHES_H
#define BERTH_PERF_SERVERS_WATCHES_H

#include "loop.h"

void watches_add(struct watch *watch);

/* Puts it among those that have ended. */
void watches_end(struct watch *watch);

/* Has those that have ended freed. */
void watches_free_ended(void);

/* Calls loop_end for each. */
void watches_end_all(void);

#endif
