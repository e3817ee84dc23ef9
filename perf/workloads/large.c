/*
 * large: 20 blocks of 5 to 25 MB, of which a random one is replaced each time, the idea of
 * malloc-large in mimalloc's suite. Each page is written.
 *
 * Punishes: large blocks that are unmapped at free and mapped again at malloc: each page is faulted
 * in and zeroed by the kernel every time. The opposite, keeping all of them, shows in the peak.
 */
#include "load.h"

enum { SLOTS = 20 };

static void *large_new(struct rng *rng) {
    size_t size = 5000000 + (size_t)rng_below(rng, 20000000);
    void *block = block_new(size);
    block_stamp(block, size);
    return block;
}

static void large_worker(struct worker *worker) {
    const uint64_t *rounds = worker->shared;
    void *slots[SLOTS] = {0};
    for (uint64_t i = 0; i < *rounds; i++) {
        void **slot = &slots[rng_below(&worker->rng, SLOTS)];
        free(*slot);
        *slot = large_new(&worker->rng);
    }
    for (unsigned i = 0; i < SLOTS; i++)
        free(slots[i]);
}

void large_run(const struct load_args *args) {
    uint64_t rounds = load_work(args, 300);
    meter_operations(rounds * args->threads);
    workers_run(args->threads, large_worker, &rounds);
}
