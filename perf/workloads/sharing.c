/*
 * sharing: false sharing, the two loops of Hoard's paper. Active: threads allocate small objects of
 * their own at the same time and write them often (cache-thrash). Passive: one thread allocates
 * neighbours and hands one to each; they free it and go on with what malloc gives them then
 * (cache-scratch).
 *
 * Punishes: an allocator that gives pieces of one cache line to several threads: active, by
 * cutting slabs for all threads at once; passive, by putting a freed block into the freer's cache.
 */
#include "load.h"

enum { OBJECT = 8, WRITES = 1000 };

struct sharing {
    uint64_t rounds;
    void **given; /* by worker; NULL: none */
};

static void write_often(void *object) {
    volatile uint64_t *word = object;
    for (unsigned i = 0; i < WRITES; i++)
        *word = *word + 1;
}

static void sharing_worker(struct worker *worker) {
    const struct sharing *sharing = worker->shared;
    if (sharing->given) {
        write_often(sharing->given[worker->index]);
        free(sharing->given[worker->index]);
    }
    for (uint64_t i = 0; i < sharing->rounds; i++) {
        void *object = block_new(OBJECT);
        write_often(object);
        free(object);
    }
}

void sharing_active_run(const struct load_args *args) {
    struct sharing sharing = {load_work(args, 300000), NULL};
    meter_operations(sharing.rounds * args->threads);
    workers_run(args->threads, sharing_worker, &sharing);
}

void sharing_passive_run(const struct load_args *args) {
    struct sharing sharing = {load_work(args, 300000), NULL};
    sharing.given = load_map(args->threads * sizeof *sharing.given);
    for (unsigned i = 0; i < args->threads; i++)
        sharing.given[i] = block_new(OBJECT);
    meter_operations(sharing.rounds * args->threads);
    workers_run(args->threads, sharing_worker, &sharing);
}
