/*
 * `berth diff`: what has changed in a process since its baseline, by category, and in detail.
 */
#include "cli/baseline_file.h"
#include "cli/command.h"
#include "cli/figures.h"
#include "cli/outside.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A figure now, and at the baseline. */
struct pair {
    uint64_t now, then;
};

static struct pair plus(struct pair a, struct pair b) {
    return (struct pair){a.now + b.now, a.then + b.then};
}

static bool differ(struct pair pair) {
    return pair.now != pair.then;
}

struct diff {
    const struct berth__stats *now, *then;
    bool everything; /* categories that are as they were, too */
};

static struct pair of_process(const struct diff *diff, const char *name) {
    return (struct pair){berth__stats_figure(diff->now, name, 0),
                         berth__stats_figure(diff->then, name, 0)};
}

static struct pair of_pools(const struct diff *diff, const char *name) {
    return (struct pair){berth__stats_sum(diff->now, BERTH_LEVEL_POOL, name),
                         berth__stats_sum(diff->then, BERTH_LEVEL_POOL, name)};
}

/* ---- figures as text ---- */

/* " +1.5M"; nothing if there is no difference. Returns how many characters, like the others. */
static int print_change(struct pair pair, bool bytes) {
    uint64_t change = pair.now > pair.then ? pair.now - pair.then : pair.then - pair.now;
    char sign = pair.now > pair.then ? '+' : '-';
    char text[BERTH_SIZE_TEXT];
    if (!differ(pair)) {
        return 0;
    }
    return bytes ? printf(" %c%s", sign, berth__short_size(text, change))
                 : printf(" %c%" PRIu64, sign, change);
}

/* "name=12.0M +1.5M" */
static int print_bytes(const char *name, struct pair pair) {
    char text[BERTH_SIZE_TEXT];
    int printed = printf("%s=%s", name, berth__short_size(text, pair.now));
    return printed + print_change(pair, true);
}

static int print_count(const char *name, struct pair pair) {
    int printed = printf("%s%" PRIu64, name, pair.now);
    return printed + print_change(pair, false);
}

/* ---- summary ---- */

/* "-   Small blocks (committed=12.0M +1.5M, #12 +3)" */
static bool print_category(const struct diff *diff, const char *name, const char *what,
                           struct pair bytes, struct pair count) {
    if (!diff->everything && !differ(bytes) && !differ(count)) {
        return false;
    }
    printf("-%24s (", name);
    print_bytes(what, bytes);
    if (count.now != 0 || count.then != 0) {
        printf(", ");
        print_count("#", count);
    }
    puts(")");
    return true;
}

static void print_part(const struct diff *diff, const char *name, struct pair bytes) {
    if (diff->everything || differ(bytes)) {
        printf("%25s (", "");
        print_bytes(name, bytes);
        puts(")");
    }
}

/* Blocks of small classes that are with threads. */
static struct pair small_blocks(const struct diff *diff) {
    return (struct pair){berth__stats_sum(diff->now, BERTH_LEVEL_CLASS, "lent_blocks"),
                         berth__stats_sum(diff->then, BERTH_LEVEL_CLASS, "lent_blocks")};
}

static void print_small(const struct diff *diff) {
    struct pair lent = of_pools(diff, "slab_lent_bytes");
    struct pair remote = of_pools(diff, "remote_bytes");
    struct pair unused = of_pools(diff, "slab_free_bytes");
    struct pair tails = of_pools(diff, "slab_tail_bytes");
    struct pair all = plus(plus(lent, remote), plus(unused, tails));
    if (print_category(diff, "Small blocks", "committed", all, small_blocks(diff)) ||
        differ(lent)) {
        print_part(diff, "with threads", lent);
        print_part(diff, "on their way home", remote);
        print_part(diff, "free", unused);
        print_part(diff, "ends of slabs", tails);
    }
}

