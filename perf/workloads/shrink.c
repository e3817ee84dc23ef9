/*
 * shrink: a burst, then quiet. Four threads build up 400 MB, by count 78 % of 32 to 543 bytes, 18 %
 * of 1 to 5 KiB, 4 % of 16 to 80 KiB (or of one size), free 95 % of it at random, and go on with
 * light traffic for some seconds. What a server does after a peak.
 *
 * Punishes: memory that stays resident once it is free: pages pinned by a few live blocks, purging
 * that waits for calls that do not come, MADV_FREE that leaves pages resident. The meter covers
 * the burst and the frees; the notes and samples tell what stayed afterwards.
 */
#include "load.h"

#include <pthread.h>

enum { LIVE_MIB_DEFAULT = 400, FREED_PERCENT = 95, SAMPLE_MS = 50, TICK_MS = 10, TICK_BLOCKS = 20 };

struct shrink {
    uint64_t bytes; /* of one thread */
    unsigned seconds;
    struct mix mix;
    pthread_barrier_t reached;
};

/* One thread's blocks; size is kept to tell what is live. */
struct held {
    void *block;
    size_t size;
};

static struct held held_new(const struct mix *mix, struct rng *rng) {
    size_t size = mix_draw(mix, rng);
    struct held held = {block_new(size), size};
    block_stamp(held.block, size);
    return held;
}

static void shuffle(struct held *all, size_t count, struct rng *rng) {
    for (size_t i = count; i > 1; i--) {
        size_t other = rng_below(rng, (uint32_t)i);
        struct held moved = all[i - 1];
        all[i - 1] = all[other];
        all[other] = moved;
    }
}

static void light_traffic(const struct shrink *shrink, struct held *all, size_t count,
                          struct rng *rng) {
    for (unsigned tick = 0; tick < shrink->seconds * 1000 / TICK_MS; tick++) {
        for (unsigned i = 0; i < TICK_BLOCKS; i++) {
            struct held *one = &all[rng_below(rng, (uint32_t)count)];
            block_check(one->block);
            free(one->block);
            *one = held_new(&shrink->mix, rng);
        }
        clock_sleep_ms(TICK_MS);
    }
}

struct thread {
    struct shrink *shrink;
    unsigned index;
    double live_bytes; /* after the frees */
};

static size_t burst(const struct shrink *shrink, struct held *all, size_t max, struct rng *rng) {
    size_t count = 0;
    for (uint64_t bytes = 0; bytes < shrink->bytes && count < max; bytes += all[count++].size)
        all[count] = held_new(&shrink->mix, rng);
    return count;
}

/* Barrier by barrier: burst | shuffle (not measured) | frees | light traffic | end. */
static void *shrink_main(void *argument) {
    struct thread *thread = argument;
    struct shrink *shrink = thread->shrink;
    struct rng rng = rng_seeded(thread->index + 1);
    size_t max = (size_t)((double)shrink->bytes / mix_mean(&shrink->mix) * 1.5) + 1000;
    struct held *all = load_map(max * sizeof *all);
    pthread_barrier_wait(&shrink->reached);
    size_t count = burst(shrink, all, max, &rng);
    pthread_barrier_wait(&shrink->reached);
    shuffle(all, count, &rng);
    size_t kept = count - count * FREED_PERCENT / 100;
    for (size_t i = 0; i < kept; i++)
        thread->live_bytes += (double)all[i].size;
    pthread_barrier_wait(&shrink->reached);
    for (size_t i = kept; i < count; i++) {
        block_check(all[i].block);
        free(all[i].block);
    }
    pthread_barrier_wait(&shrink->reached);
    light_traffic(shrink, all, kept, &rng);
    pthread_barrier_wait(&shrink->reached);
    for (size_t i = 0; i < kept; i++)
        free(all[i].block);
    return NULL;
}

/* Sleeps out the light traffic, noting what is resident after one second and at its end. */
static void watch(const struct shrink *shrink, double live_kib) {
    meter_note("resident_freed_kib", (double)meter_resident_kib());
    clock_sleep_ms(1000);
    meter_note("resident_1s_kib", (double)meter_resident_kib());
    if (shrink->seconds > 1)
        clock_sleep_ms((shrink->seconds - 1) * 1000 - 100);
    double end_kib = (double)meter_resident_kib();
    meter_note("resident_quiet_kib", end_kib);
    meter_note("resident_over_live", end_kib / live_kib);
}

static void shrink_phases(struct shrink *shrink, const struct thread *threads, unsigned count) {
    meter_begin();
    pthread_barrier_wait(&shrink->reached);
    pthread_barrier_wait(&shrink->reached);
    meter_pause();
    meter_note("resident_burst_kib", (double)meter_resident_kib());
    pthread_barrier_wait(&shrink->reached);
    meter_resume();
    pthread_barrier_wait(&shrink->reached);
    meter_end();
    double live_kib = 0;
    for (unsigned i = 0; i < count; i++)
        live_kib += threads[i].live_bytes / 1024;
    meter_note("live_kib", live_kib);
    watch(shrink, live_kib);
    pthread_barrier_wait(&shrink->reached);
}

void shrink_run(const struct load_args *args) {
    static const struct band mixed[] = {{78, 32, 543}, {18, 1024, 5120}, {4, 16384, 81920}};
    const struct band single[] = {{1, args->size, args->size}};
    struct shrink *shrink = load_map(sizeof *shrink);
    struct thread *threads = load_map(args->threads * sizeof *threads);
    pthread_t *handles = load_map(args->threads * sizeof *handles);
    mix_fill(&shrink->mix, args->size ? single : mixed, args->size ? 1 : 3);
    uint64_t mib = args->mib ? args->mib : LIVE_MIB_DEFAULT;
    shrink->bytes = mib * 1000000 / args->threads;
    shrink->seconds = args->seconds ? args->seconds : 10;
    pthread_barrier_init(&shrink->reached, NULL, args->threads + 1);
    for (unsigned i = 0; i < args->threads; i++) {
        threads[i] = (struct thread){shrink, i, 0};
        if (pthread_create(&handles[i], NULL, shrink_main, &threads[i]))
            load_fail("pthread_create failed");
    }
    meter_operations((uint64_t)((double)(mib * 1000000) / mix_mean(&shrink->mix)));
    meter_sampler_start(SAMPLE_MS, NULL);
    shrink_phases(shrink, threads, args->threads);
    for (unsigned i = 0; i < args->threads; i++)
        pthread_join(handles[i], NULL);
    meter_sampler_stop();
}
