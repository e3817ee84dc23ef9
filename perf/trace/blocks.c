/*
 * A hash table with open addressing. An entry that is taken out is filled from behind (Knuth, The
 * Art of Computer Programming, volume 3, algorithm 6.4R), so that there are no tombstones.
 */
#include "blocks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_BITS = 16 };

void fail(const char *what) {
    fprintf(stderr, "finish: %s\n", what);
    exit(2);
}

void *grown(void *memory, size_t bytes) {
    void *more = realloc(memory, bytes);
    if (!more)
        fail("out of memory");
    return more;
}

static size_t home(const struct blocks *blocks, uint64_t address) {
    return (size_t)((address >> 4) * 0x9E3779B97F4A7C15u >> 20) & blocks->mask;
}

static size_t place_of(const struct blocks *blocks, uint64_t address) {
    size_t at = home(blocks, address);
    while (blocks->addresses[at] && blocks->addresses[at] != address)
        at = (at + 1) & blocks->mask;
    return at;
}

static void put(struct blocks *blocks, uint64_t address, uint32_t slot) {
    size_t at = place_of(blocks, address);
    blocks->addresses[at] = address;
    blocks->slots[at] = slot;
}

static void enlarge(struct blocks *blocks) {
    struct blocks old = *blocks;
    size_t places = old.addresses ? 2 * (old.mask + 1) : (size_t)1 << FIRST_BITS;
    blocks->mask = places - 1;
    blocks->addresses = grown(NULL, places * sizeof *blocks->addresses);
    blocks->slots = grown(NULL, places * sizeof *blocks->slots);
    memset(blocks->addresses, 0, places * sizeof *blocks->addresses);
    for (size_t i = 0; old.addresses && i <= old.mask; i++)
        if (old.addresses[i])
            put(blocks, old.addresses[i], old.slots[i]);
    free(old.addresses);
    free(old.slots);
}

void blocks_add(struct blocks *blocks, uint64_t address, uint32_t slot) {
    if (!blocks->addresses || 2 * blocks->count > blocks->mask)
        enlarge(blocks);
    put(blocks, address, slot);
    blocks->count++;
}

/* Moves entries up into the hole at `hole` where that is on their way from home. */
static void close_up(struct blocks *blocks, size_t hole) {
    for (size_t at = hole;;) {
        at = (at + 1) & blocks->mask;
        uint64_t address = blocks->addresses[at];
        if (!address)
            break;
        size_t from_home = (at - home(blocks, address)) & blocks->mask;
        if (from_home < ((at - hole) & blocks->mask))
            continue;
        blocks->addresses[hole] = address;
        blocks->slots[hole] = blocks->slots[at];
        hole = at;
    }
    blocks->addresses[hole] = 0;
}

bool blocks_take(struct blocks *blocks, uint64_t address, uint32_t *slot) {
    if (!blocks->addresses)
        return false;
    size_t at = place_of(blocks, address);
    if (!blocks->addresses[at])
        return false;
    *slot = blocks->slots[at];
    close_up(blocks, at);
    blocks->count--;
    return true;
}
