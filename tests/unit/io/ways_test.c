/* Copying or not, by what each way takes: told times, not measured ones. */
#include "unit.h"

#include "io/ways.h"

enum { KIB = 1024 };

/* Sends so many of a size, whose two ways take so long each; each send that is in place lands at
 * once. Returns how many went in place. */
static unsigned send_many(struct berth__ways *ways, unsigned count, uint64_t bytes,
                          uint64_t copy_ns, uint64_t in_place_ns) {
    unsigned in_place = 0;
    for (unsigned i = 0; i < count; i++) {
        switch (berth__ways_next(ways, bytes)) {
        case BERTH_WAY_COPY: break;
        case BERTH_WAY_COPY_TIMED: berth__ways_copied(ways, copy_ns, bytes); break;
        case BERTH_WAY_IN_PLACE: in_place++; break;
        case BERTH_WAY_IN_PLACE_TIMED:
            in_place++;
            berth__ways_departed(ways, in_place_ns / 2, bytes);
            berth__ways_landed(ways, in_place_ns - in_place_ns / 2, false);
            break;
        }
    }
    return in_place;
}

/* Pairs of this many sends, and the second ones. */
enum { A_VERDICT = BERTH_WAYS_PAIRS * (BERTH_WAYS_BETWEEN + 2) };

static void a_threshold_that_was_told_stays(void **state) {
    /* Who knows better would be overruled. */
    (void)state;
    struct berth__ways ways = berth__ways_of(5000);
    assert_int_equal(send_many(&ways, 10000, 4999, 1000, 1), 0);
    assert_int_equal(send_many(&ways, 10000, 5000, 1, 1000), 10000);
}

static void sizes_begin_by_the_default(void **state) {
    (void)state;
    struct berth__ways ways = berth__ways_of(0);
    assert_int_equal(send_many(&ways, 1000, 2047, 1, 1), 0);
    assert_int_equal(send_many(&ways, BERTH_WAYS_BETWEEN - 1, 2048, 1, 1), 0);
    assert_int_equal(send_many(&ways, BERTH_WAYS_BETWEEN - 1, 16383, 1, 1), 0);
    assert_int_equal(send_many(&ways, BERTH_WAYS_BETWEEN - 1, 16384, 1, 1), BERTH_WAYS_BETWEEN - 1);
    assert_int_equal(send_many(&ways, 1, UINT64_MAX, 1, 1), 1);
}

static void what_pays_becomes_the_way_of_its_size(void **state) {
    /* Messages of 8 KiB would be copied where a fast device does not need that, and 64 KiB locked
     * page by page where locking is dear. */
    (void)state;
    struct berth__ways ways = berth__ways_of(0);
    send_many(&ways, A_VERDICT, 8 * KIB, 2000, 1000);
    send_many(&ways, A_VERDICT, 64 * KIB, 1000, 2000);
    assert_int_equal(send_many(&ways, 32, 8 * KIB, 2000, 1000), 32);
    assert_int_equal(send_many(&ways, 32, 64 * KIB, 1000, 2000), 0);
    assert_int_equal(send_many(&ways, 32, 4 * KIB, 1, 1), 0); /* others are as they were */
    assert_int_equal(send_many(&ways, 32, 128 * KIB, 1, 1), 32);
}

static void what_is_known_is_rarely_asked(void **state) {
    /* Each pair costs the dearer way once. */
    (void)state;
    struct berth__ways ways = berth__ways_of(0);
    unsigned in_place = send_many(&ways, 1000000, 8 * KIB, 1000, 2000);
    assert_in_range(in_place, BERTH_WAYS_PAIRS, 1000000 / 2000);
}

static void a_change_is_noticed(void **state) {
    /* Routes change, and so does what the machine does besides. */
    (void)state;
    struct berth__ways ways = berth__ways_of(0);
    send_many(&ways, 1000000, 8 * KIB, 1000, 2000);
    send_many(&ways, 2 * BERTH_WAYS_PAIRS * (BERTH_WAYS_BETWEEN_MAX + 2), 8 * KIB, 2000, 1000);
    assert_int_equal(send_many(&ways, 32, 8 * KIB, 2000, 1000), 32);
}

