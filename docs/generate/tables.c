/*
 * Prints what the tables in arena/ declare, as documentation.
 *
 *   tables options markdown     docs/options.md
 *   tables options man          the man page berth-options(7)
 *   tables metrics markdown     docs/metrics.md
 *   tables metrics man          the man page berth-metrics(7)
 *
 * The tables are compiled in (the metrics as arena/metrics/tables.c has them for the writers), so
 * that what is printed is what the library does. To document another table: one more function in
 * `pages`.
 */
#define BERTH_USDT 0 /* of the probes, the table only */

#include "metrics/tables.h"
#include "cli/export_metrics.h"
#include "os/probe.h"
#include "os/slow.h"
#include "pool/options_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum type { SIZE, NUMBER, BOOL, LIMIT, THP, LEAK, STACK, PATH };

struct option {
    const char *name;
    enum type type;
    const char *default_text;
    uint64_t least, most;
    const char *text;
};

static const struct option options[] = {
#define ROW(name, type, default_text, least, most, text)                                           \
    {#name, type, default_text, least, most, text},
    BERTH_OPTIONS(ROW)
#undef ROW
};
enum { OPTION_COUNT = sizeof(options) / sizeof(options[0]) };

/* A bound as a user would write it: 262144 is 256K where sizes are meant. */
static void print_bound(uint64_t bound, bool is_size) {
    static const char units[] = "KMGT";
    int unit = -1;
    while (is_size && bound != 0 && bound % 1024 == 0 && unit < 3) {
        bound /= 1024;
        unit++;
    }
    printf("%" PRIu64, bound);
    if (unit >= 0) {
        putchar(units[unit]);
    }
}

static void print_range(const struct option *option, const char *what, bool is_size) {
    printf("%s", what);
    if (option->most != INT64_MAX) {
        printf(", ");
        print_bound(option->least, is_size);
        printf(" to ");
        print_bound(option->most, is_size);
    } else if (option->least != 0) {
        printf(", at least ");
        print_bound(option->least, is_size);
    }
}

/* What may be written for the value. */
static void print_values(const struct option *option) {
    switch (option->type) {
    case SIZE: print_range(option, "size", true); return;
    case NUMBER: print_range(option, "number", false); return;
    case BOOL: printf("true or false"); return;
    case THP: printf("never, auto or always"); return;
    case LEAK: printf("off, simple, advanced or paranoid"); return;
    case STACK: printf("frames or unwind"); return;
    case PATH: printf("none, or a path"); return;
    case LIMIT: print_range(option, "none, auto, or a size", true); return;
    }
}

static void print_markdown_text(const char *text) {
    for (; *text != '\0'; text++) {
        printf(*text == '|' ? "\\|" : "%c", *text);
    }
}

static void print_options_markdown(void) {
    puts("<!-- Generated from arena/pool/options_table.h by `make docs`; do not edit. -->\n"
         "# Options\n\n"
         "`BERTH_CONF=\"name:value,name:value\"` sets options of a process; a pool may have its\n"
         "own (`struct berth_pool_options`). A size is a number of bytes, or takes K, M, G or T\n"
         "(powers of 1024). An unknown name or a bad value is named on stderr and skipped; with\n"
         "`abort_conf:true` it stops the process. Programs that run with raised privileges\n"
         "ignore `BERTH_CONF`.\n\n"
         "| option | value | default | meaning |\n"
         "|---|---|---|---|");
    for (int i = 0; i < OPTION_COUNT; i++) {
        printf("| `%s` | ", options[i].name);
        print_values(&options[i]);
        printf(" | %s | ", options[i].default_text);
        print_markdown_text(options[i].text);
        puts(" |");
    }
}

/* A line of text for man: nothing in it is a request or an escape. */
static void print_man_text(const char *text) {
    if (*text == '.' || *text == '\'') {
        printf("\\&");
    }
    for (; *text != '\0'; text++) {
        if (*text == '\\') {
            printf("\\e");
        } else {
            putchar(*text);
        }
    }
    putchar('\n');
}

static void print_options_man(void) {
    puts(".\\\" Generated from arena/pool/options_table.h.\n"
         ".TH BERTH-OPTIONS 7 \"\" berth\n"
         ".SH NAME\n"
         "berth-options \\- options of the berth allocator\n"
         ".SH SYNOPSIS\n"
         ".BI BERTH_CONF= name:value,name:value...\n"
         ".SH DESCRIPTION\n"
         "The environment variable\n"
         ".B BERTH_CONF\n"
         "sets the options of a process, read once when the allocator starts.\n"
         "A size is a number of bytes, or takes K, M, G or T (powers of 1024).\n"
         "An unknown name or a bad value is named on standard error and skipped; with\n"
         ".B abort_conf:true\n"
         "it stops the process.\n"
         "Programs that run with raised privileges ignore\n"
         ".BR BERTH_CONF .\n"
         ".SH OPTIONS");
    for (int i = 0; i < OPTION_COUNT; i++) {
        printf(".TP\n.B %s\n", options[i].name);
        print_man_text(options[i].text);
        printf("Values: ");
        print_values(&options[i]);
        printf(".\nDefault: %s.\n", options[i].default_text);
    }
    puts(".SH SEE ALSO\n.BR berth (1),\n.BR berth_pool_create (3),\n.BR berth (7)");
}

/* What a level is about: by name in the docs. */
static const char *const level_titles[] = {"Process",    "Pool", "Arena",
                                           "Size class", "Tag",  "Slow path"};
static const char *const level_labels[] = {"", "pool", "pool, arena", "pool, size", "tag", "path"};
_Static_assert(sizeof(level_titles) / sizeof(level_titles[0]) == BERTH_LEVEL_COUNT,
               "each level has a title");

static const char *kind_of(const struct berth__metric *metric) {
    return metric->kind == BERTH_METRIC_COUNTER  ? "counter"
           : metric->kind == BERTH_METRIC_BUCKET ? "bucket"
                                                 : "gauge";
}

static const char *unit_of(const struct berth__metric *metric) {
    return metric->unit == BERTH_METRIC_BYTES ? ", bytes" : "";
}

static void print_export_markdown(void) {
    puts("\n## What `berth export` adds\n\n"
         "OpenMetrics prefix: `berth_`. All samples that it serves also have the labels pid and "
         "comm,\nbut for those that have a label of their own here.\n\n"
         "| metric | kind | label | meaning |\n|---|---|---|---|");
#define ROW(name, labels, unit, help)                                                              \
    printf("| `%s` | gauge%s%s | %s | %s |\n", #name, *(unit) == '\0' ? "" : ", ", unit, labels,   \
           help);
    BERTH_EXPORT_METRICS(ROW)
#undef ROW
}

static const struct {
    const char *name, *help;
} slow_paths[] = {
#define ROW(name, help) {#name, help},
    BERTH_SLOW_PATHS(ROW)
#undef ROW
};

/* In OpenMetrics these are one histogram, whatever the fields. */
static void print_slow_paths_markdown(void) {
    puts("In OpenMetrics: the histogram `berth_slow_path_seconds`, labelled with its path. The\n"
         "paths:\n");
    for (size_t i = 0; i < sizeof(slow_paths) / sizeof(slow_paths[0]); i++) {
        printf("- `%s`: %s\n", slow_paths[i].name, slow_paths[i].help);
    }
    putchar('\n');
}

static void print_slow_paths_man(void) {
    puts("In OpenMetrics: the histogram\n.BR berth_slow_path_seconds ,\nlabelled with its path. "
         "The paths:");
    for (size_t i = 0; i < sizeof(slow_paths) / sizeof(slow_paths[0]); i++) {
        printf(".TP\n.B %s\n", slow_paths[i].name);
        print_man_text(slow_paths[i].help);
    }
    puts(".PP\nThe fields:");
}

static const struct {
    const char *name, *arguments;
} probes[] = {
#define ROW(name, arguments) {#name, arguments},
    BERTH_PROBES(ROW)
#undef ROW
};

static void print_probes_markdown(void) {
    puts("\n## Probes\n\n"
         "USDT probes of the provider `berth`, in both libraries where they were built with\n"
         "`sys/sdt.h`: for bpftrace (`usdt:/path/to/libberth-malloc.so.0:berth:chunk_map`), perf\n"
         "and SystemTap. One that nobody looks at costs a load and a branch on a slow path.\n\n"
         "| probe | arguments |\n|---|---|");
    for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++) {
        printf("| `%s` | %s |\n", probes[i].name, probes[i].arguments);
    }
}

