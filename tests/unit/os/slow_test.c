/* Histograms of slow paths: each duration is in the bucket that its bounds say. */
#include "unit.h"

#include "os/pages.h"
#include "os/slow.h"

static uint64_t count_of(enum berth__slow_path path, unsigned from, unsigned to) {
    uint64_t count = 0;
    for (unsigned i = from; i < to; i++) {
        count += berth__load_relaxed(&berth__slow_times[path].buckets[i]);
    }
    return count;
}

/* The clock goes on meanwhile: so the bucket is that of the duration or one above. */
static void a_duration_is_in_its_bucket_or_the_next(void **state) {
    /* A latency alert would fire at the wrong time, or never. */
    (void)state;
    for (unsigned i = 1; i + 1 < BERTH_SLOW_BUCKETS; i++) {
        uint64_t ns = (UINT64_C(1) << (BERTH_SLOW_FIRST_BIT + i)) - 1;
        uint64_t now = berth__clock_ns();
        if (ns >= now) {
            break; /* the machine was started just now */
        }
        uint64_t below = count_of(BERTH_SLOW_limit_wait, 0, i);
        uint64_t above = count_of(BERTH_SLOW_limit_wait, i, BERTH_SLOW_BUCKETS);
        uint64_t total = berth__load_relaxed(&berth__slow_times[BERTH_SLOW_limit_wait].total_ns);
        berth__slow_note(BERTH_SLOW_limit_wait, now - ns);
        assert_true(count_of(BERTH_SLOW_limit_wait, 0, i) == below);
        assert_true(count_of(BERTH_SLOW_limit_wait, i, BERTH_SLOW_BUCKETS) == above + 1);
        assert_true(berth__load_relaxed(&berth__slow_times[BERTH_SLOW_limit_wait].total_ns) >=
                    total + ns);
    }
}

static void what_takes_no_time_or_too_long_is_counted_at_the_ends(void **state) {
    /* It would be written beyond the table. */
    (void)state;
    uint64_t first = count_of(BERTH_SLOW_reclaim, 0, 1);
    berth__slow_note(BERTH_SLOW_reclaim,
                     berth__clock_ns() + 1000000000); /* a clock that went back */
    assert_true(count_of(BERTH_SLOW_reclaim, 0, 1) == first + 1);
    uint64_t last = count_of(BERTH_SLOW_reclaim, BERTH_SLOW_BUCKETS - 1, BERTH_SLOW_BUCKETS);
    uint64_t now = berth__clock_ns();
    if (now > UINT64_C(10000000000)) {
        berth__slow_note(BERTH_SLOW_reclaim, now - UINT64_C(9000000000));
        assert_true(count_of(BERTH_SLOW_reclaim, BERTH_SLOW_BUCKETS - 1, BERTH_SLOW_BUCKETS) ==
                    last + 1);
    }
}

static void system_calls_that_give_memory_back_are_timed(void **state) {
    /* The figures would stay 0 while the kernel holds a server up. */
    (void)state;
    char *at = berth__pages_reserve(1 << 20, 4096);
    assert_int_equal(berth__pages_commit(at, 1 << 20), 0);
    uint64_t purges = count_of(BERTH_SLOW_purge, 0, BERTH_SLOW_BUCKETS);
    uint64_t unmaps = count_of(BERTH_SLOW_unmap, 0, BERTH_SLOW_BUCKETS);
    assert_int_equal(berth__pages_purge(at, 1 << 20), 0);
    assert_int_equal(berth__pages_decommit(at, 1 << 20), 0);
    assert_true(count_of(BERTH_SLOW_purge, 0, BERTH_SLOW_BUCKETS) == purges + 1);
    assert_true(count_of(BERTH_SLOW_unmap, 0, BERTH_SLOW_BUCKETS) == unmaps + 1);
    berth__pages_unreserve(at, 1 << 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_duration_is_in_its_bucket_or_the_next),
        cmocka_unit_test(what_takes_no_time_or_too_long_is_counted_at_the_ends),
        cmocka_unit_test(system_calls_that_give_memory_back_are_timed),
    };
    return UNIT_RUN(tests);
}
