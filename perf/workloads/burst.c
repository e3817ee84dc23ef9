/*
 * burst: allocate `count` blocks, then free them all, over and over, as a request does that builds
 * its objects and drops them at its end. By turns in the order of allocation and in reverse. Bursts
 * of 100 are glibc's bench-malloc-simple; bursts of 10,000 overflow every thread cache.
 *
 * Punishes: caches that hold fewer blocks than a burst and pay a lock or a slab visit per block
 * beyond; slabs that are given back when empty and fetched again in the next round.
 */
#include "load.h"

struct burst {
    uint64_t rounds;
    unsigned count;
    struct mix mix;
};

static void burst_round(void **blocks, const struct burst *burst, struct rng *rng, bool reverse) {
    for (unsigned i = 0; i < burst->count; i++) {
        blocks[i] = block_new(mix_draw(&burst->mix, rng));
        *(volatile char *)blocks[i] = 1;
    }
    for (unsigned i = 0; i < burst->count; i++)
        free(blocks[reverse ? burst->count - 1 - i : i]);
}

static void burst_worker(struct worker *worker) {
    const struct burst *burst = worker->shared;
    void **blocks = load_map(burst->count * sizeof *blocks);
    for (uint64_t i = 0; i < burst->rounds; i++)
        burst_round(blocks, burst, &worker->rng, i & 1);
}

void burst_run(const struct load_args *args) {
    static const struct band mixed[] = {{1, 16, 512}};
    const struct band single[] = {{1, args->size, args->size}};
    struct burst *burst = load_map(sizeof *burst);
    burst->count = args->count ? args->count : 100;
    burst->rounds = load_work(args, 100000000 / burst->count);
    mix_fill(&burst->mix, args->size ? single : mixed, 1);
    meter_operations(burst->rounds * burst->count * args->threads);
    workers_run(args->threads, burst_worker, burst);
}
