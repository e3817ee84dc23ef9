#include "pool/ended.h"

#include "base/check.h"
#include "chunk/meta.h"

#include <string.h>

const struct berth__arenas berth__ended_arenas = {.number = BERTH_POOLS_MAX};

/* From the one that ended first on. */
static berth_pool *first, *last;
static unsigned count;

void berth__pool_has_ended(const berth_pool *pool) {
    berth__fatal("use of a pool that was destroyed: %p, whose name was \"%s\"", (const void *)pool,
                 pool->name);
}

berth_pool *berth__ended_reuse(void) {
    if (count <= BERTH_ENDED_KEPT) {
        return berth__meta_alloc(sizeof(berth_pool));
    }
    berth_pool *pool = first;
    first = pool->ended_next;
    count--;
    return memset(pool, 0, sizeof(*pool));
}

void berth__ended_keep(berth_pool *pool) {
    berth__store_relaxed(&pool->arenas, (struct berth__arenas *)(uintptr_t)&berth__ended_arenas);
    pool->ended_next = NULL;
    *(count == 0 ? &first : &last->ended_next) = pool;
    last = pool;
    count++;
}
