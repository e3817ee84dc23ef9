/*
 * A thread's caches from its first allocation to its end.
 */
#include "heap/cache.h"

#include "base/check.h"
#include "chunk/meta.h"
#include "chunk/wait.h"
#include "heap/bins.h"
#include "heap/engine.h"
#include "heap/stash.h"
#include "heap/vacant.h"
#include "os/clock.h"
#include "os/fault.h"
#include "os/topology.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

_Thread_local struct berth__tls berth__tls BERTH_TLS_MODEL = {
    .cache = (struct berth__cache *)(uintptr_t)&berth__no_cache, /* never written: empty and full */
    .mark = BERTH_NO_MARK,
};

/* Every bin stands at this NULL: malloc finds nothing, free finds no room. */
static void *const no_blocks[BERTH_BIN_ENDS] = {NULL, NULL};
#define EMPTY ((void **)(uintptr_t)no_blocks)
#define EMPTY_BIN(below, size)                                                                     \
    {.top = EMPTY,                                                                                 \
     .low = EMPTY,                                                                                 \
     .reciprocal = (uint32_t)(((UINT64_C(1) << 32) + (size)-1) / (size)),                          \
     .batch = 1},
const struct berth__cache berth__no_cache = {
    .bins = {BERTH_SMALL_CLASSES(EMPTY_BIN)},
};

struct berth__waiter **berth__waiter_of_thread(void) {
    return &berth__tls.waiter;
}

static pthread_key_t exit_key;
static bool exit_key_made;

/* ---- making a cache ---- */

static struct berth__cache *cache_create(struct berth__arenas *arenas) {
    if (berth__load_relaxed(&arenas->arena_count) > 0) {
        berth__topology_refine();
    }
    struct berth__arena *arena = berth__arenas_here(arenas);
    struct berth__cache *cache = arena == NULL ? NULL : berth__vacant_take(arenas, arena);
    if (cache != NULL || arena == NULL) {
        return cache;
    }
    cache = berth__meta_alloc(BERTH_CACHE_BYTES);
    if (cache == NULL) {
        return NULL;
    }
    memcpy(cache->bins, berth__no_cache.bins, sizeof(cache->bins));
    berth__store_relaxed(&cache->busy, true); /* until its thread points to it */
    cache->owner = berth__thread_self();
    cache->arenas = arenas;
    berth__list_init(&cache->vacant_link);
    cache->of_default = arenas->number == 0;
    cache->allowance = arenas->serves_scopes ? 0 : BERTH_CACHE_FREE_BYTES;
    berth__store_relaxed(&cache->serial, arenas->serial);
    /* Each of several slow calls looks at the clock: of all threads' together, however few each of
     * them makes. */
    cache->slow_calls = (uint32_t)berth__add_relaxed(&arenas->caches_made, 1);
    cache->swept_ms = cache->refills_since_ms = (uint32_t)berth__clock_coarse_ms();
    if (!berth__cache_join(cache, arena)) {
        berth__meta_free(cache, BERTH_CACHE_BYTES);
        return NULL;
    }
    berth__lock_acquire(&arenas->lock);
    berth__list_push_back(&arenas->caches, &cache->link);
    berth__lock_release(&arenas->lock);
    berth__add_relaxed(&arenas->thread_count, 1);
    return cache;
}

/* Visits the pool of a cache of the calling thread; NULL if it is being ended, or has ended: the
 * cache's content must be left alone. The cache itself is its thread's. */
static struct berth__arenas *enter_pool_of(const struct berth__cache *cache, uint32_t number) {
    struct berth__arenas *arenas = berth__engine_enter(number);
    if (arenas != NULL && berth__load_relaxed(&cache->serial) != arenas->serial) {
        berth__engine_leave(arenas);
        arenas = NULL;
    }
    return arenas;
}

/* Waits while somebody is ending the pool: until it is open again, or the cache was disowned. */
static void end_pool_cache(struct berth__cache *cache, uint32_t number) {
    struct berth__arenas *arenas = enter_pool_of(cache, number);
    while (arenas == NULL && berth__load_acquire(&cache->serial) != 0) { /* D2 */
        sched_yield();
        arenas = enter_pool_of(cache, number);
    }
    if (arenas == NULL) {
        berth__meta_free(cache, BERTH_CACHE_BYTES);
        return;
    }
    berth__vacant_leave(cache);
    berth__engine_leave(arenas);
}

/* ---- what serves malloc ---- */

