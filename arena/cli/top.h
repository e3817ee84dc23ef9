/*
 * `berth top`: the table of processes behind it, and the two ways to show it.
 *
 * A sample is what all readable pages said at one time; rates come from two samples of the same
 * process, by the times at which it wrote them down.
 */
#ifndef BERTH_CLI_TOP_H
#define BERTH_CLI_TOP_H

#include "cli/processes.h"

/* X(name, key, heading, width): the columns, and the key that sorts by each. */
#define BERTH_TOP_COLUMNS(X)                                                                       \
    X(PID, 'p', "PID", 7)                                                                          \
    X(LIVE, 'l', "LIVE", 8)                                                                        \
    X(USED, 'u', "USED", 8)                                                                        \
    X(IDLE, 'i', "IDLE", 8)                                                                        \
    X(LIMIT, 'm', "LIMIT", 8)                                                                      \
    X(SHARE, 's', "USED%", 6)                                                                      \
    X(ALLOCATIONS, 'a', "ALLOC/s", 9)                                                              \
    X(FREES, 'f', "FREE/s", 9)                                                                     \
    X(THREADS, 't', "THR", 5)                                                                      \
    X(AGE, 'g', "AGE", 6)                                                                          \
    X(COMMAND, 'c', "COMMAND", 0)

enum berth__top_column {
#define BERTH_X(name, key, heading, width) BERTH_TOP_##name,
    BERTH_TOP_COLUMNS(BERTH_X)
#undef BERTH_X
        BERTH_TOP_COLUMN_COUNT
};

struct berth__top_row {
    pid_t pid;
    char command[64];
    char why[256]; /* what stands instead of figures; "": it was read */
    uint64_t live, used, limit, threads;
    uint64_t allocations, frees;
    uint64_t made_ns, taken_ns; /* of the page: tells a process from another of its number */
    double allocations_per_s, frees_per_s, age_s;
};

struct berth__top {
    struct berth__top_row *rows;
    size_t count, capacity;
    struct berth__top_row *before; /* the sample before, in the order of process numbers */
    size_t before_count;
    enum berth__top_column sort;
    bool reversed;
    bool no_memory;
};

/* Looks at all processes, and sorts them. 0, or -errno. */
int berth__top_sample(struct berth__top *top);
void berth__top_sort(struct berth__top *top);
void berth__top_free(struct berth__top *top);

/* The column that a key sorts by; BERTH_TOP_COLUMN_COUNT if none. */
enum berth__top_column berth__top_column_of_key(int key);
const char *berth__top_heading(enum berth__top_column column);
/* Where a column begins in a line, and how many characters it has; the last one has all the
 * rest. */
size_t berth__top_column_start(enum berth__top_column column, size_t *width);

/* One line of the table; the headings for NULL. */
void berth__top_line(const struct berth__top_row *row, char *line, size_t capacity);
/* How many there are, and what they have together. */
void berth__top_summary(const struct berth__top *top, char *line, size_t capacity);

/* What one process has: lines of text about its pools, arenas and classes. */
struct berth__top_details {
    char (*lines)[128];
    size_t count, capacity;
};
/* The lines say so if the process cannot be read. */
void berth__top_details_read(struct berth__top_details *details, pid_t pid);
void berth__top_details_free(struct berth__top_details *details);

/* Shows the table until it is told to end. False, with a sentence, if there is no terminal that can
 * do it. */
bool berth__top_screen(struct berth__top *top, double interval_s, char *why, size_t capacity);

#endif
