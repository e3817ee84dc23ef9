/*
 * Prints what the tables in arena/ declare, as documentation.
 *
 *   tables options markdown     docs/options.md
 *   tables options man          the man page berth-options(7)
 *
 * The tables are compiled in, so that what is printed is what the library does. To document another
 * table: one more function in `pages`.
 */
#include "pool/options_table.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum type { SIZE, NUMBER, BOOL, LIMIT, THP };

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

static const struct {
    const char *table, *format;
    void (*print)(void);
} pages[] = {
    {"options", "markdown", print_options_markdown},
    {"options", "man", print_options_man},
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