static void print_probes_man(void) {
    puts(".SH PROBES\nUSDT probes of the provider\n.BR berth ,\nin both libraries where they were "
         "built with\n.BR sys/sdt.h ,\nwith their arguments:");
    for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++) {
        printf(".TP\n.B %s\n", probes[i].name);
        print_man_text(probes[i].arguments);
    }
}

static void print_metrics_markdown(void) {
    puts(
        "<!-- Generated from the tables in include/berth/metrics.h by `make docs`; do not edit. "
        "-->\n"
        "# Metrics\n\n"
        "`berth_metrics_read` and its kin fill structures whose fields have these names;\n"
        "`berth_metrics_write` writes them as text, JSON or OpenMetrics. In OpenMetrics a name is\n"
        "preceded by the prefix of its level, and a counter's name ends in `_total`; `count` is\n"
        "called `blocks` there, as names must not end in `_count`.");
    for (unsigned l = 0; l < BERTH_LEVEL_COUNT; l++) {
        const struct berth__level_info *level = &berth__levels[l];
        printf("\n## %s\n\n", level_titles[l]);
        if (l == BERTH_LEVEL_SLOW) {
            print_slow_paths_markdown();
        } else {
            printf("OpenMetrics prefix: `%s`.", level->prefix);
            printf(*level_labels[l] == '\0' ? "\n\n" : " Labels: %s.\n\n", level_labels[l]);
        }
        puts("| metric | kind | meaning |\n|---|---|---|");
        for (unsigned i = 0; i < level->count; i++) {
            const struct berth__metric *metric = &level->metrics[i];
            printf("| `%s` | %s%s | ", metric->name, kind_of(metric), unit_of(metric));
            print_markdown_text(metric->help);
            puts(" |");
        }
    }
    print_export_markdown();
    print_probes_markdown();
}