static void serve_malloc(struct berth__tls *tls, struct berth__cache *cache) {
    tls->cache = cache != NULL ? cache : (struct berth__cache *)(uintptr_t)&berth__no_cache;
    tls->mark = cache != NULL ? cache->mark : BERTH_NO_MARK;
}

static struct berth__cache_table *table_of(struct berth__cache **caches) {
    return BERTH_CONTAINER_OF(caches, struct berth__cache_table, caches);
}

static size_t table_bytes(uint32_t slots) {
    return sizeof(struct berth__cache_table) + slots * sizeof(struct berth__cache *);
}

/* ---- parking ---- */

static void park(struct berth__cache *cache) {
    berth__delay_point();
    berth__store_release(&cache->state, BERTH_CACHE_PARKED); /* K1 */
    berth__wait_note();
}

static void unpark(struct berth__cache *cache) {
    uint32_t parked = BERTH_CACHE_PARKED;
    for (unsigned turn = 0; !berth__cas_acquire(&cache->state, &parked, BERTH_CACHE_ACTIVE);
         turn++) { /* K2 */
        parked = BERTH_CACHE_PARKED;
        berth__spin(turn);
    }
}

static void park_default(struct berth__tls *tls) {
    struct berth__cache *cache = tls->cache;
    berth__cache_send_remote(cache);
    tls->parked = cache;
    serve_malloc(tls, NULL);
    park(cache);
}

/* The table of the other pools' caches is put aside as a whole. */
static void park_pools(struct berth__tls *tls) {
    uint32_t slots = tls->pool_slots;
    if (tls->scope != 0) {
        serve_malloc(tls, NULL);
    }
    tls->parked_pools = tls->pools;
    tls->pools = NULL;
    tls->pool_slots = 0;
    for (uint32_t i = 0; i < slots; i++) {
        struct berth__cache *cache = tls->parked_pools[i];
        if (cache == NULL) {
            continue;
        }
        struct berth__arenas *arenas = enter_pool_of(cache, i);
        if (arenas != NULL) {
            berth__cache_send_remote(cache);
            berth__engine_leave(arenas);
        }
        park(cache);
    }
}

void berth__cache_park(void) {
    struct berth__tls *tls = &berth__tls;
    if (tls->scope == 0 && tls->parked == NULL && tls->cache != &berth__no_cache) {
        park_default(tls);
    }
    if (tls->parked_pools == NULL && tls->pools != NULL) {
        park_pools(tls);
    }
}

static void unpark_pools(struct berth__tls *tls) {
    if (tls->parked_pools == NULL) {
        return;
    }
    uint32_t slots = table_of(tls->parked_pools)->slots;
    for (uint32_t i = 0; i < slots; i++) {
        if (tls->parked_pools[i] != NULL) {
            unpark(tls->parked_pools[i]);
        }
    }
    tls->pools = tls->parked_pools;
    tls->pool_slots = slots;
    tls->parked_pools = NULL;
}

static void unpark_default(struct berth__tls *tls) {
    if (tls->parked != NULL) {
        unpark(tls->parked);
        serve_malloc(tls, tls->parked);
        tls->parked = NULL;
    }
}

void berth__caches_flush_own(void) {
    struct berth__tls *tls = &berth__tls;
    unpark_default(tls);
    unpark_pools(tls);
    if (tls->scope == 0 && tls->cache != &berth__no_cache) {
        berth__cache_flush(tls->cache, true);
    }
    for (uint32_t i = 0; i < tls->pool_slots; i++) {
        struct berth__cache *cache = tls->pools[i];
        struct berth__arenas *arenas = cache == NULL ? NULL : enter_pool_of(cache, i);
        if (arenas != NULL) {
            berth__cache_flush(cache, true);
            berth__engine_leave(arenas);
        }
    }
}

static void claim_one(struct berth__cache *cache) {
    uint32_t parked = BERTH_CACHE_PARKED;
    bool vacant = cache->owner == 0; /* then see vacant.h */
    if (!vacant && berth__load_relaxed(&cache->state) == BERTH_CACHE_PARKED &&
        berth__cas_acquire(&cache->state, &parked, BERTH_CACHE_CLAIMED)) { /* K2 */
        berth__delay_point();
        berth__cache_flush(cache, true);
        berth__store_release(&cache->state, BERTH_CACHE_PARKED); /* K1 */
    }
}

