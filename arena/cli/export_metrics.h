/*
 * What `berth export` adds to the metrics of the processes, as X(name, labels, unit, help).
 *
 * All are gauges with the prefix berth_. docs/metrics.md and the dashboard have them too.
 */
#ifndef BERTH_CLI_EXPORT_METRICS_H
#define BERTH_CLI_EXPORT_METRICS_H

#define BERTH_EXPORT_METRICS(X)                                                                    \
    X(resident_bytes, "", "bytes", "Resident memory of the whole process, as the kernel has it.")  \
    X(figures_age_seconds, "", "seconds", "How old the figures of the process are.")               \
    X(figures_left_out, "", "", "Pools, arenas and classes that had no room on its stats page.")   \
    X(export_processes, "state", "",                                                               \
      "Processes, by what could be read: read, pageless (no figures), refused, damaged.")

#endif
