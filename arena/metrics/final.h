/*
 * Heap profiles when the process ends, or the limit fails it: the options prof_final, leak_print
 * and prof_failure.
 */
#ifndef BERTH_METRICS_FINAL_H
#define BERTH_METRICS_FINAL_H

/* At the end: writes what the options ask for. */
void berth__final_profile(void);

/* The same at a failure; the first time only. Any thread, under no lock; allocates nothing. */
void berth__failure_profile(void);

#endif
