/*
 * Heap profiles when the process ends: the options prof_final and leak_print.
 */
#ifndef BERTH_METRICS_FINAL_H
#define BERTH_METRICS_FINAL_H

/* Writes what the options ask for. */
void berth__final_profile(void);

#endif
