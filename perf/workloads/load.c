/*
 * Size mixes, mapped memory and threads that start together, for all loads. Nothing of it runs
 * inside the measured part but what the header keeps inline.
 */
#include "load.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

uint64_t load_work(const struct load_args *args, uint64_t full) {
    uint64_t work = full * args->work_percent / 100;
    return work ? work : 1;
}

void load_fail(const char *what) {
    fprintf(stderr, "load: %s\n", what);
    _exit(2);
}

static void *map(size_t bytes, int sharing) {
    void *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        load_fail("mmap failed");
    return memory;
}

void *load_map(size_t bytes) {
    return map(bytes, MAP_PRIVATE);
}

void *load_map_shared(size_t bytes) {
    return map(bytes, MAP_SHARED);
}

void load_read_file(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t length = 0;
    ssize_t more = fd < 0 ? 0 : 1; /* files of the kernel come in pieces */
    while (more > 0 && length < size - 1) {
        more = read(fd, text + length, size - 1 - length);
        length += more > 0 ? (size_t)more : 0;
    }
    text[length] = 0;
    if (fd >= 0)
        close(fd);
}

struct rng rng_seeded(uint64_t seed) {
    struct rng rng = {seed * 0x9E3779B97F4A7C15u + 1};
    for (int i = 0; i < 8; i++)
        rng_next(&rng);
    return rng;
}

void mix_fill(struct mix *mix, const struct band *bands, size_t count) {
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += bands[i].weight;
    struct rng rng = rng_seeded(1);
    size_t at = 0;
    uint64_t reached = 0;
    for (size_t i = 0; i < count; i++) {
        reached += bands[i].weight;
        size_t end = (size_t)(reached * MIX_DRAWS / total);
        for (; at < end; at++)
            mix->sizes[at] = bands[i].least + rng_below(&rng, bands[i].most - bands[i].least + 1);
    }
}

double mix_mean(const struct mix *mix) {
    double sum = 0;
    for (size_t i = 0; i < MIX_DRAWS; i++)
        sum += mix->sizes[i];
    return sum / (double)MIX_DRAWS;
}

struct start {
    struct worker worker;
    worker_function *function;
    pthread_barrier_t *ready;
    pthread_barrier_t *done;
};

static void *worker_main(void *argument) {
    struct start *start = argument;
    pthread_barrier_wait(start->ready);
    start->function(&start->worker);
    pthread_barrier_wait(start->done);
    return NULL;
}

static void workers_start(struct start *starts, pthread_t *threads, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, worker_main, &starts[i]))
            load_fail("pthread_create failed");
}

void workers_run(unsigned count, worker_function *function, void *shared) {
    struct start *starts = load_map(count * sizeof *starts);
    pthread_t *threads = load_map(count * sizeof *threads);
    pthread_barrier_t ready, done;
    pthread_barrier_init(&ready, NULL, count + 1);
    pthread_barrier_init(&done, NULL, count + 1);
    for (unsigned i = 0; i < count; i++)
        starts[i] =
            (struct start){{i, count, rng_seeded(100 + i), shared}, function, &ready, &done};
    if (count == 1) {
        meter_begin();
        function(&starts[0].worker);
        meter_end();
        return;
    }
    workers_start(starts, threads, count);
    meter_begin();
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&done);
    meter_end();
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}
