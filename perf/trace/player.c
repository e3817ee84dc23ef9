/*
 * What is written into a block: its slot's tag at both ends, so that two blocks that overlap
 * destroy each other's and the replay fails; and a byte in each of its pages, since a server that
 * asks for memory mostly uses it.
 */
#include "player.h"

#include "../workloads/load.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { SPINS = 200, YIELDS = 50, SLEEP_NS_MIN = 10000, SLEEP_NS_MAX = 1000000, FILLING = 0x5a };

typedef uint64_t tag;

static tag tag_of(uint32_t slot) {
    return (slot + (uint64_t)1) * 0x9E3779B97F4A7C15u;
}

/* Shorter blocks have a tag at the beginning only, or a part of one. */
enum { TWO_TAGS = 2 * sizeof(tag) };

static tag tag_at(const char *place) {
    tag found;
    memcpy(&found, place, sizeof found);
    return found;
}

/* Whether the block begins with as much of the tag as has room in `size`. Sizes that are known make
   of memcmp one instruction. */
static bool begins_with(const char *block, size_t size, tag mark) {
    return size >= sizeof mark ? tag_at(block) == mark : memcmp(block, &mark, size) == 0;
}

static bool has_tags(const char *block, size_t size, tag mark) {
    return begins_with(block, size, mark) &&
           (size < TWO_TAGS || tag_at(block + size - sizeof mark) == mark);
}

static void tags_write(char *block, size_t size, tag mark) {
    if (size >= sizeof mark)
        memcpy(block, &mark, sizeof mark);
    else
        memcpy(block, &mark, size);
    if (size >= TWO_TAGS)
        memcpy(block + size - sizeof mark, &mark, sizeof mark);
}

/* The part of the block from `from` on is new. */
static void touch(enum touch kind, char *block, size_t from, size_t size) {
    volatile char *bytes = block;
    if (kind == TOUCH_ALL && size > from)
        memset(block + from, FILLING, size - from);
    if (kind == TOUCH_PAGES)
        for (size_t at = (from + PAGE - 1) / PAGE * PAGE; at < size; at += PAGE)
            bytes[at] = FILLING;
}

static struct held *slot_of(struct player *player, uint32_t slot, bool full) {
    struct held *held = &player->crew->slots[slot];
    if (!held->block == full)
        load_fail("the trace contradicts itself");
    return held;
}

static void live_add(struct player *player, int64_t bytes) {
    int64_t live = atomic_load_explicit(&player->live_bytes, memory_order_relaxed);
    atomic_store_explicit(&player->live_bytes, live + bytes, memory_order_relaxed);
}

static void *allocated(enum trace_op op, size_t size, size_t alignment) {
    void *block = NULL;
    if (op == TRACE_ALIGNED) {
        size_t least = alignment < sizeof(void *) ? sizeof(void *) : alignment;
        if (posix_memalign(&block, least, size) || (uintptr_t)block % least)
            load_fail("posix_memalign failed");
    } else {
        block = op == TRACE_CALLOC ? calloc(1, size) : malloc(size);
    }
    if (!block)
        load_fail("an allocation failed");
    return block;
}

static void play_allocation(struct player *player, enum trace_op op, uint32_t slot, size_t size,
                            size_t alignment) {
    struct held *held = slot_of(player, slot, false);
    held->block = allocated(op, size, alignment);
    held->size = size;
    if (op == TRACE_CALLOC && !has_tags(held->block, size, 0))
        load_fail("calloc returned memory that is not zero");
    touch(player->crew->touch, held->block, 0, size);
    tags_write(held->block, size, tag_of(slot));
    live_add(player, (int64_t)size);
}

static void play_realloc(struct player *player, uint32_t slot, size_t size) {
    struct held *held = slot_of(player, slot, true);
    tag mark = tag_of(slot);
    size_t kept = held->size < size ? held->size : size;
    if (!has_tags(held->block, held->size, mark))
        load_fail("a block was overwritten");
    char *block = realloc(held->block, size ? size : 1);
    if (!block)
        load_fail("realloc failed");
    if (!begins_with(block, kept, mark))
        load_fail("realloc lost what was in the block");
    touch(player->crew->touch, block, kept, size);
    tags_write(block, size, mark);
    live_add(player, (int64_t)size - (int64_t)held->size);
    *held = (struct held){block, size};
}

static void play_free(struct player *player, uint32_t slot) {
    struct held *held = slot_of(player, slot, true);
    if (!has_tags(held->block, held->size, tag_of(slot)))
        load_fail("a block was overwritten");
    free(held->block);
    live_add(player, -(int64_t)held->size);
    held->block = NULL;
}

/* Sleeps longer the longer it takes, so that a thousand threads that wait leave the processors to
   the one that they wait for. */
bool player_await(const struct player *other, uint64_t position) {
    unsigned round = 0;
    long sleep_ns = SLEEP_NS_MIN;
    while (atomic_load_explicit(&other->position, memory_order_acquire) < position) { /* A2 */
        round++;
        if (round < SPINS)
            continue;
        if (round < SPINS + YIELDS) {
            sched_yield();
            continue;
        }
        nanosleep(&(struct timespec){0, sleep_ns}, NULL);
        sleep_ns = sleep_ns < SLEEP_NS_MAX / 2 ? 2 * sleep_ns : SLEEP_NS_MAX;
    }
    return round > 0;
}

static void play_wait(struct player *player, uint32_t other, uint64_t position) {
    const struct player *awaited = &player->crew->players[other];
    if (atomic_load_explicit(&awaited->position, memory_order_acquire) >= position) /* A2 */
        return;
    double began_s = clock_wall_s();
    player->waits += player_await(awaited, position);
    player->waited_ns += (uint64_t)((clock_wall_s() - began_s) * 1e9);
}

/* With a speed, sleeps until the record's time has come. */
static void play_time(const struct crew *crew, uint32_t window, uint32_t time_ms) {
    if (crew->mark)
        crew->mark(window, time_ms);
    if (crew->speed <= 0)
        return;
    double left_s = crew->began_s + time_ms / (1000 * crew->speed) - clock_wall_s();
    if (left_s > 0)
        clock_sleep_ms((unsigned)(left_s * 1000));
}

/* `more` is the word before, if that was a TRACE_MORE, and else 0. */
static void play_word(struct player *player, uint64_t word, uint64_t more) {
    enum trace_op op = trace_op_of(word);
    uint32_t slot = trace_slot_of(word);
    uint32_t low = trace_size_of(word);
    size_t size = (size_t)trace_size_of(more) << 32 | low;
    switch (op) {
    case TRACE_MALLOC:
    case TRACE_CALLOC:
    case TRACE_ALIGNED:
        play_allocation(player, op, slot, size, (size_t)1 << trace_slot_of(more));
        break;
    case TRACE_REALLOC: play_realloc(player, slot, size); break;
    case TRACE_FREE: play_free(player, slot); break;
    case TRACE_SPAWN: player->crew->start(player->crew, slot); break;
    case TRACE_WAIT:
    case TRACE_PACE: play_wait(player, slot, low); break;
    case TRACE_TIME: play_time(player->crew, slot, low); break;
    case TRACE_MORE:
    case TRACE_OPS: break;
    }
}

void player_run(struct player *player, uint64_t until) {
    uint64_t more = 0;
    uint64_t at = atomic_load_explicit(&player->position, memory_order_relaxed);
    for (; at < until; at++) {
        uint64_t word = player->words[at];
        play_word(player, word, more);
        more = trace_op_of(word) == TRACE_MORE ? word : 0;
        atomic_store_explicit(&player->position, at + 1, memory_order_release); /* R2 */
    }
}
