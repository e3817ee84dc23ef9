/*
 * What a program that `berth run` starts finds: prints what it is asked for, a line each.
 *
 *   child limit      the limit in bytes, asked of the door that serves malloc; "none" without one
 *   child topology   domains, nodes and seals of the memfd in BERTH_TOPOLOGY_FD
 *   child door       the file that malloc comes from
 *   child own        its metrics, in the files own.json and own.openmetrics
 *   child tagged     nothing; some of its memory is accounted to "the parser"
 *   child undumpable nothing; nobody but root may look into it from then on
 *   child fork       nothing; what follows is done by a child, and waited for
 *   child page N     nothing; it has what looks like a stats page, of version N, with nothing on it
 *   child settle     nothing; its stats page shows all of it
 *   child torn       nothing; it stands still as if amid writing its page
 *   child hold       "ready PID", when the stats page shows all of it; then it waits to be killed;
 *                    after SIGUSR1 it goes on to allocate
 */
#include "settle.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int limit(void) {
    uint64_t (*get)(void) = NULL;
    void *found = dlsym(RTLD_DEFAULT, "berth_limit_get");
    memcpy(&get, &found, sizeof(get));
    if (get == NULL) {
        puts("no door");
    } else if (get() == UINT64_MAX) {
        puts("none");
    } else {
        printf("%" PRIu64 "\n", get());
    }
    return 0;
}

static int topology(void) {
    const char *number = getenv("BERTH_TOPOLOGY_FD");
    uint32_t head[4] = {0}; /* magic, version, domains, nodes */
    if (number == NULL || pread(atoi(number), head, sizeof(head), 0) != (ssize_t)sizeof(head)) {
        puts("no topology");
        return 1;
    }
    int seals = fcntl(atoi(number), F_GET_SEALS);
    int wanted = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    printf("%" PRIu32 " domains, %" PRIu32 " nodes, %s\n", head[2], head[3],
           seals == wanted ? "sealed" : "not sealed");
    return 0;
}

static int door(void) {
    Dl_info info;
    void *found = dlsym(RTLD_DEFAULT, "malloc");
    if (found == NULL || dladdr(found, &info) == 0) {
        return 1;
    }
    puts(info.dli_fname);
    return 0;
}

static void *door_call(const char *name) {
    void *found = dlsym(RTLD_DEFAULT, name);
    if (found == NULL) {
        printf("no %s\n", name);
        exit(1);
    }
    return found;
}

enum { JSON = 1, OPENMETRICS = 2, ALL = 7 };

static int own_into(const char *path, int format) {
    int (*write_fd)(int, int, unsigned) = NULL;
    void *found = door_call("berth_metrics_write_fd");
    memcpy(&write_fd, &found, sizeof(write_fd));
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    int error = fd < 0 ? -1 : write_fd(fd, format, ALL);
    close(fd);
    return error != 0;
}

/* Something under a tag. */
static int tagged(void) {
    static char *volatile kept;
    int (*push)(const char *) = NULL;
    int (*pop)(void) = NULL;
    void *found = door_call("berth_tag_push");
    memcpy(&push, &found, sizeof(push));
    found = door_call("berth_tag_pop");
    memcpy(&pop, &found, sizeof(pop));
    if (push("the parser") != 0) {
        return 1;
    }
    kept = malloc(50000);
    return kept == NULL || pop() != 0;
}

/* Blocks of two kinds are there to be seen. */
static int own(void) {
    static char *volatile kept[2];
    for (int i = 0; i < 2; i++) {
        kept[i] = calloc(1, i == 0 ? 100 : 100000);
        if (kept[i] == NULL) {
            return 1;
        }
    }
    return own_into("own.json", JSON) | own_into("own.openmetrics", OPENMETRICS);
}

static size_t (*trim)(void *);

/* Memory is trimmed now and then so that the page is written once more. */
static int settle_down(void) {
    void *found = door_call("berth_trim");
    memcpy(&trim, &found, sizeof(trim));
    return settle(trim) ? 0 : 1;
}

static int hold(void) {
    char line[32];
    sigset_t go_on;
    int signal;
    if (settle_down() != 0) {
        return 1;
    }
    sigemptyset(&go_on);
    sigaddset(&go_on, SIGUSR1);
    sigprocmask(SIG_BLOCK, &go_on, NULL);
    int length = snprintf(line, sizeof(line), "ready %d\n", (int)getpid());
    if (write(STDOUT_FILENO, line, (size_t)length) != length) {
        return 1;
    }
    sigwait(&go_on, &signal);
    static char *volatile more;
    more = malloc(200000);
    while (more != NULL) {
        usleep(5000);
        trim(NULL);
    }
    return 1;
}

enum { PAGE_BYTES = 64 << 10, MACHINE_PAGE_MAX = 64 << 10 };
#define MAGIC "berthsts"

/* A mapping of its own, as the kernel merges those that are alike. */
static int fake_page(unsigned version) {
    char *at = mmap(NULL, PAGE_BYTES + 2 * MACHINE_PAGE_MAX, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED ||
        mprotect(at + MACHINE_PAGE_MAX, PAGE_BYTES, PROT_READ | PROT_WRITE) != 0) {
        return 1;
    }
    memcpy(at + MACHINE_PAGE_MAX, MAGIC, 8);
    memcpy(at + MACHINE_PAGE_MAX + 8, &version, sizeof(version));
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
    pause();
    return 0;
}

/* Finds its own page as the tool would, and makes its sequence odd. */
static int torn_page(void) {
    struct berth__stats_head copy;
    struct berth__stats_head *head = settle_page(&copy);
    if (head == NULL) {
        return 1;
    }
    head->sequence |= 1;
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
    pause();
    return 0;
}

static int in_child(void) {
    pid_t child = fork();
    int status = 0;
    if (child == 0) {
        return 0;
    }
    waitpid(child, &status, 0);
    _exit(child < 0 || status != 0);
}

static int undumpable(void) {
    return prctl(PR_SET_DUMPABLE, 0) != 0;
}

int main(int argc, char **argv) {
    int failed = argc < 2;
    for (int i = 1; i < argc; i++) {
        failed |= strcmp(argv[i], "limit") == 0        ? limit()
                  : strcmp(argv[i], "topology") == 0   ? topology()
                  : strcmp(argv[i], "door") == 0       ? door()
                  : strcmp(argv[i], "own") == 0        ? own()
                  : strcmp(argv[i], "tagged") == 0     ? tagged()
                  : strcmp(argv[i], "undumpable") == 0 ? undumpable()
                  : strcmp(argv[i], "fork") == 0       ? in_child()
                  : strcmp(argv[i], "settle") == 0     ? settle_down()
                  : strcmp(argv[i], "hold") == 0       ? hold()
                  : strcmp(argv[i], "page") == 0       ? fake_page((unsigned)atoi(argv[++i]))
                  : strcmp(argv[i], "torn") == 0       ? torn_page()
                                                       : 2;
    }
    return failed;
}
