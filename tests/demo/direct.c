/*
 * The experiments with direct memory, one each time it is started, under the limit that BERTH_CONF
 * sets. Prints what happened as "name value" lines; tests/demo/run says whether it is as it should.
 *
 *   direct hold       keeps every buffer until one is refused
 *   direct drop       frees each before it takes the next, ROUNDS times
 *   direct pressure   keeps every buffer, but lets a pressure callback free the oldest; ROUNDS
 * times
 */
#include <berth/berth.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { BUFFER_BYTES = 1 << 20, ROUNDS = 10000, HELD_MAX = 1000 };

/* What is held, as a ring: the oldest is held[taken_back % HELD_MAX]. */
static void *held[HELD_MAX];
static unsigned taken, taken_back;

static double now_ms(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) {
        return 0;
    }
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

/* A buffer as a server would use it: it is written to. */
static void *take(berth_pool *pool) {
    void *buffer = taken - taken_back == HELD_MAX ? NULL : berth_alloc(pool, BUFFER_BYTES);
    if (buffer != NULL) {
        memset(buffer, 'b', BUFFER_BYTES);
        held[taken++ % HELD_MAX] = buffer;
    }
    return buffer;
}

static void give_back_oldest(void) {
    if (taken_back < taken) {
        berth_free(held[taken_back++ % HELD_MAX]);
    }
}

static void on_pressure(void *context, berth_pool *pool, size_t bytes) {
    (void)context, (void)pool, (void)bytes;
    give_back_oldest();
}

static void print_metrics(void) {
    struct berth_process_metrics metrics;
    if (berth_metrics_read(&metrics, sizeof(metrics)) != 0) {
        return;
    }
    printf("peak %" PRIu64 "\nladder_own_cache %" PRIu64 "\nladder_caches %" PRIu64
           "\nladder_parked %" PRIu64 "\nladder_return %" PRIu64 "\nladder_callbacks %" PRIu64
           "\nladder_waits %" PRIu64 "\n",
           metrics.limit_peak_bytes, metrics.ladder_own_cache, metrics.ladder_caches,
           metrics.ladder_parked, metrics.ladder_return, metrics.ladder_callbacks,
           metrics.ladder_waits);
}

/* Takes buffers until one is refused, or ROUNDS are done. */
static void take_all(berth_pool *pool, bool drop) {
    double began = 0;
    void *buffer = NULL;
    int error = 0;
    do {
        began = now_ms();
        errno = 0;
        buffer = take(pool);
        error = errno;
        if (drop) {
            give_back_oldest();
        }
    } while (buffer != NULL && taken < ROUNDS);
    printf("succeeded %u\nheld %u\n", taken, taken - taken_back);
    if (buffer == NULL) {
        printf("error %s\nwaited_ms %.0f\n", error == ENOMEM ? "ENOMEM" : strerror(error),
               now_ms() - began);
    }
}

int main(int argc, char **argv) {
    const char *experiment = argc == 2 ? argv[1] : "";
    bool pressure = strcmp(experiment, "pressure") == 0;
    bool drop = strcmp(experiment, "drop") == 0;
    berth_pool *pool = berth_pool_create("direct", NULL);
    if (pool == NULL || (!pressure && !drop && strcmp(experiment, "hold") != 0)) {
        fprintf(stderr, "usage: direct hold | drop | pressure\n");
        return 2;
    }
    if (pressure && berth_pressure_add(on_pressure, NULL, 0) != 0) {
        fprintf(stderr, "the pressure callback was refused\n");
        return 1;
    }
    double began = now_ms();
    take_all(pool, drop);
    printf("all_ms %.0f\n", now_ms() - began);
    print_metrics();
    while (taken_back < taken) {
        give_back_oldest();
    }
    return berth_pool_destroy(pool, 0) == 0 ? 0 : 1;
}
