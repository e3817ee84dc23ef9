/*
 * The maintenance thread (maintenance:true): returns unused memory while the program is idle.
 */
#ifndef BERTH_POOL_MAINTENANCE_H
#define BERTH_POOL_MAINTENANCE_H

/* Starts the thread if the option asks for it and this process has none yet. Never called inside
 * malloc: when the library is loaded, when a pool is created, and in the child of a fork. */
void berth__maintenance_start(void);

/* In the child of a fork: the thread is gone. */
void berth__maintenance_reset_in_child(void);

#endif
