/*
 * `berth run`: replaces itself by a command that has the malloc door preloaded.
 *
 * Everything the command gets comes through its environment: LD_PRELOAD, BERTH_CONF, and
 * BERTH_TOPOLOGY_FD, an open descriptor with what hwloc says of the machine (the door itself
 * depends on libc alone; os/topology.h has the format).
 */
#include "cli/command.h"
#include "cli/door.h"
#include "cli/program.h"
#include "os/topology.h"
#include "pool/options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* As shells have it. */
enum { EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 };

/* Sets a variable to the joined text; an empty side leaves the separator out. */
static bool set_joined(const char *name, const char *first, char separator, const char *second) {
    first = first == NULL ? "" : first;
    second = second == NULL ? "" : second;
    bool both = *first != '\0' && *second != '\0';
    char *joined = NULL;
    int length = asprintf(&joined, "%s%.*s%s", first, both, &separator, second);
    bool set = length >= 0 && setenv(name, joined, 1) == 0;
    if (length >= 0) {
        free(joined);
    }
    return set;
}

static int out_of_memory(const struct berth__command *command) {
    berth__cli_error(command, "no memory for the environment");
    return BERTH_EXIT_FAILED;
}

/* ---- options ---- */

static void report(void *context, const char *message) {
    berth__cli_error(context, "%s", message);
}

static bool conf_is_valid(const struct berth__command *command, const char *conf) {
    struct berth__options options;
    berth__options_init(&options);
    return berth__options_parse(&options, conf, report, (void *)(uintptr_t)command) == 0;
}

/* What -c adds comes last in BERTH_CONF, where it wins. */
static int take_conf(const struct berth__command *command, const char *conf) {
    if (!conf_is_valid(command, conf)) {
        return BERTH_EXIT_USAGE;
    }
    bool set = set_joined("BERTH_CONF", getenv("BERTH_CONF"), ',', conf);
    return set ? BERTH_EXIT_DONE : out_of_memory(command);
}

static const struct argp_option options[] = {
    {"conf", 'c', "CONF", 0,
     "options, as NAME:VALUE,NAME:VALUE; they win over those in BERTH_CONF (`berth options` lists "
     "them)",
     0},
    {NULL, 0, NULL, 0, NULL, 0}};

struct request {
    const struct berth__command *command;
    int status; /* of what was taken */
};

static bool take(void *context, int key, const char *value) {
    struct request *request = context;
    (void)key;
    request->status = take_conf(request->command, value);
    return request->status == BERTH_EXIT_DONE;
}

/* Returns the number of the command's first word, or -1 with *status. */
static int take_arguments(const struct berth__command *command, int argc, char **argv,
                          int *status) {
    struct request request = {command, BERTH_EXIT_DONE};
    int first = berth__cli_parse(command, argc, argv, &request, status);
    if (first < 0) {
        *status = request.status != BERTH_EXIT_DONE ? request.status : *status;
        return -1;
    }
    if (first == argc) {
        berth__cli_error(command, "no command is given");
        *status = berth__cli_usage_error(command);
        return -1;
    }
    return first;
}

/* ---- the door ---- */

static int preload_door(const struct berth__command *command) {
    static struct berth__door door;
    int error = berth__door_find(&door);
    if (error == -ENOENT) {
        berth__cli_error(command, "the allocator was not found; tried %s and %s", door.tried[0],
                         door.tried[1]);
    } else if (error != 0) {
        berth__cli_error(command, "cannot find out where this program lies: %s", strerror(-error));
    } else if (strpbrk(door.found, " :") != NULL) {
        berth__cli_error(command,
                         "%s has a blank or a colon in its path, which LD_PRELOAD cannot "
                         "carry",
                         door.found);
        error = -EINVAL;
    }
    if (error != 0) {
        return BERTH_EXIT_FAILED;
    }
    bool set = set_joined("LD_PRELOAD", door.found, ':', getenv("LD_PRELOAD"));
    return set ? BERTH_EXIT_DONE : out_of_memory(command);
}

/* ---- the topology ---- */

/* Out of the way of scripts, which use the lowest numbers, and still in the 64 descriptors that a
 * process has without a larger table. */
enum { TOPOLOGY_FD_WISH = 60 };

static int moved_up(int fd) {
    int moved = fcntl(fd, F_DUPFD, TOPOLOGY_FD_WISH);
    if (moved < 0) {
        return fd;
    }
    close(fd);
    return moved;
}

/* A descriptor that outlives exec and whose content nobody can change, or -1. */
static int sealed_copy(const struct berth__topology *topology) {
    int fd = memfd_create("berth-topology", MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -1;
    }
    int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    if (write(fd, topology, sizeof(*topology)) != (ssize_t)sizeof(*topology) ||
        fcntl(fd, F_ADD_SEALS, seals) != 0) {
        close(fd);
        return -1;
    }
    return moved_up(fd);
}

/* The door does without, by the affinity mask, so nothing here is an error. */
static void hand_on_topology(void) {
    static struct berth__topology topology;
    int fd = berth__topology_from_hwloc(&topology, NULL) ? sealed_copy(&topology) : -1;
    if (fd < 0) {
        return;
    }
    char number[16];
    snprintf(number, sizeof(number), "%d", fd);
    if (setenv("BERTH_TOPOLOGY_FD", number, 1) != 0) {
        close(fd);
    }
}

/* ---- the start ---- */

/* Returns only if it fails. */
static int start(const struct berth__command *command, char **words) {
    const char *obstacle = berth__program_obstacle(words[0]);
    if (obstacle != NULL) {
        berth__cli_error(command, "note: %s %s", words[0], obstacle);
    }
    execvp(words[0], words);
    int error = errno;
    berth__cli_error(command, "%s: %s", words[0], strerror(error));
    return error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

static int run(const struct berth__command *command, int argc, char **argv) {
    int status;
    int first = take_arguments(command, argc, argv, &status);
    if (first < 0) {
        return status;
    }
    status = preload_door(command);
    if (status != BERTH_EXIT_DONE) {
        return status;
    }
    hand_on_topology();
    return start(command, argv + first);
}

const struct berth__command berth__command_run = {
    .name = "run",
    .arguments = "[--] COMMAND [ARGUMENT...]",
    .summary = "Start a command with malloc replaced by berth",
    .details = "The exit status is the command's: 127 if it is not found, 126 if it cannot be "
               "started.",
    .options = options,
    .in_order = true,
    .take = take,
    .run = run,
};
