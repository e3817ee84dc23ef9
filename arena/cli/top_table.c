#include "cli/figures.h"
#include "cli/top.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- columns ---- */

static const struct column {
    char key;
    const char *heading;
    unsigned width;
} columns[] = {
#define BERTH_X(name, key, heading, width) {key, heading, width},
    BERTH_TOP_COLUMNS(BERTH_X)
#undef BERTH_X
};

enum berth__top_column berth__top_column_of_key(int key) {
    unsigned i = 0;
    while (i < BERTH_TOP_COLUMN_COUNT && columns[i].key != key) {
        i++;
    }
    return (enum berth__top_column)i;
}

const char *berth__top_heading(enum berth__top_column column) {
    return columns[column].heading;
}

size_t berth__top_column_start(enum berth__top_column column, size_t *width) {
    size_t start = 0;
    for (unsigned i = 0; i < (unsigned)column; i++) {
        start += columns[i].width + 1;
    }
    *width = columns[column].width;
    return start + (column == BERTH_TOP_COMMAND); /* two spaces before text */
}

/* ---- a sample ---- */

static int by_pid(const void *a, const void *b) {
    const struct berth__top_row *left = a;
    const struct berth__top_row *right = b;
    return (left->pid > right->pid) - (left->pid < right->pid);
}

static double per_s(uint64_t now, uint64_t before, uint64_t now_ns, uint64_t before_ns) {
    return now > before && now_ns > before_ns
               ? (double)(now - before) * 1e9 / (double)(now_ns - before_ns)
               : 0;
}

static void compare_with_before(const struct berth__top *top, struct berth__top_row *row) {
    const struct berth__top_row *before =
        top->before_count == 0 ? NULL
                               : bsearch(row, top->before, top->before_count, sizeof(*row), by_pid);
    if (before != NULL && before->made_ns == row->made_ns) {
        row->allocations_per_s =
            per_s(row->allocations, before->allocations, row->taken_ns, before->taken_ns);
        row->frees_per_s = per_s(row->frees, before->frees, row->taken_ns, before->taken_ns);
    }
}

static void read_figures(struct berth__top_row *row, const struct berth__stats *stats) {
    row->live = berth__stats_figure(stats, "live_high_bytes", 0);
    row->used = berth__stats_figure(stats, "limit_used_bytes", 0);
    row->limit = berth__stats_figure(stats, "limit_bytes", UINT64_MAX);
    row->allocations = berth__stats_figure(stats, "allocations", 0);
    row->frees = berth__stats_figure(stats, "frees", 0);
    row->threads = berth__stats_sum(stats, BERTH_LEVEL_POOL, "threads");
    row->made_ns = stats->made_ns;
    row->taken_ns = stats->taken_ns;
    row->age_s = berth__stats_age_s(stats);
}

/* False if the process is none that belongs into the table. */
static bool describe(const struct berth__top *top, struct berth__top_row *row,
                     const struct berth__process *process, enum berth__process_outcome outcome) {
    memset(row, 0, sizeof(*row));
    row->pid = process->pid;
    row->limit = UINT64_MAX;
    memcpy(row->command, process->command, sizeof(row->command));
    switch (outcome) {
    case BERTH_PROCESS_READ:
        read_figures(row, &process->stats);
        compare_with_before(top, row);
        return true;
    case BERTH_PROCESS_PAGELESS:
    case BERTH_PROCESS_BAD_PAGE: snprintf(row->why, sizeof(row->why), "%s", process->why); break;
    case BERTH_PROCESS_REFUSED:
        if (process->uid != geteuid() || (process->sees_maps && !process->on_berth)) {
            return false; /* of others, or surely not on berth */
        }
        snprintf(row->why, sizeof(row->why), "%s", process->why);
        break;
    case BERTH_PROCESS_GONE:
    case BERTH_PROCESS_STRANGER: return false;
    }
    return true;
}

static void add(void *context, struct berth__process *process,
                enum berth__process_outcome outcome) {
    struct berth__top *top = context;
    struct berth__top_row row;
    if (!describe(top, &row, process, outcome)) {
        return;
    }
    if (top->count == top->capacity) {
        size_t capacity = top->capacity * 2 + 16;
        struct berth__top_row *rows = realloc(top->rows, capacity * sizeof(*rows));
        if (rows == NULL) {
            top->no_memory = true;
            return;
        }
        top->rows = rows;
        top->capacity = capacity;
    }
    top->rows[top->count++] = row;
}

int berth__top_sample(struct berth__top *top) {
    free(top->before);
    top->before = top->rows;
    top->before_count = top->count;
    if (top->count > 0) {
        qsort(top->before, top->before_count, sizeof(*top->before), by_pid);
    }
    top->rows = NULL;
    top->count = top->capacity = 0;
    int error = berth__processes_each(add, top);
    berth__top_sort(top);
    return error;
}

