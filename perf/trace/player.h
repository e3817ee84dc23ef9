/*
 * One thread of a replay: makes the calls of its stream, waits where the stream says so, and checks
 * every block when it is handed back. Starting threads is replay.c's, by the function that `crew`
 * names.
 */
#ifndef BERTH_PERF_TRACE_PLAYER_H
#define BERTH_PERF_TRACE_PLAYER_H

#include "trace.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* How much of a block is written when it is lent. Its ends always are. */
enum touch { TOUCH_ENDS, TOUCH_PAGES, TOUCH_ALL };

/*
 * Who may touch a slot: the thread whose call is next on it in the record. The trace has a wait
 * where that changes, which acquires (A2) what the other thread released (R2) with its position
 * after its own call.
 */
struct held {
    void *block; /* NULL: none */
    size_t size;
};

struct crew;

struct player {
    _Alignas(128) _Atomic uint64_t position; /* written by this thread; R2 pairs with A2 */
    _Atomic int64_t live_bytes;              /* what it allocated less what it freed; may be < 0 */
    _Atomic double ended_s;                  /* the clock when it had played all; 0 before */
    uint64_t waited_ns;
    uint64_t waits; /* that were not over at once */
    const uint64_t *words;
    uint64_t count;
    struct crew *crew;
    pthread_t thread;
    uint32_t number;
    bool started;
    bool ends; /* before the process does */
};

struct crew {
    struct player *players;
    uint32_t count;
    struct held *slots;
    enum touch touch;
    double speed;   /* of the record's; 0: as fast as can be */
    double began_s; /* the clock then */
    void (*start)(struct crew *crew, uint32_t number);
    void (*mark)(uint32_t window, uint32_t time_ms); /* a window begins; NULL: nobody looks */
};

/* Plays from where it is to a position. */
void player_run(struct player *player, uint64_t until);

/* Waits until another one has reached a position. Returns whether that took any time. */
bool player_await(const struct player *other, uint64_t position);

#endif