void berth__caches_claim_parked(struct berth__arenas *arenas) {
    berth__lock_acquire(&arenas->lock);
    for (struct berth__list *at = arenas->caches.next; at != &arenas->caches; at = at->next) {
        claim_one(BERTH_LIST_ENTRY(at, struct berth__cache, link));
    }
    berth__lock_release(&arenas->lock);
}

static uint64_t cached_bytes(const struct berth__cache *cache) {
    uint64_t bytes = cache->remote_bytes;
    for (unsigned c = 0; c < BERTH_SMALL_CLASS_COUNT; c++) {
        bytes += (uint64_t)berth__bin_blocks(&cache->bins[c]) * berth__classes[c].size;
    }
    return bytes + berth__stash_bytes(cache);
}

uint64_t berth__caches_bytes(struct berth__arenas *arenas) {
    berth__lock_acquire(&arenas->lock);
    uint64_t bytes = arenas->left_bytes;
    for (struct berth__list *at = arenas->caches.next; at != &arenas->caches; at = at->next) {
        struct berth__cache *cache = BERTH_LIST_ENTRY(at, struct berth__cache, link);
        bytes += cache->owner == 0 ? 0 : cached_bytes(cache);
    }
    berth__lock_release(&arenas->lock);
    return bytes;
}

void berth__cache_leave(struct berth__cache *cache) {
    berth__list_remove(&cache->link);
    cache->arenas->left_bytes += cached_bytes(cache);
}

/* ---- finding the thread's cache ---- */

/* The exit handler runs for threads that called this; glibc may allocate in it, which finds the
 * cache in place. */
static void register_exit(struct berth__tls *tls) {
    if (!tls->registered && exit_key_made) {
        tls->registered = true;
        (void)pthread_setspecific(exit_key, tls);
    }
}

/* Threads that live shortly on what others have left in a cache would never come by. */
static void pay_once(struct berth__cache *cache) {
    if (cache->taken_over) {
        berth__cache_pay_dues(cache);
    }
}

static struct berth__cache *default_cache(struct berth__tls *tls, struct berth__arenas *arenas) {
    unpark_default(tls);
    if (tls->cache == &berth__no_cache) {
        struct berth__cache *cache = cache_create(arenas);
        if (cache == NULL) {
            return NULL;
        }
        serve_malloc(tls, cache);
        berth__store_release(&cache->busy, false);
        register_exit(tls);
        pay_once(cache);
    }
    return tls->cache;
}

/* Room for this pool's number in the thread's table. */
static bool grow_table(struct berth__tls *tls, uint32_t number) {
    uint32_t slots = 8;
    while (slots <= number) {
        slots *= 2;
    }
    struct berth__cache_table *table = berth__meta_alloc(table_bytes(slots));
    if (table == NULL) {
        return false;
    }
    if (tls->pools != NULL) {
        memcpy(table, table_of(tls->pools), table_bytes(tls->pool_slots));
        berth__meta_free(table_of(tls->pools), table_bytes(tls->pool_slots));
    }
    table->slots = slots;
    tls->pools = table->caches;
    tls->pool_slots = slots;
    return true;
}

static struct berth__cache *pool_cache(struct berth__tls *tls, struct berth__arenas *arenas) {
    uint32_t number = arenas->number;
    unpark_pools(tls);
    if (number >= tls->pool_slots && !grow_table(tls, number)) {
        return NULL;
    }
    struct berth__cache *cache = tls->pools[number];
    if (cache != NULL && berth__load_acquire(&cache->serial) != arenas->serial) { /* D2 */
        berth__meta_free(cache, BERTH_CACHE_BYTES); /* disowned: of a pool that is gone */
        cache = NULL;
    }
    if (cache == NULL) {
        tls->pools[number] = cache = cache_create(arenas);
        if (cache != NULL) {
            berth__store_release(&cache->busy, false);
        }
        register_exit(tls);
        if (cache != NULL) {
            pay_once(cache);
        }
    }
    if (tls->scope != 0 && tls->scope == number && tls->cache != cache) {
        serve_malloc(tls, cache);
    }
    return cache;
}

struct berth__cache *berth__cache_get(struct berth__arenas *arenas) {
    struct berth__tls *tls = &berth__tls;
    if (BERTH_UNLIKELY(tls->ended)) {
        return NULL;
    }
    bool alone = arenas->number == 0 && tls->scope == 0;
    return alone ? default_cache(tls, arenas) : pool_cache(tls, arenas);
}

