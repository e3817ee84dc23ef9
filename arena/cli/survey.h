/*
 * All processes of the user that run on berth, looked at again and again; for `berth export`.
 *
 * What does not run on berth is looked at more and more seldom, up to every 16 seconds: reading the
 * mappings of every process of a machine is dear. Of one thread.
 */
#ifndef BERTH_CLI_SURVEY_H
#define BERTH_CLI_SURVEY_H

#include "cli/history.h"
#include "cli/process.h"

/* What processes say of themselves is bounded: as root, one reads those of users who mean harm. */
enum {
    BERTH_SURVEY_ROWS_MAX = 16384,      /* of a level of one process */
    BERTH_SURVEY_BYTES_MAX = 512 << 20, /* of all figures; what comes beyond is not read */
};

enum {
    BERTH_HISTORY_POINTS = 600, /* of a process: 20 minutes */
    BERTH_HISTORY_PAUSE_MS = 2000,
    BERTH_HISTORIES_MAX = 64, /* processes that have one: 6.5 MB in all */
};

struct berth__surveyed {
    pid_t pid;
    enum berth__process_outcome outcome; /* BERTH_PROCESS_STRANGER: not to be shown */
    struct berth__process process;       /* to be closed */
    struct berth__identity identity;
    struct berth__history *history; /* or NULL */
    uint64_t look_again_ns;         /* a stranger, not before then */
    unsigned patience_s;
};

struct berth__survey {
    struct berth__surveyed *all; /* by number, strangers among them */
    size_t count;
    size_t bytes; /* of figures that are kept */
    uint64_t taken_ns, history_ns;
};

/* Looks at all processes, unless that was done no more than `age_ms` ago. 0 or -errno; then the
 * survey is what it was. */
int berth__survey_take(struct berth__survey *survey, unsigned age_ms);
void berth__survey_end(struct berth__survey *survey);

/* True if it is to be shown: it runs on berth, or may do so and does not let us look. */
bool berth__survey_shows(const struct berth__surveyed *surveyed);

/* NULL if there is none of that number to be shown. */
const struct berth__surveyed *berth__survey_find(const struct berth__survey *survey, pid_t pid);

#endif
