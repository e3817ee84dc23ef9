#include "base/bits.h"

enum edit { EDIT_SET, EDIT_CLEAR };

static void edit_range(uint64_t *map, size_t from, size_t count, enum edit edit) {
    size_t end = from + count;
    while (from < end) {
        size_t word = from / 64;
        unsigned lo = (unsigned)(from % 64);
        unsigned hi = (unsigned)berth__min(64, lo + (end - from));
        uint64_t mask = berth__word_mask(lo, hi);
        map[word] = edit == EDIT_SET ? map[word] | mask : map[word] & ~mask;
        from += hi - lo;
    }
}

void berth__bits_set(uint64_t *map, size_t from, size_t count) {
    edit_range(map, from, count, EDIT_SET);
}

void berth__bits_clear(uint64_t *map, size_t from, size_t count) {
    edit_range(map, from, count, EDIT_CLEAR);
}

size_t berth__bits_count(const uint64_t *map, size_t from, size_t count) {
    size_t end = from + count;
    size_t total = 0;
    while (from < end) {
        unsigned lo = (unsigned)(from % 64);
        unsigned hi = (unsigned)berth__min(64, lo + (end - from));
        total += berth__bit_count(map[from / 64] & berth__word_mask(lo, hi));
        from += hi - lo;
    }
    return total;
}

/* The first bit in [from, end) that is set after every word was xor-ed with `flip`. */
static size_t next_bit(const uint64_t *map, size_t from, size_t end, uint64_t flip) {
    if (from >= end) {
        return end;
    }
    size_t word = from / 64;
    uint64_t bits = (map[word] ^ flip) & berth__word_mask((unsigned)(from % 64), 64);
    while (bits == 0) {
        word++;
        if (word * 64 >= end) {
            return end;
        }
        bits = map[word] ^ flip;
    }
    return berth__min(end, word * 64 + berth__lowest_bit(bits));
}

size_t berth__bits_next_set(const uint64_t *map, size_t from, size_t end) {
    return next_bit(map, from, end, 0);
}

size_t berth__bits_next_clear(const uint64_t *map, size_t from, size_t end) {
    return next_bit(map, from, end, ~UINT64_C(0));
}

size_t berth__bits_clear_before(const uint64_t *map, size_t from) {
    while (from > 0) {
        size_t word = (from - 1) / 64;
        uint64_t bits = map[word] & berth__word_mask(0, (unsigned)(from - word * 64));
        if (bits != 0) {
            return word * 64 + berth__highest_bit(bits) + 1;
        }
        from = word * 64;
    }
    return 0;
}