static void print_normal(const struct diff *diff) {
    struct pair lent = of_pools(diff, "run_lent_bytes");
    struct pair cached = of_pools(diff, "run_cached_bytes");
    if (print_category(diff, "Normal blocks", "committed", plus(lent, cached), (struct pair){0})) {
        print_part(diff, "with the program", lent);
        print_part(diff, "in CPU caches", cached);
    }
}

/* Memory that a pool was given counts there, and nowhere in the process. */
static struct pair given(const struct diff *diff) {
    struct pair pools = of_pools(diff, "chunk_bytes");
    struct pair process = of_process(diff, "chunk_bytes");
    return (struct pair){pools.now > process.now ? pools.now - process.now : 0,
                         pools.then > process.then ? pools.then - process.then : 0};
}

static const struct berth__row *find_row(const struct berth__stats *stats, enum berth__level level,
                                         const struct berth__row *like) {
    for (size_t i = 0; i < stats->snapshot.count[level]; i++) {
        const struct berth__row *row = &stats->snapshot.rows[level][i];
        if (row->index == like->index && strcmp(row->pool, like->pool) == 0) {
            return row;
        }
    }
    return NULL;
}

/* What is accounted to the server's own parts (berth_tag_push); in the above, too. */
static void print_tags(const struct diff *diff) {
    for (size_t i = 0; i < diff->now->snapshot.count[BERTH_LEVEL_TAG]; i++) {
        static const char *const names[] = {"live_high_bytes", "count"};
        const struct berth__row *row = &diff->now->snapshot.rows[BERTH_LEVEL_TAG][i];
        const struct berth__row *before = find_row(diff->then, BERTH_LEVEL_TAG, row);
        struct pair pairs[BERTH_ARRAY_COUNT(names)];
        char name[BERTH_ROW_POOL_BYTES + 8];
        for (unsigned n = 0; n < BERTH_ARRAY_COUNT(names); n++) {
            pairs[n].now = berth__stats_row_figure(diff->now, BERTH_LEVEL_TAG, row, names[n]);
            pairs[n].then = before == NULL ? 0
                                           : berth__stats_row_figure(diff->then, BERTH_LEVEL_TAG,
                                                                     before, names[n]);
        }
        snprintf(name, sizeof(name), "Tag %s", row->pool);
        (void)print_category(diff, name, "live", pairs[0], pairs[1]);
    }
}

static void print_summary(const struct diff *diff, struct pair reserved) {
    const struct pair none = {0, 0};
    printf("Total: ");
    if (reserved.now != 0 && reserved.then != 0) {
        print_bytes("reserved", reserved);
        printf(", ");
    }
    print_bytes("committed", of_process(diff, "mapped_bytes"));
    printf("\n       ");
    print_bytes("live", of_process(diff, "live_high_bytes"));
    printf(" at most, ");
    print_count("allocations=", of_process(diff, "allocations"));
    printf(", ");
    print_count("frees=", of_process(diff, "frees"));
    printf("\n\n");
    print_small(diff);
    print_normal(diff);
    print_category(diff, "Free page runs", "committed", of_pools(diff, "run_free_bytes"), none);
    print_category(diff, "Huge blocks", "committed", of_process(diff, "huge_bytes"),
                   of_pools(diff, "huge_blocks"));
    print_category(diff, "Mapped files", "committed", of_process(diff, "file_bytes"), none);
    print_category(diff, "Retained", "committed", of_process(diff, "retained_bytes"), none);
    print_category(diff, "Berth's own records", "committed", of_process(diff, "metadata_bytes"),
                   none);
    print_category(diff, "Mapped elsewhere", "reserved", of_process(diff, "reserved_bytes"), none);
    if (given(diff).now != 0 || given(diff).then != 0) {
        print_category(diff, "Given to pools", "of the above", given(diff), none);
    }
    print_tags(diff);
}

/* ---- detail ---- */

