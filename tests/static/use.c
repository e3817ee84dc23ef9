/*
 * If this fails, a program that is linked with an archive has no fork handlers (its children hang,
 * or use what was half done), or no metrics at its end.
 */
#include "heap/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#if USE_DOOR
#define ALLOCATE(size) malloc(size)
#else
#include <berth/berth.h>
#define ALLOCATE(size) berth_alloc(berth_pool_default(), size)
#endif

static void check(bool so, const char *what) {
    if (!so) {
        fprintf(stderr, "not so: %s\n", what);
        _exit(1);
    }
}

static void *volatile block;

/* A child starts with a fresh cache: the handlers have seen to that. */
static void fork_and_look(void) {
    block = ALLOCATE(100);
    check(block != NULL, "the parent allocates");
    check(berth__cache_peek(berth__default_arenas()) != NULL, "the parent has a cache");
    pid_t child = fork();
    if (child == 0) {
        check(berth__cache_peek(berth__default_arenas()) == NULL, "fork handlers ran");
        _exit(0);
    }
    int status = 0;
    check(waitpid(child, &status, 0) == child && status == 0, "the child is well");
}

static void print_metrics_at_exit(void) {
    int ends[2];
    char text[256] = "";
    check(pipe(ends) == 0, "a pipe");
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        setenv("BERTH_CONF", "stats_print:true", 1);
        execl("/proc/self/exe", "use", "and exit", NULL);
        _exit(1);
    }
    close(ends[1]);
    check(read(ends[0], text, sizeof(text) - 1) > 0 && strstr(text, "berth") != NULL,
          "the metrics are printed at exit");
    while (read(ends[0], text, sizeof(text)) > 0) {
    }
    int status = 0;
    check(waitpid(child, &status, 0) == child && status == 0, "the program exits");
}

int main(int argc, char **argv) {
    (void)argv;
    fork_and_look();
    if (argc == 1) {
        print_metrics_at_exit();
    }
    return 0;
}
