/* read THREADS COUNT: reads the figures of the process and of a pool COUNT times, while there are
 * as many threads, each with a heap of its own; `run` subtracts runs from each other. */
#include <berth/berth.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS_MAX = 1000, BLOCKS = 300, ROUNDS = 30, STACK_BYTES = 64 << 10 };

static pthread_barrier_t ready, done;

/* Enough refills to earn a heap. */
static void *work(void *unused) {
    void *blocks[BLOCKS];
    for (unsigned round = 0; round < ROUNDS; round++) {
        if (berth_alloc_batch(berth_pool_default(), 2000, BLOCKS, blocks) != BLOCKS) {
            exit(1);
        }
        berth_free_batch(blocks, BLOCKS);
    }
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&done);
    return unused;
}

int main(int argc, char **argv) {
    pthread_t threads[THREADS_MAX];
    pthread_attr_t attributes;
    unsigned count = argc == 3 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    if (count == 0 || count > THREADS_MAX) {
        fprintf(stderr, "usage: read THREADS COUNT\n");
        return 2;
    }
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_barrier_init(&ready, NULL, count + 1);
    pthread_barrier_init(&done, NULL, count + 1);
    for (unsigned i = 0; i < count; i++) {
        if (pthread_create(&threads[i], &attributes, work, NULL) != 0) {
            return 1;
        }
    }
    pthread_barrier_wait(&ready);
    struct berth_process_metrics process;
    struct berth_pool_metrics pool = {0};
    for (long i = strtol(argv[2], NULL, 10); i > 0; i--) {
        if (berth_metrics_read(&process, sizeof(process)) != 0 ||
            berth_metrics_read_pool(berth_pool_default(), &pool, sizeof(pool)) != 0) {
            return 1;
        }
    }
    printf("%lu heaps\n", (unsigned long)pool.heaps);
    pthread_barrier_wait(&done);
    for (unsigned i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
    return 0;
}
