#include "pool/pool.h"
#include "pool/api.h"
#include "pool/shared.h"

#include "base/check.h"
#include "heap/fork.h"
#include "heap/io.h"
#include "heap/sample.h"
#include "heap/trace.h"
#include "os/environ.h"
#include "pool/ended.h"
#include "pool/event.h"
#include "pool/folded.h"
#include "pool/init.h"
#include "pool/limit.h"
#include "pool/maintenance.h"
#include "pool/options.h"
#include "pool/tag.h"

#include <errno.h>
#include <string.h>

static struct berth__lock pools_lock = {.rank = BERTH_RANK_NAMES};
static _Atomic(berth_pool *) pools[BERTH_POOLS_MAX];
static berth_pool default_pool = {.name = "default"};

/* ---- the process's options ---- */

static enum berth__thp thp_of_option(uint64_t value) {
    return value == BERTH_OPTION_THP_NEVER    ? BERTH_THP_NEVER
           : value == BERTH_OPTION_THP_ALWAYS ? BERTH_THP_ALWAYS
                                              : BERTH_THP_AUTO;
}

static void configure(struct berth__engine_config *config) {
    const struct berth__options *options = berth__options_get();
    const uint64_t *value = options->value;
    config->reserve_bytes = value[BERTH_OPTION_span];
    config->cache_bytes = value[BERTH_OPTION_cache];
    config->mappings = value[BERTH_OPTION_mappings];
    config->policy.chunk_bytes = value[BERTH_OPTION_chunk];
    config->policy.arena_count = (unsigned)value[BERTH_OPTION_arenas];
    config->policy.decay_ms = (uint32_t)value[BERTH_OPTION_decay_ms];
    config->policy.reclaim = value[BERTH_OPTION_reclaim] != 0;
    config->policy.thp = thp_of_option(value[BERTH_OPTION_thp]);
    if (options->is_set[BERTH_OPTION_wait_ms]) {
        config->policy.wait_ms = (uint32_t)value[BERTH_OPTION_wait_ms];
        config->policy.malloc_wait_ms = (uint32_t)value[BERTH_OPTION_wait_ms];
    }
    uint64_t limit = value[BERTH_OPTION_limit];
    if (limit == BERTH_OPTION_LIMIT_AUTO) {
        berth__limit_follow();
    } else {
        berth__store_relaxed(&berth__ledger.limit, limit);
    }
    if (value[BERTH_OPTION_soft_limit] != 0) {
        berth__ledger_set_soft_limit(value[BERTH_OPTION_soft_limit]);
    }
    bool reserve_set = options->is_set[BERTH_OPTION_limit_reserve];
    uint64_t reserve = value[BERTH_OPTION_limit_reserve];
    berth__store_relaxed(&berth__ledger.reserve, reserve_set ? reserve : 0);
    berth__store_relaxed(&berth__ledger.malloc_reserve, reserve_set ? reserve : 256 << 10);
}

/* What is written at exit, or at a failure, needs samples; else they are taken if it was asked for.
 * The door has the unwinder loaded before: here, it may be inside of malloc. */
static void start_sampling(void) {
    enum { INTERVAL = 512 << 10 };
    const struct berth__options *options = berth__options_get();
    if (!BERTH_DOOR && options->value[BERTH_OPTION_sample_stack] == BERTH_OPTION_STACK_UNWIND) {
        berth__sample_use_unwinder();
    }
    bool needed = options->value[BERTH_OPTION_prof_final] != 0 ||
                  options->value[BERTH_OPTION_prof_failure] != 0 ||
                  options->value[BERTH_OPTION_leak_print] != 0;
    uint64_t interval = options->value[BERTH_OPTION_sample];
    interval = interval == 0 && needed ? INTERVAL : interval;
    if (interval != 0 && !berth__sample_is_on()) {
        berth__sample_set(interval);
    }
}

/* Idempotent: two threads that come at once store the same. */
bool berth__start_slow(void) {
    berth__store_relaxed(&berth__engine_configure, configure);
    if (!berth__engine_start()) {
        return false;
    }
    berth__store_release(&default_pool.arenas, berth__default_arenas());
    berth__store_release(&pools[0], &default_pool);
    berth__pressure_init();
    berth__events_init();
    start_sampling();
    return true;
}

/* ---- the table of pools ---- */

static void in_child(void) {
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        const berth_pool *pool = berth__load_relaxed(&pools[i]);
        if (pool != NULL && pool->memfd.at != NULL) {
            berth__memfd_wipe(&pool->memfd);
        }
    }
    berth__pressure_reset_in_child();
    berth__events_reset_in_child();
    berth__maintenance_reset_in_child();
}

