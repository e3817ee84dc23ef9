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
    const char *arguments; /* as in a synopsis */
    const char *summary;   /* one line, without a full stop */
    const char *details;   /* further lines of its help, each ended */
    /* argv[0] is "berth NAME", which getopt puts before its messages. Returns the exit status. */
    int (*run)(const struct berth__command *command, int argc, char **argv);
};

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

/* Reads the arguments of a command whose only option is --help. Returns the number of the first
 * operand, or -1 with *status set to what the command is to end with. */
int berth__cli_operands(const struct berth__command *command, int argc, char **argv, int *status);

/* The number of a process; -1 after a message if the text is none. */
int berth__cli_pid(const struct berth__command *command, const char *text);

/* The same where one process, and nothing else, is to follow the options; -1 also after a usage
 * error was told. */
int berth__cli_only_pid(const struct berth__command *command, int argc, char **argv);

/* Reads a number of seconds, more than none and up to a day; false after a message. */
bool berth__cli_seconds(const struct berth__command *command, const char *text, double *seconds);

#endif
