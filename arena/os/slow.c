#include "os/slow.h"

#include "base/bits.h"

struct berth__slow_times berth__slow_times[BERTH_SLOW_PATH_COUNT];

static unsigned bucket_of(uint64_t ns) {
    if (ns <= UINT64_C(1) << BERTH_SLOW_FIRST_BIT) {
        return 0;
    }
    unsigned bits = berth__highest_bit(ns - 1) + 1; /* the power of two that is not below it */
    return (unsigned)berth__min(bits - BERTH_SLOW_FIRST_BIT, BERTH_SLOW_BUCKETS - 1);
}

void berth__slow_note(enum berth__slow_path path, uint64_t start_ns) {
    uint64_t now_ns = berth__clock_ns();
    uint64_t took_ns = now_ns > start_ns ? now_ns - start_ns : 0;
    berth__add_relaxed(&berth__slow_times[path].total_ns, took_ns);
    berth__add_relaxed(&berth__slow_times[path].buckets[bucket_of(took_ns)], 1);
}