/* In this file, because a static program takes only objects along that something refers to. */
__attribute__((constructor)) static void at_load(void) {
    berth__fork_add_lock(&pools_lock, NULL);
    berth__limit_register_lock();
    berth__pressure_register_lock();
    berth__tags_register_lock();
    berth__events_register_lock();
    berth__samples_init();
    berth__trace_init();
    berth__stack_init();
    berth__fork_init(in_child);
    if (BERTH_DOOR && berth__environ_get("BERTH_CONF") != NULL) { /* else they need not be read */
        berth__maintenance_start();
        if (berth__options_get()->value[BERTH_OPTION_sample_stack] == BERTH_OPTION_STACK_UNWIND) {
            berth__sample_use_unwinder();
        }
    }
}

berth_pool *berth__pool_at(unsigned number) {
    return number < BERTH_POOLS_MAX ? berth__load_acquire(&pools[number]) : NULL;
}

const void *berth__pools_where(void) {
    return pools;
}

berth_pool *berth__do_pool_default(void) {
    if (!berth__start()) {
        errno = ENOMEM;
        return NULL;
    }
    berth__store_relaxed(&default_pool.arenas, berth__default_arenas());
    return &default_pool;
}

static berth_pool *find_locked(const char *name) BERTH_REQUIRES(pools_lock) {
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        berth_pool *pool = berth__load_relaxed(&pools[i]);
        if (pool != NULL && strcmp(pool->name, name) == 0) {
            return pool;
        }
    }
    return NULL;
}

berth_pool *berth__do_pool_find(const char *name) {
    if (berth__do_pool_default() == NULL) {
        return NULL;
    }
    if (berth__fork_must_detour()) {
        errno = EAGAIN;
        return NULL;
    }
    berth__lock_acquire(&pools_lock);
    berth_pool *pool = name == NULL ? NULL : find_locked(name);
    berth__lock_release(&pools_lock);
    if (pool == NULL) {
        errno = ENOENT;
    }
    return pool;
}

const char *berth__do_pool_name(const berth_pool *pool) {
    return pool->name;
}

bool berth__do_pool_is_one_thread(const berth_pool *pool) {
    return pool->options.one_thread != 0;
}

berth_pool *berth__do_pool_of(const void *block) {
    return berth__pool_of_arenas(berth__block_arenas(block));
}

/* ---- creating ---- */

static bool name_is_valid(const char *name) {
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    size_t length = name == NULL ? 0 : strlen(name);
    return length >= 1 && length <= BERTH_POOL_NAME_MAX && strspn(name, allowed) == length;
}

static bool memory_is_valid(const struct berth_pool_options *options) {
    if (options->backing == BERTH_BACKING_MEMFD) {
        return options->memory == NULL && options->io == 0 &&
               options->memory_size >= BERTH_FIRST_COMMIT &&
               options->memory_size <= PTRDIFF_MAX / 2;
    }
    if (options->memory == NULL) {
        return options->memory_size == 0 && options->backing == BERTH_BACKING_PRIVATE;
    }
    uintptr_t at = (uintptr_t)options->memory;
    return options->memory_size <= UINTPTR_MAX - at &&
           berth__round_down(at + options->memory_size, BERTH_UNIT) >=
               berth__round_up(at, BERTH_UNIT) + BERTH_FIRST_COMMIT;
}

static bool options_are_valid(const struct berth_pool_options *options) {
    bool chunk_ok = options->chunk == 0 ||
                    (berth__is_power_of_2(options->chunk) && options->chunk >= BERTH_FIRST_COMMIT &&
                     options->chunk <= BERTH_CHUNK);
    return options->struct_size >= sizeof(struct berth_pool_options) && chunk_ok &&
           options->arenas <= BERTH_ARENAS_MAX && options->decay_ms >= -1 &&
           options->wait_ms >= -1 && options->reclaim >= -1 && options->reclaim <= 1 &&
           options->thp >= BERTH_THP_AS_CONFIGURED && options->thp <= BERTH_THP_ON &&
           options->one_thread >= 0 && options->one_thread <= 1 && options->io >= 0 &&
           options->io <= (options->memory == NULL ? 1 : 0) && memory_is_valid(options);
}

