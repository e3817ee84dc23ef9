/*
 * zeroed: calloc. A window of 256 blocks of 64 bytes to 1 MiB, most of them small, replaced at
 * random; the first and last byte must read as zero and are then overwritten.
 *
 * Punishes: writing zeros over pages that the kernel has just zeroed, and the opposite, returning
 * pages only to get zeroed ones back. It fails at once where a block is not zeroed.
 */
#include "load.h"

enum { SLOTS = 256 };

struct zeroed {
    uint64_t rounds;
    struct mix mix;
};

static void *zeroed_new(const struct mix *mix, struct rng *rng) {
    size_t size = mix_draw(mix, rng);
    volatile char *block = calloc(1, size);
    if (!block)
        load_fail("calloc returned NULL");
    if (block[0] || block[size - 1])
        load_fail("calloc returned a block that is not zero");
    block[0] = block[size - 1] = 1;
    return (void *)block;
}

static void zeroed_worker(struct worker *worker) {
    const struct zeroed *zeroed = worker->shared;
    void *slots[SLOTS] = {0};
    for (uint64_t i = 0; i < zeroed->rounds; i++) {
        void **slot = &slots[rng_below(&worker->rng, SLOTS)];
        free(*slot);
        *slot = zeroed_new(&zeroed->mix, &worker->rng);
    }
    for (unsigned i = 0; i < SLOTS; i++)
        free(slots[i]);
}

void zeroed_run(const struct load_args *args) {
    static const struct band bands[] = {{70, 64, 1024}, {25, 1025, 32768}, {5, 32769, 1048576}};
    struct zeroed *zeroed = load_map(sizeof *zeroed);
    mix_fill(&zeroed->mix, bands, 3);
    zeroed->rounds = load_work(args, 400000);
    meter_operations(zeroed->rounds * args->threads);
    workers_run(args->threads, zeroed_worker, zeroed);
}
