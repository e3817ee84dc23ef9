/*
 * churn: threads that live for 5000 allocations and hand their 1000 live blocks to a successor,
 * which they start before they end: Larson's server, and every pool that grows and shrinks.
 *
 * Punishes: dear thread starts and ends (a cache to build, to flush, to search for), memory of
 * ended threads that nobody reuses, blocks whose owner is gone.
 */
#include "load.h"

#include <pthread.h>

enum { SLOTS = 1000, LIFE = 5000 };

struct churn;

/* A row of threads, each the successor of the one before it; only one of them lives. */
struct lane {
    _Alignas(CACHE_LINE) struct churn *churn;
    struct rng rng;
    uint64_t lives_left;
    void *slots[SLOTS];
};

struct churn {
    struct mix mix;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    unsigned lanes_left;
};

static void life_work(struct lane *lane) {
    for (unsigned i = 0; i < LIFE; i++) {
        void **slot = &lane->slots[rng_below(&lane->rng, SLOTS)];
        if (*slot)
            block_check(*slot);
        free(*slot);
        size_t size = mix_draw(&lane->churn->mix, &lane->rng);
        *slot = block_new(size);
        block_stamp(*slot, size);
    }
}

static void lane_end(struct lane *lane) {
    for (unsigned i = 0; i < SLOTS; i++)
        free(lane->slots[i]);
    struct churn *churn = lane->churn;
    pthread_mutex_lock(&churn->lock);
    churn->lanes_left--;
    pthread_cond_signal(&churn->ended);
    pthread_mutex_unlock(&churn->lock);
}

static void life_start(struct lane *lane);

static void *life_main(void *argument) {
    struct lane *lane = argument;
    life_work(lane);
    if (--lane->lives_left)
        life_start(lane);
    else
        lane_end(lane);
    return NULL;
}

static void life_start(struct lane *lane) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, life_main, lane) || pthread_detach(thread))
        load_fail("a thread could not be started");
}

void churn_run(const struct load_args *args) {
    static const struct band bands[] = {{80, 16, 512}, {15, 513, 4096}, {5, 4097, 32768}};
    struct churn *churn = load_map(sizeof *churn);
    struct lane *lanes = load_map(args->threads * sizeof *lanes);
    uint64_t lives = load_work(args, 2500);
    mix_fill(&churn->mix, bands, 3);
    pthread_mutex_init(&churn->lock, NULL);
    pthread_cond_init(&churn->ended, NULL);
    churn->lanes_left = args->threads;
    meter_operations(lives * LIFE * args->threads);
    meter_begin();
    for (unsigned i = 0; i < args->threads; i++) {
        lanes[i].churn = churn;
        lanes[i].rng = rng_seeded(i + 1);
        lanes[i].lives_left = lives;
        life_start(&lanes[i]);
    }
    pthread_mutex_lock(&churn->lock);
    while (churn->lanes_left)
        pthread_cond_wait(&churn->ended, &churn->lock);
    pthread_mutex_unlock(&churn->lock);
    meter_end();
}
