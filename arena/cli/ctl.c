/*
 * `berth ctl`: changes a running process, through the mailbox on its stats page.
 */
#include "base/text.h"
#include "cli/command.h"
#include "cli/figures.h"
#include "cli/mailbox.h"
#include "pool/options.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_PENDING = 3, WAIT_MS = 1000 };

struct order {
    uint32_t command;
    uint64_t argument;
};

static bool parse_limit(const char *text, uint64_t *bytes) {
    if (strcmp(text, "none") == 0) {
        *bytes = UINT64_MAX;
        return true;
    }
    return berth__parse_size(text, strlen(text), bytes) && *bytes > 0 && *bytes <= INT64_MAX;
}

static bool parse_ms(const char *text, uint64_t *ms) {
    char *end = NULL;
    *ms = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && *ms <= 3600000;
}

static bool parse_order(const char *text, struct order *order) {
    if (strcmp(text, "trim") == 0) {
        order->command = BERTH_MAIL_TRIM;
        return true;
    }
    if (strncmp(text, "limit=", 6) == 0) {
        order->command = BERTH_MAIL_LIMIT;
        return parse_limit(text + 6, &order->argument);
    }
    if (strncmp(text, "sample=", 7) == 0) {
        order->command = BERTH_MAIL_SAMPLE;
        return berth__parse_size(text + 7, strlen(text + 7), &order->argument);
    }
    order->command = BERTH_MAIL_DECAY_MS;
    return strncmp(text, "decay_ms=", 9) == 0 && parse_ms(text + 9, &order->argument);
}

/* As where a process begins: with less, it could not map a chunk. */
static bool is_too_low(const struct berth__command *command, const struct order *order,
                       const char *text) {
    char least[BERTH_SIZE_TEXT];
    uint64_t bytes = berth__option_infos[BERTH_OPTION_limit].least;
    bool too_low = order->command == BERTH_MAIL_LIMIT && order->argument < bytes;
    if (too_low) {
        berth__cli_error(command, "\"%s\" is less than a limit can be: %s", text,
                         berth__long_size(least, (double)bytes));
    }
    return too_low;
}

static int tell(const struct berth__command *command, pid_t pid, const struct order *order,
                int outcome, int64_t result) {
    if (outcome == 1) {
        puts("pending: carried out when the process next allocates");
        return EXIT_PENDING;
    }
    if (outcome < 0) {
        berth__cli_error(command, "process %d was not asked: %s", (int)pid,
                         berth__mailbox_error(outcome));
        return BERTH_EXIT_FAILED;
    }
    if (result < 0) {
        berth__cli_error(command, "process %d refused: %s", (int)pid, strerror((int)-result));
        return BERTH_EXIT_FAILED;
    }
    if (order->command == BERTH_MAIL_TRIM) {
        printf("applied: %" PRId64 " bytes went back\n", result);
    } else {
        puts("applied");
    }
    return BERTH_EXIT_DONE;
}

static int carry(const struct berth__command *command, pid_t pid, const struct order *order) {
    struct berth__process process;
    int status = BERTH_EXIT_FAILED;
    if (berth__process_read(&process, pid) == BERTH_PROCESS_READ) {
        int64_t result = 0;
        int outcome =
            berth__mailbox_ask(&process, order->command, order->argument, WAIT_MS, &result);
        status = tell(command, pid, order, outcome, result);
    } else {
        berth__cli_error(command, "%s", process.why);
    }
    berth__process_close(&process);
    return status;
}

static int ctl(const struct berth__command *command, int argc, char **argv) {
    int status = BERTH_EXIT_DONE;
    int first = berth__cli_parse(command, argc, argv, NULL, &status);
    if (first < 0) {
        return status;
    }
    struct order order = {0, 0};
    pid_t pid = first < argc ? berth__cli_pid(command, argv[first]) : 0;
    if (pid < 0) {
        return berth__cli_usage_error(command);
    }
    if (argc - first != 2) {
        berth__cli_error(command, "a process and what to do are needed");
        return berth__cli_usage_error(command);
    }
    if (!parse_order(argv[first + 1], &order)) {
        berth__cli_error(command, "\"%s\" is not trim, limit=SIZE, decay_ms=N or sample=SIZE",
                         argv[first + 1]);
        return berth__cli_usage_error(command);
    }
    if (is_too_low(command, &order, argv[first + 1])) {
        return berth__cli_usage_error(command);
    }
    return carry(command, pid, &order);
}

const struct berth__command berth__command_ctl = {
    .name = "ctl",
    .arguments = "PID trim | limit=SIZE | decay_ms=N | sample=SIZE",
    .summary = "Change a running process",
    .details =
        "  trim          returns what is unused to the kernel\n"
        "  limit=SIZE    sets the limit of the process, as berth_limit_set does;\n"
        "                or limit=none\n"
        "  decay_ms=N    sets the time over which unused memory goes back, for all\n"
        "                pools\n"
        "  sample=SIZE   takes samples for heap profiles (`berth prof`), SIZE bytes\n"
        "                apart on average; 0 ends it. 512K costs next to nothing\n\n"
        "The process does it the next time that it takes a slow path, or its maintenance thread. "
        "The exit status is 3 if that was not so within a second; it is done then when it is, and "
        "until then nothing else can be asked of it.",
    .run = ctl,
};
