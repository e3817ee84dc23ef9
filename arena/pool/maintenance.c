#include "pool/maintenance.h"

#include "base/atomics.h"
#include "heap/decay.h"
#include "heap/engine.h"
#include "heap/fork.h"
#include "heap/observer.h"
#include "heap/request.h"
#include "heap/vacant.h"
#include "os/clock.h"
#include "os/fault.h"
#include "os/file.h"
#include "pool/event.h"
#include "pool/limit.h"
#include "pool/options.h"
#include "pool/pool.h"
#include "pool/watch.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

enum {
    BUSY_MS = 20,  /* between looks while memory is owed */
    IDLE_MS = 250, /* and while none is */
    STACK_BYTES = 128 << 10,
    LOOKS_PER_CENSUS = 16, /* idle looks between two counts of the threads */
};

static _Atomic bool running;

/* True if every thread of the program has ended. The first one counts for as long as there is a
 * process, but is a zombie by then. /proc/self/stat: "PID (NAME) STATE ...", the number of threads
 * is the 20th field. */
static bool is_alone(void) {
    char stat[1024];
    if (berth__file_read("/proc/self/stat", stat, sizeof(stat)) < 0) {
        return false;
    }
    const char *at = strrchr(stat, ')');
    if (at == NULL || strncmp(at, ") Z ", 4) != 0) {
        return false;
    }
    for (unsigned field = 2; at != NULL && field < 20; field++) {
        at = strchr(at + 1, ' ');
    }
    return at != NULL && strncmp(at, " 2 ", 3) == 0;
}

/* Pays what every arena owes. True if something was owed. */
static bool pay_all(void) {
    bool paid = false;
    struct berth__arenas *arenas = NULL;
    berth__vacant_end_old();
    while ((arenas = berth__engine_next(arenas)) != NULL) {
        struct berth__arena *arena;
        for (BERTH_EACH_ARENA(arena, arenas)) {
            paid = berth__decay_pay(arena, SIZE_MAX) > 0 || paid;
        }
    }
    return paid;
}

/* Whoever says that memory is short may say it again and again. */
static void relieve(uint64_t *last_ms) {
    enum { APART_MS = 1000 };
    uint64_t now_ms = berth__clock_coarse_ms();
    if (now_ms - *last_ms < APART_MS) {
        return;
    }
    *last_ms = now_ms;
    size_t returned = 0;
    struct berth__arenas *arenas = NULL;
    while ((arenas = berth__engine_next(arenas)) != NULL) {
        returned += berth__reclaim_all(arenas);
    }
    berth__event_of_pressure(returned);
}

/* A process ends with its last thread; that must not be this one. */
static void *maintain(void *unused) {
    (void)unused;
    unsigned idle_looks = 0;
    uint64_t relieved_ms = 0;
    struct berth__watch watch = {.fd = -1};
    if (berth__options_get()->value[BERTH_OPTION_pressure] != 0) {
        berth__watch_open(&watch);
    }
    for (;;) {
        bool owed = berth__default_arenas() != NULL && pay_all();
        berth__limit_refresh(BERTH_LIMIT_AGE_MS);
        (void)berth__tick(false);
        berth__events_look();
        idle_looks = owed ? 0 : idle_looks + 1;
        if (idle_looks % LOOKS_PER_CENSUS == LOOKS_PER_CENSUS - 1 && is_alone()) {
            return NULL;
        }
        if (berth__watch_sleep(&watch, owed ? BUSY_MS : IDLE_MS)) {
            relieve(&relieved_ms);
        }
    }
}

/* The thread takes no signals: those are the program's. */
static bool create_thread(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all;
    sigset_t before;
    if (berth__os_fails(BERTH_OS_THREAD) || pthread_attr_init(&attributes) != 0) {
        return false;
    }
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool created = pthread_create(&thread, &attributes, maintain, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (created) {
        pthread_setname_np(thread, "berth");
    }
    return created;
}

void berth__maintenance_start(void) {
    if (!berth__start() || berth__options_get()->value[BERTH_OPTION_maintenance] == 0 ||
        berth__fork_must_detour()) {
        return;
    }
    if (!atomic_exchange(&running, true) && !create_thread()) {
        berth__store_relaxed(&running, false);
    }
}

/* Most children only go on to another program, and must not have a thread then. */
void berth__maintenance_reset_in_child(void) {
    berth__store_relaxed(&running, false);
}
