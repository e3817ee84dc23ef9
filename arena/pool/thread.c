/*
 * The public calls about the calling thread, and trimming.
 */
#include "heap/observer.h"
#include "pool/api.h"
#include "pool/event.h"
#include "pool/maintenance.h"
#include "pool/pool.h"

void berth__do_thread_idle(void) {
    berth__maintenance_start();
    berth__events_look();
    berth__cache_park();
    (void)berth__tick(false);
}

void berth__do_thread_flush(void) {
    berth__caches_flush_own();
}

size_t berth__do_trim(berth_pool *pool) {
    berth__maintenance_start();
    size_t returned = pool != NULL ? berth__reclaim_all(berth__pool_arenas(pool)) : 0;
    struct berth__arenas *arenas = NULL;
    while (pool == NULL && (arenas = berth__engine_next(arenas)) != NULL) {
        returned += berth__reclaim_all(arenas);
    }
    (void)berth__tick(false);
    berth__events_look();
    return returned;
}
