/*
 * `berth trace`: who takes memory from the kernel, as it happens.
 */
#include "base/bits.h"
#include "cli/command.h"
#include "cli/figures.h"
#include "cli/trace_read.h"
#include "cli/trace_write.h"
#include "os/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <time.h>

struct request {
    const struct berth__command *command;
    pid_t pid;
    double seconds; /* 0: until it is interrupted */
    bool json;
    int write_error;          /* errno */
    void (*pipe_action)(int); /* of SIGPIPE, when the tool was started */
};

static volatile sig_atomic_t stopped;

static void stop(int signal) {
    (void)signal;
    stopped = 1;
}

static void stop_by_signals(struct request *request) {
    struct sigaction action = {.sa_handler = stop};
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(signals); i++) {
        sigaction(signals[i], &action, NULL);
    }
    request->pipe_action = signal(SIGPIPE, SIG_IGN); /* a write fails: the trace is switched off */
}

/* Now that the trace is off, the tool ends as its other commands do when nobody reads on: by the
 * signal, without a word. */
static void end_by_pipe(const struct request *request) {
    signal(SIGPIPE, request->pipe_action);
    if (request->write_error == EPIPE) {
        raise(SIGPIPE);
    }
    errno = request->write_error;
}

/* What there is, 10 times a second. False: the process has ended. */
static bool follow(struct request *request, struct berth__trace_reader *reader,
                   struct berth__trace_writer *writer) {
    enum { PAUSE_NS = 100000000, RENEW_MS = 1000 };
    uint64_t begun_ms = berth__clock_coarse_ms();
    uint64_t renewed_ms = begun_ms;
    bool alive = true;
    bool over = false;
    while (alive && !over && request->write_error == 0) {
        struct timespec pause = {.tv_nsec = PAUSE_NS};
        nanosleep(&pause, NULL);
        uint64_t now_ms = berth__clock_coarse_ms();
        over = stopped ||
               (request->seconds > 0 && (double)(now_ms - begun_ms) >= request->seconds * 1000);
        berth__trace_writer_begin(writer);
        errno = 0;
        alive = berth__trace_read(reader, berth__trace_write, writer);
        if (fflush(writer->to) != 0 || ferror(writer->to)) {
            request->write_error = errno != 0 ? errno : EIO;
        }
        if (alive && now_ms - renewed_ms >= RENEW_MS) {
            alive = berth__trace_renew(reader);
            renewed_ms = now_ms;
        }
    }
    return alive;
}

static void tell_sums(const struct request *request, const struct berth__trace_reader *reader,
                      const struct berth__trace_writer *writer) {
    char size[BERTH_SIZE_TEXT];
    berth__cli_error(request->command, "%" PRIu64 " record%s, %s taken", writer->records,
                     writer->records == 1 ? "" : "s", berth__short_size(size, writer->bytes));
    if (reader->lost > 0) {
        berth__cli_error(request->command,
                         "%" PRIu64 " more came faster than they could be read, and are lost",
                         reader->lost);
    }
}

static void tell_ended(const struct request *request) {
    berth__cli_error(request->command, "process %d has ended", (int)request->pid);
}

static int trace_written(struct request *request, struct berth__trace_reader *reader,
                         struct berth__trace_writer *writer) {
    berth__cli_error(request->command, "process %d, %s: who takes chunks from now on%s",
                     (int)request->pid, writer->process->command,
                     request->seconds > 0 ? "" : "; Ctrl-C ends it");
    bool alive = follow(request, reader, writer);
    if (request->write_error != 0) {
        return BERTH_EXIT_FAILED; /* main says why, or the signal does that was held back */
    }
    tell_sums(request, reader, writer);
    if (!alive) {
        tell_ended(request);
    }
    return BERTH_EXIT_DONE;
}

static int trace_opened(struct request *request, const struct berth__process *process,
                        struct berth__trace_reader *reader) {
    struct berth__trace_writer writer;
    int status = BERTH_EXIT_FAILED;
    int error = berth__trace_writer_open(&writer, process, stdout, request->json);
    if (error == 0) {
        status = trace_written(request, reader, &writer);
    } else if (error == -ENOENT || error == -ESRCH) {
        tell_ended(request);
    } else {
        berth__cli_error(request->command, "the mappings of process %d cannot be read: %s",
                         (int)request->pid, strerror(-error));
    }
    berth__trace_writer_close(&writer);
    return status;
}

static int trace_process(struct request *request, const struct berth__process *process) {
    struct berth__trace_reader reader;
    int status = BERTH_EXIT_FAILED;
    int error = berth__trace_open(&reader, process);
    if (error == 0) {
        status = trace_opened(request, process, &reader);
    } else if (error == -ENOTSUP) {
        berth__cli_error(request->command,
                         "process %d runs on another version of berth (%s), whose trace this tool "
                         "cannot read",
                         (int)process->pid, process->stats.berth_version);
    } else {
        berth__cli_error(request->command, "the trace of process %d cannot be switched on: %s",
                         (int)process->pid, strerror(-error));
    }
    berth__trace_close(&reader);
    return status;
}

static const struct argp_option options[] = {
    {"seconds", 's', "N", 0, "ends after that; else Ctrl-C does", 0},
    {"json", 'j', NULL, 0, "an object a line", 0},
    {NULL, 0, NULL, 0, NULL, 0}};

static bool take(void *context, int key, const char *value) {
    struct request *request = context;
    request->json = request->json || key == 'j';
    return key == 'j' || berth__cli_seconds(request->command, value, &request->seconds);
}

static int trace(const struct berth__command *command, int argc, char **argv) {
    struct request request = {.command = command};
    struct berth__process process;
    int status = BERTH_EXIT_DONE;
    int first = berth__cli_parse(command, argc, argv, &request, &status);
    if (first < 0) {
        return status;
    }
    request.pid = berth__cli_only_pid(command, argc - first, argv + first);
    if (request.pid < 0) {
        return BERTH_EXIT_USAGE;
    }
    stop_by_signals(&request);
    status = BERTH_EXIT_FAILED;
    if (berth__process_read(&process, request.pid) == BERTH_PROCESS_READ) {
        status = trace_process(&request, &process);
    } else {
        berth__cli_error(command, "%s", process.why);
    }
    berth__process_close(&process);
    end_by_pipe(&request);
    return status;
}

const struct berth__command berth__command_trace = {
    .name = "trace",
    .arguments = "PID",
    .summary = "Print who takes chunks, and what happens at the limit, with stacks",
    .details =
        "Each chunk that the process takes, or that becomes longer; each huge block; each step "
        "that "
        "is tried when the limit refuses; and each failure: when, the thread, the pool, and the "
        "program's calls. Nothing is recorded unless somebody looks: it is off again when the tool "
        "ends, and 10 seconds later if that was killed.\n\n"
        "Without frame pointers in the program, a stack is its innermost call alone; "
        "BERTH_CONF=sample_stack:unwind has whole ones of any program.",
    .options = options,
    .take = take,
    .run = trace,
};
