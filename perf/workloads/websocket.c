/*
 * websocket: the buffer sizes of a real websocket proxy, as Netty's benchmarks use them: 375 sizes,
 * mean 2.5 KB, half of them under 640 bytes, a tenth at 16 to 18 KiB, which is 72 % of the bytes.
 * The twenty commonest sizes have their recorded weights; the other 355 share what is left, in
 * equal ratios from 24 to 18432 bytes. Each thread holds 8192 live buffers and replaces random
 * ones.
 *
 * Punishes: classes that waste memory just above 16 KiB (16,639 is 16 KiB and a frame's header),
 * and normal-sized blocks without a cache.
 */
#include "load.h"

#include <math.h>

enum { SLOTS = 8192, COMMON = 20, RARE = 355, RARE_WEIGHT = 10 };

static const struct band common[COMMON] = {
    {29289, 1024, 1024}, {21272, 256, 256},  {10344, 15, 15},   {9269, 16639, 16639},
    {5443, 636, 636},    {2636, 2048, 2048}, {635, 635, 635},   {628, 17, 17},
    {555, 8447, 8447},   {459, 637, 637},    {349, 634, 634},   {338, 36, 36},
    {338, 48, 48},       {316, 9, 9},        {316, 21, 21},     {281, 16862, 16862},
    {254, 633, 633},     {226, 4351, 4351},  {195, 8670, 8670}, {190, 632, 632},
};

struct websocket {
    uint64_t rounds;
    struct mix mix;
};

static void mix_websocket(struct mix *mix) {
    struct band bands[COMMON + RARE];
    for (unsigned i = 0; i < COMMON; i++)
        bands[i] = common[i];
    for (unsigned i = 0; i < RARE; i++) {
        uint32_t size = (uint32_t)(24 * pow(18432.0 / 24, (double)i / (RARE - 1)));
        bands[COMMON + i] = (struct band){RARE_WEIGHT, size, size};
    }
    mix_fill(mix, bands, COMMON + RARE);
}

static void *buffer_new(const struct mix *mix, struct rng *rng) {
    size_t size = mix_draw(mix, rng);
    void *buffer = block_new(size);
    block_stamp(buffer, size);
    return buffer;
}

static void websocket_worker(struct worker *worker) {
    const struct websocket *websocket = worker->shared;
    void **slots = load_map(SLOTS * sizeof *slots);
    for (unsigned i = 0; i < SLOTS; i++)
        slots[i] = buffer_new(&websocket->mix, &worker->rng);
    for (uint64_t i = 0; i < websocket->rounds; i++) {
        void **slot = &slots[rng_below(&worker->rng, SLOTS)];
        block_check(*slot);
        free(*slot);
        *slot = buffer_new(&websocket->mix, &worker->rng);
    }
    for (unsigned i = 0; i < SLOTS; i++)
        free(slots[i]);
}

void websocket_run(const struct load_args *args) {
    struct websocket *websocket = load_map(sizeof *websocket);
    mix_websocket(&websocket->mix);
    websocket->rounds = load_work(args, 12000000);
    meter_operations((SLOTS + websocket->rounds) * args->threads);
    meter_note("mean_bytes", mix_mean(&websocket->mix));
    workers_run(args->threads, websocket_worker, websocket);
}
