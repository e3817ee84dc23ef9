#include "heap/engine.h"

#include "base/check.h"
#include "chunk/meta.h"
#include "chunk/wait.h"
#include "heap/decay.h"
#include "os/topology.h"

#include <errno.h>
#include <sys/resource.h>

void (*berth__engine_configure)(struct berth__engine_config *config);
_Atomic(struct berth__arenas *) berth__engine_default;

/* NOT_STARTED -> RUNNING or FAILED, under the lock, which a fork takes: so a child finds the engine
 * not started, or started. */
enum { NOT_STARTED, RUNNING, FAILED };
static _Atomic int state = NOT_STARTED;
static struct berth__lock start_lock = {.rank = BERTH_RANK_START};

static _Atomic(struct berth__arenas *) pools[BERTH_POOLS_MAX];
static struct berth__lock pools_lock;
static _Atomic uint64_t next_serial = 1;

/* With a limit on addresses, the program needs the greater part of them for other things; spans
 * follow as they are needed. */
static size_t reserve_bytes(size_t wish) {
    struct rlimit limit;
    int saved_errno = errno;
    bool limited = getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
    errno = saved_errno;
    size_t share = limited ? berth__max((size_t)limit.rlim_cur / 8, 16 << 20) : SIZE_MAX;
    return wish == 0 && !limited ? 0 : berth__min(wish == 0 ? SIZE_MAX : wish, share);
}

static void set_cache_budget(struct berth__engine_config *config) {
    enum { PER_CPU = 8 << 20, ALTOGETHER = 256 << 20 };
    if (config->cache_bytes == 0) {
        config->cache_bytes = berth__min((uint64_t)berth__cpus_allowed * PER_CPU, ALTOGETHER);
    }
    uint64_t for_runs = config->cache_bytes / 2;
    config->policy.run_cache_bytes = for_runs / berth__cpus_allowed;
    berth__cache_budget_total = config->cache_bytes - for_runs;
    berth__store_relaxed(&berth__cache_budget, (int64_t)berth__cache_budget_total);
}

static bool start(void) {
    struct berth__engine_config config = {
        .policy = {.chunk_bytes = BERTH_CHUNK,
                   .decay_ms = 1000,
                   .wait_ms = BERTH_WAIT_MS_DEFAULT,
                   .reclaim = true,
                   .thp = BERTH_THP_AUTO},
    };
    if (berth__engine_configure != NULL) {
        berth__engine_configure(&config);
    }
    berth__pages_init(config.page_bytes);
    berth__topology_init();
    berth__meta_init();
    berth__wait_init();
    berth__lock_init(&pools_lock, BERTH_RANK_POOLS);
    berth__decay_init(&berth__slots_decay);
    set_cache_budget(&config);
    if (!berth__space_init(reserve_bytes(config.reserve_bytes))) {
        return false;
    }
    struct berth__arenas *arenas = berth__engine_add(&config.policy);
    if (arenas == NULL) {
        return false;
    }
    BERTH_CHECK(arenas->number == 0, "the default pool is the first");
    if (berth__topology_now()->domains > 1) {
        berth__arenas_settle(arenas); /* reads files, which may be forbidden later */
    }
    berth__threads_init();
    berth__store_release(&berth__engine_default, arenas);
    return true;
}

bool berth__engine_start(void) {
    int now = berth__load_acquire(&state);
    if (BERTH_LIKELY(now == RUNNING)) {
        return true;
    }
    if (berth__lock_is_mine(&start_lock)) {
        return false; /* in a signal handler that interrupted the start, in the child it forked */
    }
    berth__lock_acquire(&start_lock);
    now = berth__load_relaxed(&state);
    if (now == NOT_STARTED) {
        now = start() ? RUNNING : FAILED;
        berth__store_release(&state, now);
    }
    berth__lock_release(&start_lock);
    return now == RUNNING;
}

struct berth__arenas *berth__engine_arenas(unsigned number) {
    return number < BERTH_POOLS_MAX ? berth__load_acquire(&pools[number]) : NULL;
}

struct berth__arenas *berth__engine_add(const struct berth__policy *policy) {
    struct berth__arenas *arenas = NULL;
    berth__lock_acquire(&pools_lock);
    for (uint32_t number = 0; arenas == NULL && number < BERTH_POOLS_MAX; number++) {
        if (berth__load_relaxed(&pools[number]) == NULL) {
            arenas = berth__arenas_create(policy, number, berth__engine_next_serial());
            if (arenas == NULL) {
                break;
            }
            berth__store_release(&pools[number], arenas);
        }
    }
    berth__lock_release(&pools_lock);
    return arenas;
}

void berth__engine_remove(uint32_t number) {
    berth__store_release(&pools[number], NULL);
}

struct berth__lock *berth__engine_start_lock(void) {
    return &start_lock;
}

struct berth__lock *berth__engine_lock(void) {
    return &pools_lock;
}

uint64_t berth__engine_next_serial(void) {
    return berth__add_relaxed(&next_serial, 1);
}

bool berth__engine_is_full(void) {
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        if (berth__load_relaxed(&pools[i]) == NULL) {
            return false;
        }
    }
    return true;
}
