#include "heap/engine.h"

#include "base/check.h"
#include "chunk/mappings.h"
#include "chunk/meta.h"
#include "chunk/wait.h"
#include "heap/decay.h"
#include "heap/observer.h"
#include "os/fault.h"
#include "os/topology.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void (*_Atomic berth__engine_configure)(struct berth__engine_config *config);
_Atomic(struct berth__arenas *) berth__engine_default;
const struct berth__observer *_Atomic berth__observer;

/* NOT_STARTED -> RUNNING, under the lock, which a fork takes: so a child finds the engine not
 * started, or started. */
enum { NOT_STARTED, RUNNING };
static _Atomic int state = NOT_STARTED;
static struct berth__lock start_lock = {.rank = BERTH_RANK_START};

static struct { _Atomic(struct berth__arenas *) made, open; } pools[BERTH_POOLS_MAX];
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

void berth__engine_follow_address_limit(void) {
    size_t bytes = reserve_bytes(0);
    if (bytes != 0) {
        berth__space_shrink(bytes);
    }
}

static void set_cache_budget(struct berth__engine_config *config) {
    enum { PER_CPU = 8 << 20, ALTOGETHER = 256 << 20 };
    if (config->cache_bytes == 0) {
        config->cache_bytes = berth__min((uint64_t)berth__cpus_allowed * PER_CPU, ALTOGETHER);
    }
    uint64_t for_runs = config->cache_bytes / 4;
    config->policy.run_cache_bytes = for_runs / berth__cpus_allowed;
    berth__cache_budget_total = config->cache_bytes - for_runs;
    berth__store_relaxed(&berth__cache_budget, (int64_t)berth__cache_budget_total);
}

/* May be tried again after a failure, when the kernel has memory. */
static bool start(void) {
    struct berth__engine_config config = {
        .policy = {.chunk_bytes = BERTH_CHUNK,
                   .decay_ms = 1000,
                   .wait_ms = BERTH_WAIT_MS_DEFAULT,
                   .reclaim = true,
                   .thp = BERTH_THP_AUTO},
    };
    void (*configure)(struct berth__engine_config *) =
        berth__load_relaxed(&berth__engine_configure);
    if (configure != NULL) {
        configure(&config);
    }
    berth__pages_init(config.page_bytes);
    if (config.mappings != 0) {
        berth__mappings_set_bound(config.mappings);
    }
    berth__normal_classes_init();
    berth__topology_init();
    berth__meta_init();
    berth__wait_init();
    berth__lock_init(&pools_lock, BERTH_RANK_POOLS);
    berth__decay_init(&berth__slots_decay);
    set_cache_budget(&config);
    if (berth__primary.units == 0 && !berth__space_init(reserve_bytes(config.reserve_bytes))) {
        return false;
    }
    struct berth__arenas *arenas = berth__engine_add(&config.policy);
    if (arenas == NULL) {
        return false;
    }
    BERTH_CHECK(arenas->number == 0, "the default pool is the first");
    if (berth__cpus_allowed > 1) {
        berth__arenas_settle(arenas); /* reads files, which may be forbidden later */
    }
    berth__engine_open(arenas);
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
        now = start() ? RUNNING : NOT_STARTED;
        berth__store_release(&state, now);
    }
    berth__lock_release(&start_lock);
    return now == RUNNING;
}

/* ---- visits ---- */

enum { FORKS_MAX = 8, NONE = 0, ALL = UINT16_MAX }; /* else a pool's number plus 1 */

static struct visit {
    _Atomic uint64_t visitor BERTH_LINE_ALIGNED; /* 0, or a thread pointer */
    _Atomic uint32_t pool;
} visits[BERTH_VISITS_MAX + FORKS_MAX];

/* The last records are for forks: they get one even if every visitor waits for a lock that an
 * interrupted thread holds. */
static struct visit *claim_visit(uint32_t pool) {
    uint64_t self = berth__thread_self();
    unsigned usable = pool == ALL ? BERTH_VISITS_MAX + FORKS_MAX : BERTH_VISITS_MAX;
    for (unsigned i = (unsigned)(self / BERTH_PAGE) % usable;; i = (i + 1) % usable) {
        uint64_t nobody = 0;
        if (berth__load_relaxed(&visits[i].visitor) == 0 &&
            berth__cas_acquire(&visits[i].visitor, &nobody, self)) {
            return &visits[i];
        }
        berth__pause();
    }
}

static struct visit *start_visit(uint32_t pool) {
    struct visit *visit = claim_visit(pool);
    berth__store_seq_cst(&visit->pool, pool); /* V1 */
    berth__delay_point();
    return visit;
}

static void erase_visit(struct visit *visit) {
    berth__store_release(&visit->pool, NONE); /* V3 */
    berth__store_release(&visit->visitor, 0);
}

static bool is_mine(const struct visit *visit) {
    return berth__load_relaxed(&visit->visitor) == berth__thread_self();
}

static void end_visit(uint32_t pool) {
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(visits); i++) {
        if (is_mine(&visits[i]) && berth__load_relaxed(&visits[i].pool) == pool) {
            erase_visit(&visits[i]);
            return;
        }
    }
}

