/*
 * The public calls about the calling thread, and trimming.
 */
#include "pool/api.h"
#include "pool/maintenance.h"
#include "pool/pool.h"

void berth__do_thread_idle(void) {
    berth__maintenance_start();
    berth__cache_park();
}

void berth__do_thread_flush(void) {
    berth__cache_unpark();
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        struct berth__arenas *arenas = berth__engine_arenas(i);
        struct berth__cache *cache = arenas == NULL ? NULL : berth__cache_peek(arenas);
        if (cache != NULL) {
            berth__cache_flush(cache, true);
        }
    }
}

size_t berth__do_trim(berth_pool *pool) {
    berth__maintenance_start();
    if (pool != NULL) {
        return berth__reclaim_all(berth__pool_arenas(pool));
    }
    size_t returned = 0;
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        struct berth__arenas *arenas = berth__engine_arenas(i);
        returned += arenas == NULL ? 0 : berth__reclaim_all(arenas);
    }
    return returned;
}
