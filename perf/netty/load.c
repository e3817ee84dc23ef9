/*
 * berth's side of perf/netty.py: what NettyLoad.java does, with reference-counted slices or with
 * plain blocks of a pool. Prints processor time per operation and what the pool has mapped.
 *
 *   netty_load slices|blocks pair SIZE THREADS OPERATIONS
 *   netty_load slices|blocks live SLOTS THREADS OPERATIONS <SIZES
 */
#include <berth/berth.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SIZES_MAX = 1 << 20, THREADS_MAX = 64 };

static berth_pool *pool;
static bool with_slices, is_pair;
static uint32_t number; /* bytes, or slots */
static uint64_t operations;
static uint32_t sizes[SIZES_MAX];
static uint32_t size_count;

struct worker {
    pthread_t thread;
    uint64_t state;
    uint64_t live_bytes;
    double ns; /* per operation */
};

/* A buffer of either kind: a block has no owner. */
static void buffer_new(struct berth_slice *buffer, uint32_t size) {
    if (with_slices)
        (void)berth_slice_alloc(pool, size, buffer);
    else
        buffer->data = berth_alloc(pool, size);
    if (buffer->data == NULL) {
        fputs("netty_load: no memory\n", stderr);
        exit(1);
    }
    *(volatile char *)(uintptr_t)buffer->data = 1;
}

static void buffer_end(struct berth_slice *buffer) {
    if (with_slices)
        berth_slice_release(buffer);
    else
        berth_pool_free(pool, (void *)(uintptr_t)buffer->data);
}

static uint32_t below(struct worker *worker, uint32_t bound) {
    worker->state = worker->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((worker->state >> 33) * bound >> 31);
}

static void pairs(uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        struct berth_slice buffer;
        buffer_new(&buffer, number);
        buffer_end(&buffer);
    }
}

static uint32_t draw(struct worker *worker, struct berth_slice *buffer) {
    uint32_t size = sizes[below(worker, size_count)];
    buffer_new(buffer, size);
    worker->live_bytes += size;
    return size;
}

struct slot {
    struct berth_slice buffer;
    uint32_t size;
};

static void replacements(struct worker *worker, struct slot *slots, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        struct slot *slot = &slots[below(worker, number)];
        worker->live_bytes -= slot->size;
        buffer_end(&slot->buffer);
        slot->size = draw(worker, &slot->buffer);
    }
}

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void *work(void *argument) {
    struct worker *worker = argument;
    struct slot *slots = NULL;
    if (!is_pair) {
        slots = calloc(number, sizeof *slots);
        for (uint32_t i = 0; slots != NULL && i < number; i++)
            slots[i].size = draw(worker, &slots[i].buffer);
    }
    for (unsigned round = 0; round < 2; round++) { /* the first one warms up, as the other side's */
        uint64_t count = round == 0 ? operations / 2 : operations;
        double start = now_ns();
        if (is_pair)
            pairs(count);
        else
            replacements(worker, slots, count);
        worker->ns = (now_ns() - start) / (double)count;
    }
    return NULL; /* the slots stay: what the pool uses is read while they live */
}

static void read_sizes(void) {
    while (size_count < SIZES_MAX && scanf("%" SCNu32, &sizes[size_count]) == 1)
        size_count++;
}

int main(int count, char **arguments) {
    static struct worker workers[THREADS_MAX];
    if (count != 6) {
        fputs("usage: netty_load slices|blocks pair|live NUMBER THREADS OPERATIONS\n", stderr);
        return 2;
    }
    with_slices = strcmp(arguments[1], "slices") == 0;
    is_pair = strcmp(arguments[2], "pair") == 0;
    number = (uint32_t)strtoul(arguments[3], NULL, 10);
    unsigned threads = (unsigned)strtoul(arguments[4], NULL, 10) % (THREADS_MAX + 1);
    operations = strtoull(arguments[5], NULL, 10);
    pool = berth_pool_create("buffers", NULL);
    if (!is_pair)
        read_sizes();
    for (unsigned i = 0; i < threads; i++) {
        workers[i].state = i + 1;
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    double ns = 0;
    uint64_t live = 0;
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        ns += workers[i].ns / threads;
        live += workers[i].live_bytes;
    }
    struct berth_pool_metrics metrics;
    berth_metrics_read_pool(pool, &metrics, sizeof metrics);
    printf("{\"ns\": %.2f, \"used\": %" PRIu64 ", \"live\": %" PRIu64 "}\n", ns,
           metrics.chunk_bytes + metrics.huge_bytes, live);
    return 0;
}