/* The process's policy with the pool's options over it. */
static struct berth__policy policy_of(const struct berth_pool_options *options) {
    struct berth__policy policy = berth__default_arenas()->policy;
    policy.chunk_bytes = options->chunk != 0 ? options->chunk : policy.chunk_bytes;
    policy.arena_count = options->arenas != 0 ? options->arenas : policy.arena_count;
    policy.decay_ms = options->decay_ms >= 0 ? (uint32_t)options->decay_ms : policy.decay_ms;
    policy.wait_ms = options->wait_ms >= 0 ? (uint32_t)options->wait_ms : policy.wait_ms;
    policy.reclaim = options->reclaim >= 0 ? options->reclaim != 0 : policy.reclaim;
    if (options->thp != BERTH_THP_AS_CONFIGURED) {
        policy.thp = options->thp == BERTH_THP_OFF  ? BERTH_THP_NEVER
                     : options->thp == BERTH_THP_ON ? BERTH_THP_ALWAYS
                                                    : BERTH_THP_AUTO;
    }
    if (options->memory != NULL) {
        policy.arena_count = 1; /* it is one piece */
        policy.shared = options->backing == BERTH_BACKING_MEMFD;
    }
    if (options->io != 0) {
        policy.io = true;
        policy.chunk_bytes = options->chunk != 0 ? options->chunk : BERTH_IO_CHUNK;
        policy.thp = options->thp == BERTH_THP_OFF ? BERTH_THP_NEVER : BERTH_THP_ALWAYS;
    }
    return policy;
}

/* Engine side of a new or a reset pool; NULL with errno. */
static struct berth__arenas *make_arenas(const struct berth_pool_options *options) {
    struct berth__policy policy = policy_of(options);
    struct berth__span *span = NULL;
    if (options->memory != NULL) {
        bool possible = berth__span_can_be_lent(options->memory, options->memory_size);
        span = possible ? berth__span_lend(options->memory, options->memory_size) : NULL;
        if (span == NULL) {
            errno = possible ? ENOMEM : EINVAL;
            return NULL;
        }
    }
    struct berth__arenas *arenas = berth__engine_add(&policy);
    if (arenas == NULL) {
        if (span != NULL) {
            berth__span_return(span);
        }
        errno = berth__engine_is_full() ? ENOSPC : ENOMEM;
        return NULL;
    }
    arenas->lent = span;
    if (options->limit != 0 && options->limit != BERTH_UNLIMITED) {
        berth__ledger_set_limit(&arenas->own_ledger, options->limit);
        arenas->ledger = &arenas->own_ledger;
    }
    return arenas;
}

static berth_pool *new_pool(const char *name, const struct berth_pool_options *options,
                            unsigned tag) {
    berth_pool *pool = berth__ended_reuse();
    if (pool == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    struct berth__arenas *arenas = make_arenas(options);
    if (arenas == NULL) {
        berth__ended_keep(pool);
        return NULL;
    }
    pool->options = *options;
    memcpy(pool->name, name, strlen(name) + 1);
    arenas->tag = (uint8_t)tag;
    berth__store_relaxed(&pool->arenas, arenas);
    return pool;
}

/* A pool that others find. */
static void publish_locked(berth_pool *pool) BERTH_REQUIRES(pools_lock) {
    berth__store_release(&pools[berth__pool_arenas(pool)->number], pool);
    berth__engine_open(berth__pool_arenas(pool));
}

berth_pool *berth__do_pool_create(const char *name, const struct berth_pool_options *options) {
    static const struct berth_pool_options defaults = BERTH_POOL_OPTIONS_INIT;
    options = options == NULL ? &defaults : options;
    if (berth__do_pool_default() == NULL) {
        return NULL;
    }
    if (!name_is_valid(name) || !options_are_valid(options)) {
        errno = EINVAL;
        return NULL;
    }
    if (berth__fork_must_detour()) {
        errno = EAGAIN;
        return NULL;
    }
    int tag = options->tag == NULL ? 0 : berth__tag_named(options->tag);
    if (tag < 0) {
        errno = -tag;
        return NULL;
    }
    struct berth_pool_options own = *options;
    struct berth__memfd memfd = {.at = NULL};
    if (own.backing == BERTH_BACKING_MEMFD && !berth__shared_begin(&own, &memfd)) {
        return NULL;
    }
    berth__lock_acquire(&pools_lock);
    berth_pool *pool = NULL;
    if (find_locked(name) != NULL) {
        errno = EEXIST;
    } else {
        pool = new_pool(name, &own, (unsigned)tag);
    }
    if (pool != NULL) {
        pool->memfd = memfd;
        publish_locked(pool);
        berth__tag_count_pool((unsigned)tag, 1);
    }
    berth__lock_release(&pools_lock);
    if (pool != NULL) {
        berth__maintenance_start();
    } else {
        berth__shared_end(&memfd);
    }
    return pool;
}

/* No pool of a program has a name with a colon. */
berth_pool *berth__pool_of_scopes(unsigned tag, const char *name) {
    static const struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    char pool_name[BERTH_POOL_NAME_MAX + 1] = "tag:";
    _Static_assert(sizeof("tag:") + BERTH_TAG_NAME_MAX == sizeof(pool_name), "any tag fits");
    memcpy(pool_name + strlen(pool_name), name, strlen(name) + 1);
    berth__lock_acquire(&pools_lock);
    berth_pool *pool = find_locked(pool_name);
    if (pool == NULL) {
        pool = new_pool(pool_name, &options, tag);
        if (pool != NULL) {
            berth__pool_arenas(pool)->serves_scopes = true;
            berth__pool_arenas(pool)->policy.run_cache_bytes = 0; /* else each tag had its own */
            publish_locked(pool);
        }
    }
    berth__lock_release(&pools_lock);
    return pool;
}

/* ---- ending ---- */

static _Atomic(berth__pool_end_hook *) end_hook;

void berth__do_pool_hook_end(berth__pool_end_hook *hook) {
    berth__store_release(&end_hook, hook); /* pairs with the load in tell_of_end */
}

static void tell_of_end(berth_pool *pool, int error) {
    berth__pool_end_hook *hook = berth__load_acquire(&end_hook);
    if (hook != NULL) {
        hook(pool, error);
    }
}

/* One that was ended already is not: its record is gone, or another pool's by now. */
static bool is_a_pool(const berth_pool *pool) {
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        if (berth__load_relaxed(&pools[i]) == pool) {
            return true;
        }
    }
    return false;
}

