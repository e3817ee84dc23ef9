/*
 * buffers: each thread holds 64 buffers of 16 to 256 KiB and replaces random ones: the reads and
 * writes of a proxy or a file server. Each page of a buffer is written once.
 *
 * Punishes: sizes above the caches that take a lock or a system call each, and memory given back
 * to the kernel only to be faulted in again. Bounds that hold buffers per thread show in the peak.
 */
#include "load.h"

enum { SLOTS = 64 };

struct buffers {
    uint64_t rounds;
    struct mix mix;
};

static void *buffer_new(const struct mix *mix, struct rng *rng) {
    size_t size = mix_draw(mix, rng);
    void *buffer = block_new(size);
    block_stamp(buffer, size);
    return buffer;
}

static void buffers_worker(struct worker *worker) {
    const struct buffers *buffers = worker->shared;
    void *slots[SLOTS];
    for (unsigned i = 0; i < SLOTS; i++)
        slots[i] = buffer_new(&buffers->mix, &worker->rng);
    for (uint64_t i = 0; i < buffers->rounds; i++) {
        void **slot = &slots[rng_below(&worker->rng, SLOTS)];
        block_check(*slot);
        free(*slot);
        *slot = buffer_new(&buffers->mix, &worker->rng);
    }
    for (unsigned i = 0; i < SLOTS; i++)
        free(slots[i]);
}

void buffers_run(const struct load_args *args) {
    static const struct band bands[] = {{1, 16384, 262144}};
    struct buffers *buffers = load_map(sizeof *buffers);
    mix_fill(&buffers->mix, bands, 1);
    buffers->rounds = load_work(args, 1500000);
    meter_operations((SLOTS + buffers->rounds) * args->threads);
    workers_run(args->threads, buffers_worker, buffers);
}
