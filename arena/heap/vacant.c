#include "heap/vacant.h"

#include "chunk/meta.h"
#include "chunk/wait.h"
#include "heap/bins.h"
#include "heap/engine.h"
#include "heap/fork.h"
#include "heap/stash.h"
#include "os/clock.h"
#include "os/fault.h"
#include "os/topology.h"

#include <string.h>

static _Atomic uint32_t total; /* of all pools */

static struct berth__cache *entry_of(struct berth__list *link) {
    return BERTH_LIST_ENTRY(link, struct berth__cache, vacant_link);
}

void berth__vacant_take_off_locked(struct berth__arenas *arenas, struct berth__cache *cache) {
    (void)berth__cache_busy(cache);
    berth__list_remove(&cache->vacant_link);
    berth__sub_relaxed(&arenas->vacant_count, 1);
    berth__sub_relaxed(&total, 1);
    berth__store_relaxed(&cache->state, BERTH_CACHE_ACTIVE);
}

/* The cache has no owner, or the calling thread. */
static void end_cache(struct berth__cache *cache) {
    struct berth__arenas *arenas = cache->arenas;
    berth__cache_flush(cache, true); /* while a fork can find it */
    berth__lock_acquire(&arenas->lock);
    berth__list_remove(&cache->link);
    berth__lock_release(&arenas->lock);
    berth__cache_release_heap(cache);
    berth__meta_free(cache, BERTH_CACHE_BYTES);
}

static bool leave(struct berth__cache *cache) {
    struct berth__arenas *arenas = cache->arenas;
    berth__cache_send_remote(cache);
    berth__remote_strip(cache);
    berth__stash_flush(cache);
    berth__stash_strip(cache);
    berth__cache_settle(cache);
    berth__delay_point();
    berth__lock_acquire(&arenas->lock);
    /* Not listed: a fork in a handler of this thread has let go of it, in the child. */
    bool room = berth__load_relaxed(&arenas->vacant_count) < berth__cpus_allowed &&
                !berth__list_empty(&cache->link);
    if (room) {
        berth__list_push_front(&arenas->vacant, &cache->vacant_link);
        berth__add_relaxed(&arenas->vacant_count, 1);
        berth__add_relaxed(&total, 1);
        cache->vacant_ms = (uint32_t)berth__clock_coarse_ms();
        cache->owner = 0;
        berth__store_relaxed(&cache->state, BERTH_CACHE_PARKED); /* by the lock, for K2 */
        berth__cache_idle(cache, false);
    }
    berth__lock_release(&arenas->lock);
    if (room) {
        berth__wait_note();
    } else {
        berth__cache_unsettle(cache);
    }
    return room;
}

void berth__vacant_leave(struct berth__cache *cache) {
    struct berth__arenas *arenas = cache->arenas;
    berth__sub_relaxed(&arenas->thread_count, 1);
    (void)berth__cache_busy(cache);
    bool useful = cache->owns_heap && !arenas->serves_scopes && !berth__wait_anyone();
    if (!useful || !leave(cache)) {
        end_cache(cache);
    }
}

struct berth__cache *berth__vacant_take(struct berth__arenas *arenas,
                                        const struct berth__arena *near) {
    struct berth__cache *cache = NULL;
    if (berth__load_relaxed(&arenas->vacant_count) == 0) {
        return NULL;
    }
    berth__lock_acquire(&arenas->lock);
    for (struct berth__list *at = arenas->vacant.next; at != &arenas->vacant; at = at->next) {
        if (berth__arena_is_near(near, entry_of(at)->arena) && !berth__fork_must_detour()) {
            cache = entry_of(at);
            berth__vacant_take_off_locked(arenas, cache);
            cache->owner = berth__thread_self();
            break;
        }
    }
    berth__lock_release(&arenas->lock);
    if (cache != NULL) {
        berth__cache_unsettle(cache);
        cache->taken_over = true;
        memset(&cache->stack, 0, sizeof(cache->stack));
        berth__add_relaxed(&arenas->thread_count, 1);
    }
    return cache;
}

/* The oldest, if it is that old. */
static struct berth__cache *take_oldest(struct berth__arenas *arenas, uint32_t ms) {
    struct berth__cache *cache = NULL;
    berth__lock_acquire(&arenas->lock);
    if (!berth__list_empty(&arenas->vacant)) {
        cache = entry_of(arenas->vacant.prev);
        if ((uint32_t)berth__clock_coarse_ms() - cache->vacant_ms >= ms &&
            !berth__fork_must_detour()) {
            berth__vacant_take_off_locked(arenas, cache);
        } else {
            cache = NULL;
        }
    }
    berth__lock_release(&arenas->lock);
    return cache;
}

void berth__vacant_end(struct berth__arenas *arenas, uint32_t ms) {
    struct berth__cache *cache;
    while (berth__load_relaxed(&arenas->vacant_count) > 0 &&
           (cache = take_oldest(arenas, ms)) != NULL) {
        berth__cache_unsettle(cache);
        end_cache(cache);
    }
}

void berth__vacant_end_old(void) {
    struct berth__arenas *arenas = NULL;
    if (berth__load_relaxed(&total) == 0 || berth__engine_visits()) {
        return;
    }
    while (berth__load_relaxed(&total) > 0 && (arenas = berth__engine_next(arenas)) != NULL) {
        berth__vacant_end(arenas, BERTH_VACANT_MS);
    }
    if (arenas != NULL) {
        berth__engine_leave(arenas);
    }
}

void berth__vacant_forget_in_child(struct berth__arenas *arenas) {
    while (!berth__list_empty(&arenas->vacant)) {
        berth__list_remove(arenas->vacant.next);
    }
    berth__store_relaxed(&arenas->vacant_count, 0);
    berth__store_relaxed(&total, 0);
}
