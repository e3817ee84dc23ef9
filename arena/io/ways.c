#include "io/ways.h"

#include "base/bits.h"

enum { LEAST_SHIFT = 11 }; /* of BERTH_WAYS_LEAST */
_Static_assert(BERTH_WAYS_LEAST == 1 << LEAST_SHIFT, "the first size");

struct berth__ways berth__ways_of(size_t threshold) {
    struct berth__ways ways = {
        .learns = threshold == 0,
        .least = threshold == 0 ? BERTH_WAYS_LEAST : threshold,
    };
    for (unsigned i = 0; i < BERTH_WAYS_SIZES; i++) {
        ways.of[i] = (struct berth__ways_of){
            .in_place = (BERTH_WAYS_LEAST << i) >= BERTH_WAYS_FIRST,
            .until = BERTH_WAYS_BETWEEN,
            .between = BERTH_WAYS_BETWEEN,
        };
    }
    return ways;
}

static unsigned size_of(uint64_t bytes) {
    unsigned size = berth__highest_bit(bytes) - LEAST_SHIFT;
    return size < BERTH_WAYS_SIZES ? size : BERTH_WAYS_SIZES - 1;
}

static void end_pair(struct berth__ways *ways) {
    ways->state = BERTH_WAYS_IDLE;
    ways->waits = 0;
}

static enum berth__way usual(const struct berth__ways_of *of) {
    return of->in_place ? BERTH_WAY_IN_PLACE : BERTH_WAY_COPY;
}

enum berth__way berth__ways_next(struct berth__ways *ways, uint64_t bytes) {
    if (!ways->learns || bytes < ways->least) {
        return bytes >= ways->least ? BERTH_WAY_IN_PLACE : BERTH_WAY_COPY;
    }
    unsigned size = size_of(bytes);
    struct berth__ways_of *of = &ways->of[size];
    if (ways->state != BERTH_WAYS_IDLE) {
        if (ways->state == BERTH_WAYS_LANDED && ways->size == size) {
            return BERTH_WAY_COPY_TIMED;
        }
        if (++ways->waits >= BERTH_WAYS_PATIENCE) {
            end_pair(ways);
        }
        return usual(of);
    }
    if (--of->until > 0) {
        return usual(of);
    }
    of->until = of->between;
    ways->size = (uint8_t)size;
    return BERTH_WAY_IN_PLACE_TIMED;
}

void berth__ways_departed(struct berth__ways *ways, uint64_t ns, uint64_t bytes) {
    ways->state = BERTH_WAYS_ALOFT;
    ways->waits = 0;
    ways->first_ns = ns;
    ways->first_bytes = bytes;
}

void berth__ways_landed(struct berth__ways *ways, uint64_t ns, bool copied) {
    if (ways->state != BERTH_WAYS_ALOFT) {
        return;
    }
    if (copied) {
        end_pair(ways);
        return;
    }
    ways->state = BERTH_WAYS_LANDED;
    ways->waits = 0;
    ways->first_ns += ns;
}

static void judge(struct berth__ways_of *of) {
    bool before = of->in_place;
    if (of->won >= BERTH_WAYS_ENOUGH) {
        of->in_place = true;
    } else if (of->won <= BERTH_WAYS_PAIRS - BERTH_WAYS_ENOUGH) {
        of->in_place = false;
    }
    if (of->in_place != before) {
        of->between = BERTH_WAYS_BETWEEN;
    } else if (of->between < BERTH_WAYS_BETWEEN_MAX) {
        of->between = (uint16_t)(of->between * 2);
    }
    of->pairs = of->won = 0;
    of->until = of->between;
}

void berth__ways_copied(struct berth__ways *ways, uint64_t ns, uint64_t bytes) {
    struct berth__ways_of *of = &ways->of[ways->size];
    end_pair(ways);
    of->pairs++;
    if ((double)ways->first_ns * (double)bytes < (double)ns * (double)ways->first_bytes) {
        of->won++;
    }
    if (of->pairs == BERTH_WAYS_PAIRS) {
        judge(of);
    }
}
