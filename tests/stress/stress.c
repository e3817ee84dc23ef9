/*
 * Stress of the whole engine through the public calls: threads that allocate, write patterns, pass
 * blocks on, free each other's, park, flush, end and start again, in several pools, under random
 * delays at protocol steps where the build has them.
 *
 * Would fail if a block were handed out twice, lost its content, or leaked: every block carries a
 * pattern that is checked when it is freed, and at the end nothing may be live and the balance of
 * the metrics must hold.
 *
 * Usage: stress [seconds [threads [seed [limit-MiB [page-KiB [holes]]]]]], 0 for the usual. With
 * holes, free blocks are cut into parts wherever that can be. Exit 0 or 1.
 */
#include "heap/engine.h"
#include "heap/mixed.h"
#include "os/fault.h"
#include "pool/pool.h"

#include <berth/berth.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SLOTS = 512, SHARED = 256, POOLS = 3, OPS_PER_LIFE = 20000 };

struct block {
    unsigned char *at;
    size_t size;
};

static berth_pool *pools[POOLS];
static struct {
    pthread_mutex_t lock;
    struct block slot[SHARED];
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER};
static atomic_bool stop;
static atomic_ulong operations, refused;

static void fail(const char *what, const void *at) {
    fprintf(stderr, "stress: %s at %p\n", what, at);
    abort();
}

static unsigned random_below(unsigned *state, unsigned bound) {
    *state = *state * 1664525u + 1013904223u;
    return (unsigned)(((unsigned long long)(*state >> 4) * bound) >> 28);
}

/* Mostly small, some runs, a few huge. */
static size_t random_size(unsigned *state) {
    unsigned kind = random_below(state, 1000);
    if (kind < 700) {
        return random_below(state, 600);
    }
    if (kind < 950) {
        return random_below(state, 16384);
    }
    return kind < 999 ? 16384 + random_below(state, 200000)
                      : (5u << 20) + random_below(state, 1u << 20);
}

static unsigned char pattern(const unsigned char *at, size_t size) {
    return (unsigned char)(((uintptr_t)at >> 4) ^ size);
}

/* Large blocks are marked at their ends only. */
static void mark(struct block block) {
    size_t part = block.size < 512 ? block.size : 256;
    memset(block.at, pattern(block.at, block.size), part);
    memset(block.at + block.size - part, pattern(block.at, block.size), part);
}

static void check(struct block block) {
    size_t part = block.size < 512 ? block.size : 256;
    unsigned char expected = pattern(block.at, block.size);
    for (size_t i = 0; i < part; i++) {
        if (block.at[i] != expected || block.at[block.size - 1 - i] != expected) {
            fail("a block lost its content", block.at);
        }
    }
}

static void check_zero(struct block block) {
    for (size_t i = 0; i < block.size; i += i < 4096 ? 1 : 509) {
        if (block.at[i] != 0) {
            fail("a zeroed block is not zero", block.at);
        }
    }
}

static struct block allocate(unsigned *state) {
    berth_pool *pool = pools[random_below(state, POOLS)];
    struct block block = {.size = random_size(state)};
    unsigned kind = random_below(state, 20);
    if (kind == 0) {
        block.at = berth_alloc_flags(pool, block.size, BERTH_ZERO | BERTH_NOWAIT);
        if (block.at != NULL) {
            check_zero(block);
        }
    } else if (kind == 1) {
        size_t alignment = (size_t)1 << random_below(state, 15);
        block.at = berth_alloc_aligned(pool, alignment, block.size);
        if (block.at != NULL && (uintptr_t)block.at % alignment != 0) {
            fail("a block is not aligned", block.at);
        }
    } else {
        block.at = berth_alloc(pool, block.size);
    }
    if (block.at == NULL) {
        atomic_fetch_add(&refused, 1);
        block.size = 0;
    } else {
        mark(block);
    }
    return block;
}

static void release(struct block *block) {
    if (block->at != NULL) {
        check(*block);
        berth_free(block->at);
    }
    *block = (struct block){NULL, 0};
}

