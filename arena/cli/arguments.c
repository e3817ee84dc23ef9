/*
 * The arguments of a command, by argp: its options, --help and --usage.
 */
#include "cli/command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { KEY_USAGE = BERTH_LONG_ONLY('u') };

struct parsing {
    const struct berth__command *command;
    void *request;
    int first;    /* operand */
    bool refused; /* a value, after a message */
};

/* What argp asks besides the options that there are. */
static bool is_of_argp(int key) {
    return key == ARGP_KEY_ARG || key >= ARGP_KEY_END;
}

static error_t take(int key, char *value, struct argp_state *state) {
    struct parsing *parsing = state->input;
    if (key == ARGP_KEY_INIT) {
        state->child_inputs[0] = parsing;
        return 0;
    }
    if (key == ARGP_KEY_ARGS) {
        parsing->first = state->next;
        state->next = state->argc;
        return 0;
    }
    if (is_of_argp(key)) {
        return ARGP_ERR_UNKNOWN;
    }
    parsing->refused = !parsing->command->take(parsing->request, key, value);
    return parsing->refused ? ECANCELED : 0;
}

/* argp's own would end the process, whether its text could be written or not. */
/* NOLINTNEXTLINE(readability-non-const-parameter): a type of argp's */
static error_t take_help(int key, char *value, struct argp_state *state) {
    (void)value;
    if (key != 'h' && key != KEY_USAGE) {
        return ARGP_ERR_UNKNOWN;
    }
    argp_help(state->root_argp, stdout, key == 'h' ? ARGP_HELP_STD_HELP : ARGP_HELP_USAGE,
              state->name);
    return ECANCELED;
}

static const struct argp_option help_options[] = {
    {"help", 'h', NULL, 0, "this text", -1},
    {"usage", KEY_USAGE, NULL, 0, "the options in short", -1},
    {NULL, 0, NULL, 0, NULL, 0}};
static const struct argp help_argp = {help_options, take_help, NULL, NULL, NULL, NULL, NULL};

/* Calls a function with the command's argp, and the name that stands in messages. */
static error_t with_argp(const struct berth__command *command,
                         error_t (*call)(const struct argp *argp, char *name, void *context),
                         void *context) {
    const struct argp_child children[] = {{&help_argp, 0, NULL, 0}, {NULL, 0, NULL, 0}};
    char name[32];
    char text[4096];
    snprintf(name, sizeof(name), "berth %s", command->name);
    snprintf(text, sizeof(text), "%s.\v%s", command->summary,
             command->details == NULL ? "" : command->details);
    struct argp argp = {command->options, take, command->arguments, text, children, NULL, NULL};
    return call(&argp, name, context);
}

struct line {
    int argc;
    char **argv;
    struct parsing *parsing;
};

static error_t parse(const struct argp *argp, char *name, void *context) {
    const struct line *line = context;
    unsigned order = line->parsing->command->in_order ? ARGP_IN_ORDER : 0;
    line->argv[0] = name; /* before messages */
    return argp_parse(argp, line->argc, line->argv, ARGP_NO_HELP | ARGP_NO_EXIT | order, NULL,
                      line->parsing);
}

static error_t print_help(const struct argp *argp, char *name, void *context) {
    const unsigned *flags = context;
    argp_help(argp, *flags == ARGP_HELP_SEE ? stderr : stdout, *flags, name);
    return 0;
}

int berth__cli_parse(const struct berth__command *command, int argc, char **argv, void *request,
                     int *status) {
    struct parsing parsing = {.command = command, .request = request, .first = argc};
    struct line line = {argc, argv, &parsing};
    error_t error = with_argp(command, parse, &line);
    if (error == 0) {
        return parsing.first;
    }
    *status = error == ECANCELED ? BERTH_EXIT_DONE : BERTH_EXIT_USAGE; /* argp has said why */
    if (parsing.refused) {
        *status = berth__cli_usage_error(command);
    }
    return -1;
}

int berth__cli_usage_error(const struct berth__command *command) {
    unsigned flags = ARGP_HELP_SEE;
    with_argp(command, print_help, &flags);
    return BERTH_EXIT_USAGE;
}

int berth__cli_help(const struct berth__command *command) {
    unsigned flags = ARGP_HELP_STD_HELP;
    with_argp(command, print_help, &flags);
    return BERTH_EXIT_DONE;
}

int berth__cli_only_pid(const struct berth__command *command, int count, char **operands) {
    int pid = -1;
    if (count == 1) {
        pid = berth__cli_pid(command, operands[0]);
    } else {
        berth__cli_error(command, "one process is needed");
    }
    if (pid < 0) {
        berth__cli_usage_error(command);
    }
    return pid;
}
