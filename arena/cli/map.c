/*
 * `berth map`: what lies where in a running process's memory, page by page.
 */
#include "cli/command.h"
#include "cli/map_process.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

typedef void writer(const struct berth__map *map, const struct berth__map_title *title, FILE *to);

struct request {
    const struct berth__command *command;
    writer *write;
    const char *file; /* NULL: standard output */
    pid_t pid;
};

static bool deliver(const struct request *request, const struct berth__map *map,
                    const struct berth__map_title *title) {
    FILE *to = request->file == NULL ? stdout : fopen(request->file, "we");
    bool written = to != NULL;
    if (written) {
        request->write(map, title, to);
        written = ferror(to) == 0;
    }
    if (to != NULL && to != stdout) {
        written = fclose(to) == 0 && written;
    }
    if (!written && request->file != NULL) { /* of the standard output, main tells */
        berth__cli_error(request->command, "cannot write %s: %s", request->file, strerror(errno));
    }
    return written;
}

static bool draw(const struct request *request, const struct berth__process *process) {
    struct berth__process_map map;
    bool done = berth__process_map_read(&map, process);
    if (done) {
        done = deliver(request, &map.map, &map.title);
    } else {
        berth__cli_error(request->command, "process %d: %s", (int)process->pid, map.why);
    }
    berth__process_map_free(&map);
    return done;
}

static int run(const struct request *request) {
    struct berth__process process;
    bool done = false;
    if (berth__process_read(&process, request->pid) == BERTH_PROCESS_READ) {
        done = draw(request, &process);
    } else {
        berth__cli_error(request->command, "%s", process.why);
    }
    berth__process_close(&process);
    return done ? BERTH_EXIT_DONE : BERTH_EXIT_FAILED;
}

/* By the name of the file, unless it was said. */
static writer *writer_for(const char *file) {
    const char *end = file == NULL ? NULL : strrchr(file, '.');
    end = end == NULL ? "" : end;
    return strcmp(end, ".svg") == 0    ? berth__map_write_svg
           : strcmp(end, ".html") == 0 ? berth__map_write_html
           : strcmp(end, ".json") == 0 ? berth__map_write_json
                                       : berth__map_write_text;
}

static const struct argp_option options[] = {
    {"text", BERTH_LONG_ONLY('t'), NULL, 0,
     "a letter per page of 4 KiB; unless the name of the file ends in .svg, .html or .json", 0},
    {"svg", BERTH_LONG_ONLY('s'), NULL, 0,
     "a picture; what lies where is told under the pointer, and who allocated it while samples are "
     "taken",
     0},
    {"html", BERTH_LONG_ONLY('w'), NULL, 0, "the same in a page", 0},
    {"json", BERTH_LONG_ONLY('j'), NULL, 0, "all of it, for programs", 0},
    {"output", 'o', "FILE", 0, "instead of the standard output", 0},
    {NULL, 0, NULL, 0, NULL, 0}};

static bool take(void *context, int key, const char *value) {
    struct request *request = context;
    switch (key) {
    case BERTH_LONG_ONLY('s'): request->write = berth__map_write_svg; break;
    case BERTH_LONG_ONLY('w'): request->write = berth__map_write_html; break;
    case BERTH_LONG_ONLY('t'): request->write = berth__map_write_text; break;
    case BERTH_LONG_ONLY('j'): request->write = berth__map_write_json; break;
    default: request->file = value; break;
    }
    return true;
}

static int map_command(const struct berth__command *command, int argc, char **argv) {
    struct request request = {.command = command};
    int status = BERTH_EXIT_DONE;
    int first = berth__cli_parse(command, argc, argv, &request, &status);
    if (first < 0) {
        return status;
    }
    request.pid = berth__cli_only_pid(command, argc - first, argv + first);
    if (request.write == NULL) {
        request.write = writer_for(request.file);
    }
    return request.pid < 0 ? BERTH_EXIT_USAGE : run(&request);
}

const struct berth__command berth__command_map = {
    .name = "map",
    .arguments = "PID",
    .summary = "Draw the memory of a process, page by page",
    .details =
        "The process is not stopped, and may be: one that goes on changes while it is drawn, "
        "and what made no sense is shown as changing hands. Sums are those of its metrics.",
    .options = options,
    .take = take,
    .run = map_command,
};
