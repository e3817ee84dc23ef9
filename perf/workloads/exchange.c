/*
 * exchange: producers allocate, consumers free, P to C threads of them: the idea of xmalloc-test
 * and of every pipeline. Batches of 256 blocks of 16 to 512 bytes pass through one bounded queue.
 *
 * Punishes: frees that go to the freeing thread's cache and pile up there, central lists under one
 * lock, owners that never collect what others freed for them (the memory grows).
 *
 * The queue is not what is measured: a batch costs one lock for 256 blocks, and who must sleep is
 * woken only when the queue is half full or half empty, so that there is one sleep per many
 * batches. At most QUEUE_MAX batches, about 4 MB, are under way.
 */
#include "load.h"

#include <pthread.h>
#include <string.h>

enum { BATCH = 256, QUEUE_MAX = 64, QUEUE_HALF = QUEUE_MAX / 2 };

struct batch {
    void *blocks[BATCH];
};

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t filled;  /* half full, or closed */
    pthread_cond_t emptied; /* half empty */
    unsigned first;
    unsigned count;
    unsigned producers; /* that still produce; 0: closed */
    struct batch batches[QUEUE_MAX];
};

struct exchange {
    unsigned producers;
    unsigned consumers;
    uint64_t batches; /* of one producer */
    struct mix mix;
    struct queue queue;
};

static void queue_put(struct queue *queue, const struct batch *batch) {
    pthread_mutex_lock(&queue->lock);
    if (queue->count == QUEUE_MAX)
        while (queue->count > QUEUE_HALF)
            pthread_cond_wait(&queue->emptied, &queue->lock);
    queue->batches[(queue->first + queue->count++) % QUEUE_MAX] = *batch;
    if (queue->count == QUEUE_HALF)
        pthread_cond_broadcast(&queue->filled);
    pthread_mutex_unlock(&queue->lock);
}

/* False when the queue is empty and closed. */
static bool queue_take(struct queue *queue, struct batch *batch) {
    pthread_mutex_lock(&queue->lock);
    if (queue->count == 0)
        while (queue->count < QUEUE_HALF && queue->producers)
            pthread_cond_wait(&queue->filled, &queue->lock);
    bool any = queue->count > 0;
    if (any) {
        *batch = queue->batches[queue->first];
        queue->first = (queue->first + 1) % QUEUE_MAX;
        if (--queue->count == QUEUE_HALF)
            pthread_cond_broadcast(&queue->emptied);
    }
    pthread_mutex_unlock(&queue->lock);
    return any;
}

static void queue_close(struct queue *queue) {
    pthread_mutex_lock(&queue->lock);
    queue->producers--;
    pthread_cond_broadcast(&queue->filled);
    pthread_mutex_unlock(&queue->lock);
}

static void produce(struct exchange *exchange, struct rng *rng) {
    struct batch batch;
    for (uint64_t i = 0; i < exchange->batches; i++) {
        for (unsigned k = 0; k < BATCH; k++) {
            size_t size = mix_draw(&exchange->mix, rng);
            batch.blocks[k] = block_new(size);
            block_stamp(batch.blocks[k], size);
        }
        queue_put(&exchange->queue, &batch);
    }
    queue_close(&exchange->queue);
}

static void consume(struct exchange *exchange) {
    struct batch batch;
    while (queue_take(&exchange->queue, &batch))
        for (unsigned k = 0; k < BATCH; k++) {
            block_check(batch.blocks[k]);
            free(batch.blocks[k]);
        }
}

static void exchange_worker(struct worker *worker) {
    struct exchange *exchange = worker->shared;
    if (worker->index < exchange->producers)
        produce(exchange, &worker->rng);
    else
        consume(exchange);
}

void exchange_run(const struct load_args *args) {
    static const struct band bands[] = {{1, 16, 512}};
    struct exchange *exchange = load_map(sizeof *exchange);
    mix_fill(&exchange->mix, bands, 1);
    exchange->producers = args->producers;
    exchange->consumers = args->consumers;
    exchange->batches = load_work(args, 80000) / args->producers + 1;
    exchange->queue.producers = args->producers;
    pthread_mutex_init(&exchange->queue.lock, NULL);
    pthread_cond_init(&exchange->queue.filled, NULL);
    pthread_cond_init(&exchange->queue.emptied, NULL);
    meter_operations(exchange->batches * args->producers * BATCH);
    workers_run(args->producers + args->consumers, exchange_worker, exchange);
}
