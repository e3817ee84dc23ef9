#include "pool/limit.h"
#include "heap/fork.h"
#include "os/cgroup.h"
#include "os/clock.h"
#include "os/file.h"
#include "pool/api.h"
#include "pool/init.h"
#include "pool/pool.h"

#include <berth/limit.h>

#include <errno.h>

/* Memory mapped elsewhere that was reserved against the limit. */
static _Atomic uint64_t reserved_elsewhere;

uint64_t berth__reserved_elsewhere(void) {
    return berth__load_relaxed(&reserved_elsewhere);
}

/* After a limit was lowered: what is unused goes back before the caller goes on. */
static void return_excess(struct berth__ledger *ledger) {
    if (berth__ledger_excess(ledger) == 0) {
        return;
    }
    struct berth__arenas *arenas = NULL;
    while ((arenas = berth__engine_next(arenas)) != NULL) {
        if (berth__ledger_excess(ledger) > 0) {
            berth__reclaim_all(arenas);
        }
    }
}

/* ---- limit:auto ---- */

/* While it is not NULL, the limit follows the cgroup's. Cleared under `limit_lock`, under which the
 * limit is set as well: so what a call sets is not overwritten by what was read before. */
static struct berth__lock limit_lock = {.rank = BERTH_RANK_NAMES};
static _Atomic uint64_t read_ms; /* coarse clock of the latest reading */

void berth__limit_register_lock(void) {
    berth__fork_add_lock(&limit_lock, NULL);
}

/* Without a free descriptor every file looks absent, and the limit as if there were none. */
static bool files_can_be_read(void) {
    char byte[2];
    ssize_t got = berth__file_read("/proc/self/cgroup", byte, sizeof(byte));
    return got != -EMFILE && got != -ENFILE && got != -ENOMEM;
}

void berth__limit_follow(void) {
    berth__store_relaxed(&berth__ledger.limit, berth__cgroup_memory_limit());
    berth__store_relaxed(&read_ms, berth__clock_coarse_ms());
    berth__store_release(&berth__limit_hook, berth__limit_refresh);
}

/* True if that lowered the limit. */
static bool set_read_limit(uint64_t limit) {
    uint64_t before = berth__load_relaxed(&berth__ledger.limit);
    bool follows = berth__load_relaxed(&berth__limit_hook) != NULL;
    if (follows && (limit < before || (limit > before && files_can_be_read()))) {
        berth__ledger_set_limit(&berth__ledger, limit);
    }
    return follows && limit < before;
}

/* The lock is only tried: another thread is setting the limit, and whose wins is open. */
void berth__limit_refresh(uint32_t age_ms) {
    uint64_t now = berth__clock_coarse_ms();
    uint64_t last = berth__load_relaxed(&read_ms);
    if (berth__load_relaxed(&berth__limit_hook) == NULL || now - last < age_ms ||
        !berth__cas_acq_rel(&read_ms, &last, now)) {
        return;
    }
    uint64_t limit = berth__cgroup_memory_limit();
    bool lowered = false;
    if (berth__try_lock(&limit_lock)) {
        lowered = set_read_limit(limit);
        berth__lock_release(&limit_lock);
    }
    if (lowered) {
        return_excess(&berth__ledger);
    }
}

/* ---- public ---- */

int berth__do_limit_set(uint64_t bytes) {
    if (bytes == 0) {
        return -EINVAL;
    }
    if (!berth__start()) {
        return -ENOMEM;
    }
    if (berth__fork_must_detour()) {
        return -EAGAIN;
    }
    berth__lock_acquire(&limit_lock);
    berth__store_relaxed(&berth__limit_hook, NULL);
    berth__ledger_set_limit(&berth__ledger, bytes);
    berth__lock_release(&limit_lock);
    return_excess(&berth__ledger);
    return 0;
}

uint64_t berth__do_limit_get(void) {
    (void)berth__start();
    return berth__load_relaxed(&berth__ledger.limit);
}

uint64_t berth__do_limit_used(void) {
    return berth__load_relaxed(&berth__ledger.used);
}

static bool has_own_limit(const berth_pool *pool) {
    return berth__pool_arenas(pool)->ledger != &berth__ledger;
}

int berth__do_pool_limit_set(berth_pool *pool, uint64_t bytes) {
    if (bytes == 0) {
        return -EINVAL;
    }
    if (!has_own_limit(pool)) {
        return -ENOTSUP;
    }
    if (berth__fork_must_detour()) {
        return -EAGAIN;
    }
    struct berth__arenas *arenas = berth__pool_arenas(pool);
    berth__ledger_set_limit(arenas->ledger, bytes);
    if (berth__ledger_excess(arenas->ledger) > 0) {
        berth__reclaim_all(arenas);
    }
    return 0;
}

uint64_t berth__do_pool_limit_get(const berth_pool *pool) {
    return has_own_limit(pool) ? berth__load_relaxed(&berth__pool_arenas(pool)->ledger->limit)
                               : BERTH_UNLIMITED;
}

uint64_t berth__do_pool_limit_used(const berth_pool *pool) {
    return has_own_limit(pool) ? berth__load_relaxed(&berth__pool_arenas(pool)->ledger->used) : 0;
}

/* The ladder's attempt for bytes that are mapped elsewhere: nothing but the charge. */
static void *charge_attempt(const struct berth__request *request, unsigned charge_flags,
                            bool anywhere) {
    static char charged;
    (void)anywhere;
    return berth__ledger_charge(&berth__ledger, request->size, charge_flags) ? &charged : NULL;
}

int berth__do_limit_reserve(size_t bytes) {
    if (bytes > PTRDIFF_MAX || !berth__start()) {
        return -ENOMEM;
    }
    if (berth__fork_must_detour()) {
        return -EAGAIN;
    }
    struct berth__request request = {
        .arenas = berth__default_arenas(), .size = bytes, .flags = BERTH_REQUEST_NOWAIT};
    if (charge_attempt(&request, BERTH_CHARGE_ORDINARY, false) == NULL &&
        berth__reclaim(&request, charge_attempt) == NULL) {
        return -ENOMEM;
    }
    berth__add_relaxed(&reserved_elsewhere, bytes);
    return 0;
}

void berth__do_limit_release(size_t bytes) {
    if (berth__fork_must_detour()) {
        return; /* stays reserved, as what is freed there stays lent */
    }
    uint64_t reserved = berth__load_relaxed(&reserved_elsewhere);
    do { /* more than was reserved is ignored: the ledger must not lose what others charged */
        bytes = berth__min(bytes, reserved);
    } while (!berth__cas_weak_relaxed(&reserved_elsewhere, &reserved, reserved - bytes));
    if (bytes > 0) {
        berth__ledger_uncharge(&berth__ledger, bytes);
    }
}
