/*
 * When a socket tries to send without copying.
 *
 *   trying    copies_left == 0: sends that are long enough do not copy
 *   pausing   copies_left > 0: so many long sends copy before one is tried again. The kernel said
 *             that it had copied, or that it had no room for more (`crowded`); then word of a send
 *             that has landed ends the pause, too
 *
 * Part of a sender, used by one thread at a time.
 */
#ifndef BERTH_IO_PACE_H
#define BERTH_IO_PACE_H

#include "base/compiler.h"

enum {
    BERTH_PAUSE_CROWDED = 64, /* sends, unless a notification comes */
    BERTH_PAUSE_COPIED = 256, /* the first time; each further time twice as many */
    BERTH_PAUSE_COPIED_MAX = 65536,
};

struct berth__pace {
    bool zero_copy; /* the socket can */
    bool crowded;
    uint32_t copies_left;
    uint32_t pause_copied;
};

BERTH_INLINE struct berth__pace berth__pace_of(bool zero_copy) {
    return (struct berth__pace){.zero_copy = zero_copy, .pause_copied = BERTH_PAUSE_COPIED};
}

/* Whether long sends do not copy at present. */
BERTH_INLINE bool berth__pace_is_trying(const struct berth__pace *pace) {
    return pace->zero_copy && pace->copies_left == 0;
}

/* Whether the next send, a long one, is not to copy. Counts what copies meanwhile. */
BERTH_INLINE bool berth__pace_tries(struct berth__pace *pace) {
    if (!pace->zero_copy) {
        return false;
    }
    if (pace->copies_left > 0) {
        pace->copies_left--;
        return false;
    }
    return true;
}

/* The kernel, or the program, has no room for more at present. */
BERTH_INLINE void berth__pace_crowd(struct berth__pace *pace) {
    pace->crowded = true;
    pace->copies_left = BERTH_PAUSE_CROWDED;
}

/* A send has landed. Of several that were under way, the first that was copied begins the pause. */
BERTH_INLINE void berth__pace_landed(struct berth__pace *pace, bool copied) {
    if (pace->crowded) {
        pace->crowded = false;
        pace->copies_left = 0;
    }
    if (!copied) {
        pace->pause_copied = BERTH_PAUSE_COPIED;
    } else if (pace->copies_left == 0) {
        pace->copies_left = pace->pause_copied;
        if (pace->pause_copied < BERTH_PAUSE_COPIED_MAX) {
            pace->pause_copied *= 2;
        }
    }
}

#endif