static void print_name(enum berth__level level, const struct berth__row *row) {
    if (level == BERTH_LEVEL_POOL || level == BERTH_LEVEL_TAG) {
        printf("  %s", row->pool);
    } else {
        printf("  %s %" PRIu64, row->pool, row->index);
    }
}

/* What stands in a column by name, as the two processes may be of different versions. */
static struct pair column_pair(const struct diff *diff, enum berth__level level, unsigned column,
                               const struct berth__row *now, const struct berth__row *then) {
    const char *name = diff->now->levels[level].metrics[column].name;
    struct pair pair = {now->of.value[column], 0};
    if (then != NULL) {
        pair.then = berth__stats_row_figure(diff->then, level, then, name);
    }
    return pair;
}

/* One figure more on the line, or on the next one. */
static void print_figure(const struct berth__metric *metric, struct pair pair, int *column) {
    enum { FULL = 68 };
    if (*column > FULL) {
        printf(",\n     ");
        *column = 5;
    } else if (*column > 0) {
        putchar(',');
    }
    *column += printf(" ") + 1;
    if (metric->unit == BERTH_METRIC_BYTES) {
        *column += print_bytes(metric->name, pair);
    } else {
        *column += printf("%s", metric->name) + print_count("=", pair);
    }
}

/* Figures that do not change: they would differ in rows that are new. */
static bool says_what_it_is(const struct berth__metric *metric) {
    return strcmp(metric->name, "size_bytes") == 0 || strcmp(metric->name, "node") == 0;
}

/* All figures of a row that differ; false if none does. */
static bool print_row(const struct diff *diff, enum berth__level level,
                      const struct berth__row *row) {
    static const struct berth__metric lent_bytes = {.name = "lent_bytes",
                                                    .unit = BERTH_METRIC_BYTES};
    const struct berth__level_info *info = &diff->now->levels[level];
    const struct berth__row *before = find_row(diff->then, level, row);
    int column = 0; /* 0: nothing printed yet */
    for (unsigned i = 0; i < info->count; i++) {
        const struct berth__metric *metric = &info->metrics[i];
        struct pair pair = column_pair(diff, level, i, row, before);
        if (!differ(pair) || says_what_it_is(metric)) {
            continue;
        }
        if (column == 0) {
            print_name(level, row);
            putchar(':');
        }
        print_figure(metric, pair, &column);
        if (level == BERTH_LEVEL_CLASS && strcmp(metric->name, "lent_blocks") == 0) {
            struct pair bytes = {pair.now * row->index, pair.then * row->index};
            print_figure(&lent_bytes, bytes, &column);
        }
    }
    if (column > 0) {
        puts(before == NULL ? " (new)" : "");
    }
    return column > 0;
}

static bool print_gone(const struct diff *diff, enum berth__level level) {
    bool any = false;
    for (size_t i = 0; i < diff->then->snapshot.count[level]; i++) {
        const struct berth__row *row = &diff->then->snapshot.rows[level][i];
        if (find_row(diff->now, level, row) == NULL) {
            print_name(level, row);
            puts(": has gone");
            any = true;
        }
    }
    return any;
}

static void print_detail(const struct diff *diff) {
    static const char *const titles[] = {[BERTH_LEVEL_POOL] = "Pools",
                                         [BERTH_LEVEL_ARENA] = "Arenas, by pool and number",
                                         [BERTH_LEVEL_CLASS] = "Small blocks, by pool and size",
                                         [BERTH_LEVEL_TAG] = "Tags"};
    for (unsigned i = BERTH_LEVEL_POOL; i < BERTH_ARRAY_COUNT(titles); i++) {
        enum berth__level level = (enum berth__level)i;
        printf("\n%s\n", titles[i]);
        bool any = false;
        for (size_t row = 0; row < diff->now->snapshot.count[level]; row++) {
            any = print_row(diff, level, &diff->now->snapshot.rows[level][row]) || any;
        }
        any = print_gone(diff, level) || any;
        if (!any) {
            puts("  as they were");
        }
    }
}

/* ---- the two sides ---- */

