/*
 * Parts of the initialisation at load time, each in the file that has the state.
 */
#ifndef BERTH_POOL_INIT_H
#define BERTH_POOL_INIT_H

/* Has the locks of these files held over a fork. */
void berth__limit_register_lock(void);
void berth__pressure_register_lock(void);
void berth__tags_register_lock(void);
void berth__events_register_lock(void);

/* In the child of a fork: a callback that another thread ran is not running any more. */
void berth__pressure_reset_in_child(void);
void berth__events_reset_in_child(void);

#endif