struct berth__cache *berth__cache_peek(struct berth__arenas *arenas) {
    struct berth__tls *tls = &berth__tls;
    if (arenas->number == 0 && tls->scope == 0) {
        return tls->cache == &berth__no_cache ? NULL : tls->cache;
    }
    struct berth__cache *cache =
        arenas->number < tls->pool_slots ? tls->pools[arenas->number] : NULL;
    return cache != NULL && berth__load_relaxed(&cache->serial) == arenas->serial ? cache : NULL;
}

/* ---- scopes ---- */

/* Nothing is parked then, and the table is there. The order is for a signal handler that comes in
 * between: whatever it allocates is of one pool or of the other. */
static void switch_to(struct berth__tls *tls, uint16_t scope) {
    if (tls->scope == 0) {
        tls->pools[0] = tls->cache == &berth__no_cache ? NULL : tls->cache;
    }
    tls->scope = scope;
    serve_malloc(tls, tls->pools[scope]);
    if (scope == 0) {
        tls->pools[0] = NULL;
    }
}

int berth__scope_push(struct berth__arenas *arenas) {
    struct berth__tls *tls = &berth__tls;
    if (tls->ended) {
        return -ENOMEM; /* it has no caches any more */
    }
    unpark_default(tls);
    unpark_pools(tls);
    if (arenas->number >= tls->pool_slots && !grow_table(tls, arenas->number)) {
        return -ENOMEM;
    }
    struct berth__cache_table *table = table_of(tls->pools);
    if (table->depth == BERTH_SCOPES_MAX) {
        return -EOVERFLOW;
    }
    register_exit(tls);
    table->outer[table->depth++] = tls->scope;
    switch_to(tls, (uint16_t)arenas->number);
    return 0;
}

bool berth__scope_pop(void) {
    struct berth__tls *tls = &berth__tls;
    if (tls->scope == 0) {
        return false;
    }
    unpark_pools(tls);
    struct berth__cache_table *table = table_of(tls->pools);
    switch_to(tls, table->outer[--table->depth]);
    return true;
}

static void close_scopes(struct berth__tls *tls) {
    if (tls->scope != 0) {
        table_of(tls->pools)->depth = 0;
        switch_to(tls, 0);
    }
}

/* Its scopes stay open. */
void berth__threads_forget_own(void) {
    struct berth__tls *tls = &berth__tls;
    serve_malloc(tls, NULL);
    tls->parked = NULL;
    if (tls->parked_pools != NULL) {
        tls->pools = tls->parked_pools;
        tls->pool_slots = table_of(tls->pools)->slots;
        tls->parked_pools = NULL;
    }
    for (uint32_t i = 0; i < tls->pool_slots; i++) {
        tls->pools[i] = NULL;
    }
}

/* ---- the end ---- */

static void end_thread(struct berth__tls *tls) {
    tls->ended = true;
    unpark_default(tls);
    unpark_pools(tls);
    close_scopes(tls);
    struct berth__cache *cache = tls->cache;
    serve_malloc(tls, NULL);
    if (cache != &berth__no_cache) {
        berth__vacant_leave(cache);
    }
    for (uint32_t i = 0; i < tls->pool_slots; i++) {
        if (tls->pools[i] != NULL) {
            end_pool_cache(tls->pools[i], i);
        }
    }
    if (tls->pools != NULL) {
        berth__meta_free(table_of(tls->pools), table_bytes(tls->pool_slots));
        tls->pools = NULL;
        tls->pool_slots = 0;
    }
}

static void at_thread_exit(void *tls) {
    end_thread(tls);
}

void berth__threads_init(void) {
    exit_key_made = pthread_key_create(&exit_key, at_thread_exit) == 0;
}

void berth__caches_disown(struct berth__arenas *arenas) {
    berth__lock_acquire(&arenas->lock);
    while (!berth__list_empty(&arenas->caches)) {
        struct berth__list *link = arenas->caches.next;
        struct berth__cache *cache = BERTH_LIST_ENTRY(link, struct berth__cache, link);
        berth__list_remove(link);
        bool vacant = cache->owner == 0;
        if (vacant) {
            berth__vacant_take_off_locked(arenas, cache);
            berth__cache_unsettle(cache);
        }
        berth__cache_abandon(cache);
        if (vacant) {
            berth__meta_free(cache, BERTH_CACHE_BYTES);
        } else {
            berth__sub_relaxed(&arenas->thread_count, 1);
        }
    }
    berth__lock_release(&arenas->lock);
}