static void resize(struct block *block, unsigned *state) {
    if (block->at == NULL) {
        return;
    }
    check(*block);
    size_t size = random_size(state);
    unsigned char first = block->size > 0 ? block->at[0] : 0;
    bool kept_matters = block->size > 0 && size > 0;
    unsigned char *at = berth_realloc(NULL, block->at, size);
    if (at == NULL) {
        atomic_fetch_add(&refused, 1);
        return;
    }
    if (kept_matters && at[0] != first) {
        fail("realloc lost the content", at);
    }
    *block = (struct block){at, size};
    mark(*block);
}

/* Exchanges a block with the shared store, so that it is freed by somebody else. */
static void exchange(struct block *block, unsigned *state) {
    unsigned i = random_below(state, SHARED);
    pthread_mutex_lock(&shared.lock);
    struct block other = shared.slot[i];
    shared.slot[i] = *block;
    pthread_mutex_unlock(&shared.lock);
    *block = other;
}

static const char *const tags[] = {"red", "green", "blue"};

/* Opens a scope or closes one; a thread may end in some. */
static void enter_or_leave(unsigned *state) {
    unsigned which = random_below(state, 5);
    int error = which < 3 ? berth_tag_push(tags[which]) : berth_tag_pop();
    if (error != 0 && error != -EOVERFLOW && error != -EINVAL && error != -ENOMEM) {
        fail("no scope", NULL);
    }
}

static void step(struct block *slot, unsigned *state) {
    switch (random_below(state, 16)) {
    case 0:
    case 1:
    case 2:
    case 3: exchange(slot, state); break;
    case 4: resize(slot, state); break;
    case 5:
        if (random_below(state, 64) == 0) {
            berth_thread_idle();
        } else if (random_below(state, 8) == 0) {
            enter_or_leave(state);
        }
        break;
    case 6:
        if (random_below(state, 2048) == 0) {
            berth_thread_flush();
        } else if (random_below(state, 4096) == 0) {
            berth_trim(pools[random_below(state, POOLS)]);
        }
        break;
    default: release(slot); *slot = allocate(state);
    }
}

/* One life of a thread: ends with its blocks handed over, not freed. */
static void *life(void *argument) {
    unsigned state = *(unsigned *)argument;
    static _Thread_local struct block slots[SLOTS];
    memset(slots, 0, sizeof(slots));
    unsigned count = OPS_PER_LIFE / 2 + random_below(&state, OPS_PER_LIFE);
    for (unsigned i = 0; i < count && !atomic_load(&stop); i++) {
        step(&slots[random_below(&state, SLOTS)], &state);
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        exchange(&slots[i], &state);
        release(&slots[i]);
    }
    atomic_fetch_add(&operations, count);
    return NULL;
}

/* Starts one life after another. */
static void *lives(void *argument) {
    unsigned state = *(unsigned *)argument;
    while (!atomic_load(&stop)) {
        unsigned seed = state = state * 69069u + 1;
        pthread_t thread;
        if (pthread_create(&thread, NULL, life, &seed) != 0) {
            fail("no thread", NULL);
        }
        pthread_join(thread, NULL);
    }
    return NULL;
}