struct request {
    const struct berth__command *command;
    const char *file; /* NULL: where `berth baseline` puts it */
    bool detail, everything;
    pid_t pid;
};

static bool read_baseline(const struct request *request, struct berth__baseline *baseline) {
    char path[BERTH_PATH_BYTES];
    const char *file = request->file;
    memset(baseline, 0, sizeof(*baseline));
    if (file == NULL) {
        if (!berth__baseline_path(baseline, request->pid, path, sizeof(path))) {
            return false;
        }
        file = path;
    }
    bool read = berth__baseline_read(baseline, file);
    if (!read && request->file == NULL && baseline->missing) {
        snprintf(baseline->why, sizeof(baseline->why),
                 "there is no baseline of process %d: make one with `berth baseline %d`",
                 (int)request->pid, (int)request->pid);
    }
    return read && berth__baseline_is_of(baseline, request->pid);
}

static bool compare(const struct request *request, const struct berth__process *process,
                    struct berth__baseline *baseline) {
    const struct diff diff = {
        .now = &process->stats, .then = &baseline->stats, .everything = request->everything};
    struct pair allocations = of_process(&diff, "allocations");
    if (process->stats.taken_ns < baseline->stats.taken_ns || allocations.now < allocations.then) {
        berth__cli_error(request->command,
                         "process %d runs another program than at the baseline: make a new one "
                         "with `berth baseline %d`",
                         (int)request->pid, (int)request->pid);
        return false;
    }
    uint64_t now_s = (uint64_t)time(NULL);
    uint64_t age_s = now_s > baseline->head.wall_s ? now_s - baseline->head.wall_s : 0;
    printf("process %d, %s, compared with its baseline of %" PRIu64 " s ago\n\n", (int)request->pid,
           process->command, age_s);
    print_summary(&diff,
                  (struct pair){berth__outside_reserved(process), baseline->head.reserved_bytes});
    if (request->detail) {
        print_detail(&diff);
    }
    return true;
}

static int run(const struct request *request) {
    struct berth__process process;
    struct berth__baseline baseline = {.page = NULL};
    bool done = false;
    if (berth__process_read(&process, request->pid) != BERTH_PROCESS_READ) {
        berth__cli_error(request->command, "%s", process.why);
    } else if (!read_baseline(request, &baseline)) {
        berth__cli_error(request->command, "%s", baseline.why);
    } else {
        done = compare(request, &process, &baseline);
    }
    berth__baseline_free(&baseline);
    berth__process_close(&process);
    return done ? BERTH_EXIT_DONE : BERTH_EXIT_FAILED;
}

static const struct argp_option options[] = {
    {"detail", 'd', NULL, 0, "by pool, arena and block size, too", 0},
    {"all", 'a', NULL, 0, "categories that have not changed, too", 0},
    {"baseline", 'b', "FILE", 0, "of `berth baseline -o FILE`", 0},
    {NULL, 0, NULL, 0, NULL, 0}};

static bool take(void *context, int key, const char *value) {
    struct request *request = context;
    switch (key) {
    case 'd': request->detail = true; break;
    case 'a': request->everything = true; break;
    default: request->file = value; break;
    }
    return true;
}

static int diff_command(const struct berth__command *command, int argc, char **argv) {
    struct request request = {.command = command};
    int status = BERTH_EXIT_DONE;
    int first = berth__cli_parse(command, argc, argv, &request, &status);
    if (first < 0) {
        return status;
    }
    request.pid = berth__cli_only_pid(command, argc - first, argv + first);
    return request.pid < 0 ? BERTH_EXIT_USAGE : run(&request);
}

const struct berth__command berth__command_diff = {
    .name = "diff",
    .arguments = "PID",
    .summary = "Show what has changed in a process since its baseline",
    .details = "Figures are what is now; with a sign, by how much that is more or less than at the "
               "baseline. What has not changed is left out.",
    .options = options,
    .take = take,
    .run = diff_command,
};
