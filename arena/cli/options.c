/*
 * `berth options`: the table of options, as BERTH_CONF and `berth run -c` take them.
 */
#include "pool/options.h"
#include "cli/command.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { NAME_WIDTH = 15, WIDTH_DEFAULT = 80, WIDTH_LEAST = 40, WIDTH_MOST = 100 };

static const char *type_name(enum berth__option_type type) {
    static const char *const names[] = {
        [BERTH_OPTION_SIZE] = "size",
        [BERTH_OPTION_NUMBER] = "number",
        [BERTH_OPTION_BOOL] = "true|false",
        [BERTH_OPTION_LIMIT] = "size|none|auto",
        [BERTH_OPTION_THP] = "never|auto|always",
        [BERTH_OPTION_LEAK] = "off|simple|advanced|paranoid",
        [BERTH_OPTION_STACK] = "frames|unwind",
        [BERTH_OPTION_PATH] = "path|none",
    };
    return names[type];
}

static size_t width_of_output(void) {
    struct winsize size;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= WIDTH_LEAST;
    size_t width = known ? size.ws_col : WIDTH_DEFAULT;
    return width < WIDTH_MOST ? width : WIDTH_MOST;
}

/* The words in lines of `width` at most, each line indented. */
static void print_wrapped(const char *text, size_t width) {
    size_t column = 0;
    while (*text != '\0') {
        size_t length = strcspn(text, " ");
        if (column > 0 && column + 1 + length > width) {
            putchar('\n');
            column = 0;
        }
        if (column == 0) {
            printf("%*s", NAME_WIDTH, "");
            column = NAME_WIDTH - 1; /* the blank before a word is part of the indent */
        } else {
            putchar(' ');
        }
        printf("%.*s", (int)length, text);
        column += 1 + length;
        text += length + strspn(text + length, " ");
    }
    putchar('\n');
}

static int options(const struct berth__command *command, int argc, char **argv) {
    int status = BERTH_EXIT_DONE;
    int first = berth__cli_parse(command, argc, argv, NULL, &status);
    if (first < 0) {
        return status;
    }
    if (first < argc) {
        berth__cli_error(command, "it takes no arguments: \"%s\"", argv[first]);
        return berth__cli_usage_error(command);
    }
    size_t width = width_of_output();
    for (unsigned i = 0; i < BERTH_OPTION_COUNT; i++) {
        const struct berth__option_info *info = &berth__option_infos[i];
        printf("%-*s%s; default: %s\n", NAME_WIDTH, info->name, type_name(info->type),
               info->default_text);
        print_wrapped(info->help, width);
    }
    return BERTH_EXIT_DONE;
}

const struct berth__command berth__command_options = {
    .name = "options",
    .summary = "List the options, their types, defaults and meanings",
    .details = "They are given as NAME:VALUE,NAME:VALUE, to `berth run -c` or in the environment "
               "variable BERTH_CONF. Sizes are bytes, or take K, M, G or T.",
    .run = options,
};