bool berth__engine_visits(void) {
    unsigned i = 0;
    while (i < BERTH_ARRAY_COUNT(visits) && !is_mine(&visits[i])) {
        i++;
    }
    return i < BERTH_ARRAY_COUNT(visits);
}

struct berth__arenas *berth__engine_enter(unsigned number) {
    if (number >= BERTH_POOLS_MAX || berth__load_relaxed(&pools[number].open) == NULL) {
        return NULL;
    }
    struct visit *visit = start_visit(number + 1);
    struct berth__arenas *arenas = berth__load_seq_cst(&pools[number].open); /* V2 */
    if (arenas == NULL) {
        erase_visit(visit);
    }
    return arenas;
}

void berth__engine_leave(struct berth__arenas *arenas) {
    end_visit(arenas->number + 1);
}

struct berth__arenas *berth__engine_next(struct berth__arenas *arenas) {
    unsigned number = 0;
    if (arenas != NULL) {
        number = arenas->number + 1;
        berth__engine_leave(arenas);
    }
    struct berth__arenas *next = NULL;
    for (; next == NULL && number < BERTH_POOLS_MAX; number++) {
        next = berth__engine_enter(number);
    }
    return next;
}

void berth__engine_enter_all(void) {
    (void)start_visit(ALL);
}

void berth__engine_leave_all(void) {
    end_visit(ALL);
}

/* A record that names the pool, or all; NULL: nobody visits it. */
static struct visit *find_visit(uint32_t number) {
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(visits); i++) {
        uint32_t pool = berth__load_seq_cst(&visits[i].pool); /* C2, C4; acquires V3 */
        if (pool == number + 1 || pool == ALL) {
            return &visits[i];
        }
    }
    return NULL;
}

void berth__engine_visits_reset_in_child(void) {
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(visits); i++) {
        if (!is_mine(&visits[i])) {
            erase_visit(&visits[i]);
        }
    }
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        struct berth__arenas *made = berth__load_relaxed(&pools[i].made);
        bool inherited = made != NULL && berth__load_relaxed(&made->inherited);
        berth__store_relaxed(&pools[i].open, inherited ? NULL : made);
    }
}

void berth__engine_put_back_in_child(struct berth__arenas *arenas) {
    berth__store_relaxed(&pools[arenas->number].made, arenas);
}

/* ---- the table of pools ---- */

struct berth__arenas *berth__engine_arenas(unsigned number) {
    return number < BERTH_POOLS_MAX ? berth__load_seq_cst(&pools[number].made) : NULL; /* V2 */
}

struct berth__arenas *berth__engine_add(const struct berth__policy *policy) {
    struct berth__arenas *arenas = NULL;
    berth__lock_acquire(&pools_lock);
    for (uint32_t number = 0; arenas == NULL && number < BERTH_POOLS_MAX; number++) {
        if (berth__load_relaxed(&pools[number].made) == NULL) {
            arenas = berth__arenas_create(policy, number, berth__engine_next_serial());
            if (arenas == NULL) {
                break;
            }
            berth__store_release(&pools[number].made, arenas);
        }
    }
    berth__lock_release(&pools_lock);
    return arenas;
}

void berth__engine_open(struct berth__arenas *arenas) {
    berth__store_release(&pools[arenas->number].made, arenas);
    berth__store_release(&pools[arenas->number].open, arenas);
}

/* Visitors wake nobody when they leave: most visits take microseconds, and few pools end. */
static void wait_for_visitors(uint32_t number) {
    enum { LOOKS_BEFORE_SLEEP = 100, SLEEP_NS = 50 * 1000 };
    int saved_errno = errno;
    struct visit *visit = find_visit(number);
    for (unsigned looks = 0; visit != NULL; looks++) {
        struct timespec limit = {.tv_nsec = SLEEP_NS};
        if (looks < LOOKS_BEFORE_SLEEP) {
            berth__pause();
        } else {
            uint32_t pool = berth__load_relaxed(&visit->pool);
            syscall(SYS_futex, &visit->pool, BERTH_FUTEX_WAIT, pool, &limit, NULL, 0);
        }
        visit = find_visit(number);
    }
    errno = saved_errno;
}

void berth__engine_shut(struct berth__arenas *arenas) {
    berth__store_relaxed(&pools[arenas->number].open, NULL);
}

void berth__engine_close(struct berth__arenas *arenas) {
    berth__store_seq_cst(&pools[arenas->number].open, NULL); /* C1 */
    berth__delay_point();
    wait_for_visitors(arenas->number);
}

bool berth__engine_take_out(struct berth__arenas *arenas) {
    berth__store_seq_cst(&pools[arenas->number].made, NULL); /* C3 */
    berth__delay_point();
    bool alone = find_visit(arenas->number) == NULL; /* C4 */
    if (!alone) {
        berth__store_seq_cst(&pools[arenas->number].made, arenas);
    }
    return alone;
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
        if (berth__load_relaxed(&pools[i].made) == NULL) {
            return false;
        }
    }
    return true;
}
