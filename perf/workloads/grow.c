/*
 * grow: realloc. Buffers that grow by half from 64 bytes to at most 4 MiB, many at a time, with
 * small allocations between them, as strings and vectors do that are built piece by piece.
 *
 * Punishes: realloc that always copies, even where the block's class or the pages behind it would
 * do, or where the kernel could move the pages.
 */
#include "load.h"

enum { SLOTS = 64 };

struct grown {
    char *block;
    size_t size;
    size_t limit;
};

/* Limits in equal proportions per doubling: most buffers stay small. */
static struct grown grown_new(struct rng *rng) {
    struct grown grown = {block_new(64), 64, (size_t)64 << rng_below(rng, 17)};
    block_stamp(grown.block, grown.size);
    return grown;
}

static void grown_step(struct grown *grown, struct rng *rng) {
    if (grown->size >= grown->limit) {
        free(grown->block);
        *grown = grown_new(rng);
        return;
    }
    size_t before = grown->size;
    grown->size += before / 2;
    grown->block = realloc(grown->block, grown->size);
    if (!grown->block)
        load_fail("realloc returned NULL");
    block_touch(grown->block + before, grown->size - before);
}

static void grow_worker(struct worker *worker) {
    const uint64_t *rounds = worker->shared;
    struct grown all[SLOTS];
    for (unsigned i = 0; i < SLOTS; i++)
        all[i] = grown_new(&worker->rng);
    for (uint64_t i = 0; i < *rounds; i++)
        grown_step(&all[rng_below(&worker->rng, SLOTS)], &worker->rng);
    for (unsigned i = 0; i < SLOTS; i++)
        free(all[i].block);
}

void grow_run(const struct load_args *args) {
    uint64_t rounds = load_work(args, 250000);
    meter_operations(rounds * args->threads);
    workers_run(args->threads, grow_worker, &rounds);
}
