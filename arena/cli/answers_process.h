/*
 * What `berth export` answers of a process's heap profile and of its map.
 *
 * Made of the process itself, which is read anew: dearer than the other answers, and asked for one
 * process at a time. Names are escaped for the form that they stand in.
 */
#ifndef BERTH_CLI_ANSWERS_PROCESS_H
#define BERTH_CLI_ANSWERS_PROCESS_H

#include "cli/profile_write.h"

enum { BERTH_TOP_SITES_MAX = 50 };

enum berth__answered {
    BERTH_ANSWERED,
    BERTH_ANSWERED_WHY_NOT, /* instead, a text for people was written: why, and what helps */
    BERTH_ANSWERED_NOT,     /* there is no memory; what was written is of no use */
};

/* profile.proto, for `go tool pprof`. */
enum berth__answered berth__answer_pprof(FILE *to, pid_t pid, enum berth__profile_measure measure);

/* As JSON, the places that hold most; or why there are none. */
enum berth__answered berth__answer_sites(FILE *to, pid_t pid);

/* The picture of `berth map`, as SVG, unless the process is too large for one. */
enum berth__answered berth__answer_map(FILE *to, pid_t pid);

#endif
