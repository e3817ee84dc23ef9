/*
 * `berth export`: what `berth stat` shows of all processes, over HTTP: for Prometheus, as JSON, and
 * as a web page.
 *
 * One thread does everything: it answers, looks at the processes every two seconds for the page's
 * pictures, and ends by a signal. So nothing here is shared, and a request that comes while the
 * processes are looked at waits for some milliseconds.
 */
#include "cli/command.h"

#include <berth/metrics.h>

/* ---- arguments ---- */

struct request {
    const char *address;
    unsigned levels;
};

static const struct argp_option options[] = {
    {"listen", BERTH_LONG_ONLY('l'), "ADDRESS:PORT", 0,
     "127.0.0.1:9464, if not given; port 0 takes a free one", 0},
    {"arenas", BERTH_LONG_ONLY('a'), NULL, 0, "the arenas of each pool in /metrics, too", 0},
    {"classes", BERTH_LONG_ONLY('c'), NULL, 0, "the block sizes of each pool in /metrics, too", 0},
    {"slow", BERTH_LONG_ONLY('s'), NULL, 0, "how long slow paths took in /metrics, too", 0},
    {NULL, 0, NULL, 0, NULL, 0}};

static bool take(void *context, int key, const char *value) {
    struct request *request = context;
    switch (key) {
    case BERTH_LONG_ONLY('a'): request->levels |= BERTH_METRICS_ARENAS; break;
    case BERTH_LONG_ONLY('c'): request->levels |= BERTH_METRICS_CLASSES; break;
    case BERTH_LONG_ONLY('s'): request->levels |= BERTH_METRICS_SLOW; break;
    default: request->address = value; break;
    }
    return true;
}

#if BERTH_MICROHTTPD
#include "cli/accept.h"
#include "cli/answers.h"
#include "cli/answers_process.h"
#include "cli/http.h"
#include "cli/listen.h"
#include "os/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define DEFAULT_ADDRESS "127.0.0.1:9464"

struct exporter {
    const struct berth__command *command;
    unsigned levels; /* in the metrics */
    struct berth__listen listen;
    struct berth__survey survey;
};

/* ---- the answers, by path ---- */

enum {
    OK = 200,
    BAD_REQUEST = 400,
    FORBIDDEN = 403,
    NOT_FOUND = 404,
    CONFLICT = 409,
    UNAVAILABLE = 503,
};

/* Writes the body and sets the type; returns the status. An error's body is a text for people; if
 * it writes none, the server words the error. */
typedef unsigned answer_function(struct exporter *exporter,
                                 const struct berth__http_request *request,
                                 struct berth__http_answer *answer, FILE *to);

static const char json_type[] = "application/json; charset=utf-8";
static const char text_type[] = "text/plain; charset=utf-8";

/* A number in the query; `otherwise` if there is none, UINT64_MAX if it is no number. */
static uint64_t number(const struct berth__http_request *request, const char *name,
                       uint64_t otherwise) {
    const char *text = berth__http_argument(request, name);
    char *end = NULL;
    if (text == NULL) {
        return otherwise;
    }
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    bool understood = *text >= '0' && *text <= '9' && *end == '\0' && errno == 0;
    return understood ? value : UINT64_MAX;
}

static unsigned metrics(struct exporter *exporter, const struct berth__http_request *request,
                        struct berth__http_answer *answer, FILE *to) {
    enum berth__dialect dialect = berth__accept_dialect(request->accept);
    answer->type = dialect == BERTH_OPENMETRICS
                       ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                       : "text/plain; version=0.0.4; charset=utf-8";
    return berth__answer_metrics(to, &exporter->survey, dialect, exporter->levels) ? OK
                                                                                   : UNAVAILABLE;
}

static unsigned list(struct exporter *exporter, const struct berth__http_request *request,
                     struct berth__http_answer *answer, FILE *to) {
    (void)request;
    answer->type = json_type;
    berth__answer_list(to, &exporter->survey);
    return OK;
}

static unsigned json(struct exporter *exporter, const struct berth__http_request *request,
                     struct berth__http_answer *answer, FILE *to) {
    uint64_t pid = number(request, "pid", 0);
    if (pid > INT32_MAX) {
        return BAD_REQUEST;
    }
    if (pid != 0 && berth__survey_find(&exporter->survey, (pid_t)pid) == NULL) {
        return NOT_FOUND;
    }
    answer->type = json_type;
    berth__answer_json(to, &exporter->survey, (pid_t)pid);
    return OK;
}

