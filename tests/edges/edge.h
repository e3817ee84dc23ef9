/*
 * What the programs in this folder share: checks, the door that serves them, and children that may
 * die.
 *
 * Not a test framework. Each program has a main of its own and exits with 0 (pass), 1 (fail) or 77
 * (skip, with the reason on stdout), so that it can be linked and started in every way that the
 * door supports. A failed check ends the process at once, without exit handlers.
 */
#ifndef EDGE_H
#define EDGE_H

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __cplusplus
#define EDGE_NORETURN [[noreturn]]
#else
#define EDGE_NORETURN _Noreturn
#endif

enum { EDGE_PASS = 0, EDGE_FAIL = 1, EDGE_SKIP = 77 };

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* ---- checks ---- */

EDGE_NORETURN static inline void edge_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The text is made on the stack and written by one call: the door may be what is broken. */
EDGE_NORETURN static inline void edge_fail(const char *file, int line, const char *format, ...) {
    char text[1024];
    int length = snprintf(text, sizeof(text), "%s:%d: ", file, line);
    va_list args;
    va_start(args, format);
    vsnprintf(text + length, sizeof(text) - (size_t)length - 1, format, args);
    va_end(args);
    strcat(text, "\n");
    ssize_t done = write(STDERR_FILENO, text, strlen(text));
    (void)done;
    _exit(EDGE_FAIL);
}

#define FAIL(...) edge_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            FAIL("failed: %s", #condition);                                                        \
        }                                                                                          \
    } while (0)
/* With the two values: for sizes and counts. */
#define CHECK_EQUAL(left, right)                                                                   \
    do {                                                                                           \
        unsigned long long left_ = (unsigned long long)(left);                                     \
        unsigned long long right_ = (unsigned long long)(right);                                   \
        if (left_ != right_) {                                                                     \
            FAIL("failed: %s == %s: %llu, %llu", #left, #right, left_, right_);                    \
        }                                                                                          \
    } while (0)

EDGE_NORETURN static inline void edge_skip(const char *reason) {
    printf("skipped: %s\n", reason);
    fflush(stdout);
    _exit(EDGE_SKIP);
}

/* ---- the door ---- */

/* EDGE_DOOR=other says that another malloc than berth's is expected: the programs that only ask for
 * what glibc promises are run over glibc too, so that a wrong expectation shows. */
static inline bool edge_wants_berth(void) {
    const char *door = getenv("EDGE_DOOR");
    return door == NULL || strcmp(door, "other") != 0;
}

/* malloc_info can be called however the program is linked, and names its allocator. */
static inline bool edge_is_berth(void) {
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    CHECK(stream != NULL);
    CHECK(malloc_info(0, stream) == 0);
    CHECK(fclose(stream) == 0);
    bool is_berth = strstr(text, "version=\"berth") != NULL;
    free(text);
    return is_berth;
}

/* For the first line of a main: a test of berth that does not run on berth proves nothing. */
static inline void edge_check_door(void) {
    if (edge_is_berth() != edge_wants_berth()) {
        FAIL("malloc is not the expected one");
    }
}

/* Times that something is done: a few in the short tests, all of them where EDGE_LONG is set. */
static inline unsigned edge_times(unsigned few, unsigned all) {
    return getenv("EDGE_LONG") != NULL ? all : few;
}

/* ---- children ---- */

struct edge_outcome {
    int status;      /* as of waitpid */
    char text[8192]; /* what the child wrote to stderr, ended with a NUL */
    size_t length;
    char out[512]; /* and to stdout */
};

static inline bool edge_died_of(const struct edge_outcome *outcome, int signal_number) {
    return WIFSIGNALED(outcome->status) && WTERMSIG(outcome->status) == signal_number;
}

static inline bool edge_passed(const struct edge_outcome *outcome) {
    return WIFEXITED(outcome->status) && WEXITSTATUS(outcome->status) == 0;
}

static inline unsigned edge_lines(const char *text) {
    unsigned lines = 0;
    for (; *text != '\0'; text++) {
        lines += *text == '\n';
    }
    return lines;
}

static inline void edge_read_all(int fd, char *text, size_t capacity, size_t *length) {
    *length = 0;
    for (;;) {
        char spill[256];
        bool full = *length == capacity - 1;
        ssize_t done = full ? read(fd, spill, sizeof(spill))
                            : read(fd, text + *length, capacity - 1 - *length);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            break;
        }
        *length += full ? 0 : (size_t)done;
    }
    text[*length] = '\0';
    close(fd);
}

static inline int edge_wait(pid_t child) {
    int status = 0;
    while (waitpid(child, &status, 0) != child) {
        CHECK(errno == EINTR);
    }
    return status;
}

/* Cores of children that are meant to die help nobody. */
static inline void edge_no_core(void) {
    struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
}

