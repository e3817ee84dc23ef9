/*
 * server: what a network server's threads do together. Each holds 2000 blocks of 16 bytes to
 * 192 KiB, by count 60 % up to 512 bytes, 25 % up to 4 KiB, 11 % up to 32 KiB, 4 % up to 192 KiB,
 * and replaces random ones; a quarter of the frees are of blocks that another thread allocated.
 * The idea is that of rptest and of mstress. Each page of a block is written, and a block is read
 * before it is freed.
 *
 * Punishes: remote frees through locks, large sizes that go to the kernel each time, page faults
 * on memory that was given back too early, memory that stays where it was freed.
 */
#include "load.h"

#include <stdatomic.h>

enum { SLOTS = 2000, POSTS = 256 };

/* A place where threads leave blocks for each other: an exchange takes what lies there. */
struct post {
    _Alignas(CACHE_LINE) _Atomic(void *) block;
};

struct server {
    uint64_t rounds;
    uint32_t exchange_below; /* of 2^32: how often a block is exchanged before it is freed */
    struct mix mix;
    struct post posts[POSTS];
};

static void *server_block(struct server *server, struct rng *rng) {
    size_t size = mix_draw(&server->mix, rng);
    void *block = block_new(size);
    block_stamp(block, size);
    return block;
}

static void server_free(void *block) {
    if (!block)
        return;
    block_check(block);
    free(block);
}

/* The block to free in place of this one: its own, or what someone left. */
static void *server_exchange(struct server *server, void *block, struct rng *rng) {
    if (rng_next(rng) >= server->exchange_below)
        return block;
    return atomic_exchange(&server->posts[rng_below(rng, POSTS)].block, block);
}

static void server_worker(struct worker *worker) {
    struct server *server = worker->shared;
    void **slots = load_map(SLOTS * sizeof *slots);
    for (unsigned i = 0; i < SLOTS; i++)
        slots[i] = server_block(server, &worker->rng);
    for (uint64_t i = 0; i < server->rounds; i++) {
        void **slot = &slots[rng_below(&worker->rng, SLOTS)];
        server_free(server_exchange(server, *slot, &worker->rng));
        *slot = server_block(server, &worker->rng);
    }
    for (unsigned i = 0; i < SLOTS; i++)
        server_free(slots[i]);
}

void server_run(const struct load_args *args) {
    static const struct band bands[] = {
        {60, 16, 512}, {25, 513, 4096}, {11, 4097, 32768}, {4, 32769, 196608}};
    struct server *server = load_map(sizeof *server);
    mix_fill(&server->mix, bands, 4);
    server->rounds = load_work(args, 6000000);
    /* Of the blocks found in an exchange, (n - 1) / n are another thread's: a quarter of all frees
       is remote when n / (n - 1) / 4 of them exchange. */
    if (args->threads > 1)
        server->exchange_below = (uint32_t)(4294967295.0 / 4 * args->threads / (args->threads - 1));
    meter_operations((SLOTS + server->rounds) * args->threads);
    workers_run(args->threads, server_worker, server);
    for (unsigned i = 0; i < POSTS; i++)
        server_free(atomic_load(&server->posts[i].block));
}