static unsigned history(struct exporter *exporter, const struct berth__http_request *request,
                        struct berth__http_answer *answer, FILE *to) {
    uint64_t pid = number(request, "pid", 0);
    uint64_t after_ms = number(request, "after", 0);
    if (pid == 0 || pid > INT32_MAX || after_ms == UINT64_MAX) {
        return BAD_REQUEST;
    }
    const struct berth__surveyed *surveyed = berth__survey_find(&exporter->survey, (pid_t)pid);
    if (surveyed == NULL) {
        return NOT_FOUND;
    }
    answer->type = json_type;
    berth__answer_history(to, surveyed, after_ms);
    return OK;
}

static unsigned tables(struct exporter *exporter, const struct berth__http_request *request,
                       struct berth__http_answer *answer, FILE *to) {
    (void)exporter;
    (void)request;
    answer->type = json_type;
    berth__answer_tables(to);
    return OK;
}

/* ---- of one process, which is read anew ---- */

/* 0 if there is another number of processes that can be read than one. */
static pid_t only_one(const struct berth__survey *survey) {
    pid_t found = 0;
    for (size_t i = 0; i < survey->count; i++) {
        if (survey->all[i].outcome == BERTH_PROCESS_READ) {
            if (found != 0) {
                return 0;
            }
            found = survey->all[i].pid;
        }
    }
    return found;
}

static void say_which(const struct berth__survey *survey, const char *path, FILE *to) {
    fprintf(to,
            "Which process? Ask for %s?pid=PID, with one of these (if there is none, start one: "
            "berth run -- COMMAND):\n\n",
            path);
    for (size_t i = 0; i < survey->count; i++) {
        if (survey->all[i].outcome == BERTH_PROCESS_READ) {
            fprintf(to, "%10d  %s\n", (int)survey->all[i].pid, survey->all[i].process.command);
        }
    }
}

/* The process that is asked for: OK, with its number. */
static unsigned choose(struct exporter *exporter, const struct berth__http_request *request,
                       pid_t *pid, FILE *to) {
    uint64_t asked = number(request, "pid", 0);
    if (asked > INT32_MAX) {
        return BAD_REQUEST;
    }
    *pid = asked == 0 ? only_one(&exporter->survey) : (pid_t)asked;
    if (*pid == 0) {
        say_which(&exporter->survey, request->path, to);
        return BAD_REQUEST;
    }
    if (berth__survey_find(&exporter->survey, *pid) == NULL) {
        fprintf(to, "There is no process %d, or it does not run on berth.\n", (int)*pid);
        return NOT_FOUND;
    }
    return OK;
}

static unsigned status_of(enum berth__answered answered) {
    switch (answered) {
    case BERTH_ANSWERED: return OK;
    case BERTH_ANSWERED_WHY_NOT: return CONFLICT;
    case BERTH_ANSWERED_NOT: break;
    }
    return UNAVAILABLE;
}

static unsigned profile(struct exporter *exporter, const struct berth__http_request *request,
                        struct berth__http_answer *answer, FILE *to,
                        enum berth__profile_measure measure) {
    pid_t pid;
    answer->type = "application/octet-stream";
    if (berth__http_argument(request, "seconds") != NULL) {
        fputs("Profiles are since samples are taken. For a span of time: "
              "berth prof --seconds N PID\n",
              to);
        return BAD_REQUEST;
    }
    unsigned status = choose(exporter, request, &pid, to);
    if (status != OK) {
        return status;
    }
    snprintf(answer->file, sizeof(answer->file), "%s-%d.pprof",
             measure == BERTH_PROFILE_HELD ? "heap" : "allocs", (int)pid);
    return status_of(berth__answer_pprof(to, pid, measure));
}

static unsigned heap(struct exporter *exporter, const struct berth__http_request *request,
                     struct berth__http_answer *answer, FILE *to) {
    return profile(exporter, request, answer, to, BERTH_PROFILE_HELD);
}

static unsigned allocs(struct exporter *exporter, const struct berth__http_request *request,
                       struct berth__http_answer *answer, FILE *to) {
    return profile(exporter, request, answer, to, BERTH_PROFILE_ALLOCATED);
}