static void print_metrics_man(void) {
    puts(".\\\" Generated from the tables in include/berth/metrics.h.\n"
         ".TH BERTH-METRICS 7 \"\" berth\n"
         ".SH NAME\n"
         "berth-metrics \\- what the berth allocator counts\n"
         ".SH DESCRIPTION\n"
         ".BR berth_metrics_read (3)\n"
         "and its kin fill structures whose fields have these names;\n"
         ".BR berth_metrics_write (3)\n"
         "writes them as text, JSON or OpenMetrics.\n"
         "In OpenMetrics a name is preceded by the prefix of its level, and the name of a counter\n"
         "ends in\n"
         ".BR _total ;\n"
         ".B count\n"
         "is called\n"
         ".B blocks\n"
         "there, as names must not end so.");
    for (unsigned l = 0; l < BERTH_LEVEL_COUNT; l++) {
        const struct berth__level_info *level = &berth__levels[l];
        printf(".SH %s\n", level_titles[l]);
        if (l == BERTH_LEVEL_SLOW) {
            print_slow_paths_man();
        } else {
            printf("OpenMetrics prefix:\n.BR %s .\n", level->prefix);
            if (*level_labels[l] != '\0') {
                printf("Labels: %s.\n", level_labels[l]);
            }
        }
        for (unsigned i = 0; i < level->count; i++) {
            const struct berth__metric *metric = &level->metrics[i];
            printf(".TP\n.BR %s \" (%s%s)\"\n", metric->name, kind_of(metric), unit_of(metric));
            print_man_text(metric->help);
        }
    }
    puts(".SH What berth export adds\nOpenMetrics prefix:\n.BR berth_ .\n"
         "All samples that it serves also have the labels pid and comm, but for those that have a "
         "label\nof their own here.");
#define ROW(name, labels, unit, help)                                                              \
    printf(".TP\n.BR %s \" (gauge%s%s%s%s)\"\n", #name, *(unit) == '\0' ? "" : ", ", unit,         \
           *(labels) == '\0' ? "" : "; label: ", labels);                                          \
    print_man_text(help);
    BERTH_EXPORT_METRICS(ROW)
#undef ROW
    print_probes_man();
    puts(".SH SEE ALSO\n.BR berth_metrics (3),\n.BR berth (7)");
}

static const struct {
    const char *table, *format;
    void (*print)(void);
} pages[] = {
    {"options", "markdown", print_options_markdown},
    {"options", "man", print_options_man},
    {"metrics", "markdown", print_metrics_markdown},
    {"metrics", "man", print_metrics_man},
};

int main(int argc, char **argv) {
    for (size_t i = 0; argc == 3 && i < sizeof(pages) / sizeof(pages[0]); i++) {
        if (strcmp(argv[1], pages[i].table) == 0 && strcmp(argv[2], pages[i].format) == 0) {
            pages[i].print();
            return ferror(stdout) != 0 || fflush(stdout) != 0;
        }
    }
    fprintf(stderr, "usage: tables TABLE FORMAT, where they are one of\n");
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
        fprintf(stderr, "  %s %s\n", pages[i].table, pages[i].format);
    }
    return 2;
}
