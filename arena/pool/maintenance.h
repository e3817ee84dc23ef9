/*
 * The maintenance thread (maintenance:true): returns unused memory while the program is idle.
 */
#ifndef BERTH_POOL_MAINTENANCE_H
#define BERTH_POOL_MAINTENANCE_H

/* Starts the thread if the option asks for it and this process has none yet. Never called inside
 * malloc, whose caller may hold what making a thread needs: when the library is loaded, when a pool
 * is created, and, for the child of a fork, by the calls that say that memory is to go back. */
void berth__maintenance_start(void);

/* In the child of a fork: the thread is gone, until the child asks for it by one of those calls. */
void berth__maintenance_reset_in_child(void);

#endif