static unsigned sites(struct exporter *exporter, const struct berth__http_request *request,
                      struct berth__http_answer *answer, FILE *to) {
    pid_t pid;
    unsigned status = choose(exporter, request, &pid, to);
    answer->type = json_type;
    return status == OK ? status_of(berth__answer_sites(to, pid)) : status;
}

/* Its styles stand in the picture. It is one of its own: it may load nothing, and run nothing. */
static unsigned map(struct exporter *exporter, const struct berth__http_request *request,
                    struct berth__http_answer *answer, FILE *to) {
    pid_t pid;
    unsigned status = choose(exporter, request, &pid, to);
    answer->type = "image/svg+xml";
    snprintf(answer->policy, sizeof(answer->policy),
             "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'");
    return status == OK ? status_of(berth__answer_map(to, pid)) : status;
}

/* ---- the page ---- */

static unsigned page(struct exporter *exporter, const struct berth__http_request *request,
                     struct berth__http_answer *answer, FILE *to) {
    unsigned char random[16];
    char nonce[2 * sizeof(random) + 1];
    (void)exporter;
    (void)request;
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        return UNAVAILABLE;
    }
    for (size_t i = 0; i < sizeof(random); i++) {
        snprintf(nonce + 2 * i, 3, "%02x", random[i]);
    }
    answer->type = "text/html; charset=utf-8";
    snprintf(answer->policy, sizeof(answer->policy),
             "default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; "
             "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
             "frame-ancestors 'none'",
             nonce, nonce);
    berth__answer_page(to, nonce);
    return OK;
}

static const struct {
    const char *path;
    answer_function *answer;
} answers[] = {
    {"/", page},
    {"/metrics", metrics},
    {"/json", json},
    {"/json/list", list},
    {"/json/history", history},
    {"/json/sites", sites},
    {"/json/tables", tables},
    {"/map.svg", map},
    {"/debug/pprof/heap", heap},
    {"/debug/pprof/allocs", allocs},
};

/* Requests that come at once see the processes once. */
enum { FRESH_MS = 100 };

static void respond(struct exporter *exporter, const struct berth__http_request *request,
                    struct berth__http_answer *answer, answer_function *write) {
    FILE *to = open_memstream(&answer->body, &answer->length);
    answer->status = UNAVAILABLE;
    if (to == NULL) {
        return;
    }
    if (berth__survey_take(&exporter->survey, FRESH_MS) == 0) {
        answer->status = write(exporter, request, answer, to);
    }
    bool written = !ferror(to);
    if (fclose(to) != 0 || !written) {
        answer->status = UNAVAILABLE;
    }
    if (answer->status == OK) {
        return;
    }
    answer->type = text_type;
    *answer->file = '\0';
    if (answer->status == UNAVAILABLE || answer->length == 0) {
        free(answer->body);
        answer->body = NULL;
    }
}

static void handle(void *context, const struct berth__http_request *request,
                   struct berth__http_answer *answer) {
    struct exporter *exporter = context;
    if (!berth__listen_is_for(&exporter->listen, request->host)) {
        answer->status = FORBIDDEN;
        return;
    }
    answer->status = NOT_FOUND;
    for (size_t i = 0; i < BERTH_ARRAY_COUNT(answers); i++) {
        if (strcmp(request->path, answers[i].path) == 0) {
            respond(exporter, request, answer, answers[i].answer);
        }
    }
}

/* ---- the server ---- */