/* Starts a program, with what it writes in two pipes, and waits for its end. */
static inline void edge_run(const char *path, char *const arguments[], char *const environment[],
                            struct edge_outcome *outcome) {
    int err[2];
    int out[2];
    CHECK(pipe2(err, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, err[1], STDERR_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    pid_t child = -1;
    edge_no_core();
    CHECK(posix_spawn(&child, path, &actions, NULL, arguments, environment) == 0);
    posix_spawn_file_actions_destroy(&actions);
    close(err[1]);
    close(out[1]);
    size_t out_length = 0;
    edge_read_all(err[0], outcome->text, sizeof(outcome->text), &outcome->length);
    edge_read_all(out[0], outcome->out, sizeof(outcome->out), &out_length);
    outcome->status = edge_wait(child);
}

/* Starts this program again with one argument: a fresh process, whatever happened in this one. */
static inline void edge_run_self(const char *argument, struct edge_outcome *outcome) {
    char name[] = "edge";
    char copy[96];
    CHECK(strlen(argument) < sizeof(copy));
    strcpy(copy, argument);
    char *const arguments[] = {name, copy, NULL};
    edge_run("/proc/self/exe", arguments, environ, outcome);
}

/* Returns in a process that was started under a resource limit. Elsewhere, starts one for this
 * case, and ends this process as it ended. */
static inline void edge_rerun_limited(const char *case_name, __rlimit_resource_t resource,
                                      size_t bytes) {
    struct rlimit limit;
    CHECK(getrlimit(resource, &limit) == 0);
    if (limit.rlim_cur == bytes) {
        return;
    }
    char program[512] = "";
    char name[96];
    char script[64];
    char shell[] = "sh";
    char option[] = "-c";
    CHECK(readlink("/proc/self/exe", program, sizeof(program) - 1) > 0);
    snprintf(name, sizeof(name), "%s", case_name);
    snprintf(script, sizeof(script), "ulimit -%c %zu && exec \"$0\" \"$1\"",
             resource == RLIMIT_AS ? 'v' : 'd', bytes >> 10);
    char *const arguments[] = {shell, option, script, program, name, NULL};
    struct edge_outcome outcome;
    edge_run("/bin/sh", arguments, environ, &outcome);
    if (!edge_passed(&outcome)) {
        FAIL("under the limit: status %#x: %s%s", (unsigned)outcome.status, outcome.out,
             outcome.text);
    }
    exit(EDGE_PASS);
}

/* ---- cases ---- */

/* What a program checks; the name is a sentence. */
struct edge_case {
    const char *name;
    void (*check)(void);
};

/* What a child that was started for one case does. */
static inline int edge_run_case(const char *name, const struct edge_case *cases, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(cases[i].name, name) == 0) {
            edge_check_door();
            cases[i].check();
            return EDGE_PASS;
        }
    }
    FAIL("there is no case %s", name);
}

/* The main of a program: every case in a process of its own, so that one that ends in an abort does
 * not hide the others; or the one case that is named. */
static inline int edge_main(int argc, char **argv, const struct edge_case *cases, size_t count) {
    if (argc > 1) {
        return edge_run_case(argv[1], cases, count);
    }
    unsigned passed = 0;
    unsigned failed = 0;
    for (size_t i = 0; i < count; i++) {
        struct edge_outcome outcome;
        edge_run_self(cases[i].name, &outcome);
        bool skipped = WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == EDGE_SKIP;
        passed += edge_passed(&outcome);
        failed += !edge_passed(&outcome) && !skipped;
        printf("%s %s\n",
               edge_passed(&outcome) ? "ok    "
               : skipped             ? "skip  "
                                     : "FAILED",
               cases[i].name);
        fflush(stdout); /* one that is stopped says how far it came */
        if (!edge_passed(&outcome)) {
            printf("       status %#x\n%s%s", (unsigned)outcome.status, outcome.out, outcome.text);
        }
    }
    return failed > 0 ? EDGE_FAIL : passed > 0 ? EDGE_PASS : EDGE_SKIP;
}

/* The same, with cases that are only run when another one starts them. */
static inline int edge_main_hiding(int argc, char **argv, const struct edge_case *cases,
                                   size_t count, const struct edge_case *hidden,
                                   size_t hidden_count) {
    for (size_t i = 0; argc > 1 && i < hidden_count; i++) {
        if (strcmp(argv[1], hidden[i].name) == 0) {
            return edge_run_case(argv[1], hidden, hidden_count);
        }
    }
    return edge_main(argc, argv, cases, count);
}

#define EDGE_CASE(function)                                                                        \
    { #function, function }
#define EDGE_MAIN(cases)                                                                           \
    int main(int argc, char **argv) {                                                              \
        return edge_main(argc, argv, cases, COUNT_OF(cases));                                      \
    }

/* ---- content ---- */

/* A byte that is likely to differ for neighbouring blocks and positions. */
static inline unsigned char edge_byte(size_t seed, size_t at) {
    return (unsigned char)((seed * 31 + at * 7 + (at >> 8)) & 0xff);
}

static inline void edge_fill(void *block, size_t size, size_t seed) {
    unsigned char *bytes = (unsigned char *)block;
    for (size_t i = 0; i < size; i++) {
        bytes[i] = edge_byte(seed, i);
    }
}

static inline bool edge_holds(const void *block, size_t size, size_t seed) {
    const unsigned char *bytes = (const unsigned char *)block;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != edge_byte(seed, i)) {
            return false;
        }
    }
    return true;
}

static inline bool edge_is_zero(const void *block, size_t size) {
    const unsigned char *bytes = (const unsigned char *)block;
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* A small generator, so that a failure comes again. */
static inline uint64_t edge_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* A size of any kind: mostly tiny and small, now and then a run, rarely huge. */
static inline size_t edge_random_size(uint64_t *state) {
    uint64_t random = edge_random(state);
    size_t low = (size_t)(random >> 32);
    switch (random % 64) {
    case 0: return low % (6u << 20);
    case 1:
    case 2: return low % (256u << 10);
    case 3:
    case 4:
    case 5:
    case 6: return low % 16384;
    default: return low % 1024;
    }
}

/* Bytes of this process that are in memory now. */
static inline size_t edge_resident_bytes(void) {
    char text[128] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    ssize_t length = read(fd, text, sizeof(text) - 1);
    close(fd);
    CHECK(length > 0);
    unsigned long all = 0;
    unsigned long resident = 0;
    CHECK(sscanf(text, "%lu %lu", &all, &resident) == 2);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

#endif
