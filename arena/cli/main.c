/*
 * The tool `berth`: finds the command in the table and runs it.
 */
#include "cli/command.h"

#include <berth/version.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct berth__command *const commands[] = {
#define BERTH_X(name) &berth__command_##name,
    BERTH_COMMANDS(BERTH_X)
#undef BERTH_X
};

enum { NAME_WIDTH = 10 };

static const struct berth__command *find(const char *name) {
    for (size_t i = 0; i < BERTH_ARRAY_COUNT(commands); i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

void berth__cli_error(const struct berth__command *command, const char *format, ...) {
    fprintf(stderr, "berth %s: ", command->name);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

int berth__cli_pid(const struct berth__command *command, const char *text) {
    char *end = NULL;
    long pid = strtol(text, &end, 10);
    if (end == text || *end != '\0' || pid <= 0 || pid > INT32_MAX) {
        berth__cli_error(command, "\"%s\" is no number of a process", text);
        return -1;
    }
    return (int)pid;
}

bool berth__cli_seconds(const struct berth__command *command, const char *text, double *seconds) {
    char *end = NULL;
    *seconds = strtod(text, &end);
    if (*end != '\0' || end == text || !(*seconds > 0 && *seconds <= 86400)) {
        berth__cli_error(command, "\"%s\" is no number of seconds up to a day", text);
        return false;
    }
    return true;
}

static int unknown_command(const char *name) {
    fprintf(stderr, "berth: there is no command \"%s\"\nSee `berth help`.\n", name);
    return BERTH_EXIT_USAGE;
}

static void print_overview(FILE *to) {
    fprintf(to, "Usage: berth COMMAND [ARGUMENT...]\n\n"
                "Run programs on the berth allocator, and look at them.\n\n");
    for (size_t i = 0; i < BERTH_ARRAY_COUNT(commands); i++) {
        fprintf(to, "  %-*s%s\n", NAME_WIDTH, commands[i]->name, commands[i]->summary);
    }
    fprintf(to, "\n`berth help COMMAND` says more, and so does berth(1). `berth --version` prints "
                "the version.\n");
}

static int help(const struct berth__command *self, int argc, char **argv) {
    int status = BERTH_EXIT_DONE;
    int first = berth__cli_parse(self, argc, argv, NULL, &status);
    if (first < 0) {
        return status;
    }
    if (first == argc) {
        print_overview(stdout);
        return BERTH_EXIT_DONE;
    }
    const struct berth__command *command = find(argv[first]);
    return command == NULL ? unknown_command(argv[first]) : berth__cli_help(command);
}

const struct berth__command berth__command_help = {
    .name = "help",
    .arguments = "[COMMAND]",
    .summary = "Say what a command does, or which there are",
    .run = help,
};

static int run_command(int argc, char **argv) {
    const struct berth__command *command = find(argv[0]);
    if (command == NULL) {
        return unknown_command(argv[0]);
    }
    return command->run(command, argc, argv);
}

/* What stands before the command. */
/* NOLINTNEXTLINE(readability-non-const-parameter): a type of argp's */
static error_t take(int key, char *value, struct argp_state *state) {
    int *first = state->input;
    (void)value;
    switch (key) {
    case 'h': print_overview(stdout); return ECANCELED;
    case 'V':
        printf("berth %d.%d.%d\n", BERTH_VERSION_MAJOR, BERTH_VERSION_MINOR, BERTH_VERSION_PATCH);
        return ECANCELED;
    case BERTH_LONG_ONLY('u'):
        argp_help(state->root_argp, stdout, ARGP_HELP_USAGE, state->name);
        return ECANCELED;
    case ARGP_KEY_ARGS:
        *first = state->next;
        state->next = state->argc;
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static int run(int argc, char **argv) {
    static const struct argp_option options[] = {{"help", 'h', NULL, 0, NULL, 0},
                                                 {"version", 'V', NULL, 0, NULL, 0},
                                                 {"usage", BERTH_LONG_ONLY('u'), NULL, 0, NULL, 0},
                                                 {NULL, 0, NULL, 0, NULL, 0}};
    static const struct argp argp = {options, take, "COMMAND [ARGUMENT...]", NULL, NULL,
                                     NULL,    NULL};
    int first = argc;
    error_t error =
        argp_parse(&argp, argc, argv, ARGP_NO_HELP | ARGP_NO_EXIT | ARGP_IN_ORDER, NULL, &first);
    if (error != 0) {
        return error == ECANCELED ? BERTH_EXIT_DONE : BERTH_EXIT_USAGE;
    }
    if (first == argc) {
        print_overview(stderr);
        return BERTH_EXIT_USAGE;
    }
    return run_command(argc - first, argv + first);
}

int main(int argc, char **argv) {
    int status = run(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "berth: cannot write: %s\n", strerror(errno));
        return BERTH_EXIT_FAILED;
    }
    return status;
}
