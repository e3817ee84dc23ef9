/*
 * Parts of the initialisation at load time, each in the file that has the state.
 */
#ifndef BERTH_POOL_INIT_H
#define BERTH_POOL_INIT_H

/* Has the locks of this layer held over a fork. */
void berth__pool_register_locks(void);
void berth__pressure_register_lock(void);

/* Refers to init.c: a static link takes from an archive only what something refers to, and its
 * constructor would be left out. */
extern const char berth__pool_init_anchor;

#endif
