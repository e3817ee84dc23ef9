/*
 * A process on berth that holds known memory and waits to be killed; for the tests of `berth
 * export`.
 *
 *   holder [NAME [undumpable]]     NAME: what it calls itself
 *
 * Prints "ready PID" when its stats page shows all of it.
 */
#include "settle.h"

#include <berth/berth.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { SMALL = 100, SMALL_BYTES = 300, NORMAL = 3, NORMAL_BYTES = 40000, HUGE_BYTES = 5 << 20 };

/* Memory that was touched: it is resident as well. Part of its callers in all builds, so that they
 * are the sites. */
static inline __attribute__((always_inline)) void hold(berth_pool *pool, size_t bytes) {
    char *block = berth_alloc(pool, bytes);
    if (block == NULL) {
        perror("holder");
        exit(1);
    }
    memset(block, 1, bytes);
}

/* A site of its own. */
static __attribute__((noinline)) void hold_most(berth_pool *pool) {
    hold(pool, HUGE_BYTES);
}

static size_t trim_all(void *unused) {
    (void)unused;
    return berth_trim(NULL);
}

int main(int argc, char **argv) {
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.limit = 32 << 20;
    berth_pool *pool = berth_pool_create("held.pool", &options);
    if (pool == NULL || (argc > 1 && prctl(PR_SET_NAME, argv[1]) != 0) ||
        (argc > 2 && prctl(PR_SET_DUMPABLE, 0) != 0)) {
        perror("holder");
        return 1;
    }
    for (int i = 0; i < SMALL; i++) {
        hold(pool, SMALL_BYTES);
    }
    for (int i = 0; i < NORMAL; i++) {
        hold(berth_pool_default(), NORMAL_BYTES);
    }
    hold_most(pool);
    if (berth_tag_push("held.tag") != 0) {
        return 1;
    }
    hold(berth_pool_default(), SMALL_BYTES);
    berth_tag_pop();
    berth_thread_flush();
    if (!settle(trim_all)) {
        fputs("holder: its page is not written\n", stderr);
        return 1;
    }
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
    for (;;) {
        pause();
    }
}
