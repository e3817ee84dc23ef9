/*
 * `berth map`: what lies where in a running process's memory, page by page.
 */
#include "cli/command.h"
#include "cli/map_process.h"

#include <errno.h>
#include <getopt.h>
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

static int map_command(const struct berth__command *command, int argc, char **argv) {
    static const struct option options[] = {{"svg", no_argument, NULL, 's'},
                                            {"html", no_argument, NULL, 'w'},
                                            {"text", no_argument, NULL, 't'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"output", required_argument, NULL, 'o'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct request request = {.command = command};
    int option;
    while ((option = getopt_long(argc, argv, "o:h", options, NULL)) != -1) {
        switch (option) {
        case 's': request.write = berth__map_write_svg; break;
        case 'w': request.write = berth__map_write_html; break;
        case 't': request.write = berth__map_write_text; break;
        case 'j': request.write = berth__map_write_json; break;
        case 'o': request.file = optarg; break;
        case 'h': return berth__cli_help(command);
        default: return berth__cli_usage_error(command);
        }
    }
    request.pid = berth__cli_only_pid(command, argc, argv);
    if (request.write == NULL) {
        request.write = writer_for(request.file);
    }
    return request.pid < 0 ? BERTH_EXIT_USAGE : run(&request);
}

const struct berth__command berth__command_map = {
    .name = "map",
    .arguments = "[--text | --svg | --html | --json] [-o FILE] PID",
    .summary = "Draw the memory of a process, page by page",
    .details =
        "      --text            a letter per page of 4 KiB; unless the name of the file ends in\n"
        "                        .svg, .html or .json\n"
        "      --svg, --html     a picture; what lies where is told under the pointer, and\n"
        "                        who allocated it while samples are taken\n"
        "      --json            all of it, for programs\n"
        "  -o, --output FILE     instead of the standard output\n"
        "  -h, --help            this text\n\n"
        "The process is not stopped, and may be: one that goes on changes while it is drawn, and\n"
        "what made no sense is shown as changing hands. Sums are those of its metrics.\n",
    .run = map_command,
};
