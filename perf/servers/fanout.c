/*
 * What it costs a program, apart from the kernel, to have one message wait for 64 connections, and
 * to be done with it: references to it in 64 chains, against a copy for each in a block of
 * malloc's.
 *
 *   fanout BYTES       one line: nanoseconds of processor time per message, medians of interleaved
 *                      rounds, and the bytes that both hold while DEPTH messages wait for all
 */
#include "queue.h"

#include <berth/berth.h>

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CONNECTIONS = 64, DEPTH = 64, ROUNDS = 41 };

static berth_pool *pool;
static struct berth_chain chains[CONNECTIONS];
static struct queue queues[CONNECTIONS];
static char *text;
static size_t bytes;

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void check(int error) {
    if (error != 0) {
        abort();
    }
}

/* The message lies in memory already, as it was received. */
static void share(const struct berth_chain *message) {
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        check(berth_chain_share(message, 0, bytes, &chains[i]));
    }
}

static void drop_shared(void) {
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        check(berth_chain_consume(&chains[i], bytes));
    }
}

static void copy(void) {
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        queue_copy(&queues[i], text, bytes);
    }
}

static void drop_copies(void) {
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        struct message *message = queues[i].first;
        queues[i].first = message->next;
        queues[i].bytes -= bytes;
        free(message);
    }
}

static void receive(struct berth_chain *message) {
    struct berth_slice slice;
    check(berth_slice_copy(pool, text, bytes, &slice));
    berth_chain_init(message, pool);
    check(berth_chain_append(message, &slice));
}

/* DEPTH messages wait, then all are sent; that many times. The message itself is there for both. */
static double time_shared(unsigned repeats, uint64_t *held) {
    struct berth_pool_metrics metrics;
    struct berth_chain messages[DEPTH];
    double taken = 0;
    for (unsigned r = 0; r < repeats; r++) {
        for (unsigned i = 0; i < DEPTH; i++) {
            receive(&messages[i]);
        }
        double begun = now_ns();
        for (unsigned i = 0; i < DEPTH; i++) {
            share(&messages[i]);
            berth_chain_clear(&messages[i]);
        }
        taken += now_ns() - begun;
        berth_thread_flush();
        check(berth_metrics_read_pool(pool, &metrics, sizeof(metrics)));
        *held = metrics.live_high_bytes;
        begun = now_ns();
        for (unsigned i = 0; i < DEPTH; i++) {
            drop_shared();
        }
        taken += now_ns() - begun;
    }
    return taken / repeats / DEPTH;
}

static double time_copied(unsigned repeats, uint64_t *held) {
    double taken = 0;
    for (unsigned r = 0; r < repeats; r++) {
        size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
        double begun = now_ns();
        for (unsigned i = 0; i < DEPTH; i++) {
            copy();
        }
        taken += now_ns() - begun;
        *held = mallinfo2().uordblks + mallinfo2().hblkhd - before;
        begun = now_ns();
        for (unsigned i = 0; i < DEPTH; i++) {
            drop_copies();
        }
        taken += now_ns() - begun;
    }
    return taken / repeats / DEPTH;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    double shared[ROUNDS], copied[ROUNDS];
    uint64_t held_shared = 0, held_copied = 0;
    bytes = argc > 1 ? (size_t)atol(argv[1]) : 4096;
    options.one_thread = 1;
    pool = berth_pool_create("fanout", &options);
    text = malloc(bytes);
    if (pool == NULL || text == NULL) {
        return 1;
    }
    memset(text, 'x', bytes);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        berth_chain_init(&chains[i], pool);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        shared[i] = time_shared(2, &held_shared);
        copied[i] = time_copied(2, &held_copied);
    }
    qsort(shared, ROUNDS, sizeof(*shared), compare);
    qsort(copied, ROUNDS, sizeof(*copied), compare);
    printf("{\"bytes\": %zu, \"shared_ns\": %.0f, \"copied_ns\": %.0f, \"shared_held\": %ju, "
           "\"copied_held\": %ju}\n",
           bytes, shared[ROUNDS / 2], copied[ROUNDS / 2], (uintmax_t)held_shared,
           (uintmax_t)held_copied);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        berth_chain_clear(&chains[i]);
    }
    free(text);
    return berth_pool_destroy(pool, 0) == 0 ? 0 : 1;
}
