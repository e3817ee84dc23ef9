/*
 * The commands of the tool `berth`, a file each.
 *
 * To add one: a file of its name that defines `const struct berth__command berth__command_NAME`, a
 * place in the list below, which is also the order of `berth help`, and its section in
 * docs/man/berth.1.in.
 */
#ifndef BERTH_CLI_COMMAND_H
#define BERTH_CLI_COMMAND_H

#include "base/compiler.h"

#include <argp.h>

#define BERTH_COMMANDS(X)                                                                          \
    X(run)                                                                                         \
    X(stat)                                                                                        \
    X(top)                                                                                         \
    X(prof)                                                                                        \
    X(leaks)                                                                                       \
    X(trace)                                                                                       \
    X(baseline)                                                                                    \
    X(diff)                                                                                        \
    X(map)                                                                                         \
    X(ctl)                                                                                         \
    X(export)                                                                                      \
    X(options)                                                                                     \
    X(help)

struct berth__command {
    const char *name;
    const char *arguments; /* behind the options, as in a synopsis; NULL: none */
    const char *summary;   /* one line, without a full stop */
    const char *details;   /* further paragraphs of its help; long lines of them are broken */
    const struct argp_option *options; /* besides --help; NULL: none */
    bool in_order;                     /* what follows the first operand is not the tool's */
    /* Takes an option; false after a message. Not needed without options. */
    bool (*take)(void *request, int key, const char *value);
    /* Returns the exit status. */
    int (*run)(const struct berth__command *command, int argc, char **argv);
};

/* The key of an option without a short name. */
#define BERTH_LONG_ONLY(letter) (0x100 + (letter))

#define BERTH_X(name) extern const struct berth__command berth__command_##name;
BERTH_COMMANDS(BERTH_X)
#undef BERTH_X

enum {
    BERTH_EXIT_DONE = 0,
    BERTH_EXIT_FAILED = 1,
    BERTH_EXIT_USAGE = 2, /* the command line was not understood; nothing was done */
};

/* "berth NAME: ..." on stderr. */
BERTH_COLD void berth__cli_error(const struct berth__command *command, const char *format, ...)
    BERTH_PRINTF(2, 3);

/* Says on stderr where help is. Returns BERTH_EXIT_USAGE. */
BERTH_COLD int berth__cli_usage_error(const struct berth__command *command);

/* Prints the help of the command on stdout. Returns BERTH_EXIT_DONE. */
int berth__cli_help(const struct berth__command *command);

/* Reads the options of a command into its request. Operands come last in argv then. Returns the
 * number of the first one, argc if there is none, or -1 with *status set to what the command is to
 * end with. */
int berth__cli_parse(const struct berth__command *command, int argc, char **argv, void *request,
                     int *status);

/* The number of a process; -1 after a message if the text is none. */
int berth__cli_pid(const struct berth__command *command, const char *text);

/* The same of operands that are to be one process, and nothing else; -1 also after a usage error
 * was told. */
int berth__cli_only_pid(const struct berth__command *command, int count, char **operands);

/* Reads a number of seconds, more than none and up to a day; false after a message. */
bool berth__cli_seconds(const struct berth__command *command, const char *text, double *seconds);

#endif
