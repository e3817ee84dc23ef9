/*
 * Which way of sending is cheaper, found by trying: copying, or in place (without copying).
 *
 * Sizes are told apart by powers of two, and each has its usual way. Every so often two sends of a
 * size are compared, a pair: one in place, with what reading its notification took, and then one
 * that copies, by their time per byte. Eight pairs are a verdict: with seven won the winner is the
 * usual way from then on. So neither a send that was interrupted nor a lucky one decides; and two
 * ways that cost the same stay as they are. Each verdict that changes nothing doubles the time to
 * the next pair.
 *
 *   IDLE     sends go their usual way, and are counted
 *   ALOFT    the pair's send in place is under way: until its notification
 *   LANDED   the next send of its size copies, and is timed
 *
 * This file measures nothing; it is told times. Part of a sender, used by one thread at a time.
 */
#ifndef BERTH_IO_WAYS_H
#define BERTH_IO_WAYS_H

#include "base/compiler.h"

enum {
    BERTH_WAYS_LEAST = 2048,  /* shorter sends copy without question */
    BERTH_WAYS_FIRST = 16384, /* from here on sends begin in place */
    BERTH_WAYS_SIZES = 10,    /* 2 KiB, 4 KiB .. 1 MiB and above */
    BERTH_WAYS_BETWEEN = 64,  /* sends of a size between its pairs, at first */
    BERTH_WAYS_BETWEEN_MAX = 4096,
    BERTH_WAYS_PAIRS = 8,
    BERTH_WAYS_ENOUGH = 7,     /* of them, won */
    BERTH_WAYS_PATIENCE = 256, /* sends that a pair waits for its second */
};

enum berth__ways_state { BERTH_WAYS_IDLE, BERTH_WAYS_ALOFT, BERTH_WAYS_LANDED };

struct berth__ways {
    size_t least;
    bool learns; /* else: in place from `least` on */
    uint8_t state;
    uint8_t size;   /* of the pair */
    uint16_t waits; /* sends since its first */
    uint64_t first_ns, first_bytes;
    struct berth__ways_of {
        bool in_place;      /* usually */
        uint8_t pairs, won; /* by sends in place */
        uint16_t until, between;
    } of[BERTH_WAYS_SIZES];
};

/* What the next send is to be. */
enum berth__way {
    BERTH_WAY_COPY,
    BERTH_WAY_COPY_TIMED,
    BERTH_WAY_IN_PLACE,
    BERTH_WAY_IN_PLACE_TIMED
};

/* `threshold`: bytes from which sends go in place; 0: it is found out. */
struct berth__ways berth__ways_of(size_t threshold);

/* The way of a send of so many bytes. Counts it. */
enum berth__way berth__ways_next(struct berth__ways *ways, uint64_t bytes);

/* The send that was to be timed, in place: what it took. */
void berth__ways_departed(struct berth__ways *ways, uint64_t ns, uint64_t bytes);

/* Its notification was read, which took that; or says that the kernel copied: then the pair says
 * nothing. */
void berth__ways_landed(struct berth__ways *ways, uint64_t ns, bool copied);

/* The send that was to be timed, copying: what it took. */
void berth__ways_copied(struct berth__ways *ways, uint64_t ns, uint64_t bytes);

#endif
