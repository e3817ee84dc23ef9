/*
 * pair: malloc and free by turns, of one size or of random ones. The oldest of all loops
 * (malloc-test, the inner loop of many papers).
 *
 * Punishes: any instruction too many on the fast paths. With one size the same block comes back
 * each time; with random sizes the class look-up cannot be predicted, and a counter that malloc and
 * free both update makes each wait for the other's store.
 */
#include "load.h"

struct pair {
    uint64_t rounds;
    size_t size; /* 0: the mix */
    struct mix mix;
};

static void pair_one(uint64_t rounds, size_t size) {
    for (uint64_t i = 0; i < rounds; i++) {
        char *block = block_new(size);
        *(volatile char *)block = 1;
        free(block);
    }
}

static void pair_mixed(uint64_t rounds, const struct mix *mix, struct rng *rng) {
    for (uint64_t i = 0; i < rounds; i++) {
        char *block = block_new(mix_draw(mix, rng));
        *(volatile char *)block = 1;
        free(block);
    }
}

static void pair_worker(struct worker *worker) {
    struct pair *pair = worker->shared;
    if (pair->size)
        pair_one(pair->rounds, pair->size);
    else
        pair_mixed(pair->rounds, &pair->mix, &worker->rng);
}

void pair_run(const struct load_args *args) {
    static const struct band bands[] = {{1, 16, 1024}};
    struct pair *pair = load_map(sizeof *pair);
    pair->rounds = load_work(args, 100000000);
    pair->size = args->size;
    mix_fill(&pair->mix, bands, 1);
    meter_operations(pair->rounds * args->threads);
    workers_run(args->threads, pair_worker, pair);
}