/* The signals that end it, as a descriptor; -1 with errno. */
static int await_signals(void) {
    sigset_t signals;
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    return sigprocmask(SIG_BLOCK, &signals, NULL) != 0
               ? -1
               : signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int least_wait(int a, int b) {
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

static bool serve(struct exporter *exporter, struct berth__http *http, int signals) {
    struct pollfd descriptors[] = {{.fd = berth__http_descriptor(http), .events = POLLIN},
                                   {.fd = signals, .events = POLLIN}};
    uint64_t due_ns = 0;
    for (;;) {
        uint64_t now_ns = berth__clock_ns();
        if (now_ns >= due_ns) {
            berth__survey_take(&exporter->survey, FRESH_MS); /* if it fails, the next may not */
            due_ns = now_ns + BERTH_HISTORY_PAUSE_MS * UINT64_C(1000000);
        }
        int wait_ms =
            least_wait(berth__http_wait_ms(http), (int)((due_ns - now_ns) / UINT64_C(1000000)) + 1);
        if (poll(descriptors, 2, wait_ms) < 0 && errno != EINTR) {
            berth__cli_error(exporter->command, "poll: %s", strerror(errno));
            return false;
        }
        if (descriptors[1].revents != 0) {
            return true;
        }
        if (!berth__http_run(http)) {
            berth__cli_error(exporter->command, "the server failed");
            return false;
        }
    }
}

static int run(struct exporter *exporter) {
    const char *why = NULL;
    int signals = await_signals();
    unsetenv("DEBUGINFOD_URLS"); /* libdw would wait for other machines, and all of us with it */
    if (signals < 0) {
        berth__cli_error(exporter->command, "signals: %s", strerror(errno));
        return BERTH_EXIT_FAILED;
    }
    if (!berth__listen_open(&exporter->listen)) {
        berth__cli_error(exporter->command, "%s", exporter->listen.why);
        close(signals);
        return BERTH_EXIT_FAILED;
    }
    struct berth__http *http = berth__http_start(exporter->listen.fd, handle, exporter, &why);
    if (http == NULL) {
        berth__cli_error(exporter->command, "%s", why);
        close(signals);
        return BERTH_EXIT_FAILED;
    }
    if (!exporter->listen.loopback) {
        berth__cli_error(exporter->command,
                         "warning: %s can be reached from other machines: whoever reaches it reads "
                         "names and figures of processes here, and nothing is encrypted",
                         exporter->listen.shown);
    }
    printf("http://%s/\n", exporter->listen.shown);
    fflush(stdout);
    bool served = serve(exporter, http, signals);
    berth__http_stop(http);
    berth__survey_end(&exporter->survey);
    close(signals);
    return served ? BERTH_EXIT_DONE : BERTH_EXIT_FAILED;
}

/* ---- arguments ---- */

static int export_command(const struct berth__command *command, int argc, char **argv) {
    struct request request = {DEFAULT_ADDRESS, BERTH_METRICS_POOLS | BERTH_METRICS_TAGS};
    int status = BERTH_EXIT_DONE;
    int first = berth__cli_parse(command, argc, argv, &request, &status);
    if (first < 0) {
        return status;
    }
    struct exporter exporter = {.command = command, .levels = request.levels};
    if (first < argc) {
        berth__cli_error(command, "all processes are exported: \"%s\" is too much", argv[first]);
        return berth__cli_usage_error(command);
    }
    if (!berth__listen_parse(&exporter.listen, request.address)) {
        berth__cli_error(command, "%s", exporter.listen.why);
        return berth__cli_usage_error(command);
    }
    return run(&exporter);
}

#else

static int export_command(const struct berth__command *command, int argc, char **argv) {
    struct request request;
    int status = BERTH_EXIT_DONE;
    if (berth__cli_parse(command, argc, argv, &request, &status) < 0) {
        return status;
    }
    berth__cli_error(command, "this tool was built without libmicrohttpd: install it (Debian: "
                              "libmicrohttpd-dev) and build berth again");
    return BERTH_EXIT_FAILED;
}

#endif

const struct berth__command berth__command_export = {
    .name = "export",
    .summary = "Serve the metrics of all processes over HTTP, and a page that shows them",
    .details =
        "Prints the address of the page and serves until SIGINT or SIGTERM:\n\n"
        "  /                     the page: limit, balance, tags, block sizes\n"
        "  /metrics              for Prometheus: OpenMetrics or the classic text format\n"
        "  /json                 all that is known; of one process: ?pid=PID\n"
        "  /json/list            a line for each process\n"
        "  /json/history?pid=PID what was, every 2 seconds, for 20 minutes at most\n"
        "  /json/sites?pid=PID   the calls that hold most, where samples are taken\n"
        "  /json/tables          what the metrics mean\n"
        "  /map.svg?pid=PID      the picture of berth map\n"
        "  /debug/pprof/heap?pid=PID, /debug/pprof/allocs?pid=PID\n"
        "                        for go tool pprof: what is held, and was allocated\n\n"
        "Whoever reaches the address reads the figures: all users of this machine, and if it is "
        "not a loopback address, others.",
    .options = options,
    .take = take,
    .run = export_command,
};
