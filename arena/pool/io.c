/*
 * What rings and senders ask of a pool: its chunks, and how much may be in flight.
 */
#include "pool/api.h"
#include "pool/pool.h"

#include "heap/io.h"

#include <errno.h>

/* NULL: its chunks are nobody's to register. */
static struct berth__arenas *io_arenas(const berth_pool *pool) {
    struct berth__arenas *arenas = berth__pool_arenas(pool);
    return arenas->policy.io && !berth__io_is_inherited(arenas) ? arenas : NULL;
}

uint64_t berth__do_pool_io_changes(berth_pool *pool) {
    struct berth__arenas *arenas = io_arenas(pool);
    return arenas == NULL ? 0 : berth__load_acquire(&arenas->io_changes);
}

size_t berth__do_pool_io_list(berth_pool *pool, struct berth__io_chunk *chunks, size_t capacity) {
    struct berth__arenas *arenas = io_arenas(pool);
    return arenas == NULL ? 0 : berth__io_list(arenas, chunks, capacity);
}

int berth__do_pool_io_hold(berth_pool *pool, void *at) {
    struct berth__arenas *arenas = io_arenas(pool);
    if (arenas == NULL) {
        return berth__io_is_inherited(berth__pool_arenas(pool)) ? -EOWNERDEAD : -ENOENT;
    }
    return berth__io_hold(arenas, at) ? 0 : -ENOENT;
}

void berth__do_pool_io_let_go(void *at) {
    berth__io_let_go(at);
}

/* What is counted may pass the bound by what other threads count at the same time, but is taken
 * back then: of several that come at once, all may be refused. */
bool berth__do_pool_flight_begin(berth_pool *pool, uint64_t bytes) {
    uint64_t most = pool->options.in_flight;
    if (most == 0) {
        return true;
    }
    if (berth__add_relaxed(&pool->in_flight, bytes) + bytes <= most) {
        return true;
    }
    berth__sub_relaxed(&pool->in_flight, bytes);
    return false;
}

void berth__do_pool_flight_end(berth_pool *pool, uint64_t bytes) {
    if (pool->options.in_flight != 0) {
        berth__sub_relaxed(&pool->in_flight, bytes);
    }
}