void berth__top_free(struct berth__top *top) {
    free(top->rows);
    free(top->before);
    memset(top, 0, sizeof(*top));
}

/* ---- order ---- */

static double share(const struct berth__top_row *row) {
    return row->limit == UINT64_MAX || row->limit == 0 ? 0 : (double)row->used / (double)row->limit;
}

static uint64_t idle(const struct berth__top_row *row) {
    return row->used > row->live ? row->used - row->live : 0;
}

static double value_of(const struct berth__top_row *row, enum berth__top_column column) {
    switch (column) {
    case BERTH_TOP_LIVE: return (double)row->live;
    case BERTH_TOP_USED: return (double)row->used;
    case BERTH_TOP_IDLE: return (double)idle(row);
    case BERTH_TOP_LIMIT: return (double)row->limit;
    case BERTH_TOP_SHARE: return share(row);
    case BERTH_TOP_ALLOCATIONS: return row->allocations_per_s;
    case BERTH_TOP_FREES: return row->frees_per_s;
    case BERTH_TOP_THREADS: return (double)row->threads;
    case BERTH_TOP_AGE: return row->age_s;
    case BERTH_TOP_PID:
    case BERTH_TOP_COMMAND:
    case BERTH_TOP_COLUMN_COUNT: break;
    }
    return 0;
}

/* Those without figures last; the largest first, but numbers and names as they count. */
static int compare(const void *a, const void *b, void *context) {
    const struct berth__top *top = context;
    const struct berth__top_row *left = a;
    const struct berth__top_row *right = b;
    bool left_read = left->why[0] == '\0';
    bool right_read = right->why[0] == '\0';
    if (left_read != right_read) {
        return left_read ? -1 : 1;
    }
    double l = value_of(left, top->sort);
    double r = value_of(right, top->sort);
    int order = (l < r) - (l > r);
    if (top->sort == BERTH_TOP_COMMAND) {
        order = strcmp(left->command, right->command);
    }
    if (order == 0) {
        order = by_pid(left, right);
        return top->sort == BERTH_TOP_PID && top->reversed ? -order : order;
    }
    return top->reversed ? -order : order;
}

void berth__top_sort(struct berth__top *top) {
    if (top->count > 0) {
        qsort_r(top->rows, top->count, sizeof(*top->rows), compare, top);
    }
}

/* ---- lines ---- */

static void put_heading(char *line, size_t capacity) {
    size_t used = 0;
    for (unsigned i = 0; i < BERTH_TOP_COMMAND && used < capacity; i++) {
        used += (size_t)snprintf(line + used, capacity - used, "%*s ", (int)columns[i].width,
                                 columns[i].heading);
    }
    if (used < capacity) {
        snprintf(line + used, capacity - used, " %s", columns[BERTH_TOP_COMMAND].heading);
    }
}

void berth__top_line(const struct berth__top_row *row, char *line, size_t capacity) {
    char text[4][BERTH_SIZE_TEXT];
    char percent[BERTH_SIZE_TEXT] = "-";
    if (row == NULL) {
        put_heading(line, capacity);
        return;
    }
    if (row->why[0] != '\0') {
        snprintf(line, capacity, "%7d  %-20s %s", (int)row->pid, row->command, row->why);
        return;
    }
    if (row->limit != UINT64_MAX) {
        snprintf(percent, sizeof(percent), "%.1f", share(row) * 100);
    }
    snprintf(line, capacity, "%7d %8s %8s %8s %8s %6s %9.0f %9.0f %5lu %6.1f  %s", (int)row->pid,
             berth__short_size(text[0], row->live), berth__short_size(text[1], row->used),
             berth__short_size(text[2], idle(row)), berth__short_size(text[3], row->limit), percent,
             row->allocations_per_s, row->frees_per_s, (unsigned long)row->threads, row->age_s,
             row->command);
}

void berth__top_summary(const struct berth__top *top, char *line, size_t capacity) {
    char live_text[BERTH_SIZE_TEXT];
    char used_text[BERTH_SIZE_TEXT];
    uint64_t live = 0;
    uint64_t used = 0;
    size_t unread = 0;
    for (size_t i = 0; i < top->count; i++) {
        live += top->rows[i].live;
        used += top->rows[i].used;
        unread += top->rows[i].why[0] != '\0';
    }
    int length = snprintf(line, capacity, "%zu process%s on berth: live %s, used %s",
                          top->count - unread, top->count - unread == 1 ? "" : "es",
                          berth__short_size(live_text, live), berth__short_size(used_text, used));
    if (unread > 0 && length > 0 && (size_t)length < capacity) {
        snprintf(line + length, capacity - (size_t)length, "; %zu without figures", unread);
    }
}
