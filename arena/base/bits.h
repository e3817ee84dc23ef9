/*
 * Integer arithmetic and bitmaps in 64-bit words.
 *
 * Pure functions on the caller's memory. A bitmap is an array of words, bit i of the map is bit
 * i % 64 of word i / 64.
 */
#ifndef BERTH_BASE_BITS_H
#define BERTH_BASE_BITS_H

#include "base/compiler.h"

#define BERTH_WORD_BITS 64u
#define BERTH_WORDS_FOR(bits) (((bits) + 63u) / 64u)

BERTH_INLINE unsigned berth__lowest_bit(uint64_t word) { /* word != 0 */
    return (unsigned)__builtin_ctzll(word);
}

BERTH_INLINE unsigned berth__highest_bit(uint64_t word) { /* word != 0 */
    return 63u - (unsigned)__builtin_clzll(word);
}

BERTH_INLINE unsigned berth__bit_count(uint64_t word) {
#if defined(__POPCNT__) || !defined(__x86_64__)
    return (unsigned)__builtin_popcountll(word);
#else /* where it would be a call: sums of 2, 4, 8 bits side by side, then of all bytes */
    word -= (word >> 1) & UINT64_C(0x5555555555555555);
    word = (word & UINT64_C(0x3333333333333333)) + ((word >> 2) & UINT64_C(0x3333333333333333));
    word = (word + (word >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (unsigned)((word * UINT64_C(0x0101010101010101)) >> 56);
#endif
}

BERTH_INLINE bool berth__is_power_of_2(size_t n) {
    return n != 0 && (n & (n - 1)) == 0;
}

BERTH_INLINE size_t berth__round_up(size_t n, size_t power_of_2) {
    return (n + power_of_2 - 1) & ~(power_of_2 - 1);
}

BERTH_INLINE size_t berth__round_down(size_t n, size_t power_of_2) {
    return n & ~(power_of_2 - 1);
}

BERTH_INLINE size_t berth__min(size_t a, size_t b) {
    return a < b ? a : b;
}

BERTH_INLINE size_t berth__max(size_t a, size_t b) {
    return a > b ? a : b;
}

/* Bits [lo, hi) of one word, hi <= 64. */
BERTH_INLINE uint64_t berth__word_mask(unsigned lo, unsigned hi) {
    uint64_t below_hi = hi >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << hi) - 1;
    return lo >= 64 ? 0 : below_hi & ~((UINT64_C(1) << lo) - 1);
}

BERTH_INLINE bool berth__bit_test(const uint64_t *map, size_t i) {
    return (map[i / 64] >> (i % 64)) & 1;
}

BERTH_INLINE void berth__bit_set(uint64_t *map, size_t i) {
    map[i / 64] |= UINT64_C(1) << (i % 64);
}

BERTH_INLINE void berth__bit_clear(uint64_t *map, size_t i) {
    map[i / 64] &= ~(UINT64_C(1) << (i % 64));
}

void berth__bits_set(uint64_t *map, size_t from, size_t count);
void berth__bits_clear(uint64_t *map, size_t from, size_t count);

/* How many of the bits [from, from + count) are set. */
size_t berth__bits_count(const uint64_t *map, size_t from, size_t count);

/* The first set (or clear) bit in [from, end), or end. */
size_t berth__bits_next_set(const uint64_t *map, size_t from, size_t end);
size_t berth__bits_next_clear(const uint64_t *map, size_t from, size_t end);

/* Start of the run of clear (or set) bits that ends just before `from`: the smallest i such that
 * [i, from) is all clear (set). */
size_t berth__bits_clear_before(const uint64_t *map, size_t from);

/*
 * Exact division by a block size through one multiplication.
 *
 * For 16 <= size <= 16384 and offset < 65536, with r = ceil(2^32 / size):
 *   offset / size == (offset * r) >> 32, and
 *   offset % size == 0  <=>  (uint32_t)(offset * r) < r.
 * r = (2^32 + e) / size with 0 <= e < size. For offset = q * size + m, m < size, the low 32 bits
 * of offset * r are q * e + m * r: below r when m = 0, because q * e < 65536 <= 2^32 / 16384 - 1 <
 * r (q * e < (65536 / size) * size), and at least r when m > 0; and they do not carry into bit 32,
 * because m * r + q * e <= (size - 1) * r + q * e < 2^32 + size - r + 65536, which is below 2^32
 * as r >= 2^18. Every pair is also tried by the unit test.
 * Source: Lemire, Kaser, Kurz, "Faster remainder by direct computation", 2019.
 */
BERTH_INLINE uint32_t berth__reciprocal(uint32_t size) {
    return (uint32_t)(((UINT64_C(1) << 32) + size - 1) / size);
}

BERTH_INLINE uint32_t berth__divide(uint32_t offset, uint32_t reciprocal) {
    return (uint32_t)(((uint64_t)offset * reciprocal) >> 32);
}

BERTH_INLINE bool berth__divides(uint32_t offset, uint32_t reciprocal) {
    return offset * reciprocal < reciprocal;
}

#endif
