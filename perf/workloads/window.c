/*
 * window: a window of live blocks of 16 to 512 bytes, of which a random one is replaced each time;
 * the first word of a new block is written, a freed one is not looked at. With 4096 blocks all is
 * in the second-level cache; with `mib` the window is larger than the last-level cache. The steady
 * state of most long-lived programs; alloc-test and Larson's loop have it at heart.
 *
 * Punishes: in the large window, each extra cache line that malloc or free touches: metadata that
 * the owner writes, counts per slab, a freed block that is read. In the small one, long fast paths.
 */
#include "load.h"

struct window {
    uint64_t rounds;
    unsigned slots;
    struct mix mix;
};

static void *window_block(const struct mix *mix, struct rng *rng) {
    char *block = block_new(mix_draw(mix, rng));
    *(volatile char *)block = 1;
    return block;
}

static void window_worker(struct worker *worker) {
    const struct window *window = worker->shared;
    void **slots = load_map(window->slots * sizeof *slots);
    for (unsigned i = 0; i < window->slots; i++)
        slots[i] = window_block(&window->mix, &worker->rng);
    for (uint64_t i = 0; i < window->rounds; i++) {
        void **slot = &slots[rng_below(&worker->rng, window->slots)];
        free(*slot);
        *slot = window_block(&window->mix, &worker->rng);
    }
    for (unsigned i = 0; i < window->slots; i++)
        free(slots[i]);
}

void window_run(const struct load_args *args) {
    static const struct band bands[] = {{1, 16, 512}};
    struct window *window = load_map(sizeof *window);
    mix_fill(&window->mix, bands, 1);
    double live_bytes = (double)args->mib * 1048576 / args->threads;
    window->slots = args->mib ? (unsigned)(live_bytes / mix_mean(&window->mix)) : 4096;
    window->rounds = load_work(args, args->mib ? 12000000 : 80000000);
    meter_operations((window->slots + window->rounds) * args->threads);
    workers_run(args->threads, window_worker, window);
}
