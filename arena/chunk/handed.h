/*
 * Which small blocks are in the program's hands; hardened builds only.
 *
 * A bit for each 16 bytes of the primary span's slots, set for the first of a block from when it is
 * handed out until it is freed. A free that finds it clear is a second one, or of a block that was
 * never handed out, wherever the block lies by then: in a cache of any thread, gathered, in its
 * slab. Bits of blocks in other spans are not kept: their double frees are found as in other
 * builds, when the block is next handled.
 *
 * The bits of several blocks share a word, which any thread may change: so by read-modify-writes.
 * Relaxed order is enough: what passes a block on to who frees it orders the two changes of its
 * bit, as it does what is written to the block. Fork: nothing is ever half done. Pools that end or
 * are reset leave bits set: the slab that is next made of their memory begins with none.
 */
#ifndef BERTH_CHUNK_HANDED_H
#define BERTH_CHUNK_HANDED_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>

#if BERTH_HARDENED

enum { BERTH_HANDED_BYTES_PER_SLOT = 32 << 10 };

/* Reserves room for the bits of the primary span's slots. */
void berth__handed_init(void);

/* Makes the bits of all slots below this one usable. False: there is no memory. */
bool berth__handed_open_locked(size_t slot_end);

/* Gives back addresses of what only slots from this one on had use for. */
void berth__handed_cut_locked(size_t slot_end);

/* For a unit that becomes a slab. */
void berth__handed_clear(const void *unit);

void berth__handed_out(const void *block);

/* At a free. False: it is not out. */
bool berth__handed_in(const void *block);

#else

BERTH_INLINE void berth__handed_init(void) {
}
BERTH_INLINE bool berth__handed_open_locked(size_t slot_end) {
    (void)slot_end;
    return true;
}
BERTH_INLINE void berth__handed_cut_locked(size_t slot_end) {
    (void)slot_end;
}
BERTH_INLINE void berth__handed_clear(const void *unit) {
    (void)unit;
}
BERTH_INLINE void berth__handed_out(const void *block) {
    (void)block;
}
BERTH_INLINE bool berth__handed_in(const void *block) {
    (void)block;
    return true;
}

#endif
#endif