static int check_end(const berth_pool *pool, unsigned flags) {
    bool valid = pool != NULL && pool != &default_pool && is_a_pool(pool) &&
                 !berth__pool_arenas(pool)->serves_scopes && (flags & ~(unsigned)BERTH_FORCE) == 0;
    return !valid                                             ? -EINVAL
           : berth__fork_must_detour()                        ? -EAGAIN
           : berth__io_is_inherited(berth__pool_arenas(pool)) ? -EOWNERDEAD
                                                              : 0;
}

static bool may_end(struct berth__arenas *arenas, unsigned flags) {
    bool forced = (flags & BERTH_FORCE) != 0;
    return !berth__arenas_are_held(arenas) && (forced || !berth__arenas_are_in_use(arenas));
}

/* Returns with the lock held and nobody in the pool, which is out of the engine's table: for the
 * rest of the process there is no such pool until it is opened again. */
static void take_out(struct berth__arenas *arenas) BERTH_ACQUIRES(pools_lock) {
    for (;;) {
        berth__engine_close(arenas);
        berth__lock_acquire(&pools_lock);
        if (berth__engine_take_out(arenas)) {
            return;
        }
        berth__lock_release(&pools_lock);
    }
}

int berth__do_pool_destroy(berth_pool *pool, unsigned flags) {
    int error = check_end(pool, flags);
    if (error != 0) {
        return error;
    }
    struct berth__arenas *arenas = berth__pool_arenas(pool);
    take_out(arenas);
    if (may_end(arenas, flags)) {
        struct berth__arenas_counts before;
        static const struct berth__arenas_counts nothing;
        berth__arenas_read(arenas, &before);
        berth__folded_keep(arenas->tag, &before, &nothing);
        berth__store_release(&pools[arenas->number], NULL);
        berth__tag_count_pool(arenas->tag, -1);
        berth__arenas_destroy(arenas);
    } else {
        berth__engine_open(arenas);
        error = -EBUSY;
    }
    berth__lock_release(&pools_lock);
    tell_of_end(pool, error);
    if (error == 0) {
        berth__shared_end(&pool->memfd);
        berth__lock_acquire(&pools_lock);
        berth__ended_keep(pool);
        berth__lock_release(&pools_lock);
    }
    return error;
}

int berth__do_pool_reset(berth_pool *pool, unsigned flags) {
    int error = check_end(pool, flags);
    if (error != 0) {
        return error;
    }
    struct berth__arenas *arenas = berth__pool_arenas(pool);
    take_out(arenas);
    if (may_end(arenas, flags)) {
        struct berth__arenas_counts before;
        struct berth__arenas_counts after;
        berth__arenas_read(arenas, &before);
        berth__arenas_reset(arenas, berth__engine_next_serial());
        berth__arenas_read(arenas, &after);
        berth__folded_keep(arenas->tag, &before, &after);
    } else {
        error = -EBUSY;
    }
    berth__engine_open(arenas);
    berth__lock_release(&pools_lock);
    tell_of_end(pool, error);
    return error;
}