static void one_interruption_decides_nothing(void **state) {
    /* A send that a thread was switched away in would turn the way of thousands. */
    (void)state;
    struct berth__ways ways = berth__ways_of(0);
    send_many(&ways, BERTH_WAYS_BETWEEN + 1, 8 * KIB, 1000000000, 2000);
    send_many(&ways, A_VERDICT, 8 * KIB, 1000, 2000);
    assert_int_equal(send_many(&ways, 32, 8 * KIB, 1000, 2000), 0);
}

/* Until a send of that size is to be timed. */
static void reach_pair(struct berth__ways *ways, uint64_t bytes) {
    enum berth__way way;
    do {
        way = berth__ways_next(ways, bytes);
        assert_true(way == BERTH_WAY_IN_PLACE || way == BERTH_WAY_IN_PLACE_TIMED);
    } while (way != BERTH_WAY_IN_PLACE_TIMED);
}

static void a_send_that_the_kernel_copied_is_not_compared(void **state) {
    /* It took the time of both. */
    (void)state;
    struct berth__ways ways = berth__ways_of(0);
    for (unsigned i = 0; i < 3 * BERTH_WAYS_PAIRS; i++) {
        reach_pair(&ways, 16 * KIB);
        berth__ways_departed(&ways, 1000, 16 * KIB);
        berth__ways_landed(&ways, 1000, true);
        assert_int_equal(ways.state, BERTH_WAYS_IDLE);
    }
    assert_int_equal(ways.of[3].pairs, 0);
}

static void a_pair_is_of_one_size_and_does_not_wait_for_ever(void **state) {
    /* 1 MiB against 16 KiB says nothing; and a size that comes no more would stop all learning. */
    (void)state;
    struct berth__ways ways = berth__ways_of(0);
    reach_pair(&ways, 16 * KIB);
    berth__ways_departed(&ways, 1000, 16 * KIB);
    assert_int_equal(berth__ways_next(&ways, 16 * KIB), BERTH_WAY_IN_PLACE); /* it is aloft */
    berth__ways_landed(&ways, 1000, false);
    for (unsigned i = 0; i < BERTH_WAYS_PATIENCE; i++) {
        assert_int_equal(ways.state, BERTH_WAYS_LANDED);
        assert_int_equal(berth__ways_next(&ways, 32 * KIB), BERTH_WAY_IN_PLACE);
    }
    assert_int_equal(ways.state, BERTH_WAYS_IDLE);
    reach_pair(&ways, 32 * KIB);
}

static void times_are_per_byte(void **state) {
    /* A socket with little room takes part of a send, which then seems fast. */
    (void)state;
    struct berth__ways ways = berth__ways_of(0);
    for (unsigned i = 0; i < BERTH_WAYS_PAIRS; i++) {
        reach_pair(&ways, 16 * KIB);
        berth__ways_departed(&ways, 1000, 4 * KIB);
        berth__ways_landed(&ways, 0, false);
        assert_int_equal(berth__ways_next(&ways, 16 * KIB), BERTH_WAY_COPY_TIMED);
        berth__ways_copied(&ways, 3000, 16 * KIB);
    }
    assert_int_equal(berth__ways_next(&ways, 16 * KIB), BERTH_WAY_COPY);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_threshold_that_was_told_stays),
        cmocka_unit_test(sizes_begin_by_the_default),
        cmocka_unit_test(what_pays_becomes_the_way_of_its_size),
        cmocka_unit_test(what_is_known_is_rarely_asked),
        cmocka_unit_test(a_change_is_noticed),
        cmocka_unit_test(one_interruption_decides_nothing),
        cmocka_unit_test(a_send_that_the_kernel_copied_is_not_compared),
        cmocka_unit_test(a_pair_is_of_one_size_and_does_not_wait_for_ever),
        cmocka_unit_test(times_are_per_byte),
    };
    return UNIT_RUN(tests);
}
