/*
 * Understanding a copy of another process's stats page.
 *
 * The copy may hold anything: nothing on it is believed before it was compared with the copy's
 * size. What this makes can be handed to the writers of metrics/write.h: all names on it are such
 * that they break neither a terminal nor JSON. No system call but for memory.
 */
#ifndef BERTH_CLI_PAGE_READ_H
#define BERTH_CLI_PAGE_READ_H

#include "metrics/page_format.h"
#include "metrics/snapshot.h"

enum berth__page_fault {
    BERTH_PAGE_SOUND,
    BERTH_PAGE_NONE,          /* something else, or not made yet */
    BERTH_PAGE_OTHER_VERSION, /* stats->version is set */
    BERTH_PAGE_UNFINISHED,    /* copied while a snapshot was written */
    BERTH_PAGE_DAMAGED,
    BERTH_PAGE_NO_MEMORY, /* in this process */
};

struct berth__stats {
    struct berth__snapshot snapshot; /* all levels */
    struct berth__level_info levels[BERTH_LEVEL_COUNT];
    struct berth__metric *metrics;
    const char *page; /* the copy, which the texts lie in */
    size_t page_bytes;
    uint32_t version; /* of the format */
    char berth_version[17];
    uint32_t mail;      /* offset of the mailbox, which is on the page; or 0 */
    const char *layout; /* numbers of metrics/layout_format.h, which are on the page; or NULL */
    uint32_t layout_count;
    uint64_t taken_ns, made_ns, cost_ns, rows_left_out;
    uint64_t samples; /* address of the profiler's tables in the process */
    uint64_t trace;   /* address of the trace's root there; 0: an older engine */
};

/* Reads the copy, which starts on a multiple of 8 and must stay as long as `stats`. Whatever comes
 * back, berth__stats_free must follow. */
enum berth__page_fault berth__stats_read(struct berth__stats *stats, const void *page,
                                         size_t page_bytes);
void berth__stats_free(struct berth__stats *stats);

/* How long ago the figures were written down. */
double berth__stats_age_s(const struct berth__stats *stats);

/* The process's figure of that name; `otherwise` if the page has none. */
uint64_t berth__stats_figure(const struct berth__stats *stats, const char *name,
                             uint64_t otherwise);

#endif