static void sleep_ms(unsigned ms) {
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

/* At rest: what the header of <berth/metrics.h> says must balance. */
static void check_balance(berth_pool *pool) {
    struct berth_pool_metrics m;
    berth_metrics_read_pool(pool, &m, sizeof(m));
    uint64_t parts = m.slab_lent_bytes + m.remote_bytes + m.slab_free_bytes + m.slab_tail_bytes +
                     m.run_lent_bytes + m.run_cached_bytes + m.run_free_bytes;
    if (m.chunk_bytes != parts || m.live_low_bytes != 0 || m.live_high_bytes != 0 ||
        m.allocations != m.frees) {
        berth_metrics_write_fd(2, BERTH_METRICS_TEXT, BERTH_METRICS_ALL);
        fail("the figures of a pool do not balance", pool);
    }
}

static void run(unsigned seconds, unsigned threads, unsigned seed) {
    pthread_t thread[256];
    unsigned seeds[256];
    for (unsigned i = 0; i < threads; i++) {
        seeds[i] = seed + i * 7919;
        pthread_create(&thread[i], NULL, lives, &seeds[i]);
    }
    for (unsigned i = 0; i < seconds * 10; i++) {
        struct berth_process_metrics m;
        berth_metrics_read(&m, sizeof(m));
        if (m.limit_used_bytes > m.limit_bytes) {
            fail("used is above the limit", NULL);
        }
        if (m.cache_granted_bytes > m.cache_budget_bytes) {
            fail("threads cache more than the budget", NULL);
        }
        sleep_ms(100);
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(thread[i], NULL);
    }
}

static void finish(void) {
    for (unsigned i = 0; i < SHARED; i++) {
        release(&shared.slot[i]);
    }
    berth_thread_flush();
    for (unsigned i = 0; i < POOLS; i++) {
        berth_trim(pools[i]);
        check_balance(pools[i]);
    }
    for (unsigned i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
        char name[32];
        snprintf(name, sizeof(name), "tag:%s", tags[i]);
        berth_pool *scopes = berth_pool_find(name);
        if (scopes != NULL) {
            berth_trim(scopes);
            check_balance(scopes);
        }
    }
    for (unsigned i = 1; i < POOLS; i++) {
        int error = berth_pool_destroy(pools[i], 0);
        if (error != 0) {
            fprintf(stderr, "stress: destroying gave %s\n", strerror(-error));
            fail("a pool cannot be destroyed", pools[i]);
        }
    }
    berth_trim(NULL);
    struct berth_process_metrics m;
    berth_metrics_read(&m, sizeof(m));
    if (m.mapped_bytes != m.metadata_bytes || m.limit_used_bytes != 0) {
        berth_metrics_write_fd(2, BERTH_METRICS_TEXT, BERTH_METRICS_ALL);
        fail("memory stays mapped after all was freed and trimmed", NULL);
    }
}

static size_t page_bytes;

static void set_page_bytes(struct berth__engine_config *config) {
    config->page_bytes = page_bytes;
}

/* The engine's start with larger pages than the machine has. */
static void start_with_pages(unsigned page_kib) {
    page_bytes = (size_t)page_kib << 10;
    berth__engine_configure = set_page_bytes;
    if (!berth__engine_start() || !berth__start_slow()) {
        fail("the engine does not start", NULL);
    }
}

static unsigned number(int argc, char **argv, int i, unsigned usual) {
    unsigned given = argc > i ? (unsigned)atoi(argv[i]) : 0;
    return given == 0 ? usual : given;
}

int main(int argc, char **argv) {
    unsigned seconds = number(argc, argv, 1, 5);
    unsigned threads = number(argc, argv, 2, 4);
    unsigned seed = number(argc, argv, 3, (unsigned)time(NULL));
    unsigned limit_mib = number(argc, argv, 4, 0);
    unsigned page_kib = number(argc, argv, 5, 0);
    if (number(argc, argv, 6, 0) != 0) {
        berth__mixed_policy =
            (struct berth__mixed_policy){.free_bytes = 1, .free_share = UINT32_MAX};
    }
    printf("stress: seed %u\n", seed);
    fflush(stdout);
    if (page_kib != 0) {
        start_with_pages(page_kib);
    }
    if (limit_mib != 0) {
        berth_limit_set((uint64_t)limit_mib << 20);
    }
#if BERTH_FAULTS
    berth__delay_set(50);
#endif
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.wait_ms = 5;
    options.decay_ms = 50;
    pools[0] = berth_pool_default();
    pools[1] = berth_pool_create("one", &options);
    options.limit = 64 << 20;
    options.chunk = 1 << 20;
    options.arenas = 2;
    pools[2] = berth_pool_create("two", &options);
    if (pools[0] == NULL || pools[1] == NULL || pools[2] == NULL) {
        fail("no pool", NULL);
    }
    run(seconds, threads, seed);
    finish();
    printf("stress: %lu operations, %lu refused\n", atomic_load(&operations),
           atomic_load(&refused));
    return 0;
}
