/*
 * idle: many threads (3000) touch and free a block of each of 20 sizes from 16 bytes to 104 KiB
 * once, one after the other, then sleep. What a server with a thread per connection looks like at
 * night.
 *
 * Punishes: whatever an allocator keeps for each thread: caches, heaps, slabs of its own. The
 * figure is the growth of resident memory over the same threads before they allocated anything,
 * at once and a second later.
 */
#include "load.h"

#include <pthread.h>

enum { SIZES = 20, THREADS_DEFAULT = 3000, STACK = 128 * 1024 };

/* From 16 bytes to 104 KiB in equal ratios of about 1.59. */
static const uint32_t sizes[SIZES] = {16,    25,    40,    64,    101,   160,   255,
                                      405,   644,   1023,  1625,  2582,  4102,  6517,
                                      10353, 16448, 26130, 41512, 65948, 106496};

/* All threads pass the gate's phases together; the main thread opens them. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_cond_t arrived;
    unsigned phase;
    unsigned waiting;
};

static void gate_pass(struct gate *gate, unsigned phase) {
    pthread_mutex_lock(&gate->lock);
    gate->waiting++;
    pthread_cond_signal(&gate->arrived);
    while (gate->phase <= phase)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

static void gate_await(struct gate *gate, unsigned count) {
    pthread_mutex_lock(&gate->lock);
    while (gate->waiting < count)
        pthread_cond_wait(&gate->arrived, &gate->lock);
    gate->waiting = 0;
    pthread_mutex_unlock(&gate->lock);
}

static void gate_open(struct gate *gate) {
    pthread_mutex_lock(&gate->lock);
    gate->phase++;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

static void *idle_main(void *argument) {
    struct gate *gate = argument;
    gate_pass(gate, 0);
    for (unsigned i = 0; i < SIZES; i++) {
        void *block = block_new(sizes[i]);
        block_touch(block, sizes[i]);
        free(block);
    }
    gate_pass(gate, 1);
    return NULL;
}

static void threads_start(pthread_t *threads, unsigned count, struct gate *gate) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    for (unsigned i = 0; i < count; i++)
        if (pthread_create(&threads[i], &attributes, idle_main, gate))
            load_fail("pthread_create failed: the machine allows fewer threads");
    pthread_attr_destroy(&attributes);
}

void idle_run(const struct load_args *args) {
    unsigned count = args->count ? args->count : THREADS_DEFAULT;
    pthread_t *threads = load_map(count * sizeof *threads);
    struct gate *gate = load_map(sizeof *gate);
    pthread_mutex_init(&gate->lock, NULL);
    pthread_cond_init(&gate->changed, NULL);
    pthread_cond_init(&gate->arrived, NULL);
    threads_start(threads, count, gate);
    gate_await(gate, count);
    double before_kib = (double)meter_resident_kib();
    meter_operations((uint64_t)count * SIZES);
    meter_begin();
    gate_open(gate);
    gate_await(gate, count);
    meter_end();
    double growth_kib = (double)meter_resident_kib() - before_kib;
    clock_sleep_ms(1000);
    double later_kib = (double)meter_resident_kib() - before_kib;
    gate_open(gate);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    meter_note("growth_kib", growth_kib);
    meter_note("growth_after_1s_kib", later_kib);
    meter_note("growth_per_thread_kib", growth_kib / count);
}
